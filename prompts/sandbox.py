"""The environment that templates are rendered in, and the process that renders templates of other people.

A template is a program, and one of a few letters can take all time and memory there is. Those of this package are known
and rendered at once; any other in a process of its own (`bounded.py` starts it with this file), which the system stops
at its limits. This file imports nothing of the package, so that the process starts quickly.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SECONDS = 2  # of processor time, for one prompt
MAX_MEMORY = 512 * 1024**2  # bytes of address space
MAX_CHARS = 400_000  # of a rendered part


class TemplateFailure(Exception):
    """A template cannot be compiled or rendered.

    Attributes:
        part: position of the part that fails, None where that is not known.
        line: the line of that part, counted from 1; None where that is not known.
    """

    def __init__(self, message: str, part: int | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.part, self.line = part, line


class OutOfTime(Exception):
    """A template takes more time than it may."""


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


ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
ENVIRONMENT.filters.update(fenced=fenced, inline=inline, quoted=quoted)
# Beside the declared variables, templates have jinja2's own helpers, but for `lipsum`: a prompt has no made-up text.
del ENVIRONMENT.globals["lipsum"]


# ---------------------------------------------------------------- templates


def used_variables(parts: Sequence[str]) -> list[str]:
    """Return the variables that the parts use. Raises TemplateFailure where one is no template."""
    used = set[str]()
    for position, part in enumerate(parts):
        with _failures_of(position):
            ENVIRONMENT.from_string(part)  # compiling finds filters that do not exist, parsing does not
            used |= meta.find_undeclared_variables(ENVIRONMENT.parse(part))
    return sorted(used - set(ENVIRONMENT.globals))


def fill(parts: Sequence[str], variables: Mapping[str, Any]) -> list[str]:
    """Return the parts, filled. Raises TemplateFailure."""
    filled = []
    for position, part in enumerate(parts):
        with _failures_of(position):
            template = ENVIRONMENT.from_string(part)
        with _failures_of(position, template):
            size, pieces = 0, list[str]()
            written: Any = template.root_render_func(template.new_context(dict(variables)))
            for piece in written:
                size += len(piece)
                if size > MAX_CHARS:
                    line = template.get_corresponding_lineno(written.gi_frame.f_lineno)
                    raise TemplateFailure(f"more than {MAX_CHARS:_} characters", position, line)
                pieces.append(piece)
            filled.append("".join(pieces))
    return filled


@contextmanager
def _failures_of(part: int, template: Template | None = None) -> Iterator[None]:
    """Turn whatever a template raises into a TemplateFailure that knows the line."""
    try:
        yield
    except TemplateFailure:
        raise
    except Exception as error:  # noqa: BLE001 a template is somebody's program: it can divide by zero, or by text
        line = error.lineno if isinstance(error, TemplateSyntaxError) else None
        trace = error.__traceback__
        while trace is not None:
            if template is not None and trace.tb_frame.f_code.co_filename == "<template>":
                line = template.get_corresponding_lineno(trace.tb_lineno)  # of what jinja2 compiled it to
            trace = trace.tb_next
        text = f"more than {MAX_MEMORY // 1024**2} MiB" if isinstance(error, MemoryError) else str(error)
        raise TemplateFailure(text[:500], part, line) from None


# ---------------------------------------------------------------- the process


def serve() -> None:
    """Answer requests, each a JSON object on a line, until there are no more."""
    with suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    signal.signal(signal.SIGPROF, _out_of_time)
    for line in sys.stdin:
        request = json.loads(line)
        # The timer lets the template fail at a line of its own. What does not come to its next line ends the process.
        usage = resource.getrusage(resource.RUSAGE_SELF)
        most = int(usage.ru_utime + usage.ru_stime) + MAX_SECONDS + 2
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS, 0.1)
        try:
            variables = request["variables"]
            done = used_variables(request["parts"]) if variables is None else fill(request["parts"], variables)
            answer: dict[str, Any] = {"done": done}
        except TemplateFailure as failure:
            answer = {"failure": str(failure), "part": failure.part, "line": failure.line}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _out_of_time(_number: int, _frame: FrameType | None) -> None:
    raise OutOfTime(f"more than {MAX_SECONDS} s")


if __name__ == "__main__":
    serve()
