"""The training line: policy, task, signal and counters, and one update of them.

The main run is one; so is every branch, by the very same code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import structlog
import torch

from ...errors import TrainingDiverged
from ..algorithms.blend import weighted
from ..algorithms.learner import Learner, UpdateMetrics
from ..algorithms.parameter_sharing import rnn_states_by_network, states_by_network
from ..algorithms.registry import make_learner
from ..envs.factory import make_task
from ..experience.episodes import EpisodeTracker, RolloutText, action_shares, rollout_text
from ..experience.rollout import Collector, Rollout
from ..experience.transition_sample import TransitionSampler
from ..signals.critic_offset import annealed_potential, carried_over, goes_on, leaving_potentials
from ..signals.learner_settings import LearnerSettings
from ..signals.reward_view import check_reward_view
from ..signals.rewards import Rewards
from ..signals.scorer import Scorers
from ..signals.shaping import CompiledSignal, Shaping, freeze
from ..signals.signal import Exploration, Signal
from ..stage import WINDOW_STEPS, HistoryRow, Stage, stage_of, window
from ..task import Arrays, Step, arrays_below, splitmix64
from .config import TrainingConfig
from .rollout_statistics import (
    add_changes_before_reward,
    add_values_before_done,
    mean_and_mean_abs,
    share_seeing_alike,
    share_without_effect,
)

HISTORY = 800  # updates that stay in memory, and at least those of the last four windows


@dataclass(frozen=True)
class UpdateReport:
    """The outcome of one update."""

    metrics: list[UpdateMetrics]  # [g]
    row: HistoryRow
    shaped_share: float  # of the mean absolute reward, 0..1


class LineData(TypedDict):
    """The state of a line but for its arrays, as JSON has it; `TrainingLine` says what the values are."""

    update_index: int
    steps_main: int
    steps_trained: NotRequired[int]  # snapshots of older versions have `steps_adopted` in its place
    steps_adopted: NotRequired[int]  # main steps that branches had trained
    episodes_lost: NotRequired[int]  # snapshots of older versions have none
    history: list[HistoryRow]
    best_return: float | None
    start_return: float | None
    seen_range: tuple[float, float] | None
    signal: dict[str, Any]
    signal_start: int
    offsets: list[dict[str, Any]]
    tale: RolloutText  # the last rollout as text


def steps_trained(data: LineData) -> int:
    """Return the environment steps that a saved line had trained itself; older versions counted the others."""
    return data["steps_trained"] if "steps_trained" in data else data["steps_main"] - data.get("steps_adopted", 0)


class TrainingLine:
    """A policy, its task, its signal and its counters; everything that a snapshot holds.

    One step: all agents of one environment act once. Training raises `update_index`, `steps_main` and `steps_trained`;
    a state that is adopted brings its own main steps, which may be fewer.

    Attributes:
        before_reward: [g] [2, F_g], see `add_changes_before_reward`.
        before_done: [g] [2, F_g], see `add_values_before_done`.
        steps_main: the age of the policy: environment steps that it was trained for since step 0, wherever that was.
        steps_trained: environment steps that this line has trained itself, each once; no adopted state changes it.
        episodes_lost: episodes of this line's own updates that were lost, see `Step.lost`.
        start_return: mean sparse return of the first window, None before its end.
        best_return: mean sparse return of the best window so far.
        seen_range: (worst, best) return of episodes of the first two windows; it stays from then on.
        offsets: potentials that were removed and live on in the critic's output.
        signal: the signal in force.
        signal_start: main steps at its version's first update; of one that only leaves terms out, at that of the
            version that the others came with, so that they fade as they would have.
        step: where the environments stand, to go on from.
        rnn_states: what recurrent networks remember of the running episodes; None where there are none.
        signal_memory: what terms of the signal remember of the running episodes.
        replay_difference: what was different where running episodes could not be brought back, see
            `BatchedTask.load_state_dict`; None where that was never so.
    """

    def __init__(
        self, config: TrainingConfig, replay_folder: Path | None = None, scorers: Scorers | None = None
    ) -> None:
        """Make a fresh line, at update 0.

        Args:
            config: of the run.
            replay_folder: where an off-policy learner keeps its transitions; a temporary folder where None.
            scorers: of learned terms.
        """
        self.config, self.scorers, self._replay_folder = config, scorers or Scorers(), replay_folder
        config.trainer.algorithm_config.check_signal(config.signal.to_signal())
        self.task = make_task(config.task, config.trainer.envs)
        try:
            self._begin(config.seed, config.signal.to_signal())
        except BaseException:
            self.close()
            raise

    def begin_anew(self, seed: int, signal: Signal) -> None:
        """Become a fresh line, as a run of this config with this training seed and signal begins; the task is reset.

        Raises:
            SignalError: the signal does not fit the task; the line is as it was.
        """
        self.check_signal(signal)
        self._begin(seed, signal)

    def _begin(self, seed: int, signal: Signal) -> None:
        """Make all but the task, and reset that."""
        config, trainer = self.config, self.config.trainer
        self.spec = self.task.spec
        self.learner = self._make_learner(LearnerSettings(), splitmix64(seed) >> 1)
        self.rnn_states = self.learner.new_rnn_states(trainer.envs)
        self.collector = Collector(self.task, trainer.rollout, trainer.time_limit == "termination")
        check_reward_view(trainer.reward, self.spec)
        # the record of what happened
        self.episodes = EpisodeTracker(self.spec, trainer.envs, config.record_obs)
        self.recorder = TransitionSampler(self.spec, config.record_obs)
        self.before_reward = [np.zeros((2, len(g.features))) for g in self.spec.groups]
        self.before_done = [np.zeros((2, len(g.features))) for g in self.spec.groups]
        self.update_index = 0
        self.steps_main = 0
        self.steps_trained = 0
        self.episodes_lost = 0
        self.history: list[HistoryRow] = []
        self.start_return: float | None = None
        self.best_return: float | None = None
        self.seen_range: tuple[float, float] | None = None
        self._last_text: RolloutText | None = {"key_moments": [], "episode": []}  # None: of the rollout in memory
        # the signal: an empty one, under which the scale of the first one is frozen
        self.offsets: list[Signal] = []
        self.signal = Signal()
        self.signal_start = 0
        self.compiled = self._compile(self.signal.model_copy(update={"scale": 1.0}))
        self._set_signal(self._freeze(signal))
        self.change_learner(LearnerSettings(), self.signal.learner)
        self.explore(config.signal.exploration)
        self.step: Step = self.task.reset(seed)
        self.replay_difference: str | None = None

    def _make_learner(self, settings: LearnerSettings, seed: int) -> Learner:
        """Make the learner that these settings ask for; they are known from then on as those that it has."""
        trainer, self._learns_as = self.config.trainer, settings
        config = trainer.algorithm_config.learning_as(settings)
        return make_learner(trainer.algorithm, config, self.spec, seed, trainer.device, self._replay_folder)

    def close(self) -> None:
        """Close the environments; the line can do nothing afterwards."""
        self.task.close()

    # ------------------------------------------------------------ one update

    def update(self) -> UpdateReport:
        """Play one rollout and take the gradient steps on it.

        Raises:
            TrainingDiverged: something that is learned, or learned from, is not finite. The line is of no use then.
        """
        # collect: the policy in force plays in every environment
        self._last_text = None
        self.learner.explore(self.signal.exploration.entropy)
        rollout, rewards = self.collector.rollout, self.rewards()
        try:
            self.step = self.collector.collect(self.learner, self.step, self.rnn_states)

            # shape: the signal in force adds to the team reward
            shaping = rewards.shape(rollout, self.signal_memory)

            # update: gradient steps on the rollout, or on what the replay holds; what overflows is raised
            with np.errstate(over="ignore", invalid="ignore"):
                metrics = self.learner.learn(rollout, shaping, rewards)
                if self.learner.term_factors is not None:
                    shaping = weighted(shaping, self.learner.term_factors)
            for group, means in zip(self.spec.groups, metrics, strict=True):
                for name, value in (("entropy", means.entropy), *means.losses.items()):
                    if not math.isfinite(value):
                        raise FloatingPointError(f"the {name} of group {group.name!r}")
        except FloatingPointError as error:
            raise TrainingDiverged(self._diverged(str(error))) from error
        self.update_index += 1
        self.steps_main += rollout.steps
        self.steps_trained += rollout.steps

        # report: what happened, for stage, evidence and metrics
        row = self._record(rollout, shaping, metrics)
        shaped = float(np.mean([np.abs(x).mean() for x in shaping.of_terms()]))
        return UpdateReport(metrics, row, shaped / (shaped + row["reward_abs"]) if shaped else 0.0)

    def _diverged(self, what: str) -> str:
        """Return the message of an update in which `what` is not finite."""
        trainer, lr = self.config.trainer, self.signal.learner.lr
        rate = f"trainer.{trainer.algorithm}.lr ({trainer.algorithm_config.lr:g})"
        rate = rate if lr is None else f"learner.lr of the signal ({lr:g})"
        return (
            f"training must stay finite, got infinity or NaN in {what}, in update {self.update_index + 1} after main "
            f"step {self.steps_main}; lower {rate}, or scale what the environment pays and shows to about 1"
        )

    def rewards(self) -> Rewards:
        """Return the rewards of the next update: by the signal in force, and by what has left it."""
        annealed = annealed_potential(self.signal, self.signal_age)
        left = [*self.offsets, *([annealed] if annealed else [])]
        trainer, compiled = self.config.trainer, [self._compile(signal) for signal in left]
        return Rewards(self.compiled, compiled, trainer.algorithm_config.gamma, self.signal_age, trainer.reward)

    def _record(self, rollout: Rollout, shaping: Shaping, metrics: list[UpdateMetrics]) -> HistoryRow:
        """Follow the episodes, sample transitions, and append a row to the history."""
        returns, successes = self.episodes.add(rollout)
        self.episodes_lost += 0 if rollout.lost is None else int(rollout.lost.sum())
        self.recorder.add(rollout, self.learner.last_advantages)
        add_changes_before_reward(self.before_reward, rollout)
        add_values_before_done(self.before_done, rollout, self.spec.groups)
        row: HistoryRow = {
            "steps": self.steps_main,
            "episodes": len(returns),
            "returns": float(returns.mean()) if len(returns) else None,
            "success": float(successes.mean()) if len(returns) else None,
            "entropy": [x.entropy for x in metrics],
            "no_effect": [share_without_effect(rollout, g, group) for g, group in enumerate(self.spec.groups)],
            "same_view": [share_seeing_alike(rollout, g) for g in range(len(self.spec.groups))],
            "actions": [
                action_shares(group, rollout.actions[g], None if rollout.alive is None else rollout.alive[g])
                for g, group in enumerate(self.spec.groups)
            ],
            "terms": {
                term.name: mean_and_mean_abs(added)
                for term, added in zip(self.signal.terms, shaping.per_term, strict=True)
            },
            "reward_abs": float(np.abs(rollout.reward).mean()),
        }
        # states in memory share the list, so it is never changed in place
        history = [*self.history, row]
        while len(history) > HISTORY and history[-1]["steps"] - history[1]["steps"] >= 4 * WINDOW_STEPS:
            history = history[1:]
        self.history = history

        # the range of returns is that of the first two windows
        if len(returns) and (self.seen_range is None or self.steps_main < 2 * WINDOW_STEPS):
            low, high = self.seen_range or (np.inf, -np.inf)
            self.seen_range = (min(low, float(returns.min())), max(high, float(returns.max())))

        # a window is looked at once, at the first update at or after its end
        ends_window = self.steps_main >= WINDOW_STEPS and self.steps_main % WINDOW_STEPS < rollout.steps
        now = window(self.history, self.steps_main)
        if now is not None and ends_window:
            self.start_return = now.returns if self.start_return is None else self.start_return
            self.best_return = now.returns if self.best_return is None else max(self.best_return, now.returns)
        return row

    # ------------------------------------------------------------ range of returns, stage, text

    @property
    def return_range(self) -> tuple[float, float]:
        """(Worst, best) return: declared by the task, else seen so far."""
        return self.spec.return_range or self.seen_range or (0.0, 0.0)

    @property
    def margin(self) -> float:
        """The smallest difference of returns that counts: the config's share of the range."""
        low, high = self.return_range
        return self.config.margin * (high - low)

    @property
    def signal_age(self) -> int:
        """Main steps that the terms have faded for, see `signal_start`; the same for a whole update."""
        return self.steps_main - self.signal_start

    def stage(self) -> tuple[Stage, str]:
        """Return the stage of learning, and the rule's own words for it."""
        return stage_of(
            self.history,
            start_return=self.start_return,
            best_return=self.best_return,
            margin=self.margin,
            has_success=self.spec.has_success,
            return_range=self.return_range,
        )

    def last_rollout_text(self) -> RolloutText:
        """Return the last rollout as text; a restored line has the text of when it was saved."""
        return self._last_text or rollout_text(self.collector.rollout, self.spec)

    # ------------------------------------------------------------ the signal

    def apply_signal(self, signal: Signal) -> Signal:
        """Put a signal in force from the next update on, and return it as `prepare_signal` does; its kick acts now.

        A potential that enters is not offset in the critic, for it acts only through a critic that has not absorbed it;
        one that leaves is offset exactly, so that no advantage changes (Wiewiora 2003). What had annealed before has
        left for good, and the rest of the potential leaves or stays like any other. Where terms are only left out, the
        others go on fading as if nothing had happened.
        """
        # what leaves is computed with the age that the old version had
        before, age = self.signal, self.signal_age
        self._set_signal(self.prepare_signal(signal))
        if goes_on(self.signal, before):
            self.signal_start -= age
        self.offsets += leaving_potentials(before, age, self.signal, self.signal_age)
        # settings of exploration and learner outlive the signal that they came with
        learner = signal.learner.over(before.learner)
        self.signal = self.signal.model_copy(update={"exploration": before.exploration, "learner": learner})
        self.change_learner(before.learner, learner)
        self.explore(signal.exploration)
        return self.signal

    def change_learner(self, before: LearnerSettings, after: LearnerSettings) -> None:
        """Go on with the same policies, learnt otherwise; what was shared is copied to every agent."""
        if after == before:
            return
        # what is new draws from a stream that follows from the old one's, which goes on
        old, state, drawn = self.learner, self.learner.state_dict(), torch.Generator()
        drawn.set_state(torch.from_numpy(state["generator"].copy()))
        new = self._make_learner(after, int(torch.randint(2**62, (1,), generator=drawn)))
        new.load_state_dict(states_by_network(state, old.network_groups, new.network_groups))
        if self.rnn_states is not None:
            self.rnn_states = rnn_states_by_network(self.rnn_states, old.network_groups, new.network_groups)
        self.learner = new

    def check_signal(self, signal: Signal) -> None:
        """Raise SignalError when the signal does not fit this task, or its settings the learner."""
        self.config.trainer.algorithm_config.check_signal(signal)
        self._compile(signal.model_copy(update={"scale": signal.scale or 1.0}))

    def explore(self, exploration: Exploration) -> None:
        """Apply exploration settings: a kick acts once, an entropy coefficient stays, None changes nothing."""
        if exploration.kick is not None:
            self.learner.kick(exploration.kick)
        before = self.signal.exploration.entropy
        lasting = Exploration(entropy=before if exploration.entropy is None else exploration.entropy)
        self.signal = self.signal.model_copy(update={"exploration": lasting})

    def prepare_signal(self, signal: Signal) -> Signal:
        """Return the signal as it would be in force from here.

        Its scale is frozen on the states recorded so far (one that has a scale keeps it), and what has annealed does
        not grow back.
        """
        frozen = self._freeze(signal)
        # terms of a signal that is left out of keep their weights with their age
        return frozen if goes_on(frozen, self.signal) else carried_over(frozen, self.signal, self.signal_age)

    def _freeze(self, signal: Signal) -> Signal:
        recorded = self.recorder.recorded(self.episodes)
        return freeze(signal, self.signal, self.spec, recorded, self.return_range, self.scorers)

    def _set_signal(self, signal: Signal) -> None:
        self.compiled = self._compile(signal)
        self.signal_memory = self.compiled.new_memory(self.config.trainer.envs)
        self.signal = signal
        self.signal_start = self.steps_main

    def _compile(self, signal: Signal) -> CompiledSignal:
        return CompiledSignal(signal, self.spec, self.scorers)

    # ------------------------------------------------------------ state

    def reseed(self, seed: int) -> None:
        """Draw every random number from other streams from now on: policy, minibatches and environments."""
        self.learner.reseed(splitmix64(seed) >> 1)
        self.task.reseed(splitmix64(seed ^ 0x5EED) >> 1)

    def state_dict(self) -> tuple[Arrays, LineData]:
        """Return arrays and plain data; together everything that the next update depends on."""
        parts: dict[str, Arrays] = {
            "learner": self.learner.state_dict(),
            "task": self.task.state_dict(),
            "episodes": self.episodes.state_dict(),
            "recorder": self.recorder.state_dict(),
            "before_reward": {str(g): sums.copy() for g, sums in enumerate(self.before_reward)},
            "before_done": {str(g): sums.copy() for g, sums in enumerate(self.before_done)},
            "rnn_states": {} if self.rnn_states is None else self.rnn_states.state_dict(),
            "signal_memory": {
                f"{k}/{name}": value.copy()
                for k, memory in enumerate(self.signal_memory)
                for name, value in memory.items()
            },
        }
        arrays = {f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()}
        data: LineData = {
            "update_index": self.update_index,
            "steps_main": self.steps_main,
            "steps_trained": self.steps_trained,
            "episodes_lost": self.episodes_lost,
            "history": self.history,
            "best_return": self.best_return,
            "start_return": self.start_return,
            "seen_range": self.seen_range,
            "signal": self.signal.model_dump(mode="json"),
            "signal_start": self.signal_start,
            "offsets": [x.model_dump(mode="json") for x in self.offsets],
            "tale": self.last_rollout_text(),
        }
        return arrays, data

    def load_state_dict(
        self,
        arrays: Arrays,
        data: LineData,
        adopted: bool = False,
        directory: Path | None = None,
        fresh: bool = False,
    ) -> None:
        """Put a state into this line.

        Args:
            arrays: of the state.
            data: the rest of it.
            adopted: the state was trained elsewhere, or before: its counters and its past (history, first and best
                return, range of returns) come along, while the line keeps `steps_trained`.
            directory: the snapshot that the state comes from, None where this line itself returned it.
            fresh: begin fresh episodes where they could only be played again.
        """
        signal = Signal.model_validate(data["signal"])
        if signal.learner != self._learns_as:
            self.learner = self._make_learner(signal.learner, 0)
            self.rnn_states = self.learner.new_rnn_states(self.config.trainer.envs)
        self.learner.load_state_dict(arrays_below("learner/", arrays), directory)
        difference = self.task.load_state_dict(arrays_below("task/", arrays), fresh)
        if difference is not None:
            structlog.get_logger().warning("replay differs", difference=difference)
            self.replay_difference = difference
        if self.rnn_states is not None:
            self.rnn_states.load_state_dict(arrays_below("rnn_states/", arrays))
        self.episodes.load_state_dict(arrays_below("episodes/", arrays))
        self.recorder.load_state_dict(arrays_below("recorder/", arrays))
        self.before_reward = [np.array(arrays[f"before_reward/{g}"], np.float64) for g in range(len(self.spec.groups))]
        # Snapshots of older versions do not know.
        self.before_done = [
            np.array(arrays.get(f"before_done/{g}", np.zeros((2, len(group.features)))), np.float64)
            for g, group in enumerate(self.spec.groups)
        ]
        self.update_index, self.steps_main = data["update_index"], data["steps_main"]
        if not adopted:
            self.steps_trained = steps_trained(data)
        self.episodes_lost = data.get("episodes_lost", 0)
        self.history = data["history"]
        self.start_return, self.best_return = data["start_return"], data["best_return"]
        seen = data["seen_range"]
        self.seen_range = (seen[0], seen[1]) if seen else None  # JSON has a list
        self.signal_start = data["signal_start"]
        self.signal = signal
        self.compiled = self._compile(self.signal)
        self.signal_memory = self.compiled.new_memory(self.config.trainer.envs)
        for k, memory in enumerate(self.signal_memory):
            memory.update({name: arrays[f"signal_memory/{k}/{name}"].copy() for name in memory})
        self.offsets = [Signal.model_validate(x) for x in data["offsets"]]
        # Where fresh episodes have begun, nothing of the old ones may go on.
        if difference is not None or fresh or not self.spec.deterministic:
            self.episodes.forget_running()
            self.learner.forget_episodes()
            self.signal_memory = self.compiled.new_memory(self.config.trainer.envs)
            if self.rnn_states is not None:
                self.rnn_states.reset()
        self._last_text = data["tale"]
        self.step = self.task.observe()
