"""Messages: a bonus for steps whose short text a model has called helpful (ONI's three reward models).

    F = r̂(m) / n(m)³          m: the text of the step, n: how often the agent came to it in this episode, this time too

r̂ is 1 for a text that was labelled helpful (*hash*; 0 for one that was never labelled), 1 where a classifier is surer
than a threshold (*classifier*), or the score f of a ranking where that is above a threshold, else 0 (*ranking*). As
n grows with every repetition, no text can be farmed. Not policy-invariant, so it is bounded as an event bonus, and it
fades. Models label texts while training goes on; `rl.fitting.messages` fits the last two.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from ....errors import SignalError
from ..captions import VECTOR, CaptionFormat, caption, caption_codes, row_keys, text_vector
from .agent_masks import named_agents
from .base import BaseTerm, CompiledTerm, Reads, TermName, Values, zero_where_gone
from .event import bonus_excess

if TYPE_CHECKING:
    from ...experience.rollout import PlayedInOrder, Transitions
    from ...task import Arrays, IntArray, TaskSpec
    from ..scorer import Scorer, Scorers

MAX_HELPFUL = 64  # texts in a term
BUCKETS = 256  # of the count of texts in an episode; two that share one are counted as one
NO_TEXT = np.zeros((1, VECTOR), np.float32)  # what a classifier's log-odds are measured from


# The prompt of the Generator shows this docstring to models, as the schema's description.
class MessageTerm(BaseTerm):
    """A bonus for steps whose short text was judged helpful. `form`: *hash* pays 1 for the texts in `helpful`,
    *classifier* where `scorer`'s probability is above `threshold`, *ranking* its score, at most 1, where that is. What
    an agent came to n times in an episode pays 1/n³. `features`, `events`: what texts tell of. It decays to zero."""

    fading_field = "decay_steps"
    anneals = False

    name: TermName
    kind: Literal["message"] = "message"
    form: Literal["hash", "classifier", "ranking"]
    features: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    helpful: tuple[Annotated[str, Field(max_length=600)], ...] = Field(default=(), max_length=MAX_HELPFUL)
    scorer: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")
    threshold: float = 0.5
    weight: float = Field(default=0.1, ge=0, le=1)
    agents: str
    decay_steps: int = Field(default=200_000, ge=1_000)

    @model_validator(mode="after")
    def _has_what_its_form_needs(self) -> MessageTerm:
        if (self.form == "hash") != (self.scorer is None) or (self.form == "hash") != bool(self.helpful):
            raise ValueError(
                f"form {self.form!r} needs {'helpful texts and no scorer' if self.form == 'hash' else 'a scorer'}, "
                f"got scorer {self.scorer!r} and {len(self.helpful)} helpful texts; correct it"
            )
        return self

    @property
    def remembers(self) -> bool:
        """True: it counts texts within an episode."""
        return True

    @property
    def reads(self) -> Reads:
        """What its texts tell of."""
        return Reads(frozenset(self.features), frozenset(self.events))

    @property
    def scorers(self) -> tuple[str, ...]:
        """The name of its network, where it has one."""
        return () if self.scorer is None else (self.scorer,)

    def describe(self) -> str:
        by = f"{len(self.helpful)} helpful texts" if self.scorer is None else f"{self.form} {self.scorer}"
        return (
            f"message {self.name}: {by} (weight {self.weight:g}, decays over {self.decay_steps} steps{self.for_whom})"
        )

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledMessage:
        masks = named_agents(self, spec)
        for group, mask in zip(spec.groups, masks, strict=True):
            missing = {*self.features} - {*group.feature_names()} | {*self.events} - {*group.event_names()}
            if mask.any() and missing:
                raise SignalError(
                    f"term {self.name!r} tells of {sorted(missing)!r}, which agents of {group.name!r} do not have; "
                    "name the group that it was fitted for"
                )
        return CompiledMessage(self, spec, masks, None if self.scorer is None else scorers.get(self.scorer))


@dataclass(frozen=True)
class CompiledMessage(CompiledTerm):
    """Messages for one task.

    Attributes:
        scorer: its network, None of a hash.
        known: r̂ and bucket of texts seen so far, by group and the key of their codes.
    """

    term: MessageTerm
    scorer: Scorer | None
    known: dict[tuple[int, int], tuple[float, int]] = field(default_factory=dict, compare=False)

    def new_memory(self, envs: int) -> Arrays:
        """Return how often agents came to the texts of each bucket, [E, A_g, BUCKETS]: never."""
        return {f"seen.{g}": np.zeros((envs, len(mask), BUCKETS), np.int32) for g, mask in enumerate(self.masks)}

    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:  # noqa: ARG002 nothing is discounted
        """Return [g] [..., A_g]: r̂ of each step, as if its text came for the first time."""
        return zero_where_gone([self._worths(g, transitions)[0] for g in range(len(self.masks))], transitions.alive)

    def rewards_in_order(self, played: PlayedInOrder, gamma: float, memory: Arrays) -> list[Values]:  # noqa: ARG002
        """Return [g] [T, E, A_g]: r̂ / n³ of consecutive steps."""
        out = []
        for g in range(len(self.masks)):
            worths, buckets = self._worths(g, played)
            seen, ends = memory[f"seen.{g}"], played.done > 0
            for t, bucket in enumerate(buckets[..., None]):
                times = np.take_along_axis(seen, bucket, -1) + 1
                np.put_along_axis(seen, bucket, times, -1)
                worths[t] /= times[..., 0].astype(np.float64) ** 3
                seen[ends[t]] = 0
            out.append(worths)
        return zero_where_gone(out, played.alive)

    def _worths(self, g: int, transitions: Transitions) -> tuple[Values, IntArray]:
        """Return r̂ and bucket of each agent's step in group g, [..., A_g]."""
        features, events = transitions.last_features[g], transitions.events[g]
        shape = features.shape[:-1]
        if not self.masks[g].any():
            return np.zeros(shape), np.zeros(shape, np.int64)
        form = CaptionFormat(self.term.features, self.term.events)
        codes = caption_codes(self.spec.groups[g], form, features, events)
        rows = codes.reshape(-1, codes.shape[-1])
        if not len(rows):
            return np.zeros(shape), np.zeros(shape, np.int64)
        keys, first, number = np.unique(row_keys(rows), return_index=True, return_inverse=True)
        found = []
        for key, row in zip(keys.tolist(), first.tolist(), strict=True):
            if (g, key) not in self.known:
                text = caption(self.spec, g, form, rows[row].tolist())
                self.known[g, key] = (_JUDGES[self.term.form](self, text), zlib.crc32(text.encode()) % BUCKETS)
            found.append(self.known[g, key])
        worths, buckets = np.array(found).T
        paid = np.where(self.masks[g], worths[number.reshape(-1)].reshape(shape), 0.0)
        return paid, buckets.astype(np.int64)[number.reshape(-1)].reshape(shape)

    def excess(self, strength: float, return_range: tuple[float, float] | None) -> Iterator[str]:
        """One text may be worth what an event bonus may."""
        yield from bonus_excess(f"messages {self.term.name!r}", strength, self.term.weight, return_range)


def _by_hash(term: CompiledMessage, text: str) -> float:
    return float(text in term.term.helpful)


def _by_classifier(term: CompiledMessage, text: str) -> float:
    assert term.scorer is not None
    log_odds = float(term.scorer.score(text_vector(text)[None])[0] - term.scorer.score(NO_TEXT)[0])
    return float(1.0 / (1.0 + np.exp(-np.clip(log_odds, -50, 50))) > term.term.threshold)


def _by_ranking(term: CompiledMessage, text: str) -> float:
    assert term.scorer is not None
    score = float(term.scorer.score(text_vector(text)[None])[0])
    return min(score, 1.0) if score > term.term.threshold else 0.0


_JUDGES: dict[str, Callable[[CompiledMessage, str], float]] = {
    "hash": _by_hash,
    "classifier": _by_classifier,
    "ranking": _by_ranking,
}
