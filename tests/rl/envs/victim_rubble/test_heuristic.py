"""The rules of the heuristic, and how well it plays."""

from __future__ import annotations

from statistics import mean

from cosignal.rl.envs.grid.map import AGENTS, FORWARD, INTERACT, STAY
from cosignal.rl.envs.victim_rubble.game import VictimRubbleGame
from cosignal.rl.envs.victim_rubble.heuristic import Scene, VictimRubbleHeuristic

EAST, SOUTH, WEST, NORTH = range(4)


def steps_to_the_end(seed: int) -> int:
    game, heuristic = VictimRubbleGame(seed), VictimRubbleHeuristic()
    while True:
        scene = Scene((game.poses[0], game.poses[1]), game.flags)
        outcome = game.step([heuristic.act(agent, scene) for agent in AGENTS])
        assert not outcome.truncated
        if outcome.terminated:
            return game.clock


def test_the_heuristic_solves_every_episode_in_28_steps_on_average() -> None:
    """The exact joint optimum is 28.0 on average, 24 to 31."""
    steps = [steps_to_the_end(seed) for seed in range(300)]
    assert abs(mean(steps) - 28.0) < 0.2
    assert min(steps) >= 24
    assert max(steps) <= 31


def judged(agent: str, before: Scene, action: int, pose: tuple[int, int, int]) -> int:
    poses = (pose, before.poses[1]) if agent == "green" else (before.poses[0], pose)
    return VictimRubbleHeuristic().prefers(agent, before, action, Scene(poses, before.flags))


def test_single_moves_are_judged_by_the_rules() -> None:
    start = Scene(((4, 2, WEST), (6, 1, EAST)), 0)
    assert judged("green", start, FORWARD, (3, 2, WEST)) == 1  # to the free victim
    assert judged("green", start, 2, (4, 2, NORTH)) == -1
    assert judged("orange", start, FORWARD, (7, 1, EAST)) == 1  # to the rubble in the gap
    assert judged("orange", start, INTERACT, (6, 1, EAST)) == 0  # nothing is faced
    at_rubble = Scene(((5, 1, EAST), (7, 1, EAST)), 1)
    assert judged("orange", at_rubble, INTERACT, (7, 1, EAST)) == 1
    assert judged("green", at_rubble, 1, (5, 1, NORTH)) == 0  # waits where it should, whatever it does
    harmless = Scene(((5, 1, EAST), (6, 4, SOUTH)), 1)
    assert judged("orange", harmless, INTERACT, (6, 4, SOUTH)) == 1
    strict = VictimRubbleHeuristic(strict_order=True)
    assert strict.prefers("orange", harmless, INTERACT, harmless) == -1
    assert VictimRubbleHeuristic().act("orange", Scene(harmless.poses, 0b11100)) == STAY
