"""The one count of environment steps: everything that a run has played, every step once.

    total = trained + evaluation + branches and races with theirs + play for the Ranker and for fits

* *Trained* is what the trainer process trained itself. What it trains again after a crash takes the place of what was
  lost, so it is in no count twice (`steps_repeated` says how much it was).
* Branches and the arms of a race are trained and evaluated by workers, whatever becomes of them. So a state that is
  adopted changes no count: its steps were paid where they were played.
* *Main* steps are no part of that sum. They are the age of the policy in force: what it was trained for since step 0,
  by the trainer or by workers. A state that is adopted, or comes back in a rollback, brings its own; they step back
  where it is younger than the line was.
* What is left is beside the main line: branches that were dropped, and what the trainer trained of a line that an
  adopted state has replaced. `adaptation.max_share` limits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class ExtraSteps(NamedTuple):
    """Environment steps that the loop spends beside the main line.

    Attributes:
        branches: training of branches and their evaluation, and other evaluations of a race.
        play: of policies whose moves are ranked, or to whose episodes signals are fitted.
    """

    branches: int
    play: int

    @property
    def total(self) -> int:
        return self.branches + self.play


@dataclass(frozen=True)
class RunSteps:
    """Environment steps of a run at one instant, by what they were spent on.

    Attributes:
        trained: what the trainer itself trained.
        main: what the policy in force was trained for, by the trainer or by workers.
        evaluation: the main line's evaluation.
        extra: what the loop spent beside the trainer.
    """

    trained: int
    main: int
    evaluation: int
    extra: ExtraSteps

    @property
    def total(self) -> int:
        """Every environment step once."""
        return self.trained + self.evaluation + self.extra.total

    @property
    def dropped(self) -> int:
        """Steps beside the main line: neither training of the policy in force nor evaluation of the line."""
        return self.total - self.main - self.evaluation


class StepsAt(NamedTuple):
    """Steps that were spent at the boundary after the update `update`."""

    update: int
    steps: int


@dataclass(frozen=True)
class StepHistory:
    """The updates of the main line at which steps beside the trainer were spent."""

    branches: Sequence[StepsAt]
    play: Sequence[StepsAt]

    def at(self, update: int, trained: int, main: int, evaluation: int) -> RunSteps:
        """Count up to the end of the update `update`.

        Args:
            update: what happens at the boundary after it is not counted yet.
            trained, main, evaluation: steps so far, as the trainer wrote them for this update.
        """
        branches, play = (
            sum(spent.steps for spent in kind if spent.update < update) for kind in (self.branches, self.play)
        )
        return RunSteps(trained, main, evaluation, ExtraSteps(branches, play))


def whole_updates(horizon: int, update_steps: int) -> int:
    """Round `horizon` environment steps up to whole updates of `update_steps`: a branch ends where an update does."""
    return -(-horizon // update_steps) * update_steps
