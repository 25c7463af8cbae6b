"""Config of the adaptation loop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..rl.config import Config


class AdaptationConfig(Config):
    """When the loop looks, and how much it may spend.

    The trainer pauses every `interval` main steps (lockstep); the loop intervenes only when a trigger fires, no earlier
    than `patience` steps after the start or the last intervention. `rounds`: how often rejected proposals go back to
    the Generator. `max_share`: branch steps as a share of total steps. `evidence_calls`: tool calls of the
    Critic. `gated: false` is for ablations only: what ranks first is put in force without a branch.
    """

    enabled: bool = True
    gated: bool = True
    candidates: int = Field(default=4, ge=1, le=8)
    rounds: int = Field(default=2, ge=1, le=5)
    max_share: float = Field(default=0.75, gt=0, lt=1)
    approve: Literal["auto"] = "auto"
    interval: int = Field(default=32_768, ge=1)
    patience: int = Field(default=300_000, ge=0)
    evidence_calls: int = Field(default=3, ge=0, le=10)
