"""Ten thousand generated answers on the path that every answer takes: each is a valid object or `InvalidAnswer`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from cosignal.agents.config import ModelConfig
from cosignal.agents.critic import citation_problems
from cosignal.agents.generator import proposal_problems
from cosignal.agents.llm.endpoint import Endpoint
from cosignal.agents.llm.extract import MAX_ANSWER
from cosignal.agents.llm.parse import MAX_ERROR, MAX_RAW, encodable, json_schema, parse, parse_clipped
from cosignal.agents.prompt_payload import build_payload
from cosignal.agents.ranker import order_problems
from cosignal.agents.schemas import Diagnosis, ProposalRanking, ProposalSet
from cosignal.errors import InvalidAnswer
from cosignal.rl.evidence.schema import Evidence
from cosignal.testing import stuck_evidence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from pydantic import BaseModel, ConfigDict

EXAMPLES = {"diagnosis": 3_000, "proposals": 5_000, "ranking": 2_000}
CONTEXT = build_payload(Evidence.model_validate(stuck_evidence()))
ENDPOINT = Endpoint(ModelConfig(provider="somebody", model="m"))

TERMS = [
    {"name": "near", "kind": "potential", "expression": "-dist_goal / 17", "weight": 1.0, "agents": "all"},
    {"name": "hit", "kind": "event", "event": "switch_triggered", "weight": 0.1, "decay_steps": 300_000},
]
VALID: dict[str, dict[str, Any]] = {
    "diagnosis": {
        "findings": [{"failure": "plateau", "cites": ["sparse.trend", "stage"], "explanation": "flat"}],
        "advice": "reach the door",
    },
    "proposals": {
        "proposals": [
            {"title": "door", "reason": "r", "addresses": ["plateau"], "beta": 0.5, "terms": TERMS,
             "exploration": {"entropy": None, "kick": 0.05}},
        ]
    },
    "ranking": {"kind": "proposals", "order": ["p1-r0-1", "p1-r0-0"], "reason": "r"},
}  # fmt: skip
PARSERS: dict[str, tuple[type[BaseModel], Callable[[Any], list[str]]]] = {
    "diagnosis": (Diagnosis, lambda parsed: citation_problems(parsed, CONTEXT)),
    "proposals": (ProposalSet, lambda parsed: proposal_problems(parsed, CONTEXT, 4)),
    "ranking": (ProposalRanking, lambda parsed: order_problems(parsed, ["p1-r0-0", "p1-r0-1"])),
}

# ---------------------------------------------------------------- answers

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # surrogates and control characters too
NUMBERS = st.sampled_from([0, -1, 10**19, 10**400, -(10**5000), 1e308, float("nan"), float("inf"), -0.0, 5e-324, True])
EXPRESSIONS = st.sampled_from(
    ["(" * 190 + "1", "-" * 399 + "1", "1+" * 190 + "1", "dist_goal.__class__", "exp(exp(exp(99)))", "min()", "x" * 400,
     "dist_goal ** 9", "lambda: 1", "0x_", "1e400 * dist_goal", "max(dist_goal, max_mates(dist_goal))", "", "\x00", "é"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | NUMBERS | ANY_TEXT | EXPRESSIONS
NAMES = st.sampled_from(["findings", "failure", "cites", "proposals", "terms", "kind", "order", "reason", "expression"])
SHAPES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
NESTS = st.builds(
    lambda opening, depth, middle, closes: opening * depth + middle + closes,
    st.sampled_from(["[", '{"findings":', '{"proposals":[', '{"order":[{"a":']),
    st.sampled_from([1, 5, 190, 2_000, 60_000]),
    st.sampled_from(["", "1", "NaN", "null"]),
    st.sampled_from(["", "]" * 190, "]}" * 190, "]" * 2_000]),
)


def paths(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places in plain data, the root apart."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths(value, (*path, key))


def mutants(name: str) -> st.SearchStrategy[str]:
    """Valid answers in which up to three places are replaced, removed, doubled or renamed."""
    places = list(paths(VALID[name]))
    change = st.tuples(st.sampled_from(places), st.sampled_from(["set", "set", "del", "double", "add"]), SHAPES)

    def build(changes: list[tuple[tuple[Any, ...], str, Any]]) -> str:
        answer = deepcopy(VALID[name])
        for path, how, value in changes:
            mutate(answer, path, how, value)
        return json.dumps(answer, ensure_ascii=False)

    return st.lists(change, max_size=3).map(build)


def mutate(answer: Any, path: tuple[Any, ...], how: str, value: Any) -> None:
    for key in path[:-1]:
        if not has(answer, key):
            return
        answer = answer[key]
    key = path[-1]
    if not has(answer, key):
        return
    if how == "del":
        del answer[key]
    elif how == "double" and isinstance(answer, list):
        answer += [answer[key]] * 9
    elif how == "add" and isinstance(answer, dict):
        answer[str(value)[:50]] = value
    else:
        answer[key] = value


def has(data: Any, key: Any) -> bool:
    if isinstance(data, dict):
        return key in data
    return isinstance(data, list) and isinstance(key, int) and key < len(data)


def spoilt(name: str) -> st.SearchStrategy[str]:
    """A valid text that is cut somewhere, or in which some characters are replaced."""
    text = json.dumps(VALID[name])
    place = st.integers(0, len(text))
    return st.builds(lambda a, b, new: text[:a] + new + text[b:], place, place, ANY_TEXT | st.just("")) | place.map(
        lambda end: text[:end]
    )


def answers(name: str) -> st.SearchStrategy[str]:
    whole = SHAPES.map(lambda data: json.dumps(data, ensure_ascii=False))
    plain = st.one_of(mutants(name), mutants(name), spoilt(name), whole, ANY_TEXT, NESTS)
    return plain | plain.map(lambda text: f"```json\n{text}\n```") | plain.map(lambda text: f"Sure! {text}")


@pytest.fixture(scope="module", autouse=True)
def _long_numbers() -> Iterator[None]:
    """Python refuses to print integers of more than 4300 digits; servers do not."""
    import sys

    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(before)


def bounded(error: InvalidAnswer) -> None:
    assert len(str(error)) < 2 * MAX_ERROR
    assert str(error).replace("\n", "").isprintable()
    assert len(error.raw.encode()) < 4 * (MAX_RAW + 100)


@pytest.mark.parametrize(
    ("beta", "weight", "clipped"),
    [
        (0.5, 1.0, []),
        (2.5, 1.0, ["proposals.0.beta: 2.5 was set to 2"]),
        (-1, 1.0, ["proposals.0.beta: -1 was set to 0"]),
        ("2.5", 99, ["proposals.0.beta: 2.5 was set to 2", "proposals.0.terms.0.potential.weight: 99 was set to 10"]),
    ],
)
def test_numbers_beyond_a_bound_are_set_to_it_and_told(beta: Any, weight: float, clipped: list[str]) -> None:
    answer = deepcopy(VALID["proposals"])
    answer["proposals"][0] |= {"beta": beta, "terms": [TERMS[0] | {"weight": weight}]}
    parsed = parse_clipped(json.dumps(answer), ProposalSet)
    assert parsed.clipped == clipped
    [proposal] = parsed.answer.proposals
    assert (proposal.beta, proposal.terms[0].weight) == (min(max(float(beta), 0.0), 2.0), min(weight, 10.0))
    # Beside another mistake nothing is set: the model is told of both.
    del answer["proposals"][0]["title"]
    with pytest.raises(InvalidAnswer, match="title"):
        parse_clipped(json.dumps(answer), ProposalSet)


def test_a_bound_in_a_term_whose_kind_is_also_one_of_its_keys() -> None:
    """The place of an error says `event` for the kind of the term, and `event` holds a name."""
    answer = deepcopy(VALID["proposals"])
    term = {"name": "switch", "kind": "event", "event": "switch_triggered", "weight": 99, "decay_steps": 0}
    answer["proposals"][0]["terms"] = [term]
    parsed = parse_clipped(json.dumps(answer), ProposalSet)
    [kept] = parsed.answer.proposals[0].terms
    assert (kept.weight, kept.decay_steps) == (1.0, 1_000)
    assert len(parsed.clipped) == 2


@pytest.mark.parametrize("name", EXAMPLES)
def test_any_answer_becomes_an_object_or_a_typed_error(name: str) -> None:
    schema, problems = PARSERS[name]
    seen = Counter[str]()

    @settings(
        max_examples=EXAMPLES[name], deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(answers(name))
    def law(text: str) -> None:
        raw = ENDPOINT.read(AIMessage(text), "prompt").text
        try:
            parsed = parse(raw, schema, problems)
        except InvalidAnswer as error:  # anything else fails the test
            seen["invalid"] += 1
            bounded(error)
        else:
            seen["valid"] += 1
            assert isinstance(parsed, schema)
            assert schema.model_validate_json(parsed.model_dump_json()) == parsed
            assert problems(parsed) == []

    law()
    assert seen["valid"] >= 50  # else the law is empty
    assert seen.total() >= EXAMPLES[name]


def test_there_are_ten_thousand() -> None:
    assert sum(EXAMPLES.values()) == 10_000


# ---------------------------------------------------------------- bounds, by hand


def test_an_answer_at_the_limit_is_read_and_one_beyond_is_not() -> None:
    text = json.dumps(VALID["ranking"])
    assert parse(text.ljust(MAX_ANSWER), ProposalRanking).order == ["p1-r0-1", "p1-r0-0"]
    with pytest.raises(InvalidAnswer, match="at most 200000 characters, got 200001"):
        parse(text.ljust(MAX_ANSWER + 1), ProposalRanking)


def test_of_many_mistakes_the_first_are_told() -> None:
    with pytest.raises(InvalidAnswer) as caught:
        parse('{"order": [' + "1," * 50_000 + '1], "reason": ""}', ProposalRanking)
    assert str(caught.value).count("valid string") <= 20
    with pytest.raises(InvalidAnswer) as caught:
        parse(json.dumps({"\x1b" + "k" * 100_000: 1}), ProposalRanking)
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value) and "\\x1b" in str(caught.value)


def test_texts_are_made_fit_to_keep() -> None:
    assert encodable("a\ud83d\ude00\ud800\x00b") == "a\U0001f600\ufffd\ufffdb"


def test_the_shown_schema_requires_the_tags_of_unions_and_has_no_titles() -> None:
    schema = json_schema(ProposalSet)
    assert schema["$defs"]["PotentialTerm"]["required"] == ["kind", "name", "expression"]
    assert "title" not in schema["$defs"]["Signal" if "Signal" in schema["$defs"] else "Exploration"]
    assert "title" in schema["$defs"]["Proposal"]["properties"]  # a field of that name stays

    class Plain(BaseModel):
        model_config = ConfigDict(title="Gone")
        x: int

    assert json_schema(Plain) == {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
