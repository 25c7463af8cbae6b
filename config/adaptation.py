"""Config of the adaptation loop, and of the spans that it sends."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..rl.base_config import Config
from ..rl.stage import Stage


class OtelConfig(Config):
    """OpenTelemetry spans of a run, posted to the collector that OpenTelemetry's own environment variables name.

    They change nothing about the run, so that it may be resumed with other settings.

    Attributes:
        enabled: whether spans are sent.
        content: whether prompts, answers and what came of them are in the spans.
    """

    enabled: bool = False
    content: bool = True


class AdaptationConfig(Config):
    """When the loop looks, and how much it may spend.

    The trainer pauses every `interval` main steps (lockstep); the loop intervenes only when a trigger fires, no earlier
    than `patience` steps after the start or the last intervention.

    Attributes:
        enabled: whether there is a loop; without it a run is plain training.
        gated: whether branches decide. Without (for ablations only) what ranks first is put in force without a branch.
        candidates: proposals of a round.
        rounds: rounds of an intervention at most; rejected proposals go back to the Generator for the next one.
        max_share: branch steps as a share of total steps.
        approve: `human` asks before a promotion (`cosignal approve`, `Run.approve`).
        max_staleness: main steps that a run under the overlap clock may have moved on since the snapshot of a verdict;
            beyond it, or in another stage, the finalist is confirmed once more from a current snapshot.
        stage: `auto`, or for ablations the stage that everything follows.
        interval: main steps between two adaptation points.
        patience: main steps before the first intervention, and between two.
        evidence_calls: tool calls of the Critic.
    """

    enabled: bool = True
    gated: bool = True
    candidates: int = Field(default=4, ge=1, le=8)
    rounds: int = Field(default=2, ge=1, le=5)
    max_share: float = Field(default=0.75, gt=0, lt=1)
    approve: Literal["auto", "human"] = "auto"
    max_staleness: int = Field(default=1_000_000, ge=0)
    stage: Literal["auto"] | Stage = "auto"
    interval: int = Field(default=32_768, ge=1)
    patience: int = Field(default=300_000, ge=0)
    evidence_calls: int = Field(default=3, ge=0, le=10)
