"""How many branches a round of the gate runs: no seed that could not change a verdict, and all that can."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cosignal.rl.branches.config import GateConfig
from cosignal.rl.branches.jobs import CONTROL
from cosignal.rl.ipc.messages import BranchJob
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession
from loop_runs import nothing_helps, scripts, tables, titles


async def full_branches(tmp_path: Path, pool: FakeBranchPool, gate: GateConfig | None = None) -> Counter[str]:
    """Run one round and return how many full branches each arm got."""
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), pool, scripts(1))
    adaptation = session.config.adaptation.model_copy(update={"rounds": 1})
    update = {"adaptation": adaptation, "gate": gate or session.config.gate}
    session.config = session.config.model_copy(update=update)
    await session.run()
    first = min(job.fork for job in pool.jobs)
    return Counter(job.arm for job in pool.jobs if job.horizon == 60_000 and job.fork == first)


async def test_where_nothing_differs_the_finalists_are_given_up_after_two_seeds(tmp_path: Path) -> None:
    """Twice a gain of 0: no other gains bring the bound of 3 or of 5 seeds above the margin."""
    got = await full_branches(tmp_path, FakeBranchPool(tmp_path, nothing_helps))
    assert sorted(got.values()) == [2, 2, 2]
    [decision] = (await tables(tmp_path))["decisions"]
    for judged in decision["detail"]["judgements"]:
        assert (judged["verdict"], judged["seeds"], judged["lower"]) == ("no_difference", [0, 1], None)
        assert "no gain on further seeds, up to 5, could decide it" in judged["explanation"]


async def test_what_may_yet_be_accepted_is_run_to_the_last_look(tmp_path: Path) -> None:
    """One seed of three gains nothing, so that three seeds prove nothing; five do."""

    def gain(job: BranchJob) -> float:
        if titles(job) != "-dist_goal / 17":
            return 0.0
        return 1.0 if job.seed == 2 else 1.7

    pool = FakeBranchPool(tmp_path, gain)
    got = await full_branches(tmp_path, pool, GateConfig(claim="signal", looks=(4, 6)))
    [decision] = (await tables(tmp_path))["decisions"]
    [accepted] = [judged for judged in decision["detail"]["judgements"] if judged["verdict"] == "accept"]
    assert got[CONTROL] == got[accepted["arm"]] == len(accepted["seeds"])
    assert len(accepted["seeds"]) in (4, 6)


async def test_a_kick_is_judged_on_all_its_seeds_though_the_finalists_are_given_up(tmp_path: Path) -> None:
    """Every arm rises by the kick. The control is run to the last look, no finalist beyond two seeds."""
    got = await full_branches(tmp_path, FakeBranchPool(tmp_path, nothing_helps, kick_revives=True))
    assert got.pop(CONTROL) == 5
    assert list(got.values()) == [2, 2]
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], decision["winner"]) == ("accept", CONTROL)
