"""The Critic: what is wrong with learning, each finding citing evidence. It may ask for more evidence with tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool

from ..prompts.bounded import off_the_loop
from .evidence_view import analysed, shown, uncitable
from .llm.ledger import Place
from .llm.model_call import Question
from .llm.models import RoleModel
from .llm.parse import json_schema
from .prompt_payload import Payload, pictures, prompt_block
from .rules.critic import thresholds
from .schemas import Diagnosis
from .small_prompts.questions import ask_for_diagnosis, question_of_size


async def diagnose(
    model: RoleModel,
    place: Place,
    payload: Payload,
    conversation: Sequence[BaseMessage] = (),
    tools: Sequence[BaseTool] = (),
    calls_left: int = 0,
) -> Diagnosis | AIMessage:
    """Ask for one turn of the Critic: a diagnosis, or a message with tool calls.

    To a message with tool calls answer all of them (run at most `calls_left`), append both, and call again with that
    many less in `calls_left`; at 0 no tool is offered and the answer is a diagnosis.

    Args:
        model: the Critic's chain of models.
        place: the adaptation point.
        payload: what the prompt shows, from `build_payload`.
        conversation: what followed the prompt so far: the Critic's messages with tool calls, the tools' answers.
        tools: evidence tools.
        calls_left: how many tool calls may still be run.

    Raises:
        ModelAnswerError: see `RoleModel.ask`.
    """
    question = await off_the_loop(critic_question, model, place, payload, conversation, tools, calls_left)
    answered = await model.ask(question)
    return answered.message if answered.parsed is None else answered.parsed


def critic_question(
    model: RoleModel,
    place: Place,
    payload: Payload,
    conversation: Sequence[BaseMessage] = (),
    tools: Sequence[BaseTool] = (),
    calls_left: int = 0,
) -> Question[Diagnosis]:
    """Return the question that `diagnose` asks. Raises ModelAnswerError where the template fails on this data.

    A small prompt offers no tools: small models call them badly, and some servers constrain no answer beside them.
    """
    calls_left = 0 if model.template.is_small else calls_left
    full = {
        "stage": payload["evidence"]["stage"],
        "schema": json_schema(Diagnosis),
        "calls_left": calls_left,
        "block": {**prompt_block(payload), "thresholds": thresholds(payload["evidence"])},
        "pictures": pictures(payload),
    }

    def problems(diagnosis: Diagnosis) -> list[str]:
        return citation_problems(diagnosis, payload) + step_problems(diagnosis, payload)

    question = question_of_size(model, place, Diagnosis, full, lambda: ask_for_diagnosis(payload), problems)
    offered = tuple(tools) if calls_left > 0 else ()
    return replace(question, conversation=tuple(conversation), tools=offered)


def citation_problems(diagnosis: Diagnosis, payload: Payload) -> list[str]:
    """Return a line for every cited key that the evidence does not have, with keys that may have been meant."""
    view = shown(payload["evidence"])
    return [
        f"finding {finding.failure.value!r} cites {cite!r}, which is no path in the evidence; "
        + (f"did you mean one of {meant!r}?" if meant else "cite keys of the evidence block, from its top, with dots")
        for finding in diagnosis.findings
        for cite, meant in uncitable(finding.cites, view).items()
    ]


def step_problems(diagnosis: Diagnosis, payload: Payload) -> list[str]:
    """Return a line where the step at which an episode went wrong is none of an episode that is shown and failed."""
    step, episode = diagnosis.went_wrong_at, analysed(payload["evidence"])
    if step is None:
        return []
    if episode is None:
        return [f"went_wrong_at is {step}, but no episode is shown that did not succeed; answer null"]
    if step > episode["length"]:
        return [
            f"went_wrong_at must be a step of the episode that did not succeed, 1 to {episode['length']}, got {step}"
        ]
    return []
