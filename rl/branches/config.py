"""Settings of branches, gate and races. The defaults are those that studies measured (docs/results.md)."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..base_config import Config

# The loop runs on a node of the cluster, so the address of a Ray client (ray://…) is not allowed.
ADDRESS = r"auto|[^\s/]+:\d{1,5}"


class BranchConfig(Config):
    """Say how branches are run.

    Attributes:
        executor: `local` starts worker processes on this machine, `ray` uses Ray actors.
        ray_address: Ray cluster that the executor `ray` joins, `auto` for the one of this machine; None starts a Ray
            of its own here.
        workers: branches that run at the same time.
        horizon: where a signal is judged, environment steps of a full branch, or `auto` for the rule in `horizon`.
        screen_seeds: where a signal is judged, seeds on which all candidates are screened, for half the horizon.
        finalists: where a signal is judged, candidates that are continued after the screening, best first.
        evaluation_episodes: episodes of the evaluation at the end of a branch; an arm of a race plays
            `RaceConfig.look_episodes`.
        keep_control: where a signal is judged under the lockstep clock and nothing is accepted, the control of seed 0,
            which is the main run itself, becomes the main line, so that its steps are not run again.
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
        """Tell whether branches run on a cluster, so that the cores of this machine do not limit them."""
        return self.executor == "ray" and self.ray_address is not None

    @model_validator(mode="after")
    def _ray_can_be_joined(self) -> Self:
        address = self.ray_address
        # An address without Ray is a mistake: it would be ignored.
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
    """Say what is asked of a proposal, and how it is judged.

    Attributes:
        claim: what an acceptance proves. `policy`: a branch's policy is better than the main line's, so that its state
            is adopted (a race, see `RaceConfig`), and nothing is ever asked about a signal; `signal`: the signal helps
            over training seeds (screening, looks); `auto`: policy where something is wrong, signal where the question
            is whether shaping that is no potential may leave.
        level: probability of accepting any signal in one intervention when nothing helps.
        margin: gain that counts, of a signal or of a policy, as a share of the return range.
        looks: where a signal is judged, numbers of seeds at which finalists are; the level is spent across looks and
            finalists.
        adopt: what the promotion of a signal takes over: the winning branch's state, the signal alone, or auto (the
            state when the run is stuck or at zero competence, the signal when it is healthy). A race always takes the
            state.
    """

    claim: Literal["policy", "signal", "auto"] = "auto"
    level: float = Field(default=0.1, gt=0, lt=0.5)
    margin: float = Field(default=0.02, gt=0, lt=1)
    looks: tuple[int, ...] = (4, 6)
    adopt: Literal["auto", "signal", "winner"] = "auto"


class RaceConfig(Config):
    """Say how arms race beside the main line, and when a policy counts as proven.

    A rung is one `adaptation.interval`: main line and arms train it, then the policies play fresh episodes.

    Attributes:
        error: probability, over the whole run, of adopting any policy that is not better than the main line's. It is
            promised where the task declares its return range.
        look_episodes: fresh episodes of each policy after a rung; they only select.
        confirm_episodes: fresh episodes of each side that a confirmation begins with; it goes on while more may prove.
        most_confirm_episodes: fresh episodes of each side that a confirmation has at most.
        arms: that race at the same time; the others join when these are out.
        rungs: rungs until an arm that has not moved toward reward is dropped; a fresh start has more (see `survival`).
        longest: rungs after which a race ends, whatever moves.
        kick: exploration kick of every candidate that asks for no exploration, and of the arm that is kicked only.
        kick_alone: whether an arm races under the signal in force with the kick.
        fresh_start: whether an arm races that begins at step 0 with a seed of its own.
    """

    error: float = Field(default=0.05, gt=0, lt=0.5)
    look_episodes: int = Field(default=16, ge=4)
    confirm_episodes: int = Field(default=64, ge=8)
    most_confirm_episodes: int = Field(default=384, ge=8)
    arms: int = Field(default=3, ge=1)
    rungs: int = Field(default=7, ge=1)
    longest: int = Field(default=30, ge=1)
    kick: float = Field(default=0.05, gt=0, le=1)
    kick_alone: bool = True
    fresh_start: bool = True

    @model_validator(mode="after")
    def _confirmations_can_begin(self) -> Self:
        if self.confirm_episodes > self.most_confirm_episodes:
            raise ValueError(
                f"race.confirm_episodes: must be at most race.most_confirm_episodes, {self.most_confirm_episodes}, got "
                f"{self.confirm_episodes}; lower it, or raise the other"
            )
        return self
