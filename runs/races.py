"""Races as report and pages show them: who raced, what each rung showed, what was confirmed, and what was adopted.

A race proves a policy, never a signal: what it adopts is a state, and the signal that the state was trained under comes
with it unproven.

table `races` ─► ShownRace ─► ShownArm ─► ShownLook
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..rl.signals.signal import Exploration
from . import charts
from .race_records import ArmKind, PolicyProof, RaceArm, RaceDetail, RaceLook, RaceRecord
from .records import KEPT_IN_CRITIC, Claim, DecisionRecord, SignalVersion

INTERVAL = 0.95  # two-sided confidence of the intervals of looks
ARM_KINDS: dict[ArmKind, str] = {
    "candidate": "a proposal's signal",
    "kick": "the exploration kick alone",
    "fresh_start": "a fresh start",
    "carried": "an arm of the race before",
    "control": "the main line",
}
LABELS = {"kick": "kick alone", "fresh_start": "fresh start"}  # of arms that no proposal names
# Arms without a proposal, by what stands before the @ of their names.
ARMS_WITHOUT_PROPOSAL = {"kick": ARM_KINDS["kick"], "fresh": ARM_KINDS["fresh_start"]}
TAKEN_OVER: dict[Claim, str] = {
    "policy": "policy adopted",
    "signal": "signal promoted",
    "offset": KEPT_IN_CRITIC,
}
# CSS classes of their lines.
CLASSES: dict[ArmKind, str] = {
    "candidate": "candidate",
    "kick": "kick",
    "fresh_start": "fresh",
    "carried": "carried",
    "control": "control",
}


@dataclass(frozen=True)
class ShownLook:
    """Fresh episodes of one policy after a rung.

    Attributes:
        rung: number of the rung; 0 for the main line's policy at the fork.
        steps: environment steps since the fork; the age of a fresh start.
        reach: half of the 95 % interval of `mean` by Student's t; None for a single episode, which has no spread.
        success: share of successful episodes, None without a success test.
        moved: milestones by which the policy counts as moving toward reward.
    """

    rung: int
    steps: int
    mean: float
    reach: float | None
    episodes: int
    success: float | None
    moved: list[str]

    @property
    def text(self) -> str:
        """The mean with half of its interval."""
        return f"{self.mean:z.2f}" + ("" if self.reach is None else f" ± {self.reach:.2f}")


@dataclass(frozen=True)
class ShownArm:
    """An arm and what became of it.

    Attributes:
        label: short name for charts and columns; the id of its proposal where it has one.
        title: of its proposal, else what it is.
        kind: what sets it apart from the main line, in words.
        explores: the exploration that it began with, in words; empty where it is the run's own.
        looks: one a rung, in order.
        dropped_at: rung after which it was dropped, None where it was not.
        outcome: what became of it, in words.
        won: whether its policy was proven better.
        is_fresh: whether it began at step 0, so that its looks stand over its age.
    """

    name: str
    label: str
    title: str
    kind: str
    explores: str
    looks: list[ShownLook]
    dropped_at: int | None
    outcome: str
    won: bool
    is_fresh: bool

    @property
    def last(self) -> ShownLook | None:
        """The newest look."""
        return self.looks[-1] if self.looks else None

    @property
    def best(self) -> float | None:
        """The highest mean return of a look."""
        return max((look.mean for look in self.looks), default=None)

    def at(self, rung: int) -> ShownLook | None:
        """Return the look after a rung, None where it did not train that rung."""
        return next((look for look in self.looks if look.rung == rung), None)


@dataclass(frozen=True)
class ShownRung:
    """A rung: the main line's look, and those of the arms in their order, None where one did not train.

    `dropped` says who trains no further, and why.
    """

    number: int
    steps: int
    control: ShownLook
    arms: list[ShownLook | None]
    dropped: list[str]


@dataclass(frozen=True)
class ShownProof:
    """A confirmation, the rung after which it was made, and its arm's short name."""

    rung: int
    label: str
    proof: PolicyProof


@dataclass(frozen=True)
class KickGain:
    """Mean return over that of the arm with the kick alone at the last rung after which both were looked at."""

    gain: float
    rung: int


@dataclass(frozen=True)
class ShownRace:
    """A race.

    Attributes:
        fork_steps: main steps at the fork.
        fork: the main line's policy there.
        winner: the arm whose policy was proven better; None while or where there is none.
        adopted: the confirmation that led to an adoption; None where none did.
        over_kick: the winner's gain over the kick alone; None where not both raced.
        end: why it is over; None while it runs.
        waiting: names of the arms whose turn has not come.
        chart: the looks over steps since the fork; None before the first rung.
    """

    id: str
    fork_steps: int
    fork: ShownLook
    margin: float
    arms: list[ShownArm]
    rungs: list[ShownRung]
    proofs: list[ShownProof]
    winner: ShownArm | None
    adopted: ShownProof | None
    over_kick: KickGain | None
    end: str | None
    waiting: list[str]
    chart: Markup | None

    def arm(self, name: str) -> ShownArm | None:
        """Return an arm by its name."""
        return next((arm for arm in self.arms if arm.name == name), None)


def show_race(record: RaceRecord, decision: DecisionRecord | None, titles: Mapping[str, str]) -> ShownRace:
    """Make a race ready to be shown.

    Args:
        record: the race.
        decision: how its round ended; None while it has not.
        titles: id of a proposal → its title.
    """
    detail = record.detail
    taken = decision is not None and decision.version is not None and decision.winner == detail.winner
    arms = [_arm(arm, detail, taken, titles) for arm in detail.arms]
    labels = {arm.name: arm.label for arm in arms}
    proofs = [
        ShownProof(rung.number, labels.get(proof.arm, proof.arm), proof)
        for rung in detail.rungs
        for proof in rung.proofs
    ]
    won = [shown for shown in proofs if shown.proof.proven and shown.proof.arm == detail.winner]
    return ShownRace(
        id=record.id,
        fork_steps=detail.fork_steps,
        fork=_look(detail.fork, 0, 0),
        margin=detail.margin,
        arms=arms,
        rungs=[
            ShownRung(
                number=rung.number,
                steps=rung.horizon,
                control=_look(rung.control, rung.number, rung.horizon),
                arms=[arm.at(rung.number) for arm in arms],
                dropped=drops_in_words({labels.get(name, name): why for name, why in rung.dropped.items()}),
            )
            for rung in detail.rungs
        ],
        proofs=proofs,
        winner=next((arm for arm in arms if arm.won), None),
        adopted=won[-1] if won and taken else None,
        over_kick=None if detail.winner is None else gain_over_kick(detail, detail.winner),
        waiting=[LABELS.get(arm.kind, arm.name) for arm in detail.waiting],
        end=detail.end,
        chart=_chart(record, arms, taken) if detail.rungs else None,
    )


# ---------------------------------------------------------------- words


def arm_title(name: str, titles: Mapping[str, str]) -> str:
    """Return the title of an arm's proposal, or what the arm is where it has none; else its name."""
    return titles.get(name) or ARMS_WITHOUT_PROPOSAL.get(name.partition("@")[0], name)


def drops_in_words(dropped: Mapping[str, str]) -> list[str]:
    """Say who was dropped, arms with the same reason together."""
    return [
        f"dropped {', '.join(name for name, own in dropped.items() if own == why)}: {why}"
        for why in dict.fromkeys(dropped.values())
    ]


def outcome_in_words(decision: DecisionRecord) -> str:
    """Say how a round ended: by its verdict, and of what was put in force, what the claim was."""
    if decision.verdict != "accept":
        return decision.verdict.replace("_", " ")
    if decision.version is not None or decision.detail.claim == "offset":
        return TAKEN_OVER[decision.detail.claim]
    return "a better policy, not adopted yet" if decision.detail.claim == "policy" else "accept"


def is_promotion(decision: DecisionRecord, version: SignalVersion) -> bool:
    """Tell whether the decision put this version of the signal in force."""
    put = version.cause not in ("start", "control", "rollback")
    return put and decision.verdict == "accept" and decision.version == version.version


def winner_kind(decision: DecisionRecord, races: Mapping[str, RaceRecord]) -> str:
    """Say which kind of arm a decision is about; its name where the race is not to be found."""
    race = races.get(decision.detail.race or decision.id)
    kinds = {arm.name: ARM_KINDS[arm.kind] for arm in race.detail.arms} if race else {}
    name = decision.winner or "nothing"
    return kinds.get(name) or ARMS_WITHOUT_PROPOSAL.get(name.partition("@")[0], name)


def gain_over_kick(detail: RaceDetail, name: str) -> KickGain | None:
    """Compare an arm with the kick alone at their last common look; None for the kick itself, or without one."""
    kicks = {arm.name for arm in detail.arms if arm.kind == "kick"}
    if name in kicks:
        return None
    for rung in reversed(detail.rungs):
        means = {look.arm: look.mean for look in rung.arms}
        kick = next((means[arm] for arm in means if arm in kicks), None)
        if kick is not None and name in means:
            return KickGain(means[name] - kick, rung.number)
    return None


def _explores(exploration: Exploration) -> str:
    parts = {"kick": exploration.kick, "entropy": exploration.entropy}
    return ", ".join(f"{name} {value:g}" for name, value in parts.items() if value is not None)


# ---------------------------------------------------------------- arms and looks


def _arm(arm: RaceArm, detail: RaceDetail, taken: bool, titles: Mapping[str, str]) -> ShownArm:
    # A fresh start is shown over its age, all others over the steps of this race.
    is_fresh = arm.kind == "fresh_start"
    looks = [
        _look(look, rung.number, look.steps if is_fresh else rung.horizon)
        for rung in detail.rungs
        for look in rung.arms
        if look.arm == arm.name
    ]
    dropped = next((rung for rung in detail.rungs if arm.name in rung.dropped), None)
    won = arm.name == detail.winner
    if won:
        outcome = TAKEN_OVER["policy"] if taken else "its policy was proven better"
    elif dropped is not None:
        outcome = f"dropped after rung {dropped.number}: {dropped.dropped[arm.name]}"
    elif not looks and detail.end is not None:
        outcome = "the race was over before its first rung"
    else:
        outcome = "racing" if detail.end is None and detail.winner is None else "raced to the end, not adopted"
    return ShownArm(
        name=arm.name,
        label=LABELS.get(arm.kind, arm.name),
        title=titles.get(arm.name, ARM_KINDS[arm.kind]),
        kind=ARM_KINDS[arm.kind],
        explores=_explores(arm.exploration),
        looks=looks,
        dropped_at=None if dropped is None or won else dropped.number,
        outcome=outcome,
        won=won,
        is_fresh=is_fresh,
    )


def _look(look: RaceLook, rung: int, steps: int) -> ShownLook:
    return ShownLook(rung, steps, look.mean, look_reach(look), look.episodes, look.success, look.moved)


def look_reach(look: RaceLook) -> float | None:
    """Return half of the 95 % interval of a look's mean return, by Student's t over its episodes.

    None for a single episode.
    """
    if look.episodes < 2:
        return None
    from scipy.stats import t

    quantile = float(t.ppf((1 + INTERVAL) / 2, look.episodes - 1))
    return quantile * look.sd / math.sqrt(look.episodes)


# ---------------------------------------------------------------- the chart


def _chart(record: RaceRecord, arms: list[ShownArm], taken: bool) -> Markup:
    """Draw the looks. The main line and the winner come last, so that they lie above the others."""
    detail = record.detail
    control = [_look(detail.fork, 0, 0), *(_look(rung.control, rung.number, rung.horizon) for rung in detail.rungs)]
    main = charts.RaceLine("main line", "control", [_dot("main line", look) for look in control])
    lines: list[charts.RaceLine] = []
    for arm, shown in zip(detail.arms, arms, strict=True):
        proofs = [(rung.number, proof) for rung in detail.rungs for proof in rung.proofs if proof.arm == arm.name]
        dots = [_dot(shown.label, look, [proof for at, proof in proofs if at == look.rung]) for look in shown.looks]
        forked = arm.kind in ("candidate", "kick")
        lines.append(
            charts.RaceLine(
                # What became of it stands at the end of its line.
                name=shown.label + (" (its age)" if arm.kind == "fresh_start" else ""),
                kind="winner" if shown.won else CLASSES[arm.kind],
                dots=dots,
                start=(0, detail.fork.mean) if forked else None,
                note=("adopted" if taken else "proven") if shown.won else "",
                dropped="" if shown.dropped_at is None else f"{shown.label}: {shown.outcome}",
            )
        )
    lines = [
        *(line for line in lines if line.kind != "winner"),
        main,
        *(line for line in lines if line.kind == "winner"),
    ]
    label = f"The race {record.id}: sparse return of each arm over steps since the fork"
    return Markup(charts.race(lines, label, _description(control, arms), record.id))


def _dot(name: str, look: ShownLook, proofs: Sequence[PolicyProof] = ()) -> charts.RaceDot:
    place = f"after rung {look.rung}" if look.rung else "at the fork"
    success = "" if look.success is None else f", success {100 * look.success:.0f} %"
    title = f"{name} {place}: {look.text} over {look.episodes} episodes{success}"
    title += "".join(f"; confirmation {proof.number}: {proof.explanation}" for proof in proofs)
    # Under the overlap clock a proven policy is confirmed once more, against the newest main line.
    mark = ("proven" if proofs[-1].proven else "confirmed") if proofs else ""
    return charts.RaceDot(look.steps, look.mean, look.reach or 0.0, title, mark)


def _description(control: list[ShownLook], arms: list[ShownArm]) -> str:
    """Tell in words what the chart shows: the mean return of every look, and what became of each arm."""

    def means(looks: list[ShownLook]) -> str:
        return ", ".join(f"{look.mean:z.2f}" for look in looks) or "no look"

    told = [f"Main line from the fork on: {means(control)}."]
    told += [f"{arm.label}: {means(arm.looks)}; {arm.outcome}." for arm in arms]
    return " ".join(told)
