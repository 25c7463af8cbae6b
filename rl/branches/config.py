"""Config of branches and gate. Defaults are the measured ones of the design's gate study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..frozen import Config


class BranchConfig(Config):
    """`horizon`: environment steps of a full branch, or auto: by competence.

    Screening runs all candidates for half the horizon on `screen_seeds`; the `finalists` best are continued.
    `recorded_screen`: candidates whose potential clearly falls on recorded ways to the sparse reward are not branched;
    off by default, since what leads to the next subgoal may fall while only an earlier one pays.
    `keep_control`: where nothing is accepted under the lockstep clock, the control of seed 0, which is the main run
    itself, becomes the main line, so that its steps are not run again.
    """

    executor: Literal["local"] = "local"
    workers: int = Field(default=1, ge=1, le=64)
    horizon: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    screen_seeds: int = Field(default=2, ge=1)
    finalists: int = Field(default=2, ge=1)
    evaluation_episodes: int = Field(default=64, ge=1)
    recorded_screen: bool = False
    keep_control: bool = True


class GateConfig(Config):
    """`level`: chance to accept anything in one intervention when nothing helps. `margin`: share of the return range.

    `looks`: numbers of seeds at which finalists are judged; the level is spent across looks and finalists.
    `adopt`: what a promotion takes over: the winning branch's state, the signal alone, or auto (the state when the run
    is stuck or at zero competence, the signal when it is healthy).
    """

    level: float = Field(default=0.1, gt=0, lt=0.5)
    margin: float = Field(default=0.02, gt=0, lt=1)
    looks: tuple[int, ...] = (4, 6)
    adopt: Literal["auto", "signal", "winner"] = "auto"
