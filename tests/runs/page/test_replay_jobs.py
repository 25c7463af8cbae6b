"""Recorded calls asked again from the pages: begun by a form, shown when they are there, in words when they fail."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import made_up_run
import pytest
from cosignal.cli import ask_again
from cosignal.graphs.replay import replay
from cosignal.prompts import load_template
from cosignal.runs.page import app as pages
from cosignal.runs.page import create_app
from httpx import ASGITransport, AsyncClient, Response
from replays import CRITIC, GENERATOR, files, raced_replay, recorded_run

TOKEN = "a-token"
HOST = "http://localhost"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ruled")
    asyncio.run(recorded_run(path))
    info = {"id": "ruled", "created": "2026-01-02T03:04:05+00:00", "config_hash": "0", "version": "0"}
    (path / "run.json").write_text(json.dumps(info))
    return path


@pytest.fixture
async def client(recorded: Path, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    await asyncio.to_thread(shutil.copytree, recorded, tmp_path / "run")
    app = create_app([tmp_path], TOKEN, topology=lambda: made_up_run.GRAPH, ask_again=ask_again)
    async with app.router.lifespan_context(app), AsyncClient(transport=ASGITransport(app), base_url=HOST) as found:
        found.cookies.set("cosignal_0", TOKEN)
        found.headers["origin"] = HOST
        yield found


async def asked(client: AsyncClient, **form: str) -> str:
    """The page of the replay, once it is over."""
    answer = await client.post("/runs/run/replays", data=form)
    assert answer.status_code == 303
    while "It is being asked" in (page := await client.get(answer.headers["location"])).text:
        await asyncio.sleep(0.05)
    assert page.status_code == 200
    return page.text


async def test_a_form_asks_the_same_question_and_leaves_the_run_as_it_is(client: AsyncClient, tmp_path: Path) -> None:
    before = await asyncio.to_thread(files, tmp_path / "run")
    page = await asked(client, role="critic", call=CRITIC, prompt=load_template("critic").path.read_text(), model="")
    assert "The same answer." in page
    assert "To keep this prompt" not in page  # the template was sent as it stood
    assert await asyncio.to_thread(files, tmp_path / "run") == before
    call = (await client.get(f"/runs/run/calls/{CRITIC}")).text
    assert f"replays/{CRITIC}-" in call
    assert "the same answer" in call


async def test_an_edited_template_is_kept_and_its_line_ends_are_ours(client: AsyncClient, tmp_path: Path) -> None:
    edited = load_template("generator").path.read_text().replace("## user", "Be brief.\n\n## user", 1)
    page = await asked(client, role="generator", call=GENERATOR, prompt=edited.replace("\n", "\r\n"), model="")
    [kept] = (tmp_path / "run" / "replays").glob("*.md")
    assert kept.read_text().strip() == edited.strip()
    assert str(kept) in page


async def test_a_whole_role_is_asked_and_summed_up(client: AsyncClient) -> None:
    page = re.sub(r"<[^>]+>", "", await asked(client, role="generator", prompt="", model=""))
    assert "Every question of the generator: 2 of 2 answers are valid, 2 were; 2 are the same." in page


async def test_what_fails_is_kept_in_words(client: AsyncClient) -> None:
    edited = load_template("critic").path.read_text()
    words = edited.replace("[stage, schema, calls_left, block, pictures]", "[]").split("## system")[0]
    page = await asked(
        client, role="critic", call=CRITIC, prompt=f"{words}## system\nhi\n## user\nno evidence &lt;b&gt;\n", model=""
    )
    assert "ConfigError" in page
    assert "must declare" in page
    assert "failed" in (await client.get(f"/runs/run/calls/{CRITIC}")).text
    assert (await client.get("/runs/run/replays/none")).status_code == 404


async def test_whatever_fails_is_kept_in_words(
    client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    edited = (
        load_template("critic")
        .path.read_text()
        .replace("{{ block | fenced }}", '{{ {"evidence": block | length} | fenced }}')
    )
    assert "llm.prompts.critic" in await asked(client, role="critic", call=CRITIC, prompt=edited, model="")

    async def fails(*_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(replay, "replay_call", fails)
    assert "KeyError: &#39;a fault of ours&#39;" in await asked(client, role="critic", call=CRITIC, prompt="", model="")
    [kept] = (tmp_path / "run" / "replays").glob("*.failed")
    assert "a fault of ours" in kept.read_text()
    assert "Traceback" in caplog.text


async def test_a_template_that_cannot_be_read_is_refused_at_once(client: AsyncClient, tmp_path: Path) -> None:
    edited = load_template("critic").path.read_text()
    line = edited[: edited.index("{{ block | fenced }}")].count("\n") + 1
    for prompt, told in (
        ("no front matter <b>", "no YAML front matter"),
        (edited.replace("{{ block | fenced }}", "{{ block | fences }}"), f"line {line}: No filter named"),
        (edited.replace("version: v6", "version: v6\nversion: v7"), "must be there once"),
    ):
        answer = await client.post("/runs/run/replays", data={"role": "critic", "call": CRITIC, "prompt": prompt})
        assert (answer.status_code, told in answer.text, "<b>" in answer.text) == (422, True, False)
    assert not (tmp_path / "run" / "replays").exists()


async def test_a_template_that_takes_for_ever_stops_nobody_else(client: AsyncClient) -> None:
    """Its line and the limits are told, and other pages are there before."""
    text = load_template("critic").path.read_text()
    line = text[: text.index("{{ block | fenced }}")].count("\n") + 1
    nested = "{% for a in block|string %}" * 4 + "{% endfor %}" * 4
    edited = text.replace("{{ block | fenced }}", nested + "{{ block | fenced }}")
    slow = asyncio.create_task(asked(client, role="critic", call=CRITIC, prompt=edited, model=""))
    for address in ("/", "/runs/run", f"/runs/run/calls/{CRITIC}", "/runs/run/nodes/critic"):
        assert (await client.get(address)).status_code == 200
        assert not slow.done()
    page = await slow
    assert f"line {line}: more than 2 s; a template may take at most 2 s" in page


async def test_forms_that_are_none_of_ours_are_refused(
    client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sent(**form: str) -> Response:
        return await client.post("/runs/run/replays", data=form)

    assert (await sent(role="boss", call=CRITIC)).status_code == 404
    for call in ("../../../escape", "/tmp/escape", "p1-r0-critic-t0-a0", GENERATOR, "x" * 400, "\0"):
        answer = await sent(role="critic", call=call, prompt="x")
        assert (answer.status_code, "was not asked" in answer.text) == (404, True)
    assert not (tmp_path / "run" / "replays").exists()
    client.headers["origin"] = "http://evil.example"
    assert (await sent(role="critic", call=CRITIC)).status_code == 403
    client.headers["origin"] = HOST
    monkeypatch.setattr(pages, "LONGEST_FORM", 100)
    assert "at most 100" in (await sent(role="critic", prompt="x" * 1000)).text


async def test_the_form_begins_with_the_template_that_the_run_used(client: AsyncClient) -> None:
    page = (await client.get("/runs/run/nodes/critic")).text
    assert "Ask every question of the critic again" in page
    assert "id: critic/v6" in page


async def test_a_race_says_what_it_proved_and_of_what(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "run" / "replays").mkdir()
    (tmp_path / "run" / "replays" / f"{GENERATOR}-x.json").write_text(raced_replay().model_dump_json())
    page = re.sub(r"<[^>]+>", " ", (await client.get(f"/runs/run/replays/{GENERATOR}-x")).text)
    page = re.sub(r"\s+", " ", page)
    assert "What a race says a better policy" in page
    assert "does a policy return more than the main line&#39;s?" in page
    assert "In the run it was: no difference." in page
    assert "Near candidate policy proven 2.50 after rung 3 1.00 +1.500 +1.100 at level 0.0076" in page
    assert "the kick kick dropped 1.25 after rung 2 1.00 – – low" in page
    assert "Near Near – refused – – – –" in page
    assert "race: a better policy" in (await client.get(f"/runs/run/calls/{GENERATOR}")).text


async def test_a_broken_replay_hides_nothing_else(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "run" / "replays").mkdir()
    (tmp_path / "run" / "replays" / f"{CRITIC}-x.json").write_text("{bro")
    assert (await client.get("/runs/run")).status_code == 200
    assert "failed" in (await client.get(f"/runs/run/calls/{CRITIC}")).text
    assert "is no replay of this version" in (await client.get(f"/runs/run/replays/{CRITIC}-x")).text


async def test_where_nothing_can_be_written_the_words_are_shown_all_the_same(
    client: AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "run" / "replays").write_text("a file")
    assert "Error" in await asked(client, role="critic", call=CRITIC, prompt="", model="")
