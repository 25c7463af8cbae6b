"""Named states: what is told apart, what it is worth, how it is paid, and learning past a reward that deceives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.fitting.fit import fit_signals
from cosignal.rl.signals.check import check_signal
from cosignal.rl.signals.config import SignalConfig
from cosignal.rl.signals.learned.config import LearnedSignalsConfig, NamedStatesConfig
from cosignal.rl.signals.learned.episodes import Episodes
from cosignal.rl.signals.learned.fit import SignalFit
from cosignal.rl.signals.learned.named_states import (
    conditions,
    correlation,
    known_states,
    name_states,
    step_advantages,
)
from cosignal.rl.signals.scorer import NO_SCORERS
from cosignal.rl.signals.shaping import CompiledSignal, frozen_scale
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import TableTerm
from cosignal.rl.task import FeatureSpec, GroupSpec, TaskSpec
from cosignal.rl.training.config import TrainerConfig, TrainingConfig
from cosignal.rl.training.line import TrainingLine
from cosignal.studies.chain import LENGTH, STEPS, Chain
from hypothesis import given
from hypothesis import strategies as st
from made_up_transitions import MadeUpTransitions
from pettingzoo_tests import parallel_api_test

FEATURES = (
    FeatureSpec(name="open", kind="flag", low=0, high=1),
    FeatureSpec(name="far", kind="distance", low=0, high=20),
    FeatureSpec(name="found", kind="count", low=0, high=2),
)
GROUP = GroupSpec(name="team", agents=("one", "other"), obs_size=1, n_actions=2, features=FEATURES, events=())
SPEC = TaskSpec(name="made_up", description="", groups=(GROUP,), return_range=(0.0, 1.0), max_steps=30)
CONFIG = NamedStatesConfig()


def walked(*paths: list[tuple[float, float, float]], paid: list[float]) -> Episodes:
    """Episodes of (open, far, found) of the first agent, from state to state; the other one never moves."""
    before, after = [], []
    for path in paths:
        states = np.zeros((len(path), 2, 3), np.float32)
        states[:, 0] = path
        states[:, 1, 1] = 20
        before.append(states[:-1])
        after.append(states[1:])
    lengths = [len(path) - 1 for path in paths]
    x, last, ends = np.concatenate(before), np.concatenate(after), np.cumsum(lengths) - 1
    reward = np.zeros(len(x), np.float32)
    reward[ends] = paid
    none, zeros = np.zeros((len(x), 2, 0), np.float32), np.zeros((len(x), 2), np.float32)
    return Episodes(
        features=[x], last_features=[last], events=[none], obs=[zeros[..., None]], last_obs=[zeros[..., None]],
        actions=[zeros.astype(np.int64)], logp=[zeros], terminated=np.isin(np.arange(len(x)), ends).astype(np.float32),
        alive=None, last_alive=None, masks=None, reward=reward, success=np.zeros(len(paths), np.float32),
        episode=np.repeat(np.arange(len(paths)), lengths), steps=len(x),
    )  # fmt: skip


OPENED = [(0, 9, 0), (1, 9, 0), (1, 5, 0)]
CLOSED = [(0, 9, 0), (0, 5, 0), (0, 1, 0)]
LOST = [(0, 9, 0), (0, 9, 0), (0, 9, 0)]


# ------------------------------------------------------------ which states there are


def test_conditions_are_readable_and_levels_of_a_count_rise() -> None:
    assert list(conditions(FEATURES, np.zeros((0, 2, 3), np.float32))) == [
        "open > 0.5", "found > 0.5", "found > 1.5", "far <= 1",
        "(open > 0.5) * (far <= 1)", "(found > 0.5) * (far <= 1)", "(found > 1.5) * (far <= 1)",
    ]  # fmt: skip
    quantity = FeatureSpec(name="load", kind="quantity", low=0, high=10)
    seen = np.arange(11, dtype=np.float32).reshape(11, 1, 1)
    assert list(conditions((quantity,), seen)) == ["load > 5", "load > 9"]


def test_states_that_the_same_steps_are_in_are_one_and_those_never_reached_are_single() -> None:
    found = {state.when: state for state in known_states(SPEC, walked(OPENED, CLOSED, LOST, paid=[1, 0, 0]))}
    assert list(found) == ["open > 0.5", "found > 0.5", "found > 1.5", "far <= 1"]
    assert [state.episodes for state in found.values()] == [1, 0, 0, 1]
    assert found["open > 0.5"].paid.tolist() == [1, 0, 0, 0, 0, 0]
    assert found["far <= 1"].paid.tolist() == [0, 0, 0, 1, 0, 0]


# ------------------------------------------------------------ what they are worth


def test_an_advantage_is_the_discounted_return_from_the_step_on_less_its_mean_there() -> None:
    advantages = step_advantages(walked(OPENED, CLOSED, LOST, paid=[1, 0, 0]), 0.5)
    assert advantages == pytest.approx([1 / 3, 2 / 3, -1 / 6, -1 / 3, -1 / 6, -1 / 3])


def test_what_leads_to_the_return_is_worth_most_and_the_rest_its_bonus() -> None:
    episodes = walked(OPENED, CLOSED, LOST, LOST, paid=[1, 0, 0, 0])
    [table], informativeness = name_states(SPEC, episodes, CONFIG, 1.0)
    # opening is informative; then stairs: one episode of four closed in on the target, none found anything
    assert [(row.when, row.worth) for row in table.rows] == [
        ("open > 0.5", 1.0), ("far <= 1", pytest.approx(0.894, abs=1e-3)), ("found > 0.5", 1.0), ("found > 1.5", 1.0)
    ]  # fmt: skip
    assert informativeness > 0.2
    [bare], _ = name_states(SPEC, episodes, CONFIG.model_copy(update={"bonus": 0.0}), 1.0)
    assert [(row.when, row.worth) for row in bare.rows] == [("open > 0.5", 1.0)]


def test_where_no_state_is_worth_anything_nothing_is_proposed() -> None:
    """Every episode comes to all that there is, and all return the same."""
    features = (FEATURES[0],)
    spec = SPEC.model_copy(update={"groups": (GROUP.model_copy(update={"features": features}),)})
    episodes = walked(OPENED, OPENED, paid=[1, 1])
    only = replace(
        episodes, features=[episodes.features[0][..., :1]], last_features=[episodes.last_features[0][..., :1]]
    )
    with pytest.raises(SignalError, match="need a state that is worth something"):
        name_states(spec, only, CONFIG, 1.0)
    assert not CONFIG.accepts(SignalFit(informativeness=1.0))


def test_numbers_that_an_expression_may_not_have_name_no_state() -> None:
    wide = FeatureSpec(name="wide", kind="distance", low=0, high=1e8)
    assert list(conditions((wide, FEATURES[0]), np.zeros((0, 2, 2), np.float32))) == ["open > 0.5"]


def test_what_nobody_has_come_to_yet_does_not_pay_too_much_once_somebody_does() -> None:
    """The scale is frozen on what was seen, which is a quarter of the table here."""
    episodes = walked(OPENED, CLOSED, LOST, LOST, paid=[1, 0, 0, 0])
    [table], _ = name_states(SPEC, episodes, CONFIG, 1.0)
    recorded = TransitionSample(
        features=episodes.features, last_features=episodes.last_features, events=episodes.events,
        terminated=episodes.terminated, end_features=episodes.features, end_success=np.zeros(len(episodes.reward)),
    )  # fmt: skip
    proposed = Signal(version=1, beta=1.0, terms=(table,))
    scale = frozen_scale(proposed, SPEC, recorded, (0.0, 1.0))
    assert scale * sum(row.worth for row in table.rows) == pytest.approx(2.0)
    assert check_signal(proposed, SPEC, recorded, Signal(), set()).problems == []


def test_where_every_episode_returned_the_same_nothing_is_informative() -> None:
    """As under a policy that is optimal and sure of itself."""
    episodes = walked(OPENED, OPENED, OPENED, paid=[1, 1, 1])
    assert step_advantages(episodes, 0.9) == pytest.approx(0)
    assert name_states(SPEC, episodes, CONFIG, 0.9)[1] == 0.0


def test_shuffled_returns_are_not_informative() -> None:
    rng = np.random.default_rng(0)
    opens = rng.random(400) < 0.5
    paths = [OPENED if x else CLOSED for x in opens]
    told = name_states(SPEC, walked(*paths, paid=opens.tolist()), CONFIG, 1.0)[1]
    mixed = name_states(SPEC, walked(*paths, paid=rng.permutation(opens).tolist()), CONFIG, 1.0)[1]
    assert told > 0.4
    assert abs(mixed) < 0.1


def test_without_features_nothing_can_be_named() -> None:
    bare = SPEC.model_copy(update={"groups": (GROUP.model_copy(update={"features": ()}),)})
    episodes = walked(OPENED, paid=[1])
    empty = replace(episodes, features=[episodes.features[0][..., :0]], last_features=[episodes.features[0][..., :0]])
    with pytest.raises(SignalError, match="named states need features"):
        name_states(bare, empty, CONFIG, 1.0)
    with pytest.raises(SignalError, match="enabled: must be false where the task declares no features"):
        CONFIG.check(bare)


def test_correlation_with_what_does_not_vary_is_none() -> None:
    assert correlation(np.ones(3), np.arange(3.0)) == 0.0
    assert correlation(np.arange(3.0), -np.arange(3.0)) == pytest.approx(-1)


# ------------------------------------------------------------ how it is paid

TABLE = TableTerm.model_validate(
    {
        "name": "states",
        "rows": [{"when": "open > 0.5", "worth": 0.5}, {"when": "far <= 1", "worth": -1}],
        "agents": "team",
    }
)


def pairs(*states: tuple[float, float, float]) -> MadeUpTransitions:
    path = np.array(states, np.float32)[:, None].repeat(2, 1)
    terminated = (np.arange(len(path) - 1) == len(path) - 2).astype(np.float32)
    return MadeUpTransitions([path[:-1]], [path[1:]], [np.zeros((len(path) - 1, 2, 0), np.float32)], terminated)


def test_a_state_is_paid_for_when_it_is_come_to_and_taken_back_when_it_is_left() -> None:
    compiled = TABLE.compile(SPEC, NO_SCORERS)
    walk = pairs((0, 9, 0), (1, 9, 0), (1, 1, 0), (0, 9, 0), (1, 9, 0))
    assert compiled.rewards(walk, 0.9)[0][:, 0].tolist() == [0.5, -1, 0.5, 0.5]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20), st.integers(0, 2)), min_size=2, max_size=12))
def test_an_episode_is_paid_for_where_it_ends(path: list[tuple[int, int, int]]) -> None:
    """So that no loop can be farmed, whatever lies between."""
    compiled = TABLE.compile(SPEC, NO_SCORERS)
    worth = [0.5 * (x[0] > 0.5) - (x[1] <= 1) for x in path]
    paid = compiled.rewards(pairs(*path), 0.9)[0].sum(0)
    assert paid.tolist() == pytest.approx([worth[-1] - worth[0]] * 2)


def test_it_is_no_potential_fades_and_may_not_pay_more_than_twice_what_returns_differ_by() -> None:
    assert not TABLE.is_potential
    assert TABLE.at_age(100_000).weight == 0.5
    assert TABLE.reads.features == {"open", "far"}
    recorded = walked(OPENED, CLOSED, paid=[1, 0])
    compiled = TABLE.compile(SPEC, NO_SCORERS)
    assert list(compiled.excess(1.0, (0.0, 1.0))) == []
    [line] = compiled.excess(2.0, (0.0, 1.0))
    assert "must be at most 2, got 3; lower its weight to 0.67" in line
    signal = CompiledSignal(Signal(scale=1.0, terms=(TABLE,)), SPEC)
    assert signal.potential(recorded.features) == [pytest.approx(np.zeros((4, 2)))]


# ------------------------------------------------------------ learning


def test_the_chain_pays_little_near_and_much_far() -> None:
    parallel_api_test(Chain())
    env = Chain()
    env.reset()
    _, rewards, terminated, _, infos = env.step({"one": 0, "other": 0})
    assert (sum(rewards.values()), all(terminated.values()), infos["one"]["success"]) == (0.1, True, False)
    env.reset()
    env.step({"one": 1, "other": 0})  # they do not agree, and stay
    for _ in range(LENGTH):
        _, rewards, terminated, _, infos = env.step({"one": 1, "other": 1})
    assert (sum(rewards.values()), all(terminated.values()), infos["one"]["success"]) == (1.0, True, True)


@pytest.mark.timeout(240)
def test_it_teaches_to_pass_by_a_small_reward_that_deceives() -> None:
    """Twins: the sparse reward alone, which teaches the small one; and a table of states whose signs are turned."""
    settings = LearnedSignalsConfig(named_states=NamedStatesConfig(episodes=128))
    results: dict[str, list[float]] = {"plain": [], "named": [], "turned": []}
    for seed in (1, 3):
        for arm, found in results.items():
            trainer = TrainerConfig(algorithm="ippo", envs=16, rollout=40, steps=100_000)
            config = TrainingConfig(
                seed=seed, clock="lockstep", task=TaskConfig(env="cosignal.studies.chain:Chain", n_max=STEPS),
                signal=SignalConfig(), trainer=trainer, pause_every_steps=None, margin=0.02,
            )  # fmt: skip
            line = TrainingLine(config)
            if arm != "plain":
                terms = fit_signals(line, ("named_states",), settings, seed, NO_SCORERS).fits["named_states"].terms
                weight = 1.0 if arm == "named" else -1.0
                signal = Signal(
                    version=1, beta=0.5, terms=tuple(x.model_copy(update={"weight": weight}) for x in terms)
                )
                assert (
                    check_signal(signal, line.spec, line.recorder.recorded(line.episodes), Signal(), set()).problems
                    == []
                )
                line.apply_signal(signal)
            returns = [line.update().row["returns"] for _ in range(40)]
            found.append(float(np.mean([x for x in returns[-5:] if x is not None])))
            line.close()
    assert min(results["named"]) > 0.9, results
    assert max(results["plain"] + results["turned"]) < 0.2, results
