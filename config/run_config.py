"""`RunConfig`: the sum of the configs that sit beside their owners, and the rules that span several of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from ..agents.config import LLMConfig
from ..agents.race_rules import RaceRules
from ..errors import ConfigError
from ..examples import example_path
from ..rl.base_config import Config, UserPath
from ..rl.branches.config import BranchConfig, GateConfig, RaceConfig
from ..rl.envs.config import TaskConfig
from ..rl.preferences.config import PreferenceConfig
from ..rl.signals.config import SignalConfig
from ..rl.signals.learned.config import LearnedSignalsConfig
from ..rl.training.config import TrainerConfig, TrainingConfig
from ..text import one_line
from .adaptation import AdaptationConfig, OtelConfig
from .budget import (
    affordable_interventions,
    branch_budget,
    cost_of_intervention,
    cost_of_race,
    explain_race_shortage,
    explain_shortage,
    first_rungs,
    horizon_to_plan_for,
)
from .identity import identity, task_identity
from .load import Settings, explain_errors, explain_misread, read_settings
from .protocols import ProtocolName, with_protocol

# Keys that configs of older versions name: dotted key → why it is gone. They are left out with a warning.
REMOVED_KEYS = {"branches.recorded_screen": "no study has shown that it does anything (docs/results.md)"}


class RemovedKeyWarning(UserWarning):
    """A config names a key that this version does not have any more; the run goes on without it."""


class RunConfig(Config):
    """Everything a run is made of. The same config and seed give the same run (`clock: lockstep`)."""

    model_config = ConfigDict(hide_input_in_errors=True)  # somebody may write a key where its name belongs

    seed: int = Field(default=1, ge=0)
    run_dir: UserPath = Path("runs_out")
    clock: Literal["lockstep", "overlap"] = "lockstep"
    protocol: ProtocolName = "own"
    task: TaskConfig = TaskConfig(name="two_switch")
    trainer: TrainerConfig = TrainerConfig()
    signal: SignalConfig = SignalConfig()
    adaptation: AdaptationConfig = AdaptationConfig()
    preferences: PreferenceConfig = PreferenceConfig()
    learned_signals: LearnedSignalsConfig = LearnedSignalsConfig()
    branches: BranchConfig = BranchConfig()
    gate: GateConfig = GateConfig()
    race: RaceConfig = RaceConfig()
    llm: LLMConfig = LLMConfig()
    otel: OtelConfig = OtelConfig()

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a YAML file (JSON is YAML too) and set `overrides`, each `dotted.key=value` with a YAML value.

        Args:
            path: the file, or the name of a packaged example.
            overrides: applied in order, the last one wins.

        Raises:
            ConfigError: something is wrong; a line for each, with place, key, rule, value and remedy.
        """
        return cls.from_settings(read_settings(example_path(Path(path)), overrides))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the config that settings make. Raises ConfigError as `load`."""
        try:
            config = cls.model_validate(settings.data)
            wrong = list(explain_misread(settings, config))
        except ValidationError as error:
            wrong = list(explain_errors(cls, settings, error))
        if wrong:
            raise ConfigError("\n".join(one_line(line) for line in wrong))
        return config

    def resolved_json(self) -> str:
        """Return the whole config with every default written out; `load` reads it back as the same config."""
        return self.model_dump_json(indent=2)

    def config_hash(self) -> str:
        """Return 16 hex digits of everything that decides the run's results; see `config.identity`."""
        return identity(self)

    def training(self) -> TrainingConfig:
        """Return the part that trainer and workers need; without adaptation the trainer never pauses."""
        return TrainingConfig(
            seed=self.seed,
            clock=self.clock,
            task=self.task,
            trainer=self.trainer,
            signal=self.signal,
            pause_every_steps=self.adaptation.interval if self.adaptation.enabled else None,
            margin=self.gate.margin,
            record_obs=self.preferences.ranker != "none"
            or self.learned_signals.read_observations
            or any(term.reads_observations for term in self.signal.terms),
        )

    def race_rules(self) -> RaceRules | None:
        """Return how proposals race where something is wrong; None where signals are judged there too, or nothing."""
        if self.gate.claim == "signal" or not self.adaptation.gated:
            return None
        kept = self.race.model_dump(include={"kick", "kick_alone", "fresh_start", "arms", "rungs"})
        return RaceRules(**kept, rung_steps=self.adaptation.interval)

    @model_validator(mode="before")
    @classmethod
    def _without_removed_keys(cls, data: Any) -> Any:
        for key, reason in REMOVED_KEYS.items():
            section, _, name = key.partition(".")
            if isinstance(data, dict) and isinstance(data.get(section), dict) and name in data[section]:
                warnings.warn(f"{key}: this key is gone, {reason}; remove it", RemovedKeyWarning, stacklevel=2)
                data = data | {section: {k: v for k, v in data[section].items() if k != name}}
        return data

    @model_validator(mode="before")
    @classmethod
    def _with_protocol(cls, data: Any) -> Any:
        return with_protocol(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _at_least_one_update(self) -> Self:
        update = self.trainer.envs * self.trainer.rollout
        rule = f"must be at least one update, trainer.envs × trainer.rollout = {update:_} steps"
        for key, value in (("trainer.steps", self.trainer.steps), ("adaptation.interval", self.adaptation.interval)):
            _require(value >= update, key, rule, value, "raise it")
        trainer = self.trainer
        trainer.algorithm_config.check_update_size(f"trainer.{trainer.algorithm}", trainer.envs, trainer.rollout)
        horizon = self.branches.horizon
        rule = f"must be at least two updates, {2 * update:_} steps, since screening runs half of it"
        _require(horizon == "auto" or horizon >= 2 * update, "branches.horizon", rule, horizon, "raise it or set auto")
        return self

    @model_validator(mode="after")
    def _gate_can_look(self) -> Self:
        looks, seeds = list(self.gate.looks), self.branches.screen_seeds
        increasing = bool(looks) and looks[0] >= 2 and all(a < b for a, b in pairwise(looks))
        rule = "must be increasing numbers of seeds from 2 on, since one seed has no spread"
        _require(increasing, "gate.looks", rule, looks, "write for example [4, 6]")
        rule = f"must be at most gate.looks[0] = {looks[0]}, since screened branches are continued"
        _require(seeds <= looks[0], "branches.screen_seeds", rule, seeds, "lower it")
        return self

    @model_validator(mode="after")
    def _library_is_of_this_task(self) -> Self:
        library, given = self.adaptation.library, self.adaptation.signals
        rule = "must not go with adaptation.signals, since nobody is asked for a signal then"
        _require(not (library and given), "adaptation.library", rule, f"{len(library)} of them", "remove one of both")
        if self.adaptation.library_of_other_tasks:
            return self
        here, others = task_identity(self.task), list[str]()
        for entry in library:
            there = None if entry.origin is None else entry.origin.task_identity
            if there != here:
                settings = " with other settings" if there is not None and there.name == here.name else ""
                others.append(f"{entry.title!r} of {'no named task' if there is None else repr(there.name)}{settings}")
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise ValueError(
                f"adaptation.library: must hold signals of this task, {here.name!r}, got {others[0]}{more}; leave them "
                "out, or set adaptation.library_of_other_tasks to true, so that the Generator is told"
            )
        return self

    @model_validator(mode="after")
    def _can_intervene(self) -> Self:
        if not self.adaptation.enabled:
            return self
        patience, steps = self.adaptation.patience, self.trainer.steps
        rule = f"must be less than trainer.steps = {steps:_}, or the loop never acts"
        _require(patience < steps, "adaptation.patience", rule, patience, "lower it or set adaptation.enabled to false")
        # Shaping that may leave is judged as a signal whatever is claimed: a look must be able to decide, paid or not.
        look = self._first_deciding_look()
        if self.race_rules() is not None:
            self._affords_a_race()
        if self.gate.claim == "signal":
            self._affords_a_signal(look)
        return self

    def _affords_a_race(self) -> None:
        """Raise ValueError where the first rungs of a race do not fit into the run, or its budget does not pay them."""
        adaptation, steps, overlap = self.adaptation, self.trainer.steps, self.clock == "overlap"
        rungs = first_rungs(self.race)
        most = steps - rungs * adaptation.interval
        rule = (
            f"must leave {rungs} rungs of adaptation.interval {adaptation.interval:_} before trainer.steps = {steps:_}"
        )
        remedy = f"lower it to {max(most, 0):_}, raise trainer.steps, or set adaptation.enabled to false"
        _require(adaptation.patience <= most, "adaptation.patience", rule, adaptation.patience, remedy)
        cost = cost_of_race(self.race, adaptation, overlap=overlap)
        if cost.first > branch_budget(adaptation, steps):
            raise ValueError(explain_race_shortage(adaptation, cost, rungs, steps))

    def _affords_a_signal(self, look: int) -> None:
        """Raise ValueError where a round up to `look`, the first that can decide, is not within the share."""
        horizon, steps = horizon_to_plan_for(self.branches), self.trainer.steps
        cost = cost_of_intervention(self.branches, self.gate, self.adaptation, horizon, look)
        if affordable_interventions(self.adaptation, cost.total, steps) < 1:
            raise ValueError(explain_shortage(self.adaptation, cost, horizon, steps))

    def _first_deciding_look(self) -> int:
        """Return the first look that can decide: one with too few seeds for its share of the level decides nothing."""
        from ..rl.branches.gate import look_levels  # imports scipy, which `--help` can do without

        try:
            levels = look_levels(self.gate.level, self.gate.looks, self.branches.finalists, self.adaptation.rounds)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return next(look for look, level in enumerate(levels) if level > 0)


def _require(holds: bool, key: str, rule: str, value: object, remedy: str) -> None:
    if not holds:
        raise ValueError(f"{key}: {rule}, got {value!r}; {remedy}")
