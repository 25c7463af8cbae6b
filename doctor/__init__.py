"""`cosignal doctor`: is everything reachable and sane? Says exactly what is not.

=================  ====================================================================================================
``installation``   Python, packages, cores, sockets, a run directory that can be written
``executor``       whether branches can run where the config wants them
``models``         who answers, keys, prices, prompts, tracing
``network``        whether the addresses of the config answer
``spans``          whether spans are sent, and to whom
``task``           what was understood of the task, and whether the first signal fits it
``play``           what random play shows of it: contract, ranges, events, rewards, determinism
``arithmetic``     what an intervention costs and what the gate asks for
``speed``          how fast this machine trains, measured for two seconds in a process of its own
``show``           all of it on a terminal
=================  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..agents.llm.secrets import key_variable_names
from ..config.run_config import RunConfig
from ..errors import ConfigError, TrainerGone
from ..examples import example_path
from .arithmetic import check_arithmetic, check_speed, sums_of, wall_times
from .check import Check, Examination, from_error, ok
from .installation import check_device, check_installation, check_run_dir
from .models import check_branches, check_models, check_network, check_no_models, check_spans
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
) -> Examination:
    """Look at the installation and at a config, the packaged example where none is given.

    `online`: also try the addresses of hosted providers; else only those that the config names. `measure`: main steps a
    second of a config; without one it is measured in a process of its own, which takes seconds. Raises nothing that a
    config can cause.
    """
    checks = list(check_installation())
    try:
        path = example_path(config_path or DEFAULT)
        config = RunConfig.load(path, overrides)
    except ConfigError as error:
        return Examination([*checks, *from_error("config", error)], {}, readable=False)
    checks.append(ok("config", f"{path} holds"))
    checks += _check_surroundings(config, online)
    checks += check_device(config.trainer.device)
    found, spec = check_task(config)
    checks += found
    validates = config.adaptation.enabled and config.adaptation.gated
    sums = sums_of(config, spec.return_range if spec else None) if validates else {}
    checks += check_arithmetic(config, sums) if sums else ()
    if spec is not None:
        checks += _speed(config, sums, measure or _measured)
    return Examination(checks, sums)


def _check_surroundings(config: RunConfig, online: bool) -> Iterator[Check]:
    yield from check_run_dir(config.run_dir)
    yield from check_spans(config)
    if not config.adaptation.enabled:
        yield check_no_models()
        return
    yield from check_branches(config.branches, config.clock == "overlap")
    yield from check_models(config.llm)
    yield from check_network(config.llm, online)


def _speed(config: RunConfig, sums: dict[str, object], measure: Measure) -> Iterator[Check]:
    """Adds the wall times to `sums`."""
    try:
        rate = measure(config)
    except TrainerGone as error:
        yield from from_error("speed", error)
        return
    times = wall_times(config, sums, rate)
    sums |= times
    yield check_speed(config, times)


def _measured(config: RunConfig) -> float:
    return steps_per_second(config.training(), key_variable_names(config.llm))


__all__ = ["Check", "Examination", "examine"]
