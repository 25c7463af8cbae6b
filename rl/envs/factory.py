"""From a `TaskConfig` to its task. The compiled kernel and PettingZoo are imported only when they are needed."""

from __future__ import annotations

from ..config import TaskConfig
from ..task import BatchedTask, TaskSpec
from .imported import in_our_words, task_factory, wrapped_task
from .two_switch_spec import N_MAX, two_switch_spec


def make_task(config: TaskConfig, num_envs: int) -> BatchedTask:
    """The task of `config`, `num_envs` environments at once.

    `team_reward` says how the rewards of a PettingZoo environment become the team's; a shipped task has one anyway.
    `n_max` overrides a shipped task's time limit, and cuts the episodes of a PettingZoo environment. `workers` says
    how many processes its environments are divided over.

    Raises:
        TaskImportError: the environment cannot be imported or built.
        ConfigError: it can, but not be trained on.
    """
    if config.name == "two_switch":
        from .two_switch_batch import BatchedTwoSwitch

        return BatchedTwoSwitch(num_envs, config.n_max or N_MAX, config.allow_agent_overlap)
    if config.workers:
        from .process_task import ProcessTask

        with in_our_words(config, "the environment must reset and step in a process of its own"):
            return ProcessTask(config, num_envs)
    return wrapped_task(config, num_envs)


def task_spec(config: TaskConfig) -> TaskSpec:
    """What may be said about the task; where it is not the native one, an instance is built, probed and closed.

    Raises:
        TaskImportError: the environment cannot be imported or built.
        ConfigError: it can, but not be trained on.
    """
    if config.name == "two_switch":
        return two_switch_spec(config.n_max or N_MAX, config.allow_agent_overlap)
    from .pettingzoo_layout import read_layout

    factory = task_factory(config)
    with in_our_words(config, "the environment must reset and step"):
        task = factory()
        spec = read_layout(task, config.n_max, config.name is None and config.agent_ids).spec
        task.env.close()
        return spec
