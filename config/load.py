"""Reading a config: YAML and `--set` in, one clear line for each thing that is wrong out.

Nothing here knows the keys of a particular config: they are read from its pydantic model.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from ..errors import ConfigError
from ..strict_yaml import (
    MAX_SIZE,
    ONE_MEANING,
    QUOTE_INSIDE,
    QUOTE_TEXT,
    Word,
    YamlText,
    is_secret,
    join_key,
    parse_yaml,
    parse_yaml_value,
    quote_for_shell,
    without_secrets,
)

SET = "--set "  # the place of what stands on the command line

# Rules in our words, by pydantic's types of errors.
RULES = {
    "model_type": "hold keys and values",
    "model_attributes_type": "hold keys and values",
    "path_type": "be a path",
    "int_parsing_size": "be a whole number of 64 bits",
}


@dataclasses.dataclass
class Settings:
    """What a config file and `--set` say.

    Attributes:
        path: the file.
        data: settings by section.
        places: what a message about a dotted key begins with: file and line, or `--set`.
        written: how the numbers are written, by dotted key.
        overridden: the keys behind `--set`.
    """

    path: Path
    data: dict[str, Any]
    places: dict[str, str]
    written: dict[str, str] = dataclasses.field(default_factory=dict)
    overridden: set[str] = dataclasses.field(default_factory=set)

    def place(self, key: str) -> str:
        """Return what a message about `key` begins with: the place of the key, or of the section that it is in."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places.get(key, f"{self.path}: ")

    def how_to_quote(self, key: str, value: Any) -> str:
        """Say how `value` of `key` is written as text, where it was written."""
        if key in self.overridden:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            return quote_for_shell(key, self.written.get(key, text))
        return QUOTE_INSIDE if self.place(key) == SET else QUOTE_TEXT


def read_settings(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Return the settings that the file holds (an empty file holds none), with `overrides` set one after the other.

    Raises:
        ConfigError: there is no such file, it cannot be read, it holds no keys and values, or an override is wrong.
    """
    read = read_document(path, "a config file")
    data = {} if read.data is None else read.data
    if not isinstance(data, dict):
        got = f"{type(data).__name__} {without_secrets(data)!r:.60}"
        raise ConfigError(f"{path}: must hold `key: value` lines, got {got}; write them")
    places = {key: f"{path}, line {line}: " for key, line in read.lines.items() if key}
    settings = Settings(path, data, places, read.written)
    for override in overrides:
        set_override(settings, override)
    return settings


def read_document(path: Path, what: str) -> YamlText:
    """Return what a file of YAML says; `what` it is, for messages.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it is no YAML.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_SIZE + 1)  # of a file without an end, such as /dev/zero, no more either
    except FileNotFoundError:
        raise ConfigError(f"{path}: {what} must exist here, found none; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: must be a readable text file in UTF-8, got {error}; check the path") from None
    return parse_yaml(text, str(path))


def set_override(settings: Settings, override: str) -> None:
    """Set one `a.b=value`, making the sections on the way.

    Raises:
        ConfigError: it has another form, the value is no YAML, or something on the way holds no keys.
    """
    key, equals, text = override.partition("=")
    key = key.strip()
    names = key.split(".")
    if not equals or not all(names):
        got = "" if is_secret(override) else f", got {override!r}"
        raise ConfigError(f"--set: must look like a.b=value{got}; for example --set trainer.steps=500_000")
    read = parse_yaml_value(text, key)
    data = settings.data
    for depth, name in enumerate(names[:-1], 1):
        section = ".".join(names[:depth])
        # a section that is absent or empty is begun
        if data.get(name) is None:
            data[name] = {}
            settings.places[section] = SET
        data = data[name]
        if not isinstance(data, dict):
            got = "" if is_secret(section) else f", got {without_secrets(data)!r:.60}"
            raise ConfigError(f"--set {key}: {name!r} must hold keys{got}; set {name!r} as a whole")
    data[names[-1]] = read.data

    # what was there, and below it, is gone
    def is_other(known: str) -> bool:
        return not f"{known}.".startswith(f"{key}.")

    settings.places = {k: place for k, place in settings.places.items() if is_other(k)} | {key: SET}
    settings.overridden = {k for k in settings.overridden if is_other(k)} | {key}
    settings.written = {k: text for k, text in settings.written.items() if is_other(k)}
    settings.written |= {join_key(key, inner) if inner else key: text for inner, text in read.written.items()}


# ---------------------------------------------------------------- errors in words


def explain_errors(model: type[BaseModel], settings: Settings, error: ValidationError) -> Iterator[str]:
    """Yield one line for each wrong key, with place, rule, value and remedy.

    Args:
        model: the config that was to be made.
        settings: what it was to be made of.
        error: pydantic's.
    """
    by_key: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_key.setdefault(dotted_key(settings.data, detail), []).append(detail)
    for key, details in by_key.items():
        line = explain_key(model, settings, key, details)
        # a rule that spans several keys begins with the one to change
        named = line.partition(":")[0].partition(" ")[0]
        yield settings.place(named if named.startswith(key) else key) + line


def explain_misread(settings: Settings, config: BaseModel) -> Iterator[str]:
    """Yield one line for each truth value that was taken for a number, and for each yes, no, on or off that was taken
    as it stands where anything may be, so that nobody knows which of text and truth value it is.

    Args:
        settings: what `config` was made of.
        config: the whole config.
    """
    for key, given, taken in _pairs("", settings.data, config):
        if isinstance(given, bool) and not isinstance(taken, bool):
            yield f"{settings.place(key)}{key}: must be a number, got {given!r}; write one"
        elif isinstance(taken, Word):
            value = str(taken.lower() in ("yes", "on")).lower()
            got = "" if is_secret(key) else f", got {taken!r}"
            quote = settings.how_to_quote(key, taken)
            yield f"{settings.place(key)}{key}: must be {ONE_MEANING}{got}; write {value}, or {quote}"


def _pairs(key: str, given: Any, taken: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield each plain value with its dotted key, and what a config has in its place."""
    if isinstance(given, dict):
        inside: Iterable[tuple[Any, Any]] = given.items()
    elif isinstance(given, list):
        inside = enumerate(given)
    else:
        yield key, given, taken
        return
    for name, item in inside:
        if isinstance(taken, BaseModel):
            if name in type(taken).model_fields:  # not a key of an older version
                yield from _pairs(join_key(key, name), item, getattr(taken, name))
        else:
            yield from _pairs(join_key(key, str(name)), item, taken[name])


def explain_key(model: type[BaseModel], settings: Settings, key: str, details: Sequence[ErrorDetails]) -> str:
    """Return the line about one wrong key; the alternatives of a union are joined by `or`."""
    first = details[0]
    is_number_as_text = first["type"] in ("string_type", "path_type") and isinstance(first["input"], int | float)

    def got(begin: str = "") -> str:
        # nothing is repeated where somebody may have written a secret
        if is_secret(key):
            return ""
        value = without_secrets(first["input"])
        shown = settings.written.get(key, "") if isinstance(value, int | float) and is_number_as_text else ""
        return f", got {begin}{shown or repr(value):.60}"

    if first["type"] == "value_error":  # one of our own rules: the message names key, value and remedy
        text = str(first["ctx"]["error"])
        for secret in _secrets(settings.data):
            text = text.replace(repr(secret), "'...'")
        return text if not key or text.startswith(key) else f"{key}: {text}"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key{got('value ')}; {suggest_key(model, key, str(first['loc'][-1]))}"
    if first["type"] == "missing":
        return f"{key}: must be given; add it"
    if first["type"] == "union_tag_invalid":
        tag = first["ctx"]["discriminator"].strip("'")
        kind = first["input"].get(tag) if isinstance(first["input"], dict) else first["input"]
        rule = f"must be one of {first['ctx']['expected_tags']}, got {without_secrets(kind)!r:.60}"
        return f"{key}.{tag}: {rule}; correct it"
    # pydantic's sentence after its `must`: `Input should be a valid integer, unable to …` → `be a valid integer`
    rules = dict.fromkeys(
        RULES.get(detail["type"]) or detail["msg"].split(", unable")[0].split(", got")[0].split(" should ")[-1]
        for detail in details
    )
    remedy = settings.how_to_quote(key, first["input"]) if is_number_as_text else suggest_remedy(model, key)
    return f"{key}: must {' or '.join(rules)}{got()}; {remedy}"


def _secrets(data: Any, is_below: bool = False) -> Iterator[str]:
    """Yield each text in plain data that stands below the name of a secret."""
    if isinstance(data, dict):
        for name, item in data.items():
            yield from _secrets(item, is_below or is_secret(str(name)))
    elif isinstance(data, list):
        for item in data:
            yield from _secrets(item, is_below)
    elif is_below and isinstance(data, str) and data:
        yield data


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


def suggest_key(model: type[BaseModel], key: str, written: str) -> str:
    """Say what to write instead of an unknown key: a similar name beside it, else this name elsewhere.

    Args:
        model: the config.
        key: the dotted key.
        written: its last part as it is written, which in a file can hold dots itself.
    """
    parent, _, name = key.rpartition(".")
    known = config_keys(model)
    if "." in written:
        *sections, last = written.split(".")
        nested = f"{': {'.join([*sections, last])}: ...{'}' * len(sections)}"
        return f"keys with dots are for --set only; write it as sections, {nested}"
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
    if field is not None and isinstance(field.default, BaseModel):
        return "write keys below it or remove it"
    if field is None or field.default is PydanticUndefined:
        return "correct it"
    number = isinstance(field.default, int) and not isinstance(field.default, bool)
    default = (
        f"{field.default:_}"
        if number
        else repr(str(field.default) if isinstance(field.default, Path) else field.default)
    )
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
