"""What an intervention costs, and how many a run can pay."""

from __future__ import annotations

import pytest
from cosignal.config import budget
from cosignal.config.adaptation import AdaptationConfig
from cosignal.rl.branches.config import BranchConfig, GateConfig, RaceConfig
from cosignal.rl.branches.horizon import LONG_HORIZON
from cosignal.rl.branches.survival import ArmHistory, survivors
from hypothesis import given
from hypothesis import strategies as st


def test_the_cost_of_an_intervention_by_hand() -> None:
    branches, looks, adaptation = (
        BranchConfig(screen_seeds=2, finalists=2),
        GateConfig(looks=(3, 5)),
        AdaptationConfig(),
    )
    last = budget.cost_of_intervention(branches, looks, adaptation, horizon=200_000)
    # 5 arms x 2 seeds x 100k; then 2 arms x (2 seeds x 100k more + 3 fresh seeds x 200k)
    assert last == (1_000_000, 1_600_000)
    assert last.total == 2_600_000
    both = budget.cost_of_intervention(branches, looks, adaptation, horizon=200_000, finalists=2)
    assert both == (1_000_000, 2_400_000)
    first = budget.cost_of_intervention(branches, looks, adaptation, horizon=200_000, look=0)
    assert first == (1_000_000, 800_000)  # 2 arms x (2 x 100k + 1 x 200k)


def test_an_odd_horizon_is_split_without_losing_a_step() -> None:
    branches, looks, adaptation = BranchConfig(), GateConfig(looks=(3, 5)), AdaptationConfig(candidates=1)
    cost = budget.cost_of_intervention(branches, looks, adaptation, horizon=7, look=0)
    assert cost == (2 * 2 * 3, 2 * (2 * 4 + 7))  # one candidate is the only finalist


def test_the_budget_is_a_share_of_all_steps() -> None:
    adaptation = AdaptationConfig(max_share=0.75)
    assert budget.branch_budget(adaptation, 1_000_000) == 3_000_000
    assert budget.steps_needed(adaptation, 3_000_000) == 1_000_000
    assert budget.affordable_interventions(adaptation, 2_200_000, 1_500_000) == 2


def test_the_cost_of_a_race_by_hand() -> None:
    """Four candidates, the kick and a fresh start, three at a time.

    Three candidates train 8 rungs each. Then the fourth and the kick do, beside the fresh start, which has 16.
    """
    race = RaceConfig(look_episodes=32, arms=3, rungs=8, longest=24)
    adaptation = AdaptationConfig(candidates=4, interval=16_384)
    assert (budget.race_arms(race, adaptation), budget.arms_at_a_time(race, adaptation)) == (6, 3)
    cost = budget.cost_of_race(race, adaptation)
    assert (cost.first, cost.whole) == (12 * 16_384, (24 + 32) * 16_384)
    # the fork, then arms and main line: 4 · 4; 56 + 8 + 16
    assert (cost.first_episodes, cost.whole_episodes) == (32 * 17, 32 * (1 + 56 + 24))


@pytest.mark.parametrize(
    ("settings", "rungs_of_arms", "rungs"),
    [
        ({"longest": 10}, 24 + 3 * 2, 10),  # cut off two rungs after the second three have joined
        ({"longest": 20}, 24 + 8 + 8 + 12, 20),  # cut off while the fresh start trains alone
        ({"arms": 9}, 5 * 8 + 16, 16),  # all at once
        ({"fresh_start": False}, 5 * 8, 16),  # two are left for the second time
        ({"kick_alone": False}, 4 * 8 + 16, 8 + 16),
        ({"arms": 1}, 24, 24),  # cut off after three of them
        ({"rungs": 20, "longest": 60}, 5 * 20 + 16, 20 + 20),  # the fresh start is dropped before the others
    ],
)
def test_a_race_of_other_settings_by_hand(settings: dict[str, object], rungs_of_arms: int, rungs: int) -> None:
    race = RaceConfig.model_validate({"arms": 3, "rungs": 8, "longest": 24, "look_episodes": 32} | settings)
    cost = budget.cost_of_race(race, AdaptationConfig(candidates=4, interval=1_000))
    assert (cost.whole, cost.whole_episodes) == (rungs_of_arms * 1_000, 32 * (1 + rungs_of_arms + rungs))


def test_under_the_overlap_clock_the_control_is_paid_too() -> None:
    race, adaptation = RaceConfig(arms=9, rungs=5), AdaptationConfig(candidates=2, interval=1_000)
    lockstep, overlap = budget.cost_of_race(race, adaptation), budget.cost_of_race(race, adaptation, overlap=True)
    # It goes on as long as the fresh start does.
    assert (overlap.first - lockstep.first, overlap.whole - lockstep.whole) == (4 * 1_000, 16 * 1_000)
    assert overlap.whole_episodes == lockstep.whole_episodes


def test_a_short_race_is_over_before_the_first_rungs_are() -> None:
    race = RaceConfig(rungs=2, kick_alone=False, fresh_start=False)
    cost = budget.cost_of_race(race, AdaptationConfig(candidates=1, interval=1_000))
    assert cost.first == cost.whole == 2_000
    assert budget.first_rungs(RaceConfig(rungs=12, longest=3)) == 3


@given(
    candidates=st.integers(1, 8), kick=st.booleans(), fresh=st.booleans(), arms=st.integers(1, 12),
    rungs=st.integers(1, 30), longest=st.integers(1, 30), interval=st.integers(1, 10**6),
)  # fmt: skip
def test_a_race_costs_what_its_rules_let_arms_train_that_never_rise(
    candidates: int, kick: bool, fresh: bool, arms: int, rungs: int, longest: int, interval: int
) -> None:
    race = RaceConfig(kick_alone=kick, fresh_start=fresh, arms=arms, rungs=rungs, longest=longest)
    adaptation = AdaptationConfig(candidates=candidates, interval=interval)
    cost, waiting = budget.cost_of_race(race, adaptation), ["candidate"] * (candidates + kick) + ["fresh_start"] * fresh
    trained, rung, age, racing = 0, 0, 0, list[str]()
    while rung < longest and (racing or waiting):
        if not racing:
            racing, waiting, age = waiting[:arms], waiting[arms:], 0
        trained, rung, age = trained + len(racing), rung + 1, age + 1
        histories = [
            ArmHistory(str(k), kind, means=[0.0] * age, sds=[0.0] * age, episodes=[16] * age, moved=[()] * age)
            for k, kind in enumerate(racing)
        ]
        dropped = survivors(histories, [0.0] * (rung + 1), margin=0.1, config=race)
        racing = [kind for k, kind in enumerate(racing) if str(k) not in dropped]
    assert 0 < cost.first <= cost.whole == trained * interval
    assert cost.whole_episodes == (1 + trained + rung) * race.look_episodes
    longer = budget.cost_of_race(race.model_copy(update={"longest": longest + 1}), adaptation)
    assert longer.whole >= cost.whole


def test_the_longest_horizon_is_the_gates() -> None:
    assert budget.horizon_to_plan_for(BranchConfig()) == LONG_HORIZON
    assert budget.horizon_to_plan_for(BranchConfig(horizon=50_000)) == 50_000


@given(
    share=st.floats(0.01, 0.99).map(lambda x: round(x, 3)),
    cost=st.integers(1, 10**8),
)
def test_the_steps_needed_are_the_fewest_that_pay(share: float, cost: int) -> None:
    adaptation = AdaptationConfig(max_share=share)
    steps = budget.steps_needed(adaptation, cost)
    assert budget.branch_budget(adaptation, steps) >= cost
    assert budget.branch_budget(adaptation, steps - 1) < cost
