"""What `start` refuses before anything is made, how a run ends, and how events are handed on."""

from __future__ import annotations

import asyncio
import errno
import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import cosignal
import pytest
from cosignal.config.run_config import RunConfig
from cosignal.errors import ApprovalError, ConfigError, RunLockedError, StorageError, TaskImportError, TrainerGone
from cosignal.graphs.session.run import Run, _Clock, start
from cosignal.graphs.session.run_directory import make_run, open_run
from cosignal.graphs.session.run_log import RunLog
from cosignal.rl.trainer.database import MetricsWriter
from cosignal.runs.approvals import Answer, given_answer
from cosignal.runs.events import ApprovalGiven, ApprovalNeeded, Progress, RunFinished, RunStarted
from cosignal.runs.graph_picture import Topology
from cosignal.runs.run_view import RunView
from cosignal.runs.store import LoopStore
from records import decision


def config(tmp_path: Path, **changes: Any) -> RunConfig:
    return RunConfig.model_validate({"run_dir": tmp_path / "runs", **changes})


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"task": {"env": "no_such_module:make"}}, TaskImportError, "no_such_module"),
        (
            {"signal": {"terms": [{"name": "x", "kind": "potential", "expression": "-dist_moon"}]}},
            ConfigError,
            "signal.terms: .*dist_moon",
        ),
        ({"llm": {"default": {"provider": "openai"}}}, ConfigError, "needs a model"),
    ],
)
async def test_bad_input_is_refused_before_a_run_is_made(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        async with start(config(tmp_path, **changes)):
            raise AssertionError("started")
    assert not (tmp_path / "runs").exists()


async def test_a_trainer_that_cannot_start_fails_the_run_and_leaves_it_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> Any:
        raise TrainerGone("no memory")

    monkeypatch.setattr("cosignal.graphs.session.run.attach_or_start", gone)
    async with start(config(tmp_path, adaptation={"enabled": False})) as run:
        kinds = [event.kind async for event in run.events()]
        with pytest.raises(TrainerGone, match="no memory"):
            await run.result()
        assert kinds == ["run_started"]
    assert RunView(run.path).state() == "failed"
    assert RunView(run.path).status()["error"] == "TrainerGone: no memory"
    assert "no memory" in (run.path / "log.jsonl").read_text()
    header = (run.path / "report.html").read_text().partition("</header>")[0]
    assert 'class="pill failed"' in header
    assert "TrainerGone: no memory" in header
    async with start(config(tmp_path, adaptation={"enabled": False}), resume=True) as again:
        assert again.path == run.path
        async for _ in again.events():
            assert RunView(run.path).status()["error"] is None
            break


async def test_a_stopped_run_has_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> Any:
        await asyncio.sleep(600)

    monkeypatch.setattr("cosignal.graphs.session.run.attach_or_start", never)
    async with start(config(tmp_path, adaptation={"enabled": False})) as run:
        async for event in run.events():
            assert event.kind == "run_started"
            await run.stop()
        result = await run.result()
    assert (result.state, result.path, result.promotions) == ("stopped", run.path, 0)
    assert 'class="pill stopped"' in (run.path / "report.html").read_text()


@pytest.mark.parametrize("on", [False, True])
async def test_the_start_says_whether_prompts_leave_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: bool
) -> None:
    async def gone(*_: Any) -> Any:
        raise TrainerGone("enough")

    monkeypatch.setattr("cosignal.graphs.session.run.attach_or_start", gone)
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    async with start(config(tmp_path, llm={"tracing": on}, adaptation={"enabled": False})) as run:
        [started] = [event async for event in run.events()]
        with pytest.raises(TrainerGone):
            await run.result()
    assert isinstance(started, RunStarted)
    assert (started.tracing, started.tracing_ignored) == (on, [] if on else ["LANGSMITH_TRACING"])


async def test_what_waits_for_an_answer_is_known_until_it_is_given(tmp_path: Path) -> None:
    run = Run(config(tmp_path), open_run(config(tmp_path), resume=False))
    question = ApprovalNeeded(
        id="p1-r0", proposal="p1-r0-0", title="t", reason="r", terms=[], gate="g", diff=[], replaces=0, adopted="signal"
    )
    assert run.waiting_for is None
    store = await LoopStore.open(run.path)
    await store.write(decision("p1-r0"))
    await store.set(waiting_for=question.model_dump(mode="json"))
    run.emit(question)
    assert run.waiting_for == question
    with pytest.raises(ApprovalError, match="must be a decision of this run, got 'p2-r0'"):
        await run.approve("p2-r0", True)
    assert not run._wake_graph.is_set()
    await run.approve("p1-r0", False, "too slow")
    assert run._wake_graph.is_set()
    assert given_answer(run.path, "p1-r0") == Answer(yes=False, because="too slow")
    with pytest.raises(ApprovalError, match="must keep the answer that it has, 'no'"):
        await run.approve("p1-r0", True)
    run.emit(ApprovalGiven(id="p1-r0", yes=False))
    assert run.waiting_for is None
    await store.close()
    run.close()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that is over at once."""

    async def at_once(run: Run, *_: Any) -> None:
        writer = MetricsWriter(run.path / "trainer.db")
        writer.counters(state="finished")
        writer.close()

    monkeypatch.setattr(Run, "_train", at_once)


@pytest.mark.usefixtures("trained")
async def test_a_run_is_done_and_unlocked_only_when_its_report_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def look(path: Path, _topology: Topology, state: str) -> None:
        told.extend((state, RunView(path).values()["state"]))
        with pytest.raises(RunLockedError):
            open_run(config(tmp_path), resume=True)

    monkeypatch.setattr("cosignal.graphs.session.run.write_report", look)
    async with start(config(tmp_path)) as run:
        assert (await run.result()).state == "done"
    assert told == ["done", "running"]  # whose reader sees `stopped` once the lock is gone, and can resume


@pytest.mark.usefixtures("trained")
async def test_stopped_while_it_writes_its_report_the_later_report_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go, states = threading.Event(), threading.Event(), list[str]()

    def write(path: Path, _topology: Topology, state: str) -> None:
        writing.set()
        assert go.wait(60)
        states.append(state)

    monkeypatch.setattr("cosignal.graphs.session.run.write_report", write)
    async with start(config(tmp_path)) as run:
        assert await asyncio.to_thread(writing.wait, 30)
        asyncio.get_running_loop().call_later(0.1, go.set)
        await run.stop()
        assert (await run.result()).state == "stopped"
    assert states == ["done", "stopped"]


@pytest.fixture
def full_for_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_whole(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cosignal.runs.report.write_whole", write_whole)


@pytest.mark.usefixtures("trained", "full_for_the_report")
async def test_a_trained_run_without_room_for_its_report_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(config(tmp_path)) as run:
        with pytest.raises(StorageError, match=r"report\.html' must be written, but cannot be \(No space left"):
            await run.result()
    view = RunView(run.path)
    assert (view.state(), "No space left" in view.status()["error"]) == ("failed", True)
    assert {path.name for path in run.path.glob("report*")} == set()
    monkeypatch.undo()
    directory = open_run(config(tmp_path), resume=True)
    directory.close()
    assert directory.path == run.path


@pytest.mark.usefixtures("full_for_the_report")
@pytest.mark.parametrize("log_too", [False, True])
async def test_what_ended_a_run_is_told_and_not_that_there_was_no_room_to_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_too: bool
) -> None:
    async def gone(*_: Any) -> Any:
        raise TrainerGone("no memory")

    monkeypatch.setattr("cosignal.graphs.session.run.attach_or_start", gone)
    async with start(config(tmp_path, adaptation={"enabled": False})) as run:
        if log_too:
            run._log.close()
            run._log = RunLog(Path("/dev/full"))
        with pytest.raises(StorageError if log_too else TrainerGone):
            await run.result()
    assert RunView(run.path).state() == "failed"


async def test_a_log_that_cannot_be_written_leaves_the_run_unlocked(tmp_path: Path) -> None:
    path = make_run(config(tmp_path))
    (path / "log.jsonl").mkdir()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"log\.jsonl' must be written"):
            Run(config(tmp_path), open_run(config(tmp_path), resume=path))


async def test_a_loop_that_cannot_write_its_database_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("cosignal.graphs.session.run.attach_or_start", full)
    async with start(config(tmp_path, adaptation={"enabled": False})) as run:
        with pytest.raises(StorageError, match=r"must be written, but cannot be \(database or disk is full\)"):
            await run.result()


@pytest.mark.parametrize("differs", [False, True])
async def test_a_live_trainer_is_replaced_where_the_config_says_something_else_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differs: bool
) -> None:
    first, second = FoundTrainer(reattached=True), FoundTrainer(reattached=False)
    given = [first, second]

    async def attach(*_: Any) -> Any:
        if len(given) == 1 and not differs:
            raise AssertionError("started")
        return given.pop(0)

    async def stop_here(*_: Any) -> Any:
        raise TrainerGone("enough")

    monkeypatch.setattr("cosignal.graphs.session.run.attach_or_start", attach)
    monkeypatch.setattr(Run, "_context", stop_here)
    open_run(config(tmp_path, adaptation={"enabled": False}), resume=False).close()
    episodes = 5 if differs else 32
    changed = config(tmp_path, adaptation={"enabled": False}, trainer={"evaluation": {"episodes": episodes}})
    async with start(changed, resume=True) as run:
        with pytest.raises(TrainerGone, match="enough"):
            await run.result()
    assert (first.stopped, second.stopped) == (1, 1 if differs else 0)


class FoundTrainer:
    client = None

    def __init__(self, reattached: bool) -> None:
        self.reattached = reattached
        self.stopped = 0

    async def stop(self) -> None:
        self.stopped += 1


async def test_a_resumed_run_tells_and_logs_which_keys_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> Any:
        raise TrainerGone("enough")

    monkeypatch.setattr("cosignal.graphs.session.run.attach_or_start", gone)
    path = open_run(config(tmp_path), resume=False)
    path.close()
    async with start(config(tmp_path, branches={"workers": 3}), resume=str(path.path)) as run:
        [started] = [event async for event in run.events()]
        with pytest.raises(TrainerGone):
            await run.result()
    assert isinstance(started, RunStarted)
    assert (started.resumed, started.changes) == (True, {"branches.workers": (1, 3)})
    [line] = [json.loads(text) for text in (run.path / "log.jsonl").read_text().splitlines() if "run_started" in text]
    assert line["changes"] == {"branches.workers": [1, 3]}


async def test_progress_and_wall_time_move_without_any_word_of_the_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while branches run."""
    steps = [1, 2, 3]

    async def next_progress(_: Any) -> Progress:
        if not steps:
            raise TrainerGone("the end")
        return progress(steps.pop(0))

    monkeypatch.setattr("cosignal.graphs.session.run.TICK_S", 0.01)
    monkeypatch.setattr("cosignal.graphs.session.run._progress", next_progress)
    run, told = Run(config(tmp_path), open_run(config(tmp_path), resume=False)), list[int]()
    monkeypatch.setattr(run, "emit", lambda event: told.append(event.steps_total))
    store = await LoopStore.open(run.path)
    clock, written = _Clock(store, time.monotonic(), 5.0), list[float]()

    async def write() -> None:
        await _Clock.write(clock)
        written.append(await store.get("wall_s"))

    monkeypatch.setattr(clock, "write", write)
    with pytest.raises(TrainerGone, match="the end"):
        await run._tick(object(), clock)  # type: ignore[arg-type]
    await store.close()
    run.close()
    assert told == [1, 2, 3]
    assert 5.0 < written[0] < written[1] < written[2]


async def test_unread_progress_is_replaced_by_the_newest(tmp_path: Path) -> None:
    directory = open_run(config(tmp_path), resume=False)
    run = Run(config(tmp_path), directory)
    for steps in (1, 2, 3):
        run.emit(progress(steps))
    run.emit(RunFinished(status={}))
    run.emit(progress(4))
    told = [event async for event in run.events()]
    assert [getattr(event, "steps_main", event.kind) for event in told] == [3, "run_finished", 4]
    run.close()


def progress(steps: int) -> Progress:
    return Progress(
        steps_main=steps, steps_total=steps, steps_budget=10, sparse_return=None, success_rate=None, stage="exploring",
        signal_version=0, waiting=False,
    )  # fmt: skip


def test_the_public_names() -> None:
    assert sorted(cosignal.__all__) == [
        "CosignalError",
        "EventSpec",
        "FeatureSpec",
        "Run",
        "RunConfig",
        "RunResult",
        "RunView",
        "Task",
        "build_graph",
        "export_run",
        "start",
    ]
    assert all(getattr(cosignal, name) for name in cosignal.__all__)
    with pytest.raises(AttributeError, match="no attribute 'stop'"):
        cosignal.stop  # noqa: B018
