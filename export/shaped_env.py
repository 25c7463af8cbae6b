"""An environment whose rewards are shaped by the signal of an exported run, as its trainer shaped them.

    r_i = r_team + beta · scale · Σ_k w_k F_k,i

It computes features, events and observations with the adapter of the run's task, and F with the trainer's own code.
Exploration is no part of it, and neither is what has left the reward and lives on in the run's critic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..rl.envs.pettingzoo import calls
from ..rl.envs.pettingzoo.translator import Views, current_views, last_views, state_pairs
from ..rl.experience.rollout import Moment, in_order
from ..rl.signals.reward_view import RewardView
from ..rl.signals.rewards import Rewards
from ..rl.signals.scorer import FOLDER, Scorers
from ..rl.signals.shaping import CompiledSignal
from ..rl.signals.signal import Signal
from ..rl.task import ActionArray, new_step
from .environment import ExportedFile, RunEnv


class ExportedSignal(ExportedFile):
    """The content of `signal.json`.

    Attributes:
        signal: that was in force, its scale frozen.
        age: main steps that its terms had faded for.
        gamma: the discount factor of the run's learner, 0..1.
        reward: whom the run paid the task's own reward to.
        limit_terminates: whether Φ(s′) was 0 at time limits, too.
    """

    signal: Signal
    age: int
    gamma: float
    reward: RewardView
    limit_terminates: bool = False


class ShapedEnv(RunEnv):
    """The environment of an exported run with the signal in its rewards.

    `infos[agent]["sparse_reward"]` keeps the reward without it. The weights of event terms, and of terms that anneal,
    fade with the signal's age in environment steps.

    Args:
        folder: of the export.
        env: the run's environment, or a `cosignal.Task` around it; built as the run did where None.
        team: whether the signal adds to the team's reward, as in the run (and as the run's `trainer.reward` sees it);
            else to what the environment pays each agent.
        age: environment steps that the terms have faded for; 0 to begin with all of them at full strength, None for
            where the run stood.
        copies: environments that are stepped together with this one; each step counts as so many.

    Attributes:
        signal: the signal.
        age: it may be set, to that of a training that goes on, say.

    Raises:
        SignalError: a scorer is missing. Otherwise as `RunEnv` raises.
    """

    def __init__(
        self, folder: str | Path, env: Any = None, *, team: bool = True, age: int | None = None, copies: int = 1
    ) -> None:
        super().__init__(folder, env, team=team)
        exported = ExportedSignal.read(Path(folder) / "signal.json")
        self.signal, self.copies, self.limit_terminates = exported.signal, copies, exported.limit_terminates
        compiled = CompiledSignal(self.signal, self.spec, Scorers(Path(folder) / FOLDER))
        self.age = exported.age if age is None else age
        paid: RewardView = exported.reward if team else "team"
        self._rewards = Rewards(compiled, [], exported.gamma, self.age, paid)
        # one environment of a batch, as the trainer has it
        self._step = new_step(self.spec, 1)
        self._now, self._last = current_views(self._step), last_views(self._step)
        self._memory = compiled.new_memory(1)

    def begin(self, observations: Mapping[Any, Any], infos: Mapping[Any, Any]) -> None:
        self._memory = self._rewards.compiled.new_memory(1)
        for features in self._step.features:  # of an agent that is not there from the start
            features[:] = 0
        self._look(self._now, set(self.env.agents), observations, infos)

    def added(
        self, acted: set[Any], actions: Mapping[Any, Any], moved: calls.Moved, terminated: bool
    ) -> dict[Any, float]:
        step = self._step
        for now, last in zip(step.features, step.last_features, strict=True):  # they stay for who is not there
            last[:] = now
        self._look(self._last, set(self.env.agents) or acted, moved.observations, moved.infos)
        self.translator.write_events(step.events, 0, self.task, acted, moved.infos)
        moment = Moment(
            features=step.features,
            last_features=step.last_features,
            events=step.events,
            obs=step.obs,
            last_obs=step.last_obs,
            actions=self._choices(actions),
            terminated=np.array([terminated], np.float32),
            done=np.zeros(1, np.float32),  # `begin` forgets
            alive=step.alive,
            last_alive=step.last_alive,
        )
        self._rewards.age = self.age
        shaping = self._rewards.shape(in_order([moment]), self._memory).total
        self.age += self.copies
        # s' is the next s
        for now, last in state_pairs(step):
            now[:] = last
        flat = np.concatenate([x[0, 0] for x in shaping])
        return dict(zip(self.translator.ids, flat.tolist(), strict=True))

    def _look(self, views: Views, there: set[Any], observations: Mapping[Any, Any], infos: Mapping[Any, Any]) -> None:
        self.translator.write_views(views, 0, self.task, there, observations, infos)

    def _choices(self, actions: Mapping[Any, Any]) -> list[ActionArray]:
        """Return the choices of the agents, [g] [1, A_g]; of numbers of a Box, which no term reads, zeros."""
        choices: list[ActionArray] = []
        for group, layout in zip(self.spec.groups, self.translator.groups, strict=True):
            array = np.zeros((1, len(group.agents), *group.action_shape), group.action_dtype)
            for i, agent in enumerate(() if group.continuous else layout.ids):
                array[0, i] = actions[agent] - layout.actions.start if agent in actions else 0
            choices.append(array)
        return choices
