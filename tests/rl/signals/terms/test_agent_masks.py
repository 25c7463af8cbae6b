"""Which agents a term applies to, and what is said where that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.errors import SignalError
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.task import TaskSpec


def potential(expression: str, **more: Any) -> PotentialTerm:
    return PotentialTerm(**{"name": "phi", "expression": expression, **more})


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (potential("-dits"), "reads feature 'dits', which this task does not have; did you mean 'dist'"),
        (potential("min_mates(zzz)"), r"'zzz', which this task does not have; it has \['dist', 'load', 'seen'\]"),
        (potential("load + seen"), r"needs features \['load', 'seen'\] in one group"),
        (potential("seen", agents="lifters"), "group 'lifters' lacks"),
        (potential("seen", agents=["scout_0", "lifter_0"]), "group 'lifters' lacks"),
        (potential("dist", agents="scuots"), "got 'scuots'; did you mean 'scouts'"),
        (potential("dist", agents="scout_0"), r"got 'scout_0'; write one agent as a list: \[scout_0\]"),
        (potential("dist", agents=["scout_7"]), "no agent is called 'scout_7'; did you mean"),
        (potential("dist", agents=[]), "at least one agent"),
        (
            EventTerm(name="e", event="fuond"),
            "reads event 'fuond', which this task does not have; did you mean 'found'",
        ),
        (EventTerm(name="e", event="found", agents="lifters"), "group 'lifters' lacks some of its events"),
    ],
)
def test_signals_that_do_not_fit_the_task(spec: TaskSpec, term: Any, message: str) -> None:
    with pytest.raises(SignalError, match=message):
        CompiledSignal(Signal(terms=(term,)), spec)
