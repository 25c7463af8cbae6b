"""Learned terms: scorers in the signal, in both forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.algorithms.config import VDNConfig
from cosignal.rl.branches.gate import signal_kind
from cosignal.rl.branches.run_branch import run_branch
from cosignal.rl.envs.factory import task_spec
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.ipc.messages import BranchJob
from cosignal.rl.signals.check import check_signal
from cosignal.rl.signals.critic_offset import annealed_potential, removed_potential
from cosignal.rl.signals.scorer import FOLDER, Scorer, Scorers
from cosignal.rl.signals.shaping import CompiledSignal, frozen_scale
from cosignal.rl.signals.signal import Exploration, Signal, is_removal
from cosignal.rl.signals.terms import DecompositionTerm, LearnedTerm, PotentialTerm
from cosignal.rl.signals.terms.decomposition import input_size
from cosignal.rl.task import TaskSpec
from cosignal.rl.training.checkpoint import load_snapshot, pack_snapshot, save_snapshot
from cosignal.rl.training.config import TrainingConfig
from cosignal.rl.training.line import TrainingLine
from made_up_transitions import MadeUpTransitions
from training_lines import assert_same_state, small_config

# σ = x₀ − 2 x₁ of what is observed, computed by hand in the tests.
LINEAR = Scorer((np.array([[[1.0], [-2.0], [0.0]]], np.float32),), (np.zeros((1, 1), np.float32),))
SCORERS = Scorers()
NAME = SCORERS.add(LINEAR)

FEATURES = [np.zeros((1, 2, 2), np.float32), np.zeros((1, 1, 2), np.float32)]
EVENTS = [np.zeros((1, 2, 2), np.float32), np.zeros((1, 1, 1), np.float32)]
OBS = [np.array([[[1, 0, 5], [3, 1, 5]]], np.float32), np.zeros((1, 1, 3), np.float32)]  # σ = 1, 1
LAST_OBS = [np.array([[[2, 0, 9], [5, 0, 9]]], np.float32), np.zeros((1, 1, 3), np.float32)]  # σ = 2, 5
ACTIONS = [np.array([[1, 0]]), np.array([[1]])]


def learned(**more: Any) -> LearnedTerm:
    return LearnedTerm(**{"name": "sigma", "scorer": NAME, "agents": "scouts", **more})


def signal(*terms: Any, **more: Any) -> Signal:
    return Signal(**{"beta": 0.5, "scale": 2.0, "terms": terms, **more})


def shaped(spec: TaskSpec, term: LearnedTerm, terminated: float = 0.0, age: int = 0) -> list[float]:
    compiled = CompiledSignal(signal(term), spec, SCORERS)
    transitions = MadeUpTransitions(
        FEATURES, FEATURES, EVENTS, np.array([terminated]), obs=OBS, last_obs=LAST_OBS, actions=ACTIONS
    )
    found = compiled.shape(transitions, 0.9, age)
    return [*found.total[0].ravel().tolist(), *found.total[1].ravel().tolist()]


def test_a_potential_form_shapes_like_any_potential(spec: TaskSpec) -> None:
    assert shaped(spec, learned(weight=2.0)) == pytest.approx([2 * (0.9 * 2 - 1), 2 * (0.9 * 5 - 1), 0])
    assert shaped(spec, learned(), terminated=1.0) == pytest.approx([-1, -1, 0])


def test_the_difference_form_is_equation_4_and_nothing_where_an_agent_stays(spec: TaskSpec) -> None:
    with_stay = spec.model_copy(update={"groups": tuple(g.model_copy(update={"stay": 0}) for g in spec.groups)})
    assert shaped(spec, learned(form="difference")) == pytest.approx([1, 4, 0])
    assert shaped(with_stay, learned(form="difference")) == pytest.approx([1, 0, 0])
    assert shaped(with_stay, learned(form="difference"), terminated=1.0) == pytest.approx([1, 0, 0])  # no zero at ends


def test_in_a_box_everybody_counts_as_moved(spec: TaskSpec) -> None:
    """An agent's action is three numbers there, and none of them says that it stays."""
    box = {"n_actions": 0, "action_bounds": ((-1.0, 1.0),) * 3, "action_names": ()}
    in_boxes = spec.model_copy(update={"groups": tuple(g.model_copy(update=box) for g in spec.groups)})
    actions = [np.zeros((1, 2, 3), np.float32), np.zeros((1, 1, 3), np.float32)]
    transitions = MadeUpTransitions(
        FEATURES, FEATURES, EVENTS, np.zeros(1), obs=OBS, last_obs=LAST_OBS, actions=actions
    )
    compiled = CompiledSignal(signal(learned(form="difference")), in_boxes, SCORERS)
    assert compiled.shape(transitions, 0.9).total[0].ravel() == pytest.approx([1, 4])


def test_it_anneals(spec: TaskSpec) -> None:
    assert shaped(spec, learned(form="difference", anneal_steps=4_000), age=1_000) == pytest.approx([0.75, 3, 0])


def test_what_it_needs_is_asked_for(spec: TaskSpec) -> None:
    with pytest.raises(SignalError, match="0123456789abcdef"):
        CompiledSignal(signal(learned(scorer="0123456789abcdef")), spec, SCORERS)
    with pytest.raises(SignalError, match="no agent is called 'nobody'"):
        CompiledSignal(signal(learned(agents=["nobody"])), spec, SCORERS)
    wide = spec.model_copy(update={"groups": (spec.groups[0].model_copy(update={"obs_size": 4}), spec.groups[1])})
    with pytest.raises(SignalError, match="takes 3 observed numbers, agents of 'scouts' observe 4"):
        CompiledSignal(signal(learned()), wide, SCORERS)
    compiled = CompiledSignal(signal(learned(form="difference")), spec, SCORERS)
    with pytest.raises(SignalError, match="were not recorded"):
        compiled.state_values(FEATURES)


def test_only_a_potential_leaves_an_offset(spec: TaskSpec) -> None:
    """What is no potential was never absorbed as one."""
    left = removed_potential(signal(learned(weight=3)), signal())
    assert left is not None
    assert CompiledSignal(left, spec, SCORERS).potential(FEATURES, OBS)[0].tolist() == [[3, 3]]
    assert removed_potential(signal(learned(form="difference")), signal()) is None
    annealed = annealed_potential(signal(learned(weight=2, anneal_steps=4_000)), 1_000)
    assert annealed is not None
    assert annealed.terms[0].weight == pytest.approx(0.5)
    assert removed_potential(signal(learned()), signal(PotentialTerm(name="sigma", expression="dist"))) is not None


def test_removal_and_kind(spec: TaskSpec) -> None:
    assert is_removal(signal(learned(anneal_steps=9_000)), signal(learned()))
    assert not is_removal(signal(learned()), signal())
    assert signal_kind(signal(learned())) == "potential"
    assert signal_kind(signal(learned(form="difference"))) == "event"  # it may change what is optimal
    assert learned(form="difference").describe() == (
        f"learned sigma: scorer {NAME} (weight 1, for scouts, difference form)"
    )


# ------------------------------------------------------------ on recorded transitions


@pytest.fixture
def recorded(record: Callable[..., TransitionSample]) -> TransitionSample:
    """With observations at random; those of ways to the reward rise by one, others stay."""
    rng, plain = np.random.default_rng(0), record()

    def obs(count: int) -> list[np.ndarray]:
        return [rng.normal(size=(count, agents, 3)).astype(np.float32) for agents in (2, 1)]

    return replace(plain, obs=obs(200), last_obs=obs(200), end_obs=obs(20))


def test_scale_and_check_read_observations(spec: TaskSpec, recorded: TransitionSample) -> None:
    candidate = signal(learned(), scale=None)
    scores = np.concatenate([LINEAR.score(x[0]).ravel() for x in (recorded.obs, recorded.last_obs)])
    low, high = np.percentile(scores.astype(np.float64), [0.5, 99.5])
    assert frozen_scale(candidate, spec, recorded, (-1, 3), SCORERS) == pytest.approx(4 / (high - low), rel=1e-5)
    report = check_signal(candidate, spec, recorded, Signal(), set(), scorers=SCORERS)
    assert report.problems == []
    difference = check_signal(
        signal(learned(form="difference"), scale=None), spec, recorded, Signal(), set(), scorers=SCORERS
    )
    assert difference.problems == []
    assert any("no potential" in note for note in difference.notes)


def test_an_unknown_scorer_is_a_problem_of_the_proposal(spec: TaskSpec, recorded: TransitionSample) -> None:
    report = check_signal(signal(learned(), scale=None), spec, recorded, Signal(), set())
    assert len(report.problems) == 1
    assert NAME in report.problems[0]


def test_recorded_observations_survive_a_file(spec: TaskSpec, recorded: TransitionSample, tmp_path: Path) -> None:
    recorded.save(tmp_path / "recorded.safetensors")
    again = TransitionSample.load(tmp_path / "recorded.safetensors", spec)
    assert all(np.array_equal(a, b) for a, b in zip(recorded.end_obs, again.end_obs, strict=True))


# ------------------------------------------------------------ in training


def two_switch_scorer() -> Scorer:
    rng = np.random.default_rng(0)
    return Scorer((rng.normal(size=(2, 20, 1)).astype(np.float32),), (np.zeros((2, 1), np.float32),))


def line_in(run_dir: Path, config: TrainingConfig) -> TrainingLine:
    return TrainingLine(config, scorers=Scorers(run_dir / FOLDER))


def fitted_terms() -> dict[str, tuple[Scorer, LearnedTerm | DecompositionTerm]]:
    """Terms of every fitted kind for Two-Switch, and their scorers."""
    ranked, size = two_switch_scorer(), input_size(task_spec(small_config().task), 0, "features", True)
    rng = np.random.default_rng(1)
    shares = Scorer((rng.normal(size=(2, size, 1)).astype(np.float32),), (np.zeros((2, 1), np.float32),))
    return {
        "potential": (ranked, LearnedTerm(name="sigma", scorer=ranked.name, agents="agents")),
        "difference": (ranked, LearnedTerm(name="sigma", scorer=ranked.name, agents="agents", form="difference")),
        "decomposition": (shares, DecompositionTerm(name="sigma", scorer=shares.name, agents="agents")),
    }


@pytest.mark.parametrize("kind", ["potential", "difference", "decomposition"])
def test_a_line_learns_from_it_and_goes_on_from_a_snapshot_bit_for_bit(tmp_path: Path, kind: str) -> None:
    config = small_config().model_copy(update={"record_obs": True})
    scorer, term = fitted_terms()[kind]
    Scorers(tmp_path / FOLDER).add(scorer)
    line, twin = line_in(tmp_path, config), line_in(tmp_path, config)
    for each in (line, twin):
        each.update()
        each.apply_signal(Signal(terms=(term,)))
        each.update()
    assert line.history[-1]["terms"]["sigma"][1] > 0
    save_snapshot(line, tmp_path / "snap")
    restored = line_in(tmp_path, config)
    load_snapshot(restored, tmp_path / "snap")
    for each in (restored, twin):
        each.update()
        each.apply_signal(Signal())  # a potential leaves an offset, also across the snapshot
        each.update()
    assert_same_state(restored, twin)
    assert bool(twin.offsets) == (kind == "potential")


@pytest.mark.parametrize("kind", ["difference", "decomposition"])
def test_a_q_learner_computes_it_when_transitions_are_sampled(tmp_path: Path, kind: str) -> None:
    config = small_config(algorithm="vdn", vdn=VDNConfig(batch_size=32, learning_starts=0))
    scorer, term = fitted_terms()[kind]
    Scorers(tmp_path / FOLDER).add(scorer)
    weights = []
    for strength in (0.0, 1.0):
        line = line_in(tmp_path, config)
        line.apply_signal(Signal(beta=strength, scale=1.0, terms=(term,)))
        line.update()
        weights.append(np.concatenate([np.ravel(x) for k, x in line.learner.state_dict().items() if "weight" in k]))
    assert np.isfinite(weights[1]).all()
    assert not np.array_equal(*weights)


@pytest.mark.parametrize("kind", ["potential", "decomposition"])
def test_a_branch_finds_its_scorer_in_the_folder_that_its_job_comes_with(tmp_path: Path, kind: str) -> None:
    config = small_config().model_copy(update={"record_obs": True})
    scorer, term = fitted_terms()[kind]
    name = Scorers(tmp_path / FOLDER).add(scorer)
    line = line_in(tmp_path, config)
    line.update()
    save_snapshot(line, tmp_path / "snap")
    job = BranchJob(
        key="k", arm="p", fork="snap", start="snap", signal=Signal(version=1, terms=(term,)), seed=1, horizon=256,
        exploration=Exploration(), evaluation_episodes=2, evaluation_seed=1, end_state="branches/k",
    )  # fmt: skip
    (tmp_path / "branches").mkdir()
    assert run_branch(TrainingLine(config), tmp_path, job).signal.terms == (term,)  # a worker without a folder
    assert f"{FOLDER}/{name}.safetensors" in pack_snapshot(tmp_path, "snap")
