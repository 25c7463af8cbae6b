"""Where learning stands, computed from sparse returns by rule and never asked of a model.

| stage | rule (windows of `WINDOW_STEPS` main steps; margin = gate.margin × return range) |
|---|---|
| converged | success ≥ 0.9 over the window (without a success test: return in the top 5 % of its range) |
| regressing | more than 2 margins below the best window so far, and not rising |
| improving | risen by more than a margin against the window before, competence ≥ 0.2 |
| emerging | risen by more than a margin, competence < 0.2 |
| plateaued | not risen, but above where the run started by more than a margin |
| exploring | none of these: nothing has been learnt yet |

Competence is the success rate, else the return's place in its range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType
from typing import Literal, TypedDict

import numpy as np

Stage = Literal["exploring", "emerging", "improving", "plateaued", "regressing", "converged"]

# ---------------------------------------------------------------- MERGED rl.stage

WINDOW_STEPS = 50_000
SOLVED = 0.9
COMPETENT = 0.2


class HistoryRow(TypedDict):
    """One update: what its finished training episodes returned, and how the policy behaved."""

    steps: int  # main steps at the end of the update
    episodes: int
    returns: float | None  # mean sparse return of the episodes that ended in it, None without one
    success: float | None
    entropy: list[float]  # [g] nats
    no_effect: list[float]  # [g] share of agent steps that changed nothing about the agent itself
    actions: list[list[float]]  # [g] share of each action
    terms: dict[str, list[float]]  # name → [mean, mean absolute] shaping a step
    reward_abs: float  # mean absolute sparse reward a step


@dataclass(frozen=True)
class Window:
    """Episodes that ended in (`start`, `end`] main steps."""

    start: int
    end: int
    episodes: int
    returns: float
    success: float


def window(history: Sequence[HistoryRow], end: int, width: int = WINDOW_STEPS) -> Window | None:
    """The episodes of the last `width` steps up to `end`, None if none ended there."""
    newest_first = takewhile(lambda row: row["steps"] > end - width, reversed(history))
    rows = [row for row in newest_first if row["steps"] <= end and row["episodes"]][::-1]
    if not rows:
        return None
    counts = [row["episodes"] for row in rows]
    mean = np.average([row["returns"] or 0.0 for row in rows], weights=counts)
    success = np.average([row["success"] or 0.0 for row in rows], weights=counts)
    return Window(end - width, end, sum(counts), float(mean), float(success))


def competence(now: Window, has_success: bool, return_range: tuple[float, float]) -> float:
    """0..1: the success rate, else the return's place in its range."""
    if has_success:
        return now.success
    low, high = return_range
    return float(np.clip((now.returns - low) / (high - low), 0, 1)) if high > low else 0.0


def stage_of(
    history: Sequence[HistoryRow],
    *,
    start_return: float | None,
    best_return: float | None,
    margin: float,
    has_success: bool,
    return_range: tuple[float, float],
) -> tuple[Stage, str]:
    """The stage and the rule's own words for it. `start_return`, `best_return`: mean return of the run's
    first and of its best window."""
    end = history[-1]["steps"] if history else 0
    now, before = window(history, end), window(history, end - WINDOW_STEPS)
    if now is None or before is None or end < 2 * WINDOW_STEPS or start_return is None:
        return "exploring", f"fewer than two windows of {WINDOW_STEPS} steps so far"
    skill = competence(now, has_success, return_range)
    rise = now.returns - before.returns
    said = f"return {now.returns:.3f} against {before.returns:.3f} a window before"
    said += f", margin {margin:.3f}, competence {skill:.2f}"
    if skill >= (SOLVED if has_success else 0.95):
        return "converged", said
    if best_return is not None and now.returns < best_return - 2 * margin and rise <= margin:
        return "regressing", f"{said}; the best window had {best_return:.3f}"
    if rise > margin:
        return ("improving" if skill >= COMPETENT else "emerging"), said
    if now.returns > start_return + margin:
        return "plateaued", said
    return "exploring", f"{said}; the run started at {start_return:.3f}"


# ---------------------------------------------------------------- MERGED rl.stages
# DOC """What the stage of learning decides. One table: triggers, gate, prompts, checks of answers and removal all read it.
# DOC
# DOC `docs/failures.md` shows the same table. The stage itself is computed by `rl.stage`, by rule and never by a model.
# DOC """

TermKind = Literal["potential", "event"]
Purpose = Literal["repair", "removal"]
POTENTIALS: tuple[TermKind, ...] = ("potential",)
ALL_KINDS: tuple[TermKind, ...] = ("potential", "event")


@dataclass(frozen=True)
class StageRule:
    """`purpose`: what an intervention at this stage is for, None where the loop leaves the run alone. `patience`:
    factor on `adaptation.patience`. `kinds`: of new terms; events bend the optimum, so only where little is learnt.
    `decay_steps`: the longest `decay_steps` of a new event bonus and `anneal_steps` of a potential, in main
    environment steps. `horizon` of `auto` branches: short, long, or short from a competence of 0.2 on.
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
