"""Prompts: versioned Markdown templates, words without logic. This file finds and renders them.

A template is YAML front matter (`id`, `version`, `role`, `variables`, `output_schema`) and a body with the parts
`## system` and `## user`. It is rendered by a sandboxed jinja2 from plain data only; the variables it declares must be
the ones it uses. `{{ block | fenced }}` writes plain data as one fenced JSON block, `{{ schema | inline }}` as JSON
text, both in the order of the data; `{{ text | quoted }}` writes a text of many lines as one fenced block.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict

from ..errors import ConfigError

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n(.*)\Z", re.DOTALL)
_PARTS = re.compile(r"\A\s*## system\n(.*?)\n## user\n(.*)\Z", re.DOTALL)


class FrontMatter(BaseModel):
    """The head of a template. `output_schema` names a class of `agents/schemas.py`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    version: str
    role: str
    variables: list[str]
    output_schema: str


@dataclass(frozen=True)
class Template:
    """A template that was read and checked. `sha256` is of the whole file, so any changed byte shows in the ledger."""

    front: FrontMatter
    system: str
    user: str
    sha256: str
    path: Path


@dataclass(frozen=True)
class Rendered:
    """A prompt ready to send. `sha256` is the template's."""

    prompt_id: str
    sha256: str
    system: str
    user: str


def load_template(role: str, version: str = "v1", override: Path | None = None) -> Template:
    """Read and check `<role>/<version>.md` of this package, or the file `override`.

    Raises:
        ConfigError: no such file, no front matter, missing parts, or declared variables that are not the used ones.
    """
    # The file and its two halves: front matter and body.
    path = override or Path(__file__).parent / role / f"{version}.md"
    name = f"prompt template {str(path)!r}"
    if not path.is_file():
        raise ConfigError(f"{name} does not exist; name a Markdown template of role {role!r}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} must be a UTF-8 file, got {error}; mend it") from error
    match = _FRONT_MATTER.match(text)
    if match is None:
        raise ConfigError(f"{name} has no YAML front matter; start it with '---'")
    try:
        front = FrontMatter.model_validate(yaml.safe_load(match[1]))
    except (yaml.YAMLError, ValueError) as error:  # a ValidationError is a ValueError
        raise ConfigError(f"front matter of {name} is invalid: {error}; correct it") from error
    if front.role != role:
        raise ConfigError(f"{name} is for role {front.role!r}; give one for role {role!r}")
    # A marker inside data is data: the parts are told apart before anything is filled in.
    parts = _PARTS.match(match[2])
    if parts is None:
        raise ConfigError(f"{name} needs the parts '## system' and then '## user'; add them")
    # The declared variables must be the used ones: a typing error would be an empty place in the prompt.
    system, user = parts[1].strip(), parts[2].strip()
    try:
        for part in (system, user):
            _ENVIRONMENT.from_string(part)  # compiling finds filters that do not exist, parsing does not
        used = meta.find_undeclared_variables(_ENVIRONMENT.parse(system + "\n" + user))
    except TemplateError as error:
        raise ConfigError(f"{name} is no valid jinja2: {error}; correct it") from error
    if used != set(front.variables):
        raise ConfigError(
            f"{name} declares {sorted(front.variables)!r} and uses {sorted(used)!r}; declare exactly the used variables"
        )
    return Template(front, system, user, hashlib.sha256(text.encode()).hexdigest(), path)


def render(template: Template, variables: Mapping[str, Any]) -> Rendered:
    """Fill `template` with plain data (str, numbers, bool, None, lists, dicts) under exactly the declared names.

    Raises:
        ConfigError: a missing or an undeclared variable, a value that is no plain data, or a template that fails.
    """
    # Exactly the declared names, and nothing in them but plain data.
    declared = set(template.front.variables)
    if set(variables) != declared:
        difference = sorted(declared ^ set(variables))
        raise ConfigError(
            f"prompt {template.front.id!r} takes {sorted(declared)!r}; fix these variables: {difference!r}"
        )
    for name, value in variables.items():
        _require_plain(value, name)
    try:
        system, user = (_ENVIRONMENT.from_string(part).render(**variables) for part in (template.system, template.user))
    except TemplateError as error:
        raise ConfigError(f"prompt {template.front.id!r} cannot be rendered: {error}; correct the template") from error
    return Rendered(template.front.id, template.sha256, system.strip(), user.strip())


def _require_plain(value: Any, name: str) -> None:
    """Refuse a value that holds anything but plain data; the sandbox need not guard objects that are not there."""
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(key, name)
            _require_plain(item, name)
    elif isinstance(value, list):
        for item in value:
            _require_plain(item, name)
    elif type(value) not in (str, int, float, bool, type(None)):
        raise ConfigError(f"prompt variable {name!r} holds {type(value).__name__!r}; prompts take plain data only")


# ---------------------------------------------------------------- filters


def fenced(value: Any) -> str:
    """Write plain data as one fenced JSON block. Backticks are escaped, so that no text inside can close the fence."""
    return "```json\n" + inline(value).replace("`", "\\u0060") + "\n```"


def quoted(text: str) -> str:
    """Write a text as one fenced block, as it is but for backticks, so that it cannot close the fence."""
    return "```text\n" + text.replace("`", "'") + "\n```"


def inline(value: Any) -> str:
    """Write plain data as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters.update(fenced=fenced, inline=inline, quoted=quoted)
_ENVIRONMENT.globals.clear()  # `range` and friends: templates get the declared variables and nothing else
