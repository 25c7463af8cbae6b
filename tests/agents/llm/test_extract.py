"""Where an answer is in a model's text: any wrapping of it gives the same object, and no thought is taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from cosignal.agents.llm.extract import MAX_ANSWER, MAX_BROKEN, MAX_WORK, ending_object, find_objects
from cosignal.agents.llm.parse import parse
from cosignal.agents.schemas import Diagnosis
from cosignal.errors import InvalidAnswer
from hypothesis import given, settings
from hypothesis import strategies as st

GOOD = '{"findings": [{"failure": "plateau", "cites": ["stage"], "explanation": "flat"}], "advice": "final"}'
DRAFT = GOOD.replace("final", "draft")

# ---------------------------------------------------------------- the law

MARKS = st.sampled_from(["</think>", "<think>", "```", '{"', "}", "<|channel|>final<|message|>", "<|end|>", '"', "\n"])
TEXTS = st.lists(MARKS | st.text(max_size=5), max_size=6).map("".join)
# Without a colon no words make an object of two.
WORDS = st.text(st.sampled_from('ab {}[]"`,.\\'), max_size=20)


def answer(explanation: str, advice: str) -> str:
    finding = {"failure": "plateau", "cites": ["stage"], "explanation": explanation}
    return json.dumps({"findings": [finding], "advice": advice}, ensure_ascii=False)


ANSWERS = st.builds(answer, TEXTS, TEXTS)
# What a text of an answer is put into, given words and another answer that it is not to be taken for.
WRAPPINGS: dict[str, Callable[[str, str, str], str]] = {
    "bare close": lambda text, words, draft: f"{words}\n{draft}\n</think>\n\n{text}",
    "think": lambda text, words, draft: f"<think>{words} {draft}</think>{text}",
    "thinking": lambda text, words, draft: f"{words}\n<thinking>{draft}\n</thinking>\n{text}",
    "magistral": lambda text, words, draft: f"[THINK]{words} {draft}[/THINK]{text}",
    "seed": lambda text, words, draft: f"<seed:think>{words} {draft}</seed:think>{text}",
    "cohere": lambda text, words, draft: f"<|START_THINKING|>{draft}<|END_THINKING|><|START_RESPONSE|>{text}",
    "channels": lambda text, words, draft: (
        f"<|channel|>analysis<|message|>{words} {draft}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{text}<|return|>"
    ),
    "channels without marks": lambda text, words, draft: f"analysis{words}\n{draft}assistantfinal{text}",
    "words before": lambda text, words, draft: f"{words}\n{text}",
    "words after": lambda text, words, draft: f"{text}\n{words}",
    "fence": lambda text, words, draft: f"Here:\n```json\n{text}\n```\n{words}",
    "draft and final": lambda text, words, draft: f"Draft:\n```json\n{draft}\n```\nFinal:\n```json\n{text}\n```",
    "twice": lambda text, words, draft: f"{text}\n{text}",
    "BOM": lambda text, words, draft: f"\ufeff{text}",
    "list": lambda text, words, draft: f"[{text}]",
}
CALLS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "tool_call": lambda text: f'<tool_call>\n{{"name": "answer", "arguments": {text}}}\n</tool_call>',
    "arguments as text": lambda text: json.dumps({"name": "answer", "arguments": text}),
    "function": lambda text: f'[{{"type": "function", "function": {{"name": "a", "parameters": {text}}}}}]',
}
WRAPPED = st.lists(st.tuples(st.sampled_from(list(WRAPPINGS)), WORDS, ANSWERS), max_size=3)


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(ANSWERS, st.sampled_from(list(CALLS)), WRAPPED)
def test_whatever_is_around_an_answer_it_is_the_same(good: str, call: str, around: list[tuple[str, str, str]]) -> None:
    text = CALLS[call](good)
    for name, words, draft in around:
        text = WRAPPINGS[name](text, words, draft)
    assert parse(text, Diagnosis) == Diagnosis.model_validate_json(good)


@pytest.mark.parametrize("name", WRAPPINGS)
def test_every_wrapping_alone(name: str) -> None:
    assert parse(WRAPPINGS[name](GOOD, "So {x}.", DRAFT), Diagnosis).advice == "final"


# ---------------------------------------------------------------- what is not read


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{GOOD}",  # does not end
        f"<think>{GOOD}</think>",
        f"<think>{GOOD}</think> I cannot say.",
        f"It may be {GOOD}\n</think>\nI am not sure.",
        f"<thinking>a</thinking>Well.<thinking>{GOOD}",
        f"<|channel|>analysis<|message|>{GOOD}<|end|>",
        f'<think>{GOOD}</think>{{"findings": []}}',
        f"{GOOD[:-1]}, }}",  # a comma too many
        GOOD[:-9],
        GOOD.replace('"final"', "NaN"),
        GOOD.replace('"final"', '"a", "advice": "b"'),
        f'{{"diagnosis": {GOOD}}}',
    ],
)
def test_thoughts_and_broken_objects_are_no_answers(text: str) -> None:
    with pytest.raises(InvalidAnswer):
        parse(text, Diagnosis)


def test_the_last_object_of_the_schema_is_the_answer_and_one_with_problems_is_told_of_them() -> None:
    assert parse(f"{DRAFT} or {GOOD} {{}}", Diagnosis).advice == "final"
    with pytest.raises(InvalidAnswer, match="^too vague$"):
        parse(f"{DRAFT} or {GOOD}", Diagnosis, lambda parsed: ["too vague"] if parsed.advice == "final" else [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("I think it is stuck.", "there is no JSON object in it"),
        (f"Here: {GOOD[:-1]}, }} Good luck!", "trailing comma"),
        (f'{{}} {GOOD.replace("plateau", "bored")} {{"a": 1}}', "findings.0.failure: "),
        (GOOD.replace('"advice"', '"findings": [], "advice"'), "key 'findings' is there twice in one object"),
        (f"{GOOD[:-9]}", "EOF while parsing"),
    ],
)
def test_the_error_is_that_of_the_longest_object(text: str, told: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        parse(text, Diagnosis)
    assert told in str(caught.value)


def test_an_object_ends_a_text_or_does_not() -> None:
    assert ending_object(f"I think that {GOOD}") == GOOD
    assert ending_object(f"```json\n{GOOD}\n```\n") == GOOD
    for text in ("", "no", f"{GOOD} or not", f'{GOOD} {{"a": ', f"<think>{GOOD}", GOOD.ljust(MAX_ANSWER) + " "):
        assert ending_object(text) is None


# ---------------------------------------------------------------- hostile texts

HOSTILE = {
    "braces": "{" * MAX_ANSWER,
    "braces and quotes": '{"' * (MAX_ANSWER // 2),
    "keys without values": '{"a"' * (MAX_ANSWER // 4),
    "nested objects": '{"a":' * (MAX_ANSWER // 5),
    "nested lists": '{"a":' + "[" * (MAX_ANSWER - 5),
    "nested calls": '{"name":"a","arguments":' * (MAX_ANSWER // 24),
    "long and broken, again and again": ('{"a":' * 190 + "1 ") * (MAX_ANSWER // 952),
    "long, deep and without an end": '{"a":' * 900 + "[" + "1," * 90_000,
    "empty objects": "{}" * (MAX_ANSWER // 2),
    "blanks": "{" + " " * (MAX_ANSWER - 1),
    "open thoughts": "<think>" * (MAX_ANSWER // 7),
    "closed thoughts": "</think>" * (MAX_ANSWER // 8),
    "half a tag": "<think " * (MAX_ANSWER // 7),
    "fences": "```" * (MAX_ANSWER // 3),
    "a long number": '{"a":' + "1" * (MAX_ANSWER - 6) + "}",
    "a key many times": "{" + ",".join(['"a":1'] * 30_000) + "}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_invalid_answers(name: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        parse(HOSTILE[name], Diagnosis)
    assert len(str(caught.value)) < 500


def test_the_work_in_broken_objects_is_bounded() -> None:
    """Beyond it nothing is found, so that no draft is taken for an answer behind it."""
    many = GOOD + '{"a' * (MAX_BROKEN + 1)
    assert [found.is_whole for found in find_objects(many)] == [False]
    # Each beginning reads to the end of the text.
    long = '{"a":[1,' * 100 + "1," * (MAX_WORK // 200) + GOOD
    assert [found.is_whole for found in find_objects(long)] == [False]
    assert parse('{"a' * (MAX_BROKEN - 1) + "\n" + GOOD, Diagnosis).advice == "final"
