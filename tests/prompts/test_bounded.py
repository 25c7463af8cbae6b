"""Templates of other people: what they may take, and that they are told where they take more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest
from cosignal.errors import ConfigError
from cosignal.prompts import Template, bounded, check_template, load_template, parse_template, render
from cosignal.prompts.sandbox import MAX_CHARS

FRONT = "---\nid: mine\nversion: v9\nrole: critic\nvariables: [x]\noutput_schema: Diagnosis\n---\n"
DATA: dict[str, Any] = {"x": {"n": list(range(300)), "s": "y" * 5000}}
EACH, END = "{% for a in x.n %}", "{% endfor %}"
LIMITS = "a template may take at most 2 s of processor time, 512 MiB of memory and 400_000 characters; simplify it"


def template(body: str) -> Template:
    """The body begins in line 14 of the file."""
    return parse_template(
        "critic", f"{FRONT}\n## system\nrole: critic\n## user\n\n{{{{ x.n }}}}\n{body}\n", Path("t.md")
    )


def complaint(body: str) -> str:
    with pytest.raises(ConfigError) as caught:
        render(template(body), DATA)
    return str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        EACH * 4 + "x" + END * 4,
        "{{ 'x' * 10**9 }}",
        "{{ [0] * 10**9 }}",
        "{{ 'x' | center(10**9) }}",
        "{{ 'x' | indent(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ x.s.ljust(10**9) }}",
        "{{ x.s.replace('y', x.s).replace('y', x.s) }}",
        "{{ x.n | batch(10**9, 0) | list | length }}",
        "{{ x | fenced }}" * 300,
        "{{ 9 ** (9 ** 8) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    ],
)
def test_what_would_grow_without_end_is_stopped_at_its_line(body: str) -> None:
    told = complaint(body)
    assert told.startswith("prompt 'mine' cannot be rendered: line 14: more than ")
    assert told.endswith(f"; {LIMITS}")


def test_what_would_take_for_ever_is_stopped_at_its_line() -> None:
    """Nothing is written, so that neither memory nor characters stop it."""
    assert complaint(EACH * 5 + END * 5) == f"prompt 'mine' cannot be rendered: line 14: more than 2 s; {LIMITS}"


def test_a_process_that_is_stuck_is_ended_and_the_next_template_gets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    render(template("x"), DATA)  # it is up
    monkeypatch.setattr(bounded, "MAX_WAIT_S", 0.1)
    assert complaint(EACH * 5 + END * 5) == f"prompt 'mine' cannot be rendered: more time or memory; {LIMITS}"
    monkeypatch.undo()
    assert render(template("{{ x.s | length }}"), DATA).user.endswith("\n5000")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ x.s + 1 }}", "can only concatenate"),
        ("{{ x.missing }}", "no attribute 'missing'"),
        ("{% include 'y' %}", "no loader"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "maximum recursion depth exceeded"),
        ("{% for a in x.n recursive %}{{ loop(x.n) }}{% endfor %}", "maximum recursion depth exceeded"),
        ("{{ x.__class__ }}", "unsafe"),
        ("{{ range(10**9) }}", "Range too big"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ dict.mro() }}", "unsafe"),
    ],
)
def test_whatever_a_template_raises_is_told_with_its_line(body: str, told: str) -> None:
    message = complaint(body)
    assert message.startswith("prompt 'mine' cannot be rendered: line 14: ")
    assert told in message
    assert message.endswith("; correct the template")


@pytest.mark.parametrize("body", ["{% if %}", "{{ x | no_such_filter }}", "{{ x", "{% endfor %}"])
def test_what_is_no_template_is_told_with_its_line(body: str) -> None:
    with pytest.raises(ConfigError, match=r"'t\.md' is no valid jinja2: line 14: .*; correct the template"):
        check_template(template(body))


def test_a_line_of_the_system_part_is_one_of_the_file() -> None:
    text = f"{FRONT}\n\n## system\n\nrole: critic\n{{{{ 1 / 0 }}}}\n## user\n{{{{ x }}}}\n"
    with pytest.raises(ConfigError, match="line 13: division by zero"):
        render(parse_template("critic", text, Path("t.md")), DATA)


def test_helpers_of_jinja2_are_no_variables() -> None:
    body = (
        "{% set n = namespace(a=0) %}{% for i in range(3) %}{% set n.a = n.a + i %}{% endfor %}{{ n.a }}"
        "{% set c = cycler('x', 'y') %}{{ c.next() }}{% set j = joiner(',') %}{{ j() }}{{ j() }}{{ dict(b=1).b }}"
    )
    check_template(template(body))
    assert render(template(body), DATA).user.endswith("\n3x,1")
    with pytest.raises(ConfigError, match="uses lipsum, which prompts do not have; write the text itself"):
        check_template(template("{{ lipsum() }}"))


def test_what_it_may_take_it_gets() -> None:
    user = render(template("{{ 'x' * 390_000 }}"), DATA).user
    assert 390_000 < len(user) < MAX_CHARS


def test_a_copy_of_our_template_renders_the_same(tmp_path: Path) -> None:
    ours = load_template("critic")
    mine = tmp_path / "mine.md"
    mine.write_bytes(b"\xef\xbb\xbf" + ours.path.read_bytes().replace(b"\n", b"\r\n"))  # as Windows writes it
    data: dict[str, Any] = {
        "stage": "plateaued", "schema": {"type": "object"}, "calls_left": 2, "block": {"text": "` é\n😀", "n": 0.1},
        "pictures": [{"title": "a", "text": "#.\n```"}],
    }  # fmt: skip
    one, other = render(ours, data), render(load_template("critic", override=mine), data)
    assert (one.system, one.user) == (other.system, other.user)


async def test_the_loop_goes_on_meanwhile() -> None:
    slow = asyncio.create_task(bounded.off_the_loop(complaint, EACH * 5 + END * 5))
    turns = 0
    while not slow.done():
        await asyncio.to_thread(lambda: None)  # other work in threads, too
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 20
    assert "more than 2 s" in await slow


def test_the_process_has_no_keys_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "secret")
    bounded._PROCESS.close()
    before = {child.pid for child in psutil.Process().children()}
    render(template("x"), DATA)
    [child] = [child for child in psutil.Process().children() if child.pid not in before]
    assert "secret" not in child.environ().values()
    bounded._PROCESS.close()
    assert not child.is_running()
