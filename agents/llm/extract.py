"""Where in a model's text its JSON is: outside of what it thinks aloud, whatever words and fences are around it.

    text -> Found, every JSON object outside of the reasoning, in order, and where one was begun and is none

Reasoning is what stands in a block of it, and everything before the end of a block of which the beginning is missing
(many servers put that into the prompt). It is never looked into, but for the one object
that such an end follows where nothing else does. Tags within a JSON object are its text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

MAX_ANSWER = 200_000  # characters; the largest answer that the schemas allow has about a quarter of that
MAX_BROKEN = 1_000  # beginnings of objects that are none; a text with more holds no answer
MAX_WORK = 3_000_000  # characters read in broken objects, since what is in them is read again

_THOUGHT = r"(?:ant)?(?:think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratch_?pad)"
_MARK = re.compile(
    # `<think>`, `<seed:think>`, Mistral's, Kimi's and Cohere's own, and the channels of gpt-oss and Gemma.
    rf"(?P<begin><(?:\w{{1,20}}:)?{_THOUGHT}(?:\s[^<>\n]{{0,100}})?>|\[THINK\]|◁think▷|<\|START_THINKING\|>"
    r"|<\|channel\|?>\s?(?:analysis|thought)\b)"
    # A channel that is no reasoning; without its marks it reads `assistantfinal`.
    rf"|(?P<end></(?:\w{{1,20}}:)?{_THOUGHT}>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>"
    r"|<\|channel\|>|assistantfinal)"
    # Ends reasoning where there is some, and is no mark of it elsewhere.
    r"|(?P<over><\|end\|>|<channel\|>)"
    # No text of JSON begins otherwise.
    r'|(?P<object>\{(?=\s*["}]))',
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Found:
    """An object of a text, or what was begun as one.

    Attributes:
        start, end: its place; of a broken one, how far it is JSON.
        is_whole: whether it is an object of JSON.
        doubled: a key that one of its objects has twice, so that nobody knows which value is meant.
    """

    start: int
    end: int
    is_whole: bool
    doubled: str | None = None


def find_objects(text: str) -> list[Found]:
    """Return the outermost JSON objects outside of the reasoning and the broken ones, in the order of the text.

    Objects within a broken one are among them. Takes time linear in the length of the text: of one that has too much
    that is broken, or is nested too deep for Python, only the first beginning is returned, as broken.
    """
    found: list[Found] = []
    before_thoughts: int | None = None  # how many were found before the reasoning that is open
    position, broken, work = 0, 0, 0
    doubled: list[str] = []

    def as_object(pairs: list[tuple[str, Any]]) -> None:
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                doubled.append(name)
            names.add(name)

    # Values are not looked at here.
    decoder = json.JSONDecoder(object_pairs_hook=as_object, parse_int=str, parse_float=str, parse_constant=str)
    while mark := _MARK.search(text, position):
        position, kind = mark.end(), mark.lastgroup
        if kind == "begin":
            before_thoughts = len(found) if before_thoughts is None else before_thoughts
        elif kind != "object":
            if before_thoughts is None and _is_answered(text, found, mark):
                break
            if kind == "end" or before_thoughts is not None:
                del found[before_thoughts or 0 :]
            before_thoughts = None
        elif before_thoughts is None:
            doubled.clear()
            try:
                _, position = decoder.raw_decode(text, mark.start())
            except json.JSONDecodeError as error:
                found.append(Found(mark.start(), error.pos, is_whole=False))
                broken, work = broken + 1, work + error.pos - mark.start()
            except RecursionError:
                work = MAX_WORK + 1
            else:
                found.append(Found(mark.start(), position, True, doubled[0] if doubled else None))
            if broken > MAX_BROKEN or work > MAX_WORK:
                return [Found(found[0].start if found else mark.start(), len(text), is_whole=False)]
    return found if before_thoughts is None else found[:before_thoughts]


def _is_answered(text: str, found: list[Found], end: re.Match[str]) -> bool:
    """Tell whether an end of reasoning is a stray one behind the answer: the only object, and nothing else follows."""
    is_last = not text[end.end() :].strip(" \t\r\n`") and len(found) == 1 and found[0].is_whole
    return is_last and not text[found[0].end : end.start()].strip(" \t\r\n`")


def ending_object(text: str) -> str | None:
    """Return the JSON object that ends a text, perhaps in a fence.

    None where the text ends in something else, or is longer than `MAX_ANSWER`.
    """
    found = find_objects(text) if len(text) <= MAX_ANSWER else []
    if not found or not found[-1].is_whole or text[found[-1].end :].strip(" \t\r\n`"):
        return None
    return text[found[-1].start : found[-1].end]
