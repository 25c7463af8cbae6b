"""A whole run of a Q-learner with the loop: forks, adopted states and a kill share one replay and disturb nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from short_runs import family, short_config, start_run, story, the_run

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
VDN = {"learning_starts": 256, "batch_size": 32, "buffer_size": 4_000, "epsilon_steps": 4_000}


def off_policy_config(folder: Path) -> Path:
    path = short_config(folder)
    config = json.loads(path.read_text())
    config["trainer"] |= {"algorithm": "vdn", "vdn": config["trainer"]["vdn"] | VDN}
    path.write_text(json.dumps(config))
    return path


def test_killed_in_the_middle_of_a_round_it_ends_as_if_never_killed(tmp_path: Path) -> None:
    undisturbed = off_policy_config(tmp_path / "undisturbed")
    output, _ = start_run(undisturbed).communicate(timeout=300)
    expected = story(undisturbed)
    assert {row["cause"] for row in expected["signals"]} >= {"start", "control"}, output  # a branch's state was adopted
    assert not list((the_run(undisturbed) / "replay").iterdir()), "whoever leaves takes its files along"

    killed = off_policy_config(tmp_path / "killed")
    process = start_run(killed)
    assert process.stdout is not None
    while "proposal" not in process.stdout.readline():
        assert process.poll() is None
    for member in family(process):
        member.kill()
    process.communicate()
    resumed = start_run(killed, "--resume")
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output
    told = story(killed)
    for name, value in expected.items():
        assert told[name] == value, name
    assert not list((the_run(killed) / "replay").iterdir()), "what the killed ones left is removed"
