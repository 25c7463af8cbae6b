"""Config of the adaptation loop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..rl.base_config import Config
from ..rl.ipc.messages import Stage
from ..rl.preferences.config import ScorerConfig


class PreferenceConfig(Config):
    """Ranking single agents' moves where credit is unclear, and scorers fitted to the rankings (LCA, Lin et al., arXiv
    2502.03723), which are then offered to the gate like any proposal.

    `ranker`: `none`; `model`, the one of `llm.ranker`; or `task_heuristic`, a hand-written judge that the task carries
    (an *oracle* for studies, no model), each of whose votes is right with probability `accuracy`. `pairs`: of states,
    for each group of agents and each time. `queries`: votes on each pair. `batch`: pairs in one request to a model.
    `form`: of the learned terms, see `LearnedTerm`. `left_data`: share of recorded states on which the ensemble must
    disagree as on few of its own pairs, for its data to count as left behind.

    `rounds`: how often moves are ranked in one intervention. Before each time but the first, a fork of the run is
    trained for `rehearsal` environment steps on what was fitted so far, and its moves are ranked: a policy that does
    not solve a task knows little of the way there (as DAgger asks where the learner is: Ross et al. 2011). The steps
    are paid from the budget of branches; where it does not pay for them beside the branches, fewer rounds are held.
    """

    ranker: Literal["none", "model", "task_heuristic"] = "none"
    accuracy: float = Field(default=1.0, gt=0.5, le=1)
    pairs: int = Field(default=1_000, ge=50, le=50_000)
    queries: int = Field(default=1, ge=1, le=16)
    batch: int = Field(default=10, ge=1, le=100)
    form: Literal["potential", "difference"] = "potential"
    left_data: float = Field(default=0.25, gt=0, le=1)
    rounds: int = Field(default=4, ge=1, le=10)
    rehearsal: int = Field(default=50_000, ge=1)
    scorer: ScorerConfig = ScorerConfig()


class OtelConfig(Config):
    """OpenTelemetry spans of a run, posted to the collector that OpenTelemetry's own environment variables name. They
    change nothing about the run, so that it may be resumed with other settings. `content`: prompts, answers and what
    came of them are in the spans.
    """

    enabled: bool = False
    content: bool = True


class AdaptationConfig(Config):
    """When the loop looks, and how much it may spend.

    The trainer pauses every `interval` main steps (lockstep); the loop intervenes only when a trigger fires, no earlier
    than `patience` steps after the start or the last intervention. `rounds`: how often rejected proposals go back to
    the Generator. `max_share`: branch steps as a share of total steps. `evidence_calls`: tool calls of the
    Critic. `gated: false` is for ablations only: what ranks first is put in force without a branch.

    `approve: human` asks before a promotion (`cosignal approve`, `Run.approve`). `max_staleness` (overlap clock): main
    steps that the run may have moved on since the snapshot of a verdict; beyond it, or in another stage, the finalist
    is confirmed once more from a current snapshot. `stage`: `auto`, or for ablations the stage that all are told.
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
