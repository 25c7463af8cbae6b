"""What a hand-written judge of a task says of single agents' moves: the oracle where no model can be asked."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

S = TypeVar("S")


class Heuristic(Protocol[S]):
    """`S`: whatever it needs of an environment's state, copied; it must not change when the environment goes on."""

    def state(self, env: Any) -> S:
        """Of the running episode, or of the state that it ended in."""
        ...

    def prefers(self, agent: Any, before: S, action: int, after: S) -> int:
        """1 where the agent's own move `action` from `before` to `after` helped the team, its mates taken to act
        optimally and all but its own move taken as unchanged; -1 where it hurt; 0 for no preference."""
        ...

    def act(self, agent: Any, state: S) -> int:
        """The agent's greedy move by the same rules."""
        ...
