"""Comparisons that anyone can run again: `cosignal study NAME`.

| name | what it compares |
|---|---|
| two-switch | the loop with plain training, restarts and blind shaping |
| adversary | a run whose provider means harm with plain training of the same seed |
| gate-trials | single rounds of the gate with harmful candidates, from snapshots at several competences |
| economy | what the ideas that make validation cheaper save |
| stages | a loop that knows the stage of learning with loops that are told the same one for ever |
| lca | the figures of LCA, a paper this builds on, that need no hosted model |
| union | ranking moves (LCA) and validated adaptation together, and either alone |
| dip | what taking shaping away costs, with and without the exact offset of the critic |

Whatever a study has finished is kept below `studies_out/cache/`, so that one that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from ..errors import ConfigError

# name → module of this package, its function, how many seeds (gate-trials: trials) where none are asked for
STUDIES = {
    "two-switch": ("two_switch", "run_two_switch", 10),
    "adversary": ("adversary.study", "run_adversary", 10),
    "gate-trials": ("adversary.gate_trials", "run_gate_trials", 72),
    "economy": ("economy", "run_economy", 10),
    "stages": ("stages", "run_stages", 10),
    "dip": ("dip", "run_dip", 8),
    "lca": ("lca.study", "run_lca", 5),
    "union": ("union", "run_union", 5),
}
NAMES = tuple(STUDIES)
SEEDED = ("two-switch", "adversary", "economy", "stages", "union")


def run_study(
    name: str,
    seeds: int | None,
    arms: Sequence[str],
    tell: Callable[[str], None],
    first_seed: int | None = None,
    figures: Sequence[int] = (),
    tasks: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a study on `seeds` seeds from `first_seed` on; returns `name, command, commit, rows` and more as plain data.

    `arms`: which of the study's arms, its usual ones where empty. `figures`, `tasks`: of the study lca. `tell` is
    called with a line of progress or of the result. Raises ConfigError for an unknown name or arm, or an option that
    the study does not have.
    """
    if name not in STUDIES:
        raise ConfigError(f"study must be one of {', '.join(NAMES)}, got {name!r}; name one of them")
    module, function, usual = STUDIES[name]
    run: Callable[..., dict[str, Any]] = getattr(import_module(f".{module}", __package__), function)
    if name == "lca":
        _refuse(name, {"--arm": arms})
        return run(
            seeds or usual,
            tell,
            **({} if first_seed is None else {"first_seed": first_seed}),
            figures=figures,
            tasks=tasks,
        )
    _refuse(name, {"--figure": figures, "--task": tasks})
    if name in SEEDED:
        from .report import example_config

        return run(seeds or usual, arms, tell, example_config(1 if first_seed is None else first_seed))
    _refuse(name, {"--first-seed": () if first_seed in (None, 1) else (first_seed,)})
    if name == "gate-trials":
        return run(seeds or usual, arms, tell)
    _refuse(name, {"--arm": arms})
    return run(tell, seeds=seeds or usual)


def _refuse(name: str, options: Mapping[str, Sequence[Any]]) -> None:
    for option, values in options.items():
        if values:
            raise ConfigError(f"{option}: the study {name!r} has no such option, got {values[0]!r}; leave it out")
