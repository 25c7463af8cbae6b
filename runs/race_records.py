"""The records of a race: its arms, what each rung showed of them, and what was confirmed.

A race is one row, which is written again after every rung. All returns are undiscounted sparse returns, all steps are
environment steps.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..rl.ipc.messages import EvaluationResult
from ..rl.signals.signal import Exploration, Signal
from .records import Record

# candidate: a proposal's signal. kick: the signal in force with a kick. fresh_start: a new line from step 0.
# carried: an arm of the race before, which had moved. control: the main line, where it is run as a branch.
ArmKind = Literal["candidate", "kick", "fresh_start", "carried", "control"]


class RaceArm(Record):
    """An arm of a race: a line that trains beside the main line.

    Attributes:
        name: id of the proposal; `kick@POINT` and `fresh@POINT` for the arms without one.
        kind: what sets it apart from the main line.
        signal: that it trains under.
        exploration: that it begins with.
        seed: of its random streams; of all of it where it is a fresh start.
        fork: the snapshot of the main line that it comes from, relative to the run directory.
        fork_steps: main steps there; 0 for a fresh start.
        start: state that it joins with; its fork, but for what is carried over.
        horizon: environment steps that it is ahead of the race: what it had trained before, of what is carried over;
            below 0 where it joined later.
        joined: number of the rung after which it joined, 0 for those of the beginning.
        had_moved: of what is carried over, the milestones by which it had moved when it joined.
        idle_races: races in a row, before this one, in which it was carried over and moved by no further milestone.
    """

    name: str
    kind: ArmKind
    signal: Signal
    exploration: Exploration
    seed: int
    fork: str
    fork_steps: int
    start: str
    horizon: int = 0
    joined: int = 0
    had_moved: list[str] = Field(default_factory=list)
    idle_races: int = 0


class RaceLook(Record):
    """What the fresh episodes of one policy after a rung came to. Looks select; they prove nothing.

    Attributes:
        arm: its name, `control` for the main line.
        state: the policy's snapshot, relative to the run directory.
        steps: main steps of that policy; the age of a fresh start.
        mean: mean return.
        sd: sample standard deviation of the episodes' returns.
        episodes: how many.
        success: share of successful ones, None without a success test.
        reached: by milestone, the share of episodes that reached it. `switch_triggered ×2`: twice or more.
        moved: milestones by which the policy counts as moving toward reward; see `rl.branches.movement`.
    """

    arm: str
    state: str
    steps: int
    mean: float
    sd: float
    episodes: int
    success: float | None
    reached: dict[str, float] = Field(default_factory=dict)
    moved: list[str] = Field(default_factory=list)


class PolicyProof(Record):
    """One confirmation: both policies played episodes that no decision had seen.

    Attributes:
        number: of this confirmation in the run, from 1; its level follows from it.
        arm: whose policy was to be proven.
        against: whose policy it was compared with: the best of the main line, in words such as "control at 180224".
        level: one-sided level that this confirmation could spend.
        gain: mean return over that of the other policy.
        lower: its lower bound at `level`; None where nothing can be said, see `explanation`.
        margin: what the bound had to clear.
        episodes: of each side.
        distinct: different episodes among them, of the side that had fewer.
        paired: whether both sides played the same reset seeds.
        proven: whether the bound cleared the margin.
        explanation: the arithmetic in one line.
    """

    number: int
    arm: str
    against: str
    level: float
    gain: float
    lower: float | None
    margin: float
    episodes: int
    distinct: int
    paired: bool
    proven: bool
    explanation: str


class Rung(Record):
    """One rung of a race.

    Attributes:
        number: from 1.
        point: update of the main line at its end: that of an adaptation point, under the lockstep clock.
        horizon: environment steps since the fork of the race.
        left: environment steps that `adaptation.max_share` left after it.
        control: the main line's policy.
        arms: every arm that trained this rung.
        dropped: by arm, why it trains no further, in words.
        proofs: confirmations after this rung, in order.
    """

    number: int
    point: int
    horizon: int
    left: int
    control: RaceLook
    arms: list[RaceLook]
    dropped: dict[str, str] = Field(default_factory=dict)
    proofs: list[PolicyProof] = Field(default_factory=list)

    @property
    def steps_main(self) -> int:
        """Main steps of the control at its end."""
        return self.control.steps


class RaceDetail(Record):
    """All of a race but its columns.

    Attributes:
        fork_steps: main steps at the fork.
        fork: the main line's policy there.
        margin: gain that counts, in sparse return.
        left: environment steps that `adaptation.max_share` allowed when it began.
        arms: that have joined so far, in order.
        waiting: arms that join, in this order, when those before them are out.
        rungs: so far.
        winner: the arm that was proven; None while none is.
        end: why the race is over, in words; None while it runs.
    """

    fork_steps: int
    fork: RaceLook
    margin: float
    left: int
    arms: list[RaceArm]
    waiting: list[RaceArm] = Field(default_factory=list)
    rungs: list[Rung] = Field(default_factory=list)
    winner: str | None = None
    end: str | None = None


class RaceRecord(Record):
    """A row of the table `races`.

    Attributes:
        id: that of the decision which ends the round.
        point: update index of the adaptation point at which it began.
        round: whose proposals race.
    """

    id: str
    point: int
    round: int
    detail: RaceDetail


class EvaluationRecord(Record):
    """A row of the table `evaluations`: fresh episodes of a policy of a race, beside those at the end of a branch.

    Attributes:
        key: made of the job's content.
        purpose: look, or confirm.
        arm: whose policy, `control` for the main line's.
        state: its snapshot, relative to the run directory.
        result: the episodes; None where they could not be played.
        reason: why they could not be played, in words.
        steps: environment steps that they took.
        spent_at: update of the main line when they were played.
    """

    key: str
    point: int
    round: int
    purpose: Literal["look", "confirm"]
    arm: str
    state: str
    result: EvaluationResult | None
    reason: str | None = None
    steps: int
    spent_at: int
