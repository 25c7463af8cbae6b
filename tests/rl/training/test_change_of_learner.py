"""Signals that change how policies learn: the policies stay what they are, and snapshots know of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.algorithms.config import IPPOConfig
from cosignal.rl.algorithms.parameter_sharing import network_groups, rnn_states_by_network
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.experience.rnn_states import RNNStates
from cosignal.rl.signals.config import SignalConfig
from cosignal.rl.signals.learner_settings import LearnerSettings
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import PotentialTerm
from cosignal.rl.training.checkpoint import load_snapshot, save_snapshot
from cosignal.rl.training.config import TrainerConfig, TrainingConfig
from cosignal.rl.training.line import TrainingLine
from cosignal.studies.stations import STEPS
from training_lines import assert_same_state, small_config, trained

APART = LearnerSettings(share_parameters=False)
NEAR = PotentialTerm(name="near", expression="-dist_goal / 17")


@pytest.mark.parametrize(
    ("algorithm", "network"), [("ippo", "mlp"), ("mappo", "mlp"), ("mappo", "gru"), ("liir", "mlp")]
)
def test_networks_of_their_own_begin_as_copies_of_the_shared_one(algorithm: str, network: str) -> None:
    config = small_config(algorithm=algorithm, **{algorithm: {"network": network}})
    line = trained(config, 2)
    shared, remembered = line.learner.state_dict(), line.rnn_states and line.rnn_states.copied()
    line.apply_signal(Signal(version=1, learner=APART))
    assert [x.n_agents for x in line.learner.network_groups] == [1, 1]
    own = line.learner.state_dict()
    assert {name for name in own if name.startswith("0.")} == {name for name in shared if name.startswith("0.")}
    for name, value in own.items():
        rest = name.partition(".")[2]
        assert np.array_equal(value, shared[f"0.{rest}" if name[0].isdigit() else name], equal_nan=True), name
    if remembered is not None:
        assert line.rnn_states is not None
        for n in range(2):
            assert np.array_equal(line.rnn_states.actor[n], remembered.actor[0][:, [n]])
            assert np.array_equal(line.rnn_states.critic[n], remembered.critic[0][:, [n]])
    # and then they go their own ways
    line.update()
    state = line.learner.state_dict()
    name = next(name for name in state if name.startswith("0.") and "adam" not in name)
    assert not np.array_equal(state[name], state["1." + name.partition(".")[2]])


def test_step_size_and_norm_act_from_the_next_update_on_and_stay() -> None:
    line, twin = trained(small_config(), 1), trained(small_config(), 1)
    line.apply_signal(Signal(version=1, learner=LearnerSettings(lr=1e-5, advantage_norm="agent")))
    line.apply_signal(Signal(version=2, terms=(NEAR,)))
    assert line.signal.learner == LearnerSettings(lr=1e-5, advantage_norm="agent")
    assert (line.learner.config.lr, line.learner.config.advantage_norm) == (1e-5, "agent")  # type: ignore[attr-defined]
    before = {name: x for name, x in line.learner.state_dict().items() if "adam" not in name}
    line.update()
    twin.update()

    def moved(one: TrainingLine) -> float:
        state = one.learner.state_dict()
        return max(float(np.abs(state[name] - x).max()) for name, x in before.items() if name.startswith("0."))

    assert moved(line) < 0.1 * moved(twin)


def test_nothing_that_is_set_changes_nothing_to_the_last_bit() -> None:
    line, twin = trained(small_config(), 2), trained(small_config(), 2)
    line.apply_signal(Signal(version=1, learner=LearnerSettings(lr=6e-4)))
    twin.apply_signal(Signal(version=1))
    line.update()
    twin.update()
    for name, value in line.learner.state_dict().items():
        assert np.array_equal(value, twin.learner.state_dict()[name], equal_nan=True), name


def test_a_snapshot_goes_on_bit_for_bit_and_leads_back_to_shared_networks(tmp_path: Path) -> None:
    line = trained(small_config(), 1)
    save_snapshot(line, tmp_path / "shared")
    line.apply_signal(Signal(version=1, learner=APART))
    line.update()
    save_snapshot(line, tmp_path / "apart")
    other = TrainingLine(small_config())
    load_snapshot(other, tmp_path / "apart")
    line.update()
    other.update()
    assert_same_state(line, other)
    # as a rollback does
    load_snapshot(line, tmp_path / "shared")
    assert [x.n_agents for x in line.learner.network_groups] == [2]
    again = trained(small_config(), 2)
    line.update()
    assert_same_state(line, again)
    # as a fresh start of a race does
    other.begin_anew(1, Signal(learner=APART))
    assert [x.n_agents for x in other.learner.network_groups] == [1, 1]


def test_beside_the_same_terms_it_changes_nothing_but_how_policies_learn() -> None:
    """Neither the scale is frozen anew, nor do the terms begin to fade again."""
    annealing = NEAR.model_copy(update={"anneal_steps": 10_000})
    line = trained(small_config(), 1)
    line.apply_signal(Signal(version=1, terms=(annealing,)))
    for _ in range(4):
        line.update()
    scale, age = line.signal.scale, line.signal_age
    line.apply_signal(Signal(version=2, terms=(annealing,), learner=LearnerSettings(lr=1e-4)))
    assert (line.signal.scale, line.signal_age, line.offsets) == (scale, age, [])
    assert line.signal.terms == (annealing,)
    assert age > 0


def test_after_a_snapshot_that_could_not_be_loaded_the_next_one_is_learned_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker's line, which goes on with another branch."""
    line = trained(small_config(), 1)
    save_snapshot(line, tmp_path / "plain")
    line.apply_signal(Signal(version=1, learner=LearnerSettings(lr=1e-5)))
    save_snapshot(line, tmp_path / "slow")
    other = TrainingLine(small_config())
    with monkeypatch.context() as patch:
        patch.setattr(other.task, "load_state_dict", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load_snapshot(other, tmp_path / "slow")
    load_snapshot(other, tmp_path / "plain")
    assert other.learner.config.lr == 6e-4  # type: ignore[attr-defined]


def test_what_is_new_draws_from_another_stream_for_every_seed_of_a_branch() -> None:
    weights = []
    for seed in (1, 2):
        line = trained(small_config(), 1)
        line.reseed(seed)
        line.apply_signal(Signal(version=1, terms=(NEAR,), learner=LearnerSettings(blend_lr=0.1)))
        weights.append(line.learner.state_dict()["0.extrinsic.layers.0.weight"])
    assert not np.array_equal(*weights)


@pytest.mark.parametrize("algorithm", ["vdn", "qmix"])
def test_learners_from_a_replay_refuse_it_and_stay_as_they_were(algorithm: str) -> None:
    line = trained(small_config(algorithm=algorithm), 1)
    with pytest.raises(SignalError, match=r"learner: must be left out where an algorithm learns from a replay"):
        line.check_signal(Signal(version=1, learner=APART))


def test_states_of_recurrent_networks_go_with_their_agents() -> None:
    line = TrainingLine(small_config())
    old, new = network_groups(line.spec, True), network_groups(line.spec, False)
    states = RNNStates([np.arange(8, dtype=np.float32).reshape(2, 2, 2)], [])
    found = rnn_states_by_network(states, old, new)
    assert [x.tolist() for x in found.actor] == [[[[0, 1]], [[4, 5]]], [[[2, 3]], [[6, 7]]]]
    assert found.critic == []


# ------------------------------------------------------------ learning


def learned_return(task: TaskConfig, signal: Signal, updates: int, **trainer: Any) -> float:
    """Return the mean return of the last five updates of a line that learns from this signal."""
    short = TrainerConfig(envs=16, rollout=2 * STEPS, steps=100_000, **{"ippo": IPPOConfig(lr=2e-3), **trainer})
    config = TrainingConfig(
        seed=2, clock="lockstep", task=task,
        signal=SignalConfig(), trainer=short, pause_every_steps=None, margin=0.02,
    )  # fmt: skip
    line = TrainingLine(config)
    line.apply_signal(signal)
    found = [line.update().row["returns"] for _ in range(updates)]
    line.close()
    return float(np.mean([x for x in found[-5:] if x is not None]))


@pytest.mark.timeout(240)
def test_agents_that_observe_the_same_learn_to_differ_by_networks_of_their_own_only() -> None:
    """Twins: the shared network as it is, and under a signal that pays for being alone."""
    stations = TaskConfig(env="cosignal.studies.stations:Stations", n_max=STEPS, agent_ids=False)
    alone = PotentialTerm(name="alone", expression="-crowd / 3")
    arms = {
        "plain": Signal(version=1),
        "signal": Signal(version=1, beta=1.0, scale=0.1, terms=(alone,)),
        "apart": Signal(version=1, learner=APART),
    }
    results = {name: learned_return(stations, signal, 100) for name, signal in arms.items()}
    assert results["apart"] > 0.9, results
    assert max(results["plain"], results["signal"]) < 0.75, results


@pytest.mark.timeout(240)
def test_who_is_paid_a_hundredth_learns_by_a_network_of_its_own_only() -> None:
    """Twins: the shared network, with advantages over a minibatch and of every agent apart, whose critic is one.

    The return is 10 by the dear worker and 0.1 by the cheap one, of which guessing gives a third; so the agents are
    told apart here by what the cheap one earns beyond 10.
    """
    scales = TaskConfig(env="cosignal.studies.scales:Scales")
    arms = {"minibatch": LearnerSettings(), "agent": LearnerSettings(advantage_norm="agent"), "apart": APART}
    results = {
        name: learned_return(scales, Signal(version=1, learner=learner), 40, reward="individual")
        for name, learner in arms.items()
    }
    assert results["apart"] > 10.06, results
    assert max(results["minibatch"], results["agent"]) < 10.04, results
