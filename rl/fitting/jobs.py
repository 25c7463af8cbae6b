"""Jobs of the processes of `rl.fitting`, and their answers. Imports neither torch nor LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from ..base_config import Config
from ..signals.learned.config import DecompositionConfig


class DecomposeJob(Config):
    """Play whole episodes of a policy and decompose their returns; all paths are below `run_dir`."""

    kind: Literal["decompose"] = "decompose"
    run_dir: Path
    snapshot: str  # the folder whose policy plays
    config: DecompositionConfig
    seed: int
    out: str  # the folder that the result is written to


class DecomposeResult(TypedDict):
    """The answer to a DecomposeJob."""

    steps: int  # environment steps that were played
    episodes: int
    problem: str | None  # why nothing could be fitted; what stands below is empty then
    scorers: dict[str, str]  # by the group's number, its network's name
    explained: float | None  # see `Decomposition`
    sum_error: float | None
    shares: dict[str, float]  # by agent
