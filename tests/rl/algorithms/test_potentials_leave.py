"""A potential that leaves the reward by its offset changes no TD error, no advantage and nothing that is learnt.

Wiewiora 2003: a critic V that learns under the shaping F = γΦ(s′) − Φ(s) has the TD errors of V + Φ without it. The
rollout here has everything that could come in between: masks, agents that die, episodes that end and that are cut,
steps that were lost, two groups, potentials of features, of mates and of a scorer, one that anneals, and an event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cosignal.rl.algorithms.config import AlgorithmSections
from cosignal.rl.algorithms.learner import Learner
from cosignal.rl.algorithms.liir import LIIR
from cosignal.rl.algorithms.ppo import PPO
from cosignal.rl.algorithms.q_learning import QLearner
from cosignal.rl.algorithms.registry import LEARNERS
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.experience.replay_buffer import Sample
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.signals.critic_offset import annealed_potential, leaving_potentials, potentials_that_stay
from cosignal.rl.signals.rewards import Rewards
from cosignal.rl.signals.scorer import Scorer, Scorers
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, LearnedTerm, PotentialTerm
from cosignal.rl.task import TaskSpec
from cosignal.rl.training.line import TrainingLine
from training_lines import UPDATE, small_config, trained

NEAR = 1e-5
GAMMA, T, E = 0.9, 12, 6

PPO_OPTIONS: dict[str, Any] = {"gamma": GAMMA, "hidden": (16,), "minibatches": 2}
Q_OPTIONS: dict[str, Any] = {"gamma": GAMMA, "hidden": (16,), "learning_starts": 0, "batch_size": 16, "target_every": 2}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ippo": [
        PPO_OPTIONS,
        PPO_OPTIONS | {"value_norm": True, "share_parameters": False},
        PPO_OPTIONS | {"standardise_rewards": True},
    ],
    "mappo": [PPO_OPTIONS, PPO_OPTIONS | {"value_norm": True, "advantage_norm": "agent"}],
    "liir": [PPO_OPTIONS | {"intrinsic_weight": 0.5}, PPO_OPTIONS | {"value_norm": True}],
    "vdn": [Q_OPTIONS, Q_OPTIONS | {"standardise_rewards": True, "double_q": False}],
    "qmix": [Q_OPTIONS, Q_OPTIONS | {"standardise_rewards": True, "share_parameters": False}],
}
CASES = [pytest.param(name, options, id=f"{name}-{n}") for name in OPTIONS for n, options in enumerate(OPTIONS[name])]

SCORERS = Scorers()
SCORER = SCORERS.add(Scorer((np.array([[[1.0], [-2.0], [0.5]]], np.float32),), (np.full((1, 1), 0.3, np.float32),)))
STAYS = PotentialTerm(name="stays", expression="1.5 - dist / 4", weight=1.2)
MATES = PotentialTerm(name="mates", expression="min_mates(dist) / 5", weight=-0.4)
LEARNED = LearnedTerm(name="sigma", scorer=SCORER, agents="scouts", weight=0.7)
ANNEALS = PotentialTerm(name="anneals", expression="dist / 3 + 1", anneal_steps=1000)
BONUS = EventTerm(name="bonus", event="found", weight=0.5, decay_steps=2000)
FORM = LearnedTerm(name="difference", scorer=SCORER, agents="scouts", form="difference", weight=0.3)
BEFORE = Signal(beta=0.5, scale=2.0, terms=(STAYS, ANNEALS, LEARNED, BONUS, MATES, FORM))
AFTER = BEFORE.model_copy(update={"terms": (ANNEALS, BONUS, FORM)})
LEFT_AT = 400  # age of the signal when the potentials leave


def test_what_leaves_is_every_potential_that_stays() -> None:
    assert list(potentials_that_stay(BEFORE)) == [STAYS, LEARNED, MATES]
    assert not potentials_that_stay(AFTER)


# ---------------------------------------------------------------- the same rollout with and without


@pytest.fixture(scope="module")
def masked(spec: TaskSpec) -> TaskSpec:
    return spec.model_copy(update={"has_masks": True})


def made_up_rollout(spec: TaskSpec, learner: Learner, seed: int = 3) -> Rollout:
    """Random states, but s′ is the next row's s where the episode goes on; the first scout dies before the others."""
    rng = np.random.default_rng(seed)
    per_agent = [(len(group.agents), group.obs_size, len(group.features)) for group in spec.groups]
    terminated = (rng.random((T, E)) < 0.12).astype(np.float32)
    cut = ((rng.random((T, E)) < 0.15) & (terminated == 0)).astype(np.float32)
    lost = np.zeros((T, E), np.float32)
    lost[5, 1] = lost[T - 1, 2] = 1.0
    done = np.maximum(np.maximum(terminated, cut), lost)
    assert terminated.any() and cut.any()
    # states: rows 0..T, where row t + 1 is s′ of row t, and at an end a state of its own
    obs = [rng.normal(size=(T + 1, E, a, o)).astype(np.float32) for a, o, _ in per_agent]
    features = [rng.uniform(0, 5, size=(T + 1, E, a, f)).astype(np.float32) for a, _, f in per_agent]
    alive = [np.ones((T + 1, E, a), np.bool_) for a, _, _ in per_agent]
    last_alive = [np.ones((T, E, a), np.bool_) for a, _, _ in per_agent]
    for e in range(E):
        dies = False
        for t in range(T):
            alive[0][t, e, 0] = not dies
            dies = dies or rng.random() < 0.2
            last_alive[0][t, e, 0] = not dies
            dies = dies and not done[t, e]
    assert not alive[0].all() and (alive[0][:T] & ~last_alive[0]).any()
    goes_on = (done == 0)[..., None, None]

    def after(rows: list[np.ndarray]) -> list[np.ndarray]:
        ends = [rng.uniform(-2, 4, size=x[1:].shape).astype(np.float32) for x in rows]
        return [np.where(goes_on, x[1:], end) for x, end in zip(rows, ends, strict=True)]

    masks = [rng.random((T + 1, E, a, 2)) < 0.6 for a, _, _ in per_agent]
    for mask in masks:
        mask[..., 0] |= ~mask.any(-1)
    found = [learner.act([x[t] for x in obs], masks=[x[t] for x in masks]) for t in range(T)]
    groups = range(len(spec.groups))
    return Rollout(
        obs=[x[:T] for x in obs],
        last_obs=after(obs),
        features=[x[:T] for x in features],
        last_features=after(features),
        events=[
            rng.integers(0, 2, size=(T, E, len(group.agents), len(group.events))).astype(np.float32)
            for group in spec.groups
        ],
        actions=[np.stack([actions[g] for actions, _ in found]) for g in groups],
        logp=[np.stack([logp[g] for _, logp in found]) for g in groups],
        reward=rng.normal(size=(T, E)).astype(np.float32),
        terminated=terminated,
        done=done,
        success=terminated,
        masks=[x[:T] for x in masks],
        alive=[x[:T] for x in alive],
        last_masks=[x[1:] for x in masks],
        last_alive=last_alive,
        lost=lost,
    )


def made_up_sample(rollout: Rollout) -> Sample:
    """All of its transitions that were finished, as a replay would give them."""
    kept = rollout.lost == 0

    def flat(arrays: list[Any] | None) -> list[Any]:
        return [x[kept] for x in arrays or []]

    return Sample(
        flat(rollout.obs), flat(rollout.last_obs), flat(rollout.features), flat(rollout.last_features),
        flat(rollout.events), flat(rollout.actions), rollout.reward[kept], rollout.terminated[kept],
        last_masks=flat(rollout.last_masks), alive=flat(rollout.alive), last_alive=flat(rollout.last_alive),
    )  # fmt: skip


def rewards(spec: TaskSpec, signal: Signal, offsets: Iterable[Signal], age: int) -> Rewards:
    """Return what a line has under `signal`, `age` steps old, after `offsets` have left; see `TrainingLine.rewards`."""
    annealed = annealed_potential(signal, age)
    left = [CompiledSignal(x, spec, SCORERS) for x in [*offsets, *([annealed] if annealed else [])]]
    return Rewards(CompiledSignal(signal, spec, SCORERS), left, GAMMA, age)


def td_errors(learner: Learner, rollout: Rollout, by: Rewards) -> list[np.ndarray]:
    """Return every number that a learner draws from rewards: TD errors, and of actor-critics advantages and targets."""
    assert isinstance(learner, QLearner | PPO)
    # a standard deviation of 2, where rewards are standardised
    learner.reward_scale.load_state(np.array([4.0, 4.0, 20.0]))
    if isinstance(learner, QLearner):
        sample = made_up_sample(rollout)
        targets = learner.targets(sample, by)
        return [targets.numpy(), (targets - learner.q_tot(sample)).detach().numpy()]
    batches, config = learner.batches(rollout, by.shape(rollout), by), learner.config
    numbers: list[np.ndarray] = []
    for n, members in enumerate(learner.network_groups):
        batch = batches[members.group]
        for lam in (0.0, config.gae_lambda):  # with λ = 0 an advantage is the TD error
            learner.config = config.model_copy(update={"gae_lambda": lam})
            numbers += [x.numpy() for x in learner.advantages(n, batch)]
            if isinstance(learner, LIIR):
                numbers += [x.numpy() for x in learner.extrinsic_advantages(n, batch)]
    learner.config = config
    return numbers


def make(name: str, options: dict[str, Any], spec: TaskSpec) -> Learner:
    config = type(getattr(AlgorithmSections(), name))(**options)
    return LEARNERS[name](config, spec, 1)  # type: ignore[index]


def furthest(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    assert len(one) == len(other) > 0
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("age", [LEFT_AT, 800, 1500], ids=["at once", "while one anneals", "when that has gone"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_no_td_error_and_no_advantage_changes(masked: TaskSpec, name: str, options: dict[str, Any], age: int) -> None:
    learner = make(name, options, masked)
    rollout = made_up_rollout(masked, learner)
    before = td_errors(learner, rollout, rewards(masked, BEFORE, [], age))
    offsets = leaving_potentials(BEFORE, LEFT_AT, AFTER, LEFT_AT)
    after = td_errors(learner, rollout, rewards(masked, AFTER, offsets, age))
    assert furthest(after, before) <= NEAR
    assert getattr(AlgorithmSections(), name).offsets_potentials


def forgotten(offset: Signal) -> list[Signal]:
    return []


def nearly(offset: Signal) -> list[Signal]:
    terms = tuple(term.model_copy(update={"weight": 0.99 * term.weight}) for term in offset.terms)
    return [offset.model_copy(update={"terms": terms})]


def all_but_the_learned_one(offset: Signal) -> list[Signal]:
    return [offset.model_copy(update={"terms": tuple(term for term in offset.terms if term.kind != "learned")})]


def twice(offset: Signal) -> list[Signal]:
    return [offset, offset]


@pytest.mark.parametrize("wrong", [forgotten, nearly, all_but_the_learned_one, twice])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_twin_with_a_wrong_offset_differs(
    masked: TaskSpec, name: str, options: dict[str, Any], wrong: Callable[[Signal], list[Signal]]
) -> None:
    learner = make(name, options, masked)
    rollout = made_up_rollout(masked, learner)
    before = td_errors(learner, rollout, rewards(masked, BEFORE, [], LEFT_AT))
    [offset] = leaving_potentials(BEFORE, LEFT_AT, AFTER, LEFT_AT)
    assert furthest(td_errors(learner, rollout, rewards(masked, AFTER, wrong(offset), LEFT_AT)), before) > 100 * NEAR


@pytest.mark.parametrize("twin", ["the dead count", "an end is taken for a time limit", "fading begins anew"])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_rollout_has_what_it_is_meant_to_have(masked: TaskSpec, name: str, twin: str) -> None:
    """Each of these goes unnoticed where nobody dies, nothing terminates or nothing fades."""
    learner = make(name, OPTIONS[name][0], masked)
    rollout = made_up_rollout(masked, learner)
    before = td_errors(learner, rollout, rewards(masked, BEFORE, [], LEFT_AT))
    now = rewards(masked, AFTER, leaving_potentials(BEFORE, LEFT_AT, AFTER, LEFT_AT), LEFT_AT)
    if twin == "the dead count":
        offset = now.offset
        now.offset = lambda features, alive, obs: offset(features, None, obs)  # type: ignore[method-assign]
    elif twin == "fading begins anew":
        now.age = 0
    else:
        rollout = replace(rollout, terminated=np.zeros_like(rollout.terminated))
    assert furthest(td_errors(learner, rollout, now), before) > 100 * NEAR


# ---------------------------------------------------------------- whole lines


TASKS = {
    "two_switch": TaskConfig(name="two_switch", n_max=30),  # time limits
    "walk": TaskConfig(env="small_tasks:Walk", agent_ids=False),  # masks, and agents that leave early
    "glide": TaskConfig(env="small_tasks:Glide"),  # numbers as actions
}
LINE_OPTIONS: dict[str, dict[str, Any]] = {
    "ippo": {"minibatches": 2},
    "mappo": {"minibatches": 2, "value_norm": True},
    "liir": {"minibatches": 2, "intrinsic_weight": 0.5, "share_parameters": False},
    "vdn": {"learning_starts": UPDATE, "batch_size": 32, "buffer_size": 4 * UPDATE},
    "qmix": {"learning_starts": UPDATE, "batch_size": 32, "buffer_size": 4 * UPDATE},
}
LINES = [
    pytest.param(name, task, id=f"{name}-{task}")
    for task in TASKS
    for name in OPTIONS
    if task != "glide" or name == "liir"
]


def line_signals(task: str) -> tuple[Signal, Signal]:
    """Return a signal, and what is left of it when its lasting potentials have gone."""
    near, goal, event = {
        "two_switch": ("-dist_nearest_open_switch / 12", "-dist_goal / 26", "switch_triggered"),
        "walk": ("-dist_end / 5", "min(dist_end, 2) / 3", "arrived"),
        "glide": ("-dist_end / 5", "min(dist_end, 2) / 3", "arrived"),
    }[task]
    stays = PotentialTerm(name="near", expression=near)
    fades = PotentialTerm(name="goal", expression=goal, anneal_steps=1000)
    bonus = EventTerm(name="bonus", event=event, decay_steps=1000)
    return Signal(scale=1.0, terms=(stays, fades, bonus)), Signal(scale=1.0, terms=(fades, bonus))


def weights(line: TrainingLine) -> np.ndarray:
    state = line.learner.state_dict()
    return np.concatenate([state[name].ravel() for name in sorted(state) if name.endswith(("weight", "bias"))])


@pytest.mark.parametrize(("name", "task"), LINES)
def test_a_line_learns_what_it_would_have_learned(name: str, task: str) -> None:
    """While what is left of the signal fades on. The twin without the offset goes elsewhere."""
    config = small_config(algorithm=name, **{name: LINE_OPTIONS[name]}).model_copy(update={"task": TASKS[task]})
    before, after = line_signals(task)
    kept, left, twin = lines = [trained(config, 1) for _ in range(3)]
    for line in lines:
        line.apply_signal(before)
        for _ in range(2):
            line.update()
    for line in (left, twin):
        line.apply_signal(after)
    twin.offsets.clear()
    assert left.signal_age == kept.signal_age == 2 * UPDATE
    for _ in range(4):
        for line in lines:
            line.update()
    # a mean, since Adam takes steps of full size along slopes that are all rounding
    moved = float(np.abs(weights(left) - weights(kept)).mean())
    assert moved <= NEAR
    assert [row["returns"] for row in left.history] == pytest.approx(
        [row["returns"] for row in kept.history], nan_ok=True
    )
    assert np.abs(weights(twin) - weights(kept)).mean() > 20 * NEAR
