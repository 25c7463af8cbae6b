"""The pages in a real headless Chromium (`make test-page`): what people see, click, type and are protected from."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cosignal
import pytest
from cosignal import RunConfig
from cosignal.testing import build_run_directory
from cosignal.testing.run_directory import POINT
from made_up_run import RACE, add_races
from poisoned_run import FAILED, PROBE, RACED_REPLAY, REPLAY, poisoned
from short_runs import SHORT

pytestmark = [pytest.mark.page, pytest.mark.timeout(180)]

PHONE = {"width": 375, "height": 667}
OWN = f"p{POINT}-r1-0"
RACED = ["/runs/raced", f"/runs/raced/proposals/p{RACE}-r0-3"]
ONE_STYLE = "Applying inline style violates"  # Plotly's, of maps that nobody draws here: the policy holds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    build_run_directory(path / "one")
    poisoned(path)
    add_races(build_run_directory(path / "raced"))
    config = RunConfig.model_validate({**SHORT, "run_dir": path / "real", "adaptation": {"enabled": False}})

    async def played() -> Path:
        async with cosignal.start(config) as run:
            return (await run.result()).path

    shutil.move(asyncio.run(played()), path / "short")
    return path


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Of a real server, with its token."""
    command = [sys.executable, "-m", "cosignal", "view", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        yield process.stderr.readline().strip()
        process.terminate()
        process.stderr.read()


class Seen:
    """A page, and what its browser asked for and complained about."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append("a dialog"))

    async def open(self, path: str) -> None:
        """With the token each time, as somebody who opens a link."""
        parts = urlsplit(self.address)
        joint = "&" if "?" in path else "?"
        await self.page.goto(f"{parts.scheme}://{parts.netloc}{path}{joint}{parts.query}")

    def strangers(self) -> list[str]:
        own = urlsplit(self.address).netloc
        return [url for url in self.asked if urlsplit(url).scheme != "data" and urlsplit(url).netloc != own]


@pytest.fixture
async def seen(address: str) -> AsyncIterator[Seen]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox"]
        )
        found = Seen(await browser.new_page(), address)
        yield found
        assert found.strangers() == []
        assert [words for words in found.complaints if not words.startswith(ONE_STYLE)] == []
        await browser.close()


def every_page(run: str) -> list[str]:
    nodes = [f"/runs/{run}/nodes/{name}" for name in ("observe", "critic", "generator", "decide")]
    call = f"/runs/{run}/calls/p{POINT}-r0-critic-1-0"
    proposals = [f"/runs/{run}/proposals/{OWN}", f"/runs/{run}/proposals/p{POINT}-r0-3"]
    return ["/", f"/runs/{run}", *nodes, call, *proposals, "/compare?run=one&run=short"]


async def test_a_models_script_is_read_and_never_run(seen: Seen) -> None:
    replays = [f"/runs/bad/replays/{name}" for name in (REPLAY, FAILED, RACED_REPLAY)]
    for path in [*every_page("bad"), *replays, *RACED]:
        await seen.open(path)
        await seen.page.wait_for_timeout(100)
        assert await seen.page.title() != "owned"
        assert await seen.page.locator("img").count() == 0
    await seen.open(f"/runs/bad/proposals/{OWN}")
    assert PROBE in await seen.page.locator("h1").inner_text()


async def test_nothing_is_wider_than_a_phone(seen: Seen) -> None:
    await seen.page.set_viewport_size(PHONE)
    for path in [*every_page("one"), *RACED, "/runs/short", "/runs/short/episode"]:
        await seen.open(path)
        await seen.page.wait_for_timeout(300)
        width = await seen.page.evaluate("document.scrollingElement.scrollWidth")
        assert width <= PHONE["width"], path


async def test_curves_are_drawn_and_a_diamond_leads_to_its_intervention(seen: Seen) -> None:
    await seen.open("/runs/one")
    await seen.page.wait_for_selector("#curves .plotly .scatterlayer .trace")
    assert await seen.page.locator("#curves .scatterlayer .trace").count() == 5
    assert "v1" in await seen.page.locator("#curves .annotation-text").all_text_contents()
    labels = await seen.page.locator("#curves .g-ytitle").or_(seen.page.locator("#curves .g-y2title")).count()
    assert labels == 2
    await seen.page.get_by_role("button", name="total steps").click()
    assert "total environment steps" in str(await seen.page.locator("#curves .g-xtitle").text_content())
    diamond = seen.page.locator("#curves .scatterlayer .trace").last.locator("path.point").first
    await seen.page.locator("#terms h2").scroll_into_view_if_needed()
    box = await diamond.bounding_box()
    await seen.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await seen.page.wait_for_url(f"**/runs/one#at-{POINT}")


async def test_a_race_is_an_image_with_a_name_and_its_names_stand_inside(seen: Seen) -> None:
    await seen.open(RACED[1])
    race = seen.page.get_by_role(
        "img", name=f"The race p{RACE}-r0: sparse return of each arm over steps since the fork"
    )
    outer = await race.bounding_box()
    names = await race.locator("text.arm").all()
    assert len(names) == 7
    tops = []
    for name in names:
        inner = await name.bounding_box()
        assert inner["x"] + inner["width"] <= outer["x"] + outer["width"]
        tops.append(inner["y"])
    tops.sort()
    assert min(other - one for one, other in pairwise(tops)) >= 10


async def test_the_keyboard_is_enough_to_go_from_the_list_to_a_prompt(seen: Seen) -> None:
    await seen.open("/")
    await seen.page.keyboard.press("Tab")
    assert await seen.page.evaluate("document.activeElement.className") == "skip"
    await _walk_to(seen, "/runs/one")
    await _walk_to(seen, "/runs/one/nodes/critic")
    await _walk_to(seen, f"/runs/one/calls/p{POINT}-r0-critic-0-0")
    assert "You are the critic." in await seen.page.locator("#prompt").inner_text()


async def _walk_to(seen: Seen, target: str) -> None:
    """Tab until the link has the focus, and Enter."""
    for _ in range(120):
        await seen.page.keyboard.press("Tab")
        focused = "document.activeElement.getAttribute('href')"
        if await seen.page.evaluate(focused) == target:
            await seen.page.keyboard.press("Enter")
            await seen.page.wait_for_url(f"**{target}")
            return
    raise AssertionError(f"120 Tabs do not reach {target}")


async def test_a_page_of_a_live_run_follows_it(seen: Seen, folder: Path) -> None:
    path = folder / "live"
    await asyncio.to_thread(build_run_directory, path)
    with (path / "loop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the loop of a run does
        await seen.open("/runs/live")
        assert await seen.page.locator("#state").inner_text() == "running"
        await seen.page.evaluate("window.stayed = true")
        with closing(sqlite3.connect(path / "loop.db")) as database, database:
            database.execute("UPDATE decisions SET detail = json_set(detail, '$.reason', 'a new reason')")
        await seen.page.locator("#tried", has_text="a new reason").wait_for(timeout=20_000)
    await seen.page.locator("#state", has_text="done").wait_for(timeout=20_000)
    assert await seen.page.evaluate("window.stayed")
    await seen.page.goto("about:blank")
    shutil.rmtree(path, ignore_errors=True)  # the server may be reading it


async def test_an_episode_is_played_and_walked_through(seen: Seen) -> None:
    await seen.open("/runs/short/episode")
    await seen.page.get_by_role("button", name="Play").click()
    await seen.page.locator("#player").wait_for(timeout=60_000)
    shown = seen.page.locator("#steps > li:visible")
    assert await shown.count() == 1
    first = await shown.inner_text()
    await seen.page.locator("body").press("ArrowRight")
    assert (await seen.page.locator("#at-text").inner_text()).startswith("2 of ")
    assert await shown.inner_text() != first
    await seen.page.get_by_label("step").fill("1")
    assert await shown.inner_text() == first


async def test_two_runs_are_ticked_and_compared(seen: Seen) -> None:
    await seen.open("/")
    for name in ("one", "short"):
        await seen.page.get_by_label(f"compare {name}", exact=True).check()
    await seen.page.get_by_role("button", name="Compare").click()
    await seen.page.wait_for_selector("#curves .scatterlayer .trace")
    assert await seen.page.locator("#curves .scatterlayer .trace").count() == 8
