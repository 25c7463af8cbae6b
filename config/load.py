"""Reading a config: YAML and `--set` in, one clear line for each thing that is wrong out.

Nothing here knows the keys of a particular config: they are read from its pydantic model.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from ..errors import ConfigError

# What is no date, number or truth value under its tag reaches us as Python's own error: `2020-99-99`, `!!bool maybe`.
YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)

# In place of the name of a variable, people write the key itself; no message repeats it.
SECRET_KEYS = frozenset({"api_key", "api_key_env", "apikey", "key", "password", "secret", "token"})


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the settings that the file holds; an empty file holds none.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it holds no keys and values.
    """
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


def set_override(data: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in `data`, making the mappings on the way.

    Raises:
        ConfigError: it has another form, the value is no YAML, or something on the way holds no keys.
    """
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
        # a section that is absent or empty is begun
        if data.get(name) is None:
            data[name] = {}
        data = data[name]
        if not isinstance(data, dict):
            raise ConfigError(f"--set {key}: {name!r} must hold keys, got {data!r}; set {name!r} as a whole")
    data[names[-1]] = value


def _yaml_problem(error: Exception) -> str:
    """Return the parser's problem with line and column, else the error's own text."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or ("unreadable text" if isinstance(error, yaml.YAMLError) else error)
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)


# ---------------------------------------------------------------- errors in words


def explain_errors(model: type[BaseModel], data: Mapping[str, Any], error: ValidationError) -> Iterator[str]:
    """Yield one line for each wrong key, with rule, value and remedy.

    Args:
        model: the config that was to be made.
        data: what it was to be made of.
        error: pydantic's.
    """
    by_key: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_key.setdefault(dotted_key(data, detail), []).append(detail)
    for key, details in by_key.items():
        yield explain_key(model, key, details)


def explain_key(model: type[BaseModel], key: str, details: Sequence[ErrorDetails]) -> str:
    """Return the line about one wrong key; the alternatives of a union are joined by `or`."""
    first = details[0]

    def got(begin: str = "") -> str:
        # nothing is repeated where somebody may have written a secret
        return "" if key.rpartition(".")[2] in SECRET_KEYS else f", got {begin}{first['input']!r:.60}"

    if first["type"] == "value_error":  # one of our own rules: the message names key, value and remedy
        text = str(first["ctx"]["error"])
        return text if not key or text.startswith(key) else f"{key}: {text}"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key{got('value ')}; {suggest_key(model, key)}"
    if first["type"] == "missing":
        return f"{key}: must be given; add it"
    if first["type"] == "union_tag_invalid":
        tag = first["ctx"]["discriminator"].strip("'")
        kind = first["input"].get(tag) if isinstance(first["input"], dict) else first["input"]
        return f"{key}.{tag}: must be one of {first['ctx']['expected_tags']}, got {kind!r:.60}; correct it"
    # pydantic's sentence after its `must`: `Input should be a valid integer, unable to …` → `be a valid integer`
    rules = dict.fromkeys(
        "hold keys and values"
        if detail["type"] in ("model_type", "model_attributes_type")
        else detail["msg"].split(", unable")[0].split(", got")[0].split(" should ")[-1]
        for detail in details
    )
    return f"{key}: must {' or '.join(rules)}{got()}; {suggest_remedy(model, key)}"


def dotted_key(data: Any, detail: ErrorDetails) -> str:
    """Return the key as the file has it: the location without the tags that pydantic adds for members of a union."""
    parts: list[str] = []
    location = detail["loc"]
    for position, part in enumerate(location):
        is_missing = detail["type"] == "missing" and position == len(location) - 1
        inside = (isinstance(data, dict) and part in data) or (isinstance(data, list | tuple) and isinstance(part, int))
        if inside or is_missing:
            parts.append(str(part))
            data = None if is_missing else data[part]
    return ".".join(parts)


def suggest_key(model: type[BaseModel], key: str) -> str:
    """Say what to write instead of an unknown key: a similar name beside it, else this name elsewhere."""
    parent, _, name = key.rpartition(".")
    known = config_keys(model)
    beside = {path.rpartition(".")[2]: path for path in known if path.rpartition(".")[0] == parent}
    elsewhere = [path for path in known if path.rpartition(".")[2] == name]
    if similar := difflib.get_close_matches(name, beside, n=1):
        return f"did you mean {beside[similar[0]]!r}?"
    if elsewhere:
        return f"did you mean {elsewhere[0]!r}?"
    return f"remove it, or use one of {', '.join(sorted(beside))}" if beside else "remove it"


def suggest_remedy(model: type[BaseModel], key: str) -> str:
    """Say how to mend a wrong value: correct it, or remove it for the default where there is one."""
    field = config_keys(model).get(key)
    if field is None or field.default is PydanticUndefined or isinstance(field.default, BaseModel):
        return "correct it"
    number = isinstance(field.default, int) and not isinstance(field.default, bool)
    default = f"{field.default:_}" if number else repr(field.default)
    return "correct it or remove it" if field.default is None else f"correct it, or remove it for the default {default}"


def config_keys(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Return every dotted key of a config and of the configs inside it; lists of terms have no dotted keys."""
    keys: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        keys[prefix + name] = field
        # the config class in `X` or `X | None`
        annotation = field.annotation
        is_container = getattr(annotation, "__origin__", None) in (list, tuple, dict)
        members = () if is_container else (annotation, *getattr(annotation, "__args__", ()))
        inner = next((m for m in members if isinstance(m, type) and issubclass(m, BaseModel)), None)
        if inner is not None:
            keys |= config_keys(inner, f"{prefix}{name}.")
    return keys
