"""The gate's rule on numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import ConfigError
from cosignal.rl.branches.gate import (
    Arm,
    Judgement,
    conclude,
    gain_bounds,
    is_informative,
    judge,
    judge_kick,
    look_levels,
    lower_bounds,
    screen,
    signal_kind,
    winner,
)
from cosignal.rl.ipc.messages import BranchResult
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm

MARGIN = 0.05


def arm(name: str, finals: list[float], successes: list[float] | None = None) -> Arm:
    return Arm(name=name, finals=dict(enumerate(finals)), successes=dict(enumerate(successes)) if successes else {})


def judged(
    finals: list[float],
    control: list[float] | None = None,
    successes: tuple[list[float], list[float]] | None = None,
    **more: Any,
) -> Judgement:
    how: dict[str, Any] = {"margin": MARGIN, "level": 0.05, "removal": False, "fork_return": 1.0, "return_width": 2.5}
    base = control if control is not None else [1.0] * len(finals)
    good, old = successes or (None, None)
    return judge(arm("p1-r0-0", finals, good), arm("control", base, old), **how | more)


# ------------------------------------------------------------ screening, levels


def test_screen_takes_the_best_means_and_keeps_the_order_of_ties() -> None:
    gains = {"a": [0.0, 1.0], "b": [0.9, 0.9], "c": [0.5, 0.5], "d": [-1.0, 0.0]}
    assert screen(gains, 2) == ["b", "a"]
    assert screen(gains, 3) == ["b", "a", "c"]
    assert screen({"x": [0.1]}, 2) == ["x"]


def test_look_levels_of_the_defaults() -> None:
    assert look_levels(0.1, (3, 5), 2) == pytest.approx([0.05 * 3 / 8, 0.05 * 5 / 8])
    # with two rounds the part of 3 seeds is 0.0094, below 4^-3 = 0.0156: the look only continues
    assert look_levels(0.1, (3, 5), 2, rounds=2) == pytest.approx([0.0, 0.025 * 0.625])
    assert look_levels(0.1, (5,), 1) == pytest.approx([0.05 * 0.625])
    assert look_levels(0.1, (2, 4), 2) == pytest.approx([0.0, 0.05 * 0.625])


@pytest.mark.parametrize("looks", [(3, 5), (4,), (3, 5, 8), (2, 4, 6)])
@pytest.mark.parametrize("finalists", [1, 2, 4])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_levels_never_sum_to_more_than_the_family_level(looks: tuple[int, ...], finalists: int, rounds: int) -> None:
    levels = look_levels(0.1, looks, finalists, rounds)
    assert sum(levels) * finalists * rounds <= 0.1 + 1e-12
    assert levels[-1] > 0


def test_no_halving_leaves_looks_that_decide() -> None:
    """As many finalists as candidates: each look keeps a level that four or six seeds can hold."""
    assert look_levels(0.1, (4, 6), 4, rounds=2) == pytest.approx([0.0125 * 0.4, 0.0125 * 0.6])
    # with eight, the part of 4 seeds is 0.0025, below 4^-4 = 0.0039: the look only continues
    assert look_levels(0.1, (4, 6), 8, rounds=2) == pytest.approx([0.0, 0.00625 * 0.625])


def test_looks_that_can_never_decide_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"gate.looks must have a look .*got \[2\].*judge on 5 seeds"):
        look_levels(0.1, (2,), 2)


# ------------------------------------------------------------ the statistic


def test_bounds_by_hand() -> None:
    # mean 2, sd 1, n 3; t_{0.95} with 2 degrees of freedom is 2.919986
    got = gain_bounds([1.0, 2.0, 3.0], 0.05, 0.0)
    reach = 2.919986 / np.sqrt(3)
    assert (got.mean, got.deviation, got.floored) == (2.0, 1.0, False)
    assert [got.t, got.reach, got.lower, got.upper] == pytest.approx([2.919986, reach, 2 - reach, 2 + reach], rel=1e-6)


def test_equal_gains_have_a_floor_of_spread() -> None:
    got = gain_bounds(np.full(4, 0.1), 0.05, 0.025)
    assert (got.deviation, got.floored) == (0.025, True)
    assert got.lower == pytest.approx(0.1 - 2.353363 * 0.025 / 2, rel=1e-6)


def test_without_a_level_the_bounds_are_infinite() -> None:
    got = gain_bounds([1.0, 2.0], 0.0, 0.1)
    assert (got.mean, got.t, got.reach, got.lower, got.upper) == (1.5, np.inf, np.inf, -np.inf, np.inf)


def test_the_lower_bounds_of_many_rows_are_those_of_each() -> None:
    gains = np.random.default_rng(0).normal(size=(3, 2, 5))
    rows = [[gain_bounds(row, 0.02, 0.9).lower for row in block] for block in gains]
    assert lower_bounds(gains, 0.02, 0.9).tolist() == rows


# ------------------------------------------------------------ judge


def test_accept() -> None:
    got = judged([2.7, 2.8, 2.75])
    assert got.verdict == "accept"
    assert got.gain == pytest.approx(1.75)
    assert got.lower == pytest.approx(1.75 - 2.919986 * 0.05 / np.sqrt(3), rel=1e-5)
    assert got.seeds == [0, 1, 2]
    assert got.explanation.startswith("p1-r0-0: gain +1.750 over 3 seeds, bounds +1.666 … +1.834 at level 0.05: accept")


def test_one_lucky_branch_is_no_proof() -> None:
    got = judged([1.0, 2.8, 1.0, 1.0, 1.0])
    assert got.verdict == "no_difference"
    assert "does not clear +0.05" in got.explanation


def test_a_gain_below_the_margin_is_no_difference_and_a_loss_is_rejected() -> None:
    assert judged([1.04] * 5).verdict == "no_difference"
    assert judged([1.08] * 5).verdict == "accept"
    assert judged([0.5] * 5).verdict == "reject"
    assert judged([0.98] * 5).verdict == "no_difference"


def test_a_potential_is_not_rejected_early() -> None:
    early = judged([0.2] * 5, kind="potential", horizon=50_000)
    assert early.verdict == "no_difference"
    assert "a potential may dip this early" in early.explanation
    assert judged([0.2] * 5, kind="event", horizon=50_000).verdict == "reject"
    assert judged([0.2] * 5, kind="potential", horizon=200_000).verdict == "reject"
    assert judged([0.2] * 5, kind="potential", horizon=50_000, removal=True).verdict == "reject"


def test_removal_needs_non_inferiority_only() -> None:
    same = [2.8, 2.81, 2.79, 2.8, 2.8]
    assert judged(same, same, fork_return=2.8).verdict == "no_difference"
    removal = judged(same, same, fork_return=2.8, removal=True)
    assert removal.verdict == "accept"
    assert "clears -0.05 (nothing is lost by removing)" in removal.explanation
    assert judged([x - 0.04 for x in same], same, removal=True).verdict == "no_difference"
    assert judged([x - 0.2 for x in same], same, removal=True).verdict == "reject"


def test_a_control_that_a_kick_has_wrecked_is_no_yardstick() -> None:
    """Gains of 1.5 over the control, but 0.5 below the fork at 1.0: mean −0.5, sd floored at 0.025, 5 seeds."""
    wrecked = judged([0.5] * 5, [-1.0] * 5, explores=True)
    assert wrecked.verdict == "no_difference"
    lower = -0.5 - 2.131847 * 0.025 / np.sqrt(5)  # t_{0.95} with 4 degrees of freedom
    assert f"against the fork before the new exploration -0.500, lower bound {lower:+.3f}" in wrecked.explanation
    assert judged([0.5] * 5, [-1.0] * 5).verdict == "accept"  # under the exploration in force: the control is the run
    assert judged([2.5] * 5, [-1.0] * 5, explores=True).verdict == "accept"
    # just inside and just outside: the bound of (final − fork) is 0.0238 below its mean, the margin 0.05
    assert judged([0.98] * 5, [-1.0] * 5, explores=True).verdict == "accept"
    assert judged([0.97] * 5, [-1.0] * 5, explores=True).verdict == "no_difference"
    # what one lucky branch lifts on average has not been shown to keep what the run had
    assert judged([0.2, 0.2, 0.2, 0.2, 4.6], [-3.0] * 5, explores=True).verdict == "no_difference"


def test_the_fork_only_withholds_an_acceptance() -> None:
    for finals, control in (([0.5] * 5, [1.0] * 5), ([1.02] * 5, [1.0] * 5), ([0.2] * 5, [0.2] * 5)):
        with_kick, without = judged(finals, control, explores=True), judged(finals, control)
        assert (with_kick.verdict, with_kick.lower) == (without.verdict, without.lower)
    assert judged([9.0] * 3, level=0.0, explores=True).verdict == "no_difference"


def test_success_must_not_fall() -> None:
    fell = judged([2.0] * 5, successes=([0.1, 0.2, 0.1, 0.1, 0.2], [0.5] * 5))
    assert fell.verdict == "reject"
    assert fell.success_change == pytest.approx(-0.36)
    assert "the success rate fell" in fell.explanation
    rose = judged([2.0] * 5, successes=([0.9] * 5, [0.5] * 5))
    assert (rose.verdict, rose.success_change) == ("accept", pytest.approx(0.4))
    noisy = judged([2.0] * 5, successes=([0.5, 0.4, 0.6, 0.4, 0.55], [0.5] * 5))
    assert noisy.verdict == "accept"
    assert judged([2.0] * 5).success_change is None


def test_only_common_seeds_count() -> None:
    got = judge(
        Arm(name="c", finals={0: 2.0, 1: 2.0, 7: -9.0}), Arm(name="control", finals={0: 1.0, 1: 1.5, 2: 9.0}),
        margin=MARGIN, level=0.1, removal=False, fork_return=1.0, return_width=2.5,
    )  # fmt: skip
    assert (got.seeds, got.gain) == ([0, 1], 0.75)
    with pytest.raises(ValueError, match=r"two common seeds, got \[0\]"):
        judged([1.0])


def test_a_look_without_level_decides_nothing() -> None:
    for finals in ([9.0] * 3, [-9.0] * 3):
        got = judged(finals, level=0.0)
        assert (got.verdict, got.lower, got.upper) == ("no_difference", None, None)
        assert "only continues" in got.explanation
        assert Judgement.model_validate_json(got.model_dump_json()) == got


def test_it_says_when_nothing_rose() -> None:
    assert "no branch of either arm rose" in judged([1.0] * 3).explanation
    assert "no branch" not in judged([1.0, 1.0, 2.8]).explanation


# ------------------------------------------------------------ the intervention


def judgement(verdict: str, gain: float = 0.0, name: str = "a") -> Judgement:
    return judged([1.0, 1.0]).model_copy(update={"verdict": verdict, "gain": gain, "arm": name})


def test_informative_is_five_percent_of_the_range_above_the_fork() -> None:
    arms = [arm("control", [1.0, 1.1]), arm("a", [1.0, 1.124])]
    assert not is_informative(arms, fork_return=1.0, return_width=2.5)
    assert is_informative([*arms, arm("b", [1.126])], fork_return=1.0, return_width=2.5)
    assert is_informative(arms, fork_return=2.75, return_width=2.5, best_return=2.83)  # solved, not collapsed
    assert not is_informative(arms, fork_return=2.0, return_width=2.5, best_return=2.83)


@pytest.mark.parametrize(
    ("verdicts", "informative", "conclusion"),
    [
        (["reject", "accept"], False, "accept"),
        (["reject", "no_difference"], False, "not_informative"),
        (["reject", "no_difference"], True, "no_difference"),
        (["reject", "reject"], True, "reject"),
    ],
)
def test_conclude(verdicts: list[str], informative: bool, conclusion: str) -> None:
    assert conclude([judgement(v) for v in verdicts], informative) == conclusion


def test_conclude_needs_a_judgement() -> None:
    with pytest.raises(ValueError, match="at least one finalist"):
        conclude([], True)


def test_the_winner_is_the_accepted_one_with_the_largest_gain() -> None:
    judgements = [judgement("accept", 1, "a"), judgement("reject", 5, "b"), judgement("accept", 2, "c")]
    best = winner([*judgements, judgement("accept", 2, "d")])
    assert best is not None
    assert best.arm == "c"
    assert winner([judgement("reject", 3)]) is None


def test_signal_kind() -> None:
    potential = PotentialTerm(name="a", expression="1")
    assert signal_kind(Signal(terms=(potential,))) == "potential"
    assert signal_kind(Signal(terms=(potential, EventTerm(name="b", event="e")))) == "event"


def test_an_arm_of_branch_results() -> None:
    result = BranchResult(
        key="k", arm="a", seed=4, horizon=10, signal=Signal(), final_return=1.5, success_rate=None,
        fork_return=1.0, curve=[], steps=10, steps_evaluation=2, end_state="x", end_update=3, cpu_s=0.1,
    )  # fmt: skip
    assert Arm.of("a", [result]) == Arm(name="a", finals={4: 1.5}, successes={4: None})


def test_the_kick_alone_is_judged_against_the_fork() -> None:
    """Gains 2.6 and 2.8 over the fork: mean 2.7, sd 0.1414; t(0.9, 1) = 3.078, so the lower bound is 2.392."""
    control = Arm(name="control", finals={0: 3.6, 1: 3.8})
    got = judge_kick(control, fork_return=1.0, margin=0.1, level=0.1)
    assert got.verdict == "accept"
    assert got.gain == pytest.approx(2.7)
    assert got.lower == pytest.approx(2.7 - 3.0777 * 0.14142 / 2**0.5, abs=1e-3)
    flat = Arm(name="control", finals={0: 1.0, 1: 1.01, 2: 1.0})
    assert judge_kick(flat, fork_return=1.0, margin=0.1, level=0.1).verdict == "no_difference"
    half = Arm(name="control", finals={0: 3.6, 1: 1.0, 2: 3.7, 3: 1.0})
    assert judge_kick(half, fork_return=1.0, margin=0.1, level=0.02).verdict == "no_difference"
    with pytest.raises(ValueError, match="two seeds"):
        judge_kick(Arm(name="control", finals={0: 1.0}), fork_return=1.0, margin=0.1, level=0.1)
