"""`cosignal bench overhead`: the cost of the loop for a trainer that does not wait for it.

Overlap clock, and a Critic that takes `delay_s` for every answer, asks for evidence before each diagnosis, and then
finds nothing, so that no branch ever runs beside the trainer: what is measured is polling, publishing and
snapshotting, and nothing else. The loop looks again as soon as it has an answer. Against it stands the same seed
without adaptation, one after the other in turned order, so that a machine that grows slower favours neither.

`overhead_fraction`: CPU seconds of the trainer's own thread in answering, publishing and snapshotting for looks, as a
share of all CPU seconds of its process from the first update to the last. `rate_ratio`: environment steps per CPU
second of the trainer with the loop, divided by those without, mean over pairs with a 95 % t interval;
`wall_rate_ratio` the same per second of wall time, which also sees who else uses the machine.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from scipy import stats

from ...agents.rules.chat_model import NAME, RulesChatModel
from ...config.run_config import RunConfig
from ...errors import ConfigError
from ...graphs.session.run import start
from ...runs.run_view import RunView
from ..outcome import Interval
from ..report import Tell, example_config
from .measure import bench_result

DELAY_S = 30.0
NOTHING = {"findings": [{"failure": "insufficient_evidence", "cites": [], "explanation": "A benchmark asks."}]}


class SlowCritic(RulesChatModel):
    """A Critic that asks for evidence as the rules do, then finds nothing; it sleeps `delay_s` before every answer."""

    delay_s: float

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await asyncio.sleep(self.delay_s)
        answer = await super()._agenerate(messages, stop, run_manager, **kwargs)
        # what the rules want to see is asked for, what they find is dropped
        message = answer.generations[0].message
        if isinstance(message, AIMessage) and message.tool_calls:
            return answer
        nothing = AIMessage(json.dumps(NOTHING), response_metadata={"model_name": NAME})
        return ChatResult(generations=[ChatGeneration(message=nothing)])


@dataclass(frozen=True)
class Measured:
    """One run of the trainer.

    Attributes:
        steps: environment steps of the main line.
        cpu_s: CPU seconds of the process.
        seam_cpu_s: of them, those in answering, publishing and snapshotting for the loop.
        wall_s: seconds of wall time.
        calls: model calls that were answered.
    """

    steps: int
    cpu_s: float
    seam_cpu_s: float
    wall_s: float
    calls: int

    @property
    def rate(self) -> float:
        """Steps per CPU second."""
        return self.steps / self.cpu_s

    @property
    def wall_rate(self) -> float:
        """Steps per second of wall time."""
        return self.steps / self.wall_s


Measure = Callable[[RunConfig, float], Measured]


def run_overhead(
    tell: Tell,
    pairs: int = 6,
    steps: int = 1_000_000,
    delay_s: float = DELAY_S,
    measure: Measure | None = None,
) -> dict[str, Any]:
    """Measure runs with the loop and without, pair by pair.

    Args:
        tell: is given lines of progress.
        pairs: how many.
        steps: main steps of a run.
        delay_s: seconds that the Critic takes for an answer.
        measure: runs a config once (tests); `measured` where None.

    Raises:
        ConfigError: there are fewer than two pairs, which have no interval.
    """
    if pairs < 2:
        raise ConfigError(f"pairs must be at least 2, since one has no spread, got {pairs}; raise it")
    measure = measure or measured
    runs: list[tuple[Measured, Measured]] = []
    with tempfile.TemporaryDirectory() as folder:
        config = bench_config(steps, Path(folder))
        alone = config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"enabled": False})})
        for pair in range(1, pairs + 1):
            if pair % 2:
                with_loop, without = measure(config, delay_s), measure(alone, delay_s)
            else:  # in the other order, so that a machine that grows slower favours neither
                without, with_loop = measure(alone, delay_s), measure(config, delay_s)
            runs.append((with_loop, without))
            share, ratio = with_loop.seam_cpu_s / with_loop.cpu_s, with_loop.rate / without.rate
            seam = f"{share:.2%} of CPU seconds in the seam"
            tell(f"pair {pair}: {seam}, rate ratio {ratio:.4f}, {with_loop.calls} calls")
    sizes = {
        "task": config.task.model_dump(mode="json"), "seed": config.seed, "clock": config.clock, "steps": steps,
        "envs": config.trainer.envs, "rollout": config.trainer.rollout, "delay_s": delay_s,
        "interval": config.adaptation.interval, "patience": config.adaptation.patience,
    }  # fmt: skip
    return bench_result("overhead", sizes, metrics(runs))


def bench_config(steps: int, run_dir: Path) -> RunConfig:
    """Return the config of the shipped example's run, which stalls, under the overlap clock.

    The loop looks whenever it may, and its budget never keeps it from asking.
    """
    config = example_config()
    # the least that a config may ask for: no branch is ever run
    shortest = 2 * config.trainer.envs * config.trainer.rollout
    changes = {
        "clock": "overlap", "run_dir": run_dir,
        "trainer": config.trainer.model_copy(update={"steps": steps}),
        "adaptation": config.adaptation.model_copy(update={"patience": 0, "stage": "exploring", "max_share": 0.99}),
        "branches": config.branches.model_copy(update={"horizon": shortest}),
    }  # fmt: skip
    return config.model_copy(update=changes)


def metrics(pairs: Sequence[tuple[Measured, Measured]]) -> dict[str, Any]:
    """Return the metrics of pairs of runs (with the loop, without)."""
    with_loop = [pair[0] for pair in pairs]
    seam, cpu = (sum(getattr(run, name) for run in with_loop) for name in ("seam_cpu_s", "cpu_s"))
    ratio, interval = t_interval([a.rate / b.rate for a, b in pairs])
    wall, wall_interval = t_interval([a.wall_rate / b.wall_rate for a, b in pairs])
    return {
        "overhead_fraction": round(seam / cpu, 6), "seam_cpu_s": round(seam, 4), "cpu_s": round(cpu, 2),
        "rate_ratio": round(ratio, 4), "rate_ratio_ci95": [round(x, 4) for x in interval],
        "wall_rate_ratio": round(wall, 4), "wall_rate_ratio_ci95": [round(x, 4) for x in wall_interval],
        "env_steps_per_cpu_s": round(float(np.mean([run.rate for run in with_loop]))),
        "pairs": len(pairs), "calls": sum(run.calls for run in with_loop),
    }  # fmt: skip


def t_interval(values: Sequence[float]) -> tuple[float, Interval]:
    """Return the mean of two values or more, and its 95 % Student t interval."""
    mean, error = float(np.mean(values)), float(stats.sem(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, (mean - reach, mean + reach)


def measured(config: RunConfig, delay_s: float) -> Measured:
    """Train once with a Critic that takes `delay_s` for an answer, if the config adapts.

    Raises:
        ConfigError: a branch ran beside the trainer, so that something else was measured.
    """

    async def train() -> Path:
        async with start(config, chat_models={"critic": SlowCritic(delay_s=delay_s)}) as run:
            return (await run.result()).path

    path = asyncio.run(train())
    view = RunView(path)
    if view.branches():
        raise ConfigError(f"the benchmark must run no branches, got {len(view.branches())} in {str(path)!r}; report it")
    counters = view.counters()
    cpu_s, seam_cpu_s, wall_s = (float(counters[name]) for name in ("cpu_s", "seam_cpu_s", "train_wall_s"))
    return Measured(int(counters["steps_main"]), cpu_s, seam_cpu_s, wall_s, len(view.calls()))
