"""A hand-written player of Relay, so that tests see the far end of the task."""

from __future__ import annotations

from cosignal.rl.envs.grid.game import moved
from cosignal.rl.envs.grid.map import FORWARD, INTERACT, STAY, TURN_LEFT, TURN_RIGHT, ahead
from cosignal.rl.envs.relay.game import RelayGame, lever_distance
from cosignal.rl.envs.relay.map import BY_ROLE, LEVERS


def towards_lever(game: RelayGame, i: int) -> int:
    """The action that brings agent i closest to its next lever; at a closed door it waits."""
    target = next((k for k in BY_ROLE[i] if not game.pulled[k]), None)
    if target is None:
        return STAY
    if ahead(game.poses[i]) == LEVERS[target]:
        return INTERACT
    poses = {action: moved(game.poses[i], action, game.walkable) for action in (FORWARD, TURN_LEFT, TURN_RIGHT)}
    return min(poses, key=lambda action: lever_distance(poses[action], target) or 0)
