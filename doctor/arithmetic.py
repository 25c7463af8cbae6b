"""The arithmetic of a config: what an intervention costs, how many there can be, and what the gate asks of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..config.budget import affordable_interventions, branch_budget, cost_of_intervention, horizon_to_plan_for
from ..config.run_config import RunConfig
from ..rl.branches.gate import gain_bounds, look_levels, sd_floor
from ..rl.branches.horizon import SHORT_HORIZON
from .check import Check, ok, warning
from .installation import cores

TOKENS_A_MOVE = 450  # of prompt and answer, by arithmetic: ten moves of Victim-Rubble are some 4,000 with the rules


def sums_of(config: RunConfig, return_range: tuple[float, float] | None) -> dict[str, Any]:
    """Plain data: steps, interventions and levels. Steps are environment steps; evaluation comes on top.

    `looks`: for each number of seeds the level, whether that decides anything, what an intervention that ends there
    costs, and the least mean gain that is accepted, in margins, where all seeds agree. `steps_meanwhile` (overlap):
    main steps that the run goes on during an intervention.
    """
    horizon, budget = horizon_to_plan_for(config.branches), branch_budget(config.adaptation, config.trainer.steps)
    looks = [_look(config, horizon, look, level) for look, level in enumerate(_levels(config))]
    first = next(look for look in looks if look["level"] > 0)
    width = None if return_range is None else return_range[1] - return_range[0]
    return {
        "update_steps": config.trainer.envs * config.trainer.rollout,
        "horizon": horizon,
        "margin": None if width is None else config.gate.margin * width,
        "looks": looks,
        "steps_screen": first["steps_screen"],
        "steps_intervention": first["steps"],
        "steps_branches": budget,
        "interventions": budget // first["steps"],
        "interventions_short": _affordable_short(config, looks.index(first)),
        "interventions_by_patience": (config.trainer.steps - 1) // max(config.adaptation.patience, 1),
        "steps_meanwhile": first["steps"] // parallel(config) if config.clock == "overlap" else None,
    }


def parallel(config: RunConfig) -> int:
    """Branches that really run at the same time; under the overlap clock the trainer needs a core too."""
    free = cores() - (config.clock == "overlap")
    return max(1, min(config.branches.workers, free))


def _levels(config: RunConfig) -> list[float]:
    return look_levels(config.gate.level, config.gate.looks, config.branches.finalists, config.adaptation.rounds)


def _look(config: RunConfig, horizon: int, look: int, level: float) -> dict[str, Any]:
    cost = cost_of_intervention(config.branches, config.gate, config.adaptation, horizon, look)
    seeds = config.gate.looks[look]
    found = {"seeds": seeds, "level": level, "steps_screen": cost.screen, "steps_full": cost.full, "steps": cost.total}
    return found | {"least_gain_margins": _least_gain(seeds, level) if level > 0 else None}


def _least_gain(seeds: int, level: float) -> float:
    """The least mean gain, in margins, whose lower bound clears the margin: the deviation is at its floor."""
    _, _, reach = gain_bounds(np.zeros(seeds), level, sd_floor(1.0))
    return round(1.0 + float(reach), 2)


def _affordable_short(config: RunConfig, look: int) -> int | None:
    """How many at the short horizon that `auto` takes where the run is competent; None where it is fixed."""
    if config.branches.horizon != "auto":
        return None
    cost = cost_of_intervention(config.branches, config.gate, config.adaptation, SHORT_HORIZON, look)
    return affordable_interventions(config.adaptation, cost, config.trainer.steps)


# ---------------------------------------------------------------- in words


def check_arithmetic(config: RunConfig, sums: dict[str, Any]) -> Iterator[Check]:
    """The sums as lines; a warning where they leave little room."""
    yield ok("intervention.steps", _cost_in_words(config, sums))
    yield _interventions(config, sums)
    yield from _gate(config, sums)
    if config.clock == "overlap":
        yield _staleness(config, sums)
    if config.preferences.ranker == "model":
        yield _ranking(config)


def _cost_in_words(config: RunConfig, sums: dict[str, Any]) -> str:
    looks, arms = sums["looks"], config.adaptation.candidates + 1
    at_looks = ", ".join(f"{look['steps_full']:,} for a finalist at {look['seeds']} seeds" for look in looks)
    return (
        f"{sums['steps_intervention']:,} branch steps at horizon {sums['horizon']:,}: screening {arms} arms × "
        f"{config.branches.screen_seeds} seeds {sums['steps_screen']:,}, then {at_looks} (control included)"
    )


def _interventions(config: RunConfig, sums: dict[str, Any]) -> Check:
    short, adaptation = sums["interventions_short"], config.adaptation
    words = (
        f"max_share {adaptation.max_share:g} of {config.trainer.steps:,} main steps pays {sums['steps_branches']:,} "
        f"branch steps: {sums['interventions']} interventions"
    )
    words += "" if short is None else f", {short} where the run is competent and the horizon short"
    words += f"; patience allows {sums['interventions_by_patience']}"
    if sums["interventions"] >= 2:
        return ok("interventions", words)
    remedy = "raise trainer.steps, or lower branches.horizon or adaptation.candidates"
    return warning("interventions", f"{words}: after a refusal nothing is left to try", remedy)


def _gate(config: RunConfig, sums: dict[str, Any]) -> Iterator[Check]:
    margin = "" if sums["margin"] is None else f" of {sums['margin']:.3g} return"
    spent = f"spent over rounds ({config.adaptation.rounds}), finalists ({config.branches.finalists}) and looks"
    yield ok("gate", f"level {config.gate.level:g} an intervention, {spent}; a gain counts from one margin{margin} on")
    for look in sums["looks"]:
        yield _look_in_words(look)


def _look_in_words(look: dict[str, Any]) -> Check:
    name = f"gate.look {look['seeds']} seeds"
    if look["level"] == 0:
        rule = f"only continues: its share of the level is below 4⁻ⁿ = {4.0 ** -look['seeds']:.2g}"
        return warning(name, rule, "judge at more seeds, or raise gate.level")
    gain = f"a mean gain above {look['least_gain_margins']:.2f} margins where all seeds agree, more where they spread"
    return ok(name, f"level {look['level']:.2g}: accepts {gain}")


def _staleness(config: RunConfig, sums: dict[str, Any]) -> Check:
    """A verdict about a snapshot that the run has left far behind is confirmed once more, which costs steps again."""
    meanwhile, allowed = sums["steps_meanwhile"], config.adaptation.max_staleness
    words = f"the main run goes on for about {meanwhile:,} steps while {_workers(config)} an intervention"
    if meanwhile >= config.trainer.steps:
        remedy = "use clock lockstep, more workers or a shorter branches.horizon"
        return warning("overlap", f"{words}, so it ends before the first verdict", remedy)
    if meanwhile > allowed:
        rule = f"{words}, beyond adaptation.max_staleness {allowed:,}: verdicts are confirmed once more, at a price"
        return warning("overlap", rule, "use more workers, a shorter branches.horizon or a larger max_staleness")
    return ok("overlap", f"{words}, within adaptation.max_staleness {allowed:,}")


def _ranking(config: RunConfig) -> Check:
    """What is asked of a model in each intervention that ranks moves; a limit that is reached ends adaptation."""
    preferences, limits = config.preferences, config.llm.limits
    votes = preferences.pairs * preferences.queries * preferences.rounds
    requests = -(-preferences.pairs // preferences.batch) * preferences.queries * preferences.rounds
    tokens = votes * TOKENS_A_MOVE
    words = (
        f"{preferences.pairs:,} pairs × {preferences.queries} votes × {preferences.rounds} rounds for each group of "
        f"agents: {requests:,} requests, about {tokens:,} tokens; "
        f"llm.limits allow {limits.calls:,} and {limits.tokens:,} a run"
    )
    if requests <= limits.calls / 2 and tokens <= limits.tokens / 2:
        return ok("preferences", words)
    return warning(
        "preferences",
        words,
        "raise llm.limits.calls and llm.limits.tokens, or lower preferences.pairs or preferences.rounds",
    )


def _workers(config: RunConfig) -> str:
    return "one worker tries" if parallel(config) == 1 else f"{parallel(config)} workers try"


# ---------------------------------------------------------------- on the wall clock


def wall_times(config: RunConfig, sums: dict[str, Any], rate: float) -> dict[str, float]:
    """Seconds, by `rate` main steps a second: of the main run, and of one intervention on all its workers."""
    times = {"steps_per_s": round(rate), "main_s": round(config.trainer.steps / rate, 1)}
    if sums:
        times["intervention_s"] = round(sums["steps_intervention"] / (rate * parallel(config)), 1)
    return times


def check_speed(config: RunConfig, times: dict[str, float]) -> Check:
    words = f"{times['steps_per_s']:,} steps a second: the main run takes about {_duration(times['main_s'])}"
    if "intervention_s" in times:
        share = times["intervention_s"] / times["main_s"]
        beside = "beside it" if config.clock == "overlap" else "during which it waits"
        words += f", an intervention {_duration(times['intervention_s'])} ({share:.0%} of that), {beside}"
    return ok("speed", words)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
