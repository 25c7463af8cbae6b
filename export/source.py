"""What an export takes from a run: the policy and the signal in force, by one snapshot. The run is only read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ExportError, SnapshotError
from ..files import path_inside
from ..rl.algorithms.learner import ActingNetwork
from ..rl.algorithms.registry import make_learner
from ..rl.envs.factory import closing_task, layout_of, plain_task_factory
from ..rl.envs.pettingzoo.declared import Layout
from ..rl.ipc.messages import EvaluationReport
from ..rl.signals.critic_offset import goes_on
from ..rl.signals.learner_settings import LearnerSettings
from ..rl.signals.signal import Signal
from ..rl.task import Arrays, TaskSpec, arrays_below
from ..rl.training.checkpoint import newest_snapshot, read_snapshot, snapshots_of
from ..rl.training.config import TrainingConfig
from ..runs.records import SignalVersion
from ..runs.run_files import damage_in_words
from ..runs.run_view import RunView
from ..runs.trust import Trust, read_training, task_wishes

CHECKPOINTS = "checkpoints"
LISTED = 5  # snapshots that a message names


@dataclass(frozen=True)
class Source:
    """A policy and a signal, and all that is needed to play and to pay by them.

    Attributes:
        run: name of the run directory.
        version: of cosignal, which made the run.
        snapshot: relative to the run directory.
        signal: in force there, its scale frozen.
        age: main steps that its terms have faded for.
        evaluation: the run's last one before the snapshot, None where that does not know of one.
        adapter: import path of the class that adapts the environment.
        layout: how the dicts of the environment become arrays.
        networks: those that choose actions.
    """

    run: str
    version: str
    config: TrainingConfig
    snapshot: str
    steps_main: int
    signal: Signal
    age: int
    evaluation: EvaluationReport | None
    adapter: str
    layout: Layout
    networks: list[ActingNetwork]


def read_source(run_dir: Path, snapshot: str | None, trust: Trust) -> Source:
    """Read a run that is finished, stopped or running.

    Args:
        run_dir: the run directory.
        snapshot: one below it, such as `checkpoints/update_000000640` or the state of a branch, `branches/…`; of one in
            `checkpoints` the name does. None for what is in force: the newest one, with what the signal log has changed
            since.
        trust: says whether the environment that the run names may be loaded.

    Raises:
        NotARunError: there is no run, or it cannot be read.
        TrustError: the run's environment is not a shipped one and not allowed.
        TaskImportError: the environment cannot be imported or built.
        ExportError: the run has no such snapshot, or none yet.
        SnapshotError: the snapshot is damaged, or of another task or network.
    """
    view = RunView(run_dir)
    config = read_training(view.path)
    trust.require([*task_wishes(view.path, config.task)])
    with closing_task(config.task, plain_task_factory(config.task)()) as task:
        layout, adapter = layout_of(config.task, task), type(task)
    with damage_in_words(view.path):
        name = layout.spec.name
        state = _in_force(view, name) if snapshot is None else _State.read(view.path, name, _found(view.path, snapshot))
        networks = _networks(config, layout.spec, state)
    return Source(
        run=view.path.absolute().name,
        version=str(view.info.get("version", "")),
        config=config,
        snapshot=state.snapshot,
        steps_main=state.steps_main,
        signal=state.signal,
        age=state.steps_main - state.signal_start,
        evaluation=state.evaluation,
        adapter=f"{adapter.__module__}.{adapter.__qualname__}",
        layout=layout,
        networks=networks,
    )


# ---------------------------------------------------------------- snapshots


@dataclass(frozen=True)
class _State:
    """The part of a snapshot that an export reads.

    Attributes:
        signal_start: main steps at which the terms of its signal began to fade.
        learner: how the policies learned that its arrays are of; a signal that was promoted since may say otherwise.
    """

    snapshot: str
    arrays: Arrays
    update: int
    steps_main: int
    signal: Signal
    signal_start: int
    learner: LearnerSettings
    evaluation: EvaluationReport | None

    @classmethod
    def read(cls, run_dir: Path, task: str, snapshot: str) -> _State:
        arrays, saved = read_snapshot(task, run_dir / snapshot)
        line, evaluation = saved["line"], saved["extra"].get("evaluation")
        signal = Signal.model_validate(line["signal"])
        return cls(
            snapshot=snapshot,
            arrays=arrays,
            update=line["update_index"],
            steps_main=line["steps_main"],
            signal=signal,
            signal_start=line["signal_start"],
            learner=signal.learner,
            evaluation=None if evaluation is None else EvaluationReport.model_validate(evaluation),
        )

    def after(self, change: SignalVersion, adopted: _State | None) -> _State:
        """Return the state after a change of the signal at its own boundary, as `rl.trainer.signal_log` makes it.

        Args:
            change: the entry of the log.
            adopted: the state that came with it, None where the line kept its own.
        """
        state, signal = adopted or self, change.signal
        # settings of exploration and learner outlive the signal that they came with
        learner = signal.learner.over(state.signal.learner)
        signal = signal.model_copy(update={"exploration": state.signal.exploration, "learner": learner})
        return replace(
            state,
            update=self.update if adopted is None else max(adopted.update, self.update + 1),
            signal=signal,
            signal_start=state.signal_start if goes_on(signal, state.signal) else state.steps_main,
        )


def _in_force(view: RunView, task: str) -> _State:
    """Return the newest snapshot, with the changes of the signal at its boundary that it has not seen."""
    newest = newest_snapshot(view.path / CHECKPOINTS)
    if newest is None:
        raise ExportError(
            f"a run must have written a snapshot before it can be exported, {str(view.path)!r} has none in "
            f"{CHECKPOINTS}/; wait for its first one (trainer.checkpoint_every_steps), or stop it, which writes one"
        )
    state = _State.read(view.path, task, f"{CHECKPOINTS}/{newest.name}")
    for change in view.signals():
        if change.version == state.signal.version + 1 and change.applied_update == state.update:
            adopted = None if change.adopt is None else _State.read(view.path, task, change.adopt)
            state = state.after(change, adopted)
    return state


def _found(run_dir: Path, snapshot: str) -> str:
    """Return a snapshot relative to the run directory; raise ExportError where there is none of that name."""
    for name in (f"{CHECKPOINTS}/{snapshot}", snapshot):
        try:
            if (path_inside(run_dir, name) / "state.json").is_file():
                return name
        except (OSError, ValueError):  # ValueError: a NUL in it
            continue
    known = [path.name for path in snapshots_of(run_dir / CHECKPOINTS)]
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    raise ExportError(
        f"--snapshot must name a snapshot of the run, {str(run_dir)!r} has no {snapshot!r}; its newest are "
        f"{', '.join(known[:LISTED]) or 'none'}{more}"
    )


def _networks(config: TrainingConfig, spec: TaskSpec, state: _State) -> list[ActingNetwork]:
    """Return the networks that act in a state. Raises SnapshotError where it is not of this config."""
    trainer = config.trainer
    learner = make_learner(trainer.algorithm, trainer.algorithm_config.learning_as(state.learner), spec, seed=0)
    try:
        learner.load_policy(arrays_below("learner/", state.arrays))
    except (KeyError, RuntimeError, ValueError) as error:
        raise SnapshotError(f"snapshot {state.snapshot!r} does not fit this config: {error!r}") from error
    learner.explore(state.signal.exploration.entropy)
    return learner.acting_networks()
