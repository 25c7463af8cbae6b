"""When the loop intervenes, stage by stage."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.graphs.nodes.observe import has_lasting_shaping, trigger
from cosignal.rl.ipc.messages import TrainerStatus
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.stage import STAGES, Stage
from hypothesis import given
from hypothesis import strategies as st

NEAR = PotentialTerm(name="near", expression="-dist")
FADING = PotentialTerm(name="far", expression="-load", anneal_steps=50_000)
BONUS = EventTerm(name="bonus", event="found")
PATIENCE = 100_000
LIMITS: dict[str, Any] = {"patience": PATIENCE, "last_steps": 0, "cost": 100, "left": 100}


def status(stage: Stage, steps: int = PATIENCE, terms: tuple[Any, ...] = (NEAR,), **changes: Any) -> TrainerStatus:
    values = {
        "state": "waiting", "update": 100, "steps_main": steps, "steps_evaluation": 0, "steps_repeated": 0,
        "steps_trained": steps, "steps_budget": 1_000_000, "waiting_at": 100, "snapshot": "s", "stage": stage,
        "signal": Signal(terms=terms), "sparse_return": 1.0, "success_rate": 0.0,
    }  # fmt: skip
    return TrainerStatus.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("stage", "earliest", "removing"),
    [
        ("exploring", 100_000, False),
        ("plateaued", 100_000, False),
        ("regressing", 50_000, False),
        ("converged", 50_000, True),
        ("emerging", None, False),
        ("improving", None, False),
    ],
)
def test_each_stage_has_its_patience_and_its_purpose(stage: Stage, earliest: int | None, removing: bool) -> None:
    fires = {steps: trigger(status(stage, steps), **LIMITS) for steps in (49_999, 50_000, 99_999, 100_000, 900_000)}
    assert [steps for steps, found in fires.items() if found.fires] == [
        steps for steps in fires if earliest is not None and steps >= earliest
    ]
    assert {found.removing for found in fires.values() if found.fires} == ({removing} if earliest else set())


def test_convergence_is_left_alone_where_no_shaping_stays() -> None:
    for terms in ((), (FADING,), (BONUS,), (BONUS, FADING)):
        found = trigger(status("converged", terms=terms), **LIMITS)
        assert (found.fires, found.reason) == (
            False,
            "stage converged: nothing is wrong, and no shaping stays in force",
        )
    assert [has_lasting_shaping(Signal(terms=terms)) for terms in ((NEAR,), (BONUS, NEAR), (FADING, BONUS))] == [
        True,
        True,
        False,
    ]


def test_a_solved_task_is_no_reason_to_keep_shaping_but_one_not_to_repair() -> None:
    assert trigger(status("converged", success_rate=0.97), **LIMITS).fires
    assert trigger(status("plateaued", success_rate=0.97), **LIMITS).reason == "success rate 0.97: solved"


def test_a_refused_removal_rests_five_times_its_patience() -> None:
    """At half of 100 000 that is 250 000 main steps."""
    at = {steps: trigger(status("converged", steps), **LIMITS, refused=150_000) for steps in (399_999, 400_000)}
    assert [found.fires for found in at.values()] == [False, True]
    assert at[399_999].reason == "stage converged: removing this signal was refused at 150000 main steps"
    assert trigger(status("plateaued", 150_001), **LIMITS, refused=150_000).fires  # says nothing about repairs


def test_a_removal_must_be_paid_too() -> None:
    found = trigger(status("converged"), **{**LIMITS, "left": 99})
    assert (found.fires, found.reason) == (False, "a round costs 100 branch steps, adaptation.max_share leaves 99")


def test_what_branches_nothing_needs_no_budget() -> None:
    """Not even where others have overdrawn it."""
    assert trigger(status("converged"), **{**LIMITS, "cost": 0, "left": -5}).removing


STALLED: dict[str, Any] = {"stage": "plateaued", "steps_main": 200_000, "terms": ()}
STALLED_LIMITS = {**LIMITS, "patience": 160_000}


@pytest.mark.parametrize(
    ("changes", "limits", "reason"),
    [
        ({}, {}, "stage plateaued after 200000 main steps"),
        ({"stage": "exploring"}, {}, "stage exploring"),
        ({"stage": "regressing"}, {}, "stage regressing"),
        ({"success_rate": None}, {}, "stage plateaued"),
        ({"success_rate": 0.89}, {}, "stage plateaued"),
    ],
)
def test_it_fires_where_something_is_wrong(changes: Any, limits: Any, reason: str) -> None:
    decision = trigger(status(**{**STALLED, **changes}), **{**STALLED_LIMITS, **limits})
    assert decision.fires
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("changes", "limits", "reason"),
    [
        ({"stage": "emerging"}, {}, "nothing is wrong"),
        ({"stage": "improving"}, {}, "nothing is wrong"),
        ({"stage": "converged"}, {}, "nothing is wrong"),
        ({"success_rate": 0.9}, {}, "solved"),
        ({"steps_main": 159_999}, {}, "adaptation.patience is 160000"),
        ({}, {"last_steps": 40_001}, "159999 main steps since"),
        ({}, {"cost": 101}, "a round costs 101 branch steps, adaptation.max_share leaves 100"),
        ({}, {"left": -5}, "leaves 0"),
    ],
)
def test_it_does_not_fire(changes: Any, limits: Any, reason: str) -> None:
    decision = trigger(status(**{**STALLED, **changes}), **{**STALLED_LIMITS, **limits})
    assert not decision.fires
    assert reason in decision.reason


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**7), st.integers(-(10**6), 10**7))
def test_a_larger_budget_never_silences_a_trigger(steps: int, last: int, cost: int, left: int) -> None:
    def fires(left: int) -> bool:
        return trigger(
            status(**STALLED | {"steps_main": steps}), patience=100, last_steps=last, cost=cost, left=left
        ).fires

    assert fires(left) <= fires(left + 1)


@given(st.sampled_from(sorted(STAGES)), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_patience_never_fires_earlier(stage: Stage, steps: int, last: int, patience: int) -> None:
    def fires(patience: int) -> bool:
        limits = {**LIMITS, "patience": patience, "last_steps": last}
        return trigger(status(stage, steps), **limits).fires

    assert fires(patience + 1) <= fires(patience)
