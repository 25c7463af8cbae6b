"""Twins of what was tried are refused, however they are written; new ideas are not. On the signals of two tasks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cosignal.errors import ExpressionError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import task_spec
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.check import twin_problems
from cosignal.rl.signals.distance import SignalComparison
from cosignal.rl.signals.expression import parse_expression
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm, Term
from cosignal.rl.task import FeatureSpec, GroupSpec, TaskSpec

TWINS = 50  # of each task

# Features of agents, an event, and what was behind no open door in the run: (expression, weight) of each term.
BASES: dict[str, list[list[tuple[str, float]]]] = {
    "two_switch": [
        [("switches_triggered / 2", 1.0), ("-dist_nearest_open_switch / 10", 0.5),
         ("door_open * (1 - dist_goal / 16)", 1.0)],
        [("switches_triggered / 2", 1.0), ("-dist_goal / 16", 0.5), ("-dist_door / 9", 0.5)],
        [("-min(dist_switch_a, dist_switch_b) / 10 + (own_triggered >= 1) * (x - y) / 4", 2.0)],
        [("exp(-abs(dist_mate - 3) / 2)", 1.0),
         ("max(mean_mates(dist_door), dist_door, 2) * (own_triggered - 1)", 0.1)],
    ],
    "victim_rubble": [
        [("rubble_cleared / 3", 1.0), ("-min_mates(dist_rubble_1) / 16", 0.5),
         ("way_open * (1 - dist_free_victim / 22)", 1.0)],
        [("-clip(dist_blocked_victim, 2, 12) / 10", 1.0)],
        [("victims_healed / 2 - max(dist_rubble_2, dist_rubble_3) / 19", 0.7)],
    ],
}  # fmt: skip
EVENTS = {"two_switch": "switch_triggered", "victim_rubble": "victim_healed"}


@pytest.fixture(params=BASES)
def task(request: pytest.FixtureRequest) -> tuple[str, TaskSpec, SignalComparison]:
    spec = task_spec(TaskConfig(name=request.param))
    sample = early_transitions(spec)
    return request.param, spec, SignalComparison(spec, sample, Signal(scale=1.0), spec.return_range)


def early_transitions(spec: TaskSpec) -> TransitionSample:
    """Draw 300 transitions of a run in which no flag was ever set, no count went beyond 1 and one event happened."""
    rng = np.random.default_rng(3)

    def column(feature: FeatureSpec, shape: tuple[int, int]) -> np.ndarray:
        if feature.kind in ("flag", "count"):
            return rng.integers(0, 2 if feature.kind == "count" else 1, shape)
        return rng.uniform(feature.low, feature.high, shape)

    def states(group: GroupSpec) -> np.ndarray:
        columns = [column(feature, (300, len(group.agents))) for feature in group.features]
        return np.stack(columns, axis=-1).astype(np.float32)

    events = [np.zeros((300, len(group.agents), len(group.events)), np.float32) for group in spec.groups]
    events[0][7, 0, 0] = 1
    return TransitionSample(
        features=[states(group) for group in spec.groups],
        last_features=[states(group) for group in spec.groups],
        events=events,
        terminated=np.zeros(300, np.float32),
        end_features=[states(group)[:0] for group in spec.groups],
        end_success=np.zeros(0),
    )


def bases(name: str) -> list[Signal]:
    """The task's potentials, each once more with an event bonus."""
    signals = []
    for rows in BASES[name]:
        terms: list[Term] = [
            PotentialTerm(name=f"t{i}", expression=text, weight=weight) for i, (text, weight) in enumerate(rows)
        ]
        bonus = EventTerm(name="bonus", event=EVENTS[name], weight=0.1)
        signals += [Signal(terms=tuple(terms)), Signal(terms=(*terms, bonus))]
    return signals


# ------------------------------------------------------------ the same in other words


class Rewriter(ast.NodeTransformer):
    """Rewrites an expression at random places by laws of arithmetic."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def visit(self, node: ast.AST) -> Any:
        node = self.generic_visit(node)
        if isinstance(node, ast.expr) and self.rng.random() < 0.5:
            forms = [*self.forms(node)]
            if forms:
                return ast.parse(forms[self.rng.integers(len(forms))], mode="eval").body
        return node

    def forms(self, node: ast.expr) -> Iterator[str]:
        match node:
            case ast.BinOp(left=left, op=ast.Mult(), right=ast.BinOp(left=b, op=ast.Sub(), right=c)):
                a, b, c = (f"({ast.unparse(x)})" for x in (left, b, c))
                yield f"{a} * {b} - {a} * {c}"
            case ast.BinOp(left=left, op=op, right=right):
                a, b = f"({ast.unparse(left)})", f"({ast.unparse(right)})"
                match op:
                    case ast.Add() | ast.Mult():
                        sign = "+" if isinstance(op, ast.Add) else "*"
                        yield f"{b} {sign} {a}"
                        yield f"-(-{a} {sign} {b})" if sign == "*" else f"-(-{a} - {b})"
                    case ast.Sub():
                        yield f"{a} + -{b}"
                        yield f"-({b} - {a})"
                    case ast.Div() if isinstance(right, ast.Constant):
                        yield f"{1 / right.value} * {a}"
                        yield f"{a} / {right.value / 2} / 2"
            case ast.Call(func=ast.Name(id="min" | "max" as name), args=args):
                other, texts = "max" if name == "min" else "min", [ast.unparse(arg) for arg in args]
                yield f"{name}({', '.join(texts[::-1])})"
                yield f"-{other}({', '.join(f'-({text})' for text in texts)})"
            case ast.Call(func=ast.Name(id="abs"), args=[arg]):
                yield f"max({ast.unparse(arg)}, -({ast.unparse(arg)}))"
            case ast.Call(func=ast.Name(id="clip"), args=[arg, low, high]):
                arg, low, high = (ast.unparse(x) for x in (arg, low, high))
                yield f"min(max({arg}, {low}), {high})"
            case ast.UnaryOp(operand=operand):
                yield f"-1 * ({ast.unparse(operand)})"
                yield f"0 - ({ast.unparse(operand)})"
            case ast.Compare(left=left, ops=[ast.GtE()], comparators=[right]):
                yield f"1 - ({ast.unparse(left)} < {ast.unparse(right)})"


def rewritten(rng: np.random.Generator, text: str) -> str:
    """Return an expression of the same value; sometimes with a constant, which a potential may have."""
    tree = Rewriter(rng).visit(ast.parse(text, mode="eval").body)
    out = ast.unparse(tree)
    out = out if rng.random() < 0.7 else f"{rng.integers(1, 5)} + {out}"
    try:
        parse_expression(out)
    except ExpressionError:  # too long or too deep
        return text
    return out


def twin_of(rng: np.random.Generator, signal: Signal) -> Signal:
    """Rename, reorder, rewrite and split terms, and multiply all weights by one factor."""
    factor = rng.choice([0.25, 0.5, 1.0, 2.0, 3.7])
    terms: list[Term] = []
    for term in signal.terms:
        if isinstance(term, PotentialTerm):
            term = term.model_copy(update={"expression": rewritten(rng, term.expression)})
        parts = (0.5, 0.5) if rng.random() < 0.3 else (1.0,)
        terms += [term.model_copy(update={"weight": float(term.weight * factor * part)}) for part in parts]
    order = rng.permutation(len(terms))
    named = [terms[i].model_copy(update={"name": f"term_{rng.integers(1000)}_{i}"}) for i in order]
    # As a proposal it is read anew, so that it keeps the bounds of every field.
    return Signal.model_validate(signal.model_copy(update={"terms": tuple(named)}).model_dump())


def test_twins_of_what_was_tried_are_refused(task: tuple[str, TaskSpec, SignalComparison]) -> None:
    name, _, comparison = task
    rng, tried = np.random.default_rng(0), bases(name)
    differ = 0
    for i in range(TWINS):
        base = tried[i % len(tried)]
        twin = twin_of(rng, base)
        differ += {term.name: term.describe() for term in twin.terms} != {t.name: t.describe() for t in base.terms}
        told = [*twin_problems(twin, comparison, {f"p1-r0-{i % len(tried)}": base}, {}, {})]
        assert len(told) == 1, twin
        assert f"pays the same as p1-r0-{i % len(tried)}, which was tried before" in told[0]
        assert [*twin_problems(twin, comparison, {}, {}, {"p2-r0-0": base})]
        # What was withdrawn does not come back weaker either, or with a kick.
        weaker = twin.model_copy(update={"beta": 0.3, "exploration": Exploration(kick=0.1)})
        assert not [*twin_problems(weaker, comparison, {"p": base}, {}, {"p": base})]
        [line] = twin_problems(weaker, comparison, {}, {"p": base}, {})
        assert "but for its strength" in line
    assert differ == TWINS


# ------------------------------------------------------------ new ideas


def new_ideas(name: str, spec: TaskSpec) -> Iterator[Signal]:
    """Change one thing after another about every base: each is another idea than all the others."""
    features = [feature.name for feature in spec.groups[0].features]
    agents = spec.agents
    for signal in bases(name):
        first, *rest = signal.terms
        changes: list[dict[str, Any]] = [
            {"expression": f"{first.expression} + {features[0]} / 50"},
            {"expression": f"({first.expression}) * (1 - {features[-1]})"},  # another condition, which never held
            {"expression": f"({first.expression}) * (1 - {features[-2]} / 5)"},
            {"expression": f"max({first.expression}, 0.1)"},
            {"weight": -first.weight},
            {"agents": agents[:1]},
            {"anneal_steps": 100_000},
        ]
        if rest:
            changes.append({"weight": first.weight * 1.1})
        for change in changes:
            yield signal.model_copy(update={"terms": (first.model_copy(update=change), *rest)})
        yield signal.model_copy(update={"beta": 0.6})
        yield signal.model_copy(update={"exploration": Exploration(entropy=0.02)})


def test_new_ideas_are_not_refused(task: tuple[str, TaskSpec, SignalComparison]) -> None:
    name, spec, comparison = task
    tried = {f"p1-r0-{i}": signal for i, signal in enumerate(bases(name))}
    ideas = [*new_ideas(name, spec)]
    assert len(ideas) >= 50
    for i, idea in enumerate(ideas):
        idea = Signal.model_validate(idea.model_dump())
        assert [*twin_problems(idea, comparison, tried, {}, {})] == [], idea
        tried[f"p2-r0-{i}"] = idea
