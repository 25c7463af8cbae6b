"""The exported signal pays what the trainer pays, step by step, over whole episodes."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cosignal.errors import ExportError, SignalError
from cosignal.export.environment import RunEnv
from cosignal.export.shaped_env import ShapedEnv
from cosignal.export.write import export_run
from cosignal.rl.envs.lbf.original import OriginalForagingTask
from cosignal.rl.envs.two_switch.env import TwoSwitchEnv, TwoSwitchTask
from cosignal.rl.signals.scorer import FOLDER, Scorer, Scorers
from cosignal.rl.signals.signal import Signal
from cosignal.rl.task import FloatArray, episode_seed
from cosignal.rl.training.line import TrainingLine
from cosignal.runs.trust import Trust
from numpy.typing import NDArray
from pettingzoo.utils import BaseParallelWrapper
from pettingzoo_tests import parallel_api_test
from small_tasks import Glide, Walk
from trained_runs import main_run, run_config

OWN = Trust(envs=frozenset({"small_tasks:Walk", "small_tasks:Glide"}))
FADES = 400  # main steps; what is compared takes some hundred of them
SEED = 4


def scorer(size: int) -> Scorer:
    """σ = the sum of what is observed."""
    return Scorer((np.full((1, size, 1), 0.3, np.float32),), (np.zeros((1, 1), np.float32),))


def terms(feature: str, event: str, size: int, group: str = "agents") -> list[dict[str, Any]]:
    """One term of each kind: two potentials, one of which anneals, an event that decays, both forms of a scorer, and
    shares in the return by what is observed."""
    shares = {"kind": "decomposition", "scorer": scorer(2 * size).name, "inputs": "observations", "agent_ids": False}
    learned = {"kind": "learned", "scorer": scorer(size).name, "agents": group}
    return [
        {"name": "near", "kind": "potential", "expression": f"-{feature} / 7"},
        {"name": "nearest", "kind": "potential", "expression": f"max_mates({feature})", "anneal_steps": FADES * 10},
        {"name": "did", "kind": "event", "event": event, "weight": 0.3, "decay_steps": FADES * 5},
        {"name": "learned", "form": "potential", "weight": 0.5, **learned},
        {"name": "moved", "form": "difference", "weight": 0.25, **learned},
        {"name": "shares", "weight": 0.05, "agents": group, **shares},
    ]


TASKS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]] = {
    "two_switch": (
        {"name": "two_switch", "n_max": 25},
        terms("dist_nearest_open_switch", "switch_triggered", 20),
        {"reward": "team_and_individual"},
    ),
    "limit_is_an_end": (
        {"name": "two_switch", "n_max": 25},
        terms("dist_nearest_open_switch", "switch_triggered", 20),
        {"time_limit": "termination"},
    ),
    "victim_rubble": ({"name": "victim_rubble", "n_max": 25}, terms("x", "rubble_cleared", 29, "medic"), {}),
    "lbf": ({"name": "lbf", "n_max": 15}, terms("dist_nearest_food", "food_loaded", 12), {}),
    "walk": ({"env": "small_tasks:Walk"}, terms("dist_end", "arrived", 4), {}),  # who arrives leaves, with masks
    "walk_cut": ({"env": "small_tasks:Walk", "n_max": 4, "team_reward": "mean"}, terms("dist_end", "arrived", 4), {}),
    "glide": ({"env": "small_tasks:Glide"}, terms("dist_end", "arrived", 4), {}),  # a Box
}


class Paid:
    """What the trainer paid in every step of one environment: actions and rewards of each agent, and how it ended.

    `ages[t]`: main steps that the signal's terms had faded for.
    """

    def __init__(self, line: TrainingLine) -> None:
        self.line = line
        self.actions: list[list[NDArray[Any]]] = []  # [t] [g] [A_g, …]
        self.rewards: list[FloatArray] = []  # [t] [A]
        self.sparse: list[float] = []
        self.of_terms: dict[str, float] = {}  # the largest that each term paid
        self.ages: list[int] = []
        self.terminated: list[bool] = []
        self.done: list[bool] = []

    def update(self) -> None:
        rewards = self.line.rewards()
        self.line.update()
        rollout = self.line.collector.rollout
        shaping, per_term = rewards.shape(rollout).total, rewards.shape(rollout).per_term
        for term, added in zip(self.line.signal.terms, per_term, strict=True):
            largest = max(float(np.abs(x).max()) for x in added)
            self.of_terms[term.name] = max(largest, self.of_terms.get(term.name, 0.0))
        for t in range(len(rollout.reward)):
            self.actions.append([actions[t, 0].copy() for actions in rollout.actions])
            paid = [np.float32(rollout.reward[t, 0]) + group[t, 0] for group in shaping]
            self.rewards.append(np.concatenate(paid))
            self.sparse.append(float(rollout.reward[t, 0]))
            self.ages.append(rewards.age)
            assert rollout.truncated is not None
            self.terminated.append(bool(rollout.done[t, 0] and not rollout.truncated[t, 0]))
            self.done.append(bool(rollout.done[t, 0]))


@pytest.fixture(params=TASKS, scope="module")
def paid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Paid, Path]]:
    """What a run of one environment paid, and its export."""
    (task, given, trainer), tmp_path = TASKS[request.param], tmp_path_factory.mktemp("paid")
    scorers = tmp_path / "made" / FOLDER
    for term in given:
        if term["kind"] == "learned":
            Scorers(scorers).add(scorer(observed(task, str(term["agents"]))))
        elif term["kind"] == "decomposition":
            Scorers(scorers).add(scorer(2 * observed(task, str(term["agents"]))))
    config = run_config(
        task,
        seed=SEED,
        trainer={"envs": 1, "rollout": 16, "ippo": {"minibatches": 2, "gamma": 0.9}, **trainer},
        signal={"terms": given, "beta": 0.8, "scorers": scorers},
    )
    run = tmp_path / "run"
    shutil.copytree(scorers, run / FOLDER)
    with main_run(run, config) as main:
        found = Paid(main.line)
        for _ in range(FADES // 16):
            found.update()
        main.checkpoint()
        yield found, export_run(run, tmp_path / "export", trust=OWN)


def observed(task: dict[str, Any], group: str) -> int:
    """How many numbers an agent of the group observes."""
    from cosignal.rl.envs.config import TaskConfig
    from cosignal.rl.envs.factory import task_spec

    return next(g.obs_size for g in task_spec(TaskConfig(**task)).groups if g.name == group)


def differences(paid: Paid, env: RunEnv, hold_age: bool = True) -> Iterator[float]:
    """Play the trainer's episodes again, and yield how far the rewards are from the trainer's, in every step."""
    episode = 0
    env.reset(seed=episode_seed(SEED, 0, 0))
    for t, actions in enumerate(paid.actions):
        if hold_age and isinstance(env, ShapedEnv):
            env.age = paid.ages[t]
        joint = env.translator.joint_actions([row[None] for row in actions])[0]
        acted = list(env.agents)
        _, rewards, terminations, truncations, infos = env.step(env.translator.env_actions(env.env, joint))
        ids = env.translator.ids
        assert rewards.keys() == set(acted)
        yield max(abs(rewards[agent] - paid.rewards[t][ids.index(agent)]) for agent in acted)
        assert all(infos[agent]["sparse_reward"] == pytest.approx(paid.sparse[t], abs=1e-6) for agent in acted)
        assert (not env.agents) == paid.done[t]
        if paid.done[t]:
            by_limit = any(truncations[agent] and not terminations[agent] for agent in acted)
            assert by_limit != paid.terminated[t]
            episode += 1
            env.reset(seed=episode_seed(SEED, 0, episode))


def test_every_step_pays_what_the_trainer_pays(paid: tuple[Paid, Path]) -> None:
    trained, folder = paid
    env = shaping_module(folder).ShapedParallelEnv()
    assert isinstance(env, BaseParallelWrapper)
    assert max(differences(trained, env)) < 1e-5
    # it is about something: whole episodes, with both kinds of ends, and terms that pay
    name = trained.line.spec.name
    ends = [terminated for terminated, done in zip(trained.terminated, trained.done, strict=True) if done]
    assert len(ends) >= 3
    assert any(ends) == (name in ("walk", "glide"))
    assert not all(ends) or name == "glide"
    rare = {"did"} if name in ("lbf", "victim_rubble") else set()
    assert all(trained.of_terms[name] > 1e-3 for name in {term.name for term in trained.line.signal.terms} - rare)
    env.close()


@pytest.mark.parametrize("key", ["gamma", "beta", "age", "reward"])
def test_the_twin_with_another_number_does_not(paid: tuple[Paid, Path], tmp_path: Path, key: str) -> None:
    """Only one of these runs sees the task's own reward in another view, so that the last one matters there alone."""
    trained, folder = paid
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    content = json.loads((other / "signal.json").read_text())
    content["signal"]["beta"] *= 0.9 if key == "beta" else 1
    content |= {"gamma": {"gamma": 0.95}, "reward": {"reward": "team"}}.get(key, {})
    (other / "signal.json").write_text(json.dumps(content))
    env = ShapedEnv(other, age=0)
    differs = any(difference > 1e-3 for difference in differences(trained, env, hold_age=key != "age"))
    assert differs == (key != "reward" or trained.line.config.trainer.reward != "team")
    env.close()


def test_where_the_run_stood_is_where_it_goes_on(paid: tuple[Paid, Path]) -> None:
    trained, folder = paid
    env, fresh = ShapedEnv(folder, copies=3), ShapedEnv(folder, age=0)
    assert (env.age, fresh.age) == (trained.line.signal_age, 0)
    observations, _ = env.reset(seed=1)
    env.step(env.translator.env_actions(env.env, _first_actions(env)))
    assert env.age == trained.line.signal_age + 3
    assert set(observations) == set(env.possible_agents)
    env.close(), fresh.close()


def _first_actions(env: RunEnv) -> NDArray[np.generic]:
    groups = env.spec.groups
    first = [np.zeros((1, len(g.agents), *g.action_shape), g.action_dtype) for g in groups]
    return env.translator.joint_actions(first)[0]


def test_without_a_signal_it_is_the_sparse_environment(paid: tuple[Paid, Path]) -> None:
    trained, folder = paid
    env = RunEnv(folder)
    trained_sparse = Paid(trained.line)
    trained_sparse.__dict__.update(trained.__dict__)
    trained_sparse.rewards = [np.full(len(env.translator.ids), x, np.float32) for x in trained.sparse]
    assert max(differences(trained_sparse, env)) < 1e-6
    env.close()


def test_it_passes_pettingzoos_own_test(paid: tuple[Paid, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = paid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Walk still shows an agent in the step after it has left
        parallel_api_test(shaping_module(folder).ShapedParallelEnv(age=0), num_cycles=60)
    assert "Passed" in capsys.readouterr().out


def shaping_module(folder: Path) -> ModuleType:
    """The `shaping.py` of an export."""
    spec = spec_from_file_location("shaping", folder / "shaping.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- an event fades, by hand


def exported(tmp_path: Path, task: dict[str, Any], signal: Signal) -> Path:
    with main_run(tmp_path / "run", run_config(task)) as main:
        main.line.apply_signal(signal)
        main.update()
        main.checkpoint()
    return export_run(tmp_path / "run", tmp_path / "export", trust=OWN)


def test_an_event_fades_with_the_steps_of_all_copies(tmp_path: Path) -> None:
    """Each arrival is worth 0.5 · 2 · 0.4 = 0.4 at age 0, and nothing from 1 000 steps on. Seed 1 starts both walkers
    at cells 1 and 1 of 5; they go forward, and arrive in the fourth step, at age 3 · 100 = 300: 0.28."""
    event = {"name": "here", "kind": "event", "event": "arrived", "weight": 0.4, "decay_steps": 1_000}
    signal = Signal.model_validate({"beta": 0.5, "scale": 2.0, "terms": [event]})
    env = ShapedEnv(exported(tmp_path, {"env": "small_tasks:Walk"}, signal), age=0, copies=100)
    env.reset(seed=1)
    starts = [int(env.env.at[agent]) for agent in env.agents]
    steps: list[dict[Any, float]] = []
    while env.agents:
        _, rewards, *_, infos = env.step(dict.fromkeys(env.agents, 2))
        steps.append({agent: rewards[agent] - infos[agent]["sparse_reward"] for agent in rewards})
    for agent, start in zip(env.possible_agents, starts, strict=True):
        added = [step[agent] for step in steps if agent in step]
        assert added == pytest.approx([0.0] * (4 - start) + [0.4 * (1 - 100 * (4 - start) / 1_000)])
    env.reset(seed=1)
    env.age = 1_000
    paid = [env.step(dict.fromkeys(env.agents, 2)) for _ in range(4)]
    assert all(rewards[a] == infos[a]["sparse_reward"] for _, rewards, _, _, infos in paid for a in rewards)
    assert env.success is True


def test_it_adds_to_what_the_environment_pays_where_that_is_asked_for(tmp_path: Path) -> None:
    """Walk pays who arrives; as a team's reward everybody is paid that."""
    folder = exported(tmp_path, {"env": "small_tasks:Walk"}, Signal())
    for team, expected in ((True, [1.0, 1.0]), (False, [0.0, 1.0])):
        env = ShapedEnv(folder, team=team)
        env.reset(seed=0)
        env.env.at = {"walker_0": 0.0, "walker_1": 4.0}
        _, rewards, *_ = env.step({"walker_0": 2, "walker_1": 2})
        assert list(rewards.values()) == expected


# ---------------------------------------------------------------- an environment of the caller


def test_the_callers_environment_is_wrapped(tmp_path: Path) -> None:
    folder = exported(tmp_path, {"env": "small_tasks:Walk"}, Signal())
    mine = Walk()
    env = ShapedEnv(folder, mine)
    env.reset(seed=3)
    env.step(dict.fromkeys(env.agents, 2))
    assert env.unwrapped is mine
    assert mine.t == 1


def test_another_environment_is_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path, {"env": "small_tasks:Walk"}, Signal())
    with pytest.raises(ExportError, match=r"the environment of the run, 'walk' with agents \(walker_0 walker_1\)"):
        ShapedEnv(folder, Glide())
    with pytest.raises(ExportError, match=r"got 'two_switch' with agents \(green orange\)"):
        ShapedEnv(folder, TwoSwitchEnv())
    with pytest.raises(ExportError, match=r"must be a pettingzoo\.ParallelEnv, .*, got a dict; wrap it"):
        ShapedEnv(folder, {})


def test_a_shipped_task_wants_its_adapter_where_that_has_the_features(tmp_path: Path) -> None:
    folder = exported(tmp_path / "lbf", {"name": "lbf_original", "n_max": 15}, Signal())
    task = OriginalForagingTask(n_max=15)
    assert ShapedEnv(folder, task).task is task
    with pytest.raises(ExportError, match=r"a cosignal\.Task"):
        ShapedEnv(folder, task.env)
    folder = exported(tmp_path / "grid", {"name": "two_switch", "n_max": 15}, Signal())
    ShapedEnv(folder, TwoSwitchTask(n_max=15))
    ShapedEnv(folder, TwoSwitchEnv(n_max=15))  # it declares all of it by itself


def test_damaged_files_are_told_in_a_line(tmp_path: Path) -> None:
    term = {"name": "l", "kind": "learned", "scorer": scorer(4).name, "agents": "agents"}
    shutil.rmtree(tmp_path, ignore_errors=True)
    Scorers(tmp_path / "run" / FOLDER).add(scorer(4))
    with main_run(tmp_path / "run", run_config({"env": "small_tasks:Walk"})) as main:
        main.line.apply_signal(Signal.model_validate({"scale": 1.0, "terms": [term]}))
        main.update()
        main.checkpoint()
    folder = export_run(tmp_path / "run", tmp_path / "export", trust=OWN)
    ShapedEnv(folder)
    (folder / FOLDER / f"{scorer(4).name}.safetensors").unlink()
    with pytest.raises(SignalError, match="needs its scorer"):
        ShapedEnv(folder)
    content = json.loads((folder / "signal.json").read_text())
    (folder / "signal.json").write_text(json.dumps(content | {"format": 2}))
    with pytest.raises(ExportError, match="must have format 1, got 2"):
        ShapedEnv(folder)
    (folder / "signal.json").unlink()
    with pytest.raises(ExportError, match=r"signal\.json' must be a file of an export"):
        ShapedEnv(folder)
