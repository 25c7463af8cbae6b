"""Which run is resumed, with which config it goes on, and when it is refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from cosignal.config.run_config import RunConfig
from cosignal.errors import CosignalError, NotARunError, ResumeError, StorageError
from cosignal.files import write_whole
from cosignal.graphs.session.directory_checks import write_row_counts
from cosignal.graphs.session.run_directory import RunDirectory, lock_run, make_run, open_run
from cosignal.rl.ipc.messages import Cause
from cosignal.rl.signals.signal import Signal
from cosignal.rl.trainer.database import LoggedSignal, MetricsWriter
from cosignal.rl.training.config import TrainingConfig
from cosignal.runs.records import InterventionRecord, VisitRecord
from cosignal.runs.store import LoopStore
from records import branch, call, decision, proposal

STEPS = 6_400
VISIT = VisitRecord(task_id="t", node="observe", point=16, round=0, started=1.0, ended=2.0, status="ok", detail=None)


def config(folder: Path, **changes: Any) -> RunConfig:
    """A config without adaptation; changes are by dotted key, with `__` for the dot."""
    data: dict[str, Any] = {"run_dir": folder / "runs", "trainer": {"steps": STEPS}, "adaptation": {"enabled": False}}
    for name, value in changes.items():
        *sections, key = name.split("__")
        place = data
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return RunConfig.model_validate(data)


async def begin(config: RunConfig, state: str = "stopped", steps: int = 640) -> Path:
    """A run that has trained for `steps` and ended as `state`."""
    path = make_run(config)
    store = await LoopStore.open(path)
    await store.set(id=path.name, state=state, error=None)
    await store.close()
    writer = MetricsWriter(path / "trainer.db")
    writer.counters(state="finished" if state == "done" else "stopping", steps_main=steps)
    writer.close()
    return path


def resume(config: RunConfig, path: Path | None = None) -> RunDirectory:
    directory = open_run(config, path or True)
    directory.close()
    return directory


def written(path: Path) -> RunConfig:
    return RunConfig.model_validate_json((path / "config.json").read_text())


# ---------------------------------------------------------------- the run is found


async def test_the_newest_run_of_the_config_that_is_not_done_goes_on(tmp_path: Path) -> None:
    await begin(config(tmp_path, seed=2))
    older = await begin(config(tmp_path))
    newest = await begin(config(tmp_path))
    await begin(config(tmp_path), "done", STEPS)
    found = resume(config(tmp_path))
    assert (found.path, found.id, found.resumed, found.changes, found.notes) == (newest, newest.name, True, [], [])
    assert resume(config(tmp_path), older).path == older
    fresh = open_run(config(tmp_path), resume=False)
    fresh.close()
    assert (fresh.resumed, fresh.path in (older, newest)) == (False, False)


async def test_keys_that_decide_nothing_take_effect_in_the_run_that_goes_on(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    changed = config(tmp_path, branches__workers=3, trainer__evaluation__episodes=5, llm__limits__calls=7)
    found = resume(changed)
    assert (found.path, found.trains_differently) == (path, True)
    assert [tuple(change) for change in found.changes] == [
        ("branches.workers", 1, 3),
        ("llm.limits.calls", 200, 7),
        ("trainer.evaluation.episodes", 32, 5),
    ]
    assert written(path) == changed
    assert TrainingConfig.of_run(path).trainer.evaluation.episodes == 5
    again = resume(changed)
    assert (again.changes, again.trains_differently) == ([], False)


async def test_the_order_of_keys_and_defaults_written_out_do_not_matter(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    data = json.loads(config(tmp_path).resolved_json())
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(dict(reversed(data.items())), sort_keys=False))
    assert resume(RunConfig.load(tmp_path / "other.yaml")).path == path


async def test_a_version_with_one_more_default_finds_it(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    data, info = (json.loads((path / name).read_text()) for name in ("config.json", "run.json"))
    del data["branches"]["keep_control"], info["config_sha256"]
    (path / "config.json").write_text(json.dumps(data))
    (path / "run.json").write_text(json.dumps(info | {"config_hash": "of older keys"}))
    assert resume(config(tmp_path)).path == path


async def test_a_moved_or_renamed_directory_keeps_its_name_and_says_where_it_is(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    moved = tmp_path / "elsewhere" / "mine"
    moved.parent.mkdir()
    path.rename(moved)
    for found in (resume(config(tmp_path, run_dir=moved.parent)), resume(config(tmp_path), moved)):
        assert (found.path, found.id) == (moved, path.name)
        assert written(moved).run_dir == moved.parent


async def test_of_a_run_and_its_copy_the_original_goes_on(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    for name in ("a", "zz"):
        shutil.copytree(path, path.with_name(name))
    assert resume(config(tmp_path)).path == path


def test_where_the_task_has_no_run_a_new_one_starts_and_says_so(tmp_path: Path) -> None:
    make_run(config(tmp_path, task={"name": "victim_rubble"}))
    found = resume(config(tmp_path))
    assert not found.resumed
    assert found.notes == [f"no run of two_switch is below {str(tmp_path / 'runs')!r} yet: this is a new one"]


# ---------------------------------------------------------------- none is


async def test_the_nearest_run_is_named_with_what_differs(tmp_path: Path) -> None:
    await begin(config(tmp_path, seed=7, trainer__ippo__lr=1e-2, trainer__envs=32))
    near = await begin(config(tmp_path, seed=3))
    changed = config(tmp_path, trainer__ippo__lr=1e-3)
    with pytest.raises(ResumeError) as raised:
        open_run(changed, resume=True)
    assert (
        f"the nearest, {str(near)!r}, differs in seed (3 there, 1 here), trainer.ippo.lr (0.0006 there, 0.001 "
        in str(raised.value)
    )
    assert len(list((tmp_path / "runs").iterdir())) == 2, "nothing was begun"
    with pytest.raises(ResumeError, match=r"must be a run of this config, but it differs in seed \(3 there, 1 here\)"):
        open_run(changed, near)


async def test_another_seed_is_a_new_run_and_says_so(tmp_path: Path) -> None:
    await begin(config(tmp_path), "done", STEPS)
    await begin(config(tmp_path, seed=2, trainer__ippo__lr=1e-3))  # as near, but for another key
    found = resume(config(tmp_path, seed=2))
    assert not found.resumed
    assert found.notes == [f"no run below {str(tmp_path / 'runs')!r} has the seed 2 yet: this is a new one"]
    assert resume(config(tmp_path, seed=2)).path == found.path
    with pytest.raises(ResumeError, match=r"differs in seed \(1 there, 2 here\)"):
        open_run(config(tmp_path, seed=2), next((tmp_path / "runs").glob("*-s1-*")))


@pytest.mark.parametrize("name", ["run.json", "config.json"])
@pytest.mark.parametrize(
    "content", [b"", b'{"id": ', b"{}", b'{"id": 5, "config_hash": ""}', b"\xff", '{"id": "x"}'.encode("utf-16")]
)
async def test_a_damaged_run_is_not_taken_for_none(tmp_path: Path, name: str, content: bytes) -> None:
    # A seed of its own: a damaged config.json of this very run can be written anew, see below.
    path = await begin(config(tmp_path, seed=2))
    (path / name).write_bytes(content)
    for resume_at in (True, path):
        with pytest.raises(ResumeError, match=rf"{path.name}/{name}' must be") as raised:
            open_run(config(tmp_path), resume_at)
        assert "\n" not in str(raised.value)
    whole = await begin(config(tmp_path))
    found = resume(config(tmp_path))
    assert found.path == whole
    [note] = found.notes
    assert note.startswith("passed over: ")


async def test_a_lost_run_json_is_damage_and_half_a_run_is_none(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    (path / "run.json").unlink()
    with pytest.raises(ResumeError, match=r"run\.json' must be there, but it is missing; restore"):
        open_run(config(tmp_path), resume=True)
    for name in ("loop.db", "trainer.db"):
        (path / name).unlink()
    assert not resume(config(tmp_path)).resumed  # killed while it was made
    with pytest.raises(NotARunError, match="has no run.json"):
        open_run(config(tmp_path), tmp_path / "runs")


async def test_a_damaged_config_json_is_written_anew_where_run_json_knows_the_run(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    (path / "config.json").write_text('{"seed"')
    found = resume(config(tmp_path))
    assert (found.path, written(path)) == (path, config(tmp_path))
    [note] = found.notes
    assert note.startswith("config.json is written anew")


# ---------------------------------------------------------------- edited files


async def test_the_trainer_gets_what_the_config_says_and_not_an_edited_training_json(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    training = json.loads((path / "training.json").read_text())
    training["task"] |= {"name": None, "env": "subprocess:getoutput"}
    (path / "training.json").write_text(json.dumps(training))
    found = resume(config(tmp_path))
    assert found.trains_differently
    assert found.notes == ["training.json was not what the run's config says; it is written anew from that"]
    assert TrainingConfig.of_run(path) == config(tmp_path).training()


async def test_an_edited_config_json_that_names_another_run_is_refused(tmp_path: Path) -> None:
    path = await begin(config(tmp_path, seed=2))
    (path / "config.json").write_text(config(tmp_path).resolved_json())
    for resume_at in (True, path):
        with pytest.raises(ResumeError, match=r"config\.json' must be as it was written, but it has been edited"):
            open_run(config(tmp_path), resume_at)
    assert resume(config(tmp_path, seed=2)).path == path  # its own config says what it was


async def test_an_edited_config_json_of_the_same_run_gives_way_to_the_config(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    (path / "config.json").write_text(config(tmp_path, branches__workers=9).resolved_json())
    assert resume(config(tmp_path)).path == path
    assert written(path) == config(tmp_path)


@pytest.mark.parametrize("kill_at", [0, 1, 2])
async def test_killed_while_the_changed_config_is_written_the_changes_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    path = await begin(config(tmp_path))
    changed, written_files, real = config(tmp_path, branches__workers=3), list[Path](), write_whole

    def write(file: Path, content: str) -> None:
        if len(written_files) == kill_at:
            raise KeyboardInterrupt
        written_files.append(file)
        real(file, content)

    monkeypatch.setattr("cosignal.graphs.session.run_directory.write_whole", write)
    with pytest.raises(KeyboardInterrupt):
        open_run(changed, resume=True)
    monkeypatch.undo()
    found = resume(changed)
    assert (found.path, [tuple(change) for change in found.changes]) == (path, [("branches.workers", 1, 3)])
    assert written(path) == changed


# ---------------------------------------------------------------- budgets


async def test_a_run_that_is_done_goes_on_with_more_steps_only(tmp_path: Path) -> None:
    path = await begin(config(tmp_path), "done", STEPS)
    for resume_at in (True, path):
        with pytest.raises(ResumeError, match=r"is done.*more than the 6_400 main steps.*got 6_400; raise it"):
            open_run(config(tmp_path), resume_at)
        with pytest.raises(ResumeError, match="got 3_200; raise it"):
            open_run(config(tmp_path, trainer__steps=3_200), resume_at)
    found = resume(config(tmp_path, trainer__steps=12_800))
    assert (found.path, [tuple(change) for change in found.changes]) == (path, [("trainer.steps", STEPS, 12_800)])
    assert TrainingConfig.of_run(path).trainer.steps == 12_800


async def test_a_run_with_these_very_budgets_comes_first(tmp_path: Path) -> None:
    done = await begin(config(tmp_path), "done", STEPS)
    longer = await begin(config(tmp_path, trainer__steps=12_800))
    same = await begin(config(tmp_path, trainer__steps=9_600))
    assert resume(config(tmp_path, trainer__steps=9_600)).path == same
    assert resume(config(tmp_path, trainer__steps=12_800)).path == longer
    for path in (longer, same):
        shutil.rmtree(path)
    assert resume(config(tmp_path, trainer__steps=12_800)).path == done


async def test_a_budget_below_what_was_used_is_refused(tmp_path: Path) -> None:
    path = await begin(config(tmp_path), steps=5_000)
    with pytest.raises(ResumeError, match="trainer.steps: must be at least what .* has used, 5000, got 2500; raise it"):
        open_run(config(tmp_path, trainer__steps=2_500), resume=True)
    assert written(path).trainer.steps == STEPS
    assert resume(config(tmp_path, trainer__steps=5_000)).path == path


# ---------------------------------------------------------------- loop.db


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path / "loop.db")) as database, database:
        for statement in statements:
            database.execute(statement)


CHECKPOINTS = "CREATE TABLE checkpoints(thread_id TEXT)"


async def refused(path: Path, words: str) -> None:
    before = (path / "config.json").read_bytes()
    with pytest.raises(ResumeError, match=words):
        open_run(config(path.parent.parent, branches__workers=4), resume=True)
    assert (path / "config.json").read_bytes() == before
    lock_run(path).close()  # it is free


async def test_a_run_does_not_go_on_without_its_loop_db(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    content = (path / "loop.db").read_bytes()
    (path / "loop.db").unlink()
    await refused(path, r"loop\.db' must be there since the run has begun, but it is missing: its steps, budgets")
    (path / "loop.db").write_bytes(b"")
    await refused(path, "must hold the loop's tables")
    (path / "loop.db").write_bytes(content[: len(content) // 2])
    await refused(path, "must be a whole database")
    (path / "loop.db").write_bytes(b"x" * len(content))
    await refused(path, "must be a whole database .*file is not a database")
    (path / "loop.db").unlink()
    (path / "loop.db").mkdir()
    await refused(path, "must be a whole database .*it is a folder")


async def test_a_run_does_not_go_on_with_the_loop_db_of_another(tmp_path: Path) -> None:
    other, path = await begin(config(tmp_path)), await begin(config(tmp_path))
    shutil.copyfile(other / "loop.db", path / "loop.db")
    await refused(path, f"must be of the run '{path.name}' since the run has begun, but it is of '{other.name}'")
    # One of a version that wrote no id is known by its graph's checkpoints.
    sql(path, "DELETE FROM run WHERE name = 'id'", CHECKPOINTS, "INSERT INTO checkpoints VALUES ('somebody')")
    await refused(path, "but it is of 'somebody'")
    sql(path, f"UPDATE checkpoints SET thread_id = '{path.name}'")
    assert resume(config(tmp_path)).path == path


async def test_a_run_does_not_go_on_without_the_checkpoints_of_its_graph(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    assert resume(config(tmp_path)).notes == []  # killed before the first one
    store = await LoopStore.open(path)
    await store.write(InterventionRecord(point=16, evidence={}))
    await store.close()
    await refused(path, "must hold the checkpoints of the graph .* none is there after 1 interventions")
    sql(path, CHECKPOINTS, f"INSERT INTO checkpoints VALUES ('{path.name}')")
    assert resume(config(tmp_path)).path == path


async def test_a_run_does_not_go_on_with_a_loop_db_from_before_a_promotion(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    writer = MetricsWriter(path / "trainer.db")
    writer.log_signal(LoggedSignal(0, "start", None, 0, 0, Signal(), None, "start"))
    writer.log_signal(LoggedSignal(1, "p16-r0-1:0", 0, 16, 2048, Signal(version=1), None, "promotion"))
    writer.close()
    await refused(path, r"must hold the decision to promote 'p16-r0-1' .* it is older than trainer\.db")
    store = await LoopStore.open(path)
    await store.write(decision("p16-r0", 16).model_copy(update={"winner": "p16-r0-1"}))
    await store.close()
    assert resume(config(tmp_path)).path == path


@pytest.mark.parametrize("table", ["visits", "diagnoses", "proposals", "branches", "decisions", "calls"])
async def test_a_run_does_not_go_on_with_a_loop_db_that_has_less_than_it_had(tmp_path: Path, table: str) -> None:
    path = await begin(config(tmp_path))
    sql(path, CHECKPOINTS, f"INSERT INTO checkpoints VALUES ('{path.name}')")
    store = await LoopStore.open(path)
    await store.write(InterventionRecord(point=16, evidence={}))
    for record in (proposal(16, 0, 0), branch("b", 16, 0, 640), decision("p16-r0", 16), call("c"), VISIT):
        await store.write(record)
    write_row_counts(path, await store.row_counts())
    await store.write(decision("p32-r0", 32))  # of a node that was cut off
    await store.close()
    assert resume(config(tmp_path)).path == path
    sql(path, f"DELETE FROM {table}")
    await refused(path, f"must hold the 1 rows of '{table}' that it had since the run has begun, but it has 0")


@pytest.mark.parametrize("content", ["", "[]", '{"visits": "many"}', '{"run; DROP TABLE run": 1}'])
async def test_row_counts_that_cannot_be_read_are_named(tmp_path: Path, content: str) -> None:
    path = await begin(config(tmp_path))
    (path / "loop.json").write_text(content)
    await refused(path, r"loop\.json' must .* or remove it, then nothing says that loop\.db is the newest")
    (path / "loop.json").unlink()
    assert resume(config(tmp_path)).path == path


@pytest.mark.parametrize("cause", ["control", "promotion"])
async def test_a_run_does_not_go_on_without_the_branch_that_became_its_main_line(tmp_path: Path, cause: Cause) -> None:
    path = await begin(config(tmp_path))
    store = await LoopStore.open(path)
    await store.write(decision("p16-r0", 16).model_copy(update={"winner": "p16-r0-1"}))
    writer = MetricsWriter(path / "trainer.db")
    writer.log_signal(LoggedSignal(1, "p16-r0-1:0", 0, 16, 2048, Signal(version=1), "branches/b/end", cause))
    writer.close()
    await refused(path, "must hold the branch that ended at 'branches/b/end' .* it is older than trainer")
    record = branch("b", 16, 0, 640)
    ended = record.result.model_copy(update={"end_state": "branches/b/end"})
    await store.write(record.model_copy(update={"result": ended}))
    await store.close()
    assert resume(config(tmp_path)).path == path


async def test_a_full_disk_does_not_make_a_whole_loop_db_a_damaged_one(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # SQLite cannot make its index beside it
    try:
        with pytest.raises(StorageError) as raised:
            open_run(config(tmp_path), resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{str(path / 'loop.db')!r} must be written, but cannot be" in str(raised.value)
    assert str(raised.value).endswith("the disk has room, then go on with --resume")
    assert resume(config(tmp_path)).path == path


# ---------------------------------------------------------------- a stranger's directory


@pytest.mark.parametrize("name", ["trainer.lock", "loop.lock", "log.jsonl", "tensorboard", "branches/b/worker.log"])
@pytest.mark.parametrize("there", [True, False])
async def test_nothing_is_written_through_a_link_that_leads_out(tmp_path: Path, name: str, there: bool) -> None:
    path, outside = await begin(config(tmp_path)), tmp_path / "mine.txt"
    if there:
        outside.write_text("mine")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).symlink_to(outside)
    for resume_at in (True, path):
        with pytest.raises(ResumeError, match=r"is a link to '.*mine\.txt' outside of it; put what it leads to"):
            open_run(config(tmp_path), resume_at)
    assert outside.read_text() == "mine" if there else not outside.exists()
    (path / name).unlink()
    (path / name).symlink_to(path / "checkpoints")  # one inside leads nowhere else
    assert there or name == "loop.lock" or resume(config(tmp_path)).path == path


@pytest.mark.parametrize("name", ["trainer.log.jsonl", "checkpoints/x", "scorers"])
async def test_a_pipe_in_the_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    path = await begin(config(tmp_path))
    os.mkfifo(path / name)
    with pytest.raises(ResumeError, match=f"{name}' is neither; remove it"):
        open_run(config(tmp_path), resume=True)


async def test_a_run_directory_that_is_a_link_goes_on(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    (tmp_path / "link").symlink_to(path)
    assert resume(config(tmp_path), tmp_path / "link").id == path.name


# ---------------------------------------------------------------- killed early


async def test_a_run_that_was_killed_before_it_trained_begins(tmp_path: Path) -> None:
    path = make_run(config(tmp_path))
    assert resume(config(tmp_path)).path == path


# ---------------------------------------------------------------- leftovers


async def test_what_was_half_written_is_removed(tmp_path: Path) -> None:
    path = await begin(config(tmp_path))
    (path / "report.html.99.partial").write_text("<html>")
    (path / "checkpoints" / "update_000000016.99.partial").mkdir()
    resume(config(tmp_path))
    assert not list(path.rglob("*.partial"))


@pytest.mark.parametrize("place", ["loop.lock", "config.json", "run.json"])
async def test_a_directory_in_the_place_of_a_file_is_named_in_one_line(tmp_path: Path, place: str) -> None:
    path = await begin(config(tmp_path))
    (path / place).unlink(missing_ok=True)
    (path / place).mkdir()
    with pytest.raises(CosignalError, match=path.name) as raised:
        open_run(config(tmp_path, seed=1 if place == "loop.lock" else 2), path)
    assert "\n" not in str(raised.value)
