"""Questions of a run, rebuilt from its books as the nodes had put them: what came later is not in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from pydantic import ValidationError

from ...agents.config import Role
from ...agents.llm.ledger import Call, Place
from ...agents.prompt_payload import Payload, build_payload
from ...agents.replay import RecordedQuestion, tool_key
from ...agents.schemas import Diagnosis, Proposal
from ...config.adaptation import AdaptationConfig
from ...errors import PromptTooLong, ReplayError
from ...rl.evidence.schema import Evidence
from ...runs.store import LATER_COLUMNS, Row, RunView
from ..history import decided_before, tried_by
from ..nodes.rank_transitions import LEARNED_TITLE

SHOWN_IDS = 8  # of known calls, in an error
# Point, round, role and turn; what follows the role is the part of many questions that one node asks.
_ID = re.compile(r"p\d+-r\d+-(?:critic|generator|ranker)(?P<part>.*)-t(?P<turn>\d+)-a\d+(?P<cut>-cut\d+)?")


class RunTables:
    """The tables of a run that questions are rebuilt from, read once. Raises NotARunError where there is no run."""

    def __init__(self, view: RunView, adaptation: AdaptationConfig) -> None:
        self.adaptation = adaptation
        self.calls = [row for row in view.calls() if _ID.fullmatch(row["id"])]
        self.looks = {row["point"]: row for row in view.looks()}
        self.decisions = view.decisions()
        self.proposals = view.proposals()
        self.rankings = {row["point"]: row for row in view.rankings()}

    def question(self, call_id: str) -> RecordedQuestion:
        """The question that the call belongs to, from its turn on; any of its attempts may be named.

        Raises:
            ReplayError: no such call, or one that cannot be asked again.
        """
        row = next((row for row in self.calls if row["id"] == call_id), None)
        if row is None:
            raise ReplayError(f"the run has made no call {call_id!r}; {self._known()}")
        return self._readable(row)

    def questions(self, role: Role) -> tuple[list[RecordedQuestion], dict[str, str]]:
        """Every question of `role` from its first turn on, in the order they were asked; and those that cannot be asked
        again, with the reason."""
        found: list[RecordedQuestion] = []
        left_out: dict[str, str] = {}
        for row in self._first_rows(role):
            try:
                found.append(self._readable(row))
            except ReplayError as error:
                left_out[row["id"]] = str(error)
        return found, left_out

    def _known(self) -> str:
        ids = [row["id"] for row in self.calls]
        if not ids:
            return "it has made none that can be asked again"
        more = f", and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
        return f"name one of {', '.join(ids[:SHOWN_IDS])}{more}"

    def _first_rows(self, role: Role) -> list[Row]:
        rows: dict[tuple[int, int, str], Row] = {}
        for row in self.calls:
            if row["role"] == role and _turn(row) == 0:
                rows.setdefault((row["point"], row["round"], _part(row)), row)
        return list(rows.values())

    # ------------------------------------------------------------ one question

    def _readable(self, row: Row) -> RecordedQuestion:
        """Raises ReplayError also where the run is of a version whose evidence is none of this one."""
        try:
            return self._rebuilt(row)
        except (ValidationError, PromptTooLong) as error:
            raise ReplayError(
                f"the evidence behind call {row['id']!r} is not of this version of cosignal ({error}); replay with the "
                "version that has made the run"
            ) from error

    def _rebuilt(self, row: Row) -> RecordedQuestion:
        if _part(row):
            raise ReplayError(
                f"call {row['id']!r} is about single agents' moves, whose texts are in no table; replay a call of "
                "the Critic, the Generator, or of the Ranker on proposals"
            )
        calls, role = self._turns(row), row["role"]
        place = Place(row["point"], row["round"])
        conversation = _conversation(calls[0].messages) if role == "critic" else ()
        called = sum(len(m.tool_calls) for m in conversation if isinstance(m, AIMessage))
        return RecordedQuestion(
            place=place,
            payload=self._context(place, role),
            calls=tuple(calls),
            candidates=self._candidates(place) if role == "generator" else 0,
            proposals=self._passed(place) if role == "ranker" else {},
            conversation=conversation,
            calls_left=max(self.adaptation.evidence_calls - called, 0),
            tool_answers=self._tool_answers(row) if role == "critic" else {},
        )

    def _turns(self, row: Row) -> list[Call]:
        """Its own turn and those that followed. What a stop of the run cut off was asked again, so it counts only where
        there is nothing else."""
        rows = [other for other in self._beside(row) if _turn(other) >= _turn(row)]
        whole = [other for other in rows if not _is_cut(other)]
        if not any(_turn(other) == _turn(row) for other in whole):
            whole = rows
        return [_call(other) for other in sorted(whole, key=lambda other: (_turn(other), other["attempt"]))]

    def _beside(self, row: Row) -> list[Row]:
        """The calls of the same question, all its turns."""
        place = (row["role"], row["point"], row["round"], _part(row))
        return [r for r in self.calls if (r["role"], r["point"], r["round"], _part(r)) == place]

    def _context(self, place: Place, role: Role) -> Payload:
        look = self.looks.get(place.point)
        if look is None or (role != "critic" and look["diagnosis"] is None):
            raise ReplayError(
                f"the evidence of point {place.point} is not in the run's table `diagnoses`, so that no question about "
                "it can be asked again; replay a call of another point"
            )
        diagnosis = None if role == "critic" else Diagnosis.model_validate(look["diagnosis"])
        history = tried_by(decided_before(self.decisions, place.point, place.round), self.proposals)
        return build_payload(Evidence.model_validate(look["evidence"]), history, diagnosis)

    def _round(self, place: Place) -> list[Row]:
        return [row for row in self.proposals if (row["point"], row["round"]) == (place.point, place.round)]

    def _passed(self, place: Place) -> dict[str, Proposal]:
        return {r["id"]: Proposal.model_validate(r["proposal"]) for r in self._round(place) if not r["problems"]}

    def _candidates(self, place: Place) -> int:
        """Most proposals that were asked for: one that was fitted to rankings takes the place of a model's."""
        rows, ranked = self._round(place), self.rankings.get(place.point)
        if rows:
            fitted = bool(rows[0]["proposal"]["title"] == LEARNED_TITLE)
        else:  # the Generator gave no answer
            fitted = place.round == 0 and ranked is not None and bool(ranked["detail"]["groups"])
        return self.adaptation.candidates - fitted

    def _tool_answers(self, row: Row) -> dict[str, str]:
        """What tools answered, as the last turn was told; by what they were asked. Asked again, they may have been
        refused, so the first answer counts."""
        messages = _conversation(max(self._beside(row), key=_turn)["messages"])
        calls = {call["id"]: call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
        found: dict[str, str] = {}
        for message in messages:
            if isinstance(message, ToolMessage):
                call = calls[message.tool_call_id]
                found.setdefault(tool_key(call["name"], call["args"]), message.text)
        return found


def _call(row: Row) -> Call:
    """Columns that runs of earlier versions do not have take their defaults."""
    missing = {name for name in LATER_COLUMNS if row[name] is None}
    return Call.model_validate({name: value for name, value in row.items() if name not in missing})


def _conversation(messages: Sequence[dict[str, Any]]) -> tuple[BaseMessage, ...]:
    """Tool calls and their answers behind the prompt. The ledger keeps no ids, so they get new ones; tools answer in
    the order of the calls."""
    found: list[BaseMessage] = []
    waiting: list[str] = []
    for position, message in enumerate(messages):
        if message["role"] == "ai" and message.get("tool_calls"):
            calls = [
                ToolCall(name=call["name"], args=call["args"], id=f"call_{position}_{number}")
                for number, call in enumerate(message["tool_calls"])
            ]
            found.append(AIMessage(message["content"], tool_calls=calls))
            waiting = [str(call["id"]) for call in calls]
        elif message["role"] == "tool":
            found.append(ToolMessage(message["content"], name=message["tool"], tool_call_id=waiting.pop(0)))
    return tuple(found)


def _match(row: Row) -> re.Match[str]:
    match = _ID.fullmatch(row["id"])
    assert match is not None  # `Books` keeps no other
    return match


def _turn(row: Row) -> int:
    return int(_match(row)["turn"])


def _part(row: Row) -> str:
    return _match(row)["part"]


def _is_cut(row: Row) -> bool:
    return _match(row)["cut"] is not None
