"""Config of rankings and of scorers. Imports neither torch nor LangChain."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..base_config import Config


class ScorerConfig(Config):
    """Settings of fitting a scorer to ranked pairs (LCA, Lin et al., arXiv 2502.03723, Eq. 3; all sizes are ours).

    A network stops when its loss on the pairs that it holds out, with their noisy votes, has not fallen for a while,
    and keeps its best weights: the same rule however noisy the votes are, for a scorer that is trained on memorises
    wrong votes.

    Attributes:
        hidden: units of each ReLU layer.
        lr: learning rate of Adam.
        batch: pairs in a gradient step.
        max_epochs: epochs after which a network stops in any case.
        patience: epochs without a lower loss on its held-out pairs, after which it stops.
        held_out: share of the pairs that each network holds out.
        members: networks, each with its own first weights, its own order of pairs and its own held-out pairs.
        normalise: scores are divided by the standard deviation of σ(o') − σ(o) over the pairs, so that scorers of
            different noise pay alike; without it they are log-odds as the paper leaves them, which shrink with the
            noise.
        least_unit: never divide by less (in log-odds). Where the votes are undecided σ hardly changes, and what is left
            is noise, which must not be blown up.
    """

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64)
    lr: float = Field(default=1e-3, gt=0)
    batch: int = Field(default=256, ge=1)
    max_epochs: int = Field(default=200, ge=1)
    patience: int = Field(default=20, ge=1)
    held_out: float = Field(default=0.1, gt=0, lt=1)
    members: int = Field(default=5, ge=1, le=16)
    normalise: bool = True
    least_unit: float = Field(default=0.25, gt=0)


class PreferenceConfig(Config):
    """Settings of ranking single agents' moves where credit is unclear (LCA, Lin et al., arXiv 2502.03723).

    Scorers are fitted to the rankings, and offered to the gate like any proposal.

    Moves are ranked in rounds. Before each round but the first, a fork of the run is trained on what was fitted so far,
    and its moves are ranked: a policy that does not solve a task knows little of the way there (as DAgger asks where
    the learner is: Ross et al. 2011). These steps are paid from the budget of branches; where it does not pay for them
    beside the branches, fewer rounds are held.

    Attributes:
        ranker: `none`; `model`, the one of `llm.ranker`; or `task_heuristic`, a hand-written judge that the task
            carries (an *oracle* for studies, no model).
        accuracy: probability with which each vote of the oracle is right.
        pairs: pairs of states for each group of agents and each round.
        queries: votes on each pair.
        batch: pairs in one request to a model.
        form: of the learned terms, see `LearnedTerm`.
        left_data: share of recorded states on which the ensemble must disagree as on few of its own pairs, for its data
            to count as left behind.
        rounds: how often moves are ranked in one intervention.
        rehearsal: environment steps that the fork is trained for.
        refuted: pairs a group, at each fit but the first, from ends of bad episodes that the scorer before likes to
            ends of good ones, at most (Cooper); 0 for none.
        scorer: how scorers are fitted.
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
    refuted: int = Field(default=200, ge=0, le=10_000)
    scorer: ScorerConfig = ScorerConfig()
