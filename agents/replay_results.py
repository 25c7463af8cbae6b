"""The result of a replay: one question as it was answered in the run, and again. Pydantic only: no LangChain."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from .config import Role
from .llm.ledger import Call, Outcome

REPLIES: tuple[Outcome, ...] = ("ok", "repaired", "tool_call", "invalid")
BETTER_POLICY = "a better policy"  # what a race accepts


class Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Side(Plain):
    """One question with all its attempts: retries, the repair turn, fallbacks, turns with tool calls.

    Attributes:
        provider, model, prompt_id, prompt_hash, outcome, raw, error: of the last attempt.
        valid: whether there is an answer of the schema.
        answer: the schema object as plain data, None where `valid` is false.
        attempts: how many requests there were.
        repairs: turns in which a wrong answer was sent back.
        tool_calls: replies that called tools.
        input_tokens, output_tokens: sums of what the provider counted, None where it never did.
        cost_usd: None where the price of any attempt is unknown.
        latency_s: seconds that models took, without waits.
    """

    # The last attempt.
    provider: str
    model: str
    prompt_id: str
    prompt_hash: str
    outcome: Outcome
    valid: bool
    answer: dict[str, Any] | None
    raw: str
    error: str | None
    # All attempts.
    attempts: int
    repairs: int
    tool_calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Side:
        """Return the side of these ledger rows of one question, oldest first; at least one."""
        last = calls[-1]
        # A model is asked once a turn, and once more where its answer was wrong.
        replies: dict[tuple[str, int], int] = {}
        for call in calls:
            # Attempts without a reply are retries and no repairs.
            if call.outcome in REPLIES:
                key = (turn_name(call.id), call.fallback)
                replies[key] = replies.get(key, 0) + 1
        # What was never charged costs nothing; what was, or was answered, must have a price.
        is_cost_known = all(
            call.cost_usd is not None or not (call.charged_tokens or call.outcome in REPLIES) for call in calls
        )
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
            repairs=sum(count - 1 for count in replies.values()),
            tool_calls=sum(call.outcome == "tool_call" for call in calls),
            input_tokens=_known_sum([call.input_tokens for call in calls]),
            output_tokens=_known_sum([call.output_tokens for call in calls]),
            cost_usd=sum(call.cost_usd or 0.0 for call in calls) if is_cost_known else None,
            latency_s=sum(call.latency_s for call in calls),
        )


def turn_name(call_id: str) -> str:
    """Return a call's id without its attempt: `p80-r0-critic-t1-a0` becomes `p80-r0-critic-t1`."""
    return call_id.rpartition("-a")[0]


def _known_sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


class Rebuilt(Plain):
    """The comparison of the recorded messages with those made again of the recorded evidence and prompt.

    Attributes:
        same: whether they are the same.
        note: why not, and what that means for the comparison; empty where they are.
    """

    same: bool
    note: str = ""


class ReplayedLook(Plain):
    """Fresh episodes of an arm of a race and of the main line after the same rung. Looks prove nothing.

    Attributes:
        rung: its number, from 1.
        mean: mean return of the arm's policy.
        main_line: that of the main line's policy.
        episodes: of each.
    """

    rung: int
    mean: float
    main_line: float
    episodes: int


class ReplayedProof(Plain):
    """A confirmation: fresh episodes of an arm's policy and of the main line's. It says nothing of the arm's signal.

    Attributes:
        rung: after which it was made.
        number: as it would have been in the run; its level follows from it.
        against: the policy of the main line, in words such as "control at 180224".
        gain: mean return over that of the other policy.
        lower: its one-sided lower bound at `level`; None where nothing can be said.
        margin: what the bound had to clear.
        proven: whether it did.
        explanation: the arithmetic in one line.
    """

    rung: int
    number: int
    against: str
    gain: float
    lower: float | None
    level: float
    margin: float
    proven: bool
    explanation: str


class RacedArm(Plain):
    """What a race showed of an arm.

    Attributes:
        kind: `candidate`, `kick` for the signal in force with an exploration kick, or `fresh_start`.
        look: the last one; None where it did not train a rung.
        proofs: its confirmations, in order.
    """

    kind: str
    look: ReplayedLook | None
    proofs: list[ReplayedProof]


class ReplayedArm(Plain):
    """One proposal of the new answer, or an arm of the race that no proposal is behind.

    Attributes:
        problems: why `check` refused it; it had no branch then.
        verdict: as in the table `decisions`; in a race `policy_proven`, `not_proven`, `dropped` or `not_tried`.
        gain, lower, upper, seeds: as in the table `decisions`; None where the gate did not judge it.
        explanation: of the gate; in a race what became of the arm.
        race: what a race showed of it, None where it did not race.
    """

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
    race: RacedArm | None = None


class Validation(Plain):
    """The outcome of branches from the recorded snapshot under the new proposals.

    Attributes:
        claim: what an acceptance proves: that a signal helps over training seeds, or, by a race, that a policy returns
            more than the main line's. Earlier versions asked about signals only.
        reason: why the verdict is what it is.
        recorded: the verdict in the run.
        recorded_claim: what an acceptance would have proven there.
        horizon: environment steps of a full branch, or of a race since its fork; None where none was run.
        rungs: of the race.
        reused: branches that the run had run already.
        steps: environment steps of training that this replay took.
        steps_evaluation: those of evaluation, with the looks and confirmations of a race.
    """

    snapshot: str
    claim: Literal["policy", "signal"] = "signal"
    verdict: str
    winner: str | None
    reason: str
    recorded: str | None
    recorded_claim: str | None = None
    horizon: int | None
    rungs: int = 0
    arms: list[ReplayedArm]
    branches: int
    reused: int
    steps: int
    steps_evaluation: int

    @property
    def question(self) -> str:
        """The claim as a question."""
        if self.claim == "policy":
            return "does a policy return more than the main line's?"
        return "does a signal help over training seeds?"

    @property
    def shown_verdict(self) -> str:
        """The verdict, as it is shown: where a race accepts, that names the policy, since no signal is proven."""
        return BETTER_POLICY if (self.claim, self.verdict) == ("policy", "accept") else self.verdict

    @property
    def shown_recorded(self) -> str | None:
        """The verdict in the run, as it is shown."""
        return BETTER_POLICY if (self.recorded_claim, self.recorded) == ("policy", "accept") else self.recorded


class Replay(Plain):
    """A recorded question that was asked again.

    Attributes:
        call: id of its first row in `calls`.
        prompt: file of the template, None for that of this package.
        difference: unified diff of the answers, empty where they are the same.
    """

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
        """The model replied at all; a wrong answer is a reply."""
        return self.after.outcome not in ("error", "budget")

    @classmethod
    def of(cls, call: Call, prompt: str | None, rebuilt: Rebuilt, before: Side, after: Side) -> Replay:
        """Return the comparison of both sides, without a validation."""
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
    """Every question that a role was asked in a run, asked again.

    Attributes:
        left_out: questions that cannot be asked again, with the reason.
        not_asked: how many were left when a limit was reached.
    """

    kind: Literal["role"] = "role"
    role: Role
    replays: list[Replay]
    left_out: dict[str, str]
    not_asked: int = 0

    @property
    def answered(self) -> bool:
        """Any of them was answered."""
        return any(replay.answered for replay in self.replays)


# Reads the JSON of a replay that was stored.
STORED_REPLAY: TypeAdapter[Replay | RoleReplay] = TypeAdapter(
    Annotated[Replay | RoleReplay, Field(discriminator="kind")]
)


def difference(before: Side, after: Side) -> list[str]:
    """Return the lines of a unified diff of two answers.

    A wrong answer's raw text stands for it; without any text on one side there is nothing to compare.
    """
    old, new = _lines(before), _lines(after)
    return list(difflib.unified_diff(old, new, "recorded", "replayed", lineterm="")) if old and new else []


def _lines(side: Side) -> list[str]:
    if side.answer is not None:
        return json.dumps(side.answer, indent=2, ensure_ascii=False).split("\n")
    try:
        return json.dumps(json.loads(side.raw), indent=2, ensure_ascii=False).split("\n")
    except ValueError:  # no JSON: that may be what is wrong with it
        return side.raw.split("\n") if side.raw else []
