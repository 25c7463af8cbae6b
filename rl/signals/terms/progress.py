"""Progress: a potential Φ in 0..1 that was fitted to a model's judgements of how far states are on the way.

`rl.signals.learned.progress` says how hops between states become Φ (Robo-Dopamine). It is paid as γΦ(s′) − Φ(s), so
that the optimal policies stay what they are; its authors' ablation without that lost most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ....errors import SignalError
from .agent_masks import named_agents
from .base import BaseTerm, CompiledStateTerm, TermName, Values

if TYPE_CHECKING:
    from ...task import FloatArray, GroupSpec, TaskSpec
    from ..scorer import Scorer, Scorers


# The prompt of the Generator shows this docstring to models, as the schema's description.
class ProgressTerm(BaseTerm):
    """How far a state is on the way to success, Φ in 0 to 1, by a network of features that was fitted to judgements of
    which share of the remaining way one state is ahead of another. A potential, so the optimal policies stay what they
    are. `scorer`: the network's name in the run's folder of scorers. `agents`: the group that it was fitted for.
    `anneal_steps` as of a potential."""

    name: TermName
    kind: Literal["progress"] = "progress"
    scorer: str = Field(pattern=r"^[0-9a-f]{16}$")
    weight: float = Field(default=1.0, ge=-10, le=10)
    agents: str
    anneal_steps: int | None = Field(default=None, ge=1_000)

    @property
    def reads_all_features(self) -> bool:
        """True: the network reads every feature."""
        return True

    @property
    def scorers(self) -> tuple[str, ...]:
        """The name of its network."""
        return (self.scorer,)

    @property
    def potential_key(self) -> tuple[str, str]:
        """The network, and whom it is for."""
        return self.scorer, repr(self.agents)

    def describe(self) -> str:
        return f"progress {self.name}: network {self.scorer} (weight {self.weight:g}{self.for_whom})"

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledProgress:
        scorer, masks = scorers.get(self.scorer), named_agents(self, spec)
        for group, mask in zip(spec.groups, masks, strict=True):
            if mask.any() and scorer.obs_size != len(group.features):
                raise SignalError(
                    f"term {self.name!r}: network {self.scorer!r} takes {scorer.obs_size} features, agents of "
                    f"{group.name!r} have {len(group.features)}; name the group that it was fitted for"
                )
        return CompiledProgress(self, spec, masks, scorer)


@dataclass(frozen=True)
class CompiledProgress(CompiledStateTerm):
    """Progress for one task."""

    scorer: Scorer

    def state_values(self, features: list[FloatArray], obs: list[FloatArray] | None) -> list[Values]:  # noqa: ARG002
        """Return [g] [..., A_g]: Φ of each agent's state, 0..1."""
        values = [np.zeros(x.shape[:-1]) for x in features]
        for g, mask in enumerate(self.masks):
            if mask.any():
                judged = self.scorer.score(shares_of_range(self.spec.groups[g], features[g]))
                values[g] = np.where(mask, np.clip(judged.astype(np.float64), 0.0, 1.0), 0.0)
        return values


def shares_of_range(group: GroupSpec, features: FloatArray) -> FloatArray:
    """Return features [..., F_g] as shares of their declared ranges; what is not finite counts as the lower end."""
    low = np.array([feature.low for feature in group.features], np.float32)
    high = np.array([feature.high for feature in group.features], np.float32)
    return np.asarray(np.nan_to_num((features - low) / np.maximum(high - low, 1e-9)), np.float32)
