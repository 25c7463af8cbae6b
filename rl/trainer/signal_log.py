"""Changes of the signal in force: promotions, rollbacks, and their replay after a crash.

Every change happens at an update boundary and in this order: the line's own state is on disk, the change is on disk in
the signal log, the change is made, the loop is answered. So a crash at any instant leaves either nothing of it, or a
snapshot and a log entry from which `reapply_log` makes the same change at the same update again.

The effect of a change on the line:

* A signal alone keeps the line's state, and its update.
* A state taken over (a branch's end state, a fresh start's, the state before an undone promotion) brings everything
  along: policy, critic, episodes, signal, and its own main steps and past. So main steps are always the age of the
  policy in force, and step back where that is younger. What the line keeps is the count of the steps that it trained
  itself, and that update numbers only ever rise: a state that lies ahead keeps its update, any other takes the next
  update's place, so that its evaluation has a row of its own.
"""

from __future__ import annotations

import structlog

from ...errors import CosignalError, SignalError, VersionConflict
from ..ipc.messages import Cause, Promote, PromoteReply, Rollback
from ..signals.critic_offset import only_potentials_leave
from ..signals.signal import Signal
from ..task import splitmix64
from ..training.checkpoint import load_snapshot, read_snapshot, snapshot_name, snapshot_steps
from .database import LoggedSignal
from .main_run import MainRun


def promote(main: MainRun, request: Promote, over: bool = False) -> PromoteReply:
    """Put the request's signal in force, or the state that it names.

    Args:
        main: the main line.
        request: a repeated key is answered and changes nothing.
        over: training is, so that nothing may change any more.

    Raises:
        VersionConflict: another version is in force than the request names, or training is over.
        SignalError: the signal does not fit the task, or is said to be an offset and changes more than potentials.
        SnapshotError: the state cannot be loaded. After any of them nothing has changed.
    """
    earlier = _earlier_reply(main, request.key)
    if earlier is not None:
        return earlier
    line = main.line
    _check_base(main, request.base_version, over)
    line.check_signal(request.signal)
    if request.adopt is None:
        signal = line.prepare_signal(request.signal)
        if request.cause == "offset" and not only_potentials_leave(signal, line.signal):
            raise SignalError(
                f"an offset must be the signal in force without some of its potentials, got {signal.terms!r}; "
                "promote it, which branches have to prove"
            )
    else:  # a state brings its signal along; the log has the exploration that the branch was given
        asked = {"stage": request.signal.stage, "exploration": request.signal.exploration}
        signal = _signal_of(main, request.adopt).model_copy(update=asked)
    return _commit(main, request, signal, request.adopt, request.cause)


def rollback(main: MainRun, request: Rollback, over: bool = False) -> PromoteReply:
    """Undo the promotion in force: take over the state before it.

    Args:
        main: the main line.
        request: a repeated key is answered and changes nothing.
        over: training is, so that nothing may change any more.

    Raises:
        VersionConflict: another version is in force than the request names, or training is over.
        CosignalError: the version in force is no promotion.
        SnapshotError: the state before it is gone. After any of them nothing has changed.
    """
    earlier = _earlier_reply(main, request.key)
    if earlier is not None:
        return earlier
    _check_base(main, request.base_version, over)
    undone = _origin(main, request.base_version)
    if undone.cause != "promotion":
        raise CosignalError(
            f"only a promotion can be undone, version {undone.version} is of cause {undone.cause!r}; "
            "promote another signal instead"
        )
    # the snapshot of the boundary, and what was promoted there before
    state_before = snapshot_name(undone.applied_update)
    signal = _signal_of(main, state_before)
    for entry in _earlier_at_boundary(main, undone):
        signal = entry.signal
    return _commit(main, request, signal, state_before, "rollback")


def reapply_log(main: MainRun) -> None:
    """Make the changes that the log holds for this update boundary and that the line has not seen."""

    def is_next(entry: LoggedSignal) -> bool:
        line = main.line
        return entry.version == line.signal.version + 1 and entry.applied_update == line.update_index

    while entry := next(filter(is_next, main.signal_log), None):
        main.checkpoint()  # exists, unless somebody deleted it
        _apply(main, entry)


# ------------------------------------------------------------ one change


def _earlier_reply(main: MainRun, key: str) -> PromoteReply | None:
    """Return the answer to a key that was applied before, None for a new one."""
    entry = next((entry for entry in main.signal_log if entry.key == key), None)
    return None if entry is None else _reply(main, entry, repeated=True)


def _check_base(main: MainRun, base_version: int, over: bool) -> None:
    """Raise VersionConflict unless the version in force is the one that the request was decided on."""
    if over:
        raise VersionConflict("training is over, the signal in force stays; raise trainer.steps to train on")
    in_force = main.line.signal.version
    if base_version != in_force:
        raise VersionConflict(f"version {in_force} is in force, not {base_version}; propose from it")


def _commit(
    main: MainRun, request: Promote | Rollback, signal: Signal, adopt: str | None, cause: Cause
) -> PromoteReply:
    """Log the change and make it: snapshot, entry, line, in this order."""
    line = main.line
    version = line.signal.version + 1
    entry = LoggedSignal(
        version=version,
        key=request.key,
        base_version=request.base_version,
        applied_update=line.update_index,
        applied_steps=line.steps_main,
        signal=signal.model_copy(update={"version": version, "parent": request.base_version}),
        adopt=adopt,
        cause=cause,
    )
    main.checkpoint()
    main.log_signal(entry)
    _apply(main, entry)
    return _reply(main, entry, repeated=False)


def _reply(main: MainRun, entry: LoggedSignal, repeated: bool) -> PromoteReply:
    steps = entry.applied_steps if entry.adopt is None else snapshot_steps(main.run_dir / entry.adopt)
    return PromoteReply(
        version=entry.version, applied_at_update=entry.applied_update, steps_main=steps, repeated=repeated
    )


def _apply(main: MainRun, entry: LoggedSignal) -> None:
    """Make a logged change: the line takes the signal, or the state that was adopted with it."""
    line = main.line
    if entry.adopt is None:
        line.apply_signal(entry.signal)
    else:
        # the state, ahead of the line or in the place of its next update
        update_before, steps_before = line.update_index, line.steps_main
        load_snapshot(line, main.run_dir / entry.adopt, adopted=True)
        line.update_index = max(line.update_index, update_before + 1)
        if entry.cause == "rollback":
            for earlier in _earlier_at_boundary(main, _origin(main, entry.base_version)):
                line.apply_signal(earlier.signal)
            line.reseed(splitmix64(main.config.seed ^ entry.version))  # the same dice would fall the same way
        # the state has its own scale, and has had its kick; only version, parent and stage are the entry's
        names = {"version": entry.version, "parent": entry.signal.parent, "stage": entry.signal.stage}
        line.signal = line.signal.model_copy(update=names)
        main.go_on_from(update_before, steps_before)
    structlog.get_logger().info(
        entry.cause, version=entry.version, key=entry.key, update=entry.applied_update, adopt=entry.adopt
    )


# ------------------------------------------------------------ earlier entries and states


def _origin(main: MainRun, version: int | None) -> LoggedSignal:
    """Return the entry that brought the signal of `version`.

    A control's end state and an offset give that signal another version and change nothing of what is learnt, so both
    are passed over: what is undone is the promotion before them.
    """
    by_version: dict[int | None, LoggedSignal] = {entry.version: entry for entry in main.signal_log}
    entry = by_version[version]
    while entry.cause in ("control", "offset"):
        entry = by_version[entry.base_version]
    return entry


def _signal_of(main: MainRun, adopt: str) -> Signal:
    """Return the signal in force in a snapshot. Raises SnapshotError when the line cannot load it."""
    _, saved = read_snapshot(main.line.spec.name, main.run_dir / adopt)
    return Signal.model_validate(saved["line"]["signal"])


def _earlier_at_boundary(main: MainRun, undone: LoggedSignal) -> list[LoggedSignal]:
    """Return the signals promoted before `undone` at its own boundary: the snapshot there does not have them."""
    return [
        entry
        for entry in main.signal_log
        if 0 < entry.version < undone.version and entry.applied_update == undone.applied_update and entry.adopt is None
    ]
