"""Team spirit: how far agents are paid alike, r_i ← (1 − τ) r_i + τ · mean_j r_j (OpenAI Five, Lucy-SKG).

The mean is over all agents that a term is for. Of potentials it is the mean of Φ, a potential too, so that the optimal
policies stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

if TYPE_CHECKING:
    from ...task import BoolArray
    from .base import Values

NO_SPIRIT = 0.0
# 0: each agent is paid for itself; 1: all are paid the mean
TeamSpirit = Annotated[float, Field(ge=0, le=1, exclude_if=lambda spirit: spirit == NO_SPIRIT)]


def shared(values: list[Values], masks: list[BoolArray], spirit: float) -> list[Values]:
    """Return (1 − τ) v_i + τ · mean_j v_j, [g] [..., A_g], over the agents in `masks` [g] [A_g]; others have zeros."""
    if not spirit:
        return values
    members = np.concatenate([x[..., mask] for x, mask in zip(values, masks, strict=True)], axis=-1)
    mean = members.mean(-1, keepdims=True)
    return [np.where(mask, (1.0 - spirit) * x + spirit * mean, 0.0) for x, mask in zip(values, masks, strict=True)]


def in_spirit(spirit: float) -> str:
    """Return its words in the description of a term; none without it."""
    return f", team spirit {spirit:g}" if spirit else ""
