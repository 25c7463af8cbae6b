"""The one count of environment steps: everything that a run has played, every step once.

    total = main line + its evaluation + branches with theirs + play for the Ranker − adopted branch steps

* The trainer counts main line, evaluation and adopted steps. What it trains again after a crash takes the place of what
  was lost, so it is in no count twice (`steps_repeated` says how much it was).
* Branches and play for the Ranker are spent at an adaptation point, so before the next update ends.
* A branch whose end state continues the main line (lockstep clock) is in the count of branches and in that of the main
  line, and its length is taken off once. Under the overlap clock an adopted state adds nothing to the line's own count,
  so that nothing is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class ExtraSteps(NamedTuple):
    """Environment steps that the loop spends beside the main line.

    Attributes:
        branches: training of branches and their evaluation.
        rankings: play from which single agents' moves are ranked.
    """

    branches: int
    rankings: int

    @property
    def total(self) -> int:
        return self.branches + self.rankings


@dataclass(frozen=True)
class RunSteps:
    """Environment steps of a run at one instant, by what they were spent on.

    Attributes:
        main: the main line's training, adopted branch steps included.
        evaluation: the main line's evaluation.
        extra: what the loop spent beside the main line.
        adopted: branch steps that became the main line's, in `main` and in `extra` both.
    """

    main: int
    evaluation: int
    extra: ExtraSteps
    adopted: int

    @property
    def total(self) -> int:
        """Every environment step once."""
        return self.main + self.evaluation + self.extra.total - self.adopted

    @property
    def dropped(self) -> int:
        """Steps of branches that the main line has not adopted, their evaluation included."""
        return self.extra.branches - self.adopted


class StepsAt(NamedTuple):
    """Steps that were spent, or adopted, at the boundary after the update `update`."""

    update: int
    steps: int


@dataclass(frozen=True)
class StepHistory:
    """The updates at which steps beside the main line were spent, and at which some became the main line's."""

    branches: Sequence[StepsAt]
    rankings: Sequence[StepsAt]
    adopted: Sequence[StepsAt]

    def at(self, update: int, main: int, evaluation: int) -> RunSteps:
        """Count up to the end of the update `update`.

        Args:
            update: what happens at the boundary after it is not counted yet.
            main, evaluation: the main line's steps so far, as the trainer wrote them for this update.
        """
        branches, rankings, adopted = (
            sum(spent.steps for spent in kind if spent.update < update)
            for kind in (self.branches, self.rankings, self.adopted)
        )
        return RunSteps(main, evaluation, ExtraSteps(branches, rankings), adopted)


def whole_updates(horizon: int, update_steps: int) -> int:
    """Round `horizon` environment steps up to whole updates of `update_steps`: a branch ends where an update does."""
    return -(-horizon // update_steps) * update_steps
