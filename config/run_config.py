"""RunConfig: the sum of the configs that sit beside their owners. YAML in, resolved JSON saved."""

from __future__ import annotations

import difflib
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from ..agents.config import LLMConfig
from ..errors import ConfigError
from ..examples import example_path
from ..rl.base_config import Config
from ..rl.branches.config import BranchConfig, GateConfig
from ..rl.envs.config import TaskConfig
from ..rl.preferences.config import PreferenceConfig
from ..rl.signals.config import SignalConfig
from ..rl.training.config import TrainerConfig, TrainingConfig
from ..text import one_line
from .adaptation import AdaptationConfig, OtelConfig
from .budget import affordable_interventions, cost_of_intervention, explain_shortage, horizon_to_plan_for

# What is no date, number or truth value under its tag reaches us as Python's own error: `2020-99-99`, `!!bool maybe`.
YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)

# In place of the name of a variable, people write the key itself; no message repeats it.
SECRET_KEYS = frozenset({"api_key", "api_key_env", "apikey", "key", "password", "secret", "token"})

# Keys that configs of older versions name: dotted key → why it is gone. They are left out with a warning.
REMOVED_KEYS = {"branches.recorded_screen": "no study has shown that it does anything (docs/results.md)"}


class RemovedKeyWarning(UserWarning):
    """A config names a key that this version does not have any more; the run goes on without it."""


class RunConfig(Config):
    """Everything a run is made of. The same config and seed give the same run (`clock: lockstep`)."""

    model_config = ConfigDict(hide_input_in_errors=True)  # somebody may write a key where its name belongs

    seed: int = Field(default=1, ge=0)
    run_dir: Path = Path("runs_out")
    clock: Literal["lockstep", "overlap"] = "lockstep"
    task: TaskConfig = TaskConfig(name="two_switch")
    trainer: TrainerConfig = TrainerConfig()
    signal: SignalConfig = SignalConfig()
    adaptation: AdaptationConfig = AdaptationConfig()
    preferences: PreferenceConfig = PreferenceConfig()
    branches: BranchConfig = BranchConfig()
    gate: GateConfig = GateConfig()
    llm: LLMConfig = LLMConfig()
    otel: OtelConfig = OtelConfig()

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a YAML file (JSON is YAML too) and set `overrides`, each `dotted.key=value` with a YAML value.

        Raises ConfigError: one line for each thing that is wrong, with key, rule, value and remedy.
        """
        data = _read_yaml(example_path(Path(path)))
        for override in overrides:
            _set(data, override)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError("\n".join(one_line(f"{path}: {line}") for line in _lines(cls, data, error))) from None

    def resolved_json(self) -> str:
        """The whole config with every default written out; `load` reads it back as the same config."""
        return self.model_dump_json(indent=2)

    def config_hash(self) -> str:
        """16 hex digits of everything that can change the run; where it is written (`run_dir`) and who is told
        (`otel`) cannot."""
        content = self.model_dump(mode="json", exclude={"run_dir", "otel"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def training(self) -> TrainingConfig:
        """What trainer and workers need; without adaptation the trainer never pauses."""
        return TrainingConfig(
            seed=self.seed,
            clock=self.clock,
            task=self.task,
            trainer=self.trainer,
            signal=self.signal,
            pause_every_steps=self.adaptation.interval if self.adaptation.enabled else None,
            margin=self.gate.margin,
            record_obs=self.preferences.ranker != "none" or any(term.reads_observations for term in self.signal.terms),
        )

    @model_validator(mode="before")
    @classmethod
    def _without_removed_keys(cls, data: Any) -> Any:
        for key, reason in REMOVED_KEYS.items():
            section, _, name = key.partition(".")
            if isinstance(data, dict) and isinstance(data.get(section), dict) and name in data[section]:
                warnings.warn(f"{key}: this key is gone, {reason}; remove it", RemovedKeyWarning, stacklevel=2)
                data = data | {section: {k: v for k, v in data[section].items() if k != name}}
        return data

    @model_validator(mode="after")
    def _at_least_one_update(self) -> Self:
        update = self.trainer.envs * self.trainer.rollout
        rule = f"must be at least one update, trainer.envs × trainer.rollout = {update:_} steps"
        for key, value in (("trainer.steps", self.trainer.steps), ("adaptation.interval", self.adaptation.interval)):
            _require(value >= update, key, rule, value, "raise it")
        self.trainer.algorithm_config.check_update_size(f"trainer.{self.trainer.algorithm}", update)
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
    def _can_intervene(self) -> Self:
        if not self.adaptation.enabled:
            return self
        patience, steps = self.adaptation.patience, self.trainer.steps
        rule = f"must be less than trainer.steps = {steps:_}, or the loop never acts"
        _require(patience < steps, "adaptation.patience", rule, patience, "lower it or set adaptation.enabled to false")
        horizon = horizon_to_plan_for(self.branches)
        look = self._first_deciding_look()
        cost = cost_of_intervention(self.branches, self.gate, self.adaptation, horizon, look)
        if affordable_interventions(self.adaptation, cost, steps) < 1:
            raise ValueError(explain_shortage(self.adaptation, cost, horizon, steps))
        return self

    def _first_deciding_look(self) -> int:
        """Looks with too few seeds for their share of the level decide nothing, so an intervention pays for more."""
        from ..rl.branches.gate import look_levels  # imports scipy, which `--help` can do without

        try:
            levels = look_levels(self.gate.level, self.gate.looks, self.branches.finalists, self.adaptation.rounds)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return next(look for look, level in enumerate(levels) if level > 0)


def _require(holds: bool, key: str, rule: str, value: object, remedy: str) -> None:
    if not holds:
        raise ValueError(f"{key}: {rule}, got {value!r}; {remedy}")


# ---------------------------------------------------------------- reading


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: a config file must exist here, found none; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: must be a readable text file, got {error}; check the path") from None
    except YAML_ERRORS as error:
        raise ConfigError(f"{path}: must be YAML, got {_yaml_problem(error)}; mend the file there") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines, got {type(data).__name__} {data!r:.60}; write them")
    return data


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or ("unreadable text" if isinstance(error, yaml.YAMLError) else error)
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)


def _set(data: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in `data`, making the mappings on the way."""
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"--set: must look like a.b=value, got {override!r}; for example --set trainer.steps=500_000")
    try:
        value = yaml.safe_load(text)
    except YAML_ERRORS as error:
        raise ConfigError(
            f"--set {key}: must be a YAML value, got {text!r} ({_yaml_problem(error)}); quote it"
        ) from None
    for name in names[:-1]:
        if data.get(name) is None:
            data[name] = {}
        data = data[name]
        if not isinstance(data, dict):
            raise ConfigError(f"--set {key}: {name!r} must hold keys, got {data!r}; set {name!r} as a whole")
    data[names[-1]] = value


# ---------------------------------------------------------------- errors in words


def _lines(model: type[BaseModel], data: Mapping[str, Any], error: ValidationError) -> Iterator[str]:
    """One line for each wrong key; the alternatives of a union are joined by `or`."""
    wrong: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        wrong.setdefault(_dotted(data, detail), []).append(detail)
    for key, details in wrong.items():
        yield _line(model, key, details)


def _line(model: type[BaseModel], key: str, details: list[ErrorDetails]) -> str:
    first = details[0]
    if first["type"] == "value_error":  # one of our own rules: the message names key, value and remedy
        text = str(first["ctx"]["error"])
        return text if not key or text.startswith(key) else f"{key}: {text}"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key{_got(key, first['input'], 'value ')}; {_closest(model, key)}"
    if first["type"] == "missing":
        return f"{key}: must be given; add it"
    if first["type"] == "union_tag_invalid":
        kind = first["ctx"]["discriminator"].strip("'")
        value = first["input"].get(kind) if isinstance(first["input"], dict) else first["input"]
        return f"{key}.{kind}: must be one of {first['ctx']['expected_tags']}, got {value!r:.60}; correct it"
    rules = dict.fromkeys(_rule(detail) for detail in details)
    return f"{key}: must {' or '.join(rules)}{_got(key, first['input'])}; {_default(model, key)}"


def _got(key: str, value: Any, begin: str = "") -> str:
    """What stands there, but for keys where somebody may have written a secret."""
    return "" if key.rpartition(".")[2] in SECRET_KEYS else f", got {begin}{value!r:.60}"


def _rule(detail: ErrorDetails) -> str:
    """pydantic's sentence after its `must`: `Input should be a valid integer, unable to …` → `be a valid integer`."""
    if detail["type"] in ("model_type", "model_attributes_type"):
        return "hold keys and values"
    return detail["msg"].split(", unable")[0].split(", got")[0].split(" should ")[-1]


def _dotted(data: Any, detail: ErrorDetails) -> str:
    """The key as the file has it: the location without the tags that pydantic adds for the members of a union."""
    parts: list[str] = []
    location = detail["loc"]
    for position, part in enumerate(location):
        is_missing = detail["type"] == "missing" and position == len(location) - 1
        inside = (isinstance(data, dict) and part in data) or (isinstance(data, list | tuple) and isinstance(part, int))
        if inside or is_missing:
            parts.append(str(part))
            data = None if is_missing else data[part]
    return ".".join(parts)


def _closest(model: type[BaseModel], key: str) -> str:
    """What to write instead of an unknown key: one with a similar name beside it, else one of this name elsewhere."""
    parent, _, name = key.rpartition(".")
    known = config_keys(model)
    beside = {path.rpartition(".")[2]: path for path in known if path.rpartition(".")[0] == parent}
    elsewhere = [path for path in known if path.rpartition(".")[2] == name]
    if similar := difflib.get_close_matches(name, beside, n=1):
        return f"did you mean {beside[similar[0]]!r}?"
    if elsewhere:
        return f"did you mean {elsewhere[0]!r}?"
    return f"remove it, or use one of {', '.join(sorted(beside))}" if beside else "remove it"


def config_keys(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Every dotted key of a config and of the configs inside it."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        found[prefix + name] = field
        if inner := _inner_model(field.annotation):
            found |= config_keys(inner, f"{prefix}{name}.")
    return found


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The config class in `X` or `X | None`, None for anything else (lists of terms have no dotted keys)."""
    candidates = [annotation, *getattr(annotation, "__args__", ())] if not _is_container(annotation) else []
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _is_container(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) in (list, tuple, dict)


def _default(model: type[BaseModel], key: str) -> str:
    field = config_keys(model).get(key)
    if field is None or field.default is PydanticUndefined or isinstance(field.default, BaseModel):
        return "correct it"
    number = isinstance(field.default, int) and not isinstance(field.default, bool)
    default = f"{field.default:_}" if number else repr(field.default)
    return "correct it or remove it" if field.default is None else f"correct it, or remove it for the default {default}"
