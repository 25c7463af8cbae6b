"""The fakes that people get: what they promise, and what they need."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import cosignal.testing
import pytest
from cosignal import RunView
from cosignal.rl.training.checkpoint import snapshot_name
from cosignal.testing import FakeBranchPool, FakeTrainer, Killed, LoopSession, MisbehavingServer, ScriptedChatModel
from cosignal.testing.run_directory import MARKUP
from cosignal.testing.server import Behaviour, cuts, drops, refuses, says


def test_every_public_name_is_there() -> None:
    for name in cosignal.testing.__all__:
        assert getattr(cosignal.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_fake"):
        cosignal.testing.no_such_fake  # noqa: B018 - the access is the test


def test_the_server_needs_neither_pytest_nor_torch_nor_langchain() -> None:
    code = (
        "import sys, cosignal.testing; cosignal.testing.MisbehavingServer;"
        "print([m for m in ('pytest', 'torch', 'langchain_core', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_whole_package_does_without_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import cosignal.testing as t\n"
        "print(all(getattr(t, name) for name in t.__all__), 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True False\n"


def post(server: MisbehavingServer) -> str:
    request = urllib.request.Request(
        f"{server.url}/chat/completions", b'{"model": "tiny"}', {"Authorization": "Bearer k", "Content-Length": "17"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.loads(answer.read())["choices"][0]["message"]["content"])


def test_the_server_acts_by_its_script_and_repeats_its_last_behaviour() -> None:
    with MisbehavingServer(refuses(429, retry_after="7", code="slow"), says("hello")) as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(server)
        assert (caught.value.code, caught.value.headers["Retry-After"]) == (429, "7")
        assert json.loads(caught.value.read())["error"] == {"message": "refused Bearer k", "code": "slow"}
        caught.value.close()
        assert [post(server), post(server)] == ["hello", "hello"]
    assert [(row["path"], row["key"], row["model"]) for row in server.requests] == [
        ("/v1/chat/completions", "Bearer k", "tiny")
    ] * 3


@pytest.mark.parametrize("behaviour", [cuts, drops])
def test_the_server_ends_a_connection_too_early(behaviour: Behaviour) -> None:
    with MisbehavingServer(behaviour) as server, pytest.raises((OSError, http.client.HTTPException)):
        post(server)


async def test_an_empty_script_says_which_request_it_has_no_answer_to() -> None:
    model = ScriptedChatModel(script=["first"])
    assert (await model.ainvoke("a")).content == "first"
    with pytest.raises(IndexError, match="request 2"):
        await model.ainvoke("b")
    assert [messages[0].content for messages in model.seen] == ["a", "b"]


def test_the_fake_trainer_names_snapshots_as_the_real_one(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    assert trainer.status().snapshot == snapshot_name(trainer.point)
    assert (tmp_path / snapshot_name(trainer.point) / "recorded.safetensors").is_file()


async def test_a_second_session_goes_on_where_the_first_was_killed(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    killed, whole = FakeBranchPool(tmp_path, lambda _: 1.7, kill_at=3), FakeBranchPool(tmp_path, lambda _: 1.7)
    with pytest.raises(Killed):
        await LoopSession(tmp_path, trainer, killed).run()
    assert trainer.log == [] and len(killed.jobs) == 3
    await LoopSession(tmp_path, trainer, whole).run()
    assert len(trainer.log) == 1
    assert not {job.key for job in killed.jobs} & {job.key for job in whole.jobs}


def test_a_made_up_run_reads_as_a_finished_one(finished_run: Path) -> None:
    view = RunView(finished_run)
    assert view.state() == "done"
    assert [decision.verdict for decision in view.decisions()] == ["no_difference", "accept"]
    assert MARKUP in view.proposals()[3].proposal.reason
