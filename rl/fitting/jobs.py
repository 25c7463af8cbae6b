"""Jobs of the processes of `rl.fitting`, and their answers. Imports neither torch nor LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..base_config import Config
from ..signals.learned.config import FitKind, LearnedSignalsConfig
from ..signals.learned.fit import SignalFit


class FitJob(Config):
    """Play whole episodes of a policy, where a kind needs some, and fit signals; all paths are below `run_dir`."""

    kind: Literal["fit"] = "fit"
    run_dir: Path
    snapshot: str  # the folder whose policy plays
    fits: tuple[FitKind, ...]  # what is fitted, in this order
    config: LearnedSignalsConfig
    judgements: str | None = None  # the file with what a model has judged
    seed: int
    out: str  # the folder that the result is written to


class FitResult(Config):
    """The answer to a FitJob: environment steps and episodes that were played, and what was fitted to them."""

    steps: int
    episodes: int
    fits: dict[FitKind, SignalFit]
