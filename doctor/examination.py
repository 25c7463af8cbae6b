"""Everything that `cosignal doctor` looks at, in its order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from ..agents.llm.secrets import key_variable_names
from ..config.run_config import RemovedKeyWarning, RunConfig
from ..errors import ConfigError, TrainerGone
from ..examples import example_path
from .arithmetic import Arithmetic, arithmetic_of, check_arithmetic, check_speed, wall_times
from .check import Examination, ok, problems_from, warning
from .connections import check_branches, check_models, check_network, check_prices, check_spans, check_tracing
from .installation import check_device, check_installation, check_run_dir
from .play import Say
from .speed import steps_per_second
from .task import check_task

Measure = Callable[[RunConfig], float]
DEFAULT = "two_switch"


def examine(
    config_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    online: bool = False,
    measure: Measure | None = None,
    tell: Say = lambda _: None,
) -> Examination:
    """Look at the installation and at a config. Raises nothing that a config can cause.

    Args:
        config_path: a YAML file or the name of a packaged example; None for the example `two_switch`.
        overrides: `key=value`, as `cosignal run --set` takes them.
        online: also try the addresses of hosted providers; else only those that the config names.
        measure: returns the main steps a second of a config; None to measure them in a process of its own, which takes
            seconds.
        tell: is given where it stands, as in "in random play, 800 of 2,000 steps".
    """
    checks = list(check_installation())
    try:
        path = example_path(config_path or DEFAULT)
        with warnings.catch_warnings(record=True, action="always", category=RemovedKeyWarning) as removed_keys:
            config = RunConfig.load(path, overrides)
    except ConfigError as error:
        return Examination([*checks, *problems_from("config", error)], {}, readable=False)
    checks.append(ok("config", f"{path} holds"))
    checks += [warning("config", str(item.message), "the run goes on without it") for item in removed_keys]

    # What is around the run.
    checks += check_run_dir(config.run_dir)
    checks += check_spans(config)
    if config.adaptation.enabled:
        checks += check_branches(config.branches, config.clock == "overlap")
        if given := len(config.adaptation.signals):
            checks.append(ok("adaptation.signals", f"{given} given signals: no model is asked, nor the rules"))
        checks += check_models(config.llm)
        checks += check_prices(config.llm)
        checks.append(check_tracing(config.llm))
        checks += check_network(config.llm, online)
    else:
        checks.append(ok("llm", "adaptation.enabled is false: no model is asked"))
    checks += check_device(config.trainer.device)

    # What the run trains on, what its adaptation costs, and how long both take.
    task_checks, spec = check_task(config, tell)
    checks += task_checks
    arithmetic: Arithmetic = {}
    if config.adaptation.enabled and config.adaptation.gated:
        arithmetic = arithmetic_of(config, spec.return_range if spec else None, spec.max_steps if spec else None)
        checks += check_arithmetic(config, arithmetic)
    if spec is not None:
        try:
            rate = measure(config) if measure else steps_per_second(config.training(), key_variable_names(config.llm))
        except TrainerGone as error:
            checks += problems_from("speed", error)
        else:
            arithmetic |= wall_times(config, arithmetic, rate)
            checks.append(check_speed(config, arithmetic))
    return Examination(checks, arithmetic)
