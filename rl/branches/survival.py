"""Who trains the next rung of a race: movement decides early, successive halving late. Pure functions.

The arms are those of a best-arm problem with few pulls: the worse half is dropped now and then, so that the steps go to
what is left (Karnin, Koren, Somekh 2013; Jamieson, Talwalkar 2016). An arm's score is the mean of its last two looks.
The textbook's rewards stay what they are and always tell arms apart; returns of arms that train do neither. Hence:

* An arm *rises* by movement (`ArmHistory.moves`, see `movement`) or by returns above the best of the main line by more
  than the margin. It is never halved away, and may train on after `race.rungs`, up to `race.longest`.
* Nobody yields before `FIRST_CUT` rungs, since a potential costs return for 50,000 to 100,000 steps before it helps.
  From then on the worse half yields at every rung at which another arm rises; once one that rises has moved at `FIRM`
  looks, or clearly leads by return, all yield that return no more than the main line. While nobody rises, halving waits
  until `LATE_CUT`, for before it would choose between dips.
* Arms that score alike are not told apart: where all return nothing, only a firm rise of another arm drops them.
* Nobody is clearly behind before `PATIENT_RUNGS`.
* A fresh start trails any trained policy for long. It is compared with the main line at its own age only.

The rule is deterministic, and changes neither with the scale of returns and margin nor with the arms' names or order.
Looks only select: nothing here proves anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .config import RaceConfig

# Chosen on Two-Switch seeds 111-146 alone, on races in which nobody was dropped; later ones within 101-200 only.
SMOOTHED = 2  # looks that a score is the mean of; also for how many looks a movement holds
FIRST_CUT = 3  # rungs (49,000 steps at the default): before it winners trail
LATE_CUT = 7  # rungs (115,000 steps) until halving does not wait for anybody to rise
CUT_EVERY = 3  # rungs from one such halving to the next
FIRM = 2  # looks at which an arm has moved that make others yield
PATIENT_RUNGS = 6  # rungs (98,000 steps) until a dip is a loss
SIGMAS = 3.0  # standard errors, beyond the margin, by which a score lies clearly behind
FRESH_RUNGS = 16  # rungs (262,000 steps) until a fresh start has to rise: plain runs need about 250,000
TIE = 0.01  # of the margin: scores that differ by less are alike


@dataclass(frozen=True)
class ArmHistory:
    """The looks at one arm so far, oldest first.

    Attributes:
        name: of the arm.
        kind: candidate, kick, fresh_start or carried, as in the race record.
        means: mean return of each look.
        sds: standard deviation of the episodes' returns of each look.
        episodes: of each look.
        moved: milestones by which it moved toward reward, of each look.
        rungs_before: that a fresh start has trained in races before.
    """

    name: str
    kind: str
    means: Sequence[float]
    sds: Sequence[float]
    episodes: Sequence[int]
    moved: Sequence[Sequence[str]]
    rungs_before: int = 0

    @property
    def age(self) -> int:
        """Rungs that it has trained."""
        return self.rungs_before + len(self.means)

    @property
    def score(self) -> float:
        """Mean of its last looks."""
        return smoothed(self.means)

    @property
    def variance(self) -> float:
        """Squared standard error of its score."""
        last = list(zip(self.sds, self.episodes, strict=True))[-SMOOTHED:]
        return sum(sd**2 / n for sd, n in last) / len(last) ** 2

    @property
    def moves(self) -> bool:
        """Whether one of its last looks showed movement toward reward."""
        return any(self.moved[-SMOOTHED:])

    @property
    def times_moved(self) -> int:
        """At how many of all its looks it moved."""
        return sum(bool(found) for found in self.moved)


def smoothed(means: Sequence[float]) -> float:
    """Return the mean of the last looks."""
    return float(np.mean(means[-SMOOTHED:]))


def best_smoothed(means: Sequence[float]) -> float:
    """Return the highest that `smoothed` was at any look."""
    return max(smoothed(means[: k + 1]) for k in range(len(means)))


def survivors(
    arms: Sequence[ArmHistory],
    control: Sequence[float],
    *,
    margin: float,
    config: RaceConfig,
    main_at_age: Sequence[float | None] = (),
) -> dict[str, str]:
    """Return by name why an arm is dropped after this rung; who is not named trains the next one.

    Args:
        arms: that trained this rung.
        control: mean return of the main line's looks: at the fork, then after each rung.
        margin: gain that counts.
        config: its `rungs` and `longest`.
        main_at_age: for the fresh start, the main line's training return at the age of each of its looks; None where
            that is not known.
    """
    rung = len(control) - 1
    level = best_smoothed(control)
    rising = {arm.name for arm in arms if arm.moves or arm.score > level + margin}
    racing = [arm for arm in arms if arm.kind != "fresh_start"]

    dropped = {
        arm.name: reason
        for arm in arms
        if arm.kind == "fresh_start" and (reason := _fresh_start_ends(arm, arm.name in rising, margin, main_at_age))
    }
    if rung >= config.longest:  # a fresh start may go on in the next race
        return dropped | {arm.name: f"the race ends after {config.longest} rungs" for arm in racing}
    dropped |= {
        arm.name: f"not moved toward reward within {arm.age} rungs"
        for arm in racing
        if arm.age >= config.rungs and arm.name not in rising
    }
    dropped |= _behind([arm for arm in racing if arm.name not in dropped], rising, smoothed(control), margin)
    left = [arm for arm in racing if arm.name not in dropped]
    age = max((arm.age for arm in left), default=0)  # those that joined together are as old
    someone = age >= FIRST_CUT and any(arm.name in rising for arm in left)
    if someone or (age >= LATE_CUT and (age - LATE_CUT) % CUT_EVERY == 0):
        firm = any(
            arm.times_moved >= FIRM or arm.score - SIGMAS * arm.variance**0.5 > level + margin
            for arm in left
            if arm.name in rising
        )
        dropped |= _halved(left, rising, smoothed(control) if firm else -np.inf, margin)
    return dropped


def _fresh_start_ends(arm: ArmHistory, rises: bool, margin: float, main_at_age: Sequence[float | None]) -> str | None:
    """Return why a fresh start is dropped: clearly below the main line at equal age, or old without having risen."""
    if rises or arm.age < PATIENT_RUNGS:
        return None
    known = [value for value in main_at_age[-SMOOTHED:] if value is not None]
    if known and arm.score < np.mean(known) - margin - SIGMAS * arm.variance**0.5:
        return f"returns {arm.score:.3g}; the main line had {np.mean(known):.3g} at its age"
    # The movement of the race before is not known here, and it holds for some looks.
    is_old = arm.age >= FRESH_RUNGS and len(arm.means) >= SMOOTHED
    return f"not above the main line within {arm.age} rungs" if is_old else None


def _behind(arms: Sequence[ArmHistory], rising: set[str], control: float, margin: float) -> dict[str, str]:
    """Return who lies clearly behind: a rising arm behind the best rising one, any other behind the control as well."""
    best = max((arm for arm in arms if arm.name in rising), key=lambda arm: arm.score, default=None)
    dropped = {}
    for arm in arms:
        if arm.age < PATIENT_RUNGS:
            continue
        if best is not None and arm.score < best.score - margin - SIGMAS * (arm.variance + best.variance) ** 0.5:
            dropped[arm.name] = f"returns {arm.score:.3g}, clearly less than {best.name} with {best.score:.3g}"
        elif arm.name not in rising and arm.score < control - margin - SIGMAS * arm.variance**0.5:
            dropped[arm.name] = f"returns {arm.score:.3g}, clearly less than the main line with {control:.3g}"
    return dropped


def _halved(arms: Sequence[ArmHistory], rising: set[str], floor: float, margin: float) -> dict[str, str]:
    """Return the half that scores least, and who is not above `floor`; without the arms that rise or are too young."""
    places = max(1, len(arms) // 2) - sum(arm.name in rising for arm in arms)
    others = [arm for arm in arms if arm.name not in rising]
    kept = sorted(others, key=lambda arm: -arm.score)[: max(places, 0)]
    # The lowest score that stays; what ties with it stays as well.
    best = max((arm.score for arm in others), default=0.0)
    lowest = max((kept[-1].score if kept else best) - TIE * margin, floor + TIE * margin)
    why = "others rise" if len(others) < len(arms) else "the better half goes on"
    return {
        arm.name: f"returns {arm.score:.3g} after {arm.age} rungs; {why}"
        for arm in others
        if arm.age >= FIRST_CUT and arm.score < lowest
    }
