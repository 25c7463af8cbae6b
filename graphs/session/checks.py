"""Checks of a config before its run is made: whatever can be known to be wrong before training is raised here."""

from __future__ import annotations

from collections.abc import Mapping

from langchain_core.language_models import BaseChatModel

from ...agents.config import Role
from ...agents.llm.models import check_can_rank, check_can_read, check_can_sample, check_chat_models, check_models
from ...config.run_config import RunConfig
from ...errors import ConfigError, SignalError
from ...rl.branches.executors import check_executor
from ...rl.envs.probe import TaskProbe
from ...rl.processes import check_device
from ...rl.signals.scorer import Scorers
from ...rl.signals.shaping import CompiledSignal
from ..intervention import levels
from ..tracing.otel import collector_address


def check_before_start(config: RunConfig, task: TaskProbe, chat_models: Mapping[Role, BaseChatModel]) -> None:
    """Check spans, device, first signal, executor and models.

    Args:
        config: the config of the run.
        task: what the task says of itself.
        chat_models: chat models that the caller brings for some or all roles.

    Raises:
        ConfigError: the run cannot work; the message names the key, the value and the remedy.
    """
    collector_address(config)
    check_device(config.trainer.device)
    try:
        CompiledSignal(config.signal.to_signal(), task.spec, Scorers(config.signal.scorers))
        config.trainer.algorithm_config.check_signal(config.signal.to_signal())
    except SignalError as error:
        raise ConfigError(f"signal.terms: {error}") from error
    if not config.adaptation.enabled:
        return
    levels(config)
    check_executor(config.branches)
    check_chat_models(chat_models)
    check_models(config.llm, frozenset(chat_models))
    check_can_sample(config.llm, frozenset(chat_models))
    for kind, settings in config.learned_signals.enabled.items():
        try:
            settings.check(task.spec)
        except SignalError as error:
            raise ConfigError(f"learned_signals.{kind}.{error}") from error
    if config.learned_signals.step_rewards.enabled and not config.trainer.algorithm_config.has_advantages:
        raise ConfigError(
            f"learned_signals.step_rewards.enabled: must be false with trainer.algorithm {config.trainer.algorithm!r}, "
            "which has no advantages to add to; use ippo, mappo or liir"
        )
    if config.adaptation.read_failures:
        check_can_read(config.llm, frozenset(chat_models))
    # Whoever is to rank single agents' moves, or to judge, must be able to.
    if config.preferences.ranker == "model" or config.learned_signals.asks_a_model:
        check_can_rank(config.llm, frozenset(chat_models))
    if config.preferences.ranker == "task_heuristic" and not task.has_heuristic:
        raise ConfigError(
            f"preferences.ranker 'task_heuristic' needs a task that carries a heuristic, {task.spec.name!r} has none; "
            "set it to model or none, or write one"
        )
