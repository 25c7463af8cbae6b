"""The study of signals: names, the kind alone on a real line, and the arms of a loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cosignal.errors import ConfigError
from cosignal.rl.signals.learned.config import FIT_KINDS
from cosignal.studies import job_cache, report, signals
from cosignal.studies.late_pay import STEPS, WORKERS, LatePay
from cosignal.studies.outcome import Outcome
from cosignal.studies.report import example_config
from cosignal.studies.scales import Scales
from cosignal.studies.stations import Stations
from pettingzoo_tests import parallel_api_test


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match="--task: must be one of late_pay, .*, got 'two_switch'; correct it"):
        signals.run_signals(1, (), print, tasks=("two_switch",))
    with pytest.raises(ConfigError, match="--kind: must be one of return_decomposition, .*, got 'learned'; correct it"):
        signals.run_signals(1, (), print, kinds=("learned",))


def test_only_one_arm_of_the_loop_has_the_kind() -> None:
    config = signals.late_pay_config(example_config(3))
    assert not config.learned_signals.return_decomposition.enabled
    for kind in FIT_KINDS:
        assert [*signals.with_kind(config, kind).learned_signals.enabled] == [kind]
    assert signals.with_kind(config, "learner") == config
    # the one whose signal misleads is the only one that has one
    assert [name for name, of in signals.TASKS.items() if of(example_config()).signal.terms] == ["misled"]
    assert set(signals.BUILT_FOR.values()) < set(signals.TASKS)
    assert set(signals.BUILT_FOR) == set(signals.KINDS)


def test_late_pay_pays_the_share_that_was_right_at_the_end() -> None:
    parallel_api_test(LatePay())
    env = LatePay()
    env.reset(seed=1)
    for step in range(STEPS):
        # the first half of the workers is right
        actions = {agent: (mark + (i >= WORKERS // 2)) % 3 for i, (agent, mark) in enumerate(env.marks.items())}
        _, rewards, terminated, _, infos = env.step(actions)
        assert sum(rewards.values()) == pytest.approx(0.5 * (step == STEPS - 1))
    assert all(terminated.values())
    assert infos["worker_0"] == {"features": {"done": STEPS}, "events": {}, "success": False}


@pytest.mark.timeout(240)
def test_the_kind_alone_teaches_what_it_is_built_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_cache, "PARALLEL", 0)
    monkeypatch.setattr(report, "OUT", tmp_path / "out")
    monkeypatch.setattr(signals, "REFIT", 5_000)
    quick = {"episodes": 96, "members": 1, "hidden": (16,), "max_epochs": 40, "lr": 1e-2, "agent_ids": False}
    short = signals.late_pay_config(example_config())
    settings = short.model_dump(mode="json")
    settings["trainer"]["steps"] = 10_240
    settings["adaptation"]["enabled"] = False  # no loop among these arms
    settings["learned_signals"]["return_decomposition"] |= quick
    monkeypatch.setitem(signals.TASKS, "late_pay", lambda base: type(short).model_validate(settings))  # type: ignore[arg-type]
    result = signals.run_signals(1, ("plain", "alone"), lambda _: None, ("late_pay",), ("return_decomposition",))
    plain, alone = (Outcome(**row) for row in result["outcomes"])
    assert (plain.arm, alone.arm) == ("late_pay plain", "late_pay alone return_decomposition")
    assert plain.steps_total == plain.steps_main == alone.steps_main == 10_240
    # 96 episodes of 40 steps, played once at the start and once after 5,000 steps, in whole rollouts of 64 steps
    assert alone.steps_total > 10_240 + 2 * 96 * STEPS
    assert alone.final_return > plain.final_return + 0.1
    assert np.isfinite([row["mean"] for row in result["rows"]]).all()
    assert (
        result["command"]
        == "cosignal study signals --task late_pay --kind return_decomposition --seeds 1 --arm plain --arm alone --json"
    )


def test_stations_pay_the_share_that_is_manned() -> None:
    parallel_api_test(Stations())
    env = Stations()
    env.reset()
    paid = [env.step({f"worker_{i}": i if step < 9 else 0 for i in range(4)}) for step in range(10)]
    assert [sum(rewards.values()) for _, rewards, *_ in paid] == pytest.approx([0.1] * 9 + [0.025])
    _, _, terminated, _, infos = paid[-1]
    assert all(terminated.values())
    assert infos["worker_0"] == {"features": {"crowd": 3}, "events": {}, "success": True}


def test_scales_pay_each_for_its_own_choices() -> None:
    parallel_api_test(Scales())
    env = Scales()
    env.reset(seed=1)
    for step in range(10):
        # the dear worker is wrong in the last step
        actions = {"cheap": env.marks["cheap"], "dear": (env.marks["dear"] + (step < 9)) % 3}
        _, rewards, _, _, infos = env.step(actions)
        assert sum(rewards.values()) == pytest.approx(1.01 if step < 9 else 0.01)
    assert infos["cheap"] == {"features": {"done": 10}, "events": {"cheap_right": 1}, "success": True}
    assert infos["dear"] == {"features": {"done": 9}, "events": {"dear_right": 0}, "success": True}
