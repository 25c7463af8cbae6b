"""YAML that people write, read as they mean it or refused with line, key, value and remedy.

Plain scalars are read by the core rules of YAML 1.2, to which hexadecimal, binary and `_` between digits are added:
`1e-3` is a number, `2020-01-01` and `12:30:45` are texts. What different readers take for different things (`010`,
`None`, a key that is there twice) is refused. The data are plain: dicts with keys of text, lists, text, finite numbers,
truth values and None, every part an object of its own also where aliases name one part twice.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.reader import ReaderError

from .errors import ConfigError

MAX_SIZE = 1_000_000  # characters of a text, and of what its aliases make of it
MAX_DEPTH = 50  # lists and mappings inside each other
MAX_INT = 2**63 - 1

ONE_MEANING = "what every reader takes for the same"  # a rule
QUOTE_TEXT = "put text in quotes"  # its remedy
QUOTE_INSIDE = "put text in \"...\" and all that follows --set in '...' for the shell"

# Names under which people write secrets, which no message repeats. `tokens` are counted, a `tokenizer` is no secret.
_SECRET_LETTERS = re.compile(
    r"apikey|accesskey|privatekey|secret|token(?!s|i[sz])|passw|passphrase|authorization|bearer|credential"
)
_SECRET_WORDS = frozenset({"auth", "key", "keys", "pwd"})

_TAG = "tag:yaml.org,2002:"
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
# What a scalar without quotes is: tag → pattern, the first that fits; else it is text. The last two tags are our own.
_PLAIN = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": rf"[-+]?(?:0|(?!0){_DIGITS}|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+)",
    "float": rf"[-+]?(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS}|{_DIGITS}(?=[eE]))(?:[eE][-+]?[0-9]+)?",
    "merge": r"<<",
    "word": r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF",
    "doubtful": (
        r"[-+−–]?(?:[0-9][0-9_]*(?:,[0-9]+)*(?:\.[0-9]*)?|0[xXoObB][0-9a-fA-F_]+|\.?(?i:inf|nan)|Infinity)|None"
    ),
}
_CLEARER = {  # what to write for a doubtful one: the first pattern that fits its beginning
    r"[−–]": "write - for minus",
    r"[-+]?0[xXoObB]": "write it like 0x1F, 0o17 or 0b101",
    r"[-+]?0[0-9_]": "leave out the zeros in front or write 0o10 for octal 10",
    r"[-+]?[0-9]": "write it like 1_000, 0.5 or [1, 2]",
    r"None": "write null",
    r"": "write a finite number",
}


class Word(str):
    """One of yes, no, on and off without quotes: a truth value to some readers, a text to others."""

    __slots__ = ()


@dataclass(frozen=True)
class YamlText:
    """What a text says.

    Attributes:
        data: plain data; None for an empty text.
        lines: dotted key → the line that it is in, counted from 1.
        written: dotted key → how its number is written.
    """

    data: Any
    lines: dict[str, int] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)


def parse_yaml(text: str, source: str) -> YamlText:
    """Read a file's one YAML document (JSON is YAML too).

    Args:
        text: at most `MAX_SIZE` characters, also with its aliases written out.
        source: what the text is, for messages.

    Raises:
        ConfigError: it is no YAML, or something in it can be read in two ways; one line with the place in the text.
    """
    return _Reader(text, source).read()


def parse_yaml_value(text: str, key: str) -> YamlText:
    """Read the value of one key behind `--set`: a plain or quoted scalar, `[1, 2]`, `{a: 1}` or JSON.

    Raises:
        ConfigError: as `parse_yaml`; also for what nobody means there: comments, tags, anchors, lists and mappings
            without brackets, a scalar of several lines.
    """
    return _Reader(text, f"--set {key}", is_value=True).read()


def join_key(key: str, name: str) -> str:
    """Return the dotted key of `name` inside `key`, which is empty for the whole."""
    return f"{key}.{name}" if key else name


def is_secret(key: str) -> bool:
    """Tell whether a part of a dotted key, or a name inside a text, says that its value is a secret."""
    return any(_names_secret(name) for name in re.split(r"[^\w-]+", key))


def _names_secret(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z]+", " ", name).lower().split()
    return bool(_SECRET_LETTERS.search("".join(words))) or (bool(words) and words[-1] in _SECRET_WORDS)


def without_secrets(value: Any) -> Any:
    """Return plain data with `...` for what stands below the name of a secret, and for texts that hold such a name."""
    if isinstance(value, dict):
        return {name: "..." if is_secret(str(name)) else without_secrets(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return "..." if isinstance(value, str) and is_secret(value) else value


def quote_for_shell(key: str, text: str) -> str:
    """Say how the text of a key is written on a command line, where the shell takes the outer quotes away."""
    shown = "..." if is_secret(key) or is_secret(text) or len(text) > 60 else text
    return f"for text write --set {shlex.quote(f'{key}={json.dumps(shown, ensure_ascii=False)}')}"


class _Loader(yaml.SafeLoader):
    """Composes nodes, whose plain scalars get their tags by our rules; `_Reader` makes data of them."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 filled below
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = parent.start_mark if parent else None
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _name, _pattern in _PLAIN.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), [None])


_OF_FILES = (  # what a value behind `--set` does not hold
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.AnchorToken,
    yaml.AliasToken,
    yaml.DirectiveToken,
    yaml.DocumentStartToken,
    yaml.DocumentEndToken,
)


class _Reader:
    """Reads one text. Counts the size of what comes of it, since aliases can make much of little."""

    def __init__(self, text: str, source: str, is_value: bool = False) -> None:
        self.text, self.source, self.is_value = text, source, is_value
        self.lines: dict[str, int] = {}
        self.written: dict[str, str] = {}
        self.size = 0

    def read(self) -> YamlText:
        if len(self.text) > MAX_SIZE:
            raise self.problem(None, "", f"must have at most {MAX_SIZE:_} characters, got more; shorten it")
        try:
            node = _Loader(_without_tabs(self.text)).get_single_node()
            if self.is_value:
                self.check_one_line()
        except yaml.YAMLError as error:
            raise self.syntax_problem(error) from None
        except (ValueError, OverflowError) as error:  # "\UFFFFFFFF" stands for no character
            raise self.problem(None, "", f"must be YAML, got {error}; correct its escapes") from None
        end = 0 if node is None else node.end_mark.index
        if self.is_value and end < len(self.text.rstrip()):
            remedy = f"quote what holds a #{self.or_quoted(self.text)}"
            raise self.problem(None, "", "must hold no comment", self.text, remedy)
        return YamlText(None if node is None else self.build(node, "", 0), self.lines, self.written)

    def check_one_line(self) -> None:
        """Raise ConfigError for what only a file may hold."""
        for token in yaml.scan(_without_tabs(self.text), _Loader):
            if isinstance(token, yaml.TagToken):
                tag = "".join(part or "" for part in token.value)
                raise self.problem(None, "", f"must be plain data, got {tag}; write the value without a tag")
            is_folded = isinstance(token, yaml.ScalarToken) and token.start_mark.line != token.end_mark.line
            if is_folded or isinstance(token, _OF_FILES):
                remedy = f"write [1, 2] for a list and {{a: 1}} for a mapping{self.or_quoted(self.text)}"
                raise self.problem(None, "", "must be a scalar, [...] or {...} on one line", self.text, remedy)

    def build(self, node: yaml.Node, key: str, depth: int) -> Any:
        """Return the data of `node`, which stands at `key`."""
        self.lines.setdefault(key, node.start_mark.line + 1)
        self.size += 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        if self.size > MAX_SIZE or depth > MAX_DEPTH:
            limits = f"{MAX_SIZE:_} characters and {MAX_DEPTH} levels"
            rule = f"must have at most {limits} with its aliases written out, got more; write it without aliases"
            raise self.problem(node, key, rule)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, join_key(key, str(i)), depth + 1) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self.mapping(node, key, depth)
        raise self.wrong_tag(node, key)

    def mapping(self, node: yaml.MappingNode, key: str, depth: int) -> dict[str, Any]:
        own, merged, lines = dict[str, Any](), dict[str, Any](), dict[str, int]()
        for name_node, value in node.value:
            name, line = self.name(name_node, value, key), name_node.start_mark.line + 1
            inner = join_key(key, name)
            if name in lines:
                first = "" if self.is_value else f" and in line {lines[name]}"
                raise self.problem(name_node, inner, f"must be there once, got it here{first}; remove one")
            lines[name] = line
            if name_node.tag != _TAG + "merge":
                self.lines[inner] = line
                own[name] = self.build(value, inner, depth + 1)
                continue
            # what `<<` brings in, the first of several wins
            brought = self.build(value, key, depth + 1)
            for mapping in brought if isinstance(brought, list) else [brought]:
                if not isinstance(mapping, dict):
                    raise self.problem(value, key, "must bring in keys and values by <<", mapping, "name a mapping")
                merged = mapping | merged
        return merged | own

    def name(self, node: yaml.Node, value: yaml.Node, key: str) -> str:
        """Return the key that `node` is."""
        texts = (_TAG + "str", _TAG + "word", _TAG + "merge")
        if not isinstance(node, yaml.ScalarNode) or node.tag not in texts:
            got = node.value if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
            raise self.problem(node, key, "must have keys that are text", got, "write the key in quotes")
        # `{a:1}` is the key "a:1" without a value, to which nobody gave one
        is_empty = isinstance(value, yaml.ScalarNode) and value.start_mark.index == value.end_mark.index
        if is_empty and ":" not in self.text[node.end_mark.index : value.start_mark.index]:
            rule = "must have a colon and a space behind each key"
            raise self.problem(node, key, rule, node.value, "write {key: value}")
        self.size += len(node.value)
        return str(self.scalar(node, key))

    def scalar(self, node: yaml.ScalarNode, key: str) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if kind == "str":
            try:  # JSON escapes what is beyond 16 bits in two halves
                return text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                raise self.problem(node, key, "must be text", ascii(text), r"correct its \u escapes") from None
        if kind == "doubtful":
            remedy = next(remedy for pattern, remedy in _CLEARER.items() if re.match(pattern, text))
            raise self.problem(node, key, f"must be {ONE_MEANING}", text, f"{remedy}{self.or_quoted(text, key)}")
        # a tag that is written out can stand before anything
        is_int = re.fullmatch(_PLAIN["int"], text)
        if kind not in _PLAIN or not (re.fullmatch(_PLAIN[kind], text) or (kind == "float" and is_int)):
            raise self.wrong_tag(node, key)
        if kind in ("word", "merge"):
            return Word(text)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "float":
            number: float = float(text)
        else:  # so many digits are not even converted
            number = int(text, 0) if len(text) < 100 else math.inf
        if abs(number) > MAX_INT and (kind == "int" or math.isinf(number)):
            rule = "must be a whole number of 64 bits, or a decimal one up to 1e308"
            raise self.problem(node, key, rule, text, f"write a smaller one{self.or_quoted(text, key)}")
        self.written[key] = text
        return number

    # ------------------------------------------------------------ what is wrong

    def or_quoted(self, text: str, key: str = "") -> str:
        """Return the end of a remedy: how to write `text`, which stands at `key`, as text."""
        if not self.is_value:
            return f", or {QUOTE_TEXT}"
        return f", or {QUOTE_INSIDE if key else quote_for_shell(self.source.removeprefix('--set '), text)}"

    def problem(self, node: yaml.Node | None, key: str, rule: str, got: Any = None, remedy: str = "") -> ConfigError:
        """Return one line with place, key, rule, value (but for what may be a secret) and remedy."""
        name = f"{self.source}.{key}" if self.is_value and key else self.source
        place = "" if node is None or self.is_value else f", line {node.start_mark.line + 1}"
        shown = f"{key}: " if key and not self.is_value else ""
        if remedy:
            is_hidden = is_secret(key) or (self.is_value and is_secret(self.source))
            rule += f"; {remedy}" if is_hidden else f", got {without_secrets(got)!r:.60}; {remedy}"
        return ConfigError(f"{name}{place}: {shown}{rule}")

    def wrong_tag(self, node: yaml.Node, key: str) -> ConfigError:
        """Return one line about a value whose tag is none of ours."""
        tag = str(node.tag).replace(_TAG, "!!")
        return self.problem(node, key, f"must be plain data, got {tag}; write the value without a tag")

    def syntax_problem(self, error: yaml.YAMLError) -> ConfigError:
        """Return one line about what is no YAML."""
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        if isinstance(error, ReaderError):
            problem = f"the character {chr(int(error.character))!a}"
            place = f", line {self.text.count(chr(10), 0, error.position) + 1}"
        elif problem == "but found another document":
            problem = "a second document (---)"
        remedy = "indent with spaces" if problem and r"'\t'" in problem else "mend it there"
        if self.is_value:
            got = "" if is_secret(self.source) or is_secret(self.text) else f", got {self.text!r:.60}"
            remedy = f"mend it{self.or_quoted(self.text)}"
            return ConfigError(f"{self.source}: must be a YAML value{got} ({problem}); {remedy}")
        return ConfigError(f"{self.source}{place}: must be YAML, got {problem}; {remedy}")


def _without_tabs(text: str) -> str:
    """Return JSON with spaces for tabs, which YAML does not take between values; any other text as it is."""
    if "\t" in text and text.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        try:
            json.loads(text.removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            return text
        return text.replace("\t", " ")  # inside its strings JSON has none
    return text
