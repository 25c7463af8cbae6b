"""Term expressions: arithmetic over named features, read against a whitelist. Nothing is ever given to `eval`.

Grammar, in Python's syntax and with its precedence:

| written | worth |
|---|---|
| `2`, `0.5` | the number |
| `f` | the agent's own feature |
| `a + b`, `a - b`, `a * b`, `a / b`, `-a`, `+a` | arithmetic |
| `a < b`, `<=`, `>`, `>=`, `==`, `!=` | 1 where it holds, else 0; one at a time: `a < b < c` is refused |
| `a and b`, `a or b`, `not a` | 1 or 0; a value that is not 0 counts as true |
| `a if c else b` | a where c is not 0, else b |
| `min(a, b, …)`, `max(a, b, …)`, `abs(a)`, `clip(a, low, high)`, `exp(a)` | the function |
| `exp_distance(d, s)`, `exp_distance(d, s, p)` | e^(−d / 2s)^(1/p): 1 at d = 0, falling; p = 1 where left out |
| `geo(a, b, …)` | n-th root of |a · b · …|, with a plus where all are above 0, else with a minus |
| `nearest(f1, f2, …)` | the smallest of these distances that are not done; 0 where all are |
| `mean_mates(a)`, `min_mates(a)`, `max_mates(a)` | mean, least, greatest value of a over the mates |
| `sum_mates(a)`, `count_mates(a)` | sum of a over the mates; how many of them a is not 0 for |

Inside a mates function every feature is the mate's own, and there is no other mates function. Mates of an agent are all
other agents, of any group, that have all the features that are read there. An agent without a mate is its own mate in
mean, min and max, so that comparisons with mates are zero for it; its sum and its count are 0.

A distance is done where it equals the `done` that its `FeatureSpec` declares. Without any such value `nearest` is
`min`. When the nearest thing is done, `nearest` jumps up to the next one, so that Φ = −nearest falls then: add what was
done with at least that weight.

Every operation is total, and both branches of an `if` are computed. A divisor nearer to zero than 1e-6 counts as ±1e-6
with its sign (zero counts as positive), `exp` takes at most 50, every intermediate value is clipped to ±1e9 and the
result to ±100. A feature that is not a number counts as 0; `check_signal` reports such features.

`exp_distance` and `geo` are the shapes of Lucy-SKG (KRC: Kinesthetic Reward Combination): each component says how near
one thing is, and their geometric mean is large only where all are, 0 where one is. A distance below 0 counts as 0.

An expression has at most 400 characters and 60 parts. A part is each number, feature, function and operator that is
written (`if … else` is one); brackets and commas are none.

An expression is computed for every state of every rollout, on whole arrays: each part is a numpy operation or two over
all of them, and a mates function is linear in the number of agents. Only parts and agents are looped over in Python,
never states.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import accumulate
from typing import Any, NoReturn, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import ExpressionError
from ..task import EXPRESSION_FUNCTIONS, MATE_FUNCTIONS

MAX_LENGTH = 400  # characters
MAX_PARTS = 60
MAX_NUMBER = 1e6  # largest number that may be written
MAX_VALUE = 1e9  # bound of every intermediate value
MAX_RESULT = 100.0
MAX_EXPONENT = 50.0
SMALLEST_DIVISOR = 1e-6

Array = NDArray[np.floating[Any]]

ONE: Array = np.asarray(1.0)

GRAMMAR = (
    "write numbers, features, + - * /, one comparison at a time, and, or, not, a if c else b, "
    f"{' '.join(EXPRESSION_FUNCTIONS)}"
)
_CHARACTERS = re.compile(r"[A-Za-z0-9_ .,+\-*/()<>=!]*")


# ------------------------------------------------------------ operations


def bounded(values: Array) -> Array:
    """Return float64 with NaN as 0, clipped to ±1e9."""
    plain = _clipped(np.asarray(values, np.float64))
    return np.where(np.isnan(plain), 0.0, plain)


def divide(a: Array, b: Array) -> Array:
    """Divide; a divisor nearer to zero than 1e-6 counts as ±1e-6."""
    tiny = np.where(b < 0, -SMALLEST_DIVISOR, SMALLEST_DIVISOR)
    return a / np.where(np.abs(b) < SMALLEST_DIVISOR, tiny, b)


def choose(c: Array, a: Array, b: Array) -> Array:
    """Return a where c is not 0, else b."""
    return np.where(c != 0, a, b)


def exp_distance(distance: Array, dispersion: Array, density: Array = ONE) -> Array:
    """Return e^(−d / 2s)^(1/p), 0..1, for a distance d, its dispersion s and its density p (Lucy-SKG)."""
    exponent = divide(divide(0.5 * np.maximum(distance, 0.0), np.maximum(dispersion, 0.0)), np.maximum(density, 0.0))
    return np.exp(-exponent)


def geometric(*values: Array) -> Array:
    """Return s · (Π |v_i|)^(1/n), s = 1 where all v_i are above 0, else −1 (KRC of Lucy-SKG)."""
    n = len(values)
    root = reduce(np.multiply, [np.abs(value) ** (1.0 / n) for value in values])
    positive = reduce(np.logical_and, [value > 0 for value in values])
    return np.where(positive, root, -root)


def _clipped(values: Array) -> Array:
    return np.clip(values, -MAX_VALUE, MAX_VALUE)


def _flag(holds: NDArray[np.bool_]) -> Array:
    return np.asarray(holds, np.float64)


# Operands are finite, in ±1e9, and so is what an operation returns.
_BINARY: dict[type[ast.operator], Callable[[Array, Array], Array]] = {
    ast.Add: lambda a, b: _clipped(a + b),
    ast.Sub: lambda a, b: _clipped(a - b),
    ast.Mult: lambda a, b: _clipped(a * b),
    ast.Div: lambda a, b: _clipped(divide(a, b)),
}
_UNARY: dict[type[ast.unaryop], Callable[[Array], Array]] = {
    ast.UAdd: np.positive,
    ast.USub: np.negative,
    ast.Not: lambda a: _flag(a == 0),
}
_COMPARE: dict[type[ast.cmpop], Callable[[Array, Array], Array]] = {
    ast.Lt: lambda a, b: _flag(a < b),
    ast.LtE: lambda a, b: _flag(a <= b),
    ast.Gt: lambda a, b: _flag(a > b),
    ast.GtE: lambda a, b: _flag(a >= b),
    ast.Eq: lambda a, b: _flag(a == b),
    ast.NotEq: lambda a, b: _flag(a != b),
}
_LOGIC: dict[type[ast.boolop], Callable[..., Array]] = {
    ast.And: lambda *values: _flag(reduce(np.logical_and, values)),
    ast.Or: lambda *values: _flag(reduce(np.logical_or, values)),
}
# name → (fewest arguments, most arguments, operation)
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Array]]] = {
    "min": (2, MAX_PARTS, lambda *values: reduce(np.minimum, values)),
    "max": (2, MAX_PARTS, lambda *values: reduce(np.maximum, values)),
    "abs": (1, 1, np.abs),
    "clip": (3, 3, lambda x, low, high: np.minimum(np.maximum(x, low), high)),
    "exp_distance": (2, 3, exp_distance),
    "geo": (2, MAX_PARTS, lambda *values: _clipped(geometric(*values))),
    "exp": (1, 1, lambda x: _clipped(np.exp(np.minimum(x, MAX_EXPONENT)))),
}


# ------------------------------------------------------------ the tree of an expression


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Feature:
    name: str


@dataclass(frozen=True)
class Operation:
    """An operation on the values of its arguments; it is elementwise, and total."""

    compute: Callable[..., Array]
    arguments: tuple[Part, ...]


@dataclass(frozen=True)
class Nearest:
    """The smallest of several distances that are not done."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class OverMates:
    """A number over an agent's mates.

    Attributes:
        function: one of MATE_FUNCTIONS.
        inner: what is computed of each mate.
        names: the features that it reads; who has them all is a mate.
    """

    function: str
    inner: Part
    names: frozenset[str]


Part: TypeAlias = Number | Feature | Operation | Nearest | OverMates


class Agents(Protocol):
    """The agents of one group, whose features an expression is computed on."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a feature, [..., A]."""
        ...

    def feature(self, name: str) -> Array:
        """Return a feature of each of them, [..., A]."""
        ...

    def done(self, name: str) -> float | None:
        """Return the value that a feature has once the thing is done or gone; None where it has none."""
        ...

    def groups_with(self, names: frozenset[str]) -> Sequence[Agents]:
        """Return all groups of the task that have all these features; this one is the same object there."""
        ...


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes:
        text: as it was written.
        of_agent: names of the features that it reads of the agent itself.
        of_each_mate: for each mates function in it, the names of the features that it reads of a mate.
        distances: names of the features that stand in a `nearest`.
        tree: what is computed.
    """

    text: str
    of_agent: frozenset[str]
    of_each_mate: tuple[frozenset[str], ...]
    distances: frozenset[str]
    tree: Part = field(repr=False, compare=False)

    def names(self) -> frozenset[str]:
        """Return all feature names that it reads."""
        return self.of_agent.union(*self.of_each_mate)

    def evaluate(self, agents: Agents) -> NDArray[np.float64]:
        """Compute it for the agents of a group.

        Returns:
            Finite values in ±100 that broadcast to `agents.shape`; of shape () where it reads no feature.
        """
        return np.clip(_value(self.tree, agents), -MAX_RESULT, MAX_RESULT)


# ------------------------------------------------------------ reading


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
            parsed = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"an expression must parse, got {text!r} ({error}); {GRAMMAR}") from error
    # `ast.walk` does not recurse, so that a deep tree cannot exhaust the stack; few parts are never deep.
    parts = sum(map(_parts, ast.walk(parsed)))
    if parts > MAX_PARTS:
        raise ExpressionError(
            f"an expression has at most {MAX_PARTS} parts (each number, feature, function and operator is one), "
            f"got {parts} in {text!r}; simplify it or split the term"
        )
    tree = _read(parsed, text, in_mates=False)
    inside = list(_inside(tree))
    return Expression(
        text,
        of_agent=_names(tree),
        of_each_mate=tuple(part.names for part in inside if isinstance(part, OverMates)),
        distances=frozenset(name for part in inside if isinstance(part, Nearest) for name in part.names),
        tree=tree,
    )


def _parts(node: ast.AST) -> int:
    """Return how many numbers, features, functions and operators a node itself is."""
    match node:
        case ast.Compare(ops=operators):
            return len(operators)
        case ast.BoolOp(values=values):
            return len(values) - 1
        case ast.Call(func=ast.Name()):
            return 0  # the name is a node of its own
        case ast.expr():
            return 1
    return 0


def _refuse(
    node: ast.expr, text: str, rule: str = "is not allowed in an expression", remedy: str = GRAMMAR
) -> NoReturn:
    """Raise the error of a part that is not in the grammar."""
    raise ExpressionError(f"{ast.unparse(node)!r} {rule}, got {text!r}; {remedy}")


def _read(node: ast.expr, text: str, *, in_mates: bool) -> Part:
    """Return what a node of Python's syntax says; raise where it is not in the grammar."""

    def operation(compute: Callable[..., Array], *arguments: ast.expr) -> Operation:
        return Operation(compute, tuple(_read(argument, text, in_mates=in_mates) for argument in arguments))

    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if not abs(value) <= MAX_NUMBER:
                raise ExpressionError(f"a number lies in ±{MAX_NUMBER:g}, got {text!r}; write a smaller one")
            return Number(float(value))
        case ast.Name(id=name) if name not in EXPRESSION_FUNCTIONS:
            return Feature(name)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return operation(_UNARY[type(op)], operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return operation(_BINARY[type(op)], left, right)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return operation(_COMPARE[type(op)], left, right)
        case ast.Compare(ops=[_, _, *_]):
            _refuse(node, text, "is more than one comparison at a time", "join two of them by `and`")
        case ast.BoolOp(op=op, values=values):
            return operation(_LOGIC[type(op)], *values)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return operation(choose, test, body, orelse)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in EXPRESSION_FUNCTIONS:
            return _read_call(node, name, args, text, in_mates=in_mates)
    _refuse(node, text)


def _read_call(node: ast.Call, name: str, args: list[ast.expr], text: str, *, in_mates: bool) -> Part:
    """Return the call of a function, `node`; raise where its arguments are not what it takes."""
    if name == "nearest":
        features = [argument.id for argument in args if isinstance(argument, ast.Name)]
        if not features or len(features) < len(args) or not set(features).isdisjoint(EXPRESSION_FUNCTIONS):
            _refuse(node, text, "takes the names of features of kind distance", "use min for anything else")
        return Nearest(tuple(features))
    fewest, most, compute = (1, 1, None) if name in MATE_FUNCTIONS else _FUNCTIONS[name]
    if not fewest <= len(args) <= most:
        takes = f"{fewest}" if fewest == most else f"{fewest} or more" if most == MAX_PARTS else f"{fewest} or {most}"
        _refuse(node, text, f"has {len(args)} arguments, and {name} takes {takes}", f"write {takes}")
    if in_mates and name in MATE_FUNCTIONS:
        remedy = "inside one every feature is a mate's own: write the two side by side"
        _refuse(node, text, "stands in another mates function", remedy)
    arguments = tuple(_read(argument, text, in_mates=in_mates or name in MATE_FUNCTIONS) for argument in args)
    return OverMates(name, arguments[0], _names(arguments[0])) if compute is None else Operation(compute, arguments)


def _inside(part: Part) -> Iterator[Part]:
    """Yield a part and all that it is made of, what is computed of mates included."""
    yield part
    match part:
        case Operation(arguments=arguments):
            for argument in arguments:
                yield from _inside(argument)
        case OverMates(inner=inner):
            yield from _inside(inner)


def _names(part: Part) -> frozenset[str]:
    """Return the features that a part reads of the agent itself, those of its mates not included."""
    match part:
        case Feature(name):
            return frozenset({name})
        case Nearest(names):
            return frozenset(names)
        case Operation(arguments=arguments):
            return frozenset[str]().union(*map(_names, arguments))
    return frozenset()


# ------------------------------------------------------------ computing


def _value(part: Part, agents: Agents) -> Array:
    """Compute a part: finite values in ±1e9 that broadcast to `agents.shape`."""
    match part:
        case Number(value):
            return np.asarray(value)
        case Feature(name):
            return bounded(agents.feature(name))
        case Operation(compute, arguments):
            return compute(*(_value(argument, agents) for argument in arguments))
        case Nearest(names):
            return _nearest(names, agents)
        case OverMates():
            return _over_mates(part, agents)


def _nearest(names: Sequence[str], agents: Agents) -> Array:
    """Return the smallest of the distances that are not done, 0 where all are; [..., A]."""
    distances = []
    for name in names:
        values, done = agents.feature(name), agents.done(name)
        distance = bounded(values)
        if done is not None:
            # In float32, as features are.
            distance = np.where(np.asarray(values, np.float32) == np.float32(done), np.inf, distance)
        distances.append(distance)
    smallest = reduce(np.minimum, distances)
    return np.where(smallest == np.inf, 0.0, smallest)


def _over_mates(part: OverMates, agents: Agents) -> Array:
    """Return a number over the mates of each agent, [..., A]; [..., 1] where it is the same for all of them."""
    # One column for each agent of the task that has the features; where this group's begin, if it has them.
    columns: list[Array] = []
    first = None
    for group in agents.groups_with(part.names):
        if group is agents:
            first = len(columns)
        values = np.broadcast_to(_value(part.inner, group), group.shape)
        if part.function == "count_mates":
            values = _flag(values != 0)
        columns += [values[..., i] for i in range(group.shape[-1])]
    combine = {"min_mates": np.minimum, "max_mates": np.maximum}.get(part.function, np.add)
    if first is None:
        over, mates = reduce(combine, columns)[..., None], len(columns)
    elif len(columns) > 1:
        own = slice(first, first + agents.shape[-1])
        over, mates = np.stack(_over_others(columns, combine)[own], axis=-1), len(columns) - 1
    else:
        # Without a mate.
        return np.zeros(agents.shape) if part.function in ("sum_mates", "count_mates") else columns[0][..., None]
    return _clipped(over / mates if part.function == "mean_mates" else over)


def _over_others(columns: Sequence[Array], combine: np.ufunc) -> list[Array]:
    """Return for each of two or more columns all the others, combined.

    What lies before a column and what lies behind it are combined once for all, so that the work is linear in their
    number, and nothing is lost to cancellation as in a total minus the column itself.
    """
    before = list(accumulate(columns, combine))
    behind = list(accumulate(reversed(columns), combine))[::-1]
    return [behind[1], *map(combine, before[:-2], behind[2:]), before[-2]]
