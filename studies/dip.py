"""What taking shaping away costs a line that has half learnt its task, with and without the exact offset of the critic.

A Two-Switch line under the hand-made potential is trained to half competence. From that state it goes on for `steps`
main steps, on the same reseeded streams in every arm:

* `keep`                under the signal as it is
* `remove`              without the potential, the critic offset by it: what the trainer does
* `remove_uncorrected`  without the potential and without the offset, which no config can ask for
* `anneal`              the potential's weight falls to zero over `anneal_steps`, offset by what has left

What is compared is the sparse return of training episodes, mean over updates, against `keep` on the same streams: over
all steps, and over the first third, where a dip is deepest. With the offset every arm's first update is `keep`'s to
rounding; later they part as any two runs do that differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..config.run_config import RunConfig
from ..errors import ConfigError
from ..rl.signals.config import SignalConfig
from ..rl.signals.signal import Signal
from ..rl.stage import window
from ..rl.task import Arrays
from ..rl.training.line import LineData, TrainingLine
from .outcome import mean_ci
from .report import Row, Tell, example_config, finished, row
from .two_switch import HAND_MADE

HALF = 0.5  # success rate at which the line is forked
FORK_WINDOW = 16_384  # main steps over which it is measured
State = tuple[Arrays, LineData]
Change = Callable[[TrainingLine], None]


def run_dip(
    tell: Tell,
    config: RunConfig | None = None,
    seeds: int = 8,
    steps: int = 120_000,
    anneal_steps: int = 50_000,
    success: float = HALF,
) -> dict[str, Any]:
    """Rows `ARM.difference` and `ARM.first_third` with 95 % intervals over `seeds` continuations.

    Written to `studies_out/dip/` besides. `config`: another than the shipped example (tests). `success`: at which the
    line is forked. Raises ConfigError when the line never gets there.
    """
    config = config or example_config()
    line = _line(config)
    fork = _train_to(line, success, config)
    tell(f"forked at {line.steps_main:_} steps")
    curves: dict[str, list[list[float]]] = {}
    for arm, change in arms(anneal_steps).items():
        curves[arm] = [_continue(line, fork, seed, change, steps) for seed in range(1, seeds + 1)]
        tell(f"{arm}: sparse return {np.mean(_means(curves[arm])):.3f}")
    spent = fork[1]["steps_main"] + len(curves) * seeds * steps
    rows = _rows(curves, line.margin)
    more = {"steps_total": spent, "forked_at": fork[1]["steps_main"], "steps": steps, "anneal_steps": anneal_steps}
    return finished("dip", seeds, (), rows, _table(rows), more, tell)


def arms(anneal_steps: int) -> Mapping[str, Change]:
    """What each arm does to the line at the fork."""

    def keep(line: TrainingLine) -> None:
        """Nothing."""

    def remove(line: TrainingLine) -> None:
        line.apply_signal(Signal())

    def remove_uncorrected(line: TrainingLine) -> None:
        line.apply_signal(Signal())
        line.offsets.clear()

    def anneal(line: TrainingLine) -> None:
        terms = tuple(term.fading_over(anneal_steps) for term in line.signal.terms)
        line.apply_signal(line.signal.model_copy(update={"terms": terms}))

    return {"keep": keep, "remove": remove, "remove_uncorrected": remove_uncorrected, "anneal": anneal}


# ---------------------------------------------------------------- lines


def _line(config: RunConfig) -> TrainingLine:
    hand = SignalConfig(beta=0.5, terms=(HAND_MADE,))
    return TrainingLine(config.training().model_copy(update={"seed": 1, "signal": hand}))


def _train_to(line: TrainingLine, success: float, config: RunConfig) -> State:
    while line.steps_main < config.trainer.steps:
        line.update()
        now = window(line.history, line.steps_main, FORK_WINDOW)
        if now is not None and now.success >= success:
            return line.state_dict()
    raise ConfigError(
        f"the line must reach a success rate of {success:g} within {line.steps_main:_} steps, got none; train longer"
    )


def _continue(line: TrainingLine, fork: State, seed: int, change: Change, steps: int) -> list[float]:
    """The sparse return of training episodes after each update in which one ended."""
    line.load_state_dict(*fork)
    line.reseed(seed)
    change(line)
    start, found = line.steps_main, []
    while line.steps_main < start + steps:
        returns = line.update().row["returns"]
        found += [] if returns is None else [returns]
    return found


# ---------------------------------------------------------------- rows


def _rows(curves: Mapping[str, list[list[float]]], margin: float) -> list[Row]:
    rows = []
    for arm in curves:
        if arm == "keep":
            continue
        for name, part, what in (("difference", 1.0, "all steps"), ("first_third", 1 / 3, "the first third")):
            pairs = zip(_means(curves[arm], part), _means(curves["keep"], part), strict=True)
            mean, interval = mean_ci([a - b for a, b in pairs])
            statement = f"sparse return against keep, over {what}"
            verdict = _verdict(interval, margin)
            rows.append(row(f"{arm}.{name}", statement, len(curves[arm]), mean, interval, verdict))
    return rows


def _means(curves: Sequence[Sequence[float]], part: float = 1.0) -> list[float]:
    """Of the first `part` of each curve."""
    return [float(np.mean(curve[: max(round(part * len(curve)), 1)])) for curve in curves]


def _verdict(interval: tuple[float, float], margin: float) -> str:
    low, high = interval
    return "nothing dips" if low > -margin else "dips" if high < -margin else "undecided"


def _table(rows: Sequence[Row]) -> str:
    lines = ["| arm | compared | difference | verdict |", "|---|---|---|---|"]
    for found in rows:
        low, high = found["ci95"]
        arm, _, part = found["id"].partition(".")
        lines.append(f"| {arm} | {part} | {found['mean']:+.3f} [{low:+.3f}, {high:+.3f}] | {found['verdict']} |")
    return "\n".join(lines)
