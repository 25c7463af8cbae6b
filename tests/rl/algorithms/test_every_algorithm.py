"""What a training line promises, whichever algorithm it trains and whatever actions a task has: repeatable, restored
whole, and forked bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.rl.algorithms.networks.factory import Network
from cosignal.rl.algorithms.networks.gru import GRU
from cosignal.rl.branches.run_branch import run_branch
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.experience.episodes import entropy_at_start
from cosignal.rl.ipc.messages import BranchJob
from cosignal.rl.signals.config import SignalConfig
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.training.checkpoint import load_snapshot, save_snapshot
from cosignal.rl.training.config import TrainingConfig
from cosignal.rl.training.evaluate import Evaluator
from cosignal.rl.training.line import TrainingLine
from training_lines import UPDATE, small_config, trained

PPO: dict[str, Any] = {"minibatches": 2}
Q: dict[str, Any] = {"learning_starts": UPDATE, "batch_size": 32, "buffer_size": 4 * UPDATE, "target_every": 7}
SECTIONS = {
    "ippo": PPO,
    "mappo": PPO | {"value_norm": True},
    "liir": PPO | {"value_norm": True, "share_parameters": False, "advantage_norm": "agent", "intrinsic_weight": 0.5},
    "vdn": Q,
    "qmix": Q | {"share_parameters": False},
}
SEQUENCES: dict[str, Any] = {"network": "gru"}
RECURRENT = {
    "ippo": PPO | SEQUENCES | {"chunk_length": 4, "value_norm": True},
    "mappo": PPO | SEQUENCES | {"share_parameters": False},
    "vdn": Q | SEQUENCES | {"batch_size": 256},
    "qmix": Q | SEQUENCES | {"batch_size": 256, "share_parameters": False},
}
TASKS = {
    "two_switch": TaskConfig(name="two_switch", n_max=30),
    "walk": TaskConfig(env="small_tasks:Walk", agent_ids=False),  # masks, and agents that leave early
    "glide": TaskConfig(env="small_tasks:Glide"),  # numbers as actions
    "spot": TaskConfig(env="small_tasks:Spot"),  # images, for which `auto` takes convolutions
}
CASES = [
    (algorithm, task, section.get("network", "auto"))
    for task in TASKS
    for sections in (SECTIONS, RECURRENT)
    for algorithm, section in sections.items()
    if (task != "glide" or section.items() >= PPO.items()) and (task != "spot" or sections is SECTIONS)
]


@pytest.fixture(params=CASES, ids="-".join)
def config(request: pytest.FixtureRequest) -> TrainingConfig:
    algorithm, task, network = request.param
    sections = RECURRENT if network == "gru" else SECTIONS
    small = small_config(algorithm=algorithm, **{algorithm: sections[algorithm]})
    return small.model_copy(update={"task": TASKS[task]})


def shaped(config: TrainingConfig) -> Signal:
    distance = "dist_nearest_open_switch / 12" if config.task.name else "dist_end / 5"
    if config.task.env == "small_tasks:Spot":
        distance = "obs_0"
    term = {"name": "near", "kind": "potential", "expression": f"-{distance}"}
    return Signal.model_validate({"version": 1, "terms": [term]})


def assert_equal(one: TrainingLine, other: TrainingLine) -> None:
    """All arrays and plain data; the files of a replay have names of their own."""
    (arrays, meta), (other_arrays, other_meta) = one.state_dict(), other.state_dict()
    for name in arrays.keys() - {"learner/replay.segments"}:
        assert np.array_equal(arrays[name], other_arrays[name], equal_nan=arrays[name].dtype.kind == "f"), name
    assert meta == other_meta


def job(signal: Signal, seed: int) -> BranchJob:
    end = f"branches/{len(signal.terms)}-{seed}"
    return BranchJob(
        key=end, fork="fork", start="fork", arm="arm", signal=signal, exploration=Exploration(), seed=seed,
        horizon=3 * UPDATE, evaluation_seed=5, evaluation_episodes=4, end_state=end,
    )  # fmt: skip


def test_the_same_config_gives_the_same_run_and_another_seed_another(config: TrainingConfig) -> None:
    assert_equal(trained(config, 5), trained(config, 5))
    other = trained(config.model_copy(update={"seed": 2}), 5)
    weights = next(name for name in other.learner.state_dict() if name.endswith("weight"))
    assert not np.array_equal(trained(config, 5).learner.state_dict()[weights], other.learner.state_dict()[weights])


def test_a_line_restored_from_disk_goes_on_as_if_nothing_had_happened(config: TrainingConfig, tmp_path: Path) -> None:
    line = trained(config, 4)
    save_snapshot(line, tmp_path / "snapshot")
    for _ in range(3):
        line.update()
    restored = TrainingLine(config)
    load_snapshot(restored, tmp_path / "snapshot")
    for _ in range(3):
        restored.update()
    assert_equal(restored, line)


def test_the_control_is_the_main_line_and_a_candidate_is_not(config: TrainingConfig, tmp_path: Path) -> None:
    """The worker's line was used for a candidate in between, and the main line went on: neither shows."""
    main, worker = trained(config, 4), TrainingLine(config)
    save_snapshot(main, tmp_path / "fork")
    for _ in range(3):
        main.update()
    results = [run_branch(worker, tmp_path, job(signal, 0)) for signal in (shaped(config), main.signal)]
    control = TrainingLine(config)
    load_snapshot(control, tmp_path / results[1].end_state)
    assert_equal(control, main)
    candidate = TrainingLine(config)
    load_snapshot(candidate, tmp_path / results[0].end_state)
    with pytest.raises(AssertionError):
        assert_equal(candidate, main)
    assert run_branch(worker, tmp_path, job(shaped(config), 3)).signal.terms == shaped(config).terms


def test_a_new_line_is_a_run_of_its_seed_whatever_the_worker_did_before(config: TrainingConfig, tmp_path: Path) -> None:
    main, worker, signal = trained(config, 2), TrainingLine(config), shaped(config).model_copy(update={"version": 0})
    save_snapshot(main, tmp_path / "fork")
    run_branch(worker, tmp_path, job(shaped(config), 3))
    new = job(signal, 6).model_copy(update={"new_line": True, "end_state": "branches/new"})
    result = run_branch(worker, tmp_path, new)
    expected = trained(config.model_copy(update={"seed": 6, "signal": SignalConfig(terms=signal.terms)}), 3)
    assert_equal(worker, expected)
    ended = TrainingLine(config)
    extra = load_snapshot(ended, tmp_path / result.end_state)
    assert_equal(ended, expected)
    assert (result.steps, result.end_update) == (3 * UPDATE, 3)
    assert extra == {"fork_steps": 0, "fork_return": main.spec.return_range[0] if main.spec.return_range else 0.0}
    # The twin: another seed is another run. Then an extension goes on, and so does the run.
    run_branch(worker, tmp_path, new.model_copy(update={"seed": 7, "end_state": "branches/other"}))
    with pytest.raises(AssertionError):
        assert_equal(worker, expected)
    longer = {"start": result.end_state, "horizon": 5 * UPDATE, "end_state": "branches/longer"}
    assert run_branch(worker, tmp_path, new.model_copy(update=longer)).steps == 2 * UPDATE
    for _ in range(2):
        expected.update()
    assert_equal(worker, expected)


def test_what_acts_can_be_taken_from_a_state_alone(config: TrainingConfig) -> None:
    """By weights that no optimiser, replay or critic comes with; and a fresh learner does not act so."""
    line, fresh = trained(config, 4), TrainingLine(config.model_copy(update={"seed": 9}))
    step = line.step
    first, *_ = fresh.learner.acting_networks()
    obs = torch.rand(7, first.network.inputs)

    def outputs(network: Network) -> torch.Tensor:
        return network(obs, torch.zeros(7, network.state_size))[0] if isinstance(network, GRU) else network(obs)

    before = outputs(first.network)
    needed = ("values.", "counters") if hasattr(line.learner, "epsilon") else tuple(f"{n}." for n in range(2))
    state = {name: value for name, value in line.learner.state_dict().items() if name.startswith(needed)}
    fresh.learner.load_policy({name: value for name, value in state.items() if "adam" not in name})
    for own, loaded in zip(line.learner.acting_networks(), fresh.learner.acting_networks(), strict=True):
        assert torch.equal(outputs(own.network), outputs(loaded.network))
        assert own.epsilon == loaded.epsilon
        assert (own.std is None) == (loaded.std is None) and (own.std is None or torch.equal(own.std, loaded.std))
    assert not torch.equal(outputs(first.network), before)
    seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
    chosen = [
        learner.act_to_evaluate(step.obs, generator, step.masks)
        for learner, generator in zip((line.learner, fresh.learner), seeded, strict=True)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*chosen, strict=True))


def test_a_state_kept_in_memory_can_be_gone_back_to(config: TrainingConfig) -> None:
    line, other = trained(config, 3), trained(config, 5)
    kept = line.state_dict()
    for _ in range(2):
        line.update()
    assert_equal(line, other)
    line.load_state_dict(*kept)
    for _ in range(2):
        line.update()
    assert_equal(line, other)


def test_evaluation_repeats_itself_and_touches_no_stream(config: TrainingConfig) -> None:
    line, other = trained(config, 2), trained(config, 2)
    evaluator = Evaluator(config.task, 6, seed=4)
    assert evaluator.evaluate(line.learner) == evaluator.evaluate(line.learner)
    assert_equal(line, other)


def test_metrics_of_every_update_are_numbers(config: TrainingConfig) -> None:
    line = trained(config, 2)
    (metrics,) = line.update().metrics
    assert 0.0 <= metrics.entropy <= entropy_at_start(line.spec.groups[0]) + 0.1
    assert all(np.isfinite(value) for value in metrics.losses.values())


SMALL_Q = {
    "gamma": 0.8,
    "lr": 2e-3,
    "epsilon_steps": 4000,
    "learning_starts": 256,
    "batch_size": 64,
    "target_every": 20,
}
LEARN = [
    ("ippo", "walk", {"lr": 3e-3}, 60),
    ("mappo", "walk", {"lr": 3e-3}, 60),
    ("liir", "walk", {"lr": 3e-3}, 60),
    ("vdn", "walk", SMALL_Q, 100),
    ("qmix", "walk", SMALL_Q, 100),
    ("ippo", "glide", {"lr": 3e-3}, 60),
    ("mappo", "glide", {"lr": 3e-3}, 60),
    ("liir", "glide", {"lr": 3e-3}, 60),
]


@pytest.mark.parametrize(("algorithm", "task", "options", "updates"), LEARN)
def test_a_task_with_masks_leavers_or_numbers_is_learned_and_the_twin_without_a_learning_rate_does_not(
    algorithm: str, task: str, options: dict[str, Any], updates: int
) -> None:
    """Steps of four evaluation episodes of at most 25; nobody needs more than 5 to arrive, 2 if they glide."""

    def steps_needed(lr: float, updates: int) -> int:
        config = small_config(algorithm=algorithm, **{algorithm: options | {"lr": lr}})
        line = trained(config.model_copy(update={"task": TASKS[task]}), updates)
        return Evaluator(line.config.task, 4, seed=1).evaluate(line.learner).steps

    assert steps_needed(options["lr"], updates) <= 40
    assert steps_needed(1e-30, 5) >= 60
