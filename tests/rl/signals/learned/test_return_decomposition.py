"""Return decomposition: numbers by hand, what the sums must be, and learning from a reward at the end only."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.errors import SignalError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.signals.config import SignalConfig
from cosignal.rl.signals.learned.config import DecompositionConfig
from cosignal.rl.signals.learned.episodes import Episodes, play_episodes, whole_episodes
from cosignal.rl.signals.learned.return_decomposition import Decomposition, _Training, decompose_returns, shares
from cosignal.rl.signals.scorer import Scorer, Scorers
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import DecompositionTerm
from cosignal.rl.signals.terms.decomposition import network_inputs
from cosignal.rl.task import FeatureSpec, GroupSpec, TaskSpec
from cosignal.rl.training.config import TrainerConfig, TrainingConfig
from cosignal.rl.training.line import TrainingLine
from cosignal.studies.late_pay import STEPS
from made_up_transitions import MadeUpTransitions

CONFIG = DecompositionConfig(members=2, hidden=(32,), lr=3e-3, max_epochs=150)


def team(*names: str) -> TaskSpec:
    """One group of agents with the features x and y."""
    features = tuple(FeatureSpec(name=name, kind="quantity", low=-100, high=100) for name in ("x", "y"))
    group = GroupSpec(name="team", agents=names, obs_size=2, n_actions=2, features=features, events=())
    return TaskSpec(name="made_up", description="", groups=(group,), return_range=(-50.0, 50.0), max_steps=30)


TEAM = team("one", "other")


def made_up_episodes(number: int, seed: int = 0, only: int | None = 0, n_agents: int = 2) -> Episodes:
    """Agents walk at random in x and y; at the end the team is paid how far agent `only` got in x, None: everybody."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 30, number)
    before, after, reward = [], [], []
    for length in lengths.tolist():
        path = np.cumsum(rng.integers(-1, 2, (length + 1, n_agents, 2)), 0).astype(np.float32)
        path -= path[:1]
        before.append(path[:-1])
        after.append(path[1:])
        paid = np.zeros(length, np.float32)
        paid[-1] = path[-1, :, 0].sum() if only is None else path[-1, only, 0]
        reward.append(paid)
    x, last = np.concatenate(before), np.concatenate(after)
    none = np.zeros((len(x), n_agents, 0), np.float32)
    ends = np.cumsum(lengths) - 1
    terminated = np.zeros(len(x), np.float32)
    terminated[ends] = 1
    return Episodes(
        features=[x], last_features=[last], events=[none], obs=[x], last_obs=[last],
        actions=[np.zeros(x.shape[:2], np.int64)], logp=[np.zeros(x.shape[:2], np.float32)], terminated=terminated,
        alive=None, last_alive=None, masks=None,
        reward=np.concatenate(reward), success=np.zeros(number, np.float32),
        episode=np.repeat(np.arange(number), lengths), steps=len(x),
    )  # fmt: skip


def swapped(episodes: Episodes) -> Episodes:
    """Both agents have changed places."""
    names = ("features", "last_features", "events", "obs", "last_obs", "actions")
    return replace(episodes, **{name: [x[:, ::-1] for x in getattr(episodes, name)] for name in names})


def rewards(found: Decomposition, episodes: Episodes, agent_ids: bool = True) -> np.ndarray:
    """[n, A]: what the term pays each agent, N·r̂."""
    scorers = Scorers()
    term = DecompositionTerm(name="share", scorer=scorers.add(found.scorers[0]), agents="team", agent_ids=agent_ids)
    [paid] = term.compile(TEAM, scorers).rewards(episodes, 0.9)
    return paid


# ------------------------------------------------------------ the term, by hand


def test_an_agent_is_paid_what_its_network_says_of_its_step() -> None:
    # σ = x′ − x + 10 for the second agent: weights of x, y, their changes and the two agents
    scorer = Scorer((np.array([[[0], [0], [1], [0], [0], [10]]], np.float32),), (np.zeros((1, 1), np.float32),))
    scorers = Scorers()
    term = DecompositionTerm(name="share", scorer=scorers.add(scorer), agents="team", weight=0.5)
    before, after = np.array([[[1, 5], [2, 5]]], np.float32), np.array([[[4, 6], [2, 6]]], np.float32)
    events = [np.zeros((1, 2, 0), np.float32)]
    transitions = MadeUpTransitions([before], [after], events, np.ones(1))
    compiled = CompiledSignal(Signal(beta=1.0, scale=2.0, terms=(term,)), TEAM, scorers)
    # beta · scale · weight = 1; nothing is discounted, and an end changes nothing
    assert compiled.shape(transitions, 0.9).total[0].tolist() == [[3.0, 10.0]]
    gone = replace(transitions, alive=[np.array([[True, False]])])
    assert compiled.shape(gone, 0.9).total[0].tolist() == [[3.0, 0.0]]
    assert compiled.direct_rewards(transitions)[0].tolist() == [[1.5, 5.0]]
    assert not any(mask.any() for mask in compiled.agents_with_values())
    assert term.describe().startswith("decomposition share: network") and not term.is_potential


def test_weights_make_up_for_what_potentials_beside_it_set_as_strength() -> None:
    [fitted] = CONFIG.terms(TEAM, {0: "0" * 16})
    terms = [CONFIG.at_strength(fitted, strength) for strength in (1.0, 0.25, 0.01)]
    assert [(term.name, term.agents, term.weight) for term in terms] == [
        ("share_0", "team", 1.0), ("share_0", "team", 4.0), ("share_0", "team", 10.0),
    ]  # fmt: skip


def test_factors_are_expressions_of_both_states() -> None:
    transitions = MadeUpTransitions(
        [np.array([[[1, 5], [2, 7]]], np.float32)], [np.array([[[4, 6], [2, 6]]], np.float32)], [], np.ones(1)
    )
    inputs = ("x + y", "max_mates(x)")
    term = DecompositionTerm(name="share", scorer="0" * 16, agents="team", inputs=inputs, agent_ids=False)
    assert term.reads.features == {"x", "y"}
    from cosignal.rl.signals.terms.decomposition import parse_factors

    found = network_inputs(TEAM, 0, inputs, False, transitions, parse_factors(inputs))
    assert found.tolist() == [[[6, 2, 4, 0], [9, 1, -1, 3]]]


def test_what_is_read_must_be_there() -> None:
    CONFIG.check(TEAM)
    for inputs, message in (
        (("x", "bogus"), "reads feature 'bogus', which this task does not have"),
        (("nearest(x)",), "nearest takes features of kind distance, 'x' is a quantity"),
    ):
        config = CONFIG.model_copy(update={"inputs": inputs})
        with pytest.raises(SignalError, match=re.escape(message)):
            config.check(TEAM)
        [term] = config.terms(TEAM, {0: "0" * 16})
        scorers = Scorers()
        scorers._known[term.scorer] = Scorer((np.zeros((1, 4, 1), np.float32),), (np.zeros((1, 1), np.float32),))
        with pytest.raises(SignalError, match=re.escape(message)):
            term.compile(TEAM, scorers)
    bare = TEAM.model_copy(update={"groups": (TEAM.groups[0].model_copy(update={"features": ()}),)})
    with pytest.raises(SignalError, match="inputs: features must be there for every group .* 'team' has none; write"):
        CONFIG.check(bare)


def test_a_network_of_other_inputs_is_refused() -> None:
    scorers = Scorers()
    scorer = Scorer((np.zeros((1, 4, 1), np.float32),), (np.zeros((1, 1), np.float32),))
    term = DecompositionTerm(name="share", scorer=scorers.add(scorer), agents="team")
    with pytest.raises(SignalError, match="takes 4 numbers, agents of 'team' give 6; name the group"):
        term.compile(TEAM, scorers)
    by_sight = DecompositionTerm(
        name="share", scorer=term.scorer, agents="team", inputs="observations", agent_ids=False
    )
    transitions = MadeUpTransitions(
        [np.zeros((1, 2, 2), np.float32)], [np.zeros((1, 2, 2), np.float32)], [], np.ones(1)
    )
    with pytest.raises(SignalError, match="by observations needs some"):
        by_sight.compile(TEAM, scorers).rewards(transitions, 0.9)
    assert by_sight.reads_observations and not term.reads_observations


# ------------------------------------------------------------ what is fitted


@pytest.mark.parametrize("inputs", ["features", "observations", ("x",)])
def test_sums_are_returns_and_who_does_nothing_gets_nothing(inputs: Any) -> None:
    """Agent `other` walks as much as `one`, but nothing of it is paid."""
    config = CONFIG.model_copy(update={"inputs": inputs})
    found = decompose_returns(TEAM, made_up_episodes(400), config, seed=1)
    assert found.explained > 0.99
    assert found.sum_error < 0.05
    assert found.shares[1] <= 0.1
    if inputs != "features":
        return
    # episodes of another seed, which the fit has not seen
    unseen = made_up_episodes(200, seed=7)
    sums = np.bincount(unseen.episode, rewards(found, unseen).mean(1))
    assert np.abs(sums - unseen.returns).mean() < 0.05 * np.abs(unseen.returns).mean()
    # a step is worth what it adds to x
    step = unseen.last_features[0][:, 0, 0] - unseen.features[0][:, 0, 0]
    np.testing.assert_allclose(rewards(found, unseen)[:, 0] / 2, step, atol=0.25)


def test_where_returns_are_shuffled_nothing_is_explained() -> None:
    episodes = made_up_episodes(400)
    ends = np.flatnonzero(episodes.terminated)
    mixed = episodes.reward.copy()
    mixed[ends] = np.random.default_rng(3).permutation(mixed[ends])
    assert decompose_returns(TEAM, replace(episodes, reward=mixed), CONFIG, seed=1).explained < 0.2


def test_agents_that_change_places_change_shares() -> None:
    episodes = made_up_episodes(300)
    one, other = (decompose_returns(TEAM, x, CONFIG, seed=1).shares for x in (episodes, swapped(episodes)))
    np.testing.assert_allclose(one, other[::-1], atol=0.05)
    # without their numbers it is so of any network, to the last bit
    blind = CONFIG.model_copy(update={"agent_ids": False})
    everybody = made_up_episodes(300, only=None)
    found = decompose_returns(TEAM, everybody, blind, seed=1)
    assert found.explained > 0.9
    np.testing.assert_array_equal(rewards(found, everybody, False)[:, ::-1], rewards(found, swapped(everybody), False))
    np.testing.assert_allclose(found.shares, [0.5, 0.5], atol=0.03)


def test_the_loss_of_a_subset_has_no_bias() -> None:
    """The mean of the loss over every pair of steps that can be drawn is the loss of all steps."""
    episodes = made_up_episodes(20)
    whole = CONFIG.model_copy(update={"subset": None, "shrink": 0.0, "members": 1})
    part = whole.model_copy(update={"subset": 2})
    number = int(episodes.lengths.argmin())
    length = int(episodes.lengths[number])
    training = _Training(TEAM, episodes, whole, seed=2)
    chosen = np.array([[number]])
    exact = training._losses(chosen).item()
    training.config = part
    found = []
    for pair in product(range(length), repeat=2):
        training.rngs = [_Fixed((np.array(pair) + 0.5) / length)]  # type: ignore[list-item]
        found.append(training._losses(chosen).item())
    assert np.mean(found) == pytest.approx(exact, rel=1e-4)
    assert np.std(found) > 1e-6


class _Fixed:
    """Draws what it was given."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def random(self, shape: tuple[int, int]) -> np.ndarray:
        return np.broadcast_to(self.values, shape)


def test_the_same_arguments_give_the_same_networks() -> None:
    torch.manual_seed(5)
    episodes = made_up_episodes(60)
    quick = CONFIG.model_copy(update={"max_epochs": 3})
    one, other = (decompose_returns(TEAM, episodes, quick, seed=4).scorers[0].name for _ in range(2))
    assert one == other
    assert decompose_returns(TEAM, episodes, quick, seed=5).scorers[0].name != one


def test_too_little_to_learn_from_is_refused() -> None:
    with pytest.raises(SignalError, match="at least 20 episodes, got 5; play more"):
        decompose_returns(TEAM, made_up_episodes(5), CONFIG, seed=1)
    episodes = made_up_episodes(30)
    with pytest.raises(SignalError, match="returns that differ, got 0 in all 30 episodes; explore"):
        decompose_returns(TEAM, replace(episodes, reward=np.zeros_like(episodes.reward)), CONFIG, seed=1)


def test_one_success_among_many_failures_is_told_as_too_few() -> None:
    episodes = made_up_episodes(40)
    reward = np.zeros_like(episodes.reward)
    reward[np.flatnonzero(episodes.terminated)[3]] = 1
    with pytest.raises(SignalError, match="differ among held-out episodes too, but too few of 40 do; play more"):
        # no member holds out the one that differs
        decompose_returns(TEAM, replace(episodes, reward=reward), CONFIG.model_copy(update={"members": 1}), seed=1)


def test_shares_are_of_absolute_payments() -> None:
    episodes = made_up_episodes(20)
    # x′ − x, so that steps back count as much as steps forward
    scorer = Scorer((np.array([[[0], [0], [1], [0]]], np.float32),), (np.zeros((1, 1), np.float32),))
    inputs = network_inputs(TEAM, 0, "features", False, episodes)
    step = np.abs(episodes.last_features[0] - episodes.features[0])[..., 0].sum(0)
    assert shares([inputs], [scorer], episodes) == pytest.approx((step / step.sum()).tolist())


# ------------------------------------------------------------ episodes


def test_whole_episodes_are_cut_out_of_rollouts() -> None:
    """Two environments: ends after steps 2 and 5, and after step 3, where the second episode of the other is lost."""
    number = np.arange(12, dtype=np.float32).reshape(6, 2)  # row t: 2 t and 2 t + 1
    done, lost = np.zeros((6, 2), np.float32), np.zeros((6, 2), np.float32)
    done[[1, 4], 0], done[[2, 5], 1], lost[5, 1] = 1, 1, 1

    def rollout(t: slice) -> Rollout:
        shown = [number[t][..., None, None]]
        return Rollout(
            obs=shown, last_obs=shown, features=shown, last_features=shown, events=shown,
            actions=[number[t][..., None].astype(np.int64)], logp=shown, reward=number[t], terminated=done[t],
            done=done[t], success=done[t], lost=lost[t],
        )  # fmt: skip

    found = whole_episodes([rollout(slice(0, 3)), rollout(slice(3, 6))], 2)
    assert found.reward.tolist() == [0, 2, 4, 6, 8, 1, 3, 5]
    assert found.features[0].ravel().tolist() == found.reward.tolist()
    assert found.episode.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert (found.lengths.tolist(), found.returns.tolist(), found.steps) == ([2, 3, 3], [2, 18, 9], 12)
    lost[:] = 1
    none = whole_episodes([rollout(slice(0, 6))], 2)
    assert (none.number, none.steps, none.features[0].shape) == (0, 12, (0, 1, 1))
    with pytest.raises(SignalError, match="at least 20 episodes, got 0"):
        decompose_returns(TEAM, none, CONFIG, seed=1)


# ------------------------------------------------------------ learning

LATE = TaskConfig(env="cosignal.studies.late_pay:LatePay", n_max=STEPS)


def late_line(seed: int) -> TrainingLine:
    trainer = TrainerConfig(algorithm="ippo", envs=16, rollout=STEPS, steps=100_000)
    config = TrainingConfig(
        seed=seed, clock="lockstep", task=LATE, signal=SignalConfig(), trainer=trainer, pause_every_steps=None,
        margin=0.02,
    )  # fmt: skip
    return TrainingLine(config)


def returns_after(line: TrainingLine, updates: int) -> float:
    found = [line.update().row["returns"] for _ in range(updates)]
    return float(np.mean([x for x in found[-5:] if x is not None]))


@pytest.mark.timeout(240)
def test_it_teaches_many_agents_what_is_paid_at_the_end_only() -> None:
    """Twins: the team's reward alone, and shares that were fitted to shuffled returns."""
    settings = CONFIG.model_copy(update={"episodes": 96, "agent_ids": False, "lr": 1e-2, "max_epochs": 40})

    def fitted(line: TrainingLine, shuffle: bool) -> Signal:
        episodes = play_episodes(LATE, line.learner, line.learner.new_rnn_states, settings.episodes, 11, False)
        if shuffle:
            mixed = episodes.reward.copy()
            ends = np.flatnonzero(episodes.terminated)
            mixed[ends] = np.random.default_rng(0).permutation(mixed[ends])
            episodes = replace(episodes, reward=mixed)
        found = decompose_returns(line.spec, episodes, settings, seed=1)
        assert shuffle or found.explained > 0.5
        term = DecompositionTerm(
            name="share", scorer=line.scorers.add(found.scorers[0]), agents=line.spec.groups[0].name, agent_ids=False
        )
        return Signal(version=1, beta=1.0, terms=(term,))

    results = {}
    for arm in ("plain", "shares", "shuffled"):
        line = late_line(seed=3)
        if arm != "plain":
            line.apply_signal(fitted(line, arm == "shuffled"))
        results[arm] = returns_after(line, 12)
        line.close()
    assert results["shares"] > 0.85
    assert max(results["plain"], results["shuffled"]) < 0.65, results
