"""Config of branches and gate. Defaults are the measured ones of the design's gate study."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..base_config import Config

ADDRESS = r"auto|[^\s/]+:\d{1,5}"  # a Ray client address, ray://…, is none: the loop runs on a node of the cluster


class BranchConfig(Config):
    """`horizon`: environment steps of a full branch, or auto: by competence.

    Screening runs all candidates for half the horizon on `screen_seeds`; the `finalists` best are continued.
    `keep_control`: where nothing is accepted under the lockstep clock, the control of seed 0, which is the main run
    itself, becomes the main line, so that its steps are not run again.
    `ray_address`: the Ray cluster that the executor `ray` joins, `auto` for the one of this machine; None starts a Ray
    of its own here.
    """

    executor: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    workers: int = Field(default=1, ge=1, le=64)
    horizon: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    screen_seeds: int = Field(default=2, ge=1)
    finalists: int = Field(default=2, ge=1)
    evaluation_episodes: int = Field(default=64, ge=1)
    keep_control: bool = True

    @property
    def on_cluster(self) -> bool:
        """Whether branches run on a cluster, so that the cores of this machine say nothing about them."""
        return self.executor == "ray" and self.ray_address is not None

    @model_validator(mode="after")
    def _ray_can_be_joined(self) -> Self:
        address = self.ray_address
        if address is not None and self.executor != "ray":
            raise ValueError(
                f"branches.ray_address: needs branches.executor ray, got {address!r} with {self.executor!r}; "
                "set branches.executor to ray, or remove the address"
            )
        if address is not None and not re.fullmatch(ADDRESS, address):
            raise ValueError(
                f"branches.ray_address: must be auto or HOST:PORT, got {address!r}; correct it or remove it"
            )
        return self


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
