"""Changes of the signal in force: promotions, rollbacks, and their replay after a crash.

Every change happens at an update boundary and in this order: the line's own state is on disk, the change is on disk in
the signal log, the change is made, the loop is answered. So a crash at any instant leaves either nothing of it, or a
snapshot and a log entry from which `replay` makes the same change at the same update again.

What a change does to the line:

* A signal alone keeps the line's state, and its update.
* A branch's end state that continues the line (lockstep) brings its updates and steps along; they count as adopted.
* A state taken over (a branch's end state under the overlap clock, whose fork the line has left behind; the state
  before an undone promotion) replaces policy, critic, episodes and signal, but not the line's counters and past. It
  takes one update's place, so that its evaluation has a row of its own.
"""

from __future__ import annotations

import structlog

from ...errors import CosignalError, VersionConflict
from ..ipc.messages import Cause, Promote, PromoteReply, Rollback
from ..signals.signal import Signal
from ..task import splitmix64
from ..training.checkpoint import load_snapshot, read_snapshot, snapshot_name, steps_of
from .database import LoggedSignal
from .main_run import MainRun


def promote(main: MainRun, request: Promote, over: bool = False) -> PromoteReply:
    """`over`: training is, so that nothing may change any more. Raises VersionConflict, SignalError, SnapshotError;
    then nothing has changed."""
    done = _done(main, request.key)
    if done is not None:
        return done
    line = main.line
    _compare(main, request.base_version, over)
    line.check_signal(request.signal)
    if request.adopt is None:
        signal = line.prepared(request.signal)
    else:  # a state brings its signal along; the exploration is told as it was given
        told = {"stage": request.signal.stage, "exploration": request.signal.exploration}
        signal = _signal_of(main, request.adopt).model_copy(update=told)
    return _commit(main, request, signal, request.adopt, request.cause)


def rollback(main: MainRun, request: Rollback, over: bool = False) -> PromoteReply:
    """`over`: as in `promote`. Raises VersionConflict, SnapshotError, CosignalError when the version in force is no
    promotion; then nothing has changed."""
    done = _done(main, request.key)
    if done is not None:
        return done
    _compare(main, request.base_version, over)
    undone = _undone(main, request.base_version)
    if undone.cause != "promotion":
        raise CosignalError(
            f"only a promotion can be undone, version {undone.version} is of cause {undone.cause!r}; "
            "promote another signal instead"
        )
    before = snapshot_name(undone.applied_update)
    signal = _signal_of(main, before)
    for earlier in _same_boundary(main, undone):
        signal = earlier.signal
    return _commit(main, request, signal, before, "rollback")


def reapply_log(main: MainRun) -> None:
    """Make the changes that the log holds for this update boundary and that the line has not seen."""
    while entry := next(filter(lambda entry: _is_next(main, entry), main.log), None):
        main.checkpoint()  # exists, unless somebody deleted it
        _apply(main, entry)


def _is_next(main: MainRun, entry: LoggedSignal) -> bool:
    line = main.line
    return entry.version == line.signal.version + 1 and entry.applied_update == line.update_index


# ------------------------------------------------------------ one change


def _done(main: MainRun, key: str) -> PromoteReply | None:
    """The answer to a key that was applied before, None for a new one."""
    entry = next((entry for entry in main.log if entry.key == key), None)
    return None if entry is None else _reply(main, entry, repeated=True)


def _compare(main: MainRun, base_version: int, over: bool) -> None:
    if over:
        raise VersionConflict("training is over, the signal in force stays; raise trainer.steps to train on")
    in_force = main.line.signal.version
    if base_version != in_force:
        raise VersionConflict(f"version {in_force} is in force, not {base_version}; propose from it")


def _commit(
    main: MainRun, request: Promote | Rollback, signal: Signal, adopt: str | None, cause: Cause
) -> PromoteReply:
    line = main.line
    version = line.signal.version + 1
    signal = signal.model_copy(update={"version": version, "parent": request.base_version})
    entry = LoggedSignal(
        version, request.key, request.base_version, line.update_index, line.steps_main, signal, adopt, cause
    )
    main.checkpoint()
    main.log_signal(entry)
    _apply(main, entry)
    return _reply(main, entry, repeated=False)


def _reply(main: MainRun, entry: LoggedSignal, repeated: bool) -> PromoteReply:
    steps = entry.applied_steps
    if entry.adopt is not None and _continues(main, entry):
        steps = steps_of(main.run_dir / entry.adopt)
    return PromoteReply(
        version=entry.version, applied_at_update=entry.applied_update, steps_main=steps, repeated=repeated
    )


def _continues(main: MainRun, entry: LoggedSignal) -> bool:
    """Whether the adopted state is the line's own continuation: a branch of it that lies ahead."""
    if entry.adopt is None or entry.cause == "rollback" or main.config.clock == "overlap":
        return False
    return steps_of(main.run_dir / entry.adopt) > entry.applied_steps


def _apply(main: MainRun, entry: LoggedSignal) -> None:
    line = main.line
    if entry.adopt is None:
        line.apply_signal(entry.signal)
    else:
        _enter_state(main, entry, entry.adopt)
        main.evaluate_afresh()  # the branch's own figures chose it, so its curve goes on from fresh episodes
    structlog.get_logger().info(
        entry.cause, version=entry.version, key=entry.key, update=entry.applied_update, adopt=entry.adopt
    )


def _enter_state(main: MainRun, entry: LoggedSignal, adopt: str) -> None:
    line = main.line
    before, adopted = line.steps_main, line.steps_adopted
    if _continues(main, entry):
        load_snapshot(line, main.run_dir / adopt)
        line.steps_adopted = adopted + line.steps_main - before
    else:
        load_snapshot(line, main.run_dir / adopt, going_on=True)
        line.update_index += 1
    if entry.cause == "rollback":
        for earlier in _same_boundary(main, _undone(main, entry.base_version)):
            line.apply_signal(earlier.signal)
        line.reseed(splitmix64(main.config.seed ^ entry.version))  # the same dice would fall the same way
    # the state has its own scale, and has had its kick; only the log's bookkeeping is new
    lived = {"version": entry.version, "parent": entry.signal.parent, "stage": entry.signal.stage}
    line.signal = line.signal.model_copy(update=lived)


# ------------------------------------------------------------ what was before


def _entry(main: MainRun, version: int | None) -> LoggedSignal:
    return next(entry for entry in main.log if entry.version == version)


def _undone(main: MainRun, version: int | None) -> LoggedSignal:
    """What brought the signal of `version`: a control's end state gives it another version and changes nothing else."""
    entry = _entry(main, version)
    while entry.cause == "control":
        entry = _entry(main, entry.base_version)
    return entry


def _signal_of(main: MainRun, adopt: str) -> Signal:
    """In force in a snapshot. Raises SnapshotError when the line cannot load it."""
    _, saved = read_snapshot(main.line, main.run_dir / adopt)
    return Signal.model_validate(saved["line"]["signal"])


def _same_boundary(main: MainRun, undone: LoggedSignal) -> list[LoggedSignal]:
    """Signals promoted before `undone` at its own boundary: the snapshot there does not have them."""
    return [
        entry
        for entry in main.log
        if entry.version < undone.version and entry.applied_update == undone.applied_update and entry.adopt is None
        and entry.version > 0
    ]  # fmt: skip
