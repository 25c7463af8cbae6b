"""Playing one episode with the policy of a snapshot: `python -m cosignal.rl.playback RUN_DIR SNAPSHOT SEED [TASK]`.

TASK is the digest of the task that may be loaded (`TaskConfig.digest`); without it only a shipped one may. The process
prints a `PlayedEpisode` as JSON. The run is only read. The policy acts as it does when it is evaluated, and the same
arguments give the same episode.
"""

from __future__ import annotations

import struct
import sys
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import CosignalError, EpisodeError
from ..child import results_only
from ..envs.factory import make_task
from ..experience.rollout import Moment, in_order
from ..processes import leave_with_parent, one_thread
from ..signals.scorer import FOLDER, Scorers
from ..task import ActionArray, BatchedTask, FloatArray, Frame, TaskSpec, episode_seed, splitmix64
from ..training.checkpoint import load_snapshot
from ..training.config import TrainingConfig
from ..training.line import TrainingLine
from .schema import PlayedEpisode, PlayedFrame, PlayedStep

LONGEST = 500  # steps that are shown
MAX_FRAMES = 40  # of an episode
MAX_FRAME_BYTES = 2 * 1024**2  # of all of them, as PNG

T = TypeVar("T", bound=NDArray[Any])


def play_episode(line: TrainingLine, snapshot: str, seed: int) -> PlayedEpisode:
    """Play the first episode that `seed` names, under the policy and the signal of `line`.

    Args:
        line: with the state of the snapshot.
        snapshot: its name, for the record.
        seed: of episode and policy.
    """
    spec, rewards = line.spec, line.rewards()
    limit_terminates = line.config.trainer.time_limit == "termination"
    task, generator = make_task(line.config.task, 1), torch.Generator().manual_seed(splitmix64(seed) >> 1)
    step, actions = task.reset(seed), list[list[ActionArray]]()
    steps, moments, total, ended = list[PlayedStep](), list[Moment](), 0.0, False
    rnn_states = line.learner.new_rnn_states(1)
    while not ended and len(steps) < LONGEST:
        # the task overwrites its arrays at the next step
        obs, features, alive = _copied(step.obs), _copied(step.features), step.alive and _copied(step.alive)
        chosen = line.learner.act_to_evaluate(step.obs, generator, step.masks, rnn_states)
        actions.append([a[0].copy() for a in chosen])
        step = task.step(chosen)
        moment = Moment(
            features=features,
            last_features=_copied(step.last_features),
            events=_copied(step.events),
            obs=obs,
            last_obs=_copied(step.last_obs),
            actions=chosen,
            terminated=(step.terminated | (step.truncated & limit_terminates)).astype(np.float32),
            done=(step.terminated | step.truncated).astype(np.float32),
            alive=alive,
            last_alive=step.last_alive and _copied(step.last_alive),
        )
        moments.append(moment)
        steps.append(_played_step(spec, moment, float(step.reward[0])))
        total += steps[-1].reward
        ended = bool(step.terminated[0] or step.truncated[0])
    # what each term paid, which may depend on other steps
    per_term = rewards.shape(in_order(moments), rewards.compiled.new_memory(1)).per_term
    for t, played in enumerate(steps):
        paid = zip(line.signal.terms, per_term, strict=True)
        terms = {term.name: _by_agent(spec, [x[t] for x in values]) for term, values in paid}
        steps[t] = played.model_copy(update={"terms": terms})
    # the task's own line about each step, from the actions
    joint = [np.stack([row[g] for row in actions]) for g in range(len(spec.groups))]
    shown = task.episode_text(episode_seed(seed, 0, 0), joint, range(len(actions) + 1))
    frames = _frames(task, episode_seed(seed, 0, 0), joint)
    task.close()
    if step.terminated[0]:
        ending = "terminated"
    else:
        ending = "time limit" if step.truncated[0] else f"cut here after {LONGEST} steps"
    return PlayedEpisode(
        snapshot=snapshot,
        steps_main=line.steps_main,
        seed=seed,
        version=line.signal.version,
        sparse_return=total,
        success=bool(step.success[0]) if spec.has_success else None,
        ended=ending,
        steps=[
            played.model_copy(update={"text": text, "picture": shown.pictures.get(number, "")})
            for number, (played, text) in enumerate(zip(steps, shown.lines, strict=False), start=1)
        ],
        first_picture=shown.pictures.get(0, ""),
        frames=frames,
    )


def _frames(task: BatchedTask, seed: int, actions: list[ActionArray]) -> list[PlayedFrame]:
    """Return what the environment draws of an episode, evenly spread over it; every other one where they are large."""
    length = len(actions[0])
    states = {round(i * length / (MAX_FRAMES - 1)) for i in range(MAX_FRAMES)}
    drawn = sorted(task.episode_frames(seed, actions, states).items())
    files = [(state, png(frame)) for state, frame in drawn]
    while len(files) > 2 and sum(len(file) for _, file in files) > MAX_FRAME_BYTES:
        files = [*files[:-1:2], files[-1]]
    return [PlayedFrame(after_step=state, png=b64encode(file).decode()) for state, file in files]


def png(frame: Frame) -> bytes:
    """Return a frame as a PNG file (ISO/IEC 15948): truecolour of 8 bits, rows unfiltered."""
    height, width, _ = frame.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), frame.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, data)
        for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    )


def _copied(arrays: list[T]) -> list[T]:
    return [array.copy() for array in arrays]


def _by_agent(spec: TaskSpec, values: list[FloatArray]) -> dict[str, float]:
    """[g] [1, A_g] → agent → value."""
    return {
        agent: round(float(values[g][0, i]), 5)
        for g, group in enumerate(spec.groups)
        for i, agent in enumerate(group.agents)
    }


def _played_step(spec: TaskSpec, moment: Moment, reward: float) -> PlayedStep:
    """Return a step with actions and events by agent, still without the task's text and what terms pay."""
    action_texts, events = dict[str, str](), dict[str, list[str]]()
    for g, group in enumerate(spec.groups):
        for i, agent in enumerate(group.agents):
            action_texts[agent] = group.action_text(moment.actions[g][0, i])
            events[agent] = [event.name for v, event in enumerate(group.events) if moment.events[g][0, i, v] > 0]
    return PlayedStep(text="", actions=action_texts, events=events, reward=reward, terms={})


def allowed_config(run_dir: Path, digest: str | None) -> TrainingConfig:
    """Read the config of the run's trainer.

    Raises:
        EpisodeError: its task is not the one that was allowed.
    """
    config = TrainingConfig.of_run(run_dir)
    if config.task.name is None and config.task.digest() != digest:
        raise EpisodeError(
            f"the task of a run must be a shipped one or the one that was allowed, got {config.task.env!r} in "
            f"{str(run_dir / 'training.json')!r}; load the page again, which shows it"
        )
    return config


def main(run_dir: Path, snapshot: str, seed: int, digest: str | None = None) -> int:
    """Print the episode and return the exit code; what is wrong goes to standard error."""
    leave_with_parent()
    results = results_only()
    one_thread()
    try:
        config = allowed_config(run_dir, digest).for_branches()
        line = TrainingLine(config, scorers=Scorers(run_dir / FOLDER))
        load_snapshot(line, run_dir / snapshot)
        episode = play_episode(line, snapshot, seed)
    except (CosignalError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    results.write(episode.model_dump_json())
    results.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:5]))
