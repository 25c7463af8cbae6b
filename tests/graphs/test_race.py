"""Races in the whole graph, on the fake run: who trains and is confirmed, what is adopted, what a kill changes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.llm.ledger import Call
from cosignal.config.run_config import RunConfig
from cosignal.graphs.race.arms import best_of_main_line
from cosignal.rl.branches.jobs import Job
from cosignal.rl.branches.policy_claim import confirmation_level
from cosignal.rl.ipc.messages import BranchJob, EvaluationJob, EvaluationResult
from cosignal.runs.approvals import answer
from cosignal.runs.events import ApprovalNeeded, PolicyConfirmed, RungFinished
from cosignal.runs.race_records import EvaluationRecord, RaceLook, RaceRecord
from cosignal.runs.records import BranchRecord, DecisionRecord
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, Killed, LoopSession
from cosignal.testing.fake_run import INTERVAL, UPDATE
from kills import Fragile, dies_at
from loop_runs import FIRST, RUNG, comparable, first_rises, nobody_rises, racing_config, tables


def session_of(
    run_dir: Path, pool: FakeBranchPool, trainer: FakeTrainer | None = None, config: RunConfig | None = None
) -> LoopSession:
    session = LoopSession(run_dir, trainer or FakeTrainer(run_dir), pool)
    session.config = config or racing_config()
    return session


def with_patience(steps: int, config: RunConfig) -> RunConfig:
    return config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"patience": steps})})


async def races_of(run_dir: Path) -> list[RaceRecord]:
    store = await LoopStore.open(run_dir)
    try:
        return await store.read(RaceRecord)
    finally:
        await store.close()


async def decisions_of(run_dir: Path) -> list[DecisionRecord]:
    store = await LoopStore.open(run_dir)
    try:
        return await store.read(DecisionRecord)
    finally:
        await store.close()


async def test_the_first_policy_that_is_proven_is_adopted(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakeBranchPool(tmp_path, first_rises)
    session = session_of(tmp_path, pool, trainer)
    await session.run()

    [race] = await races_of(tmp_path)
    kinds = {arm.name: arm.kind for arm in race.detail.arms}
    assert [*kinds.values()] == ["candidate", "candidate", "candidate", "kick", "fresh_start"]
    assert [rung.number for rung in race.detail.rungs] == [1, 2, 3]
    assert race.detail.winner == FIRST
    [proof] = race.detail.rungs[-1].proofs
    assert proof.number == 1 and proof.level == confirmation_level(0.05, 1)
    assert proof.gain == pytest.approx(1.5) and proof.lower is not None and proof.lower > race.detail.margin

    # Every arm trained its rungs, none of them the control's: that is the main line.
    assert {job.arm for job in pool.jobs} == set(kinds)
    assert {job.horizon for job in pool.jobs} == {RUNG, 2 * RUNG, 3 * RUNG}
    assert all(job.new_line == (kinds[job.arm] == "fresh_start") for job in pool.jobs)
    assert len({job.seed for job in pool.jobs}) == 5

    # The winner's last state is adopted at the point where the main line stands.
    [(key, point, signal, adopt)] = trainer.log
    [last] = [job for job in pool.jobs if job.arm == FIRST and job.horizon == 3 * RUNG]
    assert (point, adopt) == (128 + 3 * INTERVAL, last.end_state)
    assert signal.terms == last.signal.terms and key.startswith(FIRST)
    [decision] = await decisions_of(tmp_path)
    assert (decision.verdict, decision.adopted, decision.detail.claim) == ("accept", "state", "policy")
    assert decision.detail.race == race.id and decision.detail.reason == proof.explanation
    assert [event.rung for event in session.events if isinstance(event, RungFinished)] == [1, 2, 3]
    assert [event.proven for event in session.events if isinstance(event, PolicyConfirmed)] == [True]


async def test_looks_share_their_episodes_and_confirmations_have_their_own(tmp_path: Path) -> None:
    pool = FakeBranchPool(tmp_path, first_rises)
    await session_of(tmp_path, pool).run()
    by_rung: dict[int, set[int]] = {}
    for job in pool.jobs:
        by_rung.setdefault(job.horizon // RUNG, set()).add(job.evaluation_seed)
    looks = [job for job in pool.evaluations if job.episodes == 32]
    assert [len(seeds) for seeds in by_rung.values()] == [1, 1, 1]
    assert [job.seed for job in looks[1:4]] == [*by_rung[1], *by_rung[2], *by_rung[3]]  # the first is the fork's
    sides = [job for job in pool.evaluations if job.episodes == 64]
    assert len(sides) == 2 and len({job.seed for job in sides}) == 2
    assert {job.seed for job in sides}.isdisjoint(job.seed for job in looks)


async def test_where_no_policy_is_better_the_main_line_goes_on(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakeBranchPool(tmp_path, nobody_rises)
    await session_of(tmp_path, pool, trainer).run()
    races = await races_of(tmp_path)
    assert trainer.changes == [] and all(race.detail.winner is None for race in races)
    assert all(race.detail.end for race in races)
    assert {row.verdict for row in await decisions_of(tmp_path)} == {"no_difference"}
    # Nothing moved, so that nothing but the fresh start is carried over.
    [fresh] = [look.state for look in races[-1].detail.rungs[-1].arms if look.arm.startswith("fresh@")]
    assert [*(tmp_path / "branches").iterdir()] == [tmp_path / fresh]


async def test_what_the_trainer_pruned_can_still_be_confirmed_against(tmp_path: Path) -> None:
    """The fork's snapshot is linked when the race begins."""
    pool = FakeBranchPool(tmp_path, first_rises)
    await session_of(tmp_path, pool).run()
    assert all(job.state.startswith("branches/") for job in pool.evaluations)


class MainLineSolves(FakeBranchPool):
    def evaluation(self, job: EvaluationJob) -> EvaluationResult:
        result = super().evaluation(job)
        solved = job.state.endswith(str(128 + 2 * INTERVAL))
        successes = [solved] * job.episodes
        return result.model_copy(update={"episodes": result.episodes.model_copy(update={"successes": successes})})


async def test_a_main_line_that_solves_the_task_ends_the_race(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    await session_of(tmp_path, MainLineSolves(tmp_path, nobody_rises), trainer).run()
    race = (await races_of(tmp_path))[0]
    assert len(race.detail.rungs) == 2 and "solves the task by itself" in (race.detail.end or "")
    assert trainer.changes == []


async def test_what_a_race_leaves_of_the_budget_decides_the_next_rung(tmp_path: Path) -> None:
    """Four rungs of five arms are paid, with their evaluations; a fifth is not."""
    config = racing_config()
    cost = 5 * RUNG
    share = 4.6 * cost / (4.6 * cost + 500_000)
    adaptation = config.adaptation.model_copy(update={"max_share": share})
    config = config.model_copy(update={"adaptation": adaptation, "race": config.race.model_copy(update={"rungs": 24})})
    session = session_of(tmp_path, FakeBranchPool(tmp_path, nobody_rises), config=config)
    await session.run()
    [race] = await races_of(tmp_path)
    assert "adaptation.max_share leaves" in (race.detail.end or "")
    assert len(race.detail.rungs) == 4
    lefts = [rung.left for rung in race.detail.rungs]
    assert lefts[0] > lefts[-1] >= 0 and lefts[-1] < cost


async def test_an_arm_that_cannot_be_run_is_out_and_the_others_race_on(tmp_path: Path) -> None:
    second = "p128-r0-1"
    pool = FakeBranchPool(tmp_path, first_rises, fails=lambda job: "it broke" if job.arm == second else None)
    trainer = FakeTrainer(tmp_path)
    await session_of(tmp_path, pool, trainer).run()
    [race] = await races_of(tmp_path)
    assert "it broke" in race.detail.rungs[0].dropped[second]
    assert [job.arm for job in pool.jobs].count(second) <= 1 and len(trainer.log) == 1


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_effect_a_race_ends_as_if_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """It dies at every seventh write or request of a run with an adoption."""
    (tmp_path / "reference").mkdir()
    reference = FakeTrainer(tmp_path / "reference")
    await session_of(tmp_path / "reference", FakeBranchPool(tmp_path / "reference", first_rises), reference).run()
    expected = comparable(await tables(tmp_path / "reference"))
    assert len(reference.log) == 1

    at, died = 0, True
    while died:
        run_dir = tmp_path / f"killed-{at}"
        run_dir.mkdir()
        trainer = FakeTrainer(run_dir)
        died = await dies_at(
            session_of(run_dir, FakeBranchPool(run_dir, first_rises), trainer), Fragile(at, after), monkeypatch
        )
        if died:
            trainer.restart(points_back=at % 2)
            await session_of(run_dir, FakeBranchPool(run_dir, first_rises), trainer).run()
        assert trainer.log == reference.log, at
        assert comparable(await tables(run_dir)) == expected, at
        at += 7
    assert at > 50


async def test_overlap_the_control_is_a_branch_and_the_winner_beats_the_newest_main_line_too(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path, clock="overlap"), FakeBranchPool(tmp_path, first_rises)
    session = session_of(tmp_path, pool, trainer, racing_config("overlap"))
    await session.run()
    controls = [job for job in pool.jobs if job.arm == "control"]
    assert [job.horizon for job in controls] == [RUNG, 2 * RUNG, 3 * RUNG]
    assert all(job.seed == 0 and job.exploration.kick is None for job in controls)
    [race] = await races_of(tmp_path)
    assert [proof.number for proof in race.detail.rungs[-1].proofs] == [1, 2]
    assert race.detail.rungs[-1].proofs[1].proven and len(trainer.log) == 1
    assert [event.rung for event in session.events if isinstance(event, PolicyConfirmed)] == [3, 3]


class NewestIsBetter(FakeBranchPool):
    """The main line has come to 3 by the time of the adoption."""

    def evaluation(self, job: EvaluationJob) -> EvaluationResult:
        result = super().evaluation(job)
        if job.episodes != 64 or job.arm != "control" or "main_" not in job.state or job.state.endswith("main_128"):
            return result
        raised = [value + 2.0 for value in result.episodes.returns]
        return result.model_copy(update={"episodes": result.episodes.model_copy(update={"returns": raised})})


async def test_overlap_a_winner_that_the_main_line_has_left_behind_is_stale(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path, clock="overlap")
    await session_of(tmp_path, NewestIsBetter(tmp_path, first_rises), trainer, racing_config("overlap")).run()
    assert trainer.log == []
    assert "stale" in {row.verdict for row in await decisions_of(tmp_path)}


@pytest.mark.parametrize(("most", "rungs", "end"), [(RUNG - 1, 1, "behind the main line"), (500_000, 2, "training")])
async def test_overlap_a_race_ends_whose_arms_lag_too_far_behind_the_main_line(
    tmp_path: Path, most: int, rungs: int, end: str
) -> None:
    """The main line trains two rungs while an arm trains one."""
    trainer, config = FakeTrainer(tmp_path, clock="overlap", pace=2 * INTERVAL), racing_config("overlap")
    config = config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"max_staleness": most})})
    await session_of(tmp_path, FakeBranchPool(tmp_path, first_rises), trainer, config).run()
    race = (await races_of(tmp_path))[0]
    assert len(race.detail.rungs) == rungs and race.detail.end is not None and end in race.detail.end


async def test_every_step_of_a_race_is_counted(tmp_path: Path) -> None:
    pool = FakeBranchPool(tmp_path, first_rises)
    await session_of(tmp_path, pool).run()
    store = await LoopStore.open(tmp_path)
    try:
        evaluations = await store.read(EvaluationRecord)
        extra = await store.extra_steps()
    finally:
        await store.close()
    assert len(evaluations) == len(pool.evaluations)
    # Each job trains one rung; the fake's branches evaluate for 100 steps.
    assert extra.total == (RUNG + 100) * len(pool.jobs) + sum(row.steps for row in evaluations)


async def test_arms_wait_until_those_before_them_are_out(tmp_path: Path) -> None:
    """Two at a time, in rank order; the kick alone and the fresh start join last, from where the main line is then."""
    pool = FakeBranchPool(tmp_path, nobody_rises)
    await session_of(tmp_path, pool, config=racing_config(arms=2, rungs=1)).run()
    race = (await races_of(tmp_path))[0]
    raced = [[look.arm for look in rung.arms] for rung in race.detail.rungs]
    assert raced[:3] == [["p128-r0-0", "p128-r0-1"], ["p128-r0-2", "kick@128"], ["fresh@128"]]
    assert all(arms == ["fresh@128"] for arms in raced[3:])  # judged by its age, not by `race.rungs`
    [late] = [arm for arm in race.detail.arms if arm.name == "kick@128"]
    assert late.fork == race.detail.rungs[0].control.state and late.horizon == -RUNG
    assert [job.horizon for job in pool.jobs if job.arm == "kick@128"] == [RUNG]


@pytest.mark.parametrize("claim", ["auto", "signal"])
async def test_who_is_asked_for_arms_is_told_how_many_race_at_a_time(tmp_path: Path, claim: str) -> None:
    config = racing_config(arms=2, rungs=1)
    config = config.model_copy(update={"gate": config.gate.model_copy(update={"claim": claim})})
    await session_of(tmp_path, FakeBranchPool(tmp_path, nobody_rises), config=config).run()
    store = await LoopStore.open(tmp_path)
    try:
        prompts = {call.role: call.messages[0]["content"] for call in await store.read(Call)}
    finally:
        await store.close()
    told = {role for role, prompt in prompts.items() if "At most 2 arms train at a time" in prompt}
    assert prompts.keys() == {"critic", "generator", "ranker"}
    assert told == ({"generator", "ranker"} if claim == "auto" else set())


@pytest.mark.parametrize("rung", [0, 2])
async def test_where_the_main_line_cannot_be_played_training_goes_on_without_a_race(tmp_path: Path, rung: int) -> None:
    broken = f"main_{128 + rung * INTERVAL}"

    def fails(job: Job) -> str | None:
        return "no licence" if isinstance(job, EvaluationJob) and job.state.endswith(broken) else None

    trainer = FakeTrainer(tmp_path)
    await session_of(tmp_path, FakeBranchPool(tmp_path, first_rises, fails=fails), trainer).run()
    decision = (await decisions_of(tmp_path))[0]
    assert decision.verdict == ("no_difference" if rung else "branch_failed") and "no licence" in decision.detail.reason
    assert trainer.finished


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("killed", [False, True])
async def test_a_human_is_asked_before_a_proven_policy_is_adopted(tmp_path: Path, yes: bool, killed: bool) -> None:
    """Also where loop and trainer are killed while it waits, and the answer comes while they are down."""
    (tmp_path / "run.json").write_text("{}")
    config = racing_config()
    config = config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"approve": "human"})})
    (tmp_path / "config.json").write_text(config.resolved_json())
    trainer = FakeTrainer(tmp_path)
    session = session_of(tmp_path, FakeBranchPool(tmp_path, first_rises), trainer, config)
    task = asyncio.create_task(session.run())
    while not (questions := [event for event in session.events if isinstance(event, ApprovalNeeded)]):
        assert not task.done(), task.exception()
        await asyncio.sleep(0.001)
    assert (questions[0].proposal, questions[0].adopted) == (FIRST, "state") and trainer.log == []
    if killed:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        trainer.restart(points_back=1)
    assert answer(tmp_path, questions[0].id, yes)
    await (session_of(tmp_path, FakeBranchPool(tmp_path, first_rises), trainer, config).run() if killed else task)

    [race] = [race for race in await races_of(tmp_path) if race.point == 128]
    assert race.detail.winner == FIRST and len(race.detail.rungs) == 3
    decision = (await decisions_of(tmp_path))[0]
    assert decision.verdict == ("accept" if yes else "declined")
    assert [point for _, point, _, _ in trainer.log] == [128 + 3 * INTERVAL] * yes
    assert trainer.finished


async def test_a_race_that_training_outlives_goes_on_when_there_are_more_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training ends with the second rung; the loop is killed before it notices, and the run is continued for longer."""
    short = FakeTrainer(tmp_path, steps_budget=2 * RUNG + 128 * UPDATE)
    with monkeypatch.context() as patch:
        patch.setattr("cosignal.graphs.race.rung.end_race", killed_instead)
        with pytest.raises(Killed):
            await session_of(tmp_path, FakeBranchPool(tmp_path, first_rises), short).run()
    [race] = await races_of(tmp_path)
    assert (len(race.detail.rungs), race.detail.end) == (1, None)

    await session_of(tmp_path, FakeBranchPool(tmp_path, first_rises), short).run()
    [race] = await races_of(tmp_path)
    assert race.detail.end == "training is over" and len(race.detail.rungs) == 1 and short.log == []
    longer = FakeTrainer(tmp_path)
    longer.point = short.point
    config = racing_config()
    eager = config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"patience": RUNG})})
    await session_of(tmp_path, FakeBranchPool(tmp_path, nobody_rises), longer, eager).run()
    assert len(await races_of(tmp_path)) > 1 and longer.finished


async def killed_instead(*_: Any) -> None:
    raise Killed("before it is written")


class TwoMargins(FakeBranchPool):
    """Episodes of a confirmation return less than the look that chose the arm."""

    def __init__(self, run_dir: Path, gain: float) -> None:
        super().__init__(run_dir, first_rises)
        self.true_gain = gain

    def evaluation(self, job: EvaluationJob) -> EvaluationResult:
        result = super().evaluation(job)
        if job.episodes != 64 or job.arm == "control":
            return result
        lowered = [value - 1.5 + self.true_gain for value in result.episodes.returns]
        return result.model_copy(update={"episodes": result.episodes.model_copy(update={"returns": lowered})})


async def test_a_confirmation_goes_on_while_more_episodes_may_prove_it(tmp_path: Path) -> None:
    """A gain of 0.26 at level 0.03 and margin 0.1 takes more than 64 episodes of each side, and fewer than 192."""
    pool = TwoMargins(tmp_path, 0.26)
    await session_of(tmp_path, pool, config=racing_config(most_confirm_episodes=192)).run()
    race = (await races_of(tmp_path))[0]
    proof = race.detail.rungs[2].proofs[0]
    assert proof.number == 1 and proof.proven and proof.episodes == 128
    first = [job for job in pool.evaluations if job.episodes == 64][:4]
    assert [job.arm for job in first] == [FIRST, "control"] * 2 and len({job.seed for job in first}) == 4


async def test_a_confirmation_ends_where_more_episodes_could_not_prove_it(tmp_path: Path) -> None:
    pool = TwoMargins(tmp_path, 0.05)
    await session_of(tmp_path, pool, config=racing_config(most_confirm_episodes=640)).run()
    race = (await races_of(tmp_path))[0]
    assert {proof.episodes for rung in race.detail.rungs for proof in rung.proofs} == {64}
    assert race.detail.winner is None


def look_at(mean: float) -> RaceLook:
    return RaceLook(arm="control", state="s", steps=0, mean=mean, sd=0.4, episodes=16, success=None)


@pytest.mark.parametrize(
    ("means", "best", "mean"),
    [
        ((1.0, 1.9, 1.0, 1.5, 1.6, 1.5, 1.0), 1.6, 4.6 / 3),  # not the luckiest look
        ((6.0, 0.0, 6.0), 6.0, 4.0),  # and no trough among peaks
        ((0.0, 6.0), 6.0, 3.0),
        ((0.5,), 0.5, 0.5),
    ],
)
def test_the_best_of_the_main_line(means: tuple[float, ...], best: float, mean: float) -> None:
    found = best_of_main_line([look_at(value) for value in means])
    assert found.look.mean == best
    near = min(len(means), 3)
    # At an end of the line a neighbourhood has two looks.
    assert found.mean == pytest.approx(mean) or (near == 3 and means == (6.0, 0.0, 6.0))
    assert found.variance <= 0.4**2 / 16


async def test_an_arm_below_the_newest_peak_of_the_main_line_is_not_confirmed_against_its_past(tmp_path: Path) -> None:
    """The main line jumps to 3 at the first rung; an arm that returns 2.5 then is far above the fork, and no better."""

    class Jumps(FakeBranchPool):
        def evaluation(self, job: EvaluationJob) -> EvaluationResult:
            result = super().evaluation(job)
            if job.arm != "control" or job.state.endswith("main_128"):
                return result
            raised = [value + 2.0 for value in result.episodes.returns]
            return result.model_copy(update={"episodes": result.episodes.model_copy(update={"returns": raised})})

    def rises_less(job: BranchJob) -> float:
        return nobody_rises(job) + (1.5 if job.arm == FIRST else 0.0)

    trainer = FakeTrainer(tmp_path)
    await session_of(tmp_path, Jumps(tmp_path, rises_less), trainer).run()
    race = (await races_of(tmp_path))[0]
    assert all(not rung.proofs for rung in race.detail.rungs) and trainer.log == []


async def test_a_visit_that_was_killed_after_its_write_begins_with_the_arms_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after the row of the rung at which others joined is written, and before the graph's checkpoint."""
    config = racing_config(arms=2, rungs=1)
    write, killed = LoopStore.write, [False]

    async def write_and_die(self: LoopStore, *records: Any) -> None:
        await write(self, *records)
        for record in records:
            if isinstance(record, RaceRecord) and len(record.detail.rungs) == 1 and not killed[0]:
                killed[0] = True
                raise Killed("before the checkpoint")

    trainer = FakeTrainer(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(LoopStore, "write", write_and_die)
        with pytest.raises(Killed):
            await session_of(tmp_path, FakeBranchPool(tmp_path, nobody_rises), trainer, config).run()
    await session_of(tmp_path, FakeBranchPool(tmp_path, nobody_rises), trainer, config).run()
    race = (await races_of(tmp_path))[0]
    raced = [[look.arm for look in rung.arms] for rung in race.detail.rungs]
    assert raced[:3] == [["p128-r0-0", "p128-r0-1"], ["p128-r0-2", "kick@128"], ["fresh@128"]]
    assert [arm.joined for arm in race.detail.arms] == [0, 0, 1, 1, 2]


async def test_patience_runs_while_a_race_that_nobody_wins_does(tmp_path: Path) -> None:
    """The next race begins at the first point at which the main line has trained on for as long since the fork."""
    config = with_patience(4 * RUNG, racing_config(rungs=1, fresh_start=False))
    await session_of(tmp_path, FakeBranchPool(tmp_path, nobody_rises), config=config).run()
    first, second, *_ = await races_of(tmp_path)
    assert first.detail.end == "no arm is left" and len(first.detail.rungs) == 1
    assert second.point == first.point + 4 * INTERVAL


async def test_a_fresh_start_goes_on_in_the_next_race_beside_new_proposals(tmp_path: Path) -> None:
    """It keeps its seed, its state and its age, takes nobody's place, and no second one begins beside it."""
    config, pool = with_patience(4 * RUNG, racing_config(arms=2, rungs=1)), FakeBranchPool(tmp_path, nobody_rises)
    await session_of(tmp_path, pool, config=config).run()
    first, second, *_ = await races_of(tmp_path)
    assert first.detail.end is not None and "go on in the next race" in first.detail.end
    assert second.point == first.point + 4 * INTERVAL and len(first.detail.rungs) == 3

    raced = [[look.arm for look in rung.arms] for rung in second.detail.rungs]
    old, new = f"fresh@{first.point}", [f"p{second.point}-r0-{k}" for k in range(3)]
    assert raced[0] == [old, *new[:2]] and raced[1] == [old, new[2], f"kick@{second.point}"]
    of_old = [job for job in pool.jobs if job.arm == old]
    assert [job.horizon for job in of_old] == [RUNG * k for k in range(1, len(of_old) + 1)]
    assert len({job.seed for job in of_old}) == 1 and all(job.new_line for job in of_old)
    assert [job.start for job in of_old[1:]] == [job.end_state for job in of_old[:-1]]
    assert [arm.name for arm in second.detail.arms if arm.kind == "fresh_start"] == [old]


async def test_a_failed_evaluation_is_paid_and_not_played_again(tmp_path: Path) -> None:
    pool = FakeBranchPool(
        tmp_path,
        first_rises,
        fails=lambda job: "it broke" if isinstance(job, EvaluationJob) and job.arm == FIRST else None,
    )
    await session_of(tmp_path, pool).run()
    store = await LoopStore.open(tmp_path)
    try:
        [race, *_] = await store.read(RaceRecord)
        branches = await store.read(BranchRecord, point=race.point)
        fork, *evaluations = await store.read(EvaluationRecord, point=race.point)
    finally:
        await store.close()
    failed = [row for row in evaluations if row.result is None]
    assert failed and {(row.steps, row.reason) for row in failed} == {(700, "it broke")}
    # The race has less left by all of it.
    spent = sum(row.steps for row in [*branches, *evaluations])
    assert fork.arm == "control" and race.detail.left - race.detail.rungs[-1].left == spent
    keys = [job.key for job in pool.evaluations]
    assert len(keys) == len(set(keys))
