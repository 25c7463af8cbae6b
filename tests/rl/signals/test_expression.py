"""The expression language: what it computes, what it refuses, and that nothing else ever happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import ExpressionError
from cosignal.rl.signals import expression as language
from cosignal.rl.signals.expression import MAX_PARTS, parse_expression
from cosignal.rl.signals.terms.potential import GroupState
from cosignal.rl.task import EXPRESSION_FUNCTIONS, MATE_FUNCTIONS, FeatureKind, FeatureSpec, GroupSpec
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_expression import Agent, slow_value

VALUES = {"near": 3.0, "far": -2.5, "zero": 0.0}
MATES = {"near": (5.0, -1.0), "far": (1.0, 4.0), "zero": (0.0, 0.0)}  # of the two others


def group(agents: int, **features: tuple[FeatureKind, float | None]) -> GroupSpec:
    """Return a group of agents whose features have a kind and a value of being done."""
    specs = [
        FeatureSpec(name=name, kind=kind, low=-100, high=100, done=done) for name, (kind, done) in features.items()
    ]
    names = tuple(f"{next(iter(features))}_{i}" for i in range(agents))
    return GroupSpec(name="g", agents=names, obs_size=1, n_actions=2, features=tuple(specs))


def states(*groups: tuple[GroupSpec, Any]) -> list[GroupState]:
    """Return the state of a team, from arrays [..., A_g, F_g]."""
    team: list[GroupState] = []
    team += [GroupState(spec, np.asarray(features, np.float32), team) for spec, features in groups]
    return team


def evaluate(text: str, **values: Any) -> Any:
    """Return what an expression is worth for the first of three agents, of whatever shape `values` have."""
    spec = group(3, **dict.fromkeys(VALUES, ("distance", None)))
    own = {**VALUES, **values}
    columns = [np.stack(np.broadcast_arrays(own[name], *MATES[name]), axis=-1) for name in VALUES]  # type: ignore[arg-type]
    (state,) = states((spec, np.stack(np.broadcast_arrays(*columns), axis=-1)))
    return np.broadcast_to(parse_expression(text).evaluate(state), state.shape)[..., 0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-near / 12", -0.25),
        ("near - far * 2", 8.0),
        ("1 - (near - far)", -4.5),
        ("near / 0", 100.0),  # 3 / 1e-6, clipped
        ("0.0001 / zero", 100.0),  # zero counts as +1e-6
        ("0.00001 / -0.0000001", -10.0),  # a divisor near zero keeps its sign
        ("zero / 0", 0.0),
        ("near > far", 1.0),
        ("near <= far", 0.0),
        ("(near == 3) + (near != 3) + (near >= 3) + (near < 3)", 2.0),
        ("min(near, far)", -2.5),
        ("max(near, far, 4)", 4.0),
        ("abs(far) + clip(near, 0, 1) + clip(far, 0, 1)", 3.5),
        # the value table of KRC: a distance of 0, of one and of two dispersions, at densities 1 and 2
        ("exp_distance(zero, 4)", 1.0),
        ("exp_distance(8, 4)", 0.36787944117144233),
        ("exp_distance(16, 4)", 0.1353352832366127),
        ("exp_distance(8, 4, 2)", 0.6065306597126334),
        ("exp_distance(far, 4)", 1.0),  # below 0 counts as 0
        ("geo(0.25, 1)", 0.5),
        ("geo(near, near, near)", 3.0),
        ("geo(-0.25, 1)", -0.5),
        ("geo(-0.25, -1)", -0.5),  # two that are negative do not make it good
        ("geo(1, zero, 9)", 0.0),
        ("exp(0)", 1.0),
        ("exp(1000)", 100.0),
        ("exp(-1000)", 0.0),
        ("-exp(99) * exp(99) * exp(99)", -100.0),
        ("  1e2  ", 100.0),
        (".5 + 1.", 1.5),
        # Truth is not being 0; what is true is worth 1, whatever it was.
        ("near and far", 1.0),
        ("near and zero", 0.0),
        ("zero or far", 1.0),
        ("zero or 0", 0.0),
        ("1 and near and 0", 0.0),
        ("0 or zero or near", 1.0),
        ("not zero", 1.0),
        ("not far", 0.0),
        ("not near == 4", 1.0),  # Python's precedence: not (near == 4)
        ("near > 2 and not far > 0 or zero", 1.0),
        ("3 * (near > 2 and far < 0)", 3.0),
        ("near if far < 0 else 7", 3.0),
        ("near if zero else 7", 7.0),
        ("1 if zero else 2 if far else 4", 2.0),
        ("0 - (near if zero else far)", 2.5),
        # Of the two others: near 5 and -1, far 1 and 4.
        ("mean_mates(near)", 2.0),
        ("min_mates(near)", -1.0),
        ("max_mates(far)", 4.0),
        ("sum_mates(near)", 4.0),
        ("mean_mates(near * far)", 0.5),  # 5 · 1 and -1 · 4
        ("min_mates(near + far)", 3.0),
        ("max_mates(abs(near - 2 * far))", 9.0),
        ("sum_mates(max(near, far, 2))", 9.0),
        ("count_mates(near)", 2.0),
        ("count_mates(near > 0)", 1.0),
        ("count_mates(near > 0 and far > 3)", 0.0),
        ("count_mates(zero)", 0.0),
        ("sum_mates(1) + count_mates(3)", 4.0),  # how many mates, twice
        ("mean_mates(near if far > 3 else 10)", 4.5),
        ("near - mean_mates(near) + far * count_mates(far > 0)", -4.0),
        ("mean_mates(exp(99)) / 1e6", 100.0),  # 1e9 each, above 100 only here
        ("sum_mates(exp(99)) / 1e6 / 1e2 - 9.5", 0.5),  # 2e9, clipped to 1e9
    ],
)
def test_computes(text: str, value: float) -> None:
    assert evaluate(text) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        # The rows: all left; the first two done; all done.
        ("nearest(a, b)", [2, 4, 0]),
        ("nearest(b, a)", [2, 4, 0]),
        ("nearest(a)", [2, 0, 0]),
        ("nearest(c)", [3, 9, 9]),  # nothing is said of when it is done
        ("nearest(a, b, c)", [2, 4, 9]),
        ("min(a, c)", [2, 0, 0]),  # the twin that knows nothing of being done
        ("nearest(a, d)", [2, 5, 0]),  # d is done at 0.1, which is no float32
        ("-nearest(a, b) / 10 + (a == 0)", [-0.2, 0.6, 1]),
        ("nearest(a, b) if c < 5 else 1", [2, 1, 1]),
    ],
)
def test_nearest_skips_what_is_done(text: str, values: list[float]) -> None:
    spec = group(1, a=("distance", 0), b=("distance", -1), c=("distance", None), d=("distance", 0.1))
    (state,) = states((spec, [[[2, 4, 3, 7]], [[0, 4, 9, 5]], [[0, -1, 9, 0.1]]]))
    np.testing.assert_allclose(parse_expression(text).evaluate(state)[:, 0], values, atol=1e-6)


def test_nearest_of_a_mate_goes_by_what_is_done_in_its_own_group() -> None:
    """Both groups have a and b; for the second b is done at 0, for the first there is no such value."""
    first = group(1, a=("distance", 0), b=("distance", None))
    second = group(2, b=("distance", 0), a=("distance", 0))
    one, two = states((first, [[0, 0]]), (second, [[0, 6], [0, 0]]))  # b, a of the second
    expression = parse_expression("sum_mates(nearest(a, b))")
    assert expression.evaluate(one).tolist() == [6]
    assert expression.evaluate(two).tolist() == [0, 6]


def test_mates_are_those_that_have_all_features() -> None:
    """Groups of two, one and two agents, with the features (a, b), (a) and (b, a)."""
    both, alone, turned = (
        group(2, a=("count", None), b=("count", None)),
        group(1, a=("count", None)),
        group(2, b=("count", None), a=("count", None)),
    )
    team = states((both, [[1, 10], [2, 20]]), (alone, [[4]]), (turned, [[80, 8], [160, 16]]))

    def of_each(text: str) -> list[list[float]]:
        expression = parse_expression(text)
        return [np.broadcast_to(expression.evaluate(g), g.shape).tolist() for g in team]

    assert of_each("sum_mates(a)") == [[30, 29], [27], [23, 15]]  # 31 in all
    assert of_each("sum_mates(a + 0 * b)") == [[26, 25], [27], [19, 11]]  # 27 in all who have both
    assert of_each("count_mates(a > 3)") == [[3, 3], [2], [2, 2]]
    assert of_each("count_mates(b > 1)") == [[3, 3], [4], [3, 3]]
    assert of_each("min_mates(b / a)") == [[10, 10], [10], [10, 10]]
    assert of_each("max_mates(a)") == [[16, 16], [16], [16, 8]]
    assert of_each("min_mates(a)") == [[2, 1], [1], [1, 1]]
    assert of_each("mean_mates(a)") == [[7.5, 7.25], [6.75], [5.75, 3.75]]


def test_without_a_mate() -> None:
    """It is its own mate in mean, min and max; there is nothing to sum and to count."""
    alone, others = group(1, a=("count", None)), group(3, b=("count", None))
    (lone, _) = states((alone, [[7]]), (others, [[1], [2], [3]]))
    got = {name: parse_expression(f"{name}(2 * a)").evaluate(lone).tolist() for name in MATE_FUNCTIONS}
    assert got == {"mean_mates": [14], "min_mates": [14], "max_mates": [14], "sum_mates": [0], "count_mates": [0]}
    assert parse_expression("a - mean_mates(a)").evaluate(lone).tolist() == [0]


@pytest.mark.parametrize("agents", [2, 3, 7])
@pytest.mark.parametrize("name", MATE_FUNCTIONS)
def test_over_many_mates_it_is_what_the_others_columns_give(agents: int, name: str) -> None:
    values = np.random.default_rng(agents).integers(-4, 5, (5, 6, agents, 1)).astype(np.float32)
    (state,) = states((group(agents, a=("count", None)), values))
    got = parse_expression(f"{name}(a)").evaluate(state)
    assert got.shape == (5, 6, agents)
    functions = {"mean": np.mean, "min": np.min, "max": np.max, "sum": np.sum, "count": np.count_nonzero}
    for i in range(agents):
        others = np.delete(values[..., 0], i, axis=-1).astype(float)
        wanted = functions[name.removesuffix("_mates")](others, axis=-1)  # type: ignore[operator]
        np.testing.assert_allclose(got[..., i], wanted, atol=1e-12)


def test_a_huge_mate_costs_the_others_no_digits() -> None:
    """The agent with 1e9 sums the small ones, which a total minus itself would lose."""
    (state,) = states((group(3, a=("count", None)), [[1e9], [2**-20], [2**-21]]))
    assert parse_expression("sum_mates(a) * 1e6").evaluate(state)[0] == 1e6 * (2**-20 + 2**-21)


def test_evaluates_arrays_elementwise() -> None:
    got = evaluate("near / 2", near=np.array([[1, 2], [4, 8]], np.float32))
    np.testing.assert_allclose(got, [[0.5, 1], [2, 4]])
    got = evaluate("near if near > 3 else -far", near=np.array([[1, 2], [4, 8]], np.float32))
    np.testing.assert_allclose(got, [[2.5, 2.5], [4, 8]])


def test_features_that_are_no_numbers_count_as_zero_and_infinity_is_clipped() -> None:
    got = evaluate("near - 1", near=np.array([np.nan, np.inf, -np.inf]))
    np.testing.assert_array_equal(got, [-1, 100, -100])


def test_names() -> None:
    expression = parse_expression(
        "near - mean_mates(far + nearest(b, c)) + clip(near, 0, zero) if not a else count_mates(far)"
    )
    assert expression.of_agent == {"near", "zero", "a"}
    assert set(expression.of_each_mate) == {frozenset({"far", "b", "c"}), frozenset({"far"})}
    assert expression.distances == {"b", "c"}
    assert expression.names() == {"near", "far", "zero", "a", "b", "c"}


def test_the_functions_are_those_whose_names_no_feature_may_have() -> None:
    assert sorted(EXPRESSION_FUNCTIONS) == sorted([*language._FUNCTIONS, *MATE_FUNCTIONS, "nearest"])


REFUSED = [
    "", "   ", "near +", "near ** 2", "near % 2", "near // 2", "near @ far", "~near",
    "near < far < 3", "near in far", "near is far", "near not in far", "near is not far", "near.real", "near[0]",
    "[near]", "(near, far)", "lambda: 1", "lambda x: x", "'near'", "f'{near}'", 'b"x"', "True", "None", "...", "1j",
    "1e7", "9" * 300, "1e999", "__import__('os')", "eval(near)", "open(near)", "pow(near, 2)", "abs()",
    "abs(near, far)", "clip(near, 1)", "min(near)", "min(*near)", "abs(x=near)",
    "mean_mates(near, far)", "mean_mates()", "min_mates(x=near)", "near.__class__.__mro__",
    "abs.near", "(abs)(near)(far)", "near := 2", "near; far", "near = far", "0x10 near", "1_000_000_000",
    "1if near else 2", "0in near", "near\nfar", "près", "\x00", "near # far",
    "min", "near + max_mates", "nearest", "not", "near and", "and near", "near or or far", "near if far",
    "near if far else", "if near else far", "near not far", "(yield near)", "await near", "near for near in far",
    "nearest()", "nearest(1)", "nearest(near, 2)", "nearest(near + 1)", "nearest(-near)", "nearest(nearest(near))",
    "nearest(*near)", "nearest(x=near)", "nearest(min)", "nearest(min, near)", "count_mates(near, far)",
    "sum_mates()", "mean_mates(max_mates(near))", "count_mates(near > 1 + sum_mates(far))",
    "count_mates(nearest(min_mates(near)))", "mean_mates(near if far else count_mates(far))",
    "abs(x=" * 60 + "1" + ")" * 60, "near" + "()" * 190, "abs(x=" + "-" * 380 + "1)", "near" + ".a" * 190,
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_refuses(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 + near ** 2", r"'near \*\* 2' is not allowed in an expression, got '1 \+ near \*\* 2'; write numbers"),
        ("1" * 401, "at most 400 characters, got 401; shorten it"),
        ("1e7", r"±1e\+06, got '1e7'; write a smaller one"),
        ("1 < near < 2", "'1 < near < 2' is more than one comparison at a time, got .*; join two of them by `and`"),
        ("clip(near, 1)", r"'clip\(near, 1\)' has 2 arguments, and clip takes 3, got .*; write 3"),
        ("min(near)", "has 1 arguments, and min takes 2 or more, got .*; write 2 or more"),
        (
            "1 + sum_mates(near + max_mates(far))",
            r"'max_mates\(far\)' stands in another mates function, got '1 \+ sum.*; inside one every feature is a "
            "mate's own: write the two side by side",
        ),
        ("nearest(near, 2)", r"'nearest\(near, 2\)' takes the names of features of kind distance, got .*; use min"),
        ("near + min", "'min' is not allowed in an expression, got 'near \\+ min'; write numbers"),
        ("near == True", "'True' is not allowed in an expression, got .*; write numbers"),
    ],
)
def test_messages_name_rule_value_and_remedy(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("near", 1),
        ("((near))", 1),
        ("-near / 10", 4),
        ("not near and far and 1", 6),
        ("near < 2 or 3 >= far", 7),
        ("near if far else 1", 4),
        ("max(near, far, 4)", 4),
        ("-max(near, max_mates(near)) / 10", 7),
        ("count_mates(nearest(near, far) < 2 and zero)", 8),
    ],
)
def test_every_number_feature_function_and_operator_is_a_part(text: str, parts: int) -> None:
    """As many of them as are left to 60 are accepted beside it, and not one more."""
    left = MAX_PARTS - parts - 2  # numbers in max(…), besides the expression and two functions

    def filled(numbers: int) -> str:
        return f"abs(max({','.join(['1'] * numbers)},{text}))"

    parse_expression(filled(left))
    with pytest.raises(ExpressionError, match=f"at most 60 parts .*, got 61 in {'.'}abs"):
        parse_expression(filled(left + 1))


def test_what_is_deep_has_many_parts() -> None:
    assert evaluate("-" * 58 + "near") == 3
    assert evaluate("1" + "+1" * 29) == 30
    for text in ("-" * 60 + "near", "-" * 390 + "1", "1" + "+1" * 30, "not " * 60 + "1", "abs(" * 60 + "1" + ")" * 60):
        with pytest.raises(ExpressionError):
            parse_expression(text)


PIECES = [
    "near", "far", "1", "0.5", "+", "-", "*", "/", "(", ")", ",", "<", "==", "min", "exp", "mean_mates(", "**", " ",
    "in", " and ", " or ", " not ", " if ", " else ", "nearest(", "count_mates(", "sum_mates", "is", "x=", "True",
]  # fmt: skip


class Anything:
    """Two agents that have whatever an expression reads, and are mates; for one of them all is done."""

    shape = (2,)

    def feature(self, name: str) -> Any:
        return np.array([1.5, -2.0])

    def done(self, name: str) -> float:
        return 1.5

    def groups_with(self, names: frozenset[str]) -> list[Anything]:
        return [self]


@given(
    st.one_of(
        st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.text("()-~", max_size=420)
    )
)
@settings(deadline=None)
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    try:
        expression = parse_expression(text)
    except ExpressionError:
        return
    value = np.broadcast_to(expression.evaluate(Anything()), (2,))
    assert np.isfinite(value).all()
    assert (np.abs(value) <= 100).all()


# ------------------------------------------------------------ against another evaluation

# Three groups of one, two and three agents, who share some features; `far` is done at another value in each.
GROUPS = (
    group(1, near=("distance", None), count=("count", None), load=("quantity", None)),
    group(2, near=("distance", 0), far=("distance", 9), count=("count", None), seen=("flag", None)),
    group(3, far=("distance", 0.1), seen=("flag", None), count=("count", None)),
)
FEATURE_VALUES = st.sampled_from([0.0, 0.0, 1.0, 2.5, 9.0, 0.1, -3.0, 7.0, 1e6, 3e9, float("nan"), float("inf")])


def expressions_of(spec: GroupSpec, *, of_mates: bool = True) -> st.SearchStrategy[str]:
    """Return texts that an agent of the group can compute: every rule of the grammar."""
    distances = [feature.name for feature in spec.features if feature.kind == "distance"]
    leaves = [
        st.sampled_from(spec.feature_names()),
        st.floats(0, 1000, allow_nan=False).map(lambda x: f"{x:.4g}"),
        st.lists(st.sampled_from(distances), min_size=1, max_size=3).map(lambda x: f"nearest({', '.join(x)})"),
    ]
    if of_mates:
        inner = st.sampled_from(GROUPS).flatmap(lambda mate: expressions_of(mate, of_mates=False))
        leaves.append(st.tuples(st.sampled_from(MATE_FUNCTIONS), inner).map(lambda x: f"{x[0]}({x[1]})"))
    return st.recursive(st.one_of(leaves), grow, max_leaves=8 if of_mates else 4)


def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = ["+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!=", "and", "or"]
    return st.one_of(
        st.tuples(inner, st.sampled_from(operators), inner).map(lambda x: f"({x[0]} {x[1]} {x[2]})"),
        st.tuples(st.sampled_from(["-", "not "]), inner).map(lambda x: f"({x[0]}{x[1]})"),
        st.tuples(inner, inner, inner).map(lambda x: f"({x[0]} if {x[1]} else {x[2]})"),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner, inner).map(
            lambda x: f"({x[1]} {x[0]} {x[2]} {x[0]} {x[3]})"
        ),
        st.tuples(st.sampled_from(["min", "max"]), st.lists(inner, min_size=2, max_size=3)).map(
            lambda x: f"{x[0]}({', '.join(x[1])})"
        ),
        st.tuples(st.sampled_from(["abs", "exp"]), inner).map(lambda x: f"{x[0]}({x[1]})"),
        st.tuples(inner, inner, inner).map(lambda x: f"clip({x[0]}, {x[1]}, {x[2]})"),
    )


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_the_value_of_any_expression_equals_a_slow_evaluation_agent_by_agent(data: st.DataObject) -> None:
    """Whole texts of the grammar, two states at once, three groups. It is finite and in ±100 as well."""
    g = data.draw(st.integers(0, len(GROUPS) - 1))
    text = data.draw(expressions_of(GROUPS[g]))
    sizes = [len(spec.agents) * len(spec.features) for spec in GROUPS]
    drawn = data.draw(st.lists(FEATURE_VALUES, min_size=2 * sum(sizes), max_size=2 * sum(sizes)))
    flat = np.split(np.array(drawn, np.float32).reshape(2, -1), np.cumsum(sizes)[:-1], axis=1)
    arrays = [x.reshape(2, len(spec.agents), -1) for x, spec in zip(flat, GROUPS, strict=True)]
    try:
        expression = parse_expression(text)
    except ExpressionError:
        # Nothing but its size can be wrong.
        with pytest.raises(ExpressionError, match="at most"):
            parse_expression(text)
        return
    state = states(*zip(GROUPS, arrays, strict=True))[g]
    got = np.broadcast_to(expression.evaluate(state), state.shape)
    assert np.isfinite(got).all() and (np.abs(got) <= 100).all()
    first = sum(len(spec.agents) for spec in GROUPS[:g])
    for t in range(2):
        team = [
            Agent(
                dict(zip(spec.feature_names(), row.tolist(), strict=True)),
                {feature.name: feature.done for feature in spec.features if feature.done is not None},
            )
            for spec, x in zip(GROUPS, arrays, strict=True)
            for row in x[t]
        ]
        for a in range(len(GROUPS[g].agents)):
            wanted, *near = [slow_value(text, first + a, team, jitter) for jitter in (0.0, 1e-13, -1e-13)]
            if near == pytest.approx([wanted] * 2, rel=1e-9, abs=1e-9):  # else a rounding error may decide it
                assert got[t, a] == pytest.approx(wanted, rel=1e-6, abs=1e-6)
