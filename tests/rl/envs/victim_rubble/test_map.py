"""The map of Victim-Rubble."""

from __future__ import annotations

from cosignal.rl.envs.victim_rubble.map import START_CELLS, THINGS


def test_the_map_has_the_coordinates_of_the_papers_prompts() -> None:
    assert THINGS == ((1, 1), (11, 1), (8, 1), (9, 2), (6, 5))
    assert len(START_CELLS) == 14
