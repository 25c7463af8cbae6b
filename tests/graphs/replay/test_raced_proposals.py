"""Proposals of a replay in a race: the run's own arms, looks, confirmations and budget, beside a branch as control."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.replay_results import STORED_REPLAY, Validation
from cosignal.graphs.offline_round import status_after
from cosignal.graphs.replay.replay import Changes, replay_call
from cosignal.graphs.replay.validation import Trial
from cosignal.rl.branches.jobs import Job
from cosignal.rl.branches.policy_claim import confirmation_level
from cosignal.rl.ipc.messages import BranchJob, EvaluationJob
from cosignal.runs.events import Event, PolicyConfirmed
from cosignal.runs.race_records import RaceRecord
from cosignal.runs.replays import replay_lines
from cosignal.runs.run_view import RunView
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, ScriptedChatModel
from cosignal.testing.answers import proposal
from cosignal.testing.fake_run import FULL, Gain
from loop_runs import FIRST, POINT, RUNG, first_rises, goal_helps, nobody_rises, racing_config, scripts
from replays import GENERATOR, files, recorded_run, write_state

NEAR_GOAL, CONSTANT = proposal("nearer", "-dist_goal / 8"), proposal("nothing", "1")
KICK, FRESH = f"kick@{POINT}", f"fresh@{POINT}"


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raced")
    asyncio.run(recorded_run(path, gain=first_rises, config=racing_config()))
    return path


@pytest.fixture
def run(raced: Path, tmp_path: Path) -> Path:
    """A run in which the policy of the first proposal was proven after three rungs, and adopted."""
    return shutil.copytree(raced, tmp_path / "run")


def pool_of(run: Path, gain: Gain = first_rises, **options: Any) -> FakeBranchPool:
    return FakeBranchPool(run / "replays" / "it", gain, **options)


async def tried(
    run: Path,
    pool: FakeBranchPool,
    *proposals: object,
    call: str = GENERATOR,
    sets: tuple[str, ...] = (),
    events: list[Event] | None = None,
) -> Validation:
    """The outcome of these proposals; without any, of the recorded ones, which the rules give again."""
    chats = {"generator": ScriptedChatModel(script=[json.dumps({"proposals": proposals})])} if proposals else {}
    emit = [].append if events is None else events.append
    replay = await replay_call(run, call, Changes(overrides=sets, chats=chats), Trial(pool.run_dir, pool, emit))
    assert replay.validation is not None
    assert STORED_REPLAY.validate_json(replay.model_dump_json()) == replay
    return replay.validation


def verdicts(found: Validation) -> dict[str, str]:
    return {arm.id: arm.verdict for arm in found.arms}


def story(race: RaceRecord) -> list[Any]:
    """What rungs said and what they left, without the steps and names of states."""
    return [
        (
            rung.number,
            rung.point,
            rung.horizon,
            rung.left,
            rung.control.mean,
            [(look.arm, look.mean, look.moved) for look in rung.arms],
            rung.dropped,
            [(proof.number, proof.arm, proof.gain, proof.lower, proof.level) for proof in rung.proofs],
        )
        for rung in race.detail.rungs
    ]


async def replayed_race(pool: FakeBranchPool) -> RaceRecord:
    store = await LoopStore.open(pool.run_dir)
    try:
        return (await store.read(RaceRecord))[-1]
    finally:
        await store.close()


@pytest.mark.parametrize("gain", [first_rises, nobody_rises])
async def test_the_same_answer_races_as_it_did(tmp_path: Path, gain: Gain) -> None:
    """Rung by rung, to the same end and the same budget, also where training would have been over."""
    await recorded_run(tmp_path, gain=gain, config=racing_config())
    before, pool, [recorded] = files(tmp_path), pool_of(tmp_path, gain), RunView(tmp_path).races()
    found = await tried(tmp_path, pool)
    again = await replayed_race(pool)
    assert story(again) == story(recorded)
    assert (again.detail.winner, again.detail.end) == (recorded.detail.winner, recorded.detail.end)
    assert (again.detail.end is None) == (gain is first_rises)
    assert found.rungs == len(recorded.detail.rungs) and found.horizon == found.rungs * RUNG
    assert files(tmp_path) == before


async def test_a_policy_that_is_proven_is_accepted_and_its_signal_is_not(run: Path) -> None:
    pool, events = pool_of(run), list[Event]()
    found = await tried(run, pool, NEAR_GOAL, CONSTANT, events=events)
    assert (found.claim, found.verdict, found.winner, found.rungs) == ("policy", "accept", FIRST, 3)
    assert (found.recorded, found.recorded_claim) == ("accept", "policy")
    assert [*verdicts(found)] == [FIRST, f"p{POINT}-r0-1", KICK, FRESH]
    assert [*verdicts(found).values()] == ["policy_proven", "refused", "not_proven", "not_proven"]

    # The arm rises by 1.5 at the third rung, and is confirmed once, as the first confirmation of the run.
    won, refused, kick, _ = found.arms
    assert won.race is not None and won.race.look is not None and refused.race is None
    assert (won.title, won.race.kind, won.race.look.rung) == ("nearer", "candidate", 3)
    assert won.race.look.mean == pytest.approx(2.5) and won.race.look.main_line == pytest.approx(1.0)
    [proof] = won.race.proofs
    assert (proof.rung, proof.number, proof.proven, proof.level) == (3, 1, True, confirmation_level(0.05, 1))
    assert proof.gain == pytest.approx(1.5) and proof.lower is not None and proof.lower > proof.margin
    assert kick.race is not None and (kick.race.kind, kick.race.proofs) == ("kick", [])
    assert (won.gain, won.lower, won.seeds) == (None, None, [])  # the gate has said nothing
    assert [event.proven for event in events if isinstance(event, PolicyConfirmed)] == [True]

    # The control is a branch of the main line, first of every rung; nothing is taken from the run.
    assert [job.arm for job in pool.jobs] == ["control", FIRST, KICK, FRESH] * 3
    assert all(job.seed == 0 and job.exploration.kick is None for job in pool.jobs if job.arm == "control")
    assert (found.branches, found.reused, found.steps) == (12, 0, 12 * RUNG)
    # A look at the fork, and two sides of the confirmation; the fake's branches evaluate for 100 steps each.
    assert found.steps_evaluation == 12 * 100 + 10 * (32 + 2 * 64)


async def test_where_all_are_dropped_nothing_is_proven(run: Path) -> None:
    await asyncio.to_thread(change_race, run, rungs=1, fresh_start=False)
    found = await tried(run, pool_of(run, nobody_rises), NEAR_GOAL)
    assert (found.verdict, found.winner, found.rungs) == ("no_difference", None, 1)
    assert verdicts(found) == {FIRST: "dropped", KICK: "dropped"}
    assert all("dropped after rung 1" in arm.explanation for arm in found.arms)
    assert "no arm is left" in found.reason


async def test_what_the_race_has_no_room_for_is_not_tried(run: Path) -> None:
    await asyncio.to_thread(change_race, run, arms=1)
    found = await tried(run, pool_of(run), NEAR_GOAL)
    assert verdicts(found) == {FIRST: "policy_proven", KICK: "not_tried", FRESH: "not_tried"}
    assert "before its turn" in found.arms[1].explanation


async def test_an_arm_whose_branch_cannot_be_run_is_out_and_the_others_race_on(run: Path) -> None:
    def fails(job: Job) -> str | None:
        return "no licence" if job.arm == FIRST and isinstance(job, BranchJob) else None

    found = await tried(run, pool_of(run, nobody_rises, fails=fails), NEAR_GOAL)
    assert verdicts(found)[FIRST] == "branch_failed" and "no licence" in found.arms[0].explanation
    assert verdicts(found)[KICK] != "branch_failed" and found.rungs > 1


@pytest.mark.parametrize("kind", [BranchJob, EvaluationJob])
async def test_without_a_control_there_is_no_race(run: Path, kind: type[Job]) -> None:
    """The branch of the control cannot be run; or the policy at the fork cannot be played."""

    def fails(job: Job) -> str | None:
        return "no licence" if job.arm == "control" and isinstance(job, kind) else None

    found = await tried(run, pool_of(run, fails=fails), NEAR_GOAL)
    assert found.verdict == ("no_difference" if kind is BranchJob else "branch_failed")
    assert "no licence" in found.reason and (found.winner, found.rungs, found.branches) == (None, 0, 0)
    assert verdicts(found)[FIRST] == "not_tried"


async def test_what_fails_the_checks_does_not_race(run: Path) -> None:
    found = await tried(run, pool_of(run), CONSTANT)
    assert (found.claim, found.verdict, found.branches, found.steps_evaluation) == ("policy", "no_candidate", 0, 0)
    assert verdicts(found) == {FIRST: "refused"} and found.reason == "nothing passed the checks"


async def test_the_gate_can_be_asked_about_a_run_that_raced(run: Path) -> None:
    pool = pool_of(run, goal_helps)
    found = await tried(run, pool, NEAR_GOAL, sets=("gate.claim=signal",))
    assert (found.claim, found.verdict, found.horizon) == ("signal", "accept", FULL)
    assert (found.recorded, found.recorded_claim, found.shown_recorded) == ("accept", "policy", "a better policy")
    assert all(arm.race is None for arm in found.arms) and pool.evaluations == []


async def test_a_run_of_a_version_that_knew_no_claims_is_judged_by_the_gate(tmp_path: Path) -> None:
    await recorded_run(tmp_path, scripts(), goal_helps)
    data = json.loads((tmp_path / "config.json").read_text())
    del data["gate"]["claim"], data["race"]
    (tmp_path / "config.json").write_text(json.dumps(data))
    asked = proposal("nearer", "-dist_goal / 8", kick=0.05)
    chat = ScriptedChatModel(script=[json.dumps({"proposals": [asked]})])
    folder = tmp_path / "replays" / "it"
    changes, trial = Changes(chats={"generator": chat}), Trial(folder, FakeBranchPool(folder, goal_helps))
    replay = await replay_call(tmp_path, GENERATOR, changes, trial)
    assert replay.rebuilt.same  # nor does its question tell of races
    found = replay.validation
    assert found is not None and (found.claim, found.recorded_claim, found.rungs) == ("signal", "signal", 0)
    assert (found.verdict, found.arms[0].seeds) == ("accept", [0, 1, 2, 3, 4])


async def test_under_the_overlap_clock_the_control_is_paid_as_in_the_run(tmp_path: Path) -> None:
    await recorded_run(tmp_path, gain=first_rises, config=racing_config("overlap"))
    view = RunView(tmp_path)
    point = view.races()[0].point
    write_state(tmp_path, point)
    pool = pool_of(tmp_path, lambda job: nobody_rises(job) + 1.5 * (job.arm.endswith("-0") and job.horizon >= 3 * RUNG))
    found = await tried(tmp_path, pool, call=f"p{point}-r0-generator-t0-a0")
    assert (found.claim, found.verdict) == ("policy", "accept")
    race = await replayed_race(pool)
    lefts = [race.detail.left, *(rung.left for rung in race.detail.rungs)]
    arms = 1 + len(race.detail.rungs[0].arms)
    assert lefts[0] - lefts[1] == arms * (RUNG + 100)


async def test_a_later_race_knows_the_confirmations_and_the_arms_before_it(tmp_path: Path) -> None:
    """An arm of the first race has moved and is carried over; its state is gone when the second is replayed."""
    config = racing_config(rungs=1, fresh_start=False)
    config = config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"patience": RUNG})})
    await recorded_run(tmp_path, gain=nobody_rises, config=config)
    view = RunView(tmp_path)
    later = view.races()[1]
    write_state(tmp_path, later.point)
    # As if the first race had confirmed twice, and left an arm that moved.
    store = await LoopStore.open(tmp_path)
    first = view.races()[0]
    [rung] = first.detail.rungs
    look = rung.arms[0].model_copy(update={"moved": ["switch_triggered"], "mean": rung.control.mean})
    proof = {"number": 1, "arm": look.arm, "against": "control", "level": 0.01, "gain": 0.0, "lower": None}
    proof |= {"margin": 0.1, "episodes": 8, "distinct": 8, "paired": False, "proven": False, "explanation": ""}
    changed = rung.model_dump() | {"arms": [look.model_dump()], "proofs": [proof, proof | {"number": 2}]}
    await store.write(
        RaceRecord.model_validate(first.model_dump() | {"detail": first.detail.model_dump() | {"rungs": [changed]}})
    )
    await store.close()

    pool = pool_of(tmp_path, lambda job: nobody_rises(job) + 1.5 * job.arm.endswith("-0"))
    found = await tried(tmp_path, pool, call=f"p{later.point}-r0-generator-t0-a0")
    [proof_of_winner] = found.arms[0].race.proofs if found.arms[0].race else []
    assert (proof_of_winner.number, proof_of_winner.level) == (3, confirmation_level(0.05, 3))
    race = await replayed_race(pool)
    assert {arm.kind for arm in race.detail.arms} == {"candidate", "kick"}
    # Beside the carried arm, which has the first seed, theirs are those that they had in the run, and one more.
    assert [arm.seed for arm in race.detail.arms] == [arm.seed + 1 for arm in later.detail.arms]


async def test_a_fresh_start_that_had_gone_on_does_not_race_in_a_replay(tmp_path: Path) -> None:
    """Its state is gone. The others race as beside it."""
    config = racing_config(arms=2, rungs=1)
    config = config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"patience": 4 * RUNG})})
    await recorded_run(tmp_path, gain=nobody_rises, config=config)
    later = RunView(tmp_path).races()[1]
    assert [arm.kind for arm in later.detail.arms if arm.horizon > 0] == ["fresh_start"]
    write_state(tmp_path, later.point)
    pool = pool_of(tmp_path, nobody_rises)
    await tried(tmp_path, pool, call=f"p{later.point}-r0-generator-t0-a0")
    race = await replayed_race(pool)
    assert [arm.seed for arm in race.detail.arms] == [
        arm.seed for arm in later.detail.arms if arm.kind != "fresh_start"
    ]
    assert {arm.kind for arm in race.detail.arms} == {"candidate", "kick"}


async def test_the_terminal_says_what_was_asked_and_of_what_it_is_true(run: Path) -> None:
    chat = ScriptedChatModel(script=[json.dumps({"proposals": [NEAR_GOAL]})])
    pool = pool_of(run)
    replay = await replay_call(run, GENERATOR, Changes(chats={"generator": chat}), Trial(pool.run_dir, pool))
    told = [line.text for line in replay_lines(replay)]
    at = next(place for place, line in enumerate(told) if line.startswith("asked: does a policy return more"))
    assert told[at + 1] == (
        f"a race of 3 rungs from checkpoints/update_{POINT:09d}: a better policy (in the run: a better policy)"
    )
    assert told[at + 2] == "  policy_proven   nearer (candidate)"
    assert told[at + 3].startswith(
        "    last look, after rung 3: mean return 2.50, the main line's 1.00 over 32 episodes"
    )
    assert "lower bound" in told[at + 4] and "at level 0.0304" in told[at + 4]


def change_race(run: Path, **settings: object) -> None:
    path = run / "config.json"
    data = json.loads(path.read_text())
    data["race"] |= settings
    path.write_text(json.dumps(data))


def test_a_trainer_would_wait_at_the_update_that_crosses_a_multiple_of_the_interval(tmp_path: Path) -> None:
    """Updates have 2048 steps: from 32 768 the first at 35 000 or beyond ends at 36 864, at 40 000 that to 40 960."""
    config = racing_config()
    config = config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"interval": 5_000})})
    status = FakeTrainer(tmp_path, steps_budget=40_960).status()
    assert status.steps_main == 32_768
    first, second = (status_after(config, status, rungs) for rungs in (1, 2))
    assert (first.steps_main, first.update - status.update, first.state) == (36_864, 2, status.state)
    assert (second.steps_main, second.update - status.update, second.state) == (40_960, 4, "finished")
