"""The rules of a race, as far as Generator and Ranker must know them. Imports nothing heavy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RaceRules(BaseModel):
    """How proposals race beside the main line; see `rl.branches.config.RaceConfig`.

    Attributes:
        kick: exploration kick of an arm whose proposal sets no exploration.
        kick_alone: whether the signal in force races with that kick too.
        fresh_start: whether a run from step 0 races too.
        arms: that race at the same time; the others join when these are out.
        rung_steps: environment steps of an arm between two looks.
        rungs: after which an arm that has not moved toward reward is dropped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kick: float
    kick_alone: bool
    fresh_start: bool
    arms: int
    rung_steps: int
    rungs: int
