"""YAML as people write it: what arrives as it is meant, and what is refused because nobody can tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cosignal.errors import ConfigError
from cosignal.strict_yaml import MAX_DEPTH, MAX_INT, MAX_SIZE, Word, parse_yaml, parse_yaml_value
from hypothesis import given
from hypothesis import strategies as st


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "a.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # numbers
        ("1e-3", 0.001), ("1e6", 1_000_000.0), ("1E+6", 1_000_000.0), ("1.e+3", 1000.0), (".5", 0.5), ("-.5", -0.5),
        ("+.5e-2", 0.005), ("1.5e6", 1_500_000.0), ("1_000", 1000), ("1_000.5", 1000.5), ("-7", -7), ("+7", 7),
        ("0", 0), ("0.0", 0.0), ("0x1F", 31), ("0o17", 15), ("0b101", 5), ("9223372036854775807", 2**63 - 1),
        # texts that YAML 1.1 takes for numbers or dates, and versions
        ("1:30", "1:30"), ("12:30:45", "12:30:45"), ("2020-01-01", "2020-01-01"), ("1.2.3", "1.2.3"), ("=", "="),
        ("y", "y"), ("a b", "a b"), ("_1", "_1"), ("1e", "1e"), (".", "."), ("'010'", "010"), ('"1e-3"', "1e-3"),
        ("!!str 010", "010"), ('"\\ud83d\\ude00"', "😀"), ("'on'", "on"), ("''", ""), ("1/3", "1/3"),
        # the rest
        ("true", True), ("FALSE", False), ("~", None), ("Null", None), ("", None), ("!!float 1", 1.0),
        ("[1, [.5]]", [1, [0.5]]), ("{on: 1, 2020-01-01: 2}", {"on": 1, "2020-01-01": 2}),
    ],
)  # fmt: skip
def test_a_plain_value_arrives_as_it_is_meant(text: str, value: Any) -> None:
    read = parse_yaml(text, "a.yaml").data
    assert (read, type(read)) == (value, type(value))
    nested = parse_yaml(f"a:\n  b:\n  - {text}\n", "a.yaml").data
    assert nested == {"a": {"b": [value]}}
    if not text.startswith("!!"):
        assert parse_yaml_value(text, "x").data == value


@pytest.mark.parametrize("text", ["yes", "No", "ON", "off"])
def test_words_that_may_be_truth_values_are_told_apart(text: str) -> None:
    assert (parse_yaml(text, "a").data, type(parse_yaml(text, "a").data)) == (text, Word)
    assert type(parse_yaml(f"'{text}'", "a").data) is str


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("010", "0o10"), ("-010", "0o10"), ("08", "0o10"), ("0_7", "0o10"), ("1_", "1_000"), ("1__0", "1_000"),
        ("1,000", "1_000"), ("1,000.5", "0.5"), ("1,2,3", "[1, 2]"), ("0X1F", "0x1F"), ("0b12", "0b101"),
        ("−5", "minus"), ("−0.5", "minus"), (".inf", "finite"), ("-.INF", "finite"), (".NaN", "finite"),
        ("NaN", "finite"),
        ("-Infinity", "finite"), ("inf", "finite"), ("None", "write null"), ("1e400", "smaller"),
        ("9223372036854775808", "smaller"), ("9" * 5000, "smaller"), ("!!int x", "without a tag"),
        ("!!bool yes", "without a tag"), ("!!binary aGk=", "without a tag"), ("!!set {a: , b: }", "tag"),
        ("!!timestamp 2020-01-01", "without a tag"), ("!!python/object/apply:os.getpid []", "tag"),
        ("!!python/name:os.system x", "without a tag"), ("!mine x", "without a tag"), ('"\\ud83d"', "escapes"),
        ("{1: a}", "quotes"), ("{true: a}", "quotes"), ("{~: a}", "quotes"), ("{.5: a}", "quotes"),
        ("{[1]: a}", "quotes"), ("{010: a}", "quotes"), ("{a:1}", "{key: value}"), ("{a}", "{key: value}"),
        ("{size: 1,000}", "quotes"), ("{<<: 1}", "name a mapping"), ("{<<: [1]}", "name a mapping"),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(text: str, remedy: str) -> None:
    told = complaint(f"seed: 1\nx:\n  k: {text}\n")
    assert told.startswith("a.yaml, line 3: x.k: must ")
    assert remedy in told.partition(";")[2]
    with pytest.raises(ConfigError, match=r"^--set x: must "):
        parse_yaml_value(text, "x")


def test_a_key_that_is_there_twice_is_told_with_both_lines() -> None:
    told = "a.yaml, line 3: a: must be there once, got it here and in line 1; remove one"
    assert complaint("a: {b: 1}\nc: 2\na: {d: 3}\n") == told
    assert complaint("a:\n  b: 1\n  'b': 2\n").startswith("a.yaml, line 3: a.b: must be there once")
    assert complaint('{"a": 1, "a": 1}').startswith("a.yaml, line 1: a: must be there once")
    assert complaint("- on: 1\n  'on': 2\n").startswith("a.yaml, line 2: 0.on: must be there once")
    with pytest.raises(ConfigError, match=r"^--set a\.b: must be there once, got it here; remove one"):
        parse_yaml_value("{b: 1, b: 2}", "a")


def test_aliases_and_merges_are_written_out() -> None:
    read = parse_yaml("a: &x {k: [1], l: 2}\nb: *x\nc: {l: 3, <<: *x}\nd: {<<: [{k: 4}, *x]}\n", "a").data
    assert (read["b"], read["c"], read["d"]) == ({"k": [1], "l": 2}, {"k": [1], "l": 3}, {"k": 4, "l": 2})
    read["a"]["k"].append(9)
    assert read["b"]["k"] == [1]  # no part is another one's


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]),
        f"a: &a {'x' * 1000}\nb: [{', '.join(['*a'] * 1000)}]",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        "[" * 100_000,
        "- " * 5000 + "x",
        "x" * (MAX_SIZE + 1),
    ],
)
def test_what_is_or_becomes_too_large_is_refused(text: str) -> None:
    assert "more" in complaint(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 1\n---\nseed: 2\n", "a.yaml, line 2, column 1: must be YAML, got a second document (---); "),
        ("a:\n\tb: 1\n", "a.yaml, line 2, column 1: must be YAML, got found character '\\t'"),
        ("a: 1\nb: \0", "a.yaml, line 2: must be YAML, got the character '\\x00'; "),
        ("a: [1", "a.yaml, line 1, column 6: must be YAML, got "),
        ("a: *b", "a.yaml, line 1, column 4: must be YAML, got found undefined alias 'b'"),
        ('a: "\\UFFFFFFFF"', "a.yaml: must be YAML, got "),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str, told: str) -> None:
    assert complaint(text).startswith(told)


def test_line_ends_a_byte_order_mark_and_a_document_mark_change_nothing() -> None:
    for text in ("\ufeffa: 1\nb: [2]\n", "a: 1\r\nb: [2]\r\n", "---\na: 1\nb: [2]\n...\n", '{\n"a": 1, "b": [2]}'):
        assert parse_yaml(text, "a").data == {"a": 1, "b": [2]}


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(-MAX_INT, MAX_INT),
        lambda x: st.lists(x) | st.dictionaries(st.text(max_size=50), x),
        max_leaves=10,
    )
)  # fmt: skip
def test_json_is_read_as_json(data: Any) -> None:
    assert parse_yaml(json.dumps(data), "a").data == data


def test_lines_are_those_of_the_keys() -> None:
    lines = parse_yaml("# head\na:\n  b: 1\n\n  c:\n    - x: 1\nd: {<<: {e: 1}, f: 2}\n", "a").lines
    assert {key: lines[key] for key in ("a", "a.b", "a.c", "a.c.0.x", "d", "d.e", "d.f")} == {
        "a": 2, "a.b": 3, "a.c": 5, "a.c.0.x": 6, "d": 7, "d.e": 7, "d.f": 7,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["#ff0000", "a #b", "[1] # c", "# only"])
def test_a_value_has_no_comment(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set x: must hold no comment, got .*; quote"):
        parse_yaml_value(text, "x")


@pytest.mark.parametrize(
    "text",
    ["-", "- 1", "- a\n- b", "a: 1", "? a", "&x 1", "[&x 1]", "[&x 1, *x]", "--- 1", "a\n  b", "'a\n b'", "|\n a"],
)
def test_a_value_is_a_scalar_or_has_brackets(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set x: must be a scalar, .*; write \[1, 2\] .* --set 'x="):
        parse_yaml_value(text, "x")


@pytest.mark.parametrize("text", ["!!str 1", "!!float 1", "[!!str 1]", "!mine x", "! x"])
def test_a_value_has_no_tag(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set x: must be plain data, got !.*; write the value without a tag"):
        parse_yaml_value(text, "x")


def test_json_may_be_indented_with_tabs() -> None:
    data = {"a": [1, {"b": "x\ty"}]}
    assert parse_yaml(json.dumps(data, indent="\t"), "a").data == data
    assert parse_yaml_value(json.dumps(data, indent="\t"), "x").data == data
    told = complaint('{\n\t"a": 1,\n\t"a": 2\n}')
    assert told == "a.yaml, line 3: a: must be there once, got it here and in line 2; remove one"
    assert complaint("{\n\ta: 1}").endswith("indent with spaces")


def test_no_message_repeats_what_may_be_a_secret() -> None:
    assert "0123" not in complaint("llm: {api_key: 0123}")
    for text in ("0123", "[0123", "0123 #x"):
        with pytest.raises(ConfigError) as caught:
            parse_yaml_value(text, "llm.default.api_key")
        assert "123" not in str(caught.value)
