"""Damaged run directories on every address: the others are listed, and each says what is wrong or shows the rest."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import made_up_run
import pytest
from cosignal.cli import app as command
from cosignal.cli import ask_again
from cosignal.runs.page import app as pages
from cosignal.runs.page import create_app
from cosignal.testing import build_run_directory
from cosignal.testing.run_directory import POINT
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from typer.testing import CliRunner

Damage = Callable[[Path], None]


def sql(database: str, *statements: str) -> Damage:
    def damage(run: Path) -> None:
        with closing(sqlite3.connect(run / database)) as opened, opened:
            for statement in statements:
                opened.execute(statement)

    return damage


def config(**changes: Any) -> Damage:
    def damage(run: Path) -> None:
        data = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps(data | changes))

    return damage


def cut_in_half(run: Path) -> None:
    whole = (run / "loop.db").read_bytes()
    (run / "loop.db").write_bytes(whole[: len(whole) // 2])


def broken_replays(run: Path) -> None:
    folder = run / "replays"
    folder.mkdir()
    (folder / "a.json").write_text("[" * 100_000)
    (folder / "b.json").mkdir()
    (folder / "c.failed").mkdir()
    os.mkfifo(folder / "d.failed")


BIG = "printf('%.*c', 1000000, 'A')"
DEEP = "replace(printf('%.*c', 100000, '['), '[', '[')"

# What is wrong → whether the run is still shown (else each page has one line), and the damage.
KINDS: dict[str, tuple[bool, Damage]] = {
    "sound": (True, lambda run: None),
    "info_list": (False, lambda run: (run / "run.json").write_text("[]") and None),
    "info_empty": (True, lambda run: (run / "run.json").write_text("{}") and None),
    "info_types": (False, lambda run: (run / "run.json").write_text('{"created": [1]}') and None),
    "config_empty_parts": (False, config(llm={}, trainer={}, task={})),
    "config_types": (False, config(llm=None, trainer=[], task=7)),
    "config_deep": (False, lambda run: (run / "config.json").write_text("[" * 100_000) and None),
    "metrics_list": (True, sql("trainer.db", "UPDATE metrics SET data = '[]'")),
    "metrics_nan": (True, sql("trainer.db", "UPDATE metrics SET data = replace(data, 'null', 'NaN')")),
    "metrics_types": (True, sql("trainer.db", "UPDATE metrics SET data = json_set(data, '$.stage', 7, '$.terms', 5)")),
    "metrics_text": (True, sql("trainer.db", "UPDATE metrics SET data = json_set(data, '$.train_return', 'NaN')")),
    "metrics_steps": (True, sql("trainer.db", "UPDATE metrics SET steps = 'many'")),
    "counters_nan": (True, sql("trainer.db", "UPDATE counters SET value = 'NaN'")),
    "counters_huge": (True, sql("trainer.db", "UPDATE counters SET value = printf('%.*c', 5000, '9')")),
    "signals": (True, sql("trainer.db", "UPDATE signals SET signal = '{}', base_version = 'z'")),
    "values": (True, sql("loop.db", "UPDATE run SET value = '{bro'")),
    "waiting": (True, sql("loop.db", "INSERT INTO run VALUES ('waiting_for', '{\"id\": \"../../x\"}')")),
    "wall_s": (True, sql("loop.db", "INSERT OR REPLACE INTO run VALUES ('wall_s', '\"long\"')")),
    "branches": (True, sql("loop.db", "UPDATE branches SET result = '{}'")),
    "branches_nan": (True, sql("loop.db", "UPDATE branches SET result = json_set(result, '$.final_return', 'NaN')")),
    "branches_inf": (
        True,
        sql("loop.db", "UPDATE branches SET result = json_set(result, '$.curve', json('[[1, 9e999, 0]]'))"),
    ),
    "branches_huge": (
        True,
        sql("loop.db", "UPDATE branches SET result = json_set(result, '$.final_return', 1e308 * (1 - 2 * seed))"),
    ),
    "decisions": (True, sql("loop.db", "UPDATE decisions SET detail = '[1,2,3]'")),
    "proposals": (True, sql("loop.db", "UPDATE proposals SET signal = 'null', proposal = '{}'")),
    "evidence_deep": (True, sql("loop.db", f"UPDATE diagnoses SET evidence = {DEEP}")),
    "calls_big": (True, sql("loop.db", f"UPDATE calls SET raw = {BIG}, error = {BIG}")),
    "calls_parts": (True, sql("loop.db", "UPDATE calls SET messages = '[{}]', parsed = '{\"findings\": [1, {}]}'")),
    "calls_tokens": (True, sql("loop.db", "UPDATE calls SET input_tokens = 5, output_tokens = NULL")),
    "calls_blob": (True, sql("loop.db", "UPDATE calls SET raw = x'00ff'")),
    "visits": (True, sql("loop.db", "UPDATE visits SET status = 'gone', detail = '7'")),
    "columns": (True, sql("loop.db", "ALTER TABLE branches DROP COLUMN horizon", "ALTER TABLE visits RENAME id TO x")),
    "cut": (True, cut_in_half),
    "no_database": (True, lambda run: (run / "loop.db").write_text("no database " * 100) and None),
    "replays": (True, broken_replays),
    "replays_file": (True, lambda run: (run / "replays").write_text("x") and None),
    "lock_folder": (True, lambda run: (run / "loop.lock").mkdir()),
}  # fmt: skip
STRICT = ("info_list", "config_types", "metrics_list", "counters_nan", "signals", "values", "branches", "cut")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    good = build_run_directory(path.parent / "good")
    sql("trainer.db", "DELETE FROM metrics WHERE update_index % 10")(good)  # fewer rows are read faster
    for name, (_, damage) in KINDS.items():
        shutil.copytree(good, path / name)
        for left in (path / name).glob("*.db-*"):
            left.unlink()
        damage(path / name)
    return path


@cache  # templates are compiled once
def served(folder: Path) -> Starlette:
    return create_app([folder], "t", topology=lambda: made_up_run.GRAPH, ask_again=ask_again)


def client(folder: Path) -> AsyncClient:
    app = served(folder)
    found = AsyncClient(transport=ASGITransport(app), base_url="http://localhost")
    found.cookies.set("cosignal_0", "t")
    return found


async def test_every_run_is_listed_whatever_another_one_is(folder: Path) -> None:
    async with client(folder) as found:
        page = await found.get("/")
    assert page.status_code == 200
    hidden = [name for name, (shown, _) in KINDS.items() if not shown]
    assert page.text.count("cannot be read:") == len(hidden)
    for name, (shown, _) in KINDS.items():
        assert name in page.text
        assert (f'href="/runs/{name}"' in page.text) is shown


@pytest.mark.parametrize("kind", KINDS)
async def test_every_address_shows_what_can_be_read_or_one_line(folder: Path, kind: str) -> None:
    call, own = f"p{POINT}-r0-critic-1-0", f"p{POINT}-r1-0"
    parts = ["", "/curves.json", "/nodes/observe", "/nodes/critic", f"/calls/{call}", f"/proposals/{own}", "/episode"]
    others = [f"/compare?run={kind}&run=sound", f"/compare/curves.json?run=sound&run={kind}"]
    shown, _ = KINDS[kind]
    async with client(folder) as found:
        for address in [*(f"/runs/{kind}{part}" for part in parts), f"/runs/{kind}/replays/none", *others]:
            answer = await found.get(address)
            if not shown:
                assert answer.status_code == 422, address
                assert f"{kind}/" in answer.text
            elif "/calls/" in address or "/proposals/" in address or "/nodes/" in address or "/replays/" in address:
                assert answer.status_code in (200, 404), (address, answer.text[-400:])  # the row itself may be gone
            else:
                assert answer.status_code == 200, (address, answer.text[-400:])
            assert len(answer.text) < 1_000_000
            if "curves.json" in address and answer.status_code == 200:
                assert "NaN" not in answer.text
    stream = pages.change_events(folder / kind)
    assert await anext(stream) == b"event: changed\ndata: \n\n"
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_name_that_is_no_utf8_hides_no_run(tmp_path: Path) -> None:
    await asyncio.to_thread(build_run_directory, tmp_path / "one")
    await asyncio.to_thread(shutil.copytree, tmp_path / "one", os.fsdecode(bytes(tmp_path) + b"/\xff<b>"))
    async with client(tmp_path) as found:
        page = await found.get("/")
        assert (page.status_code, page.text.count("must be UTF-8")) == (200, 1)
        assert (await found.get("/runs/one")).status_code == 200
        assert (await found.get("/runs/%5Cudcff%3Cb%3E")).status_code == 422


async def test_what_is_missing_is_told_on_the_page(folder: Path) -> None:
    async with client(folder) as found:
        page = (await found.get("/runs/branches")).text
        assert "Not all of this run can be read" in page
        assert "the table &#39;branches&#39;" in page
        assert "Not all of this run" not in (await found.get("/runs/sound")).text


@pytest.mark.parametrize("kind", STRICT)
def test_its_status_is_one_line_and_exit_2(folder: Path, kind: str) -> None:
    told = CliRunner().invoke(command, ["status", str(folder / kind)])
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert told.stderr.startswith("cosignal: ")
    assert isinstance(told.exception, SystemExit)


async def test_a_run_that_vanishes_between_two_looks_is_said_to_be_gone(tmp_path: Path) -> None:
    run = await asyncio.to_thread(build_run_directory, tmp_path / "one")
    async with client(tmp_path) as found:
        assert (await found.get("/runs/one")).status_code == 200
        stream = pages.change_events(run)
        await anext(stream)
        await asyncio.to_thread(shutil.rmtree, run)
        assert [part async for part in stream] == []
        assert (await found.get("/runs/one")).status_code == 404
        assert (await found.get("/")).status_code == 200
