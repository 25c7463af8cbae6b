"""The numbers of a learning curve, and one short training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cosignal.studies.lca.arms import TASKS, LcaArm
from cosignal.studies.lca.curves import half_way, train_curve
from made_up_curves import curve

TWO_SWITCH = TASKS["two_switch"]


def test_r_is_of_the_last_tenth_and_the_area_of_all_of_the_budget() -> None:
    one = curve(*[0.0] * 9, 4.0)
    assert one.last(one.returns) == 4.0
    assert one.steps_to(2.0) == 10_000 and one.steps_to(0.0) == 1000
    assert one.steps_to(4.1) == 10_000  # never: counted at the budget
    assert one.area == pytest.approx(0.2, abs=0.01)  # a ramp in the last tenth: 4 / 2 / 10
    assert one.at(np.array([9500.0])).tolist() == [2.0]


def test_half_of_the_optimum_is_on_the_axis_where_the_optimum_is_zero() -> None:
    assert half_way(TWO_SWITCH) == pytest.approx(2.415)
    assert half_way(TASKS["pistonball"]) == -6.5


@pytest.mark.usefixtures("one_thread")
def test_the_same_seed_gives_the_same_curve() -> None:
    task = replace(TWO_SWITCH, steps=6000, counts=(60,), window=5)
    arm = LcaArm("a", "A", queries=4, accuracy=0.8)
    one, other = (train_curve(task, arm, 2) for _ in range(2))
    assert one == other and one.pair_steps > 0 and len(one.agreement) == 1
    assert one.steps[-1] >= 6000
    assert train_curve(task, replace(arm, queries=0), 2).returns != one.returns
