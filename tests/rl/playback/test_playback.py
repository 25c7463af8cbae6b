"""An episode that is shown: the one that evaluation would play, with what the terms pay in it."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from cosignal import RunConfig
from cosignal.errors import EpisodeError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.playback.__main__ import MAX_FRAMES, allowed_config, play_episode, png
from cosignal.rl.playback.schema import PlayedEpisode, PlayedStep
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.training.checkpoint import save_snapshot
from cosignal.rl.training.evaluate import Evaluator
from cosignal.rl.training.line import TrainingLine
from PIL import Image

TERMS = (
    PotentialTerm(name="door", expression="-dist_door", weight=1.0),
    EventTerm(name="switch", event="switch_triggered", weight=0.1, decay_steps=1_000_000),
)


def line(**task: object) -> TrainingLine:
    settings = {"seed": 3, "task": {"name": "two_switch", "n_max": 60, **task}, "trainer": {"envs": 4, "rollout": 16}}
    config = RunConfig.model_validate({**settings, "adaptation": {"enabled": False}})
    found = TrainingLine(config.training())
    if found.spec.name == "two_switch":
        found.apply_signal(Signal(beta=0.5, scale=2.0, terms=TERMS))
    return found


def test_it_is_the_episode_that_evaluation_plays() -> None:
    policy = line()
    for seed in (0, 1, 2):
        played = play_episode(policy, "s", seed)
        evaluation = Evaluator(policy.config.task, 1, seed).evaluate(policy.learner)
        assert played.sparse_return == pytest.approx(evaluation.returns[0], abs=1e-6)
        assert played.success == bool(evaluation.successes[0])
        assert len(played.steps) == evaluation.steps
    assert play_episode(policy, "s", 2) == played


def test_every_step_says_who_did_what_and_what_each_term_paid() -> None:
    policy = line()
    gamma = policy.config.trainer.algorithm_config.gamma
    played = play_episode(policy, "s", 1)
    agents = set(policy.spec.agents)
    assert [step.text.split(":")[0] for step in played.steps] == [f"step {i + 1}" for i in range(len(played.steps))]
    assert (played.version, played.ended, len(played.steps)) == (policy.signal.version, "time limit", 60)
    for step in played.steps:
        assert set(step.actions) == set(step.events) == set(step.terms["door"]) == agents
        for agent, events in step.events.items():  # beta · scale · weight for each trigger
            assert step.terms["switch"][agent] == pytest.approx(0.1 * events.count("switch_triggered"))
    # who does not move at distance d is paid 2 · 0.5 · (γ·(−d) − (−d)) = (1 − γ) d, whole numbers of steps
    rests = [step.terms["door"][a] / (1 - gamma) for step in played.steps for a in agents if step.actions[a] == "stay"]
    assert rests
    assert all(abs(x - round(x)) < 0.02 and x > 0 for x in rests)
    assert played.paid()["door"] == pytest.approx(sum(sum(step.terms["door"].values()) for step in played.steps))


@pytest.mark.integration
def test_a_process_of_its_own_prints_it_and_says_what_is_missing(tmp_path: Path) -> None:
    policy = line()
    (tmp_path / "training.json").write_text(policy.config.model_dump_json())
    save_snapshot(policy, tmp_path / "checkpoints" / "update_000000000")
    command = [sys.executable, "-m", "cosignal.rl.playback", str(tmp_path)]
    told = subprocess.run([*command, "checkpoints/update_000000000", "1"], capture_output=True, text=True, check=True)
    played = PlayedEpisode.model_validate_json(told.stdout)
    assert played == play_episode(policy, "checkpoints/update_000000000", 1)
    failed = subprocess.run([*command, "checkpoints/none", "1"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "no usable snapshot" in failed.stderr


def test_only_a_shipped_task_or_the_one_that_was_allowed_is_loaded(tmp_path: Path) -> None:
    config = line().config
    (tmp_path / "training.json").write_text(config.model_dump_json())
    assert allowed_config(tmp_path, None) == config
    named = TaskConfig(env="subprocess:getoutput", env_args={"cmd": "true"})
    (tmp_path / "training.json").write_text(config.model_copy(update={"task": named}).model_dump_json())
    assert allowed_config(tmp_path, named.digest()).task == named
    for digest in (None, "", named.model_copy(update={"env_args": {"cmd": "false"}}).digest()):
        with pytest.raises(EpisodeError, match="got 'subprocess:getoutput'"):
            allowed_config(tmp_path, digest)


def test_an_episode_with_numbers_that_are_not_finite_can_be_sent() -> None:
    step = PlayedStep(text="", actions={}, events={}, reward=float("nan"), terms={})
    assert math.isnan(PlayedStep.model_validate_json(step.model_dump_json()).reward)


def test_each_state_has_its_picture_and_a_grid_no_frame() -> None:
    played = play_episode(line(), "s", 1)
    assert played.frames == [] and played.first_picture.count("\n") == 9
    for step in played.steps:
        (x, y), *_ = re.findall(r"green at \((\d),(\d)\)", step.text)
        assert step.picture.split("\n")[int(y)][2 * int(x)] == "g"


def test_frames_are_few_small_pngs_of_the_first_and_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mpe2")
    policy = line(name="mpe_spread", n_max=100)
    played = play_episode(policy, "s", 1)
    states = [shown.after_step for shown in played.frames]
    assert (states[0], states[-1], len(states)) == (0, 100, MAX_FRAMES) and states == sorted(set(states))
    assert all(step.picture == "" for step in played.steps)
    monkeypatch.setattr("cosignal.rl.playback.__main__.MAX_FRAME_BYTES", 20_000)
    fewer = play_episode(policy, "s", 1).frames
    assert (fewer[0], fewer[-1]) == (played.frames[0], played.frames[-1])
    assert 2 <= len(fewer) < MAX_FRAMES and sum(len(b64decode(shown.png)) for shown in fewer) <= 20_000


def test_a_png_by_hand() -> None:
    frame = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [1, 2, 3]], [[0, 0, 0], [9, 9, 9]]], np.uint8)
    with Image.open(BytesIO(png(frame))) as image:
        image.load()
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (2, 3))
        assert np.array_equal(np.asarray(image), frame)
