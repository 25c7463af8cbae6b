"""`cosignal study dip`: the cost of taking shaping away from a line that has half learnt its task.

It is measured with and without the exact offset of the critic. A Two-Switch line under the hand-made potential is
trained to half competence. From that state it goes on for `steps` main steps, on the same reseeded streams in every
arm:

* `keep`                under the signal as it is
* `remove`              without the potential, the critic offset by it: what the trainer does
* `remove_uncorrected`  without the potential and without the offset, which no config can ask for
* `anneal`              the potential's weight falls to zero over `anneal_steps`, offset by what has left

The sparse return of training episodes, mean over updates, is compared with that of `keep` on the same streams: over all
steps, and over the first third, where a dip is deepest. With the offset every arm's first update is `keep`'s to
rounding; later they part as any two runs do that differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..config.run_config import RunConfig
from ..errors import ConfigError
from ..rl.signals.signal import Signal
from ..rl.stage import window
from ..rl.task import Arrays
from ..rl.training.line import LineData, TrainingLine
from .outcome import mean_ci
from .report import Row, Tell, example_config, finish_study, result_row
from .two_switch import HAND_SHAPED

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
    """Return rows `ARM.difference` and `ARM.first_third`; the result is also written to `studies_out/dip/`.

    Args:
        tell: is given lines of progress.
        config: another than the shipped example (tests).
        seeds: continuations of each arm.
        steps: main steps of a continuation.
        anneal_steps: of the arm `anneal`.
        success: success rate at which the line is forked.

    Raises:
        ConfigError: the line never gets to that success rate.
    """
    config = config or example_config()
    line = shaped_line(config)
    fork = _train_to(line, success, config)
    tell(f"forked at {line.steps_main:_} steps")
    curves: dict[str, list[list[float]]] = {}
    # every arm goes on from the same state, on the same streams
    for arm, change in arms(anneal_steps).items():
        curves[arm] = [train_on(line, fork, seed, change, steps) for seed in range(1, seeds + 1)]
        tell(f"{arm}: sparse return {np.mean(_means(curves[arm])):.3f}")
    rows = difference_rows(curves, line.margin)
    table = ["| arm | compared | difference | verdict |", "|---|---|---|---|"]
    for row in rows:
        mean, low, high = (f"{value:+.3f}" for value in (row["mean"] or 0.0, *(row["ci95"] or ())))
        arm, _, part = row["id"].partition(".")
        table.append(f"| {arm} | {part} | {mean} [{low}, {high}] | {row['verdict']} |")
    forked_at = fork[1]["steps_main"]
    total = forked_at + len(curves) * seeds * steps
    extra = {"steps_total": total, "forked_at": forked_at, "steps": steps, "anneal_steps": anneal_steps}
    return finish_study("dip", seeds, (), rows, "\n".join(table), extra, tell)


def arms(anneal_steps: int) -> Mapping[str, Change]:
    """Return each arm's change of the line at the fork."""

    def keep(line: TrainingLine) -> None:
        """Change nothing."""

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


def shaped_line(config: RunConfig) -> TrainingLine:
    """Return a new line under the hand-made potential."""
    return TrainingLine(config.training().model_copy(update={"seed": 1, "signal": HAND_SHAPED}))


def _train_to(line: TrainingLine, success: float, config: RunConfig) -> State:
    while line.steps_main < config.trainer.steps:
        line.update()
        now = window(line.history, line.steps_main, FORK_WINDOW)
        if now is not None and now.success >= success:
            return line.state_dict()
    raise ConfigError(
        f"the line must reach a success rate of {success:g} within {line.steps_main:_} steps, got none; train longer"
    )


def train_on(line: TrainingLine, fork: State, seed: int, change: Change, steps: int) -> list[float]:
    """Train `line` from the fork under a change.

    Return the sparse return of training episodes after each update in which one ended.
    """
    # seed k gives the same streams in every arm
    line.load_state_dict(*fork)
    line.reseed(seed)
    change(line)
    start, returns = line.steps_main, []
    while line.steps_main < start + steps:
        mean = line.update().row["returns"]
        if mean is not None:
            returns.append(mean)
    return returns


# ---------------------------------------------------------------- rows


def difference_rows(curves: Mapping[str, list[list[float]]], margin: float) -> list[Row]:
    """Return two rows for each arm but `keep`: its sparse return minus that of `keep`, paired by seed.

    Args:
        curves: arm → returns of each seed, as `train_on` returns them.
        margin: a difference within it is no dip.
    """
    rows = []
    for arm in curves:
        if arm == "keep":
            continue
        for name, share, part in (("difference", 1.0, "all steps"), ("first_third", 1 / 3, "the first third")):
            pairs = zip(_means(curves[arm], share), _means(curves["keep"], share), strict=True)
            mean, (low, high) = mean_ci([a - b for a, b in pairs])
            verdict = "nothing dips" if low > -margin else "dips" if high < -margin else "undecided"
            statement = f"sparse return against keep, over {part}"
            rows.append(result_row(f"{arm}.{name}", statement, len(curves[arm]), mean, (low, high), verdict))
    return rows


def _means(curves: Sequence[Sequence[float]], share: float = 1.0) -> list[float]:
    """Return the mean of the first `share` of each curve."""
    return [float(np.mean(curve[: max(round(share * len(curve)), 1)])) for curve in curves]
