"""The benchmark of the seam: its arithmetic by hand, its slow Critic, and one short run of the real thing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cosignal.agents.rules.chat_model import RulesChatModel
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError
from cosignal.studies.bench import run_bench
from cosignal.studies.bench.overhead import (
    Measured,
    SlowCritic,
    bench_config,
    measured,
    metrics,
    run_overhead,
    t_interval,
)
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult


def test_metrics_by_hand() -> None:
    """Rates 100 and 90 against 100: ratios 1.0 and 0.9, mean 0.95, t(0.975, 1) = 12.706 times 0.05 either way."""
    plain = Measured(steps=1000, cpu_s=10, seam_cpu_s=0, wall_s=20, calls=0)
    fast = Measured(steps=1000, cpu_s=10, seam_cpu_s=0.1, wall_s=20, calls=2)
    slow = Measured(steps=900, cpu_s=10, seam_cpu_s=0.3, wall_s=20, calls=3)
    found = metrics([(fast, plain), (slow, plain)])
    assert found["overhead_fraction"] == pytest.approx(0.4 / 20)
    assert (found["seam_cpu_s"], found["cpu_s"], found["pairs"], found["calls"]) == (0.4, 20, 2, 5)
    assert found["rate_ratio"] == found["wall_rate_ratio"] == 0.95
    assert found["rate_ratio_ci95"] == pytest.approx([0.95 - 12.706 * 0.05, 0.95 + 12.706 * 0.05], abs=1e-3)
    assert found["env_steps_per_cpu_s"] == 95


def test_equal_values_have_a_point_for_an_interval() -> None:
    assert t_interval([2.0, 2.0, 2.0]) == (2.0, (2.0, 2.0))


def test_pairs_are_run_in_turned_order_and_differ_only_in_the_loop() -> None:
    asked: list[RunConfig] = []

    def measure(config: RunConfig, delay_s: float) -> Measured:
        assert delay_s == 7.0
        asked.append(config)
        return Measured(config.trainer.steps, 2.0, 0.01, 3.0, 1 if config.adaptation.enabled else 0)

    said: list[str] = []
    result = run_overhead(said.append, pairs=3, steps=10_000, delay_s=7.0, measure=measure)
    assert [config.adaptation.enabled for config in asked] == [True, False, False, True, True, False]
    assert {config.clock for config in asked} == {"overlap"}
    assert len({config.seed for config in asked}) == 1
    assert set(result) == {"name", "config", "device", "threads", "blas", "commit", "metrics"}
    assert (result["name"], result["config"]["steps"], result["metrics"]["calls"]) == ("overhead", 10_000, 3)
    assert said[0] == "pair 1: 0.50% of CPU seconds in the seam, rate ratio 1.0000, 1 calls"
    json.dumps(result)


def test_one_pair_and_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="pairs must be at least 2"):
        run_overhead(print, pairs=1)
    with pytest.raises(ConfigError, match="bench must be one of trainer, .*, got 'speed'"):
        run_bench("speed", print)


async def test_the_slow_critic_sleeps_before_every_answer_and_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    call = AIMessage("", tool_calls=[{"name": "query_trainer", "args": {}, "id": "1", "type": "tool_call"}])
    answers = [call, AIMessage("{}")]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def by_rule(self: RulesChatModel, *_: object, **__: object) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=answers.pop(0))])

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(RulesChatModel, "_agenerate", by_rule)
    critic = SlowCritic(delay_s=30.0)
    first = await critic.ainvoke([HumanMessage("?")])
    second = await critic.ainvoke([HumanMessage("?")])
    assert isinstance(first, AIMessage) and first.tool_calls
    assert json.loads(second.text)["findings"][0]["failure"] == "insufficient_evidence"
    assert slept == [30.0, 30.0]


@pytest.mark.integration
def test_a_short_real_run_is_asked_and_runs_no_branches(tmp_path: Path) -> None:
    found = measured(bench_config(200_000, tmp_path), delay_s=0.05)
    assert found.calls >= 2
    assert found.steps >= 200_000
    assert 0 < found.seam_cpu_s < found.cpu_s
