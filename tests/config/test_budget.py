"""What an intervention costs, and how many a run can pay."""

from __future__ import annotations

from cosignal.config import budget
from cosignal.config.adaptation import AdaptationConfig
from cosignal.rl.branches.config import BranchConfig, GateConfig
from cosignal.rl.branches.horizon import LONG_HORIZON
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
    assert budget.affordable_interventions(adaptation, budget.InterventionCost(1_000_000, 1_200_000), 1_500_000) == 2


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
