"""The parts of a run directory that are no records of a table, checked for the fields that readers go by.

`RunView` gives them as plain data, with whatever else stands there.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Row = dict[str, Any]


class Part(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class RunInfo(Part):
    """The content of `run.json`."""

    id: str = ""
    created: str = ""
    config_hash: str = ""
    version: str = ""


class UsedModel(Part):
    provider: str


class UsedLLM(Part):
    default: UsedModel
    critic: UsedModel | None = None
    generator: UsedModel | None = None
    ranker: UsedModel | None = None


class UsedTrainer(Part):
    steps: int
    envs: int = Field(ge=1)
    rollout: int = Field(ge=1)
    algorithm: str


class UsedTask(Part):
    name: str | None = None
    env: str | None = None


class UsedAdaptation(Part):
    enabled: bool


class UsedConfig(Part):
    """The keys of `config.json` that every version writes and every reader needs."""

    seed: int
    llm: UsedLLM
    trainer: UsedTrainer
    task: UsedTask
    adaptation: UsedAdaptation


class Metric(Part):
    """A row of the table `metrics`, with the trainer's data about its update."""

    update: int
    steps: int
    steps_trained: int | None = None
    stage: str
    train_return: float | None = None
    train_success: float | None = None
    evaluation_return: float | None = None
    evaluation_success: float | None = None
    steps_evaluation: int = 0
    terms: dict[str, tuple[float | None, float | None]] | None = None


class Waiting(Part):
    """The question that a human has not answered yet, an `ApprovalNeeded`."""

    id: str = Field(pattern=r"^p\d+-r\d+$")  # it names a file, and stands in a command
    proposal: str = ""
    title: str = ""


# The loop's named values, by name.
VALUES: dict[str, TypeAdapter[Any]] = {
    "state": TypeAdapter(str),
    "error": TypeAdapter(str | None),
    "wall_s": TypeAdapter(float),
    "provider": TypeAdapter(str | None),
    "waiting_for": TypeAdapter(Waiting | None),
    "warnings": TypeAdapter(dict[str, str] | None),
}


def first_problem(error: ValidationError) -> str:
    """Return the first thing that is wrong, in a few words: the value and its place."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"got {first['input']!r:.80}" + (f" for {place!r}" if place else "")
