"""The study of the policy claim: its simulations by what they must count, and its level on a few runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cosignal.rl.branches.config import RaceConfig
from cosignal.rl.branches.gate import Floats
from cosignal.rl.branches.policy_claim import confirmation_level
from cosignal.studies.adversary import policy_power
from cosignal.studies.adversary.policy_power import (
    MARGIN,
    NULLS,
    as_shipped,
    bets,
    episodes_needed,
    false_adoption,
    normal,
    of_size,
    oscillating_adoptions,
    pairs,
    power,
    run_policy_power,
    student,
    two_valued,
    undeclared,
)
from scipy import stats

RACE = RaceConfig()


def first_size(claim: policy_power.Claim) -> policy_power.Confirm:
    return of_size(claim, RACE.confirm_episodes)


@pytest.mark.parametrize("kind", NULLS)
def test_arms_of_a_null_have_a_gain_of_just_the_margin(kind: str) -> None:
    rng = np.random.default_rng(0)
    arm, main = (side(rng, 400_000) for side in NULLS[kind])
    error = np.sqrt((arm.var() + main.var()) / 400_000)
    assert arm.mean() - main.mean() == pytest.approx(MARGIN, abs=3 * error + 1e-3)
    assert min(arm.min(), main.min()) >= -1.0
    assert max(arm.max(), main.max()) <= 4.0


def test_every_confirmation_spends_its_level_and_the_first_that_is_proven_is_the_last() -> None:
    levels: list[float] = []

    def proves(after: int) -> Callable[[Floats, Floats, float], bool]:
        def claim(x: Floats, y: Floats, level: float) -> bool:
            assert (len(x), len(y)) == (RACE.confirm_episodes, RACE.confirm_episodes)
            levels.append(level)
            return len(levels) > after

        return claim

    arm, main = NULLS["normal"]
    assert false_adoption(arm, main, first_size(proves(3)), RACE, np.random.default_rng(0)) == (True, 4)
    assert levels == [confirmation_level(RACE.error, number) for number in (1, 2, 3, 4)]


def test_arms_that_look_no_better_are_not_confirmed() -> None:
    same = two_valued(1.0, 1.0, 0.0)
    assert false_adoption(same, same, first_size(lambda *_: True), RACE, np.random.default_rng(0)) == (False, 0)


def test_an_oscillating_main_line_is_beaten_falsely_by_a_claim_that_believes_looks_and_not_by_bets() -> None:
    rng = np.random.default_rng(0)
    race = RACE.model_copy(update={"look_episodes": 4})
    believed = [oscillating_adoptions(first_size(lambda *_: True), race, rng) for _ in range(10)]
    assert sum(false for _, false, _ in believed) > 5
    honest = [oscillating_adoptions(as_shipped(race), race, rng) for _ in range(10)]
    assert sum(adopted for adopted, _, _ in honest) > 0
    assert sum(false for _, false, _ in honest) == 0


@pytest.mark.parametrize("confirm", [as_shipped(RACE), *map(first_size, (bets, undeclared, pairs))])
def test_runs_of_races_stay_below_their_error_and_t_fails_where_a_catastrophe_is_rare(
    confirm: policy_power.Confirm,
) -> None:
    """Thirty runs of each claim; t believes an arm that fails in one episode of fifty."""
    arm, main = NULLS["heavy tail"]
    rng = np.random.default_rng(0)
    assert sum(false_adoption(arm, main, confirm, RACE, rng)[0] for _ in range(30)) <= 3
    arm, main = NULLS["rare catastrophe"]
    fooled = sum(false_adoption(arm, main, first_size(student), RACE, np.random.default_rng(0))[0] for _ in range(5))
    assert fooled == 5


def test_the_shipped_confirmation_goes_on_only_while_more_episodes_may_prove_something() -> None:
    rng, level = np.random.default_rng(0), confirmation_level(RACE.error, 1)
    confirm, main = as_shipped(RACE), two_valued(1.0, 1.0, 0.0)
    assert confirm(two_valued(1.8, 1.8, 0.0), main, level, rng) == (True, 64)
    assert confirm(two_valued(1.2, 1.2, 0.0), main, level, rng) == (True, 192)  # two margins: the table of sizes
    assert confirm(two_valued(1.1, 1.1, 0.0), main, level, rng) == (False, 64)  # no number of episodes would do
    assert confirm(two_valued(1.13, 1.13, 0.0), main, level, rng) == (False, 64)


def test_students_t_is_that_of_scipy_but_for_its_floor() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = rng.normal(1.4, 0.5, 30), rng.normal(1.0, 0.9, 40)
        p = stats.ttest_ind(x - MARGIN, y, equal_var=False, alternative="greater").pvalue
        assert student(x, y, 0.05) == (p < 0.05)
    # constant returns: the deviation is half the margin, so t × 0.05 √(2/64) is 0.017 at level 0.03
    assert student(np.full(64, 1.12), np.full(64, 1.0), 0.03)
    assert not student(np.full(64, 1.116), np.full(64, 1.0), 0.03)


def test_power_grows_with_the_gain_and_fewer_episodes_are_needed_for_more() -> None:
    rng = np.random.default_rng(0)
    arms = [normal(1.5 + gain * MARGIN, 0.3) for gain in (1, 3, 6)]
    main = normal(1.5, 0.3)
    rates = [power(arm, main, of_size(bets, 64), 0.03, 40, rng) / 40 for arm in arms]
    assert rates == sorted(rates)
    assert rates[0] <= 0.1
    assert rates[2] > 0.8
    needed = [episodes_needed(arm, main, bets, 0.03, 20, rng) for arm in arms[1:]]
    assert None not in needed
    assert needed[0] > needed[1]  # type: ignore[operator]


def test_the_study_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(policy_power, "NULLS", {"normal": NULLS["normal"]})
    solved = policy_power.ARMS_THAT_HELP["stalled, all solve"]
    monkeypatch.setattr(policy_power, "ARMS_THAT_HELP", {"stalled, all solve": solved})
    told: list[str] = []
    result = run_policy_power(2, told.append)
    rows = {row["id"]: row for row in result["rows"]}
    assert rows["normal.bets, 64 to 384"]["seeds"] == 2
    assert rows["1: stalled, all solve.bets, 64"]["mean"] == 1.0
    assert rows["1: stalled, all solve.episodes"]["mean"] == 64
    assert result["needed"]["stalled, all solve"]["bets"]["1"] == 16
    assert "| stalled, all solve | 16 |" in (tmp_path / "studies_out" / "policy-power" / "table.md").read_text()
    assert result["command"] == "cosignal study policy-power --seeds 2 --json"
