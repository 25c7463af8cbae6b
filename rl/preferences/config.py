"""Config of scorers. Imports neither torch nor LangChain."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..base_config import Config


class ScorerConfig(Config):
    """How a scorer is fitted to ranked pairs (LCA, Lin et al., arXiv 2502.03723, Eq. 3; all sizes are ours).

    `members` networks with ReLU layers of `hidden` units, each with its own first weights, its own order of pairs and
    its own share `held_out` of pairs kept apart. A network stops when its loss on those, with their noisy votes, has
    not fallen for `patience` epochs or after `max_epochs`, and keeps its best weights: the same rule however noisy the
    votes are, for a scorer that is trained on memorises wrong votes.
    `normalise`: scores are divided by the standard deviation of σ(o') − σ(o) over the pairs, so that scorers of
    different noise pay alike; without it they are log-odds as the paper leaves them, which shrink with the noise.
    `least_unit`: never divide by less (in log-odds). Where the votes are undecided σ hardly changes, and what is left
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
