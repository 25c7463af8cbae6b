"""Recurrent networks: against torch's own unit, what sequences hold, and what a memory is good for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.errors import ConfigError
from cosignal.rl.algorithms.config import IPPOConfig, LIIRConfig, QMIXConfig
from cosignal.rl.algorithms.ippo import IPPO
from cosignal.rl.algorithms.networks.gru import GRU, gru_loop, gru_step
from cosignal.rl.algorithms.networks.gru_scan import GRUScan
from cosignal.rl.algorithms.ppo import PPO
from cosignal.rl.algorithms.sequences import cut_into_chunks, states_at_chunks
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import task_spec
from cosignal.rl.experience.rnn_states import RNNStates
from cosignal.rl.training.evaluate import Evaluator
from cosignal.rl.training.line import TrainingLine
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn.functional import linear
from training_lines import small_config, trained

RECALL = TaskConfig(env="small_tasks:Recall")


def network(inputs: int = 3, hidden: tuple[int, ...] = (5, 4), outputs: int = 2, seed: int = 1) -> GRU:
    made = GRU(inputs, hidden, outputs, 1.0, torch.Generator().manual_seed(seed))
    for parameter in made.parameters():  # biases too
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    return made


def test_a_step_is_that_of_torchs_unit() -> None:
    cell, draw = torch.nn.GRUCell(3, 4), torch.Generator().manual_seed(1)
    x, h = torch.randn(6, 3, generator=draw), torch.randn(6, 4, generator=draw)
    ours = gru_step(linear(x, cell.weight_ih, cell.bias_ih), linear(h, cell.weight_hh, cell.bias_hh), h)
    assert torch.allclose(ours, cell(x, h), atol=1e-6)


@pytest.mark.parametrize("hidden", [(4,), (5, 4)])
def test_unrolled_it_gives_what_its_steps_give_and_begins_anew_where_an_episode_does(hidden: tuple[int, ...]) -> None:
    made, draw = network(hidden=hidden), torch.Generator().manual_seed(2)
    x, start = torch.randn(7, 3, 3, generator=draw), torch.randn(3, 4, generator=draw)
    first = torch.zeros(7, 3)
    first[3, 1] = first[0, 2] = 1
    outputs, states = made.unroll(x, start, first)
    state = start
    for t in range(7):
        state = state * (1 - first[t])[:, None]
        out, state = made(x[t], state)
        assert torch.allclose(outputs[t], out, atol=1e-6)
        assert torch.allclose(states[t], state, atol=1e-6)
    # nothing of before the third step reaches the second sequence after it
    x[:3, 1] = 9.0
    assert torch.equal(made.unroll(x, start, first)[0][3:, 1], outputs[3:, 1])
    assert not torch.equal(made.unroll(x, start, first)[0][:3, 1], outputs[:3, 1])


@settings(deadline=None, max_examples=25)
@given(
    steps=st.integers(1, 6), rows=st.integers(1, 5), width=st.integers(1, 9), seed=st.integers(0, 99),
    scale=st.sampled_from([0.3, 1.0, 4.0]),
)  # fmt: skip
def test_the_pass_by_hand_gives_states_and_gradients_of_autograd(
    steps: int, rows: int, width: int, seed: int, scale: float
) -> None:
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return (scale * torch.randn(shape, generator=draw)).requires_grad_()

    x, weight, bias = random(steps, rows, 3 * width), random(3 * width, width), random(3 * width)
    start = torch.randn(rows, width, generator=draw)
    first = (torch.rand(steps, rows, generator=draw) < 0.3).float()
    slopes = torch.randn(steps, rows, width, generator=draw)
    found = []
    for scan in (GRUScan.apply, gru_loop):
        states = scan(x, start, first, weight, bias)
        gradients = torch.autograd.grad((states * slopes).sum(), [x, weight, bias])
        found.append([states.detach(), *gradients])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=2e-5 * max(1.0, float(theirs.abs().max())))


def test_chunks_hold_the_steps_in_order_and_start_from_the_states_that_the_network_was_in() -> None:
    steps = torch.arange(6 * 2 * 3).reshape(6, 2, 3)  # [T, E, A]
    chunks = cut_into_chunks(steps, 3)
    assert chunks.shape == (3, 12)
    assert chunks[:, 0].tolist() == steps[:3, 0, 0].tolist()
    assert chunks[:, 6 + 5].tolist() == steps[3:, 1, 2].tolist()
    made, draw = network(), torch.Generator().manual_seed(3)
    x, start = torch.randn(6, 2, 3, 3, generator=draw), torch.randn(2, 3, 4, generator=draw)
    first = torch.zeros(6, 2, 3)
    first[3, 0] = 1  # does not count before its step
    found = states_at_chunks(made, x, start, first, 3)
    _, states = made.unroll(x.flatten(1, 2), start.flatten(0, 1), first.flatten(1, 2))
    assert torch.equal(found[:6], start.flatten(0, 1))
    assert torch.equal(found[6:], states[2])
    assert torch.equal(states_at_chunks(made, x, start, first, 6), start.flatten(0, 1))


def learner_and_batch(**options: Any) -> tuple[PPO, Any]:
    """A recurrent IPPO, and the batch of a rollout that began in the middle of episodes of Recall."""
    settings = {"network": "gru", "hidden": (6,), "minibatches": 1, **options}
    line = trained(small_config(ippo=settings).model_copy(update={"task": RECALL}), 2)
    assert isinstance(line.learner, PPO)
    line.learner.explore(None)
    assert line.rnn_states is not None
    assert np.abs(line.rnn_states.actor[0]).max() > 0
    rollout, rewards = line.collector.rollout, line.rewards()
    line.collector.collect(line.learner, line.step, line.rnn_states)
    return line.learner, line.learner.batches(rollout, rewards.shape(rollout), rewards)[0]


def test_unrolled_from_the_kept_states_the_policy_says_what_it_said_when_it_acted() -> None:
    """So that every ratio is 1 before the first gradient step; from zeros it does not."""
    learner, batch = learner_and_batch(chunk_length=4)
    sequences = learner.sequences(0, batch)
    assert len(sequences) == 4 * 8 * 2
    for some, alike in ((sequences, True), (replace(sequences, actor_state=sequences.actor_state * 0), False)):
        outputs, _, samples = some.unroll(learner.networks[0])
        logp = torch.log_softmax(outputs, -1).gather(-1, samples.actions[:, None]).squeeze(-1)
        assert torch.allclose(logp, samples.logp_old, atol=1e-5) == alike


def test_values_are_those_of_the_critic_step_by_step_and_its_states_go_on() -> None:
    learner, batch = learner_and_batch()
    critic, states = learner.networks[0].critic, torch.from_numpy(batch.rnn_states.critic[0].copy())
    assert isinstance(critic, GRU)
    values, at_cuts = learner._critic_values(0, batch)
    cuts = list(zip(batch.cuts.t.tolist(), batch.cuts.env.tolist(), strict=True))
    for t in range(len(batch.obs)):
        states = states * torch.from_numpy(1 - batch.first[t])[:, None, None]
        found, states = critic(torch.from_numpy(batch.critic_obs[t]), states)
        assert torch.allclose(found.squeeze(-1), values[t], atol=1e-5)
        for env in range(len(batch.obs[0])):
            if (t, env) in cuts:
                row = cuts.index((t, env))
                after, _ = critic(torch.from_numpy(batch.cuts.critic_obs[row]), states[env])
                assert torch.allclose(after.squeeze(-1), at_cuts[row], atol=1e-5)
    ended = torch.from_numpy(batch.done[-1])[:, None, None]
    assert torch.allclose(torch.from_numpy(batch.last_rnn_states.critic[0]), states * (1 - ended), atol=1e-5)


def test_lost_steps_are_left_out_of_sequences() -> None:
    learner, batch = learner_and_batch()
    whole = learner.sequences(0, batch)
    lost = np.zeros_like(batch.done)
    lost[3, 2] = 1
    part = learner.sequences(0, replace(batch, lost=lost))
    sizes = [len(sequences.unroll(learner.networks[0])[1]) for sequences in (whole, part)]
    assert sizes == [16 * 8 * 2, 16 * 8 * 2 - 2]


def test_states_are_reset_where_episodes_end_and_restored_whole() -> None:
    states = RNNStates([np.ones((3, 2, 4), np.float32)], [np.full((3, 2, 4), 2, np.float32)])
    kept = states.copied()
    states.reset(np.array([False, True, False]))
    assert [x.sum((1, 2)).tolist() for x in (*states.actor, *states.critic)] == [[8, 0, 8], [16, 0, 16]]
    other = RNNStates([np.zeros((3, 2, 4), np.float32)], [np.zeros((3, 2, 4), np.float32)])
    other.load_state_dict(kept.state_dict())
    assert np.array_equal(other.actor[0], kept.actor[0]) and np.array_equal(other.critic[0], kept.critic[0])


def test_what_cannot_be_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValidationError, match="use mappo or ippo"):
        LIIRConfig.model_validate({"network": "gru"})
    with pytest.raises(ValidationError, match="at least one layer"):
        QMIXConfig.model_validate({"network": "gru", "hidden": []})
    with pytest.raises(ValueError, match="chunk_length: must divide the 32 steps"):
        IPPOConfig(network="gru", chunk_length=5).check_update_size("trainer.ippo", 64, 32)
    with pytest.raises(ValueError, match="chunk_length: must be left out where trainer.ippo.network is 'mlp'"):
        IPPOConfig(network="mlp", chunk_length=8).check_update_size("trainer.ippo", 64, 32)
    with pytest.raises(ValueError, match="at most the 2 sequences"):
        IPPOConfig(network="gru", minibatches=4).check_update_size("trainer.ippo", 2, 32)
    with pytest.raises(ConfigError, match="needs agents that observe an image"):
        IPPO(IPPOConfig(network="cnn"), task_spec(TaskConfig(name="two_switch")), 1)


# ---------------------------------------------------------------- learning

PPO_RECALL: dict[str, Any] = {"lr": 3e-3, "hidden": (32,), "minibatches": 2}
Q_RECALL: dict[str, Any] = {
    "lr": 2e-3, "hidden": (32, 32), "epsilon_steps": 4000, "learning_starts": 256, "batch_size": 256,
    "target_every": 50, "gamma": 0.9,
}  # fmt: skip
LEARN = [("ippo", PPO_RECALL), ("mappo", PPO_RECALL), ("vdn", Q_RECALL), ("qmix", Q_RECALL)]


@pytest.mark.parametrize(("algorithm", "options"), LEARN, ids=[name for name, _ in LEARN])
def test_a_bit_is_remembered_over_ten_steps_and_the_feed_forward_twin_cannot(
    algorithm: str, options: dict[str, Any]
) -> None:
    """A bit that is guessed is right half the time: 0.5 on average, of 1."""

    def returns(name: str, updates: int) -> float:
        section = {algorithm: options | {"network": name}}
        config = small_config(algorithm=algorithm, envs=16, rollout=11, **section)
        line = TrainingLine(config.model_copy(update={"task": RECALL}))
        for _ in range(updates):
            line.update()
        return Evaluator(RECALL, 128, seed=3).evaluate(line.learner).mean_return

    assert returns("gru", 120) >= 0.9
    assert returns("mlp", 80) <= 0.65
