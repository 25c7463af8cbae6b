"""Fitted scorers σ(o): how good a state is from one agent's side (LCA, Lin et al., arXiv 2502.03723, section 4).

A scorer is data: an ensemble of small ReLU networks in one safetensors file, named by its content. It is evaluated here
with numpy; `rl.preferences.fit` makes it with torch. A run keeps its scorers in one folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ...errors import SignalError
from ...files import write_whole
from ..task import FloatArray

if TYPE_CHECKING:
    from .signal import Signal

FOLDER = "scorers"  # of a run directory


@dataclass(frozen=True)
class Scorer:
    """`M` networks for observations of `O` numbers; their mean is the score.

    Attributes:
        weights: [M, in, out] by layer; the last layer has one output, or of a policy one for each action.
        biases: [M, out] by layer.
        unit: what scores are divided by, the standard deviation of σ(o') − σ(o) over the pairs it was fitted to.
        anchor: what is subtracted first, the highest σ there, so that scores are at most about 0 and a true
            termination, where a potential counts as zero, pays.
    """

    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    unit: float = 1.0
    anchor: float = 0.0

    @property
    def obs_size(self) -> int:
        """The number of observed numbers, `O`."""
        return int(self.weights[0].shape[1])

    @property
    def n_outputs(self) -> int:
        """The number of outputs: 1, or of a policy that of its actions."""
        return int(self.weights[-1].shape[2])

    def members(self, obs: FloatArray) -> FloatArray:
        """Return the score of each network, anchored and in units: [..., O] → [M, ...].

        Raises:
            SignalError: observations have another size.
        """
        scores = (self._outputs(obs)[..., 0] - np.float32(self.anchor)) / np.float32(self.unit)
        return np.asarray(scores.reshape(len(scores), *obs.shape[:-1]), np.float32)

    def logits(self, obs: FloatArray) -> FloatArray:
        """Return the mean outputs of a policy: [..., O] → [..., U].

        Raises:
            SignalError: observations have another size.
        """
        return np.asarray(self._outputs(obs).mean(0).reshape(*obs.shape[:-1], self.n_outputs), np.float32)

    def _outputs(self, obs: FloatArray) -> FloatArray:
        """Return what each network gives: [..., O] → [M, N, U]."""
        if obs.shape[-1] != self.obs_size:
            raise SignalError(
                f"a scorer of {self.obs_size} observed numbers got {obs.shape[-1]}; fit one for this task"
            )
        # All members at once: [1, N, O] times [M, O, …].
        x = obs.reshape(1, -1, obs.shape[-1])
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias[:, None]
            if i < len(self.weights) - 1:
                x = np.maximum(x, 0)
        return x

    def score(self, obs: FloatArray) -> FloatArray:
        """Return the mean over the networks: [..., O] → [...]."""
        return np.asarray(self.members(obs).mean(0), np.float32)

    def disagreement(self, obs: FloatArray, last_obs: FloatArray) -> FloatArray:
        """Return the standard deviation over the networks of the score's change: [P, O] twice → [P]."""
        return np.asarray((self.members(last_obs) - self.members(obs)).std(0), np.float32)

    # ------------------------------------------------------------ as bytes

    def to_bytes(self) -> bytes:
        """Return the content of a safetensors file; equal scorers give equal bytes."""
        arrays: dict[str, NDArray[np.generic]] = {"scale": np.array([self.unit, self.anchor], np.float64)}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays |= {f"weight.{i}": np.ascontiguousarray(weight), f"bias.{i}": np.ascontiguousarray(bias)}
        return save(arrays)

    @classmethod
    def from_bytes(cls, content: bytes) -> Scorer:
        """Read what `to_bytes` gave.

        Raises:
            SignalError: the content is no scorer.
        """
        try:
            arrays = load(content)
            layers = sum(name.startswith("weight.") for name in arrays)
            unit, anchor = arrays["scale"].tolist()
            return cls(
                tuple(arrays[f"weight.{i}"] for i in range(layers)), tuple(arrays[f"bias.{i}"] for i in range(layers)),
                unit, anchor,
            )  # fmt: skip
        except (SafetensorError, KeyError, ValueError) as error:
            raise SignalError(
                f"a scorer must be a safetensors file of its own, got another ({error}); fit it anew"
            ) from error

    @property
    def name(self) -> str:
        """16 hex digits of its content."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]


class Scorers:
    """The scorers of a run: files by name in one folder, read once. What a name stands for never changes."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._known: dict[str, Scorer] = {}

    def add(self, scorer: Scorer) -> str:
        """Keep a scorer and return its name; where there is a folder, it is on disk under that name."""
        name = scorer.name
        self._known[name] = scorer
        if self.folder is not None and not self._path(self.folder, name).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(self.folder, name), scorer.to_bytes())
        return name

    def get(self, name: str) -> Scorer:
        """Return the scorer of that name.

        Raises:
            SignalError: there is none, or its file is no scorer.
        """
        if name not in self._known:
            try:
                if self.folder is None:
                    raise FileNotFoundError(name)
                self._known[name] = Scorer.from_bytes(self._path(self.folder, name).read_bytes())
            except OSError as error:
                raise SignalError(
                    f"a learned term needs its scorer, {name!r} is not in {str(self.folder)!r}; "
                    "fit it, or drop the term"
                ) from error
        return self._known[name]

    @staticmethod
    def _path(folder: Path, name: str) -> Path:
        return folder / f"{name}.safetensors"


NO_SCORERS = Scorers()  # of a signal without learned terms


def copy_scorers(signal: Signal, source: Path, target: Path) -> None:
    """Copy the scorers that the signal names from one folder into another.

    Raises:
        SignalError: one is missing.
    """
    known, new = Scorers(source), Scorers(target)
    for term in signal.terms:
        for name in term.scorers:
            new.add(known.get(name))
