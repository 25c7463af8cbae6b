"""From a `TaskConfig` to its task. The compiled kernel and PettingZoo are imported only when they are needed."""

from __future__ import annotations

from collections.abc import Callable

from ..task import BatchedTask, TaskSpec
from .adapter import Task
from .config import TaskConfig
from .load_env import in_our_words, task_factory, wrapped_task
from .two_switch import spec as two_switch_spec
from .victim_rubble import spec as victim_rubble_spec


def make_task(config: TaskConfig, num_envs: int) -> BatchedTask:
    """The task of `config`, `num_envs` environments at once.

    `team_reward` says how the rewards of a PettingZoo environment become the team's; a shipped task has one anyway.
    `n_max` overrides a shipped task's time limit, and cuts the episodes of a PettingZoo environment. `workers` says
    how many processes its environments are divided over.

    Raises:
        TaskImportError: the environment cannot be imported or built.
        ConfigError: it can, but not be trained on.
    """
    match config.name:
        case "two_switch":
            from .two_switch.env import BatchedTwoSwitch

            return BatchedTwoSwitch(num_envs, config.n_max or two_switch_spec.N_MAX, config.allow_agent_overlap)
        case "victim_rubble":
            from .victim_rubble.env import BatchedVictimRubble

            return BatchedVictimRubble(num_envs, config.n_max or victim_rubble_spec.N_MAX, config.allow_agent_overlap)
    if config.workers:
        from .pettingzoo.process_batch import ProcessTask

        with in_our_words(config, "the environment must reset and step in a process of its own"):
            return ProcessTask(config, num_envs)
    return wrapped_task(config, num_envs)


def task_spec(config: TaskConfig) -> TaskSpec:
    """What may be said about the task; where it is not a native one, an instance is built, probed and closed.

    Raises:
        TaskImportError: the environment cannot be imported or built.
        ConfigError: it can, but not be trained on.
    """
    match config.name:
        case "two_switch":
            return two_switch_spec.two_switch_spec(config.n_max or two_switch_spec.N_MAX, config.allow_agent_overlap)
        case "victim_rubble":
            n_max = config.n_max or victim_rubble_spec.N_MAX
            return victim_rubble_spec.victim_rubble_spec(n_max, config.allow_agent_overlap)
    from .pettingzoo.layout import read_layout

    factory = task_factory(config)
    with in_our_words(config, "the environment must reset and step"):
        task = factory()
        spec = read_layout(task, config.n_max, config.name is None and config.agent_ids).spec
        task.env.close()
        return spec


def plain_task_factory(config: TaskConfig) -> Callable[[], Task]:
    """What builds the task's environments one by one, with all that a `Task` says: of a native task its plain twin,
    which observes the same numbers.

    Raises:
        TaskImportError: the environment cannot be imported.
    """
    match config.name:
        case "two_switch":
            from .two_switch.env import TwoSwitchTask

            return lambda: TwoSwitchTask(config.n_max or two_switch_spec.N_MAX, config.allow_agent_overlap)
        case "victim_rubble":
            from .victim_rubble.env import VictimRubbleTask

            return lambda: VictimRubbleTask(config.n_max or victim_rubble_spec.N_MAX, config.allow_agent_overlap)
    return task_factory(config)
