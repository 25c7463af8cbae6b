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
    """What a template says about itself. `output_schema`: a class of `agents/schemas.py`."""

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
    """Read `<role>/<version>.md` of this package, or the file `override`.

    Raises:
        ConfigError: no such file, no front matter, missing parts, or declared variables that are not the used ones.
    """
    path = override or Path(__file__).parent / role / f"{version}.md"
    if not path.is_file():
        raise ConfigError(f"prompt template {str(path)!r} does not exist; name a Markdown template of role {role!r}")
    text = _read(path)
    front, body = _front_matter(text, path)
    if front.role != role:
        raise ConfigError(f"prompt template {str(path)!r} is for role {front.role!r}; give one for role {role!r}")
    parts = _PARTS.match(body)
    if parts is None:
        raise ConfigError(f"prompt template {str(path)!r} needs the parts '## system' and then '## user'; add them")
    template = Template(front, parts[1].strip(), parts[2].strip(), hashlib.sha256(text.encode()).hexdigest(), path)
    _check_variables(template)
    return template


def render(template: Template, variables: Mapping[str, Any]) -> Rendered:
    """Fill `template`. `variables`: plain data (str, numbers, bool, None, lists, dicts), exactly the declared names.

    Raises:
        ConfigError: a missing or an undeclared variable, a value that is no plain data, or a template that fails.
    """
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


def fenced(value: Any) -> str:
    """Plain data as one fenced JSON block. Backticks are escaped, so that no text inside can close the fence."""
    return "```json\n" + inline(value).replace("`", "\\u0060") + "\n```"


def quoted(text: str) -> str:
    """A text as one fenced block, as it is but for backticks, so that it cannot close the fence."""
    return "```text\n" + text.replace("`", "'") + "\n```"


def inline(value: Any) -> str:
    """Plain data as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(fenced=fenced, inline=inline, quoted=quoted)
    environment.globals.clear()  # `range` and friends: templates get the declared variables and nothing else
    return environment


_ENVIRONMENT = _environment()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"prompt template {str(path)!r} must be a UTF-8 file, got {error}; mend it") from error


def _front_matter(text: str, path: Path) -> tuple[FrontMatter, str]:
    match = _FRONT_MATTER.match(text)
    if match is None:
        raise ConfigError(f"prompt template {str(path)!r} has no YAML front matter; start it with '---'")
    try:
        return FrontMatter.model_validate(yaml.safe_load(match[1])), match[2]
    except (yaml.YAMLError, ValueError) as error:  # a ValidationError is a ValueError
        raise ConfigError(f"front matter of prompt template {str(path)!r} is invalid: {error}; correct it") from error


def _check_variables(template: Template) -> None:
    try:
        for part in (template.system, template.user):
            _ENVIRONMENT.from_string(part)  # compiles: knows of filters that do not exist
        used = meta.find_undeclared_variables(_ENVIRONMENT.parse(template.system + "\n" + template.user))
    except TemplateError as error:
        raise ConfigError(f"prompt template {str(template.path)!r} is no valid jinja2: {error}; correct it") from error
    if used != set(template.front.variables):
        raise ConfigError(
            f"prompt template {str(template.path)!r} declares {sorted(template.front.variables)!r} "
            f"and uses {sorted(used)!r}; "
            "declare exactly the used variables"
        )


def _require_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(key, where)
            _require_plain(item, where)
    elif isinstance(value, list):
        for item in value:
            _require_plain(item, where)
    elif type(value) not in (str, int, float, bool, type(None)):
        raise ConfigError(f"prompt variable {where!r} holds {type(value).__name__!r}; prompts take plain data only")
