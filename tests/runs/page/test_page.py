"""The pages of `cosignal view`, through ASGI: who may read, what is on them, and that no model's word is markup."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import quote

import made_up_run
import pytest
from cosignal import RunConfig, RunView
from cosignal.cli import ask_again
from cosignal.rl.playback.schema import PlayedEpisode, PlayedFrame, PlayedStep
from cosignal.runs.approvals import Answer, given_answer
from cosignal.runs.page import app, create_app, playback
from cosignal.runs.report import write_report
from cosignal.testing import build_run_directory
from cosignal.testing.run_directory import POINT
from httpx import ASGITransport, AsyncClient
from poisoned_run import FAILED, RACED_REPLAY, REPLAY, poisoned

TOKEN = "a-token"
OWN = f"p{POINT}-r1-0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    build_run_directory(path / "one")
    build_run_directory(path / "two")
    return path


@asynccontextmanager
async def client(folder: Path, *, token: str | None = TOKEN, host: str = "localhost") -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(create_app([folder], TOKEN, topology=lambda: made_up_run.GRAPH, ask_again=ask_again))
    async with AsyncClient(transport=transport, base_url=f"http://{host}") as found:
        if token is not None:
            found.cookies.set("cosignal_0", token)
        yield found


def addresses(run: str = "one") -> list[str]:
    call = f"p{POINT}-r0-critic-1-0"
    return [
        "/", f"/runs/{run}", f"/runs/{run}/nodes/observe", f"/runs/{run}/nodes/critic", f"/runs/{run}/calls/{call}",
        f"/runs/{run}/proposals/{OWN}", f"/runs/{run}/proposals/p{POINT}-r0-3", f"/runs/{run}/episode",
        "/compare?run=one&run=two",
    ]  # fmt: skip


# ---------------------------------------------------------------- who may read


async def test_without_the_token_nothing_is_told(folder: Path) -> None:
    for token in (None, "", "a-tokem"):
        async with client(folder, token=token) as found:
            for address in [*addresses(), "/runs/one/curves.json", "/static/page.js"]:
                answer = await found.get(address)
                assert (answer.status_code, "one" in answer.text) == (403, False)


async def test_the_token_of_the_address_becomes_a_cookie_and_leaves_the_address(folder: Path) -> None:
    async with client(folder, token=None) as found:
        answer = await found.get(f"/compare?run=one&run=two&token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/compare?run=one&run=two")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert (await found.get("/")).status_code == 200


async def test_another_host_name_is_refused_even_with_the_token(folder: Path) -> None:
    async with client(folder, host="evil.example") as found:
        assert (await found.get(f"/?token={TOKEN}")).status_code == 400


async def test_a_form_of_another_page_is_refused(folder: Path) -> None:
    async with client(folder) as found:
        for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}):
            assert (await found.post("/runs/one", headers=headers)).status_code == 403
        assert (await found.post("/runs/one", headers={"origin": "http://localhost"})).status_code == 405


async def test_every_answer_forbids_scripts_and_requests_elsewhere(folder: Path) -> None:
    async with client(folder) as found:
        for address in [*addresses(), "/static/page.js", "/nowhere"]:
            policy = (await found.get(address)).headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
            assert "unsafe" not in policy


# ---------------------------------------------------------------- what is on them


async def test_every_page_and_what_it_refers_to_is_there(folder: Path) -> None:
    async with client(folder) as found:
        for address in addresses():
            page = await found.get(address)
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            for target in re.findall(r'(?:href|src|data-curves|data-compare)="([^"#][^"]*)"', page.text):
                if not target.startswith("data:"):
                    answer = await found.get(target.replace("&amp;", "&"))
                    assert answer.status_code == 200, (address, target)


async def test_no_page_has_a_script_or_a_style_of_its_own(folder: Path) -> None:
    async with client(folder) as found:
        for address in addresses():
            page = (await found.get(address)).text
            assert not re.findall(r"<script(?! src=)|<style|\sstyle=|\son[a-z]+=|javascript:", page)


async def test_what_is_not_there_is_said(folder: Path) -> None:
    async with client(folder) as found:
        for address, words in {
            "/runs/none": "no run is called", "/runs/one/calls/x": "has no call", "/runs/one/nodes/x": "has no node",
            "/runs/one/proposals/x": "has no proposal", "/elsewhere": "there is no page",
            "/compare?run=one": "two runs",
            "/runs/one/episode?snapshot=../..": "has no snapshot", "/runs/one/episode?seed=x": "a seed is",
        }.items():  # fmt: skip
            answer = await found.get(address)
            assert answer.status_code in (404, 422)
            assert words in answer.text


async def test_the_page_of_a_call_shows_what_was_asked_answered_and_cited(folder: Path) -> None:
    async with client(folder) as found:
        page = (await found.get(f"/runs/one/calls/p{POINT}-r0-critic-1-0")).text
    for words in ("You are the critic.", "critic/v1", "behaviour.agents.no_effect_share", "no price known", "0.01 s"):
        assert words in page


async def test_the_page_of_a_proposal_shows_diff_branches_and_sums(folder: Path) -> None:
    async with client(folder) as found:
        page = (await found.get(f"/runs/one/proposals/{OWN}")).text
    assert "+ potential near_goal" in page
    assert "full horizon" in page
    assert "Student&#39;s t with 2 degrees of freedom" in page or "Student's t with 2 degrees of freedom" in page


async def test_the_page_of_a_proposal_shows_its_numbers_where_it_has_any(folder: Path) -> None:
    async with client(folder) as found:
        own, refused = [(await found.get(f"/runs/one/proposals/{key}")).text for key in (OWN, f"{OWN[:-1]}2")]
    for told in ("after the first switch_triggered", "<td>-0.31</td>", "<td>42 %</td>", "p80-r0-1, 0.25"):
        assert told in own
    assert "before any training" in refused and "Its numbers before any training" not in refused


# ---------------------------------------------------------------- nothing of a model's is markup


async def test_a_script_in_any_field_is_text_on_every_page(tmp_path: Path) -> None:
    view = RunView(await asyncio.to_thread(poisoned, tmp_path))
    every = [f"/runs/bad/calls/{call.id}" for call in view.calls()]
    every += [f"/runs/bad/proposals/{row.id}" for row in view.proposals()]
    every += [f"/runs/bad/nodes/{name}" for name in made_up_run.GRAPH.nodes if not name.startswith("__")]
    every += [f"/runs/bad/replays/{name}" for name in (REPLAY, FAILED, RACED_REPLAY)]
    shown = 0
    async with client(tmp_path) as found:
        for address in ["/", "/runs/bad", *every]:
            page = await found.get(address)
            assert page.status_code == 200, address
            for tag in ("<script>", "<img", "<b>"):
                assert tag not in page.text, (address, tag)
            shown += page.text.count("&lt;script&gt;")
    assert shown > 100


async def test_the_player_shows_pictures_and_frames_and_a_picture_is_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(_run: Path, snapshot: str, seed: int, *_: object) -> PlayedEpisode:
        step = PlayedStep(
            text="step 1", actions={"a": "stay"}, events={"a": []}, reward=0, terms={}, picture="#g\n<script>x</script>"
        )
        return PlayedEpisode(
            snapshot=snapshot, steps_main=1, seed=seed, version=0, sparse_return=1, success=False, ended="x",
            steps=[step], first_picture="g#", frames=[PlayedFrame(after_step=1, png="QUJD")],
        )  # fmt: skip

    monkeypatch.setattr(playback, "_play", play)
    run = await asyncio.to_thread(build_run_directory, tmp_path / "one")
    (run / "training.json").write_text(RunConfig().training().model_dump_json())
    snapshot = run / "checkpoints" / "update_000000001"
    snapshot.mkdir(parents=True)
    for file in ("state.json", "state.safetensors"):
        (snapshot / file).touch()
    async with client(tmp_path) as found:
        page = await found.get("/runs/one/episode?snapshot=checkpoints/update_000000001&seed=1")
    assert '<pre class="picture">g#</pre>' in page.text
    assert '<pre class="picture">#g\n&lt;script&gt;x&lt;/script&gt;</pre>' in page.text
    assert (
        '<figure data-step="1"><img src="data:image/png;base64,QUJD" alt="The environment after step 1">' in page.text
    )


async def test_the_step_at_which_an_episode_went_wrong_is_on_page_and_report(folder: Path) -> None:
    said = "The episode shown went wrong at step 13: Both switches are on and nobody turns to the door."
    async with client(folder) as found:
        assert said in (await found.get("/runs/one")).text
    report = await asyncio.to_thread(write_report, folder / "one", made_up_run.GRAPH)
    assert said in await asyncio.to_thread(report.read_text, "utf-8")


# ---------------------------------------------------------------- answers


async def test_a_promotion_that_waits_is_answered_from_the_page(tmp_path: Path) -> None:
    """The reason is text there, and what is answered once is not asked again."""
    key = f"p{POINT}-r1"
    path = await asyncio.to_thread(build_run_directory, tmp_path / "one")
    await asyncio.to_thread(made_up_run.waits_for, path, key)
    async with client(tmp_path) as found:
        page = (await found.get("/runs/one")).text
        [target] = set(re.findall(r'<form action="([^"]+/approvals/[^"]+)" method="post"', page))
        assert target == f"/runs/one/approvals/{key}"
        reason = {"answer": "no", "because": "not the door\n<script>alert(1)</script>"}
        own = {"origin": "http://localhost"}
        for bad, status in ((await found.post(target, data=reason), 403), (await found.get(target), 405)):
            assert bad.status_code == status
        for data in ({}, {"answer": "maybe"}, {"answer": "yes", "because": "nice"}):
            assert (await found.post(target, data=data, headers=own)).status_code == 422
        assert given_answer(path, key) is None
        done = await found.post(target, data=reason, headers=own)
        assert (done.status_code, done.headers["location"]) == (303, "/runs/one")
        assert given_answer(path, key) == Answer(yes=False, because="not the door <script>alert(1)</script>")
        page = (await found.get("/runs/one")).text
        assert "decline it</strong>, because: not the door &lt;script&gt;" in page
        assert "/approvals/" not in page
        refused = await found.post(target, data={"answer": "yes"}, headers=own)
        assert (refused.status_code, "must keep the answer" in refused.text) == (422, True)


async def test_an_answer_to_what_does_not_wait_is_refused(folder: Path) -> None:
    async with client(folder) as found:
        for key in (f"p{POINT}-r1", "p1-r0", "..%2Fp80-r1"):
            answer = await found.post(
                f"/runs/one/approvals/{key}", data={"answer": "yes"}, headers={"origin": "http://localhost"}
            )
            assert answer.status_code in (404, 422), key
    assert not (folder / "one" / "approvals").exists()


async def test_a_refusal_and_its_reason_are_on_the_pages_of_run_and_proposal(tmp_path: Path) -> None:
    await asyncio.to_thread(lambda: made_up_run.add_later_events(build_run_directory(tmp_path / "one")))
    async with client(tmp_path) as found:
        for address in ("/runs/one", f"/runs/one/proposals/p{made_up_run.DECLINED}-r0-0"):
            page = (await found.get(address)).text
            assert "<strong>Declined because</strong> No signal should pay for doors. &lt;script&gt;" in page
        assert "Declined because" not in (await found.get(f"/runs/one/proposals/p{made_up_run.STALE}-r0-0")).text


# ---------------------------------------------------------------- live


async def test_a_page_is_told_when_its_run_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await asyncio.to_thread(build_run_directory, tmp_path / "one")
    monkeypatch.setattr(app, "LOOK_S", 0.01)
    stream = app.change_events(path)
    assert await anext(stream) == b"event: changed\ndata: \n\n"
    assert (await anext(stream)).startswith(b": ")
    with closing(sqlite3.connect(path / "loop.db")) as database, database:
        database.execute("UPDATE run SET value = '\"failed\"' WHERE name = 'state'")
    while await anext(stream) != b"event: changed\ndata: \n\n":
        pass  # the fixture's time limit ends a stream that never tells
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_run_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        await asyncio.to_thread(build_run_directory, tmp_path / name)
    (tmp_path / "two" / "config.json").unlink()
    (tmp_path / "three" / "loop.db").write_text("no database " * 100)
    for wal in (tmp_path / "three").glob("loop.db-*"):
        wal.unlink()
    async with client(tmp_path) as found:
        page = await found.get("/")
        assert (page.status_code, page.text.count("cannot be read"), page.text.count("damaged:")) == (200, 1, 1)
        assert (await found.get("/runs/one")).status_code == 200
        assert (await found.get("/runs/two")).status_code == 404
        three = await found.get("/runs/three")  # what its other database says is shown
        assert (three.status_code, "file is not a database" in three.text) == (200, True)


async def test_links_hold_whatever_a_run_is_called(tmp_path: Path) -> None:
    name = "a b#c?d%41"
    await asyncio.to_thread(build_run_directory, tmp_path / name)
    async with client(tmp_path) as found:
        [link] = set(re.findall(r'href="(/runs/[^"]+/nodes/observe)"', (await found.get(f"/runs/{quote(name)}")).text))
        assert (await found.get(link)).status_code == 200


async def test_the_token_leads_to_no_other_host(folder: Path) -> None:
    async with client(folder, token=None) as found:
        answer = await found.get(f"http://localhost//evil.example/x?token={TOKEN}")
        assert answer.headers["location"] == "/evil.example/x"


async def test_a_race_is_on_the_pages_and_its_own_arm_stands_out(tmp_path: Path) -> None:
    await asyncio.to_thread(lambda: made_up_run.add_races(build_run_directory(tmp_path / "raced")))
    async with client(tmp_path) as found:
        overview = (await found.get("/runs/raced")).text
        dropped = (await found.get(f"/runs/raced/proposals/p{made_up_run.RACE}-r0-3")).text
        marks = (await found.get("/runs/raced/curves.json")).json()["interventions"]
    for page in (overview, dropped):
        assert 'id="race-p160-r0-desc"' in page
        assert made_up_run.EXPLAINED in page
        assert "<script>document" not in page
    assert 'data-key="race-p160-r0"' in overview
    assert "<strong>p160-r0-3</strong>" in dropped
    assert "dropped after rung 3: clearly behind the main line &lt;script&gt;" in dropped
    assert [mark["outcome"] for mark in marks] == [
        "signal promoted", "policy adopted", "no difference", "out of the reward, kept in the critic"
    ]  # fmt: skip
