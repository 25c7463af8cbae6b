"""A role's models: validation, the repair turn, limits, the ledger, and the checks before a run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.config import LimitsConfig, LLMConfig, ModelConfig, PriceConfig, PromptPaths
from cosignal.agents.critic import diagnose
from cosignal.agents.llm import retry
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.llm.model_call import Answered, Question
from cosignal.agents.llm.models import RoleModel, build_models, check_models, model_problems
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.prompt_payload import build_payload
from cosignal.agents.schemas import Diagnosis
from cosignal.config.run_config import RunConfig
from cosignal.errors import BudgetExhausted, ConfigError, InvalidAnswer, ModelAnswerError, ProviderError
from cosignal.graphs.session.checks import check_before_start
from cosignal.prompts import Rendered
from cosignal.rl.envs.probe import probe_task
from cosignal.rl.evidence.schema import Evidence
from cosignal.testing import ScriptedChatModel, role_model, stuck_evidence
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_S", 0.001)


PROMPT = Rendered("critic/v1", "0" * 64, "role: critic", "What is wrong?")
GOOD = json.dumps(
    {"findings": [{"failure": "plateau", "cites": ["sparse.trend"], "explanation": "flat"}], "advice": ""}
)


@tool
def look(what: str) -> str:
    """Look at something."""
    return what


def question(**more: Any) -> Question[Diagnosis]:
    return Question(Place(16, 1), PROMPT, Diagnosis, **more)


async def ask(script: list[Any], rows: list[Call] | None = None, **more: Any) -> Answered[Diagnosis]:
    rows = [] if rows is None else rows
    return await role_model("critic", script, record=rows.append).ask(question(**more))


async def test_a_valid_answer_is_parsed_and_recorded() -> None:
    rows: list[Call] = []
    reply = AIMessage(GOOD, usage_metadata={"input_tokens": 7, "output_tokens": 5, "total_tokens": 12})
    answered = await ask([reply], rows)
    assert answered.parsed == Diagnosis.model_validate_json(GOOD)
    assert answered.calls == tuple(rows)
    row = rows[0]
    assert (row.id, row.outcome, row.attempt, row.raw) == ("p16-r1-critic-t0-a0", "ok", 0, GOOD)
    assert (row.input_tokens, row.output_tokens) == (7, 5)
    assert row.parsed == json.loads(GOOD)
    assert row.messages == [
        {"role": "system", "content": "role: critic"},
        {"role": "human", "content": "What is wrong?"},
    ]


async def test_a_markdown_fence_is_taken_off() -> None:
    assert (await ask([f"```json\n{GOOD}\n```"])).parsed is not None


async def test_thoughts_before_and_words_around_an_answer_are_taken_off() -> None:
    for said in (f"<think>so {{x}}\n```</think>\n{GOOD}", f"Here it is:\n```json\n{GOOD}\n```\nGood luck!",
                 f"<think>a</think>Here:\n```\n{GOOD}\n```", f"<think>a</think><think>b</think>{GOOD}"):  # fmt: skip
        assert (await ask([said])).parsed is not None
    with pytest.raises(InvalidAnswer):  # thoughts are not read
        await ask([f"<think>{GOOD}"] * 2)


async def test_an_invalid_answer_is_repaired_once_with_its_error() -> None:
    rows: list[Call] = []
    model = role_model("critic", ["not json", GOOD], record=rows.append)
    answered = await model.ask(question())
    assert answered.parsed is not None
    assert [row.outcome for row in rows] == ["invalid", "repaired"]
    assert [row.id[-2:] for row in rows] == ["a0", "a1"]
    assert isinstance(model.chat, ScriptedChatModel)
    second = model.chat.seen[1]
    assert second[2].text == "not json"
    assert rows[0].error is not None
    assert rows[0].error in second[3].text


async def test_an_answer_that_stays_invalid_is_a_typed_error_with_the_raw_text() -> None:
    rows: list[Call] = []
    with pytest.raises(InvalidAnswer, match="Diagnosis") as caught:
        await ask(["not json", '{"findings": []}'], rows)
    assert caught.value.raw == '{"findings": []}'
    assert [row.outcome for row in rows] == ["invalid", "invalid"]


async def test_semantic_problems_are_repaired_like_syntax() -> None:
    rows: list[Call] = []
    complaints = [["cites nothing that exists"], []]
    answered = await ask([GOOD, GOOD], rows, problems=lambda parsed: complaints.pop(0))
    assert answered.parsed is not None
    assert rows[0].error == "cites nothing that exists"


async def test_tool_calls_are_handed_back_and_the_turn_counts() -> None:
    rows: list[Call] = []
    call = AIMessage("", tool_calls=[{"name": "look", "args": {"what": "x"}, "id": "1", "type": "tool_call"}])
    answered = await ask([call], rows, tools=(look,))
    assert answered.parsed is None
    assert answered.message.tool_calls[0]["args"] == {"what": "x"}
    assert rows[0].outcome == "tool_call"
    conversation = (answered.message, ToolMessage("x", tool_call_id="1", name="look"))
    await ask([GOOD], rows, tools=(look,), conversation=conversation)
    assert rows[1].id == "p16-r1-critic-t1-a0"
    assert rows[1].messages[2]["tool_calls"] == [{"name": "look", "args": {"what": "x"}}]
    assert rows[1].messages[3]["tool"] == "look"


@pytest.mark.parametrize(
    ("said", "tools", "told"),
    [
        (AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}]), (),
         "no tool call is left; answer with the JSON object"),
        (AIMessage("", invalid_tool_calls=[{"name": "look", "args": "{", "id": "1", "error": None}]), (look,),
         "('look') are no JSON object"),
        (AIMessage(" ", response_metadata={"done_reason": "stop"}), (), "is empty (finish_reason 'stop')"),
        (AIMessage(""), (look,), "is empty (finish_reason 'not given')"),
    ],
)  # fmt: skip
async def test_a_reply_without_words_is_told_what_it_lacks(said: AIMessage, tools: Any, told: str) -> None:
    rows: list[Call] = []
    assert (await ask([said, GOOD], rows, tools=tools)).parsed is not None
    assert [row.outcome for row in rows] == ["invalid", "repaired"]
    assert told in (rows[0].error or "")
    assert told in rows[1].messages[-1]["content"]


async def test_a_slow_provider_is_asked_again_and_then_a_typed_error() -> None:
    rows: list[Call] = []
    model = role_model("critic", [30.0] * 3, record=rows.append, timeout_s=0.01)
    with pytest.raises(ProviderError, match="timeout_s"):
        await model.ask(question())
    assert [(row.outcome, row.error_class) for row in rows] == [("error", "TimeoutError")] * 3


async def test_a_failing_provider_is_a_typed_error_that_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    rows: list[Call] = []
    config = ModelConfig(provider="scripted", model="s", api_key_env="MY_KEY")
    chat = ScriptedChatModel(script=[RuntimeError("wrong key sk-very-secret")])
    model = RoleModel("critic", config, CallBudget(LimitsConfig()), rows.append, chat=chat)
    with pytest.raises(ProviderError, match=r"wrong key \*\*\*"):
        await model.ask(question())
    assert "sk-very-secret" not in rows[0].model_dump_json()


async def test_the_budget_of_calls_is_hard_and_survives_a_resume() -> None:
    rows: list[Call] = []
    model = role_model("critic", [GOOD, GOOD], LimitsConfig(calls=1), rows.append)
    await model.ask(question())
    with pytest.raises(BudgetExhausted, match="calls"):
        await model.ask(question())
    assert [(row.outcome, row.error_class) for row in rows] == [("ok", None), ("budget", "BudgetExhausted")]
    resumed = RoleModel("critic", ModelConfig(), CallBudget(LimitsConfig(calls=5), calls=5), rows.append)
    with pytest.raises(BudgetExhausted, match="5 of 5"):
        await resumed.ask(question())


async def test_a_budget_that_ends_within_a_question_ends_it_and_asks_no_fallback() -> None:
    rows: list[Call] = []
    config = ModelConfig(provider="scripted", model="s", fallback=(ModelConfig(),))
    chat = ScriptedChatModel(script=["no", GOOD])
    model = RoleModel("critic", config, CallBudget(LimitsConfig(calls=1)), rows.append, chat=chat)
    with pytest.raises(BudgetExhausted):
        await model.ask(question())
    assert [row.outcome for row in rows] == ["invalid", "budget"]


async def test_tokens_are_counted_and_estimated_where_a_provider_does_not_say() -> None:
    rows: list[Call] = []
    # a call reserves four characters a token of its prompt (26) and the longest answer that is allowed
    config = ModelConfig(provider="scripted", model="s", max_output_tokens=1000)
    budget = CallBudget(LimitsConfig(tokens=6 + 1000))
    model = RoleModel("critic", config, budget, rows.append, chat=ScriptedChatModel(script=[GOOD]))
    await model.ask(question())
    # four characters a token: system 12, user 14, answer
    assert model.budget.tokens == rows[0].charged_tokens == (12 + 14 + len(GOOD)) // 4
    assert rows[0].cost_usd is None
    with pytest.raises(BudgetExhausted, match="tokens"):
        await model.ask(question())


async def test_money_is_counted_where_a_price_is_known() -> None:
    rows: list[Call] = []
    price = PriceConfig(input=1_000, output=2_000)
    config = ModelConfig(provider="scripted", model="s", price=price, max_output_tokens=1000)
    reply = AIMessage(GOOD, usage_metadata={"input_tokens": 700, "output_tokens": 500, "total_tokens": 1200})
    budget = CallBudget(LimitsConfig(usd=4.0))
    model = RoleModel("critic", config, budget, rows.append, chat=ScriptedChatModel(script=[reply, reply]))
    await model.ask(question())
    assert rows[0].cost_usd == budget.usd == pytest.approx(1.7)  # 0.7 + 1.0
    await model.ask(question())  # reserves 2.006 of the 2.3 that are left
    assert budget.usd == pytest.approx(3.4)
    with pytest.raises(BudgetExhausted, match=r"llm\.limits\.usd has no room"):
        await model.ask(question())
    resumed = CallBudget(LimitsConfig(usd=4.0), 2, 2400, 4.0)
    with pytest.raises(BudgetExhausted, match=r"llm\.limits\.usd is reached"):
        await RoleModel("critic", config, resumed, rows.append, chat=ScriptedChatModel(script=[reply])).ask(question())


async def test_a_chat_model_of_the_users_own_is_not_called_rules() -> None:
    rows: list[Call] = []
    chat = ScriptedChatModel(script=[GOOD])
    await RoleModel("critic", ModelConfig(), CallBudget(LimitsConfig()), rows.append, chat=chat).ask(question())
    assert (rows[0].provider, rows[0].cost_usd) == ("scripted", None)


@pytest.mark.parametrize("text", ['{"findings": "\\ud800"}', "[" * 5_000, "NaN", ""])
async def test_nasty_texts_are_invalid_answers(text: str) -> None:
    with pytest.raises(InvalidAnswer):
        await ask([text, text])


def test_models_are_built_late_and_checked_early(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_SUCH_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    budget = CallBudget(LimitsConfig())
    broken = LLMConfig(generator=ModelConfig(provider="openai", model="m", api_key_env="NO_SUCH_KEY"))
    build_models(broken, budget, lambda call: None)
    with pytest.raises(ConfigError, match=r"llm \(generator\): .*'NO_SUCH_KEY'.*export NO_SUCH_KEY"):
        check_models(broken)
    check_models(broken, prebuilt=["generator"])
    with pytest.raises(ConfigError, match="needs a model"):
        check_models(LLMConfig(default=ModelConfig(provider="openai")))
    with pytest.raises(ConfigError, match="no_such_provider"):
        check_models(LLMConfig(default=ModelConfig(provider="no_such_provider", model="m")))
    with pytest.raises(ConfigError, match=r"llm \(critic, generator, ranker\): .*'OPENAI_API_KEY'.*or name another"):
        check_models(LLMConfig(default=ModelConfig(provider="openai", model="m")))
    check_models(LLMConfig())


def test_every_problem_of_a_chain_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    not_installed = ModelConfig(provider="groq", model="m", base_url="http://127.0.0.1:1")
    chain = ModelConfig(fallback=(not_installed, ModelConfig(provider="openai")))
    config = LLMConfig(ranker=chain, prompts=PromptPaths(critic=tmp_path / "none.md"))
    (critic, no_file), (one, no_package), (two, no_model) = model_problems(config)
    assert (critic, one, two) == ("critic", "ranker", "ranker")
    assert "none.md" in no_file
    assert no_package.startswith("fallback 0: ")
    assert "pip install langchain-groq" in no_package
    assert no_model.startswith("fallback 1: ")
    assert "needs a model" in no_model


def template(tmp_path: Path, variables: str, user: str) -> Path:
    path = tmp_path / "mine.md"
    front = f"id: mine\nversion: v9\nrole: critic\nvariables: {variables}\noutput_schema: Diagnosis"
    path.write_text(f"---\n{front}\n---\n## system\nrole: critic\n## user\n{user}\n", encoding="utf-8")
    return path


async def test_a_template_of_the_users_own_is_used_and_its_hash_is_in_the_ledger(tmp_path: Path) -> None:
    rows: list[Call] = []
    path = template(tmp_path, "[block]", "Mine:\n{{ block | fenced }}")
    config = LLMConfig(prompts=PromptPaths(critic=path))
    check_models(config)
    models = build_models(config, CallBudget(LimitsConfig()), rows.append)
    await diagnose(models.critic, Place(3), build_payload(Evidence.model_validate(stuck_evidence())))
    assert rows[0].prompt_id == "mine"
    assert rows[0].prompt_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert rows[0].messages[1]["content"].startswith("Mine:\n```json")


@pytest.mark.parametrize(
    ("variables", "user", "complaint"),
    [
        ("[stage]", "{{ stage }}", "must declare 'block'"),
        ("[block, secrets]", "{{ block }} {{ secrets }}", r"got \['block', 'secrets'\]"),
        ("[block]", "{{ block | no_such_filter }}", "no valid jinja2"),
    ],
)
def test_a_template_that_cannot_serve_is_refused_before_the_run(
    tmp_path: Path, variables: str, user: str, complaint: str
) -> None:
    config = LLMConfig(prompts=PromptPaths(critic=template(tmp_path, variables, user)))
    with pytest.raises(ConfigError, match=complaint):
        check_models(config)
    with pytest.raises(ConfigError, match=complaint):
        build_models(config, CallBudget(LimitsConfig()), lambda call: None)


async def test_a_template_that_fails_on_the_data_is_a_failure_to_answer(tmp_path: Path) -> None:
    """It ends the intervention and not the run."""
    config = LLMConfig(prompts=PromptPaths(critic=template(tmp_path, "[block]", "{{ block.no_such_field }}")))
    models = build_models(config, CallBudget(LimitsConfig()), lambda call: None)
    with pytest.raises(ModelAnswerError, match="nobody was asked"):
        await diagnose(models.critic, Place(3), build_payload(Evidence.model_validate(stuck_evidence())))


class GivenChat(FakeListChatModel):
    max_retries: int | None = None


@pytest.mark.parametrize("retries", [None, 2])
def test_a_given_chat_model_must_not_retry_by_itself(retries: int | None, tmp_path: Path) -> None:
    chat = GivenChat(responses=[], max_retries=retries)
    config = RunConfig(run_dir=tmp_path)
    task = probe_task(config.task)
    with pytest.raises(ConfigError, match=rf"chat_models\['critic'\] retries by itself \(max_retries {retries}\).*=0"):
        check_before_start(config, task, {"critic": chat})
    check_before_start(config, task, {"critic": GivenChat(responses=[], max_retries=0)})
    check_before_start(config, task, {"critic": FakeListChatModel(responses=[])})
