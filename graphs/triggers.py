"""When the loop intervenes: a pure function of what the trainer says. Never when nothing is wrong."""

from __future__ import annotations

from typing import NamedTuple

from ..rl.ipc.messages import Stage, TrainerStatus

SOLVED = 0.9
WRONG: tuple[Stage, ...] = ("plateaued", "regressing", "exploring")


class Trigger(NamedTuple):
    fires: bool
    reason: str


def trigger(status: TrainerStatus, *, patience: int, last_steps: int, cost: int, left: int) -> Trigger:
    """Whether to intervene now, and why or why not.

    `patience`: main steps between two interventions, and before the first. `last_steps`: main steps at the last one, 0
    before it. `cost`: branch steps of one round; `left`: those that the budget still allows.
    """
    if status.stage not in WRONG:
        return Trigger(False, f"stage {status.stage}: nothing is wrong")
    if status.success_rate is not None and status.success_rate >= SOLVED:
        return Trigger(False, f"success rate {status.success_rate:.2f}: solved")
    since = status.steps_main - last_steps
    if since < patience:
        return Trigger(False, f"{since} main steps since the last look, adaptation.patience is {patience}")
    if cost > left:
        return Trigger(False, f"a round costs {cost} branch steps, adaptation.max_share leaves {max(left, 0)}")
    return Trigger(True, f"stage {status.stage} after {since} main steps")
