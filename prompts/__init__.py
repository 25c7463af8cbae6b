"""Prompts: versioned Markdown templates, words without logic. This file finds and renders them.

A template is YAML front matter (`id`, `version`, `role`, `variables`, `output_schema`) and a body with the parts
`## system` and `## user`. It is rendered by a sandboxed jinja2 from plain data only; the variables it declares must be
the ones it uses. `{{ block | fenced }}` writes plain data as one fenced JSON block, `{{ schema | inline }}` as JSON
text, both in the order of the data; `{{ text | quoted }}` writes a text of many lines as one fenced block.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import ConfigError
from ..strict_yaml import is_secret, parse_yaml, without_secrets
from . import bounded, sandbox
from .sandbox import TemplateFailure, fenced, inline, quoted

__all__ = [
    "FrontMatter", "Rendered", "Template", "check_template", "fenced", "inline", "load_template", "parse_template",
    "quoted", "read_template", "render",
]  # fmt: skip

MAX_CHARS = 200_000  # of a template's file
VERSIONS = {"critic": "v6", "generator": "v7", "ranker": "v4"}  # by role, the one that is asked
SMALL_VERSIONS = {"critic": "small-v1", "generator": "small-v1", "ranker": "small-v1"}  # where prompts are small

_FRONT_MATTER = re.compile(r"\A\ufeff?---\n(.*?)\n---\n(.*)\Z", re.DOTALL)
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
    """A template that was read.

    Attributes:
        system, user: its parts.
        first_lines: lines of the file in which the parts begin, counted from 1.
        sha256: of the whole file, so any changed byte shows in the ledger.
        path: where it came from; None for a text that is in no file.
        is_ours: whether it is of this package, and so is rendered without limits.
    """

    front: FrontMatter
    system: str
    user: str
    first_lines: tuple[int, int]
    sha256: str
    path: Path
    is_ours: bool

    @property
    def parts(self) -> tuple[str, str]:
        return self.system, self.user

    @property
    def is_small(self) -> bool:
        """Whether it is one of this package's for small prompts."""
        return self.is_ours and self.front.version == SMALL_VERSIONS.get(self.front.role)


@dataclass(frozen=True)
class Rendered:
    """A prompt ready to send. `sha256` is the template's."""

    prompt_id: str
    sha256: str
    system: str
    user: str


def load_template(role: str, version: str | None = None, override: Path | None = None) -> Template:
    """Read and check `<role>/<version>.md` of this package, or the file `override`; the role's own where none is named.

    Raises:
        ConfigError: no such file, no front matter, missing parts, declared variables that are not the used ones, or an
            override that takes more than a template may.
    """
    template = read_template(role, version, override)
    check_template(template)
    return template


def read_template(role: str, version: str | None = None, override: Path | None = None) -> Template:
    """Read a template without compiling it; like `load_template` else."""
    path = override or Path(__file__).parent / role / f"{version or VERSIONS[role]}.md"
    name = _name(path)
    if not path.is_file():
        what = "is no regular file" if path.exists() else "does not exist"
        raise ConfigError(f"{name} {what}; name a Markdown template of role {role!r}")
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} must be a UTF-8 file, got {error}; mend it") from error
    return parse_template(role, text, path, is_ours=override is None)


def parse_template(role: str, text: str, path: Path, is_ours: bool = False) -> Template:
    """Return the template that `text` is, not compiled yet.

    Args:
        role: whose it must be.
        text: the whole file.
        path: where it is, for messages.
        is_ours: whether it is of this package.

    Raises:
        ConfigError: it is too long, has no front matter or lacks a part.
    """
    name = _name(path)
    if len(text) > MAX_CHARS:
        raise ConfigError(f"{name} must have at most {MAX_CHARS:_} characters, got more; shorten it")
    match = _FRONT_MATTER.match(text)
    if match is None:
        raise ConfigError(f"{name} has no YAML front matter; start it with '---'")
    # Its lines are counted as those of the file.
    data = parse_yaml("\n" + match[1], f"front matter of {name}").data
    try:
        front = FrontMatter.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        got = "" if is_secret(key) else f", got {without_secrets(first['input'])!r:.60}"
        raise ConfigError(f"front matter of {name} is invalid: {key}: {first['msg']}{got}; correct it") from None
    if front.role != role:
        raise ConfigError(f"{name} is for role {front.role!r}; give one for role {role!r}")
    # A marker inside data is data: the parts are told apart before anything is filled in.
    parts = _PARTS.match(match[2])
    if parts is None:
        raise ConfigError(f"{name} needs the parts '## system' and then '## user'; add them")
    first_lines = [_line(text, match.start(2) + parts.start(group)) for group in (1, 2)]
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Template(front, parts[1].strip(), parts[2].strip(), (first_lines[0], first_lines[1]), sha256, path, is_ours)


def check_template(template: Template) -> None:
    """Raise ConfigError where a template cannot be compiled, or declares other variables than it uses."""
    name, declared = _name(template.path), sorted(template.front.variables)
    try:
        used = (sandbox if template.is_ours else bounded).used_variables(template.parts)
    except TemplateFailure as failure:
        raise ConfigError(f"{name} is no valid jinja2: {_explain(template, failure)}") from None
    if "lipsum" in used:
        raise ConfigError(f"{name} uses lipsum, which prompts do not have; write the text itself")
    # A typing error would be an empty place in the prompt.
    if used != declared:
        raise ConfigError(f"{name} declares {declared!r} and uses {used!r}; declare exactly the used variables")


def render(template: Template, variables: Mapping[str, Any]) -> Rendered:
    """Fill `template` with plain data (str, numbers, bool, None, lists, dicts) under exactly the declared names.

    A template that is not of this package is rendered in another process; call this `off_the_loop`.

    Raises:
        ConfigError: a missing or an undeclared variable, a value that is no plain data, or a template that fails or
            takes more than it may.
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
        system, user = (sandbox if template.is_ours else bounded).fill(template.parts, variables)
    except TemplateFailure as failure:
        raise ConfigError(f"prompt {template.front.id!r} cannot be rendered: {_explain(template, failure)}") from None
    return Rendered(template.front.id, template.sha256, system.strip(), user.strip())


def _explain(template: Template, failure: TemplateFailure) -> str:
    """Return where a template fails, why, and what to do."""
    line = ""
    if failure.part is not None and failure.line is not None:
        line = f"line {template.first_lines[failure.part] + failure.line - 1}: "
    remedy = f"{bounded.LIMITS}; simplify it" if str(failure).startswith("more ") else "correct the template"
    return f"{line}{failure}; {remedy}"


def _line(text: str, start: int) -> int:
    """Return the line, counted from 1, of the first character from `start` on that is no space."""
    blank = len(text) - start - len(text[start:].lstrip())
    return text.count("\n", 0, start + blank) + 1


def _name(path: Path) -> str:
    return f"prompt template {str(path)!r}"


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
