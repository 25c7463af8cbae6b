"""How one arm of a round is judged, from whichever snapshot its branches were forked."""

from __future__ import annotations

from ..rl.branches.gate import Arm, Judgement, judge, judge_kick, signal_kind
from ..rl.signals.removal import is_removal
from .branching import CONTROL
from .context import Ctx
from .round import Results, Round


def judge_arm(ctx: Ctx, this: Round, results: Results, arm: str, level: float) -> Judgement:
    """The gate's word on a candidate beside the control; on the control itself, whether the round's kick alone has
    lifted it above the fork."""
    control, margin = results[CONTROL], ctx.config.gate.margin * this.width
    fork_return = control[0].fork_return
    if arm == CONTROL:
        return judge_kick(Arm.of(CONTROL, control), fork_return=fork_return, margin=margin, level=level)
    signal = this.signals[arm]
    return judge(
        Arm.of(arm, results[arm]),
        Arm.of(CONTROL, control),
        margin=margin,
        level=level,
        # what every arm of the round gets is part of what would be promoted: a removal with a new kick is no removal
        removal=is_removal(signal.model_copy(update={"exploration": this.exploration}), this.in_force),
        fork_return=fork_return,
        return_width=this.width,
        kind=signal_kind(signal),
        horizon=this.horizon,
        explores=this.explores,
    )
