"""Runs with a race and an adoption in real processes: the same twice, killed at every stage, and an exact control.

The main line of two walkers is paid for not arriving, so it returns 0. One candidate explores too much to learn, the
other takes the payment away, gives each walker a network of its own, and is proven better in its first rung, after the
first one is out.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cosignal
import numpy as np
import psutil
import pytest
from cosignal import RunConfig, RunView
from cosignal.agents.llm.ledger import Place
from cosignal.graphs.race.arms import branch_job_of, control_arm
from cosignal.graphs.replay.validation import RecordedRun, Trial, try_on_branches
from cosignal.rl.branches.run_branch import run_branch
from cosignal.rl.processes import one_thread
from cosignal.rl.signals.learner_settings import LearnerSettings
from cosignal.rl.training.checkpoint import save_snapshot
from cosignal.rl.training.config import TrainingConfig
from cosignal.rl.training.line import TrainingLine
from cosignal.runs.events import ApprovalNeeded
from cosignal.runs.race_records import RaceRecord
from cosignal.runs.store import LoopStore
from safetensors.numpy import load_file
from short_runs import family, plain, start_run, story, the_run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

UPDATE = 128  # environment steps
RUNG = 2 * UPDATE
FORK = 10  # the update at which the race begins
RACING: dict[str, Any] = {
    "seed": 3,
    "task": {"env": "small_tasks:Walk"},
    "trainer": {"steps": 3_072, "envs": 8, "rollout": 16, "evaluation": {"every_steps": 1_000, "episodes": 4}},
    "signal": {"beta": 2.0, "terms": [{"kind": "event", "name": "no", "event": "arrived", "weight": -1.0}]},
    "gate": {"margin": 0.55},
    "adaptation": {
        "interval": RUNG, "patience": FORK * UPDATE, "max_share": 0.9, "stage": "exploring",
        "signals": [
            {"title": "Wild", "signal": {"terms": [], "exploration": {"entropy": 0.5}}},
            {"title": "Unpaid", "signal": {"terms": [], "learner": {"share_parameters": False, "lr": 0.001}}},
        ],
    },
    "race": {"look_episodes": 8, "confirm_episodes": 32, "arms": 1, "rungs": 2, "error": 0.4},
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def processes_find_the_task() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"))
        yield


def racing_config(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    config = RunConfig.model_validate({**RACING, "run_dir": folder / "runs", **changes})
    (folder / "config.json").write_text(config.resolved_json())
    return folder / "config.json"


def race_story(config: Path) -> dict[str, Any]:
    """All that two equal runs must have in common, the races and their evaluations too."""
    view = RunView(the_run(config))
    played = [row.model_dump(mode="json", exclude={"result": {"cpu_s"}}) for row in view.evaluations()]
    return story(config) | {
        "races": plain(view.races()),
        "evaluations": sorted(played, key=lambda row: str(row["key"])),
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of an undisturbed run, in whose race arms wait, one is dropped, and one is adopted."""
    config = racing_config(tmp_path_factory.mktemp("reference") / "run")
    process = start_run(config)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    race = RunView(the_run(config)).races()[0]
    assert [len(rung.dropped) for rung in race.detail.rungs] == [0, 1, 0]
    assert race.detail.winner == f"p{FORK}-r0-1"
    rows = RunView(the_run(config)).signals()
    assert [row.cause for row in rows] == ["start", "promotion"]
    assert rows[1].signal.learner == LearnerSettings(share_parameters=False, lr=0.001)
    return config


def assert_same(config: Path, reference: Path) -> None:
    told, expected = race_story(config), race_story(reference)
    for name, value in expected.items():
        assert told[name] == value, name


async def test_the_same_config_and_seed_give_the_same_race_also_where_a_human_says_yes(
    tmp_path: Path, reference: Path
) -> None:
    config = racing_config(tmp_path / "run")
    async with cosignal.start(RunConfig.load(config, ["adaptation.approve=human"])) as run:
        async for event in run.events():
            if isinstance(event, ApprovalNeeded):
                await run.approve(event.id, True)
        result = await run.result()
    assert (result.state, result.promotions) == ("done", 1)
    assert_same(config, reference)


# What the terminal shows before a kill: a race begins, a rung is over, a policy is proven, its state is adopted.
INSTANTS = ("proposal", "rung 1", "rung 2", "policy", "adoption")


@pytest.mark.parametrize(
    ("seed", "instants"), [(1, INSTANTS), pytest.param(2, ("started", *INSTANTS) * 2, marks=pytest.mark.slow)]
)
def test_killed_in_a_race_again_and_again_it_ends_as_if_never_killed(
    tmp_path: Path, reference: Path, seed: int, instants: tuple[str, ...]
) -> None:
    config, rng, survived = racing_config(tmp_path / "run"), random.Random(seed), 0
    for instant in sorted(instants, key=("started", *INSTANTS).index):
        process = start_run(config, "--resume")
        assert process.stdout is not None
        # A life that begins behind the instant is killed a little later.
        for line in process.stdout:
            if instant in line or "progress" in line:
                break
        time.sleep(0.3 * rng.random())
        survived += process.poll() is None
        everything = family(process)
        for member in everything:
            if member.is_running():
                member.kill()
        psutil.wait_procs(everything, timeout=10)
        process.communicate()
        if RunView(the_run(config)).state() == "done":  # a fast machine needs fewer lives
            break
    else:
        process = start_run(config, "--resume")
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
    assert survived >= 3, "the run ended before it could be killed so often: kill earlier"
    assert_same(config, reference)


def test_the_control_of_a_race_is_the_main_line_bit_for_bit(tmp_path: Path, reference: Path) -> None:
    """In the reference the trainer trained it; here it goes on in rungs, as it does under the overlap clock."""
    one_thread()  # as trainer and workers do: with more, products round in another order on some processors
    view = RunView(the_run(reference))
    config, detail = RunConfig.model_validate(view.config), view.races()[0].detail
    training = TrainingConfig.of_run(view.path)
    line, worker = TrainingLine(training), TrainingLine(training.for_branches())
    try:
        while line.update_index < FORK:
            line.update()
        save_snapshot(line, tmp_path / detail.fork.state)
        before = detail.model_copy(update={"rungs": []})
        control, ctx = control_arm(before, line.signal), cast(Any, SimpleNamespace(config=config))
        for rung in detail.rungs:
            job = branch_job_of(ctx, before, control, rung.horizon, seed=rung.number, fresh=False)
            result = run_branch(worker, tmp_path, job)
            ran = rung.model_copy(update={"control": rung.control.model_copy(update={"state": result.end_state})})
            before = before.model_copy(update={"rungs": [*before.rungs, ran]})
    finally:
        line.close()
        worker.close()
    last = view.path / "checkpoints" / f"update_{FORK + 2 * len(detail.rungs):09d}"  # before the adoption
    main, branch = (load_file(folder / "state.safetensors") for folder in (last, tmp_path / result.end_state))
    assert main.keys() == branch.keys()
    for name, array in main.items():
        assert np.array_equal(array, branch[name], equal_nan=array.dtype.kind == "f"), name


async def test_a_replayed_race_says_what_the_run_s_own_race_said(tmp_path: Path, reference: Path) -> None:
    """Every look, gain and budget: its control is a branch, which plays as the main line did."""
    view = RunView(the_run(reference))
    config, own = RunConfig.model_validate(view.config), view.races()[0].detail
    proposed = [row.proposal for row in view.proposals() if row.point == FORK]
    run, trial = RecordedRun(view.path, config, TrainingConfig.of_run(view.path)), Trial(tmp_path / "trial")
    found = await try_on_branches(run, config, Place(FORK, 0), proposed, trial)

    assert (found.claim, found.verdict, found.winner, found.rungs) == ("policy", "accept", own.winner, len(own.rungs))
    store = await LoopStore.open(trial.folder)
    [again] = await store.read(RaceRecord)
    await store.close()
    for one, other in zip(again.detail.rungs, own.rungs, strict=True):
        # The control's states have other names, and so have the episodes of its evaluations; all figures are the same.
        nameless = {"control": {"state"}, "arms": {"__all__": {"state"}}}
        assert one.model_dump(exclude=nameless) == other.model_dump(exclude=nameless)


# A Q-learner whose main line has learnt not to arrive, while a fresh start arrives before it has learnt that, too.
QMIX: dict[str, Any] = {
    "trainer": {
        **RACING["trainer"], "steps": 2_304, "algorithm": "qmix",
        "qmix": {
            "learning_starts": 256, "batch_size": 64, "buffer_size": 3_000, "epsilon_steps": 1_500, "lr": 0.005,
        },
    },
    "gate": {"margin": 0.05},
    "race": {**RACING["race"], "arms": 4, "rungs": 6},
}  # fmt: skip


@pytest.mark.slow
def test_a_fresh_start_of_a_q_learner_is_adopted_and_disturbs_no_replay_also_where_it_is_killed(tmp_path: Path) -> None:
    """Replay files, ε and target network come along; the main steps are those of the fresh start from then on."""
    undisturbed = racing_config(tmp_path / "undisturbed", **QMIX)
    output, _ = start_run(undisturbed).communicate(timeout=300)
    view = RunView(the_run(undisturbed))
    race, adopted = view.races()[0], view.signals()[1]
    assert race.detail.winner == f"fresh@{FORK}", output
    [look] = [look for look in race.detail.rungs[-1].arms if look.arm == race.detail.winner]
    [row] = [row for row in view.metrics() if row["adopted"] and row["signal_version"] == 1]
    assert row["steps_main"] == look.steps < adopted.applied_steps
    assert not list((view.path / "replay").iterdir())

    killed = racing_config(tmp_path / "killed", **QMIX)
    for instant in ("rung 1", "adoption"):
        process = start_run(killed, "--resume")
        assert process.stdout is not None
        for line in process.stdout:
            if instant in line:
                break
        everything = family(process)
        for member in everything:
            member.kill()
        psutil.wait_procs(everything, timeout=10)
        process.communicate()
    process = start_run(killed, "--resume")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same(killed, undisturbed)
    assert not list((the_run(killed) / "replay").iterdir())
