"""Term expressions: arithmetic over named features, read against a whitelist. Nothing is ever given to `eval`.

Grammar: numbers; own features by name; `mean_mates(f)`, `min_mates(f)`, `max_mates(f)` of a feature's name; `+ - * /`
and unary minus; one comparison at a time (`< <= > >= == !=`, worth 1 or 0); `min(a, b, …)`, `max(a, b, …)`, `abs(x)`,
`clip(x, low, high)`, `exp(x)`.

Every operation is total. A divisor nearer to zero than 1e-6 counts as ±1e-6 with its sign (zero counts as positive),
`exp` takes at most 50, every intermediate value is clipped to ±1e9 and the result to ±100. A feature that is not a
number counts as 0; `check_signal` reports such features.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...errors import ExpressionError

MAX_LENGTH = 400  # characters
MAX_DEPTH = 12
MAX_NODES = 60
MAX_NUMBER = 1e6  # largest number that may be written
MAX_VALUE = 1e9  # bound of every intermediate value
MAX_RESULT = 100.0
MAX_EXPONENT = 50.0
SMALLEST_DIVISOR = 1e-6

Array = NDArray[np.floating[Any]]
AgentFeature = Callable[[str], Array]  # feature name → [..., A]
MateStatistic = Callable[[str, str], Array]  # ("mean_mates" | "min_mates" | "max_mates", feature name) → [..., A]

MATE_FUNCTIONS = ("mean_mates", "min_mates", "max_mates")
GRAMMAR = "write numbers, features, mean_mates/min_mates/max_mates(f), + - * /, one comparison, min max abs clip exp"
_CHARACTERS = re.compile(r"[A-Za-z0-9_ .,+\-*/()<>=!]*")


# ------------------------------------------------------------ operations


def bounded(values: Array) -> Array:
    """Return float64 with NaN as 0, clipped to ±1e9."""
    plain = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=MAX_VALUE, neginf=-MAX_VALUE)
    return np.clip(plain, -MAX_VALUE, MAX_VALUE)


def divide(a: Array, b: Array) -> Array:
    """Divide; a divisor nearer to zero than 1e-6 counts as ±1e-6."""
    tiny = np.where(b < 0, -SMALLEST_DIVISOR, SMALLEST_DIVISOR)
    return a / np.where(np.abs(b) < SMALLEST_DIVISOR, tiny, b)


_BINARY: dict[type[ast.operator], Callable[[Array, Array], Array]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: divide,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Array, Array], NDArray[np.bool_]]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
# name → (fewest arguments, most arguments, operation)
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Array]]] = {
    "min": (2, MAX_NODES, lambda *values: reduce(np.minimum, values)),
    "max": (2, MAX_NODES, lambda *values: reduce(np.maximum, values)),
    "abs": (1, 1, np.abs),
    "clip": (3, 3, lambda x, low, high: np.minimum(np.maximum(x, low), high)),
    "exp": (1, 1, lambda x: np.exp(np.minimum(x, MAX_EXPONENT))),
}


# ------------------------------------------------------------ expressions


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes:
        text: as it was written.
        of_agent: names of the features that it reads of the agent itself.
        of_mates: names of the features that it reads of the agent's mates.
        tree: the syntax tree.
    """

    text: str
    of_agent: frozenset[str]
    of_mates: frozenset[str]
    tree: ast.expr = field(repr=False, compare=False)

    def names(self) -> frozenset[str]:
        """Return all feature names that it reads."""
        return self.of_agent | self.of_mates

    def evaluate(self, of_agent: AgentFeature, of_mates: MateStatistic) -> NDArray[np.float64]:
        """Compute it on arrays.

        Args:
            of_agent: looks a feature of the agents themselves up.
            of_mates: looks a statistic of a feature over their mates up.

        Returns:
            Finite values in ±100, of the shape of what was looked up; of shape () where it reads no feature.
        """
        return np.clip(_value(self.tree, of_agent, of_mates), -MAX_RESULT, MAX_RESULT)


def parse_expression(text: str) -> Expression:
    """Read an expression.

    Raises:
        ExpressionError: anything outside the grammar of this module.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH} characters, got {len(text)}; shorten it")
    if not _CHARACTERS.fullmatch(text):
        wrong = sorted(set(re.sub(_CHARACTERS, "", text)))
        raise ExpressionError(f"an expression is plain arithmetic, got the characters {wrong!r} in {text!r}; {GRAMMAR}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Python only warns of some malformed numbers: refuse them
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"an expression must parse, got {text!r} ({error}); {GRAMMAR}") from error
    # The size is counted breadth first, so that a deep tree cannot exhaust the stack.
    level, depth, count = [tree], 0, 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MAX_DEPTH or count > MAX_NODES:
            raise ExpressionError(
                f"an expression is at most {MAX_DEPTH} deep with {MAX_NODES} parts, got {text!r}; "
                "simplify it or split the term"
            )
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    names = list(_features(tree, text))
    of_agent = frozenset(name for name, of_mates in names if not of_mates)
    return Expression(text, of_agent, frozenset(name for name, of_mates in names if of_mates), tree)


def _refuse(node: ast.AST, text: str) -> NoReturn:
    """Raise the error of a part that is not in the grammar."""
    part = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
    raise ExpressionError(f"{part!r} is not allowed in an expression, got {text!r}; {GRAMMAR}")


def _features(node: ast.expr, text: str) -> Iterator[tuple[str, bool]]:
    """Give (feature, whether of mates) as they occur; raise where a node is not in the grammar."""
    match node:
        case ast.Constant(value=value):
            if type(value) not in (int, float) or not abs(value) <= MAX_NUMBER:  # type: ignore[arg-type]
                raise ExpressionError(f"a number lies in ±{MAX_NUMBER:g}, got {text!r}; write a smaller one")
        case ast.Name(id=name):
            yield name, False
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield from _features(operand, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            yield from (*_features(left, text), *_features(right, text))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            yield from (*_features(left, text), *_features(right, text))
        case ast.Call(func=ast.Name(id=name), args=[ast.Name(id=feature)], keywords=[]) if name in MATE_FUNCTIONS:
            yield feature, True
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            fewest, most, _ = _FUNCTIONS[name]
            if not fewest <= len(args) <= most:
                _refuse(node, text)
            for arg in args:
                yield from _features(arg, text)
        case _:
            _refuse(node, text)


def _value(node: ast.expr, of_agent: AgentFeature, of_mates: MateStatistic) -> Array:
    """Compute a tree that `_features` has accepted."""
    match node:
        case ast.Constant(value=value):
            return np.asarray(float(value))  # type: ignore[arg-type]
        case ast.Name(id=name):
            return bounded(of_agent(name))
        case ast.UnaryOp(operand=operand):
            return -_value(operand, of_agent, of_mates)
        case ast.BinOp(left=left, op=op, right=right):
            return bounded(_BINARY[type(op)](_value(left, of_agent, of_mates), _value(right, of_agent, of_mates)))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            holds = _COMPARE[type(op)](_value(left, of_agent, of_mates), _value(right, of_agent, of_mates))
            return holds.astype(np.float64)
        case ast.Call(func=ast.Name(id=name), args=[ast.Name(id=feature)]) if name in MATE_FUNCTIONS:
            return bounded(of_mates(name, feature))
        case ast.Call(func=ast.Name(id=name), args=args):
            return bounded(_FUNCTIONS[name][2](*(_value(arg, of_agent, of_mates) for arg in args)))
    raise ExpressionError(f"{ast.unparse(node)!r} cannot be evaluated; parse it with parse_expression")
