"""The exported policy is the run's: the same numbers and the same actions, without cosignal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.export.description import described_action, described_observation
from cosignal.export.environment import RunEnv
from cosignal.export.policy import MASK, Policy, box_action, network_input
from cosignal.export.write import export_run
from cosignal.rl.algorithms.ppo import PPO
from cosignal.rl.algorithms.q_learning import QLearner
from cosignal.rl.envs.factory import make_task
from cosignal.rl.envs.pettingzoo.spaces import read_actions, read_observations
from cosignal.rl.experience.rnn_states import RNNStates
from cosignal.rl.task import FloatArray, GroupSpec, Step, episode_seed
from cosignal.rl.training.evaluate import Evaluator
from cosignal.rl.training.line import TrainingLine
from cosignal.runs.trust import Trust
from mixed_spaces import BOXES, PLAIN
from safetensors.torch import load_file
from trained_runs import main_run, run_config

OWN = Trust(envs=frozenset({*(f"small_tasks:{name}" for name in ("Walk", "Glide", "Spot")), "mixed_spaces:Mixed"}))
TASKS: dict[str, dict[str, Any]] = {
    "two_switch": {"name": "two_switch", "n_max": 30},
    "victim_rubble": {"name": "victim_rubble", "n_max": 30},  # two groups
    "lbf": {"name": "lbf", "n_max": 20},
    "rware": {"name": "rware", "n_max": 20, "env_args": {"agents": 3}},
    "speaker": {"name": "mpe_speaker_listener"},  # groups with different numbers of choices
    "walk": {"env": "small_tasks:Walk"},  # masks, agents that leave early, numbers of agents
    "mixed": {"env": "mixed_spaces:Mixed"},  # every space, masks in observations
    "glide": {"env": "small_tasks:Glide"},  # numbers of a Box
    "spot": {"env": "small_tasks:Spot"},  # images
    "boxes": {"env": "mixed_spaces:Mixed", "env_args": {"boxes": True}},
}
APART: dict[str, Any] = {"share_parameters": False}
GRU: dict[str, Any] = {"network": "gru", "minibatches": 2}
Q_GRU: dict[str, Any] = {"network": "gru"}
CASES = [
    *[(algorithm, task, {}) for algorithm in ("ippo", "vdn") for task in TASKS if task not in ("glide", "boxes")],
    *[(algorithm, task, {}) for algorithm in ("mappo", "liir", "qmix") for task in ("two_switch", "walk")],
    *[(algorithm, task, APART) for algorithm in ("ippo", "qmix") for task in ("rware", "walk")],
    *[(algorithm, "glide", {}) for algorithm in ("ippo", "mappo", "liir")],
    ("ippo", "boxes", APART),
    *[("ippo", task, GRU) for task in ("victim_rubble", "walk", "glide")],
    ("qmix", "walk", Q_GRU | APART),
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join([*case[:2], *map(str, case[2].values())]), scope="module")
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TrainingLine, Path]]:
    """A line that has trained a little, and the export of its run."""
    (algorithm, task, options), tmp_path = request.param, tmp_path_factory.mktemp("exported")
    config = run_config(TASKS[task], algorithm)
    section = getattr(config.trainer, algorithm).model_copy(update=options)
    config = config.model_copy(update={"trainer": config.trainer.model_copy(update={algorithm: section})})
    with main_run(tmp_path / "run", config) as main:
        for _ in range(3):
            main.update()
        main.checkpoint()
        yield main.line, export_run(tmp_path / "run", tmp_path / "export", trust=OWN)


def own_outputs(line: TrainingLine, step: Step, rnn_states: RNNStates | None = None) -> list[FloatArray]:
    """What the learner's own networks give, before masks: [g] [A_g, …]; states are overwritten by the next ones."""
    learner, outputs = line.learner, list[list[FloatArray]]([[] for _ in line.spec.groups])
    for n, members in enumerate(learner.network_groups):  # type: ignore[attr-defined]
        obs = step.obs[members.group][:, members.agents]
        if isinstance(learner, QLearner):
            there = np.ones((*obs.shape[:-1], int(line.spec.has_masks)), np.float32)
            network, fused, x = learner.agent_networks[n], None, torch.from_numpy(np.concatenate([obs, there], -1))
        else:
            assert isinstance(learner, PPO)
            network, fused, x = learner.networks[n].actor, learner.fused[n], torch.from_numpy(np.ascontiguousarray(obs))
        if rnn_states is not None:
            out, after = network(x, torch.from_numpy(rnn_states.actor[n]))
            rnn_states.actor[n][:] = after.detach().numpy()
        else:
            by_hand = None if fused is None else torch.from_numpy(fused.actor.forward(x.flatten(0, -2).numpy()))
            out = network(x) if by_hand is None else by_hand.view(*x.shape[:-1], -1)
        outputs[members.group].append(out.detach().numpy()[0].copy())
    return [np.concatenate(rows) for rows in outputs]


def best(line: TrainingLine, step: Step, outputs: list[FloatArray], g: int, i: int) -> Any:
    """The learner's own greedy action of an agent, as numbers of a policy."""
    if line.spec.groups[g].continuous:
        return outputs[g][i]
    allowed = np.ones(outputs[g].shape[-1], bool) if step.masks is None else step.masks[g][0, i]
    return int(np.where(allowed, outputs[g][i], -np.inf).argmax())


def masks_of(infos: Any) -> dict[Any, Any]:
    return {agent: info[MASK] for agent, info in infos.items() if MASK in info}


def test_it_gives_the_learners_numbers_and_greedy_actions(exported: tuple[TrainingLine, Path]) -> None:
    """Both follow the same episodes: the trainer's batch (compiled, where it is), and the PettingZoo environment."""
    line, folder = exported
    policy, env = Policy.load(folder), RunEnv(folder)
    task, translator, compared, episode = make_task(line.config.task, 1), env.translator, 0, 0
    draw, rnn_states = np.random.default_rng(0), line.learner.new_rnn_states(1)
    step, (observations, infos) = task.reset(5), env.reset(seed=episode_seed(5, 0, 0))
    for _ in range(100):
        seen = {agent: observations[agent] for agent in env.agents}
        outputs, exported_outputs = own_outputs(line, step, rnn_states), policy.outputs(seen)
        actions = policy.act(seen, masks_of(infos))
        played: list[Any] = []
        for g, group in enumerate(translator.groups):
            chosen = np.zeros((1, len(group.ids), *line.spec.groups[g].action_shape), line.spec.groups[g].action_dtype)
            for i, agent in enumerate(group.ids):
                if agent not in seen:
                    continue
                assert exported_outputs[agent].numpy() == pytest.approx(outputs[g][i], abs=1e-6)
                expected = group.actions.action(np.atleast_1d(best(line, step, outputs, g, i)).tolist())
                assert np.asarray(actions[agent]) == pytest.approx(np.asarray(expected), rel=1e-6, abs=1e-6)
                assert env.action_space(agent).contains(actions[agent])
                compared += 1
                # a random action that is allowed, so that both see many states
                if line.spec.groups[g].continuous:
                    chosen[0, i] = draw.uniform(-1, 1, chosen.shape[2:])
                else:
                    may = np.ones(group.actions.n, bool) if step.masks is None else step.masks[g][0, i]
                    chosen[0, i] = draw.choice(np.flatnonzero(may))
            played.append(chosen)
        joint = translator.joint_actions(played)[0]
        observations, _, _, _, infos = env.step(translator.env_actions(env.env, joint))
        step = task.step(played)
        if rnn_states is not None:
            rnn_states.reset(step.terminated | step.truncated)
        assert bool(step.terminated[0] | step.truncated[0]) == (not env.agents)
        if not env.agents:
            episode += 1
            policy.reset()
            observations, infos = env.reset(seed=episode_seed(5, 0, episode))
    assert compared >= 140
    env.close(), task.close()


def test_the_twin_with_another_weight_does_not(exported: tuple[TrainingLine, Path]) -> None:
    line, folder = exported
    weights = load_file(folder / "policy.safetensors")
    last = next(name for name in ("network_0.head.bias", "network_0.layer_2.bias") if name in weights)
    weights[last] += 1e-4
    policy, env = Policy(json.loads((folder / "policy.json").read_text()), weights), RunEnv(folder)
    observations, _ = env.reset(seed=episode_seed(5, 0, 0))
    outputs, step = policy.outputs(observations), make_task(line.config.task, 1).reset(5)
    theirs = np.concatenate([x.ravel() for x in own_outputs(line, step, line.learner.new_rnn_states(1))])
    ours = np.concatenate([outputs[agent].numpy() for agent in env.translator.ids])
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() > 1e-5
    env.close()


def test_sampled_actions_are_actions_of_the_environment(exported: tuple[TrainingLine, Path]) -> None:
    _, folder = exported
    policy, env = Policy.load(folder, seed=1), RunEnv(folder)
    observations, infos = env.reset(seed=1)
    steps = 0
    while env.agents and steps < 60:
        actions = policy.act({agent: observations[agent] for agent in env.agents}, masks_of(infos), sample=True)
        assert all(env.action_space(agent).contains(action) for agent, action in actions.items())
        observations, _, _, _, infos = env.step(actions)
        steps += 1
    assert steps
    env.close()


# ---------------------------------------------------------------- sampling


def policy_of(outputs: str, bias: list[float], **more: Any) -> Policy:
    """A policy of one agent whose network gives `bias`, whatever it observes."""
    description = {
        "format": 2,
        "stochastic": outputs != "values",
        "networks": {
            "n": {
                "outputs": outputs,
                "kind": "mlp",
                "activation": "tanh",
                "layers": 1,
                "epsilon": more.get("epsilon", 0.0),
            }
        },
        "agents": {
            "a": {
                "network": "n",
                "observation": {"parts": [{"keys": [], "shape": [1], "divisor": 1, "sizes": [], "starts": []}]},
                "id": [],
                "present": False,
                "action": more.get("action", {"choices": len(bias), "start": 0, "names": []}),
            }
        },
    }
    weights = {"n.layer_0.weight": torch.zeros(len(bias), 1), "n.layer_0.bias": torch.tensor(bias)}
    if "std" in more:
        weights["n.std"] = torch.tensor(more["std"])
    return Policy(description, weights, more.get("seed", 0))


SEEN = {"a": np.zeros(1)}


def drawn(policy: Policy, n: int, masks: Any = None) -> list[Any]:
    return [policy.act(SEEN, masks, sample=True)["a"] for _ in range(n)]


def test_choices_are_drawn_with_the_probabilities_of_the_softmax() -> None:
    """Logits 0, ln 2, ln 5: 1/8, 2/8, 5/8; without the last 1/3, 2/3. 4 000 draws: a deviation is at most 0.008."""
    logits = [0.0, float(np.log(2)), float(np.log(5))]
    shares = np.bincount(drawn(policy_of("logits", logits), 4_000), minlength=3) / 4_000
    assert shares == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.03)
    masked = np.bincount(drawn(policy_of("logits", logits), 4_000, {"a": [1, 1, 0]}), minlength=3) / 4_000
    assert masked == pytest.approx([1 / 3, 2 / 3, 0], abs=0.03)
    assert masked[2] == 0


def test_a_seed_repeats_the_draws() -> None:
    logits = [0.0, 0.5, 1.0]
    policy = policy_of("logits", logits, seed=3)
    first = drawn(policy, 40)
    policy.seed(3)
    assert drawn(policy, 40) == first == drawn(policy_of("logits", logits, seed=3), 40)
    assert drawn(policy_of("logits", logits, seed=4), 40) != first
    assert {policy.act(SEEN)["a"] for _ in range(20)} == {2}


def test_a_policy_by_values_explores_as_in_training_when_it_is_sampled() -> None:
    """ε = 0.6 over two allowed actions: the best one in 0.4 + 0.3 of all draws."""
    policy = policy_of("values", [0.0, 9.0, 99.0], epsilon=0.6)
    shares = np.bincount(drawn(policy, 4_000, {"a": [True, True, False]}), minlength=3) / 4_000
    assert shares == pytest.approx([0.3, 0.7, 0], abs=0.03)
    assert policy.act(SEEN, {"a": [True, True, False]}) == {"a": 1}
    assert policy.act(SEEN) == {"a": 2}
    assert not policy.stochastic


def test_numbers_are_drawn_around_their_means() -> None:
    """Means 0 and 0.5 with deviations 0.1 and 0.01, in a Box from 0 to 10: 5 and 7.5, deviations 0.5 and 0.05."""
    box = {"low": [0.0, 0.0], "high": [10.0, 10.0], "shape": [2], "dtype": "float32"}
    policy = policy_of("means", [0.0, 0.5], std=[0.1, 0.01], action=box)
    numbers = np.array(drawn(policy, 2_000))
    assert numbers.mean(0) == pytest.approx([5, 7.5], abs=0.05)
    assert numbers.std(0) == pytest.approx([0.5, 0.05], rel=0.1)
    assert policy.act(SEEN)["a"] == pytest.approx([5, 7.5])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("observations", "masks", "line"),
    [
        ({"b": np.zeros(1)}, None, r"agents must be among \['a'\], got \['b'\]"),
        ({"a": np.zeros(2)}, None, r"agent 'a' must observe numbers of shape \(1,\), got \(2,\)"),
        (SEEN, {"a": [0, 0, 0]}, r"the mask of 'a' must allow at least one of 3 actions, got \[0, 0, 0\]"),
        (SEEN, {"a": [1, 1]}, r"the mask of 'a' must allow at least one of 3 actions, got \[1, 1\]"),
    ],
)
def test_what_is_none_of_an_agents_is_refused(observations: Any, masks: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        policy_of("logits", [0.0, 0.0, 0.0]).act(observations, masks)


def test_a_description_of_another_format_is_refused() -> None:
    policy = policy_of("logits", [0.0, 0.0])
    with pytest.raises(ValueError, match="must have format 2, got 3"):
        Policy(policy.description | {"format": 3}, {})


# ---------------------------------------------------------------- spaces, against the trainer's own


@pytest.mark.parametrize("agent", PLAIN, ids=str)
def test_an_observation_becomes_the_trainers_row(agent: Any) -> None:
    space = read_observations(agent, PLAIN[agent])
    described = {"observation": described_observation(space), "id": [0.0, 1.0], "present": True}
    described = json.loads(json.dumps(described))
    PLAIN[agent].seed(1)
    for _ in range(20):
        seen = PLAIN[agent].sample()
        row = network_input(agent, described, seen)
        assert row.dtype == np.float32
        assert row == pytest.approx(np.array([*space.flat(seen), 0, 1, 1], np.float32))


@pytest.mark.parametrize("agent", BOXES, ids=str)
def test_numbers_become_the_trainers_action(agent: Any) -> None:
    space = read_actions(agent, BOXES[agent])
    spec = GroupSpec(name="g", agents=("a",), obs_size=1, action_bounds=space.bounds)
    described = json.loads(json.dumps(described_action(space, spec)))
    rng = np.random.default_rng(0)
    for numbers in (*rng.uniform(-1.2, 1.2, (50, space.width)), np.full(space.width, -1.0), np.ones(space.width)):
        action = box_action(described, numbers)
        expected = space.action(numbers.tolist())
        assert action.dtype == expected.dtype and action.shape == expected.shape
        assert np.array_equal(action, expected)
        assert BOXES[agent].contains(action)


# ---------------------------------------------------------------- without cosignal


def test_it_runs_where_there_is_no_cosignal_and_the_script_plays_what_the_run_evaluates(tmp_path: Path) -> None:
    """In an isolated interpreter any import of cosignal fails; and the greedy episode that `play.py` prints is the
    evaluator's, by the compiled batch."""
    with main_run(tmp_path / "run", run_config(TASKS["two_switch"], "vdn")) as main:
        for _ in range(3):
            main.update()
        main.checkpoint()
        evaluation = Evaluator(main.config.task, 1, seed=5).evaluate(main.line.learner)
        chosen = main.line.learner.act_to_evaluate(make_task(main.config.task, 1).reset(5).obs, torch.Generator())
    folder = export_run(tmp_path / "run", tmp_path / "export")
    env = RunEnv(folder)
    seen, _ = env.reset(seed=episode_seed(5, 0, 0))
    np.savez(tmp_path / "seen.npz", **seen)
    code = (
        "import sys; sys.modules['cosignal'] = None; sys.path.insert(0, sys.argv[1]); import numpy, policy\n"
        "loaded = policy.Policy.load(sys.argv[1])\n"
        "print(loaded.act(dict(numpy.load(sys.argv[2]))))\n"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in ('cosignal', 'gymnasium', 'pettingzoo')))"
    )
    command = [sys.executable, "-I", "-c", code, str(folder), str(tmp_path / "seen.npz")]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    assert told == [str({"green": int(chosen[0][0, 0]), "orange": int(chosen[0][0, 1])}), "['cosignal']"]

    script = [sys.executable, str(folder / "play.py"), "--episodes", "1", "--seed", str(episode_seed(5, 0, 0))]
    told = subprocess.run(script, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    success = bool(evaluation.successes[0])
    assert told == [f"episode 0: return {evaluation.returns[0]:.3f}, success {success}"]
