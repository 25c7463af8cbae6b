"""The gate holds its level on noise and sees what helps: Monte Carlo on zero-inflated returns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cosignal.rl.branches.config import BranchConfig, GateConfig
from cosignal.rl.branches.gate import Arm, judge, look_levels
from cosignal.studies.adversary.gate_power import GatePower, power, zero_inflated

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
