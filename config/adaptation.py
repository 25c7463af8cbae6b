"""Config of the adaptation loop, and of the spans that it sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ..errors import ConfigError
from ..rl.base_config import Config, path_as_meant
from ..rl.stage import Stage
from .given_signals import MAX_GIVEN, MAX_LIBRARY, GivenSignal, read_signals


class OtelConfig(Config):
    """OpenTelemetry spans of a run, posted to the collector that OpenTelemetry's own environment variables name.

    They change nothing about the run, so that it may be resumed with other settings.

    Attributes:
        enabled: whether spans are sent.
        content: whether prompts, answers and what came of them are in the spans.
    """

    enabled: bool = False
    content: bool = True


class AdaptationConfig(Config):
    """When the loop looks, and how much it may spend.

    The trainer pauses every `interval` main steps (lockstep); the loop intervenes only when a trigger fires, no earlier
    than `patience` steps after the start or the last intervention.

    Attributes:
        enabled: whether there is a loop; without it a run is plain training.
        gated: whether branches decide. Without (for ablations only) what ranks first is put in force without a branch.
        candidates: proposals of a round.
        rounds: rounds of an intervention at most; rejected proposals go back to the Generator for the next one. A race
            ends its intervention: there another round follows only where nothing has passed `check`.
        max_share: steps beside the main line as a share of total steps, see `runs.steps`.
        approve: `human` asks before anything is put in force: a signal, a policy or an offset (`cosignal approve`,
            `Run.approve`).
        max_staleness: main steps that a run under the overlap clock may have moved on since the snapshot of a verdict;
            beyond it, or in another stage, the finalist is confirmed once more from a current snapshot. A race ends
            where the main line is further ahead of its arms.
        stage: `auto`, or for ablations the stage that everything follows.
        interval: main steps between two adaptation points, and the steps of a race's rung.
        patience: main steps before the first intervention, and between two: from the fork of a race after which
            nothing is adopted, else from the adoption.
        evidence_calls: tool calls of the Critic.
        read_failures: whether the Critic's model reads the evidence's failed episode step by step before its diagnosis.
        signals: candidates of every intervention, in this order, for which nobody is asked; in a config also the path
            of a YAML or JSON file that lists them. `candidates` is their number then, and `rounds` 1, since nobody can
            be asked for another idea.
        library: signals that the Generator is shown as examples, the best first; in a config also paths of such files,
            as `cosignal signals` writes them.
        library_of_other_tasks: whether they may come from other tasks, or from none that is named; the Generator is
            told then.
    """

    enabled: bool = True
    gated: bool = True
    candidates: int = Field(default=4, ge=1, le=8)
    rounds: int = Field(default=2, ge=1, le=5)
    max_share: float = Field(default=0.75, gt=0, lt=1)
    approve: Literal["auto", "human"] = "auto"
    max_staleness: int = Field(default=1_000_000, ge=0)
    stage: Literal["auto"] | Stage = "auto"
    interval: int = Field(default=16_384, ge=1)
    patience: int = Field(default=150_000, ge=0)
    evidence_calls: int = Field(default=3, ge=0, le=10)
    read_failures: bool = False
    signals: tuple[GivenSignal, ...] = Field(default=(), max_length=MAX_GIVEN)
    library: tuple[GivenSignal, ...] = Field(default=(), max_length=MAX_LIBRARY)
    library_of_other_tasks: bool = False

    @model_validator(mode="before")
    @classmethod
    def _with_given_signals(cls, data: Any) -> Any:
        """Put what the file holds in the place of its path, so that the content decides which run it is."""
        if not isinstance(data, dict) or not data.get("signals"):
            return data
        signals = data["signals"]
        if isinstance(signals, str | Path):
            try:
                signals = read_signals(Path(path_as_meant(signals)))
            except (ConfigError, ValueError) as error:
                raise ValueError(f"adaptation.signals: {error}") from None
        if not isinstance(signals, list | tuple):
            rule = "must be the path of a file or a list of signals"
            raise ValueError(f"adaptation.signals: {rule}, got {signals!r:.60}; correct it or remove it")
        return data | {"signals": signals, "candidates": min(len(signals), MAX_GIVEN), "rounds": 1}

    @model_validator(mode="before")
    @classmethod
    def _with_library(cls, data: Any) -> Any:
        """Put what files hold in the places of their paths, so that the content decides which run it is."""
        if not isinstance(data, dict) or not data.get("library"):
            return data
        library = data["library"]
        if not isinstance(library, list | tuple):
            rule = "must be a list of files or of signals"
            raise ValueError(f"adaptation.library: {rule}, got {library!r:.60}; write [{library!s:.60}]")
        signals: list[Any] = []
        for item in library:
            if not isinstance(item, str | Path):
                signals.append(item)
                continue
            try:
                signals += read_signals(Path(path_as_meant(item)), MAX_LIBRARY)
            except (ConfigError, ValueError) as error:
                raise ValueError(f"adaptation.library: {error}") from None
        return data | {"library": signals}
