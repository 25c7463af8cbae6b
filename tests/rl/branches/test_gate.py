"""The gate's rule on numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import ConfigError
from cosignal.rl.branches.gate import (
    Arm,
    Judgement,
    can_clear,
    conclude,
    gain_bounds,
    is_informative,
    judge,
    judge_kick,
    look_levels,
    lower_bounds,
    screen,
    sd_floor,
    signal_kind,
    winner,
)
from cosignal.rl.ipc.messages import BranchResult
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

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


@given(
    level=st.floats(0.01, 0.49),
    looks=st.lists(st.integers(2, 20), min_size=1, max_size=6, unique=True).map(sorted),
    finalists=st.integers(1, 6),
    rounds=st.integers(1, 4),
)
def test_whatever_the_looks_their_levels_sum_to_a_finalists_share_at_most(
    level: float, looks: list[int], finalists: int, rounds: int
) -> None:
    try:
        levels = look_levels(level, looks, finalists, rounds)
    except ConfigError:
        return
    assert sum(levels) <= level / (max(finalists, 2) * rounds) + 1e-12
    assert all(share == 0 or share >= 4.0**-seeds for seeds, share in zip(looks, levels, strict=True))


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


# ------------------------------------------------------------ no seed too many

GAINS = st.lists(st.floats(-2.0, 2.0).map(lambda gain: round(gain, 3)), min_size=2, max_size=6).map(np.array)


def test_what_can_still_be_cleared_by_hand() -> None:
    """Mean 2, squares 4, 4 of 6 seeds; t(0.95; 5) = 2.015048: 2 - √(4·(2.015048²/30 - 2/24)) = 1.543869."""
    gains = np.array([1.0, 1.0, 3.0, 3.0])
    assert can_clear(gains, 1.5438, 0.05, 6)
    assert not can_clear(gains, 1.5439, 0.05, 6)
    # two of six: 2.015048²/30 = 0.135 is below 4/12, so that high gains of the others clear any bar
    assert can_clear(np.array([-1.0, 1.0]), 1e6, 0.05, 6)
    # two of four at level 0.01: t(0.99; 3) = 4.540703, 4.540703²/12 - 2/8 = 1.468; equal gains stay what they are
    assert not can_clear(np.array([0.1, 0.1]), 0.1, 0.01, 4)
    assert can_clear(np.array([0.11, 0.11]), 0.1, 0.01, 4)
    assert not can_clear(np.array([9.0, 9.0]), 0.0, 0.0, 4)


def test_many_rows_at_once_are_those_of_each() -> None:
    gains = np.random.default_rng(1).normal(size=(20, 3, 4))
    got = can_clear(gains, 0.1, 0.02, 6)
    assert got.shape == (20, 3)
    assert got.any()
    assert not got.all()
    assert [[bool(can_clear(row, 0.1, 0.02, 6)) for row in block] for block in gains] == got.tolist()


@given(GAINS, st.integers(1, 4), st.sampled_from([0.004, 0.02, 0.1, 0.3]), st.floats(-1.0, 1.0))
def test_no_gains_to_come_clear_what_cannot_be_cleared(gains: Any, more: int, level: float, bar: float) -> None:
    """Against a search over equal gains, and over random ones."""

    def lower(others: Any) -> float:
        return gain_bounds([*gains, *others], level, 0.0).lower

    best = -minimize_scalar(
        lambda gain: -lower(np.full(more, gain)), bounds=(-200.0, 200.0), method="bounded", options={"xatol": 1e-9}
    ).fun
    drawn = max(lower(gains.mean() + scale * np.random.default_rng(0).normal(size=more)) for scale in (0.1, 1.0, 9.0))
    n = len(gains) + more
    if not can_clear(gains, bar, level, n):
        assert max(best, drawn) <= bar + 1e-6
    if best > bar + 1e-6:
        assert can_clear(gains, bar, level, n)


@given(GAINS, st.integers(0, 4), st.floats(0.001, 0.4), st.floats(-1.0, 1.0))
def test_what_is_cleared_now_can_be_cleared_later(gains: Any, more: int, level: float, bar: float) -> None:
    if gain_bounds(gains, level, sd_floor(MARGIN)).lower > bar + 1e-9:
        assert can_clear(gains, bar, level, len(gains) + more)


RETURNS = st.lists(st.sampled_from([0.9, 1.0, 1.02, 1.1, 1.5, 2.8]), min_size=6, max_size=6)
RATES = st.lists(st.sampled_from([0.0, 0.5, 0.9, 1.0]), min_size=6, max_size=6)


@given(
    RETURNS, RETURNS, st.none() | st.tuples(RATES, RATES), st.booleans(), st.booleans(), st.sampled_from([None, 20_000])
)
def test_seed_by_seed_the_verdict_is_that_of_all_seeds(
    finals: list[float],
    control: list[float],
    successes: tuple[list[float], list[float]] | None,
    removal: bool,
    explores: bool,
    horizon: int | None,
) -> None:
    looks = [(4, 0.05), (6, 0.1)]

    def at(n: int, level: float) -> Judgement:
        known = None if successes is None else (successes[0][:n], successes[1][:n])
        ahead = [look for look in looks if look[0] > n]
        more = {"level": level, "removal": removal, "explores": explores, "horizon": horizon, "ahead": ahead}
        return judged(finals[:n], control[:n], known, **more)

    first = at(4, 0.05)
    expected = first.verdict if first.verdict != "no_difference" else at(6, 0.1).verdict
    for n in range(2, 7):
        got = at(n, dict(looks).get(n, 0.0))
        if got.verdict != "no_difference" or not got.is_open:
            break
    assert got.verdict == expected


def test_a_judgement_says_that_no_seed_can_decide_it() -> None:
    ahead = [(4, 0.01), (6, 0.015)]
    got = judged([1.0] * 3, level=0.0, ahead=ahead)
    assert (got.verdict, got.is_open) == ("no_difference", False)
    assert "no gain on further seeds, up to 6, could decide it" in got.explanation
    assert "is_open" not in got.model_dump()  # no part of the record
    assert judged([1.0, 1.2, 1.3], level=0.0, ahead=ahead).is_open
    assert judged([1.0, 0.2, 0.3], level=0.0, ahead=ahead).is_open  # it may yet be rejected
    # a potential is not rejected this early, so that nothing is left to find out
    assert not judged([1.0, 0.2, 0.3], level=0.0, ahead=ahead, horizon=20_000).is_open


def test_the_kicks_verdict_is_open_while_the_control_may_rise() -> None:
    ahead = [(6, 0.015)]
    how: dict[str, Any] = {"fork_return": 1.0, "margin": 0.1, "level": 0.015, "ahead": ahead}
    assert judge_kick(arm("control", [2.8, 2.7, 1.0]), **how).is_open
    assert not judge_kick(arm("control", [1.0, 1.0, 1.0]), **how).is_open
