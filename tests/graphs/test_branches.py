"""The exploration of a round."""

from __future__ import annotations

from cosignal.graphs.branches import kept_exploration, round_exploration
from cosignal.rl.signals.signal import Exploration, Signal


def test_the_first_ranked_exploration_is_everybodys() -> None:
    kick, entropy = Exploration(kick=0.05), Exploration(entropy=0.05)
    in_force = Signal(exploration=Exploration(entropy=0.02, kick=0.1))
    assert round_exploration([Exploration(), kick, entropy], in_force) == kick
    assert round_exploration([Exploration()], in_force) == Exploration(entropy=0.02)  # kept, and no second kick
    assert kept_exploration(Signal()) == Exploration()
