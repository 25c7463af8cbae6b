"""A run's task and models that the viewer has not named: shown exactly, and done only after he has said so."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import made_up_run
import pytest
from cosignal.cli import ask_again
from cosignal.errors import TrustError
from cosignal.graphs.replay.replay import replay_call
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.playback.schema import PlayedEpisode
from cosignal.runs.page import create_app, playback
from cosignal.runs.page.playback import Episodes
from cosignal.runs.trust import Trust
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import refuses
from httpx import ASGITransport, AsyncClient, Response
from loop_runs import POINT
from replays import CRITIC, recorded_run

HOST, SNAPSHOT = "http://localhost", f"checkpoints/update_{POINT:09d}"
EVIL = {"env": "subprocess:getoutput", "env_args": {"cmd": "touch </pre><script>alert(1)</script> pwned"}, "name": None}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ruled")
    asyncio.run(recorded_run(path))
    return path


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    run: Path = shutil.copytree(recorded, tmp_path / "run")
    (run / SNAPSHOT / "state.safetensors").touch()
    return run


@pytest.fixture
async def client(run: Path) -> AsyncIterator[AsyncClient]:
    async with served(run) as found:
        yield found


def served(run: Path, trust: Trust = Trust()) -> AsyncClient:  # noqa: B008 it is frozen
    app = create_app([run], "t", topology=lambda: made_up_run.GRAPH, ask_again=ask_again, trust=trust)
    found = AsyncClient(transport=ASGITransport(app), base_url=HOST, headers={"origin": HOST})
    found.cookies.set("cosignal_0", "t")
    return found


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TaskConfig, Sequence[str]]]:
    """The tasks and the hidden variables with which an episode was begun; none is played."""
    begun: list[tuple[TaskConfig, Sequence[str]]] = []

    async def play(run_dir: Path, snapshot: str, seed: int, task: TaskConfig, secrets: Sequence[str]) -> PlayedEpisode:
        begun.append((task, secrets))
        return PlayedEpisode(
            snapshot=snapshot, steps_main=1, seed=seed, version=0, sparse_return=1.0, success=None, ended="x", steps=[]
        )

    monkeypatch.setattr(playback, "_play", play)
    return begun


def change(path: Path, section: str, **values: Any) -> None:
    data = json.loads(path.read_text())
    data[section].update(values)
    path.write_text(json.dumps(data))


def sealed(page: Response) -> str:
    [seal] = re.findall(r'name="confirm" value="([0-9a-f]{64})"', page.text)
    return str(seal)


# ---------------------------------------------------------------- an episode


async def test_an_environment_is_shown_and_not_loaded_until_it_is_allowed(
    client: AsyncClient, run: Path, played: list[Any]
) -> None:
    change(run / "training.json", "task", **EVIL)
    episode = {"snapshot": SNAPSHOT, "seed": "3"}
    page = await client.get("/runs/run/episode", params=episode)
    assert page.status_code == 409
    assert "subprocess:getoutput" in page.text
    assert json.dumps(EVIL["env_args"]) in unescape(page.text)
    assert "<script>alert" not in page.text
    assert "subprocess.py" in page.text
    assert played == []

    # What nobody was shown allows nothing: no seal, a made-up one, that of another form's page.
    for seal in ("", "0" * 64, "é"):
        assert (await client.post("/runs/run/episode", data=episode | {"confirm": seal})).status_code == 409
    elsewhere = {"origin": "http://evil.example"}
    forged = await client.post("/runs/run/episode", data=episode | {"confirm": sealed(page)}, headers=elsewhere)
    assert forged.status_code == 403
    assert (await client.get("/runs/run/episode", params=episode | {"confirm": sealed(page)})).status_code == 409
    assert played == []


async def test_a_confirmation_is_of_what_was_shown_alone(client: AsyncClient, run: Path, played: list[Any]) -> None:
    change(run / "training.json", "task", **EVIL)
    episode = {"snapshot": SNAPSHOT, "seed": "3"}
    seal = sealed(await client.get("/runs/run/episode", params=episode))
    change(run / "training.json", "task", env_args={"cmd": "other"})  # meanwhile
    again = await client.post("/runs/run/episode", data=episode | {"confirm": seal})
    assert (again.status_code, played) == (409, [])
    answer = await client.post("/runs/run/episode", data=episode | {"confirm": sealed(again)})
    assert answer.status_code == 303
    assert (await client.get(answer.headers["location"])).status_code == 200
    [(task, hidden)] = played
    assert (task.env, task.env_args) == ("subprocess:getoutput", {"cmd": "other"})
    assert "OPENAI_API_KEY" in hidden
    # It holds for other seeds, and no longer once the file names something else.
    assert (await client.get("/runs/run/episode", params=episode | {"seed": "4"})).status_code == 200
    change(run / "training.json", "task", env="os:system")
    assert (await client.get("/runs/run/episode", params=episode | {"seed": "5"})).status_code == 409


async def test_a_shipped_task_and_one_that_the_viewer_named_are_not_asked_about(run: Path, played: list[Any]) -> None:
    params = {"snapshot": SNAPSHOT}
    async with served(run) as client:
        assert (await client.get("/runs/run/episode", params=params)).status_code == 200
    change(run / "training.json", "task", **EVIL)
    change(run / "config.json", "llm", critic={"provider": "rules", "api_key_env": "THEIR_NAME"})
    async with served(run, Trust(envs=frozenset({"subprocess:getoutput"}))) as client:
        assert (await client.get("/runs/run/episode", params=params)).status_code == 200
    assert "THEIR_NAME" in played[-1][1]


async def test_the_process_of_an_episode_loads_what_was_allowed_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may change after the look; the process gets the digest of the task, and no keys."""
    started: list[tuple[tuple[str, ...], dict[str, str]]] = []

    async def start(*command: str, env: dict[str, str], **_: Any) -> Any:
        started.append((command, env))
        raise FileNotFoundError

    monkeypatch.setenv("MY_LLM_KEY", "sk-1")
    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    task = TaskConfig.model_validate(EVIL)
    with pytest.raises(FileNotFoundError):
        await Episodes().play(run, SNAPSHOT, 3, task, ["MY_LLM_KEY"])
    [(command, environment)] = started
    assert command[-1] == task.digest() != task.model_copy(update={"env_args": {}}).digest()
    assert "MY_LLM_KEY" not in environment
    assert str(Path.cwd()) not in environment["PYTHONPATH"].split(os.pathsep)[:-1]


# ---------------------------------------------------------------- a replay


async def test_prompts_go_to_an_address_of_the_run_only_when_it_was_allowed(
    client: AsyncClient, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET_OF_A_TEST", "sk-secret-of-a-test")
    with MisbehavingServer(refuses(500)) as server:
        named = {"provider": "openai", "model": "m", "base_url": server.url, "api_key_env": "MY_SECRET_OF_A_TEST"}
        change(run / "config.json", "llm", critic={**named, "retries": 0})
        form = {"role": "critic", "call": CRITIC, "prompt": "", "model": ""}
        page = await client.post("/runs/run/replays", data=form)
        assert (page.status_code, server.requests) == (409, [])
        assert server.url in page.text
        assert "MY_SECRET_OF_A_TEST" in page.text
        assert 'name="call" value="' + CRITIC in page.text  # the form is sent again with it
        answer = await client.post("/runs/run/replays", data=form | {"confirm": sealed(page)})
        assert answer.status_code == 303
        while "It is being asked" in (await client.get(answer.headers["location"])).text:
            await asyncio.sleep(0.05)
        assert len(server.requests) == 1


async def test_branches_of_a_replay_ask_for_the_environment_too(client: AsyncClient, run: Path) -> None:
    change(run / "config.json", "task", **EVIL)
    change(run / "training.json", "task", env="os:system", name=None)
    call = CRITIC.replace("critic", "generator")
    form = {"role": "generator", "call": call, "prompt": "", "model": "", "validate": "on"}
    page = await client.post("/runs/run/replays", data=form)
    assert page.status_code == 409
    assert "subprocess:getoutput" in page.text
    assert "os:system" in page.text


async def test_a_file_that_changes_after_the_confirmation_is_refused_by_the_replay(run: Path) -> None:
    change(run / "config.json", "llm", critic={"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"})
    with pytest.raises(TrustError, match=r"127\.0\.0\.1:9"):
        await replay_call(run, CRITIC)
