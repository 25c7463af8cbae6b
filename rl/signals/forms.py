"""The two ways in which a score of states becomes a reward of an agent's step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..task import BoolArray


def potential_shaping(
    before: NDArray[Any], after: NDArray[Any], gamma: float, terminated: ArrayLike
) -> NDArray[np.float64]:
    """γΦ(s′)(1 − terminated) − Φ(s): leaves the optimal policies what they are (Ng, Harada, Russell 1999).

    Since Φ counts as zero after a true termination, a constant in Φ matters there: learned scores are anchored. All
    [..., A_g]; `terminated` 0 or 1, in a shape that broadcasts to them.
    """
    return np.asarray(gamma * after * (1.0 - np.asarray(terminated, np.float64)) - before)


def difference(before: NDArray[Any], after: NDArray[Any], moved: BoolArray) -> NDArray[np.float64]:
    """σ(s′) − σ(s), zero for an agent that stays (Lin et al., arXiv 2502.03723, Eq. 4). All [..., A_g].

    It is no potential. Undiscounted, a way that ends where it began pays minus what σ changed by while the agent
    stayed: nothing where only its own actions change σ, a gain where its mates lower it meanwhile.
    """
    return np.asarray((after - before) * moved)
