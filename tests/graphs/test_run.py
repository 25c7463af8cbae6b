"""What `start` refuses before anything is made, and how events are handed on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import cosignal
import pytest
from cosignal.config import RunConfig
from cosignal.errors import ConfigError, TaskImportError, TrainerGone
from cosignal.graphs.directory import open_run
from cosignal.graphs.events import Progress, RunFinished
from cosignal.graphs.run import Run, key_variables, start
from cosignal.runs.store import RunView


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

    monkeypatch.setattr("cosignal.graphs.run.attach_or_start", gone)
    async with start(config(tmp_path, adaptation={"enabled": False})) as run:
        kinds = [event.kind async for event in run.events()]
        with pytest.raises(TrainerGone, match="no memory"):
            await run.result()
        assert kinds == ["run_started"]
    assert RunView(run.path).state() == "failed"
    assert "no memory" in (run.path / "log.jsonl").read_text()


async def test_a_stopped_run_has_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> Any:
        await asyncio.sleep(600)

    monkeypatch.setattr("cosignal.graphs.run.attach_or_start", never)
    async with start(config(tmp_path, adaptation={"enabled": False})) as run:
        async for event in run.events():
            assert event.kind == "run_started"
            await run.stop()
        result = await run.result()
    assert (result.state, result.path, result.promotions) == ("stopped", run.path, 0)


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


def test_the_keys_of_all_roles_are_kept_from_children(tmp_path: Path) -> None:
    llm = {"default": {"provider": "openai", "model": "m", "api_key_env": "A"}, "critic": {"api_key_env": "B"}}
    assert key_variables(config(tmp_path, llm=llm)) == ["B", "A", "A"]


def test_the_public_names() -> None:
    assert sorted(cosignal.__all__) == [
        "CosignalError",
        "Run",
        "RunConfig",
        "RunResult",
        "RunView",
        "build_graph",
        "start",
    ]
    assert all(getattr(cosignal, name) for name in cosignal.__all__)
    with pytest.raises(AttributeError, match="no attribute 'stop'"):
        cosignal.stop  # noqa: B018
