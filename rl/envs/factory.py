"""Build the task that a `TaskConfig` names. The compiled kernel and PettingZoo are imported only when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from ..task import BatchedTask, TaskSpec
from .adapter import Task, close_all
from .config import TaskConfig
from .load_env import check_no_grid_options, pettingzoo_task, task_factory, task_import_errors

if TYPE_CHECKING:
    from .lbf.spec import ForagingSettings
    from .pettingzoo.declared import Layout
    from .rware.spec import WarehouseSettings

S = TypeVar("S")


def make_task(config: TaskConfig, num_envs: int) -> BatchedTask:
    """Build the task of `config` as a batch of `num_envs` environments.

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

            return BatchedTwoSwitch(num_envs, **_native_options(config))
        case "victim_rubble":
            from .victim_rubble.env import BatchedVictimRubble

            return BatchedVictimRubble(num_envs, **_native_options(config))
        case "relay":
            from .relay.env import BatchedRelay

            return BatchedRelay(num_envs, **_native_options(config))
        case "lbf":
            from .lbf.batch import BatchedForaging

            return BatchedForaging(num_envs, _foraging_settings(config))
        case "rware":
            from .rware.batch import BatchedWarehouse

            return BatchedWarehouse(num_envs, _warehouse_settings(config))
    if config.workers:
        from .pettingzoo.process_batch import ProcessTask

        with task_import_errors(config, "the environment must reset and step in a process of its own"):
            return ProcessTask(config, num_envs)
    return pettingzoo_task(config, num_envs)


def task_spec(config: TaskConfig) -> TaskSpec:
    """Return the task's spec; where the task is not a native one, an instance is built, probed and closed right here.

    `probe.probe_task` does that in a process of its own.

    Raises:
        TaskImportError: the environment cannot be imported or built.
        ConfigError: it can, but not be trained on.
    """
    match config.name:
        case "two_switch":
            from .two_switch.spec import two_switch_spec

            return two_switch_spec(**_native_options(config))
        case "victim_rubble":
            from .victim_rubble.spec import victim_rubble_spec

            return victim_rubble_spec(**_native_options(config))
        case "relay":
            from .relay.spec import relay_spec

            return relay_spec(**_native_options(config))
        case "lbf":
            from .lbf.spec import foraging_spec

            return foraging_spec(_foraging_settings(config))
        case "rware":
            from .rware.spec import warehouse_spec

            return warehouse_spec(_warehouse_settings(config))
    with closing_task(config, task_factory(config)()) as task:
        return spec_of(config, task)


def spec_of(config: TaskConfig, task: Task) -> TaskSpec:
    """Return what `task`, which is not a native one, declares and what a short probe shows; it is reset and stepped.

    Raises:
        TaskImportError: the environment raises.
        ConfigError: it cannot be trained on.
    """
    return layout_of(config, task).spec


def layout_of(config: TaskConfig, task: Task) -> Layout:
    """Return how the dicts of one environment become arrays, and what a short probe shows; it is reset and stepped.

    Raises:
        TaskImportError: the environment raises.
        ConfigError: it cannot be trained on.
    """
    from .pettingzoo.layout import read_layout

    with task_import_errors(config, "the environment must reset and step"):
        return read_layout(task, config.added_limit, config.adds_agent_ids)


@contextmanager
def closing_task(config: TaskConfig, task: Task) -> Iterator[Task]:
    """Close the environment of `task` at the end, whatever happens; raise TaskImportError where it cannot be closed."""
    try:
        yield task
    except BaseException:
        close_all([task])  # it may be in any state, and the error is what matters
        raise
    with task_import_errors(config, "the environment must close"):
        task.close()


def plain_task_factory(config: TaskConfig) -> Callable[[], Task]:
    """Return what builds the task's environments one by one, each as a `Task`.

    For a native task that is its plain twin, which observes the same numbers.

    Raises:
        TaskImportError: the environment cannot be imported.
    """
    match config.name:
        case "two_switch":
            from .two_switch.env import TwoSwitchTask

            return lambda: TwoSwitchTask(**_native_options(config))
        case "victim_rubble":
            from .victim_rubble.env import VictimRubbleTask

            return lambda: VictimRubbleTask(**_native_options(config))
        case "relay":
            from .relay.env import RelayTask

            return lambda: RelayTask(**_native_options(config))
        case "lbf":
            from .lbf.batch import ForagingTask

            foraging = asdict(_foraging_settings(config))
            return lambda: ForagingTask(**foraging)
        case "rware":
            from .rware.batch import WarehouseTask

            warehouse = asdict(_warehouse_settings(config))
            return lambda: WarehouseTask(**warehouse)
    return task_factory(config)


def _native_options(config: TaskConfig) -> dict[str, Any]:
    """Return the arguments that batch, spec and plain twin of a grid game take."""
    # Without a limit of its own the task's default holds.
    limit = {} if config.n_max is None else {"n_max": config.n_max}
    return {**limit, "allow_agent_overlap": config.allow_agent_overlap}


def _foraging_settings(config: TaskConfig) -> ForagingSettings:
    from .lbf.spec import ForagingSettings

    return _settings(ForagingSettings, config)


def _warehouse_settings(config: TaskConfig) -> WarehouseSettings:
    from .rware.spec import WarehouseSettings

    return _settings(WarehouseSettings, config)


def _settings(kind: type[S], config: TaskConfig) -> S:
    """Return the settings that `task.env_args` and `task.n_max` make. Raises TaskImportError where they do not fit."""
    check_no_grid_options(config)
    limit = {} if config.n_max is None else {"n_max": config.n_max}
    with task_import_errors(config, f"its settings must fit, with task.env_args {config.env_args!r}"):
        return kind(**{**config.env_args, **limit})
