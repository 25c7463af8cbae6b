"""A recorded question asked again: the same evidence through another prompt or another model.

It is asked as in a run: the role's own question, budget, retries, the repair turn, validation of the raw text. Only
fallbacks are left out, which would answer in the place of the model that is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.tools import BaseTool

from ..errors import ConfigError, ModelAnswerError
from ..prompts.bounded import off_the_loop
from ..rl.signals.preview import SignalPreview
from .config import LLMConfig, ModelConfig, Role
from .critic import critic_question
from .generator import generator_question
from .llm.ledger import Call, Place
from .llm.model_call import Question, ledger_message
from .llm.models import RoleModel, role_template
from .llm.rate_limits import CallBudget
from .llm.secrets import key_variable_names
from .prompt_payload import Payload
from .race_rules import RaceRules
from .ranker import ranker_question
from .replay_results import Rebuilt, Replay, Side
from .schemas import Proposal

NOT_RECORDED = (
    "refused: this question is asked again from what was recorded, and this tool call was not made then; answer from "
    "what you have"
)


@dataclass(frozen=True)
class RecordedQuestion:
    """A question of a run, with what the node of the role had when it asked.

    Attributes:
        place: the adaptation point and round.
        payload: what the prompt showed.
        calls: ledger rows of this turn and the turns after it.
        candidates: most proposals that the Generator was asked for.
        race: how proposals raced, which Generator and Ranker were told; None where the gate judged signals.
        proposals: what the Ranker had to order, by id.
        previews: their numbers, by id.
        conversation, calls_left: of the Critic, up to this turn.
        tool_answers: what tools answered in this intervention, by `tool_key`.
    """

    place: Place
    payload: Payload
    calls: tuple[Call, ...]
    candidates: int = 0
    race: RaceRules | None = None
    proposals: Mapping[str, Proposal] = field(default_factory=dict)
    previews: Mapping[str, SignalPreview] = field(default_factory=dict)
    conversation: tuple[BaseMessage, ...] = ()
    calls_left: int = 0
    tool_answers: Mapping[str, str] = field(default_factory=dict)

    @property
    def first(self) -> Call:
        return self.calls[0]


def tool_key(name: str, args: Mapping[str, Any]) -> str:
    """Return a key that is the same for the same tool call."""
    return f"{name} {json.dumps(args, sort_keys=True)}"


async def replay_question(
    recorded: RecordedQuestion,
    recorded_config: LLMConfig,
    new_config: LLMConfig,
    budget: CallBudget,
    tools: Sequence[BaseTool] = (),
    chat: BaseChatModel | None = None,
) -> Replay:
    """Ask again and compare. A model that fails or answers nonsense is a result and not an error.

    Args:
        recorded: the question.
        recorded_config: the run's config.
        new_config: the config to ask by, which may be the same.
        budget: limits of the replay.
        tools: the Critic's. They are never run: a call that was recorded gets its recorded answer, any other is
            refused.
        chat: a chat model that the user has built, in place of the one that `new_config` names.

    Raises:
        ConfigError: the prompt template is broken, or provider, model or key cannot be used.
    """
    role, calls = recorded.first.role, list[Call]()
    rebuilt = await off_the_loop(_rebuilt, recorded, recorded_config, tools)
    template = await off_the_loop(role_template, new_config, role)

    # The model that answered in the run, which may be a fallback; where another one is to be asked, the role's first.
    chain = new_config.chain(role)
    is_same = chat is None and chain == recorded_config.chain(role)
    config = chain[recorded.calls[-1].fallback if is_same else 0].model_copy(update={"fallback": ()})

    model = RoleModel(role, config, budget, calls.append, template, chat, key_variable_names(new_config))
    try:
        async with aclosing(model):
            await _ask_to_the_end(recorded, model, tools)
    except ModelAnswerError as error:
        if calls:
            after = Side.of(calls)
        else:  # nobody was asked
            after = Side.of([_unasked_row(recorded, model, error)]).model_copy(update={"attempts": 0})
    else:
        after = Side.of(calls)
    path = new_config.prompt_path(role)
    return Replay.of(recorded.first, None if path is None else str(path), rebuilt, Side.of(recorded.calls), after)


def changed_config(config: LLMConfig, role: Role, prompt: Path | None = None, model: str | None = None) -> LLMConfig:
    """Return `config` with another template, or another model at the provider of `role`.

    Raises:
        ConfigError: a model is named for the embedded rules.
    """
    if prompt is not None:
        config = config.model_copy(update={"prompts": config.prompts.model_copy(update={role: prompt})})
    if model is None:
        return config
    current = config.for_role(role)
    if current.provider == "rules":
        raise ConfigError(
            f"--model: needs a provider that has models, got {model!r} for 'rules', which has none; add "
            f"--set llm.{role}.provider=<its provider>"
        )
    changed = current.model_copy(update={"model": model, "price": None})  # the price was another model's
    return config.model_copy(update={role: changed})


async def _ask_to_the_end(recorded: RecordedQuestion, model: RoleModel, tools: Sequence[BaseTool]) -> None:
    """Ask until there is an answer. The Critic's tool calls are looked up, as often as the run allowed."""
    question = recorded
    while True:
        answered = await model.ask(await off_the_loop(_question, question, model, tools))
        if answered.parsed is not None:
            return
        # Every call gets an answer, or the conversation would be none for the provider.
        results = []
        for call in answered.message.tool_calls:
            answer = recorded.tool_answers.get(tool_key(call["name"], call["args"]))
            results.append(
                ToolMessage(
                    NOT_RECORDED if answer is None else answer,
                    name=call["name"],
                    tool_call_id=str(call["id"]),
                    status="error" if answer is None else "success",
                )
            )
        conversation = (*question.conversation, answered.message, *results)
        calls_left = max(question.calls_left - len(results), 0)
        question = replace(question, conversation=conversation, calls_left=calls_left)


def _question(recorded: RecordedQuestion, model: RoleModel, tools: Sequence[BaseTool]) -> Question[Any]:
    """Return the role's question. Raises ModelAnswerError where the template fails on its evidence."""
    role = recorded.first.role
    if role == "generator":
        question = generator_question(model, recorded.place, recorded.payload, recorded.candidates, recorded.race)
        return replace(question, temperature=recorded.first.temperature)
    if role == "ranker":
        return ranker_question(
            model, recorded.place, recorded.payload, recorded.proposals, recorded.race, recorded.previews
        )
    return critic_question(model, recorded.place, recorded.payload, recorded.conversation, tools, recorded.calls_left)


def _unasked_row(recorded: RecordedQuestion, model: RoleModel, error: ModelAnswerError) -> Call:
    """Return a row for a question that never left: the template failed on this evidence."""
    front, config = model.template.front, model.config
    return recorded.first.model_copy(
        update={
            "prompt_id": front.id, "prompt_hash": model.template.sha256, "messages": [], "provider": config.provider,
            "model": config.model or config.provider, "raw": "", "parsed": None, "outcome": "error",
            "error": str(error), "error_class": type(error).__name__, "input_tokens": None, "output_tokens": None,
            "latency_s": 0.0, "charged_tokens": 0, "cost_usd": None, "fallback": 0,
        }
    )  # fmt: skip


def _rebuilt(recorded: RecordedQuestion, config: LLMConfig, tools: Sequence[BaseTool]) -> Rebuilt:
    """Compare the recorded messages with those that the run's own template makes of the recorded evidence."""

    def record(_: Call) -> None:
        raise AssertionError("a question that is only compared is not asked")

    # With the run's own template, and without a model: nobody is asked.
    first = recorded.first
    try:
        template = role_template(config, first.role)
        model = RoleModel(first.role, ModelConfig(), CallBudget(config.limits), record, template)
        messages = [ledger_message(message) for message in _question(recorded, model, tools).messages()]
    except (ConfigError, ModelAnswerError) as error:
        return Rebuilt(same=False, note=f"the recorded messages could not be made again: {error}")
    # The template's file has changed since.
    if template.sha256 != first.prompt_hash:
        return Rebuilt(
            same=False,
            note=f"prompt {first.prompt_id!r} was another text then (hash {first.prompt_hash[:12]}, now "
            f"{template.sha256[:12]}): the recorded answer was to other words about the same evidence",
        )
    if messages == first.messages:
        return Rebuilt(same=True)
    # The first message that differs; where one list is longer, the end of the shorter one.
    position = next(
        (i for i, (new, old) in enumerate(zip(messages, first.messages, strict=False)) if new != old),
        min(len(messages), len(first.messages)),
    )
    return Rebuilt(
        same=False,
        note=f"message {position} of {len(first.messages)} is not as it was recorded: this version of cosignal shows "
        "other evidence to models, so that the answers are not to the same question",
    )
