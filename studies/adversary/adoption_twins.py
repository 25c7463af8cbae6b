"""Do one run of the study race-harm: read its adoptions, let their twins go on, and name the forks of its races.

The run is trained to its end. Then every adopted state goes on, and beside it two states from right before the
adoption: the *twin* with the snapshot's random streams, the *reseeded twin* with others. All three play the same
episodes, which nothing else plays.

A fork is, by the windows of the rule of stages, *rising* (by more than a margin over the window before), *oscillating*
(not rising, and more than two margins below its best window) or *stuck*.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ...config.run_config import RunConfig
from ...rl.evidence.schema import Evidence
from ...rl.signals.scorer import FOLDER, Scorers
from ...rl.signals.signal import Signal
from ...rl.stage import SOLVED, WINDOW_STEPS
from ...rl.training.checkpoint import load_snapshot, snapshot_name
from ...rl.training.evaluate import Evaluator
from ...rl.training.line import TrainingLine
from ...runs.race_records import ArmKind, RaceRecord
from ...runs.run_view import RunView
from ..loop_arms import Json, delete_large, read_value, run_to_end
from ..outcome import Point, first_solved

EPISODES_SEED = 0x7A17  # of the episodes that judge; nothing else plays them
RESEED = 0x7E11  # of the reseeded twin

Fork = Literal["stuck", "rising", "oscillating"]
FORKS: tuple[Fork, ...] = ("stuck", "rising", "oscillating")


class Later(BaseModel):
    """The state of a line when it has gone on.

    Attributes:
        returns: mean sparse return of the study's episodes.
        success: share of them that succeed, 0 without a success test.
        solved: whether it solves the task, at the end or on the way.
    """

    model_config = ConfigDict(frozen=True)

    returns: float
    success: float
    solved: bool


class Adoption(BaseModel):
    """One adoption of a policy, and what came of it and of its twins.

    Attributes:
        arm: of the study.
        seed: of the run.
        version: of the signal that it brought.
        kind: of the race's arm.
        title: of the proposal, None where there was none.
        fork: what the main line did when the race began.
        horizon: environment steps of the race.
        margin: of return, which harm must exceed.
        adopted: the state that was adopted.
        twin: the main line without it.
        reseeded: the same under other random streams.
    """

    model_config = ConfigDict(frozen=True)

    arm: str = ""
    seed: int
    version: int
    kind: ArmKind
    title: str | None
    fork: Fork
    horizon: int
    margin: float
    adopted: Later
    twin: Later
    reseeded: Later

    @property
    def gain(self) -> float:
        """Later return of the adopted policy over the twin's."""
        return self.adopted.returns - self.twin.returns

    @property
    def luck(self) -> float:
        """Later return of the reseeded twin over the twin's."""
        return self.reseeded.returns - self.twin.returns

    @property
    def harms(self) -> bool:
        """Whether the adopted policy is later worse than the twin's by more than the margin."""
        return self.gain < -self.margin

    @property
    def luck_harms(self) -> bool:
        """Whether the reseeded twin's is."""
        return self.luck < -self.margin


class RacedFork(BaseModel):
    """A race that had a rung: what its main line did when it began, and whether anything was adopted."""

    model_config = ConfigDict(frozen=True)

    arm: str = ""
    seed: int
    fork: Fork
    adopted: bool


# ---------------------------------------------------------------- one run


def work_harm(content: Json, folder: Path) -> Json:
    """Do the work of a `harm_job`: run to the end, read it, let all twins go on, then delete its states."""
    config, path = run_to_end(content, folder)
    view = RunView(path)
    value = read_value(config, path) | {
        "adoptions": [
            adoption.model_dump(mode="json")
            for adoption in adoptions_of(config, view, content["times"], content["episodes"])
        ],
        "races": [
            RacedFork(seed=config.seed, fork=fork, adopted=race.detail.winner is not None).model_dump(mode="json")
            for race, fork in zip(view.races(), forks_of(view), strict=True)
            if race.detail.rungs
        ],
    }
    delete_large(path)
    return value


def adoptions_of(config: RunConfig, view: RunView, times: int, episodes: int) -> list[Adoption]:
    """Return every adoption of a policy claim, with what came of it and its twins after `times` the race's steps."""
    races = view.races()
    by_id = {race.id: (race, fork) for race, fork in zip(races, forks_of(view), strict=True)}
    decisions = {row.version: row for row in view.decisions() if row.detail.claim == "policy" and row.detail.race}
    titles = {row.id: row.proposal.title for row in view.proposals()}
    log = view.signals()
    evaluator = Evaluator(config.task, episodes, EPISODES_SEED)
    found = []
    for entry in log:
        if entry.adopt is None or entry.version not in decisions:
            continue
        decision = decisions[entry.version]
        race, fork = by_id[decision.detail.race or ""]
        [arm] = [arm for arm in race.detail.arms if arm.name == decision.winner]
        # The snapshot before the boundary's first change; signals alone may have come there before the state.
        boundary = [one for one in log if one.applied_update == entry.applied_update and one.version < entry.version]
        signals = [one.signal for one in boundary if one.version > 0]
        before, steps = snapshot_name(entry.applied_update), times * race.detail.rungs[-1].horizon
        found.append(
            Adoption(
                seed=config.seed,
                version=entry.version,
                kind=arm.kind,
                title=titles.get(arm.name),
                fork=fork,
                horizon=race.detail.rungs[-1].horizon,
                margin=race.detail.margin,
                adopted=go_on(config, view.path, entry.adopt, steps, evaluator),
                twin=go_on(config, view.path, before, steps, evaluator, signals),
                reseeded=go_on(config, view.path, before, steps, evaluator, signals, RESEED),
            )
        )
    evaluator.close()
    return found


def go_on(
    config: RunConfig,
    run_dir: Path,
    snapshot: str,
    steps: int,
    evaluator: Evaluator,
    signals: Sequence[Signal] = (),
    seed: int | None = None,
) -> Later:
    """Train on from a snapshot, and return what became of it.

    Args:
        config: of the run.
        run_dir: that the snapshot is below.
        snapshot: relative to it.
        steps: environment steps, in whole updates.
        evaluator: plays the last policy.
        signals: put in force there, one after the other.
        seed: of other random streams; None goes on with those of the snapshot.
    """
    line = TrainingLine(config.training(), scorers=Scorers(run_dir / FOLDER))
    try:
        load_snapshot(line, run_dir / snapshot)
        for signal in signals:
            line.apply_signal(signal)
        if seed is not None:
            line.reseed(seed)
        points, end = list[Point](), line.steps_main + steps
        while line.steps_main < end:
            success = line.update().row["success"] if line.spec.has_success else None
            points.append(Point(line.steps_main, line.steps_main, success))
        evaluation = evaluator.evaluate(line.learner)
    finally:
        line.close()
    success = evaluation.success_rate or 0.0
    solved = success >= SOLVED or first_solved(points) is not None
    return Later(returns=evaluation.mean_return, success=success, solved=solved)


def forks_of(view: RunView) -> list[Fork]:
    """Return what the main line did at the beginning of each race."""
    evidence = {row.point: Evidence.model_validate(row.evidence) for row in view.interventions()}
    return [fork_kind(evidence[race.point], race) for race in view.races()]


def fork_kind(evidence: Evidence, race: RaceRecord) -> Fork:
    """Return what the main line did at the evidence's point, by its last windows of training episodes."""
    sparse, margin = evidence.sparse, race.detail.margin
    if sparse.trend is not None and sparse.trend * WINDOW_STEPS / 100_000 > margin:
        return "rising"
    if sparse.return_now is not None and sparse.return_best is not None:
        return "oscillating" if sparse.return_now < sparse.return_best - 2 * margin else "stuck"
    return "stuck"
