"""`approve: human` in real processes: asked, killed, answered from another process, and from Python."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import cosignal
import psutil
import pytest
from cosignal.runs.events import ApprovalNeeded
from short_runs import family, short_config, start_run, story, the_run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
UNGATED = ("--set", "adaptation.gated=false")  # what ranks first is promoted, so that there is something to ask about
HUMAN = (*UNGATED, "--set", "adaptation.approve=human")


def question(process: subprocess.Popen[str]) -> list[str] | None:
    """The command that promotes, once it is told; None at the end of the run."""
    assert process.stdout is not None
    for line in process.stdout:
        if "to promote it: " in line:
            return shlex.split(line.partition("to promote it: ")[2])
    return None


def answer(command: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """`cosignal approve` in a process of its own, as told but for `options` in place of --yes."""
    assert command[:2] == ["cosignal", "approve"]
    words = [*command[1:-1], *(options or command[-1:])]
    return subprocess.run([sys.executable, "-P", "-m", "cosignal", *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The story of the run in which nobody is asked."""
    config = short_config(tmp_path_factory.mktemp("reference") / "run")
    process = start_run(config, *UNGATED)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return story(config)


def test_killed_while_it_waits_and_answered_while_it_is_down_it_ends_as_if_nobody_had_been_asked(
    tmp_path: Path, reference: dict[str, Any]
) -> None:
    config = short_config(tmp_path / "run")
    process = start_run(config, *HUMAN)
    command = question(process)
    assert command is not None
    path, key = Path(command[2]), command[3]
    assert path == the_run(config)
    status = cosignal.RunView(path).status()
    assert (status["state"], status["waiting_for"]) == ("waiting", key)
    everything = family(process)
    for member in everything:
        member.kill()
    psutil.wait_procs(everything, timeout=10)
    process.communicate()
    status = cosignal.RunView(path).status()
    assert (status["state"], status["waiting_for"]) == ("stopped", key)

    told = answer(command)  # while nobody runs it
    assert (told.returncode, told.stdout) == (0, f"{key}: promote it\n")
    process = start_run(config, *HUMAN, "--resume")
    while (command := question(process)) is not None:
        assert command[3] != key
        assert answer(command).returncode == 0
    process.communicate(timeout=200)
    assert process.returncode == 0
    assert cosignal.RunView(path).status()["waiting_for"] is None
    told_story = story(config)
    for name, expected in reference.items():
        assert told_story[name] == expected, name
    late = answer(["cosignal", "approve", str(path), key, "--no"])
    assert (late.returncode, late.stderr.count("\n")) == (2, 1)


async def test_declined_from_python_the_main_line_goes_on(tmp_path: Path) -> None:
    config = cosignal.RunConfig.load(short_config(tmp_path / "run"), [UNGATED[1], HUMAN[-1]])
    async with cosignal.start(config) as run:
        async for event in run.events():
            if isinstance(event, ApprovalNeeded):
                assert run.waiting_for == event
                with pytest.raises(cosignal.CosignalError, match="must be a decision of this run"):
                    await run.approve("p0-r9", True)
                await run.approve(event.id, False)
                await run.approve(event.id, False)
        result = await run.result()
    assert run.waiting_for is None
    assert (result.state, result.promotions) == ("done", 0)
    verdicts = {row.verdict for row in cosignal.RunView(result.path).decisions()}
    assert "declined" in verdicts
    assert "accept" not in verdicts
