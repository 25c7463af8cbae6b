"""What may not be proposed again: quarantine, which holds for ever, and what was tried from this state."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from converged import Converged
from cosignal.graphs.nodes.check import _explorations_taken, _rejected
from cosignal.rl.algorithms.config import IPPOConfig
from cosignal.rl.branches.config import RaceConfig
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.signals.terms import PotentialTerm
from cosignal.runs.records import DecisionDetail, DecisionVerdict, JudgedArm
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession
from cosignal.testing.answers import DIAGNOSIS, DOOR, GOAL, proposals, ranking
from cosignal.testing.answers import proposal as proposed
from loop_runs import goal_helps, nothing_helps, scripts, tables
from made_up_run import judged
from races import FIRST, look, race, rung
from records import decision, proposal

PAST = "p16-r0-0"


async def remember(run_dir: Path, verdict: DecisionVerdict, signal: Signal, suffix: str = "") -> None:
    """As if the gate had accepted `signal` at update 16 and then this had happened."""
    store = await LoopStore.open(run_dir)
    await store.write(proposal(point=16, signal=signal, rank=0))
    await store.write(decision(f"p16-r0{suffix}", 16, verdict=verdict, winner=PAST, created_steps=32_768))
    await store.close()


@pytest.mark.parametrize(
    ("verdict", "suffix", "allowed"), [("rollback", "-rollback", False), ("declined", "", False), ("stale", "", True)]
)
async def test_what_was_rolled_back_or_declined_never_comes_again(
    tmp_path: Path, verdict: DecisionVerdict, suffix: str, allowed: bool
) -> None:
    goal = PotentialTerm(name="phi", expression="-dist_goal / 17")
    await remember(tmp_path, verdict, Signal(terms=(goal,), exploration=GOAL["exploration"]), suffix)
    trainer = FakeTrainer(tmp_path)
    said = scripts() | {"critic": [DIAGNOSIS], "generator": [proposals(GOAL)] * 2, "ranker": []}
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), said).run()
    tried = [row for row in (await tables(tmp_path))["proposals"] if row["id"] != PAST]
    assert all((row["problems"] == []) == allowed for row in tried)
    assert bool(trainer.log) == allowed


async def test_a_removal_that_was_declined_does_not_come_again_but_the_slower_one_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IPPOConfig, "offsets_potentials", False)  # so that potentials are tried on branches
    await remember(tmp_path, "declined", Signal(beta=0.8))
    trainer = Converged(tmp_path)
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, nothing_helps), {}).run()
    [gone, faded] = [row for row in (await tables(tmp_path))["proposals"] if row["id"] != PAST]
    assert "promoted and rolled back, or declined" in gone["problems"][0]
    assert faded["problems"] == []
    assert [key for key, *_ in trainer.log] == ["p64-r0-1:0"]


# ---------------------------------------------------------------- in other words

GOAL_AGAIN = proposed("the same in other words", "1 - dist_goal * 0.25", kick=0.05)
AHEAD = proposed("both", "-dist_goal / 17 - dist_door / 9", kick=0.05)


async def test_twins_of_what_this_intervention_tried_and_of_its_own_round_are_refused(tmp_path: Path) -> None:
    door_again = proposed("door", "3 * -(dist_door)", kick=0.05)
    first, second = proposals(GOAL, GOAL_AGAIN, DOOR), proposals(AHEAD, GOAL_AGAIN, door_again)
    said = scripts() | {"generator": [first, second], "ranker": [ranking("p128-r0-0", "p128-r0-2")]}
    await LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, nothing_helps), said).run()
    found = {row["id"]: row["problems"] for row in (await tables(tmp_path))["proposals"]}
    assert {key for key, problems in found.items() if not problems} == {"p128-r0-0", "p128-r0-2", "p128-r1-0"}
    told = {
        "p128-r0-1": "p128-r0-0, which is another proposal of this round",
        "p128-r1-1": "p128-r0-0, which was tried",
        "p128-r1-2": "p128-r0-2, which was tried",
    }
    for key, words in told.items():
        [problem] = found[key]
        assert f"pays the same as {words}" in problem


@pytest.mark.parametrize(
    ("verdict", "of_arm", "told"),
    [
        ("reject", "reject", "which was tried before"),
        ("no_difference", "no_difference", None),
        ("rollback", None, "but for its strength, which was promoted and rolled back"),
        ("stale", None, None),
    ],
)
async def test_a_twin_may_come_again_where_the_same_signal_may(
    tmp_path: Path, verdict: DecisionVerdict, of_arm: str | None, told: str | None
) -> None:
    goal = PotentialTerm(name="phi", expression="-dist_goal / 17")
    suffix = "-rollback" if verdict == "rollback" else ""
    await remember(tmp_path, verdict, Signal(terms=(goal,), exploration=GOAL["exploration"]), suffix)
    if of_arm is not None:
        store = await LoopStore.open(tmp_path)
        detail = DecisionDetail(judgements=[JudgedArm.model_validate(judged(PAST, of_arm, 0.0, ""))])
        await store.write(decision("p16-r0", 16, verdict=verdict, detail=detail, created_steps=32_768))
        await store.close()
    said = scripts() | {"critic": [DIAGNOSIS], "generator": [proposals(GOAL_AGAIN)] * 2, "ranker": []}
    await LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, goal_helps), said).run()
    first = next(row for row in (await tables(tmp_path))["proposals"] if row["id"] != PAST)
    assert (first["problems"] == []) == (told is None)
    assert told is None or told in first["problems"][0]


async def test_every_proposal_that_fits_the_task_gets_its_numbers(tmp_path: Path) -> None:
    wrong = proposed("for nobody", "-dist_goal", kick=0.05)
    wrong["terms"][0]["agents"] = ["blue"]
    said = scripts() | {"generator": [proposals(GOAL, AHEAD, wrong)], "ranker": [ranking("p128-r0-1", "p128-r0-0")]}
    await LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, goal_helps), said).run()
    kept = await tables(tmp_path)
    goal, both, nobody = [row["preview"] for row in kept["proposals"]]
    assert nobody is None
    assert goal["distances"] == [] and "distance_in_force" not in goal  # nothing is in force
    [(key, distance)] = both["distances"]
    assert key == "p128-r0-0" and 0 < distance < 0.5
    assert goal["paid_share"] == both["paid_share"] == 1.0
    [asked] = [call for call in kept["calls"] if call["role"] == "ranker"]
    assert '"nearest": [["p128-r0-0"' in asked["messages"][-1]["content"]


# ---------------------------------------------------------------- races


@pytest.mark.parametrize(("round_", "rejected"), [(0, False), (1, True)])
async def test_what_has_raced_from_this_state_does_not_race_again(tmp_path: Path, round_: int, rejected: bool) -> None:
    """In the same round it is the race of its own; what left before the first rung has not raced."""
    store = await LoopStore.open(tmp_path)
    near, far = (Signal(terms=(PotentialTerm(name="phi", expression=text),)) for text in ("-dist_goal", "dist_goal"))
    await store.write(proposal(signal=near), proposal(position=1, signal=far))
    await store.write(race(rung(1, look("control", 0.0), look(FIRST, 0.0), look("kick@1", 0.0))))
    found = await _rejected(cast(Any, SimpleNamespace(store=store)), {"point": 1, "round": round_})
    await store.close()
    assert found == ({near.proposal_hash()} if rejected else set())


def test_the_signal_in_force_may_race_under_an_exploration_that_no_other_arm_has() -> None:
    in_force = Signal(exploration=Exploration(entropy=0.02, kick=0.05))
    own, none = Exploration(entropy=0.02), Exploration()
    taken = _explorations_taken(RaceConfig(kick=0.25), in_force)
    assert {own, none, Exploration(kick=0.25), Exploration(entropy=0.02, kick=0.25)} <= set(taken)
    assert {Exploration(kick=0.05), Exploration(entropy=0.1)}.isdisjoint(taken)
    alone = _explorations_taken(RaceConfig(kick_alone=False), in_force)
    assert none not in alone and own in alone


# ---------------------------------------------------------------- how policies learn


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"lr": 1e-4}, None),
        ({"share_parameters": False}, None),
        (
            {"advantage_norm": "minibatch"},
            r"must change something, but policies learn by {'advantage_norm': 'minibatch'}",
        ),
    ],
)
async def test_another_way_to_learn_needs_no_new_shaping_but_must_change_something(
    tmp_path: Path, settings: dict[str, Any], problem: str | None
) -> None:
    other = {**proposed("learn otherwise", "dist_goal"), "terms": [], "learner": settings}
    said = scripts() | {"generator": [proposals(other)] * 2, "ranker": []}
    await LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, nothing_helps), said).run()
    found = (await tables(tmp_path))["proposals"][0]["problems"]
    assert found == [] if problem is None else problem in found[0]
