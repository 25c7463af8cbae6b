"""Config of scorers. Imports neither torch nor LangChain."""

from __future__ import annotations

from typing import Annotated

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
