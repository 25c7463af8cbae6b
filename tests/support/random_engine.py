"""A real engine that talks nonsense: llama.cpp behind its OpenAI-compatible server, on a model of random weights.

The model is written here, a few hundred kB: one layer of 32 numbers and a vocabulary of bytes, of letters, of the
schemas' own names and of the `words` that it is given. Its weights are random but for one: every token has a fixed
liking. Words are liked and strings end early, since random bytes would never pass for an expression, and then nothing
would reach `check` and the gate.
"""

from __future__ import annotations

import importlib.util
import json
import string
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cosignal.agents.llm.parse import json_schema
from cosignal.agents.schemas import Diagnosis, ProposalRanking, ProposalSet
from cosignal.examples import real_model

WIDTH, HEADS, HIDDEN = 32, 2, 64
CONTEXT = 32_768  # most of a prompt's letters are a token each
STEADY = 6.0  # of every embedding's first number, which no layer writes to: the output's first column is a liking
TASTE = 0.1  # of the random part of a logit, per number
# What ends things is liked best, so that answers end.
# Events and scorers are seldom hit, so terms are mostly potentials.
LIKINGS = {'"': 8.0, "}": 3.5, "]": 3.0, ",": 2.0, "[{": 2.0, "1": -2.0, "10000": 2.0, "0.25": 3.0}
LIKINGS |= {'event"': -4.0, 'learned"': -6.0, 'agents"': -5.0}
WORD, END, NAME, LETTER, BLANK, BYTE = 4.0, 5.0, -2.0, -7.0, -8.0, -9.0
NORMAL, UNKNOWN, CONTROL, RAW = 1, 2, 3, 6  # kinds of tokens in a GGUF file


@dataclass(frozen=True)
class Token:
    text: str
    kind: int
    liking: float


def missing() -> str | None:
    """What must be installed, in words; None where nothing is missing."""
    needed = ("llama_cpp", "gguf", "fastapi", "sse_starlette")
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"needs {', '.join(absent)}; `make test-engine` installs it (llama.cpp is compiled: a C++ compiler, minutes)"


def schema_names() -> set[str]:
    """Every property name and enum value of the three answers, as JSON writes it after the first quote."""
    found: set[str] = set()
    for model in (Diagnosis, ProposalSet, ProposalRanking):
        found |= set(_names(json_schema(model)))
    return {json.dumps(name)[1:] for name in found}


def words_of(features: Iterable[str], events: Iterable[str]) -> list[str]:
    """What a task's proposals are written with, in pieces that nothing puts in a sensible order."""
    forms = ("{}", "-{}", "-{} / 10", "-mean_mates({})")
    of_features = [form.format(name) for name in features for form in forms]
    return [*of_features, *events, "0.25", "10000", "all", "[{"]


def vocabulary(words: Iterable[str]) -> list[Token]:
    special = [Token("<unk>", UNKNOWN, BYTE), Token("<s>", CONTROL, BYTE), Token("</s>", CONTROL, END)]
    raw = [Token(f"<0x{byte:02X}>", RAW, BYTE) for byte in range(256)]
    letters = [Token(letter, NORMAL, LIKINGS.get(letter, LETTER)) for letter in string.printable[:94]]
    names = [Token(name, NORMAL, LIKINGS.get(name, NAME)) for name in sorted(schema_names())]
    longer = sorted({word for word in words if len(word) > 1})  # a feature of one letter is there already
    own = [Token(word.replace(" ", "▁"), NORMAL, LIKINGS.get(word, WORD)) for word in longer]
    return [*special, *raw, Token("▁", NORMAL, BLANK), *letters, *names, *own]


def write_model(path: Path, words: Iterable[str], seed: int) -> Path:
    """A model of random weights in llama.cpp's format."""
    from gguf import GGUFWriter

    tokens = vocabulary(words)
    writer = GGUFWriter(str(path), "llama")
    _describe(writer)
    _write_vocabulary(writer, tokens)
    for name, values in _weights(tokens, np.random.default_rng(seed)).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def served(model: Path, log: Path, seed: int = 1) -> AbstractContextManager[str]:
    """The base URL of a server of `model` in a process of its own; ended on leaving."""
    return real_model.served(model, log, "nonsense", CONTEXT, options=["--seed", str(seed)])


# ---------------------------------------------------------------- parts


def _names(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _names(item)
    if isinstance(schema, dict):
        yield from (value for value in (schema.get("const"), *schema.get("enum", ())) if isinstance(value, str))
        yield from schema.get("properties", {})
        yield from _names(list(schema.values()))


def _describe(writer: Any) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_file_type(0)


def _write_vocabulary(writer: Any, tokens: list[Token]) -> None:
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token.text.encode() for token in tokens])
    writer.add_token_scores([float(len(token.text)) for token in tokens])
    writer.add_token_types([token.kind for token in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _weights(tokens: list[Token], rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    def drawn(*shape: int) -> np.ndarray[Any, Any]:
        return rng.normal(0, shape[-1] ** -0.5, shape)

    embedding = rng.normal(0, 1, (len(tokens), WIDTH))
    embedding[:, 0] = STEADY
    steady = STEADY / np.sqrt((STEADY**2 + 2 * WIDTH) / WIDTH)  # about what the norm before the output leaves of it
    output = rng.normal(0, TASTE, embedding.shape)
    output[:, 0] = [token.liking / steady for token in tokens]
    inner = {f"attn_{name}": drawn(WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    inner |= {"ffn_gate": drawn(HIDDEN, WIDTH), "ffn_up": drawn(HIDDEN, WIDTH), "ffn_down": drawn(WIDTH, HIDDEN)}
    for name in ("attn_output", "ffn_down"):
        inner[name][0] = 0.0
    inner |= {"attn_norm": np.ones(WIDTH), "ffn_norm": np.ones(WIDTH)}
    outer = {"token_embd": embedding, "output": output, "output_norm": np.ones(WIDTH)}
    return {f"{name}.weight": values for name, values in (outer | _in_block(inner)).items()}


def _in_block(inner: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    return {f"blk.0.{name}": values for name, values in inner.items()}
