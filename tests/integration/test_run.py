"""Whole runs in real processes: the same config and seed twice, stopped and resumed, and killed again and again."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import cosignal
import psutil
import pytest
from short_runs import family, short_config, start_run, story, the_run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The story of an undisturbed run with promotions, refusals and kept controls, else the tests would show little."""
    config = short_config(tmp_path_factory.mktemp("reference") / "run")
    process = start_run(config)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    told = story(config)
    verdicts = {decision["verdict"] for decision in told["decisions"]}
    assert {"accept", "no_difference"} <= verdicts
    assert {row["cause"] for row in told["signals"]} == {"start", "promotion", "control"}
    return told


def assert_same(told: dict[str, Any], reference: dict[str, Any]) -> None:
    for name, expected in reference.items():
        assert told[name] == expected, name


async def test_same_config_and_seed_give_the_same_run_also_from_python(
    tmp_path: Path, reference: dict[str, Any]
) -> None:
    config = short_config(tmp_path / "run")
    async with cosignal.start(cosignal.RunConfig.load(config)) as run:
        kinds = {event.kind async for event in run.events()}
        result = await run.result()
    assert (result.state, result.promotions >= 1) == ("done", True)
    assert {"run_started", "progress", "promoted", "run_finished"} <= kinds
    assert_same(story(config), reference)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_ends_all_processes_within_seconds_and_resumes(
    tmp_path: Path, reference: dict[str, Any], number: signal.Signals
) -> None:
    config = short_config(tmp_path / "run")
    process = start_run(config)
    assert process.stdout is not None
    while "proposal" not in process.stdout.readline():
        assert process.poll() is None
    everything = family(process)
    assert len(everything) == 3  # loop, trainer, worker
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "--resume" in output
    assert psutil.wait_procs(everything, timeout=5)[1] == []
    assert cosignal.RunView(the_run(config)).state() == "stopped"
    assert 'class="pill stopped"' in (the_run(config) / "report.html").read_text()
    resumed = start_run(config, "--resume")
    output, _ = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, output
    assert_same(story(config), reference)


def test_killed_before_its_report_is_written_it_resumes_and_writes_it(tmp_path: Path) -> None:
    config = short_config(tmp_path / "run")
    options = ("--set", "adaptation.enabled=false", "--resume")
    process = start_run(config, *options)
    while not trained(config.parent / "runs") or len(family(process)) > 1:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    path = the_run(config)
    assert not (path / "report.html").exists()
    assert cosignal.RunView(path).state() == "stopped"
    resumed = start_run(config, *options)
    output, _ = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, output
    assert the_run(config) == path
    assert cosignal.RunView(path).state() == "done"
    assert 'class="pill done"' in (path / "report.html").read_text()


def trained(runs: Path) -> bool:
    views = [cosignal.RunView(found.parent) for found in runs.glob("*/run.json")]
    return any(view.counters().get("state") == "finished" for view in views)


@pytest.mark.parametrize(("seed", "kills"), [(1, 3), pytest.param(2, 12, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_ends_as_if_never_killed(
    tmp_path: Path, reference: dict[str, Any], seed: int, kills: int
) -> None:
    config, rng, survived = short_config(tmp_path / "run"), random.Random(seed), 0
    for _ in range(kills):
        process = start_run(config, "--resume")
        assert process.stdout is not None
        process.stdout.readline()  # it is up
        time.sleep(0.8 * rng.random())  # of a run that takes some seconds
        survived += process.poll() is None
        everything = family(process)
        for member in everything:
            if member.is_running():
                member.kill()
        psutil.wait_procs(everything, timeout=10)
        process.communicate()
        if cosignal.RunView(the_run(config)).state() == "done":  # a fast machine needs fewer lives
            break
    else:
        process = start_run(config, "--resume")
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
    assert survived >= min(kills, 6), "the run ended before it could be killed so often: kill earlier"
    assert_same(story(config), reference)
