"""What a replay shows: one question as it was answered in the run, and again. Pydantic only, so that readers need no
LangChain."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from .config import Role
from .llm.ledger import Call, Outcome

REPLIES: tuple[Outcome, ...] = ("ok", "repaired", "tool_call", "invalid")


class Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Side(Plain):
    """One question with all its attempts: retries, the repair turn, fallbacks, turns with tool calls.

    `outcome`, `provider`, `model`, `error`: of the last attempt. `answer`: the schema object as plain data, None where
    none was given; `valid` says the same. `repairs`: turns in which a wrong answer was sent back. Tokens are sums of
    what the provider counted, None where it never did; `cost_usd` is None where the price of any attempt is unknown.
    `latency_s`: seconds that models took, without waits.
    """

    provider: str
    model: str
    prompt_id: str
    prompt_hash: str
    outcome: Outcome
    valid: bool
    answer: dict[str, Any] | None
    raw: str
    error: str | None
    attempts: int
    repairs: int
    tool_calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Side:
        """Of the ledger rows of a question, oldest first; at least one."""
        last = calls[-1]
        return cls(
            provider=last.provider,
            model=last.model,
            prompt_id=last.prompt_id,
            prompt_hash=last.prompt_hash,
            outcome=last.outcome,
            valid=last.outcome in ("ok", "repaired"),
            answer=last.parsed,
            raw=last.raw,
            error=last.error,
            attempts=len(calls),
            repairs=_repairs(calls),
            tool_calls=sum(call.outcome == "tool_call" for call in calls),
            input_tokens=_sum([call.input_tokens for call in calls]),
            output_tokens=_sum([call.output_tokens for call in calls]),
            cost_usd=_cost(calls),
            latency_s=sum(call.latency_s for call in calls),
        )


class Rebuilt(Plain):
    """Whether the recorded evidence under the recorded prompt gives the recorded messages again. `note`: why not, and
    what that means for the comparison; empty where it does."""

    same: bool
    note: str = ""


class ReplayedArm(Plain):
    """One proposal of the new answer. `problems`: why `check` refused it; then it had no branch. `verdict`, `gain`,
    `lower`, `upper`, `seeds`, `explanation`: as in the table `decisions`; None where the gate did not judge it."""

    id: str
    title: str
    problems: list[str]
    notes: list[str]
    verdict: str
    gain: float | None = None
    lower: float | None = None
    upper: float | None = None
    seeds: list[int] = Field(default_factory=list)
    explanation: str = ""


class Validation(Plain):
    """What branches from the recorded snapshot said of the new proposals. `reason`: the gate's words. `horizon`:
    environment steps of a full branch, None where none was run. `steps`, `steps_evaluation`: environment steps that
    this replay took. `reused`: branches that the run had run already. `recorded`: the verdict in the run."""

    snapshot: str
    verdict: str
    winner: str | None
    reason: str
    recorded: str | None
    horizon: int | None
    arms: list[ReplayedArm]
    branches: int
    reused: int
    steps: int
    steps_evaluation: int


class Replay(Plain):
    """A recorded question that was asked again. `call`: id of its first row in `calls`. `prompt`: file of the template,
    None for that of this package. `difference`: unified diff of the answers, empty where they are the same."""

    kind: Literal["call"] = "call"
    call: str
    role: Role
    point: int
    round: int
    prompt: str | None
    rebuilt: Rebuilt
    before: Side
    after: Side
    same_answer: bool
    difference: list[str]
    validation: Validation | None = None

    @property
    def answered(self) -> bool:
        """Whether whoever was asked said anything; a wrong answer is one."""
        return self.after.outcome not in ("error", "budget")

    @classmethod
    def of(cls, call: Call, prompt: str | None, rebuilt: Rebuilt, before: Side, after: Side) -> Replay:
        """Without a validation."""
        lines = difference(before, after)
        return cls(
            call=call.id,
            role=call.role,
            point=call.point,
            round=call.round,
            prompt=prompt,
            rebuilt=rebuilt,
            before=before,
            after=after,
            same_answer=before.valid and after.valid and not lines,
            difference=lines,
        )


class RoleReplay(Plain):
    """Every question that a role was asked in a run, again. `left_out`: questions that cannot be asked again, with the
    reason. `not_asked`: how many were left when a limit was reached."""

    kind: Literal["role"] = "role"
    role: Role
    replays: list[Replay]
    left_out: dict[str, str]
    not_asked: int = 0

    @property
    def answered(self) -> bool:
        """Whether any of them was."""
        return any(replay.answered for replay in self.replays)


KEPT: TypeAdapter[Replay | RoleReplay] = TypeAdapter(Annotated[Replay | RoleReplay, Field(discriminator="kind")])


def difference(before: Side, after: Side) -> list[str]:
    """Lines of a unified diff of two answers. A wrong answer's raw text stands for it; without any text on one side
    there is nothing to compare."""
    old, new = _lines(before), _lines(after)
    return list(difflib.unified_diff(old, new, "recorded", "replayed", lineterm="")) if old and new else []


def _lines(side: Side) -> list[str]:
    if side.answer is not None:
        return json.dumps(side.answer, indent=2, ensure_ascii=False).split("\n")
    try:
        return json.dumps(json.loads(side.raw), indent=2, ensure_ascii=False).split("\n")
    except ValueError:  # no JSON: that may be what is wrong with it
        return side.raw.split("\n") if side.raw else []


def _repairs(calls: Sequence[Call]) -> int:
    """A model is asked once a turn, and once more where its answer was wrong."""
    asked: dict[tuple[str, int], int] = {}
    for call in calls:
        if call.outcome in REPLIES:
            key = (turn_name(call.id), call.fallback)
            asked[key] = asked.get(key, 0) + 1
    return sum(count - 1 for count in asked.values())


def turn_name(call_id: str) -> str:
    """`p80-r0-critic-t1-a0` → `p80-r0-critic-t1`."""
    return call_id.rpartition("-a")[0]


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _cost(calls: Sequence[Call]) -> float | None:
    if any(call.cost_usd is None and (call.charged_tokens or call.outcome in REPLIES) for call in calls):
        return None
    return sum(call.cost_usd or 0.0 for call in calls)
