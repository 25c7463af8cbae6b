"""The stage of learning, and what it decides.

A stage is computed from sparse returns by rule and never asked of a model:

| stage | rule (windows of `WINDOW_STEPS` main steps; margin = gate.margin × return range) |
|---|---|
| converged | success ≥ 0.9 over the window (without a success test: return in the top 5 % of its range) |
| regressing | more than 2 margins below the best window so far, and not rising |
| improving | risen by more than a margin against the window before, competence ≥ 0.2 |
| emerging | risen by more than a margin, competence < 0.2 |
| plateaued | not risen, but above where the run started by more than a margin |
| exploring | none of these: nothing has been learnt yet |

Competence is the success rate, else the return's place in its range. One table, `STAGES`, says what a stage decides:
triggers, gate, prompts, checks of answers and removal all read it. `docs/failures.md` shows both tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType
from typing import Literal, NotRequired, TypedDict

import numpy as np

Stage = Literal["exploring", "emerging", "improving", "plateaued", "regressing", "converged"]
TermKind = Literal["potential", "similarity", "event", "subgoals"]  # kinds of terms that may be proposed
Purpose = Literal["repair", "removal"]

WINDOW_STEPS = 50_000
SOLVED = 0.9  # success rate from which on a task counts as solved
SOLVED_RETURN = 0.95  # the return's place in its range that counts as solved, in a task without a success test
COMPETENT = 0.2

# ------------------------------------------------------------ what a stage decides

POTENTIALS: tuple[TermKind, ...] = ("potential", "similarity")
ALL_KINDS: tuple[TermKind, ...] = (*POTENTIALS, "event", "subgoals")


@dataclass(frozen=True)
class StageRule:
    """A row of the table.

    Attributes:
        purpose: what an intervention at this stage is for, None where the loop leaves the run alone.
        patience: factor on `adaptation.patience`.
        kinds: kinds that new terms may have; events bend the optimum, so they come only where little is learnt.
        decay_steps: the longest `decay_steps` of a new event bonus and `anneal_steps` of a potential, in main
            environment steps.
        horizon: of `auto` branches; by competence is short from a competence of 0.2 on, else long.
    """

    purpose: Purpose | None
    patience: float
    kinds: tuple[TermKind, ...]
    decay_steps: int
    horizon: Literal["short", "long", "by competence"]


STAGES: Mapping[Stage, StageRule] = MappingProxyType(
    {
        "exploring": StageRule("repair", 1.0, ALL_KINDS, 500_000, "long"),
        "emerging": StageRule(None, 1.0, ALL_KINDS, 300_000, "by competence"),
        "improving": StageRule(None, 1.0, POTENTIALS, 100_000, "by competence"),
        "plateaued": StageRule("repair", 1.0, ALL_KINDS, 300_000, "long"),
        "regressing": StageRule("repair", 0.5, POTENTIALS, 100_000, "long"),
        "converged": StageRule("removal", 0.5, POTENTIALS, 50_000, "short"),
    }
)

# ------------------------------------------------------------ which stage it is


class HistoryRow(TypedDict):
    """One update: what its finished training episodes returned, and how the policy behaved."""

    steps: int  # main steps at the end of the update
    episodes: int
    returns: float | None  # mean sparse return of the episodes that ended in it, None without one
    success: float | None
    entropy: list[float]  # [g] nats
    no_effect: list[float]  # [g] share of agent steps that changed nothing about the agent itself
    same_view: NotRequired[list[float]]  # [g] share of agents that observe what a mate does; older versions have none
    actions: list[list[float]]  # [g] share of each action
    terms: dict[str, list[float]]  # name → [mean, mean absolute] shaping a step
    reward_abs: float  # mean absolute sparse reward a step


def stage_of(
    history: Sequence[HistoryRow],
    *,
    start_return: float | None,
    best_return: float | None,
    margin: float,
    has_success: bool,
    return_range: tuple[float, float],
) -> tuple[Stage, str]:
    """Return the stage, and in words the figures that decided it.

    Args:
        history: updates, oldest first.
        start_return: mean return of the run's first window, None before it is full.
        best_return: mean return of its best window so far.
        margin: difference of returns that counts as a rise.
        has_success: whether the task has a success test.
        return_range: (worst, best) return.
    """
    # The last window and the one before it; no stage is known before both are full.
    end = history[-1]["steps"] if history else 0
    now, before = window(history, end), window(history, end - WINDOW_STEPS)
    if now is None or before is None or end < 2 * WINDOW_STEPS or start_return is None:
        return "exploring", f"fewer than two windows of {WINDOW_STEPS} steps so far"
    skill = competence(now, has_success, return_range)
    rise = now.returns - before.returns
    figures = f"return {now.returns:.3f} against {before.returns:.3f} a window before"
    figures += f", margin {margin:.3f}, competence {skill:.2f}"
    # The first rule that holds gives the stage.
    if skill >= (SOLVED if has_success else SOLVED_RETURN):
        return "converged", figures
    if best_return is not None and now.returns < best_return - 2 * margin and rise <= margin:
        return "regressing", f"{figures}; the best window had {best_return:.3f}"
    if rise > margin:
        return ("improving" if skill >= COMPETENT else "emerging"), figures
    if now.returns > start_return + margin:
        return "plateaued", figures
    return "exploring", f"{figures}; the run started at {start_return:.3f}"


@dataclass(frozen=True)
class Window:
    """Means over the episodes that ended in (`start`, `end`] main steps."""

    start: int
    end: int
    episodes: int
    returns: float
    success: float


def window(history: Sequence[HistoryRow], end: int, width: int = WINDOW_STEPS) -> Window | None:
    """Return the means over the episodes of the last `width` steps up to `end`, None if none ended there."""
    # Only the last rows are looked at, for histories are long.
    newest_first = takewhile(lambda row: row["steps"] > end - width, reversed(history))
    rows = [row for row in newest_first if row["steps"] <= end and row["episodes"]][::-1]
    if not rows:
        return None
    counts = [row["episodes"] for row in rows]
    mean = np.average([row["returns"] or 0.0 for row in rows], weights=counts)
    success = np.average([row["success"] or 0.0 for row in rows], weights=counts)
    return Window(end - width, end, sum(counts), float(mean), float(success))


def competence(now: Window, has_success: bool, return_range: tuple[float, float]) -> float:
    """Return the success rate, else the return's place in its range; in 0..1."""
    if has_success:
        return now.success
    place = place_in_range(now.returns, return_range)
    return 0.0 if place is None else float(np.clip(place, 0, 1))


def place_in_range(value: float, return_range: tuple[float, float]) -> float | None:
    """Return where `value` lies between the worst return (0) and the best (1); None where the range has no width."""
    low, high = return_range
    return (value - low) / (high - low) if high > low else None
