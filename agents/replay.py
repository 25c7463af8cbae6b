"""A recorded question asked again: the same evidence through another prompt or another model.

Everything goes the way that it goes in a run: the role's own question, the door, retries, the repair turn, validation
of the raw text. Only fallbacks are left out, which would answer in the place of the model that is looked at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool

from ..errors import ConfigError, ModelAnswerError
from .config import LLMConfig, ModelConfig, Role
from .critic import critic_question
from .generator import generator_question
from .llm.ledger import Call, Place
from .llm.model_call import Question, plain
from .llm.models import RoleModel, role_template
from .llm.rate_limits import CallBudget
from .llm.secrets import key_variable_names
from .ranker import ranker_question
from .replay_results import Rebuilt, Replay, Side
from .schemas import Proposal

NOT_RECORDED = (
    "refused: this question is asked again from what was recorded, and this tool call was not made then; answer from "
    "what you have"
)


@dataclass(frozen=True)
class RecordedQuestion:
    """What the node of the role knew when it asked. `calls`: ledger rows of this turn and the turns after it.

    `candidates`: most proposals that the Generator was asked for. `proposals`: what the Ranker had to order, by id.
    `conversation`, `calls_left`: of the Critic, up to this turn. `tool_answers`: what tools answered in this
    intervention, by `tool_key`.
    """

    place: Place
    context: dict[str, Any]
    calls: tuple[Call, ...]
    candidates: int = 0
    proposals: Mapping[str, Proposal] = field(default_factory=dict)
    conversation: tuple[BaseMessage, ...] = ()
    calls_left: int = 0
    tool_answers: Mapping[str, str] = field(default_factory=dict)

    @property
    def first(self) -> Call:
        return self.calls[0]


def tool_key(name: str, args: Mapping[str, Any]) -> str:
    """The same for the same call."""
    return f"{name} {json.dumps(args, sort_keys=True)}"


async def replay_question(
    asked: RecordedQuestion,
    own: LLMConfig,
    new: LLMConfig,
    door: CallBudget,
    tools: Sequence[BaseTool] = (),
    chat: BaseChatModel | None = None,
) -> Replay:
    """Ask again and compare. `own`: the run's config; `new`: the one to ask by, which may be the same. `tools`: the
    Critic's; they are never run: what was recorded is answered, and everything else refused. `chat`: a chat model that
    somebody has built, in place of what `new` names.

    A model that fails or answers nonsense is a result and not an error.

    Raises:
        ConfigError: the prompt template is broken, or provider, model or key cannot be used.
    """
    role, calls = asked.first.role, list[Call]()
    rebuilt = await asyncio.to_thread(_rebuilt, asked, own, tools)  # reads the template's file
    template = await asyncio.to_thread(role_template, new, role)
    config = model_config(asked, own, new, chat is not None)
    model = RoleModel(role, config, door, calls.append, template, chat, key_variable_names(new))
    after = await _ask(asked, model, tools, calls)
    path = new.prompt_path(role)
    return Replay.of(asked.first, None if path is None else str(path), rebuilt, Side.of(asked.calls), after)


# ---------------------------------------------------------------- who is asked


def changed(config: LLMConfig, role: Role, prompt: Path | None = None, model: str | None = None) -> LLMConfig:
    """`config` with another template, or another model at the provider of `role`.

    Raises:
        ConfigError: a model is named for the embedded rules.
    """
    if prompt is not None:
        config = config.model_copy(update={"prompts": config.prompts.model_copy(update={role: prompt})})
    if model is None:
        return config
    now = config.for_role(role)
    if now.provider == "rules":
        raise ConfigError(
            f"--model: needs a provider that has models, got {model!r} for 'rules', which has none; add "
            f"--set llm.{role}.provider=<its provider>"
        )
    named = now.model_copy(update={"model": model, "price": None})  # the price was another model's
    return config.model_copy(update={role: named})


def model_config(asked: RecordedQuestion, own: LLMConfig, new: LLMConfig, given: bool) -> ModelConfig:
    """The model that is asked, without fallbacks: the one that had answered in the run, a fallback maybe; the role's
    first one where `new` has other models, or one is `given`."""
    chain = new.chain(asked.first.role)
    same = not given and chain == own.chain(asked.first.role)
    return chain[asked.calls[-1].fallback if same else 0].model_copy(update={"fallback": ()})


# ---------------------------------------------------------------- asking


def question_of(asked: RecordedQuestion, model: RoleModel, tools: Sequence[BaseTool]) -> Question[Any]:
    """The role's question from this evidence. Raises ModelAnswerError where the template fails on it."""
    role = asked.first.role
    if role == "generator":
        return generator_question(model, asked.place, asked.context, asked.candidates)
    if role == "ranker":
        return ranker_question(model, asked.place, asked.context, asked.proposals)
    return critic_question(model, asked.place, asked.context, asked.conversation, tools, asked.calls_left)


async def _ask(asked: RecordedQuestion, model: RoleModel, tools: Sequence[BaseTool], calls: list[Call]) -> Side:
    try:
        await _answered(asked, model, tools)
    except ModelAnswerError as error:
        if not calls:
            return Side.of([_unasked(asked, model, error)]).model_copy(update={"attempts": 0})
    return Side.of(calls)


async def _answered(asked: RecordedQuestion, model: RoleModel, tools: Sequence[BaseTool]) -> None:
    """Until there is an answer; what the Critic asks of tools is looked up, as often as the run let it."""
    conversation, left = asked.conversation, asked.calls_left
    while True:
        now = RecordedQuestion(
            asked.place, asked.context, asked.calls, asked.candidates, asked.proposals, conversation, max(left, 0)
        )
        answered = await model.ask(question_of(now, model, tools))
        if answered.parsed is not None:
            return
        calls = answered.message.tool_calls
        left -= len(calls)
        conversation = (*conversation, answered.message, *(_tool_answer(asked, call) for call in calls))


def _tool_answer(asked: RecordedQuestion, call: ToolCall) -> ToolMessage:
    words = asked.tool_answers.get(tool_key(call["name"], call["args"]))
    status = "error" if words is None else "success"
    content = NOT_RECORDED if words is None else words
    return ToolMessage(content, name=call["name"], tool_call_id=str(call["id"]), status=status)


def _unasked(asked: RecordedQuestion, model: RoleModel, error: ModelAnswerError) -> Call:
    """A row for a question that never left: the template failed on this evidence."""
    front, config = model.template.front, model.config
    return asked.first.model_copy(
        update={
            "prompt_id": front.id, "prompt_hash": model.template.sha256, "messages": [], "provider": config.provider,
            "model": config.model or config.provider, "raw": "", "parsed": None, "outcome": "error",
            "error": str(error), "error_class": type(error).__name__, "input_tokens": None, "output_tokens": None,
            "latency_s": 0.0, "charged_tokens": 0, "cost_usd": None, "fallback": 0,
        }
    )  # fmt: skip


# ---------------------------------------------------------------- is it the same question?


def _rebuilt(asked: RecordedQuestion, config: LLMConfig, tools: Sequence[BaseTool]) -> Rebuilt:
    """Whether the run's own template makes the recorded messages of this evidence."""
    first = asked.first
    try:
        template = role_template(config, first.role)
        model = RoleModel(first.role, ModelConfig(), CallBudget(config.limits), _nobody, template)
        messages = [plain(message) for message in question_of(asked, model, tools).messages()]
    except (ConfigError, ModelAnswerError) as error:
        return Rebuilt(same=False, note=f"the recorded messages could not be made again: {error}")
    if template.sha256 != first.prompt_hash:
        return Rebuilt(
            same=False,
            note=f"prompt {first.prompt_id!r} was another text then (hash {first.prompt_hash[:12]}, now "
            f"{template.sha256[:12]}): the recorded answer was to other words about the same evidence",
        )
    if messages == first.messages:
        return Rebuilt(same=True)
    place = next(
        (i for i, (new, old) in enumerate(zip(messages, first.messages, strict=False)) if new != old),
        min(len(messages), len(first.messages)),
    )
    return Rebuilt(
        same=False,
        note=f"message {place} of {len(first.messages)} is not as it was recorded: this version of cosignal shows "
        "other evidence to models, so that the answers are not to the same question",
    )


def _nobody(_: Call) -> None:
    raise AssertionError("a question that is only compared is not asked")
