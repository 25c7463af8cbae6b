"""What the processes of `rl.preferences` are asked. Imports neither torch nor LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ..base_config import Config
from .config import ScorerConfig

RESULT, ANSWERS = "result.json", "answers.jsonl"


class CollectJob(Config):
    """Play the policy of `snapshot`, with agents that act at random in a share of their steps (see `collect_pairs`),
    and write `counts` pairs by group to `out`; all below `run_dir`. `spread`: as `collect_pairs` has it. `key_steps`:
    what the team must do is looked for in random play, for the prompt."""

    kind: Literal["collect"] = "collect"
    run_dir: Path
    snapshot: str
    counts: list[int]
    spread: int = 1
    key_steps: bool = False
    seed: int
    out: str


class FitJob(Config):
    """Fit one scorer a group to all pairs of `folders` that have answers; what came of it is written to `out`."""

    kind: Literal["fit"] = "fit"
    run_dir: Path
    folders: list[str]
    scorer: ScorerConfig
    seed: int
    out: str


Job = Annotated[CollectJob | FitJob, Field(discriminator="kind")]
JOB: TypeAdapter[Job] = TypeAdapter(Job)
