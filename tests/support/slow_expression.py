"""An expression computed for one agent at a time, in plain Python, apart from the code under test."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}


class Agent(NamedTuple):
    """What one agent has: its features, and those that have a value of being done."""

    features: Mapping[str, float]
    done: Mapping[str, float]


def slow_value(text: str, me: int, team: Sequence[Agent], jitter: float = 0.0) -> float:
    """Return what the expression `text` is worth for agent number `me` of `team`.

    Args:
        text: within the grammar.
        me: the agent.
        team: all agents, of whatever group.
        jitter: by how much, as a share, what may be rounded is changed: where a small one changes the outcome, a
            rounding error might too.
    """
    return cut(_value(ast.parse(text.strip(), mode="eval").body, me, team, jitter), 100.0)


def cut(x: float, bound: float = 1e9) -> float:
    return 0.0 if math.isnan(x) else max(-bound, min(bound, x))


def _value(node: ast.expr, me: int, team: Sequence[Agent], jitter: float) -> float:
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return cut(team[me].features[node.id])
    if isinstance(node, ast.Call):
        return _call(node.func.id, node.args, me, team, jitter)  # type: ignore[attr-defined]
    if isinstance(node, ast.BoolOp):
        truths = [_value(part, me, team, jitter) != 0 for part in node.values]
        return float(all(truths) if isinstance(node.op, ast.And) else any(truths))
    if isinstance(node, ast.IfExp):
        return _value(node.body if _value(node.test, me, team, jitter) else node.orelse, me, team, jitter)
    if isinstance(node, ast.UnaryOp):
        x = _value(node.operand, me, team, jitter)
        return float(x == 0) if isinstance(node.op, ast.Not) else -x
    if isinstance(node, ast.Compare):
        a, b = _value(node.left, me, team, jitter), _value(node.comparators[0], me, team, jitter)
        sign = SIGNS[type(node.ops[0])]
        return float({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[sign])
    assert isinstance(node, ast.BinOp)
    a, b = _value(node.left, me, team, jitter), _value(node.right, me, team, jitter)
    if isinstance(node.op, ast.Div):
        if abs(b) < 1e-6:
            b = -1e-6 if b < 0 else 1e-6
        return cut(a / b * (1 + jitter))
    return cut({ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b}[type(node.op)])  # type: ignore[index]


def _value_of_divisor(x: float) -> float:
    return x if x >= 1e-6 else 1e-6


def _call(name: str, args: list[ast.expr], me: int, team: Sequence[Agent], jitter: float) -> float:
    if name == "nearest":
        left = []
        for arg in args:
            x, done = team[me].features[arg.id], team[me].done.get(arg.id)  # type: ignore[attr-defined]
            if done is None or np.float32(x) != np.float32(done):
                left.append(cut(x))
        return min(left, default=0.0)
    if name.endswith("_mates"):
        read = {part.id for part in ast.walk(args[0]) if isinstance(part, ast.Name)} - {
            "min",
            "max",
            "abs",
            "clip",
            "geo",
        }
        has = [i for i, agent in enumerate(team) if read - {"exp", "exp_distance", "nearest"} <= agent.features.keys()]
        mates = [i for i in has if i != me]
        if not mates and name in ("sum_mates", "count_mates"):
            return 0.0
        over = [_value(args[0], i, team, jitter) for i in mates or [me]]
        if name == "count_mates":
            return float(sum(x != 0 for x in over))
        if name in ("min_mates", "max_mates"):
            return min(over) if name == "min_mates" else max(over)
        total = math.fsum(over) * (1 + jitter)
        return cut(total if name == "sum_mates" else total / len(over))
    x = [_value(arg, me, team, jitter) for arg in args]
    if name == "exp":
        return cut(math.exp(min(x[0], 50.0)) * (1 + jitter))
    if name == "exp_distance":
        scale, root = (_value_of_divisor(max(number, 0.0)) for number in (x[1], x[2] if len(x) > 2 else 1.0))
        return math.exp(-cut(0.5 * max(x[0], 0.0) / scale) / root) * (1 + jitter)
    if name == "geo":
        root_of = math.prod(abs(number) ** (1 / len(x)) for number in x) * (1 + jitter)
        return cut(root_of if all(number > 0 for number in x) else -root_of)
    if name == "clip":
        return min(max(x[0], x[1]), x[2])
    return abs(x[0]) if name == "abs" else min(x) if name == "min" else max(x)
