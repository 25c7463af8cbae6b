"""`cosignal replay` on the command line: what it prints, what it exits with, what it leaves."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import shutil
from pathlib import Path

import pytest
from cosignal.cli import app
from cosignal.prompts import load_template
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import refuses, says
from replays import CRITIC, GENERATOR, recorded_run
from typer.testing import CliRunner

runner = CliRunner()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded")
    asyncio.run(recorded_run(path))
    return path


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    return shutil.copytree(recorded, tmp_path / "run")


def test_a_call_through_another_prompt(run: Path) -> None:
    mine = run / "mine.md"
    mine.write_text(load_template("generator").path.read_text() + "\nBe brief.\n")
    result = runner.invoke(app, ["replay", str(run), GENERATOR, "--prompt", str(mine)])
    assert result.exit_code == 0
    assert "the same answer" in result.stdout
    [kept] = (run / "replays").iterdir()
    assert result.stdout.endswith(f"wrote {kept}\n")
    assert json.loads(kept.read_text())["prompt"] == str(mine)


def test_a_template_without_the_evidence_is_a_failed_call_and_no_damage(run: Path) -> None:
    mine = run / "mine.md"
    text = load_template("critic").path.read_text()
    mine.write_text(text.replace("{{ block | fenced }}", "{{ [block | length] | fenced }}"))
    result = runner.invoke(app, ["replay", str(run), CRITIC, "--prompt", str(mine)])
    assert (result.exit_code, "damaged" in result.output) == (1, False)
    assert "llm.prompts.critic" in " ".join(result.stdout.split())


def test_json_is_one_object_on_one_line(run: Path) -> None:
    result = runner.invoke(app, ["replay", str(run), CRITIC, "--json"])
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    told = json.loads(result.stdout)
    assert (told["kind"], told["call"], told["same_answer"]) == ("call", CRITIC, True)
    assert Path(told["file"]).is_file()

    result = runner.invoke(app, ["replay", str(run), "--all", "generator", "--json"])
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert [replay["same_answer"] for replay in json.loads(result.stdout)["replays"]] == [True, True]
    assert GENERATOR in result.stderr  # a line a call, as they come


def test_an_answer_that_cannot_be_kept_is_shown(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cosignal.runs.replays.write_whole", full)
    result = runner.invoke(app, ["replay", str(run), CRITIC, "--json"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["file"], told["same_answer"]) == (1, None, True)
    assert result.stderr.endswith("cannot be written (No space left on device); make room there\n")


def test_a_role_is_summed_up(run: Path) -> None:
    result = runner.invoke(app, ["replay", str(run), "--all", "ranker"])
    assert result.exit_code == 0
    assert "the same answer in 2 of 2 calls of the ranker" in result.stdout


def test_a_provider_that_does_not_answer_is_a_failure(run: Path) -> None:
    with MisbehavingServer(refuses(500)) as server:
        sets = ["llm.critic.provider=openai", f"llm.critic.base_url={server.url}", "llm.critic.retries=0"]
        options = [word for one in sets for word in ("--set", one)]
        result = runner.invoke(app, ["replay", str(run), CRITIC, "--model", "tiny", *options])
    assert result.exit_code == 1
    assert "outcome       ok                               error" in result.stdout
    assert len(list((run / "replays").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["p1-r0-critic-t0-a0"], f"no call 'p1-r0-critic-t0-a0'; name one of {CRITIC}"),
        ([CRITIC, "--model", "big"], "needs a provider that has models, got 'big' for 'rules'"),
        ([CRITIC, "--prompt", "nowhere.md"], "prompt template 'nowhere.md' does not exist"),
        ([CRITIC, "--set", "llm.critic.nothing=1"], "llm.critic.nothing: unknown key"),
        ([CRITIC, "--set", "trainer.steps=1"], "keys below llm, branches, gate, got 'trainer.steps'; leave"),
        ([CRITIC, "--validate"], "--validate: needs a call of the generator"),
        ([], "name either one CALL, or a role by --all"),
        ([CRITIC, "--all", "critic"], "name either one CALL, or a role by --all"),
        (["--all", "generator", "--validate"], "--validate goes with one CALL"),
    ],
)
def test_bad_usage(run: Path, arguments: list[str], words: str) -> None:
    result = runner.invoke(app, ["replay", str(run), *arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not (run / "replays").exists()


def test_a_snapshot_that_is_gone_is_a_failure(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    result = runner.invoke(app, ["replay", str(run), GENERATOR, "--validate"])
    assert result.exit_code == 1
    assert "is gone (kept: none)" in result.stderr


def test_without_a_valid_answer_there_is_nothing_to_try(run: Path) -> None:
    with MisbehavingServer(says("hm")) as server:
        sets = ["llm.generator.provider=openai", f"llm.generator.base_url={server.url}"]
        options = [word for one in sets for word in ("--set", one)]
        result = runner.invoke(app, ["replay", str(run), GENERATOR, "--model", "tiny", "--validate", *options])
    assert result.exit_code == 0  # a wrong answer is a result
    assert "no branch was run" in result.stderr
    assert "repair turns  0                                1" in result.stdout


def test_an_address_that_the_run_names_gets_nothing_until_it_is_allowed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY_OF_A_TEST", "sk-key-of-a-test")
    with MisbehavingServer(refuses(500)) as server:
        config = json.loads((run / "config.json").read_text())
        named = {"provider": "openai", "model": "m", "base_url": server.url, "api_key_env": "MY_KEY_OF_A_TEST"}
        config["llm"]["critic"] = named | {"retries": 0}
        (run / "config.json").write_text(json.dumps(config))
        refused = runner.invoke(app, ["replay", str(run), CRITIC])
        assert (refused.exit_code, refused.stdout, server.requests) == (2, "", [])
        [line] = refused.stderr.splitlines()
        assert "with the key in MY_KEY_OF_A_TEST" in line
        [option] = re.findall(r"--allow-model (\S+),", line)
        assert runner.invoke(app, ["replay", str(run), CRITIC, "--allow-model", option]).exit_code == 1
        mine = run.parent / "mine.yaml"
        mine.write_text(json.dumps({"llm": {"default": named}}))
        assert runner.invoke(app, ["replay", str(run), CRITIC, "--config", str(mine)]).exit_code == 1
        assert len(server.requests) == 2


def test_an_environment_that_the_run_names_is_not_loaded_for_branches(run: Path) -> None:
    for file in ("config.json", "training.json"):
        data = json.loads((run / file).read_text())
        data["task"].update(name=None, env="subprocess:getoutput", env_args={"cmd": f"touch {run}/pwned"})
        (run / file).write_text(json.dumps(data))
    refused = runner.invoke(app, ["replay", str(run), GENERATOR, "--validate"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "--allow-env subprocess:getoutput" in refused.stderr
    assert not (run / "pwned").exists()
    asked = runner.invoke(app, ["replay", str(run), GENERATOR])  # without branches nothing of the task is needed
    assert asked.exit_code == 0
