"""The evidence: the compact, bounded record of a run that models see. Pydantic only: imports neither torch nor LangChain."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from ..signals.signal import Signal
from ..stage import Stage


class Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class SparseEvidence(Wire):
    """Sparse return and success of training episodes (current stochastic policy, sparse reward only).

    `curve`: at most 12 rows [main steps, return, success rate]. `trend`: change of the return per 100k steps over the
    last window. `spread`: standard deviation over the last 200 episodes.
    `return_range`: declared, else seen in the first two windows.
    """

    return_now: float | None
    return_best: float | None
    return_range: tuple[float, float] | None
    trend: float | None
    spread: float | None
    success_rate: float | None
    window_steps: int
    curve: list[tuple[int, float, float | None]]


class BehaviourEvidence(Wire):
    """`entropy` of the policy in nats, `entropy_max` of a uniform one. `no_effect_share`: share of agent steps
    that changed nothing about the agent itself (its own features but distances; without a position among them, what
    it observes). `action_shares`: [name, share] in
    the action order of the group.
    """

    group: str
    entropy: float
    entropy_max: float
    no_effect_share: float
    action_shares: list[tuple[str, float]]
    episode_length_mean: float | None
    events_per_agent: list[tuple[str, float]]  # [agent, events per episode, all kinds]


class FeatureEvidence(Wire):
    """Statistics of one feature over recent episodes. `reached_low_share`, `reached_high_share`: share of episodes in
    which any agent came within 5 % of the range to that end. `change_before_reward`: mean change in the 5 steps up to a
    positive sparse reward, None without one. `end_success`, `end_failure`: mean at the last non-terminal state.
    """

    name: str
    group: str
    kind: str
    unit: str
    low: float
    high: float
    mean: float
    start: float | None
    end_success: float | None
    end_failure: float | None
    seen_low: float
    seen_high: float
    reached_low_share: float | None
    reached_high_share: float | None
    change_before_reward: float | None


class EventEvidence(Wire):
    name: str
    group: str
    repeatable: bool
    per_episode: float
    episodes_share: float
    largest_agent_share: float | None  # share of the busiest agent; 1 / agents is even, 1 is all by one
    first_step: float | None


class TermEvidence(Wire):
    """`per_episode`: mean of beta·scale·w·F summed over an episode. `share`: of the mean absolute reward, sparse
    reward included."""

    name: str
    kind: str
    per_episode: float
    mean_abs: float
    share: float


class Evidence(Wire):
    """The compact, bounded record that models see. Keys to cite are dotted: `sparse.trend`, `features.<name>.<field>`,
    `events.<name>.<field>`, `behaviour.<group>.<field>`, `terms.<name>.<field>`."""

    task: dict[str, Any]  # name, description, agents, actions; plain data
    steps: int
    steps_budget: int
    stage: Stage
    stage_reason: str
    signal: Signal
    sparse: SparseEvidence
    behaviour: list[BehaviourEvidence]
    features: list[FeatureEvidence]
    events: list[EventEvidence]
    terms: list[TermEvidence]
    key_moments: list[str]
