"""Questions of a run, rebuilt from its tables as the nodes had put them: what came later is not in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from pydantic import ValidationError

from ...agents.config import Role
from ...agents.llm.ledger import Call, Place
from ...agents.prompt_payload import Payload, build_payload
from ...agents.replay import RecordedQuestion, tool_key
from ...agents.schemas import Proposal
from ...config.run_config import RunConfig
from ...errors import PromptTooLong, ReplayError
from ...rl.evidence.schema import Evidence
from ...runs.records import ProposalRecord
from ...runs.run_view import RunView
from ...runs.visits import CallId
from ..history import decided_before, tried_by
from ..library import library_examples
from ..nodes.critic import READING_PART
from ..nodes.fit_signals import TITLES
from ..nodes.rank_transitions import LEARNED_TITLE

SHOWN_IDS = 8  # of known calls, in an error


class RunTables:
    """The tables of a run that questions are rebuilt from, read once.

    Raises:
        NotARunError: there is no run, or one whose rows this version cannot read.
    """

    def __init__(self, view: RunView, config: RunConfig) -> None:
        self.adaptation, self.race = config.adaptation, config.race_rules()
        self.learned = config.learned_signals
        self.examples = library_examples(config)
        # Calls whose ids are of another form were made by no node of the graph.
        self.calls = {call.id: call for call in view.calls() if CallId.of(call) is not None}
        self.interventions = {record.point: record for record in view.interventions()}
        self.decisions = view.decisions()
        self.proposals = view.proposals()
        self.races = view.races()
        self.rankings = {ranking.point: ranking for ranking in view.rankings()}
        self.fits = view.fits()

    def question(self, call_id: str) -> RecordedQuestion:
        """Rebuild the question that the call belongs to, from its turn on; any of its attempts may be named.

        Raises:
            ReplayError: no such call, or one that cannot be asked again.
        """
        call = self.calls.get(call_id)
        if call is not None:
            return self._rebuild(call)
        if not self.calls:
            remedy = "it has made none that can be asked again"
        else:
            more = f", and {len(self.calls) - SHOWN_IDS} more" if len(self.calls) > SHOWN_IDS else ""
            remedy = f"name one of {', '.join(list(self.calls)[:SHOWN_IDS])}{more}"
        raise ReplayError(f"the run has made no call {call_id!r}; {remedy}")

    def questions(self, role: Role) -> tuple[list[RecordedQuestion], dict[str, str]]:
        """Rebuild every question of `role` from its first turn on, in the order they were asked.

        The second value has those that cannot be asked again: id of the first call → reason.
        """
        # A role is asked once a round, or in many parts; the first attempt of the first turn stands for the question.
        first_calls: dict[tuple[int, int, str], Call] = {}
        for call in self.calls.values():
            if call.role == role and _id_of(call).turn == 0:
                first_calls.setdefault((call.point, call.round, _id_of(call).part), call)
        questions: list[RecordedQuestion] = []
        left_out: dict[str, str] = {}
        for call in first_calls.values():
            try:
                questions.append(self._rebuild(call))
            except ReplayError as error:
                left_out[call.id] = str(error)
        return questions, left_out

    # ------------------------------------------------------------ one question

    def _rebuild(self, call: Call) -> RecordedQuestion:
        part = _id_of(call).part
        if part and (call.role == "ranker" or part == READING_PART):
            raise ReplayError(
                f"call {call.id!r} is about single moves, states or steps, whose texts are in no table; replay a call "
                "of the Critic on evidence, of the Generator, or of the Ranker on proposals"
            )
        place, role, calls = Place(call.point, call.round, part), call.role, self._turns(call)
        conversation = _conversation(calls[0].messages) if role == "critic" else ()
        called = sum(len(message.tool_calls) for message in conversation if isinstance(message, AIMessage))
        try:
            payload = self._payload(place, role)
        except (ValidationError, PromptTooLong) as error:
            raise ReplayError(
                f"the evidence behind call {call.id!r} is not of this version of cosignal ({error}); replay with the "
                "version that has made the run"
            ) from error
        # The Ranker was asked about what had passed `check`, and was not one too many.
        passed = [row for row in self._round(place) if not row.problems][: self.adaptation.candidates]
        return RecordedQuestion(
            place=place,
            payload=payload,
            calls=tuple(calls),
            candidates=self._candidates(place) if role == "generator" else 0,
            race=self.race if role in ("generator", "ranker") else None,
            proposals={row.id: row.proposal for row in passed} if role == "ranker" else dict[str, Proposal](),
            previews={row.id: row.preview for row in passed if row.preview is not None},
            conversation=conversation,
            calls_left=max(self.adaptation.evidence_calls - called, 0),
            tool_answers=self._tool_answers(call) if role == "critic" else {},
        )

    def _turns(self, call: Call) -> list[Call]:
        """Return the call's own turn and those that followed.

        What a stop of the run cut off was asked again, so it counts only where there is nothing else.
        """
        turn = _id_of(call).turn
        calls = [other for other in self._same_question(call) if _id_of(other).turn >= turn]
        whole = [other for other in calls if not _id_of(other).cut_off]
        if not any(_id_of(other).turn == turn for other in whole):
            whole = calls
        return sorted(whole, key=lambda other: (_id_of(other).turn, other.attempt))

    def _same_question(self, call: Call) -> list[Call]:
        """Return the calls of the same question, all its turns."""

        def question(other: Call) -> tuple[Role, int, int, str]:
            return other.role, other.point, other.round, _id_of(other).part

        return [other for other in self.calls.values() if question(other) == question(call)]

    def _payload(self, place: Place, role: Role) -> Payload:
        intervention = self.interventions.get(place.point)
        if intervention is None or (role != "critic" and intervention.diagnosis is None):
            raise ReplayError(
                f"the evidence of point {place.point} is not in the run's table `diagnoses`, so that no question about "
                "it can be asked again; replay a call of another point"
            )
        diagnosis = None if role == "critic" else intervention.diagnosis
        history = tried_by(decided_before(self.decisions, place.point, place.round), self.proposals, self.races)
        examples = self.examples if role == "generator" else []
        return build_payload(Evidence.model_validate(intervention.evidence), history, diagnosis, examples=examples)

    def _round(self, place: Place) -> list[ProposalRecord]:
        return [row for row in self.proposals if (row.point, row.round) == (place.point, place.round)]

    def _candidates(self, place: Place) -> int:
        """Return how many proposals were asked for at most: those that were fitted take a model's place."""
        rows, ranking = self._round(place), self.rankings.get(place.point)
        if rows:
            titles = {LEARNED_TITLE, *TITLES.values()}
            fitted = sum(row.proposal.title in titles for row in rows[: len(titles)])
        else:  # the Generator gave no answer
            fits = [
                row for row in self.fits if row.point == place.point and self.learned.of(row.kind).accepts(row.detail)
            ]
            ranked = ranking is not None and bool(ranking.detail.groups)
            fitted = (ranked + len(fits)) * (place.round == 0)
        return max(self.adaptation.candidates - fitted, 0)

    def _tool_answers(self, call: Call) -> dict[str, str]:
        """Return what tools answered, as the last turn read it; by what they were asked.

        Asked again, they may have been refused, so the first answer counts.
        """
        last = max(self._same_question(call), key=lambda other: _id_of(other).turn)
        messages = _conversation(last.messages)
        tool_calls = {asked["id"]: asked for m in messages if isinstance(m, AIMessage) for asked in m.tool_calls}
        answers: dict[str, str] = {}
        for message in messages:
            if isinstance(message, ToolMessage):
                asked = tool_calls[message.tool_call_id]
                answers.setdefault(tool_key(asked["name"], asked["args"]), message.text)
        return answers


def _conversation(messages: Sequence[dict[str, Any]]) -> tuple[BaseMessage, ...]:
    """Return the tool calls and their answers behind the prompt.

    The ledger keeps no ids, so they get new ones; tools answer in the order of the calls.
    """
    conversation: list[BaseMessage] = []
    waiting: list[str] = []  # ids of calls that are not answered yet
    for position, message in enumerate(messages):
        if message["role"] == "ai" and message.get("tool_calls"):
            calls = [
                ToolCall(name=call["name"], args=call["args"], id=f"call_{position}_{number}")
                for number, call in enumerate(message["tool_calls"])
            ]
            conversation.append(AIMessage(message["content"], tool_calls=calls))
            waiting = [str(call["id"]) for call in calls]
        elif message["role"] == "tool":
            answer = ToolMessage(message["content"], name=message["tool"], tool_call_id=waiting.pop(0))
            conversation.append(answer)
    return tuple(conversation)


def _id_of(call: Call) -> CallId:
    call_id = CallId.of(call)
    assert call_id is not None  # `RunTables` has no other calls
    return call_id
