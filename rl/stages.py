"""What the stage of learning decides. One table: triggers, gate, prompts, checks of answers and removal all read it.

`docs/failures.md` shows the same table. The stage itself is computed by `rl.stage`, by rule and never by a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .ipc.messages import Stage

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
