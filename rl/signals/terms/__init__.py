"""The kinds of terms that a signal is made of, one file a kind.

A kind owns its fields in JSON, its value on transitions, its fading, its checks and its description; the rest of the
package asks a term and never what kind it is. A new kind is a file here and a line in `Term` and `TERM_KINDS`, and the
table of `rl/stage.py` says at which stages it may be proposed.

base          the base classes: a term as data, and compiled for a task
agent_masks   which agents a term applies to
potential     Φ over features, paid as γΦ(s′) − Φ(s)
event         a decaying bonus for an event
learned       a scorer that was fitted to rankings
decomposition each agent's share in the return, by a network that was fitted to episodes
step_reward   what a second policy says of a step, added to advantages
table         what a few named states are worth
similarity    how near each thing is to what it is in a goal state
message       steps whose short text a model has called helpful
progress      how far states are on the way, by a model's judgements
subgoals      events that pay once each, and only in order
bounds        what keeps repeating a step from paying more
team_spirit   how far agents are paid alike
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from .base import BaseTerm
from .decomposition import DecompositionTerm
from .event import EventTerm
from .learned import LearnedTerm
from .message import MessageTerm
from .potential import PotentialTerm
from .progress import ProgressTerm
from .similarity import SimilarityTerm
from .step_reward import StepRewardTerm
from .subgoals import SubgoalsTerm
from .table import TableTerm

__all__ = [
    "TERM_KINDS",
    "DecompositionTerm",
    "EventTerm",
    "LearnedTerm",
    "MessageTerm",
    "PotentialTerm",
    "ProgressTerm",
    "SimilarityTerm",
    "StepRewardTerm",
    "SubgoalsTerm",
    "TableTerm",
    "Term",
]

Term = Annotated[
    PotentialTerm
    | EventTerm
    | LearnedTerm
    | DecompositionTerm
    | StepRewardTerm
    | TableTerm
    | SimilarityTerm
    | SubgoalsTerm
    | MessageTerm
    | ProgressTerm,
    Field(discriminator="kind"),
]

TERM_KINDS: Mapping[str, type[BaseTerm]] = MappingProxyType(
    {
        "potential": PotentialTerm,
        "event": EventTerm,
        "learned": LearnedTerm,
        "decomposition": DecompositionTerm,
        "step_reward": StepRewardTerm,
        "table": TableTerm,
        "similarity": SimilarityTerm,
        "subgoals": SubgoalsTerm,
        "message": MessageTerm,
        "progress": ProgressTerm,
    }
)
