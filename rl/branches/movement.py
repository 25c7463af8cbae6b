"""What counts as moving toward reward in a race, by facts of the task that are fixed before it. Pure functions.

A look plays fresh episodes of a policy. The milestones of its episodes become shares: `name` is reached at least once,
`name ×2` at least twice, or by two agents at once. A policy moves by the milestones that it reaches significantly more
often than the main line, for which they are rare. Only these count:

| milestone | counts | why |
|---|---|---|
| an event that cannot be repeated without progress, ×1 to ×4 | yes | a subgoal, or one more of its kind |
| an event that can be repeated, or that costs reward | never | turning, collisions and floods are no progress |
| `at FEATURE`, one agent | never | whoever wanders is somewhere |
| `at FEATURE ×2` and up | yes | several agents at one target |

What the policy's own signal pays for counts only beside something unpaid and deeper that has moved too, see `moved`.
Since a term that reads where agents are can lead them anywhere, it pays for all places (`paid_by`): to be attracted to
a corner, or away from a switch, moves nothing.

Shares say which prefix of a chain of subgoals is reached, without its order in time: a subgoal that needs another one
is at most as frequent, in the same episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from ..ipc.messages import EpisodeStats
from ..signals.signal import Signal
from ..task import TaskSpec

RARE = 0.1  # share of the main line's episodes up to which a milestone is rare
LEVEL = 0.01  # one-sided, of one look of one arm, over all milestones; a race has about a hundred such looks
MOST = 4  # highest number that a share is taken of
AT = "at "
TIMES = " ×"


@dataclass(frozen=True)
class Reached:
    """What the episodes of one look, or of several, reached.

    Attributes:
        shares: by milestone, the share of episodes that reached it; one that is missing was reached in none.
        episodes: how many.
    """

    shares: dict[str, float]
    episodes: int

    def count(self, milestone: str) -> int:
        """Return the number of episodes that reached it."""
        return round(self.shares.get(milestone, 0.0) * self.episodes)


class Milestone(NamedTuple):
    """A name such as `switch_triggered ×2`, taken apart: ("switch_triggered", 2)."""

    base: str
    times: int


def shares(episodes: EpisodeStats) -> dict[str, float]:
    """Return by milestone the share of episodes that reached it: `name`, `name ×2` up to `×4`, where any did."""
    found: dict[str, float] = {}
    for name, counts in episodes.reached.items():
        for times in range(1, MOST + 1):
            share = float(np.mean(np.asarray(counts) >= times)) if counts else 0.0
            if share > 0:
                found[name if times == 1 else f"{name}{TIMES}{times}"] = share
    return found


def pooled(looks: Sequence[Reached]) -> Reached:
    """Return several looks as one, each with the weight of its episodes."""
    episodes = sum(look.episodes for look in looks)
    names = sorted({name for look in looks for name in look.shares})
    counts = {name: sum(look.count(name) for look in looks) for name in names}
    return Reached({name: count / episodes for name, count in counts.items() if count}, episodes)


def taken_apart(milestone: str) -> Milestone:
    """Return the name without its number, and the number."""
    base, _, times = milestone.partition(TIMES)
    return Milestone(base, int(times or 1))


def paid_by(signal: Signal, spec: TaskSpec) -> frozenset[str]:
    """Return the milestones, without ×, that a signal pays for itself.

    An event term pays for its event, whatever its sign. A term that reads a distance, or where agents are (a position,
    what they observe, or all features), of the agent itself or of its mates, pays for every `at FEATURE` of the task: a
    pull to one place leads past others, and a push away from one leads into some corner. Counts and flags pay for
    nothing here: potentials use them to say which subgoal is next, and a potential cannot be farmed by going back and
    forth.

    Raises:
        ExpressionError: a term's expression is outside the grammar.
    """
    features = [feature for group in spec.groups for feature in group.features]
    where = {feature.name for feature in features if feature.kind in ("distance", "position")}
    events = {event for term in signal.terms for event in term.reads.events}
    leads = any(
        term.reads_observations or term.reads_all_features or term.reads.features & where for term in signal.terms
    )
    places = {AT + feature.name for feature in features if feature.kind == "distance"} if leads else set()
    return frozenset(events | places)


def moved(arm: Reached, control: Reached, paid: frozenset[str], spec: TaskSpec) -> list[str]:
    """Return the milestones by which an arm moves toward reward, the deepest (rarest in the control) first.

    Those count that are rare in the control (share at most RARE) and more frequent in the arm by Fisher's exact test,
    one-sided, at LEVEL divided by the number of rare milestones that any of both reached (those that none reached
    cannot differ: Tarone 1990). What the arm's signal pays for is named only where something unpaid moved that is
    deeper: rarer in the control, or as rare there and rarer in the arm. So paying for an event, or for a place, never
    counts by itself.

    Args:
        arm: of one look.
        control: of all looks of the main line in this race so far, pooled; its fork included.
        paid: of the arm's signal, by `paid_by`.
        spec: of the task.
    """
    names = {*arm.shares, *control.shares}
    rare = sorted(n for n in names if _counts(taken_apart(n), spec) and control.shares.get(n, 0.0) <= RARE)
    risen = [name for name in rare if _p_value(name, arm, control) <= LEVEL / len(rare)]
    depth = {name: (control.shares.get(name, 0.0), arm.shares[name]) for name in risen}
    unpaid = [depth[name] for name in risen if taken_apart(name).base not in paid]
    counted = [
        name for name in risen if taken_apart(name).base not in paid or any(other < depth[name] for other in unpaid)
    ]
    return sorted(counted, key=lambda name: (*depth[name], name))


def _counts(milestone: Milestone, spec: TaskSpec) -> bool:
    """Tell whether a milestone says anything about progress; see the table of the module."""
    if milestone.base.startswith(AT):
        return milestone.times > 1
    events = [event for group in spec.groups for event in group.events if event.name == milestone.base]
    return bool(events) and not any(event.repeatable or event.reward < 0 for event in events)


def _p_value(name: str, arm: Reached, control: Reached) -> float:
    """Return the chance that so many of all the episodes that reached it are the arm's, were both policies alike."""
    hits = arm.count(name)
    everywhere, episodes = hits + control.count(name), arm.episodes + control.episodes
    return float(stats.hypergeom.sf(hits - 1, episodes, everywhere, arm.episodes))
