"""The expression language: what it computes, what it refuses, and that nothing else ever happens."""

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np
import pytest
from cosignal.errors import ExpressionError
from cosignal.rl.signals.expression import MAX_NODES, parse_expression
from hypothesis import given
from hypothesis import strategies as st

VALUES = {"near": 3.0, "far": -2.5, "zero": 0.0, "min": 7.0}
MATES = {"mean_mates": 2.0, "min_mates": -1.0, "max_mates": 5.0}


def evaluate(text: str, **values: Any) -> Any:
    known = {**VALUES, **values}
    return parse_expression(text).evaluate(
        lambda name: np.asarray(known[name]), lambda statistic, name: np.asarray(MATES[statistic])
    )


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
        ("exp(0)", 1.0),
        ("exp(1000)", 100.0),
        ("exp(-1000)", 0.0),
        ("-exp(99) * exp(99) * exp(99)", -100.0),
        ("mean_mates(near) + 10 * min_mates(near)", -8.0),
        ("max_mates(far) > 4", 1.0),
        ("min", 7.0),  # a feature may be called like a function
        ("  1e2  ", 100.0),
        (".5 + 1.", 1.5),
    ],
)
def test_computes(text: str, value: float) -> None:
    assert evaluate(text) == pytest.approx(value, abs=1e-12)


def test_evaluates_arrays_elementwise() -> None:
    got = evaluate("near / 2", near=np.array([[1, 2], [4, 8]], np.float32))
    np.testing.assert_allclose(got, [[0.5, 1], [2, 4]])


def test_features_that_are_no_numbers_count_as_zero_and_infinity_is_clipped() -> None:
    got = evaluate("near - 1", near=np.array([np.nan, np.inf, -np.inf]))
    np.testing.assert_array_equal(got, [-1, 100, -100])


def test_names() -> None:
    expression = parse_expression("near - mean_mates(far) + clip(near, 0, zero)")
    assert expression.of_agent == {"near", "zero"}
    assert expression.of_mates == {"far"}
    assert expression.names() == {"near", "far", "zero"}


REFUSED = [
    "", "   ", "near +", "near ** 2", "near % 2", "near // 2", "near @ far", "~near", "not near", "+near",
    "near and far", "near < far < 3", "near in far", "near is far", "near if far else 1", "near.real", "near[0]",
    "[near]", "(near, far)", "lambda: 1", "lambda x: x", "'near'", "f'{near}'", 'b"x"', "True", "None", "...", "1j",
    "1e7", "9" * 300, "1e999", "__import__('os')", "eval(near)", "open(near)", "pow(near, 2)", "abs()",
    "abs(near, far)", "clip(near, 1)", "min(near)", "min(*near)", "abs(x=near)", "mean_mates(1)",
    "mean_mates(near + 1)", "mean_mates(near, far)", "mean_mates()", "min_mates(x=near)", "near.__class__.__mro__",
    "abs.near", "(abs)(near)(far)", "near := 2", "near; far", "near = far", "0x10 near", "1_000_000_000",
    "1if near else 2", "0in near", "near\nfar", "près", "\x00", "near # far",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_refuses(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(text)


def test_messages_name_rule_value_and_remedy() -> None:
    with pytest.raises(ExpressionError, match=r"'near \*\* 2' is not allowed in an expression, got .*; write numbers"):
        parse_expression("1 + near ** 2")
    with pytest.raises(ExpressionError, match="at most 400 characters, got 401; shorten it"):
        parse_expression("1" * 401)
    with pytest.raises(ExpressionError, match=r"±1e\+06, got '1e7'; write a smaller one"):
        parse_expression("1e7")


def test_depth_and_size_are_bounded() -> None:
    assert evaluate("-" * 11 + "near") == -3
    for text in ("-" * 12 + "near", "-" * 390 + "1", "1" + "+1" * 30, "abs(" * 12 + "1" + ")" * 12):
        with pytest.raises(ExpressionError):
            parse_expression(text)
    wide = "max(" + ",".join(["1"] * (MAX_NODES - 2)) + ")"
    assert evaluate(wide) == 1
    with pytest.raises(ExpressionError, match="60 parts"):
        parse_expression(wide[:-1] + ",1)")


PIECES = [
    "near",
    "far",
    "1",
    "0.5",
    "+",
    "-",
    "*",
    "/",
    "(",
    ")",
    ",",
    "<",
    "==",
    "min",
    "exp",
    "mean_mates",
    "**",
    " ",
    "in",
]


@given(
    st.one_of(
        st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.text("()-~", max_size=420)
    )
)
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    try:
        expression = parse_expression(text)
    except ExpressionError:
        return
    value = expression.evaluate(lambda name: np.asarray(1.5), lambda statistic, name: np.asarray(-2.0))
    assert np.isfinite(value)
    assert abs(value) <= 100


def bound(value: float, limit: float = 1e9) -> float:
    return max(-limit, min(limit, value))


def reference(node: Any) -> float:
    """Plain Python floats over the same tree, written apart from the code under test."""
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return VALUES[node.id]
    if isinstance(node, ast.UnaryOp):
        return -reference(node.operand)
    if isinstance(node, ast.BinOp):
        a, b = reference(node.left), reference(node.right)
        if isinstance(node.op, ast.Div):
            b = b if abs(b) >= 1e-6 else math.copysign(1e-6, b if b else 1.0)
            return bound(a / b)
        return bound({ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b}[type(node.op)])  # type: ignore[index]
    if isinstance(node, ast.Compare):
        return float(
            eval(f"{reference(node.left)!r} {OPERATORS[type(node.ops[0])]} {reference(node.comparators[0])!r}")
        )
    assert isinstance(node, ast.Call)
    name = node.func.id  # type: ignore[attr-defined]
    if name in MATES:
        return MATES[name]
    args = [reference(arg) for arg in node.args]
    if name == "exp":
        return bound(math.exp(min(args[0], 50.0)))
    if name == "clip":
        return min(max(args[0], args[1]), args[2])
    return {"min": min, "max": max}[name](args) if name != "abs" else abs(args[0])


OPERATORS: dict[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}

leaves = st.one_of(
    st.sampled_from(["near", "far", "zero"]),
    st.sampled_from([f"{name}(near)" for name in MATES]),
    st.floats(0, 1000, allow_nan=False).map(lambda x: f"{x:.4g}"),
)


def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", *OPERATORS.values()]), inner).map(
            lambda x: f"({x[0]} {x[1]} {x[2]})"
        ),
        inner.map(lambda x: f"(-{x})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda x: f"{x[0]}({x[1]}, {x[2]})"),
        st.tuples(st.sampled_from(["abs", "exp"]), inner).map(lambda x: f"{x[0]}({x[1]})"),
        st.tuples(inner, inner, inner).map(lambda x: f"clip({x[0]}, {x[1]}, {x[2]})"),
    )


@given(st.recursive(leaves, grow, max_leaves=8).filter(lambda text: len(text) <= 400))
def test_valid_expressions_equal_a_reference_evaluation(text: str) -> None:
    tree = ast.parse(text, mode="eval").body
    if text.count("(") > 11:  # beyond the depth bound, perhaps
        return
    got = float(evaluate(text))
    assert math.isfinite(got)
    assert got == pytest.approx(bound(reference(tree), 100.0), rel=1e-9, abs=1e-9)
