"""One training line: collect → shape → update. The main run is one; so is every branch, by the very same code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..algorithms.learner import Learned
from ..algorithms.registry import make_learner
from ..envs.factory import make_task
from ..experience.episodes import EpisodeTracker, RolloutText, action_shares, rollout_text
from ..experience.rollout import Collector, Rollout
from ..experience.transition_sample import TransitionSampler
from ..signals.critic_offset import annealed_potential, at_age, carried_over, removed_potential
from ..signals.reward_view import check_reward_view
from ..signals.rewards import Rewards
from ..signals.scorer import Scorers
from ..signals.shaping import CompiledSignal, Shaping, freeze
from ..signals.signal import Exploration, Signal
from ..stage import WINDOW_STEPS, HistoryRow, Stage, stage_of, window
from ..task import FloatArray, Step, splitmix64
from .config import TrainingConfig

HISTORY = 800  # updates kept, and at least those of the last four windows
Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class UpdateReport:
    """What one update did."""

    learned: list[Learned]  # [g]
    row: HistoryRow
    shaped_share: float  # of the mean absolute reward


class TrainingLine:
    """A policy, its task, its signal and its counters; everything that a snapshot holds.

    `update_index` and `steps_main` only ever rise. One step: all agents of one environment act once. `replay_folder`:
    where an off-policy learner keeps its transitions, a temporary folder where it is None. `scorers`: of learned terms.
    """

    def __init__(
        self, config: TrainingConfig, replay_folder: Path | None = None, scorers: Scorers | None = None
    ) -> None:
        self.config, self.scorers = config, scorers or Scorers()
        self.task = make_task(config.task, config.trainer.envs)
        self.spec = self.task.spec
        trainer = config.trainer
        weights_seed = splitmix64(config.seed) >> 1
        self.learner = make_learner(
            trainer.algorithm, trainer.chosen, self.spec, weights_seed, trainer.device, replay_folder
        )
        self.collector = Collector(self.task, config.trainer.rollout)
        check_reward_view(config.trainer.reward, self.spec)
        self.episodes = EpisodeTracker(self.spec, config.trainer.envs, config.record_obs)
        self.recorder = TransitionSampler(self.spec, config.record_obs)
        self.before_reward = [np.zeros((2, len(g.features))) for g in self.spec.groups]  # decayed sum, decayed count
        self.update_index = 0
        self.steps_main = 0
        self.steps_adopted = 0
        self.episodes_lost = 0  # of this line's own updates, see `Step.lost`
        self.history: list[HistoryRow] = []
        self.start_return: float | None = None
        self.best_return: float | None = None  # of the windows so far
        self.seen_range: tuple[float, float] | None = None  # of the first two windows, then frozen
        self.offsets: list[Signal] = []  # potentials that were removed and live on in the critic's output
        self.signal = Signal()
        self.signal_start = 0
        self.compiled = self._compiled(self.signal.model_copy(update={"scale": 1.0}))
        self._set_signal(self._frozen(config.signal.to_signal()))
        self.explore(config.signal.exploration)
        self._tale: RolloutText | None = {"key_moments": [], "episode": []}
        self.step: Step = self.task.reset(config.seed)

    @property
    def return_range(self) -> tuple[float, float]:
        """Declared by the task, else (worst, best) seen so far."""
        return self.spec.return_range or self.seen_range or (0.0, 0.0)

    @property
    def margin(self) -> float:
        low, high = self.return_range
        return self.config.margin * (high - low)

    def stage(self) -> tuple[Stage, str]:
        return stage_of(
            self.history, start_return=self.start_return, best_return=self.best_return, margin=self.margin,
            has_success=self.spec.has_success, return_range=self.return_range,
        )  # fmt: skip

    def tale(self) -> RolloutText:
        """The last rollout as text; a restored line tells what it told when it was saved."""
        return self._tale or rollout_text(self.collector.rollout, self.spec)

    def update(self) -> UpdateReport:
        """One rollout and the gradient steps on it."""
        self._tale = None
        self.learner.explore(self.signal.exploration.entropy)
        self.step = self.collector.collect(self.learner, self.step)
        rollout, rewards = self.collector.rollout, self.rewards()
        shaping = rewards.shape(rollout)
        learned = self.learner.learn(rollout, shaping, rewards)
        self.update_index += 1
        self.steps_main += rollout.steps
        row = self._follow(rollout, shaping, learned)
        shaped = float(np.mean([np.abs(x).mean() for x in shaping.of_terms()]))
        return UpdateReport(learned, row, shaped / (shaped + row["reward_abs"]) if shaped else 0.0)

    def rewards(self) -> Rewards:
        """The signal in force for the next update, with what has left it."""
        annealed = annealed_potential(self.signal, self.signal_age)
        left = [*self.offsets, *([annealed] if annealed else [])]
        trainer, compiled = self.config.trainer, [self._compiled(signal) for signal in left]
        return Rewards(self.compiled, compiled, trainer.chosen.gamma, self.signal_age, trainer.reward)

    def _compiled(self, signal: Signal) -> CompiledSignal:
        return CompiledSignal(signal, self.spec, self.scorers)

    @property
    def signal_age(self) -> int:
        """Main steps since the version's first update; the same for a whole update."""
        return self.steps_main - self.signal_start

    # ------------------------------------------------------------ signal

    def apply_signal(self, signal: Signal) -> Signal:
        """Put a signal in force from the next update on; its kick acts now. Returns it as `prepared`.

        A potential that enters is not offset in the critic, for it acts only through a critic that has not absorbed it;
        one that leaves is offset exactly, so that no advantage changes (Wiewiora 2003). What had annealed before has
        left for good, and the rest of the potential leaves or stays like any other.
        """
        before, age = self.signal, self.signal_age
        self._set_signal(self.prepared(signal))
        left = annealed_potential(before, age), removed_potential(at_age(before, age), self.signal)
        self.offsets += [potential for potential in left if potential is not None]
        self.signal = self.signal.model_copy(update={"exploration": before.exploration})
        self.explore(signal.exploration)
        return self.signal

    def check_signal(self, signal: Signal) -> None:
        """Raises SignalError when the signal does not fit this task."""
        self._compiled(signal.model_copy(update={"scale": signal.scale or 1.0}))

    def explore(self, exploration: Exploration) -> None:
        """Exploration settings given now: a kick acts once, an entropy coefficient stays, None changes nothing."""
        if exploration.kick is not None:
            self.learner.kick(exploration.kick)
        before = self.signal.exploration.entropy
        kept = Exploration(entropy=before if exploration.entropy is None else exploration.entropy)
        self.signal = self.signal.model_copy(update={"exploration": kept})

    def prepared(self, signal: Signal) -> Signal:
        """The signal as it would be in force from here: its scale frozen on the states recorded so far (one that has a
        scale keeps it), and what has annealed not grown back."""
        return carried_over(self._frozen(signal), self.signal, self.signal_age)

    def _frozen(self, signal: Signal) -> Signal:
        recorded = self.recorder.recorded(self.episodes)
        return freeze(signal, self.signal, self.spec, recorded, self.return_range, self.scorers)

    def _set_signal(self, signal: Signal) -> None:
        self.compiled = self._compiled(signal)
        self.signal = signal
        self.signal_start = self.steps_main

    # ------------------------------------------------------------ what happened

    def _follow(self, rollout: Rollout, shaping: Shaping, learned: list[Learned]) -> HistoryRow:
        returns, successes = self.episodes.add(rollout)
        self.episodes_lost += 0 if rollout.lost is None else int(rollout.lost.sum())
        self.recorder.add(rollout)
        self._follow_rewards(rollout)
        row: HistoryRow = {
            "steps": self.steps_main,
            "episodes": len(returns),
            "returns": float(returns.mean()) if len(returns) else None,
            "success": float(successes.mean()) if len(returns) else None,
            "entropy": [x.entropy for x in learned],
            "no_effect": [self._share_without_effect(g) for g in range(len(self.spec.groups))],
            "actions": [
                action_shares(group, rollout.actions[g], None if rollout.alive is None else rollout.alive[g])
                for g, group in enumerate(self.spec.groups)
            ],
            "terms": {term.name: _mean_and_abs(x) for term, x in zip(self.signal.terms, shaping.per_term, strict=True)},
            "reward_abs": float(np.abs(rollout.reward).mean()),
        }
        self.history = _trimmed([*self.history, row])
        if len(returns) and (self.seen_range is None or self.steps_main < 2 * WINDOW_STEPS):
            low, high = self.seen_range or (np.inf, -np.inf)
            self.seen_range = (min(low, float(returns.min())), max(high, float(returns.max())))
        self._follow_windows(rollout.steps)
        return row

    def _follow_windows(self, steps: int) -> None:
        """Keep the return of the first and of the best window; they are looked at once every `WINDOW_STEPS`."""
        now = window(self.history, self.steps_main)
        if now is None or self.steps_main % WINDOW_STEPS >= steps or self.steps_main < WINDOW_STEPS:
            return
        self.start_return = now.returns if self.start_return is None else self.start_return
        self.best_return = now.returns if self.best_return is None else max(self.best_return, now.returns)

    def _share_without_effect(self, g: int) -> float:
        """Share of agent steps that changed nothing about the agent itself: none of its own features but distances
        (a mate's move changes those too), or nothing that it observes where no feature says where it is. Of living
        agents."""
        rollout, features = self.collector.rollout, self.spec.groups[g].features
        own = [f for f, spec in enumerate(features) if spec.kind != "distance"]
        if any(spec.kind == "position" for spec in features):
            same = rollout.features[g][..., own] == rollout.last_features[g][..., own]
        else:
            same = rollout.obs[g] == rollout.last_obs[g]
        still = same.all(-1) if rollout.alive is None else same.all(-1)[rollout.alive[g]]
        return float(still.mean()) if still.size else 0.0  # a whole group may have left

    def _follow_rewards(self, rollout: Rollout, lag: int = 5, decay: float = 0.98) -> None:
        """How much each feature changed in the `lag` steps up to a positive sparse reward, mean over agents."""
        if len(rollout.reward) <= lag:
            return
        within = np.stack([rollout.done[t : t + lag].any(0) for t in range(len(rollout.reward) - lag)])
        t, e = np.nonzero((rollout.reward[lag:] > 0) & ~within)
        for sums, features in zip(self.before_reward, rollout.features, strict=True):
            sums *= decay
            if len(t):
                change = features[t + lag, e] - features[t, e]  # [n, A, F]
                sums[0] += change.mean(1).sum(0)
                sums[1] += len(t)

    # ------------------------------------------------------------ state

    def reseed(self, seed: int) -> None:
        """Draw every random number from other streams from now on: policy, minibatches and environments."""
        self.learner.reseed(splitmix64(seed) >> 1)
        self.task.reseed(splitmix64(seed ^ 0x5EED) >> 1)

    def state_dict(self) -> tuple[Arrays, dict[str, object]]:
        """Arrays and plain data; together everything that the next update depends on."""
        parts = {"learner": self.learner.state_dict(), "task": self.task.state_dict()}
        parts |= {"episodes": self.episodes.state_dict(), "recorder": self.recorder.state_dict()}
        parts["before_reward"] = {str(g): x.copy() for g, x in enumerate(self.before_reward)}
        arrays = {f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()}
        meta: dict[str, object] = {
            "update_index": self.update_index, "steps_main": self.steps_main, "steps_adopted": self.steps_adopted,
            "episodes_lost": self.episodes_lost,
            "history": self.history, "best_return": self.best_return, "start_return": self.start_return,
            "seen_range": self.seen_range,
            "signal": self.signal.model_dump(mode="json"), "signal_start": self.signal_start,
            "offsets": [x.model_dump(mode="json") for x in self.offsets], "tale": self.tale(),
        }  # fmt: skip
        return arrays, meta

    def load_state_dict(
        self, arrays: Arrays, meta: dict[str, Any], going_on: bool = False, directory: Path | None = None
    ) -> None:
        """Put a state into this line. With `going_on` the line keeps its counters and its past (history, first and best
        return, range of returns) and takes over all the rest; the signal has the age that it has in that state.
        `directory`: the snapshot that the state comes from, None where this line itself gave it."""

        def part(name: str) -> Arrays:
            return {k.removeprefix(f"{name}/"): v for k, v in arrays.items() if k.startswith(f"{name}/")}

        self.learner.load_state_dict(part("learner"), directory)
        self.task.load_state_dict(part("task"))
        self.episodes.load_state_dict(part("episodes"))
        self.recorder.load_state_dict(part("recorder"))
        self.before_reward = [part("before_reward")[str(g)].copy() for g in range(len(self.spec.groups))]  # type: ignore[misc]
        if not going_on:
            self._load_past(meta)
        self.signal_start = self.steps_main - (meta["steps_main"] - meta["signal_start"])
        self.signal = Signal.model_validate(meta["signal"])
        self.compiled = self._compiled(self.signal)
        self.offsets = [Signal.model_validate(x) for x in meta["offsets"]]
        if not self.spec.deterministic:  # such a task begins fresh episodes, so nothing of the old ones may go on
            self.episodes.forget_running()
        self._tale = meta["tale"]
        self.step = self.task.observe()

    def _load_past(self, meta: dict[str, Any]) -> None:
        for name in ("update_index", "steps_main", "steps_adopted", "history", "start_return", "best_return"):
            setattr(self, name, meta[name])
        self.episodes_lost = meta.get("episodes_lost", 0)  # snapshots of older versions have none
        seen = meta["seen_range"]
        self.seen_range = (seen[0], seen[1]) if seen else None


def _trimmed(history: list[HistoryRow]) -> list[HistoryRow]:
    while len(history) > HISTORY and history[-1]["steps"] - history[1]["steps"] >= 4 * WINDOW_STEPS:
        history = history[1:]
    return history


def _mean_and_abs(per_group: list[FloatArray]) -> list[float]:
    values = np.concatenate([x.ravel() for x in per_group])
    return [float(values.mean()), float(np.abs(values).mean())]
