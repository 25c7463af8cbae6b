"""Config of signals that are fitted to experience. Imports neither torch nor LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from ....errors import SignalError
from ...base_config import Config
from ...task import TaskSpec
from ..terms import DecompositionTerm, StepRewardTerm, TableTerm, Term
from ..terms.decomposition import MAX_WEIGHT, Inputs, input_size
from ..terms.potential import expression_for
from ..terms.step_reward import MAX_STEP_WEIGHT
from ..terms.table import MAX_ROWS
from .fit import SignalFit
from .fit_config import EpisodesConfig, FitConfig
from .judged_config import (
    ClassifierConfig,
    GoalSimilarityConfig,
    HashConfig,
    JudgedConfig,
    ProgressConfig,
    RankingConfig,
)

FitKind = Literal[
    "return_decomposition",
    "named_states",
    "step_rewards",
    "message_hash",
    "message_classifier",
    "message_ranking",
    "progress",
    "goal_similarity",
]
FIT_KINDS: tuple[FitKind, ...] = get_args(FitKind)

NO_SCORER = "0" * 16  # of a term that is only checked


class DecompositionConfig(EpisodesConfig):
    """Settings of return decomposition, see `return_decomposition`. Those without a source are ours.

    Attributes:
        inputs: what the networks read, see `DecompositionTerm`.
        agent_ids: they read the agent's number in its group, too (LaRe's one-hot).
        subset: steps of an episode in a gradient step (RRD); None for all of them.
        shrink: weight of the squared rewards in the loss; of all ways to share a return it prefers the smallest.
        hidden: units of each ReLU layer.
        lr: learning rate of Adam.
        batch: episodes in a gradient step.
        max_epochs: epochs after which a network stops in any case.
        patience: epochs without a lower loss on the episodes that it holds out, after which it stops.
        held_out: share of the episodes that each network holds out, which stop its training and say how well it fits.
        members: networks a group, whose mean counts.
        least_explained: share of the variance of held-out returns that must be explained for the result to be proposed.
    """

    where_credit_is_unclear = True

    inputs: Inputs = "features"
    agent_ids: bool = True
    subset: int | None = Field(default=64, ge=2)
    shrink: float = Field(default=5e-4, ge=0)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64)
    lr: float = Field(default=1e-3, gt=0)
    batch: int = Field(default=32, ge=1)
    max_epochs: int = Field(default=200, ge=1)
    patience: int = Field(default=20, ge=1)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    members: int = Field(default=3, ge=1, le=16)
    least_explained: float = Field(default=0.5, ge=0, le=1)

    @property
    def reads_observations(self) -> bool:
        """Whether the networks read what agents observe."""
        return self.inputs == "observations"

    def check(self, spec: TaskSpec) -> None:
        """Check that networks of every group have something to read.

        Raises:
            SignalError: a factor does not fit the task, or a group has nothing that is read.
        """
        for g, group in enumerate(spec.groups):
            term = DecompositionTerm(name="share", scorer=NO_SCORER, inputs=self.inputs, agents=group.name)
            for text in () if isinstance(self.inputs, str) else self.inputs:
                expression_for(term, text, spec)
            if not input_size(spec, g, self.inputs, agent_ids=False):
                raise SignalError(
                    f"inputs: {self.inputs} must be there for every group of agents, {group.name!r} has none; write "
                    "observations, or declare features"
                )

    def accepts(self, fit: SignalFit) -> bool:
        return fit.explained is not None and fit.explained >= self.least_explained

    def replaces(self, term: Term) -> bool:
        return isinstance(term, DecompositionTerm)

    def at_strength(self, term: Term, strength: float) -> Term:
        # so that what is paid is N·r̂ itself, as far as may be
        return term.model_copy(update={"weight": min(1.0 / strength, MAX_WEIGHT)})

    def terms(self, spec: TaskSpec, scorers: Mapping[int, str]) -> list[DecompositionTerm]:
        """Return a term for each group of agents that has a network; `scorers`: names by the group's number."""
        return [
            DecompositionTerm(
                name=f"share_{g}",
                scorer=scorer,
                inputs=self.inputs,
                agent_ids=self.agent_ids,
                agents=spec.groups[g].name,
            )
            for g, scorer in scorers.items()
        ]


class NamedStatesConfig(EpisodesConfig):
    """Settings of sparse rewards at few states that features name, see `named_states`.

    Attributes:
        states: how many.
        bonus: B of ExploRS, what a state that hardly any episode came to is worth besides, as a share of what the most
            informative one is; 0 for none.
        decay_steps: main steps over which the payment falls to zero, since what was fitted grows stale.
        least_informativeness: correlation of what is paid with the advantages of steps from which on it is proposed; at
            -1 always, since where a small reward deceives, what leads away from it agrees with no advantage.
    """

    states: int = Field(default=4, ge=1, le=MAX_ROWS)
    bonus: float = Field(default=1.0, ge=0, le=1)
    decay_steps: int = Field(default=200_000, ge=1_000)
    least_informativeness: float = Field(default=-1.0, ge=-1, le=1)

    def check(self, spec: TaskSpec) -> None:
        if not any(group.features for group in spec.groups):
            raise SignalError("enabled: must be false where the task declares no features, which name states; add some")

    def accepts(self, fit: SignalFit) -> bool:
        return bool(fit.terms) and (fit.informativeness or 0.0) >= self.least_informativeness

    def replaces(self, term: Term) -> bool:
        return isinstance(term, TableTerm)


class StepRewardsConfig(EpisodesConfig):
    """Settings of implicit step rewards, see `step_rewards`. Those without a source are ours.

    Attributes:
        temperature: β of r = β log(π_φ / π), as in the released code.
        bound: of |r|.
        weight: α of A + α A^S, as there.
        decay_steps: main steps over which α falls to zero, since what was fitted grows stale.
        hidden: units of each ReLU layer of π_φ.
        lr: learning rate of Adam.
        batch: episodes in a gradient step, of which every pair with another outcome counts.
        clone_epochs: epochs in which π_φ first becomes a copy of the policy, by its actions.
        max_epochs: epochs of pairs after which it stops in any case.
        patience: epochs without a lower loss on held-out pairs, after which it stops.
        held_out: share of the episodes that are held out.
        least_accuracy: share of held-out pairs in the right order from which on the result is proposed.
    """

    temperature: float = Field(default=0.05, gt=0, le=10)
    bound: float = Field(default=1.0, gt=0, le=10)
    weight: float = Field(default=1.0, ge=0, le=MAX_STEP_WEIGHT)
    decay_steps: int = Field(default=200_000, ge=1_000)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64)
    lr: float = Field(default=1e-3, gt=0)
    batch: int = Field(default=32, ge=4)
    clone_epochs: int = Field(default=10, ge=0)
    max_epochs: int = Field(default=50, ge=1)
    patience: int = Field(default=5, ge=1)
    held_out: float = Field(default=0.25, gt=0, lt=1)
    least_accuracy: float = Field(default=0.7, ge=0, le=1)

    @property
    def reads_observations(self) -> bool:
        return True

    def check(self, spec: TaskSpec) -> None:
        if wrong := [group.name for group in spec.groups if group.continuous]:
            raise SignalError(
                f"enabled: must be false where agents choose numbers of a Box, as {wrong[0]!r} does; use another kind"
            )

    def terms(self, spec: TaskSpec, scorers: Mapping[int, str]) -> list[StepRewardTerm]:
        """Return a term for each group of agents; `scorers` are names of policies by the group's number."""
        return [
            StepRewardTerm(
                name=f"step_{g}",
                scorer=scorer,
                temperature=self.temperature,
                bound=self.bound,
                weight=self.weight,
                agents=spec.groups[g].name,
                decay_steps=self.decay_steps,
            )
            for g, scorer in scorers.items()
        ]

    def accepts(self, fit: SignalFit) -> bool:
        return fit.accuracy is not None and fit.accuracy >= self.least_accuracy

    def replaces(self, term: Term) -> bool:
        return isinstance(term, StepRewardTerm)


class LearnedSignalsConfig(Config):
    """Kinds of signals that are fitted to a run's own experience, and offered to the gate like any proposal."""

    return_decomposition: DecompositionConfig = DecompositionConfig()
    named_states: NamedStatesConfig = NamedStatesConfig()
    step_rewards: StepRewardsConfig = StepRewardsConfig()
    message_hash: HashConfig = HashConfig()
    message_classifier: ClassifierConfig = ClassifierConfig()
    message_ranking: RankingConfig = RankingConfig()
    progress: ProgressConfig = ProgressConfig()
    goal_similarity: GoalSimilarityConfig = GoalSimilarityConfig()

    @property
    def asks_a_model(self) -> bool:
        """Whether a model judges for one of the kinds that are fitted."""
        return any(isinstance(config, JudgedConfig) and config.judge == "model" for config in self.enabled.values())

    @property
    def enabled(self) -> dict[FitKind, FitConfig]:
        """The kinds that are fitted, with their settings, in the order in which they are proposed."""
        return {kind: config for kind in FIT_KINDS if (config := self.of(kind)).enabled}

    def of(self, kind: FitKind) -> FitConfig:
        """Return the settings of a kind."""
        settings: FitConfig = getattr(self, kind)
        return settings

    @property
    def read_observations(self) -> bool:
        """Whether what is fitted reads what agents observe, which the run has to keep then."""
        return any(config.reads_observations for config in self.enabled.values())
