"""When the loop intervenes: a pure function of what the trainer says. Never when nothing is wrong, and where learning
has converged only to take shaping away."""

from __future__ import annotations

from typing import NamedTuple

from ..rl.ipc.messages import Stage, TrainerStatus
from ..rl.signals.signal import Signal, fades_over
from ..rl.stages import STAGES, StageRule

SOLVED = 0.9
WRONG: tuple[Stage, ...] = tuple(stage for stage, rule in STAGES.items() if rule.purpose == "repair")
REMOVAL_REST = 5  # a removal that was refused rests for this many times the patience of its stage


class Trigger(NamedTuple):
    """`removing`: nothing is wrong; the intervention is to take shaping away."""

    fires: bool
    reason: str
    removing: bool = False


def trigger(
    status: TrainerStatus, *, patience: int, last_steps: int, cost: int, left: int, refused: int | None = None
) -> Trigger:
    """Whether to intervene now, and why or why not.

    `patience`: main steps between two interventions, and before the first; the stage may shorten it. `last_steps`: main
    steps at the last one, 0 before it. `cost`: branch steps of one round; `left`: those that the budget still allows.
    `refused`: main steps at the last refused removal of the signal in force, None where there was none.
    """
    rule = STAGES[status.stage]
    wait = int(patience * rule.patience)
    since = status.steps_main - last_steps
    reason = _nothing_to_do(status, rule, wait, refused)
    if reason is not None:
        return Trigger(False, reason)
    if since < wait:
        return Trigger(False, f"{since} main steps since the last look, adaptation.patience is {wait} at this stage")
    if cost > left:
        return Trigger(False, f"a round costs {cost} branch steps, adaptation.max_share leaves {max(left, 0)}")
    return Trigger(True, f"stage {status.stage} after {since} main steps", rule.purpose == "removal")


def _nothing_to_do(status: TrainerStatus, rule: StageRule, wait: int, refused: int | None) -> str | None:
    if rule.purpose is None:
        return f"stage {status.stage}: nothing is wrong"
    if rule.purpose == "repair":
        solved = status.success_rate is not None and status.success_rate >= SOLVED
        return f"success rate {status.success_rate:.2f}: solved" if solved else None
    if not stays(status.signal):
        return f"stage {status.stage}: nothing is wrong, and no shaping stays in force"
    if refused is not None and status.steps_main - refused < REMOVAL_REST * wait:
        return f"stage {status.stage}: removing this signal was refused at {refused} main steps"
    return None


def stays(signal: Signal) -> bool:
    """Whether any shaping stays until it is taken away: event bonuses and annealed potentials fade by themselves."""
    return any(fades_over(term) is None for term in signal.terms)
