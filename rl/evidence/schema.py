"""The evidence: the compact, bounded record of a run that models see.

Pydantic only: imports neither torch nor LangChain.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..signals.signal import Signal
from ..stage import Stage


class Wire(BaseModel):
    """A frozen record that crosses between processes as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class SparseEvidence(Wire):
    """Sparse return and success of training episodes: the current stochastic policy, the task's own reward only."""

    return_now: float | None  # mean over the last window
    return_best: float | None  # that of the best window so far
    return_range: tuple[float, float] | None  # declared, else seen in the first two windows
    trend: float | None  # change of the return per 100k steps over the last window
    spread: float | None  # standard deviation over the last 200 episodes
    success_rate: float | None  # over the last window, None where the task has no success test
    window_steps: int
    curve: list[tuple[int, float, float | None]]  # at most 12 rows [main steps, return, success rate]


class BehaviourEvidence(Wire):
    """The behaviour of the policy of one group of agents."""

    group: str
    entropy: float  # of the policy, in nats
    entropy_max: float  # of a policy that has learnt nothing
    # Share of agent steps that changed nothing about the agent itself: its own features but distances; without a
    # position among them, what it observes.
    no_effect_share: float
    # Share of agents that observe exactly what another one of the group does; None in runs of older versions.
    same_view_share: float | None = Field(default=None, exclude_if=lambda share: share is None)
    entropy_curve: list[float] = Field(default_factory=list)  # in the windows of `SparseEvidence.curve`
    action_shares: list[tuple[str, float]]  # [name, share], in the action order of the group
    episode_length_mean: float | None
    events_per_agent: list[tuple[str, float]]  # [agent, events per episode, all kinds]


class FeatureEvidence(Wire):
    """Statistics of one feature over recent episodes."""

    name: str
    group: str
    description: str = ""  # the task's own words
    kind: str
    unit: str = ""
    low: float  # as declared
    high: float
    done: float | None = None  # its value once the thing is done or gone, as declared
    mean: float
    start: float | None  # mean over agents at the first state
    end_success: float | None  # mean at the last non-terminal state of successful episodes
    end_failure: float | None
    seen_low: float
    seen_high: float
    reached_low_share: float | None  # share of episodes in which any agent came within 5 % of the range to that end
    reached_high_share: float | None
    change_before_reward: float | None  # mean change in the 5 steps up to a positive sparse reward, None without one
    # Mean of the group's nearest agent in the last step before it was done, over the whole run; None if it never was.
    before_done: float | None = None


class EventEvidence(Wire):
    """The frequency of one event in recent episodes, and who caused it."""

    name: str
    group: str
    description: str = ""  # the task's own words
    reward: float = 0.0  # what the team is paid each time, 0 where it is not paid for or nobody says
    repeatable: bool
    per_episode: float
    episodes_share: float  # share of episodes in which it happened
    largest_agent_share: float | None  # share of the busiest agent; 1 / agents is even, 1 is all by one
    first_step: float | None  # mean over the episodes in which it happened
    last_step: float | None = None  # the same of the last time in an episode


class TeamEvidence(Wire):
    """One distance that several agents have, over the team."""

    name: str  # of the feature
    agents: int  # that have it, of whatever groups
    nearest: float  # mean of the nearest agent's, over recorded states in which it is not done
    furthest: float
    at_once: list[float]  # shares of episodes in which 2, 3, … agents were at its low end at the same time


class LearnerEvidence(Wire):
    """What learns, as far as it decides which signals can work."""

    algorithm: str
    gamma: float
    networks: list[list[str]]  # agents that are samples of one policy; each sees whatever its observation holds
    lr: float | None = None  # step size of Adam; None in runs of older versions
    advantage_norm: str | None = None  # over a minibatch, for every agent apart, or none; None: it has no advantages
    blend_lr: float | None = None  # of the factors of terms; 0: there are none, None: there can be none
    entropy_bonus: float | None  # coefficient in force, or least share of random actions; None for the trainer's own


class StatePicture(Wire):
    """A state of an episode as the task draws it."""

    after_step: int  # 0: the first state
    text: str  # several lines


class EpisodeEvidence(Wire):
    """One fresh episode of the policy, a line a step; steps in which nothing happened are left out."""

    outcome: Literal["successful", "failed", "ended"]  # ended: the task has no success test
    sparse_return: float
    length: int  # steps
    # Step of the last event, of those that cannot be repeated where there are any; 0: none happened, None: none exist
    last_event: int | None = None
    lines: list[str]
    pictures: list[StatePicture] = Field(default_factory=list)  # in order; none where the task draws nothing
    # of an episode that did not succeed all lines (the last 400), for who reads it step by step; prompts show `lines`
    every_line: list[str] = Field(default_factory=list, exclude_if=lambda lines: not lines)


class ReadingEvidence(Wire):
    """What an episode that did not succeed failed of, by a model that has read all of its steps."""

    step: int | None  # from which on nothing more led to success
    agent: str | None  # that it hangs on; None: the whole team
    cause: str
    failure: str  # of the Critic's closed list


class TermEvidence(Wire):
    """The pay of one term in force over recent updates."""

    name: str
    kind: str
    per_episode: float  # mean of beta·scale·w·F summed over an episode
    mean_abs: float  # mean absolute pay a step
    share: float  # of the mean absolute reward, sparse reward included


class Evidence(Wire):
    """The compact, bounded record that models see.

    Records of runs of older versions lack the fields that have a default.
    """

    task: dict[str, Any]  # what the task says of itself, see `evidence.build`; plain data
    steps: int
    steps_budget: int
    stage: Stage
    stage_reason: str  # the figures that decided it
    signal: Signal
    learner: LearnerEvidence | None = None
    sparse: SparseEvidence
    behaviour: list[BehaviourEvidence]
    features: list[FeatureEvidence]
    team: list[TeamEvidence] = Field(default_factory=list)
    events: list[EventEvidence]
    # Mean share of an episode's steps after its last event, of those that cannot be repeated where there are any;
    # None without events.
    idle_tail: float | None = None
    terms: list[TermEvidence]
    episodes: list[EpisodeEvidence] = Field(default_factory=list)  # at most one of each outcome
    readings: list[ReadingEvidence] = Field(default_factory=list, exclude_if=lambda rows: not rows)
    key_moments: list[str]  # the last rewarded steps as text
