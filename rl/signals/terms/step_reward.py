"""Step rewards from preferences over whole episodes: what a second policy π_φ says of the action that was taken.

    r_i = β log(π_φ(a_i | o_i) / π(a_i | o_i)),   A ← A + α std(A) (r_i − mean r),   |r_i| ≤ bound

The implicit step reward of iStar (Liu et al. 2025, OPRL), added to advantages, since merging rewards did worse there.
π is the policy that took the step, so that the reward shrinks to nothing as the policy becomes π_φ. The mean is that of
the rollout, over all agents of the group that it is for; std(A), of the advantages of a network, makes α the same for
every scale of rewards. `rl.signals.learned.step_rewards` fits π_φ. It is not policy-invariant, and grows stale: so it
is bounded, and it fades.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ....errors import SignalError
from .agent_masks import named_agents
from .base import BaseTerm, CompiledTerm, TermName, Values

if TYPE_CHECKING:
    from ...experience.rollout import Rollout, Transitions
    from ...experience.transition_sample import TransitionSample
    from ...task import BoolArray, FloatArray, IntArray, TaskSpec
    from ..scorer import Scorer, Scorers

MAX_STEP_WEIGHT = 5.0
NEVER = -1e9  # logit of an action that is not allowed


# The prompt of the Generator shows this docstring to models, as the schema's description.
class StepRewardTerm(BaseTerm):
    """Implicit step rewards of a second policy, which was fitted to put the run's own episodes in the order of their
    outcomes. They are added to advantages (`weight` is α) and pay nothing; `beta` and the scale of a signal do not act.

    `scorer`: the second policy's name in the run's folder of scorers. `temperature`: β of β log(π_φ / π). `bound`: of
    its size. `agents`: the group that it was fitted for. It decays to zero over `decay_steps`.
    """

    fading_field = "decay_steps"
    anneals = False

    name: TermName
    kind: Literal["step_reward"] = "step_reward"
    scorer: str = Field(pattern=r"^[0-9a-f]{16}$")
    temperature: float = Field(default=0.05, gt=0, le=10)
    bound: float = Field(default=1.0, gt=0, le=10)
    weight: float = Field(default=1.0, ge=0, le=MAX_STEP_WEIGHT)
    agents: str
    decay_steps: int = Field(default=200_000, ge=1_000)

    @property
    def reads_observations(self) -> bool:
        """True: both policies are functions of observations."""
        return True

    @property
    def acts_on_advantages(self) -> bool:
        """True: it pays nothing."""
        return True

    @property
    def scorers(self) -> tuple[str, ...]:
        """The name of its policy."""
        return (self.scorer,)

    def describe(self) -> str:
        return (
            f"step_reward {self.name}: policy {self.scorer} (temperature {self.temperature:g}, bound {self.bound:g}, "
            f"weight {self.weight:g} on advantages, decays over {self.decay_steps} steps{self.for_whom})"
        )

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledStepReward:
        policy, masks = scorers.get(self.scorer), named_agents(self, spec)
        for group, mask in zip(spec.groups, masks, strict=True):
            sizes = (policy.obs_size, policy.n_outputs)
            if mask.any() and (group.continuous or sizes != (group.obs_size, group.n_actions)):
                raise SignalError(
                    f"term {self.name!r}: policy {self.scorer!r} chooses one of {sizes[1]} actions by {sizes[0]} "
                    f"numbers, agents of {group.name!r} do not; name the group that it was fitted for"
                )
        return CompiledStepReward(self, spec, masks, policy)


@dataclass(frozen=True)
class CompiledStepReward(CompiledTerm):
    """Step rewards for one task."""

    term: StepRewardTerm
    policy: Scorer

    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:  # noqa: ARG002 it pays nothing
        """Return [g] [..., A_g]: zeros."""
        return [np.zeros(x.shape[:-1]) for x in transitions.features]

    def step_rewards(self, rollout: Rollout) -> list[Values]:
        """Return [g] [..., A_g]: r_i less its mean over all that the term is for; zero for all others."""
        out: list[Values] = [np.zeros(x.shape) for x in rollout.logp]
        counted: list[BoolArray] = [np.zeros(x.shape, bool) for x in rollout.logp]
        for g, mask in enumerate(self.masks):
            if mask.any():
                allowed = None if rollout.masks is None else rollout.masks[g]
                log_ratio = log_probabilities(self.policy, rollout.obs[g], rollout.actions[g], allowed)
                log_ratio -= rollout.logp[g]
                out[g] = np.clip(self.term.temperature * log_ratio, -self.term.bound, self.term.bound)
                counted[g] |= mask if rollout.alive is None else mask & (rollout.alive[g] > 0)
        total = sum(int(x.sum()) for x in counted)
        mean = sum(float(x[y].sum()) for x, y in zip(out, counted, strict=True)) / max(total, 1)
        return [np.where(y, x - mean, 0.0) for x, y in zip(out, counted, strict=True)]

    def notes(self, recorded: TransitionSample) -> Iterator[str]:  # noqa: ARG002 nothing is computed
        """Say that it is no potential."""
        yield f"term {self.term.name!r} is added to advantages and is no potential: it may change what is optimal"


def log_probabilities(policy: Scorer, obs: FloatArray, actions: IntArray, allowed: BoolArray | None) -> Values:
    """Return log π_φ(a | o): obs [..., O], actions [...], allowed [..., U] → [...]."""
    logits = policy.logits(obs).astype(np.float64)
    if allowed is not None:
        logits = np.where(allowed, logits, NEVER)
    top = logits.max(-1, keepdims=True)
    total = top[..., 0] + np.log(np.exp(logits - top).sum(-1))
    return np.asarray(np.take_along_axis(logits, actions[..., None].astype(np.int64), -1)[..., 0] - total)
