"""Factors of terms: their gradient against finite differences, what may not move, state, and what misleads fades."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.blend import MOST, _adam_step, _loss_after_step, weighted
from cosignal.rl.algorithms.config import IPPOConfig, LIIRConfig
from cosignal.rl.algorithms.ppo import PPO
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.signals.config import SignalConfig
from cosignal.rl.signals.learner_settings import LearnerSettings
from cosignal.rl.signals.shaping import Shaping
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import TableTerm
from cosignal.rl.training.checkpoint import load_snapshot, save_snapshot
from cosignal.rl.training.config import TrainerConfig, TrainingConfig
from cosignal.rl.training.line import TrainingLine
from pydantic import ValidationError
from training_lines import assert_same_state


def table(name: str, worth: float) -> TableTerm:
    """What each of the first four cells is worth."""
    rows = [{"when": f"cell > {k}.5", "worth": worth} for k in range(4)]
    return TableTerm.model_validate(
        {"name": name, "rows": rows, "weight": 0.5, "agents": "agents", "decay_steps": 10_000_000}
    )


GOOD, BAD = table("good", 1.0), table("bad", -1.0)


def chain_line(seed: int = 1, algorithm: str = "ippo", *terms: TableTerm, **settings: Any) -> TrainingLine:
    trainer = TrainerConfig.model_validate(
        {"algorithm": algorithm, "envs": 16, "rollout": 40, "steps": 100_000, algorithm: {"lr": 2e-4, **settings}}
    )
    config = TrainingConfig(
        seed=seed, clock="lockstep", signal=SignalConfig(), trainer=trainer, pause_every_steps=None, margin=0.02,
        task=TaskConfig(env="cosignal.studies.chain:Chain", env_args={"length": 5}, n_max=30),
    )  # fmt: skip
    line = TrainingLine(config)
    line.apply_signal(Signal(version=1, beta=0.5, scale=1.0, terms=terms))
    return line


# ------------------------------------------------------------ by hand


def test_terms_are_multiplied_and_what_another_view_of_the_reward_adds_is_not() -> None:
    first, second = np.array([[[1.0, 2.0]]], np.float32), np.array([[[10.0, 20.0]]], np.float32)
    shaping = Shaping([first + second + 100], [[first], [second]])
    found = weighted(shaping, [0.5, 2.0])
    assert found.total[0].tolist() == [[[120.5, 141.0]]]
    assert found.per_term[1][0].tolist() == [[[20.0, 40.0]]]


def test_a_step_is_the_rate_at_most_at_first_and_stays_within_bounds() -> None:
    state = np.array([1.0, 0, 0, 0])
    _adam_step(state, 1e-9, 0.1)
    assert state[0] == pytest.approx(0.9, abs=1e-3)
    for _ in range(50):
        _adam_step(state, 1e-9, 0.1)
    assert state[0] == 0.0
    for _ in range(100):
        _adam_step(state, -1e-9, 0.1)
    assert state[0] == MOST


@pytest.mark.parametrize("algorithm", ["ippo", "mappo"])
def test_its_gradient_is_that_of_finite_differences(algorithm: str) -> None:
    line = chain_line(1, algorithm, GOOD, BAD, lr=0.05, advantage_norm="none", blend_lr=0.1)
    line.step = line.collector.collect(line.learner, line.step, None)
    ppo, rollout, rewards = line.learner, line.collector.rollout, line.rewards()
    assert isinstance(ppo, PPO)
    # in float64, where differences can be taken
    ppo.networks[0].double()
    shaping = rewards.shape(rollout)
    [batch] = ppo.batches(rollout, shaping, rewards)
    for name in ("obs", "critic_obs", "logp", "rewards", "terminated", "done"):
        setattr(batch, name, getattr(batch, name).astype(np.float64))
    object.__setattr__(batch.cuts, "critic_obs", batch.cuts.critic_obs.astype(np.float64))
    ppo.fused = [None]
    extrinsic = torch.randn((*rollout.reward.shape, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    added = [torch.from_numpy(term[0].astype(np.float64)) for term in shaping.per_term]

    def loss(values: list[float]) -> torch.Tensor:
        factors = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        moved = _loss_after_step(ppo, 0, batch, extrinsic, factors, added)
        assert moved is not None
        return torch.stack([moved, *torch.autograd.grad(moved, factors)[0]]).detach()

    base, *slopes = loss([1.0, 1.0]).tolist()
    # the factors act by their difference from what the batch holds, so that shifted rewards are another batch
    for k, slope in enumerate(slopes):
        shifted, eps = batch.rewards.copy(), 1e-4
        values = []
        for sign in (1, -1):
            batch.rewards = shifted + sign * eps * added[k].numpy()
            values.append(loss([1.0, 1.0])[0].item())
        batch.rewards = shifted
        assert slope == pytest.approx((values[0] - values[1]) / (2 * eps), rel=1e-3, abs=1e-9)
    assert np.isfinite(base)
    assert max(map(abs, slopes)) > 1e-6
    line.close()


# ------------------------------------------------------------ what may not move


def test_the_first_update_is_the_base_to_the_last_bit_and_without_terms_every_one_is() -> None:
    def policy(updates: int, *terms: TableTerm, **settings: Any) -> dict[str, Any]:
        line = chain_line(1, "ippo", *terms, **settings)
        for _ in range(updates):
            line.update()
        state = line.learner.state_dict()
        line.close()
        return {name: x for name, x in state.items() if "extrinsic" not in name and "blend" not in name}

    for updates, terms, same in ((1, (GOOD, BAD), True), (2, (GOOD, BAD), False), (3, (), True)):
        base, blended = policy(updates, *terms), policy(updates, *terms, blend_lr=0.1)
        equal = all(np.array_equal(base[name], blended[name], equal_nan=True) for name in base)
        assert equal == same, updates


def test_where_the_sparse_reward_does_not_vary_no_factor_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.studies.chain.SMALL", 0.0)
    monkeypatch.setattr("cosignal.studies.chain.LARGE", 0.0)
    line = chain_line(1, "ippo", GOOD, blend_lr=0.2)
    for _ in range(3):
        line.update()
    assert line.learner.term_factors == [1.0]
    line.close()


def test_recurrent_networks_and_liir_refuse_it() -> None:
    with pytest.raises(ValidationError, match="must be 0 where network is gru"):
        IPPOConfig(network="gru", blend_lr=0.1)
    with pytest.raises(ValidationError, match="must be 0 in liir"):
        LIIRConfig(blend_lr=0.1)


# ------------------------------------------------------------ state


def test_factors_are_in_snapshots_go_with_their_terms_and_begin_when_a_signal_asks_for_them(tmp_path: Path) -> None:
    line = chain_line(1, "ippo", GOOD, BAD)
    assert line.learner.term_factors is None
    line.update()
    line.apply_signal(Signal(version=2, beta=0.5, scale=1.0, terms=(GOOD, BAD), learner=LearnerSettings(blend_lr=0.2)))
    for _ in range(3):
        line.update()
    save_snapshot(line, tmp_path / "state")
    other = chain_line(2, "ippo")
    load_snapshot(other, tmp_path / "state")
    row = line.update()
    other.update()
    assert_same_state(line, other)
    assert line.learner.term_factors == other.learner.term_factors != [1.0, 1.0]
    # what is told of the terms is what was paid
    factors = line.learner.term_factors
    assert factors is not None
    good, bad = (row.row["terms"][name][0] for name in ("good", "bad"))
    assert good / factors[0] == pytest.approx(-bad / factors[1], rel=1e-3)
    # another term of the same name begins anew, and one that stays goes on
    stays = line.learner.blend.factors[line.compiled.term_keys[1]][0]  # type: ignore[attr-defined]
    line.apply_signal(Signal(version=3, beta=0.5, scale=1.0, terms=(table("good", 0.5), BAD)))
    line.update()
    assert line.learner.term_factors == [1.0, stays]
    line.close()
    other.close()


def test_what_has_left_the_signal_is_forgotten() -> None:
    line = chain_line(1, "ippo", BAD, blend_lr=0.2)
    for _ in range(3):
        line.update()
    assert line.learner.term_factors != [1.0]
    line.apply_signal(Signal(version=2, scale=1.0))
    line.update()
    assert line.learner.term_factors == []
    line.apply_signal(Signal(version=3, beta=0.5, scale=1.0, terms=(BAD,)))
    line.update()
    assert line.learner.term_factors == [1.0]
    line.close()


# ------------------------------------------------------------ learning


@pytest.mark.timeout(240)
def test_what_misleads_fades_and_does_no_harm() -> None:
    """Twins: the misleading term without factors, after which the policy is at the wrong end."""
    results: dict[str, list[float]] = {"harm": [], "blended": [], "factor": []}
    for seed in (2, 3):
        for arm, terms, rate in (("harm", (BAD,), 0.0), ("blended", (BAD,), 0.2), ("factor", (BAD, GOOD), 0.2)):
            line = chain_line(seed, "ippo", *terms, blend_lr=rate)
            returns = [line.update().row["returns"] for _ in range(120 if arm == "factor" else 40)]
            factors = line.learner.term_factors
            mean = float(np.mean([x for x in returns[-5:] if x is not None]))
            results[arm].append(mean if arm != "factor" or factors is None else factors[0])
            line.close()
    assert max(results["harm"]) < 0.2, results
    assert min(results["blended"]) > 0.95, results
    assert max(results["factor"]) <= 0.05, results
