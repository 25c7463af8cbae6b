"""Jobs of the processes of `rl.preferences`, and their answers. Imports neither torch nor LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypedDict

from pydantic import Field, TypeAdapter

from ..base_config import Config
from .config import ScorerConfig

ANSWERS = "answers.jsonl"
REFUTED = "refuted"  # the folder of a round with pairs that refute a scorer


class CollectJob(Config):
    """Play a policy and collect pairs; all paths are below `run_dir`.

    The policy plays with agents that act at random in a share of their steps, see `collect_pairs`.
    """

    kind: Literal["collect"] = "collect"
    run_dir: Path
    snapshot: str  # the folder whose policy plays
    counts: list[int]  # pairs by group
    spread: int = 1  # as `collect_pairs` has it
    key_steps: bool = False  # whether random play looks for what the team must do, for the prompt
    seed: int
    out: str  # the folder that the pairs are written to


class FitJob(Config):
    """Fit one scorer a group to all pairs that have answers, and to what the sparse outcome refutes of those before.

    All paths are below `run_dir`.
    """

    kind: Literal["fit"] = "fit"
    run_dir: Path
    folders: list[str]  # those with the pairs
    scorer: ScorerConfig
    recorded: str  # the file with where the run's episodes ended
    before: dict[str, str]  # by the group's number the scorer that was fitted before; empty at first
    refuted: int  # pairs a group that refute it, at most
    seed: int
    out: str  # the folder that the result is written to


Job = Annotated[CollectJob | FitJob, Field(discriminator="kind")]
JOB: TypeAdapter[Job] = TypeAdapter(Job)


class CollectResult(TypedDict):
    """The answer to a CollectJob, besides the pairs."""

    steps: int  # environment steps that were played
    key_steps: list[str]  # what the team must do, empty where nobody asked
    pairs: list[int]  # [g]


class GroupFit(TypedDict):
    """The answer to a FitJob for one group of agents; a whole answer has them by the group's number."""

    scorer: str  # its name
    pairs: int
    held_out_loss: float
    accuracy: float | None  # see `Fitted`
    agreement: float | None
    epochs: list[int]
    usual_disagreement: float  # of the ensemble on its own pairs
    refuted: int  # pairs that refute earlier scorers, of all that it was fitted to
    one_to_many: float | None  # see `OneToMany`; None where too few episodes ended well and badly
    mean_reciprocal_rank: float | None
