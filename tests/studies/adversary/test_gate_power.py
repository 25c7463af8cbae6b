"""The gate holds its level on noise and sees what helps: Monte Carlo on zero-inflated returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cosignal.rl.branches.config import BranchConfig, GateConfig
from cosignal.rl.branches.gate import Arm, judge, look_levels
from cosignal.studies.adversary.gate_power import GatePower, judge_many, power, spending_levels, zero_inflated

MARGIN = 0.05
LEVEL = 0.1
TRIALS = 4000
TOLERANCE = 3 * (LEVEL * (1 - LEVEL) / TRIALS) ** 0.5  # three binomial standard errors


def simulate(
    escaped: float, *, looks: tuple[int, ...] = (3, 5), rounds: int = 1, carry: float = 1.0, finalists: int = 2
) -> GatePower:
    return power(
        zero_inflated(escaped),
        margin=MARGIN,
        gate=GateConfig(level=LEVEL, looks=looks),
        branches=BranchConfig(finalists=finalists),
        rounds=rounds,
        carry=carry,
        trials=TRIALS,
        rng=np.random.default_rng(0),
    )


def test_the_stand_in_returns_are_zero_inflated() -> None:
    returns = zero_inflated(0.05)
    assert len(returns) == 200
    assert int((returns > 2.4).sum()) == 10
    assert returns[:190].mean() == pytest.approx(1.0, abs=1e-9)
    assert returns[:190].std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("carry", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("escaped", [0.0, 0.05, 0.3, 0.5, 0.7])
def test_the_level_holds_on_noise(escaped: float, rounds: int, carry: float) -> None:
    got = simulate(escaped, rounds=rounds, carry=carry)
    assert got.accept_null <= LEVEL + TOLERANCE
    assert got.accept_margin <= LEVEL + TOLERANCE


@pytest.mark.parametrize(("looks", "finalists"), [((5,), 2), ((2, 4), 2), ((5, 8), 2), ((3, 5), 1), ((3, 5), 4)])
def test_the_level_holds_for_other_looks_and_finalists(looks: tuple[int, ...], finalists: int) -> None:
    for escaped in (0.0, 0.5):
        got = simulate(escaped, looks=looks, finalists=finalists)
        assert max(got.accept_null, got.accept_margin) <= LEVEL + TOLERANCE


@pytest.mark.parametrize("escaped", [0.0, 0.05])
def test_power_grows_with_the_gain(escaped: float) -> None:
    got = simulate(escaped)
    rates = [rate for _, rate in got.power]
    assert [shift for shift, _ in got.power] == [1, 2, 4]
    assert rates == sorted(rates)
    assert rates[1] > 0.4
    assert rates[2] > 0.6


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_candidate_that_escapes_is_seen(rounds: int) -> None:
    """Nine of ten branches escape where one control branch of twenty does."""
    assert simulate(0.05, rounds=rounds).power_mode > 0.75


def test_returns_without_modes_are_accepted_too() -> None:
    got = power(
        np.linspace(1.0, 1.1, 50), margin=MARGIN, gate=GateConfig(), branches=BranchConfig(), trials=500,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert got.accept_null <= LEVEL
    assert got.power_mode > 0.75


def test_the_simulation_judges_as_the_gate_does() -> None:
    """One candidate, one look: the simulated rate is the share that `judge` accepts."""
    gate, branches = GateConfig(looks=(5,)), BranchConfig(finalists=1)
    returns = zero_inflated(0.4)
    simulated = power(
        returns, margin=MARGIN, gate=gate, branches=branches, candidates=1, trials=20_000, rng=np.random.default_rng(1)
    )
    (level,) = look_levels(gate.level, gate.looks, branches.finalists)
    rng, accepted = np.random.default_rng(2), 0
    for _ in range(400):
        a, b = (Arm(name=name, finals=dict(enumerate(rng.choice(returns, 5)))) for name in ("a", "control"))
        got = judge(a, b, margin=MARGIN, level=level, removal=False, fork_return=1.0, return_width=2.5)
        accepted += got.verdict == "accept"
    assert accepted / 400 == pytest.approx(simulated.accept_null, abs=0.02)


@pytest.mark.parametrize("escaped", [0.0, 0.05, 0.5])
def test_seed_by_seed_the_same_is_accepted_with_a_third_fewer_steps(escaped: float) -> None:
    def at(sequential: bool) -> GatePower:
        return power(
            zero_inflated(escaped),
            margin=0.1,
            gate=GateConfig(),
            branches=BranchConfig(),
            rounds=2,
            trials=1000,
            sequential=sequential,
            rng=np.random.default_rng(0),
        )

    steps = {"steps_null", "steps", "steps_mode"}
    now, before = at(True), at(False)
    assert now.model_dump(exclude=steps) == before.model_dump(exclude=steps)
    assert now.steps_null < 2 / 3 * before.steps_null
    assert now.steps_mode < before.steps_mode
    assert all(a <= b for (_, a), (_, b) in zip(now.steps, before.steps, strict=True))


def test_the_steps_of_a_round_by_hand() -> None:
    """Five arms on 2 seeds for half the horizon are 5 horizons. Nothing differs: two finalists get 3 seeds, of which 2
    are continued, and so does the control: 3 · (2/2 + 1) = 6. With all seeds of both looks: 3 · (2/2 + 4) = 15."""
    how: dict[str, Any] = {"margin": 0.1, "gate": GateConfig(), "branches": BranchConfig(), "rounds": 2, "trials": 10}
    for sequential, steps in ((True, 11.0), (False, 20.0)):
        got = power(np.full(9, 1.0), **how, sequential=sequential, rng=np.random.default_rng(0))
        assert got.steps_null == steps


def test_many_finalists_are_judged_as_one_is() -> None:
    looks = [(4, 0.01), (6, 0.015)]
    gains = np.random.default_rng(3).choice([0.0, 0.02, 0.2, 1.6, -1.6], (300, 6))
    got = judge_many(gains, looks, MARGIN)
    assert set(got.seeds.tolist()) == {3, 4, 5, 6}
    for row, accepted, seeds in zip(gains, got.accepted, got.seeds, strict=True):
        for n in range(2, 7):
            candidate = Arm(name="a", finals=dict(enumerate(row[:n])))
            control = Arm(name="control", finals=dict.fromkeys(range(n), 0.0))
            judgement = judge(
                candidate, control, margin=MARGIN, level=dict(looks).get(n, 0.0), removal=False, fork_return=1.0,
                return_width=2.5, ahead=[look for look in looks if look[0] > n],
            )  # fmt: skip
            if judgement.verdict != "no_difference" or not judgement.is_open:
                break
        assert (n, judgement.verdict == "accept") == (seeds, accepted)


def test_the_first_look_spends_what_the_spending_functions_say() -> None:
    """Of 0.025 after 4 of 6 seeds: 0.025·ln(1 + 1.71828·2/3) = 0.01908, and 2 - 2·Φ(2.24140/√(2/3)) = 0.00605."""
    rng = np.random.default_rng(0)
    pocock = spending_levels(0.025, (4, 6), "pocock", rng, draws=100_000)
    cautious = spending_levels(0.025, (4, 6), "obrien_fleming", rng, draws=100_000)
    assert pocock[0] == pytest.approx(0.01908, rel=0.1)
    assert cautious[0] == pytest.approx(0.00605, rel=0.15)
    assert cautious[1] > pocock[1]
    assert spending_levels(0.025, (3, 6), "obrien_fleming", rng, draws=10_000)[0] == 0.0  # below 4⁻³


def test_spending_holds_its_share_on_other_normal_gains() -> None:
    levels = spending_levels(0.025, (4, 5, 6), "pocock", np.random.default_rng(0), draws=100_000)
    gains = np.random.default_rng(1).standard_normal((100_000, 6))
    looks = list(zip((4, 5, 6), levels, strict=True))
    got = judge_many(gains, looks, margin=1e-9)
    assert got.accepted.mean() == pytest.approx(0.025, abs=0.002)
    # Bonferroni over the looks would spend no more than the sum
    assert sum(levels) > 0.025


RECORDED = json.loads((Path(__file__).parents[2] / "data" / "control_returns.json").read_text())["returns"]


@pytest.mark.parametrize("rounds", [1, 2])
def test_on_recorded_control_returns_the_shipped_gate_holds_its_level_and_is_not_blind(rounds: int) -> None:
    """3 of 17 recorded branches escaped; the margin is 2 % of the task's return range, 5."""
    shipped = GateConfig()
    got = power(
        RECORDED,
        margin=shipped.margin * 5,
        gate=shipped,
        branches=BranchConfig(),
        rounds=rounds,
        trials=TRIALS,
        rng=np.random.default_rng(0),
    )
    assert got.accept_null <= shipped.level + TOLERANCE
    assert got.accept_margin <= shipped.level + TOLERANCE
    shifts = dict(got.power)
    assert shifts[1] < shifts[4]
    assert shifts[4] > 0.1
    assert got.power_mode > 0.7  # a signal under which 90 % of the branches escape where 5 % did
