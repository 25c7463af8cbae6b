"""Compute from a config what an intervention costs, how many there can be, and what the gate asks of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from ..config.budget import affordable_interventions, branch_budget, cost_of_intervention, horizon_to_plan_for
from ..config.run_config import RunConfig
from ..graphs.intervention import levels
from ..rl.branches.gate import gain_bounds, sd_floor
from ..rl.branches.horizon import SHORT_HORIZON
from .check import Check, ok, warning
from .installation import cores

TOKENS_A_MOVE = 450  # of prompt and answer, by arithmetic: ten moves of Victim-Rubble are some 4,000 with the rules


class Look(TypedDict):
    """The gate's decision at one number of seeds. Steps are those of an intervention that ends there."""

    seeds: int
    level: float  # 0 where this many seeds decide nothing
    steps_screen: int
    steps_full: int
    steps: int
    least_gain_margins: float | None  # the least mean gain that is accepted, in margins, where all seeds agree


class Arithmetic(TypedDict, total=False):
    """The cost of adaptation, as `cosignal doctor --json` prints it.

    Steps are environment steps of branches; evaluation comes on top. An intervention ends at the first look that can
    decide. The last three are measured; without adaptation there are no others.
    """

    update_steps: int  # main steps of one update
    horizon: int  # of a full branch
    margin: float | None  # of the gate, in return; None where the return range is not declared
    looks: list[Look]
    steps_screen: int
    steps_intervention: int
    steps_branches: int  # that `adaptation.max_share` pays for
    interventions: int  # how many that are
    interventions_short: int | None  # how many at the short horizon of `auto`; None where the horizon is fixed
    interventions_by_patience: int
    steps_meanwhile: int | None  # overlap clock: main steps that the run goes on during an intervention
    steps_per_s: float  # main steps
    main_s: float
    intervention_s: float


def arithmetic_of(config: RunConfig, return_range: tuple[float, float] | None) -> Arithmetic:
    """Compute steps, interventions and levels of a config whose gate validates proposals.

    Args:
        config: the config.
        return_range: worst and best return of an episode, None where the task declares none.
    """
    settings = (config.branches, config.gate, config.adaptation)
    horizon, budget = horizon_to_plan_for(config.branches), branch_budget(config.adaptation, config.trainer.steps)
    looks: list[Look] = []
    for i, (seeds, level) in enumerate(zip(config.gate.looks, levels(config), strict=True)):
        least_gain = None
        if level > 0:
            # Where all seeds agree the deviation is at its floor, and the gain must reach that far beyond one margin.
            least_gain = round(1.0 + gain_bounds([0.0] * seeds, level, sd_floor(1.0)).reach, 2)
        cost = cost_of_intervention(*settings, horizon, i)
        looks.append(
            {
                "seeds": seeds,
                "level": level,
                "steps_screen": cost.screen,
                "steps_full": cost.full,
                "steps": cost.total,
                "least_gain_margins": least_gain,
            }
        )
    # An intervention is over at the first look whose seeds are enough to decide.
    first = next(look for look in looks if look["level"] > 0)

    # At convergence and for a competent run `auto` takes a short horizon, so that there can be more of them.
    interventions_short = None
    if config.branches.horizon == "auto":
        cost = cost_of_intervention(*settings, SHORT_HORIZON, looks.index(first))
        interventions_short = affordable_interventions(config.adaptation, cost, config.trainer.steps)
    return {
        "update_steps": config.trainer.envs * config.trainer.rollout,
        "horizon": horizon,
        "margin": None if return_range is None else config.gate.margin * (return_range[1] - return_range[0]),
        "looks": looks,
        "steps_screen": first["steps_screen"],
        "steps_intervention": first["steps"],
        "steps_branches": budget,
        "interventions": budget // first["steps"],
        "interventions_short": interventions_short,
        "interventions_by_patience": (config.trainer.steps - 1) // max(config.adaptation.patience, 1),
        "steps_meanwhile": first["steps"] // parallel_branches(config) if config.clock == "overlap" else None,
    }


def parallel_branches(config: RunConfig) -> int:
    """Return how many branches really run at the same time; under the overlap clock the trainer needs a core too."""
    # Workers beyond the cores wait for each other.
    free = cores() - (config.clock == "overlap")
    return max(1, min(config.branches.workers, free))


def wall_times(config: RunConfig, arithmetic: Arithmetic, rate: float) -> Arithmetic:
    """Return the seconds of the main run, and of one intervention on all its workers, at `rate` main steps a second."""
    times: Arithmetic = {"steps_per_s": round(rate), "main_s": round(config.trainer.steps / rate, 1)}
    if arithmetic:
        times["intervention_s"] = round(arithmetic["steps_intervention"] / (rate * parallel_branches(config)), 1)
    return times


# ---------------------------------------------------------------- as checks


def check_arithmetic(config: RunConfig, arithmetic: Arithmetic) -> Iterator[Check]:
    """Yield the arithmetic as lines, with a warning where it leaves little room."""
    # One intervention: its arms are the candidates and the control.
    looks, arms = arithmetic["looks"], config.adaptation.candidates + 1
    at_looks = ", ".join(f"{look['steps_full']:,} for a finalist at {look['seeds']} seeds" for look in looks)
    yield ok(
        "intervention.steps",
        f"{arithmetic['steps_intervention']:,} branch steps at horizon {arithmetic['horizon']:,}: screening {arms} "
        f"arms × {config.branches.screen_seeds} seeds {arithmetic['steps_screen']:,}, then {at_looks} (control "
        "included)",
    )
    # All interventions: as many as the budget pays for, and as patience leaves time for.
    short, adaptation = arithmetic["interventions_short"], config.adaptation
    message = (
        f"max_share {adaptation.max_share:g} of {config.trainer.steps:,} main steps pays "
        f"{arithmetic['steps_branches']:,} branch steps: {arithmetic['interventions']} interventions"
    )
    message += "" if short is None else f", {short} where the run is competent and the horizon short"
    message += f"; patience allows {arithmetic['interventions_by_patience']}"
    if arithmetic["interventions"] >= 2:
        yield ok("interventions", message)
    else:
        remedy = "raise trainer.steps, or lower branches.horizon or adaptation.candidates"
        yield warning("interventions", f"{message}: after a refusal nothing is left to try", remedy)
    yield from check_gate(config, arithmetic)
    if (meanwhile := arithmetic["steps_meanwhile"]) is not None:
        yield check_staleness(config, meanwhile)
    if config.preferences.ranker == "model":
        yield check_ranking(config)


def check_gate(config: RunConfig, arithmetic: Arithmetic) -> Iterator[Check]:
    """Yield how the gate spends its level, and what it asks for at each look."""
    margin = "" if arithmetic["margin"] is None else f" of {arithmetic['margin']:.3g} return"
    spent = f"spent over rounds ({config.adaptation.rounds}), finalists ({config.branches.finalists}) and looks"
    yield ok("gate", f"level {config.gate.level:g} an intervention, {spent}; a gain counts from one margin{margin} on")
    for look in arithmetic["looks"]:
        name = f"gate.look {look['seeds']} seeds"
        if look["level"] == 0:
            rule = f"only continues: its share of the level is below 4⁻ⁿ = {4.0 ** -look['seeds']:.2g}"
            yield warning(name, rule, "judge at more seeds, or raise gate.level")
        else:
            least = f"a mean gain above {look['least_gain_margins']:.2f} margins"
            spread = "where all seeds agree, more where they spread"
            yield ok(name, f"level {look['level']:.2g}: accepts {least} {spread}")


def check_staleness(config: RunConfig, meanwhile: int) -> Check:
    """Check how far the run goes on during an intervention, under the overlap clock.

    A verdict about a snapshot that the run has left far behind is confirmed once more, which costs steps again.

    Args:
        config: the config.
        meanwhile: main steps during an intervention.
    """
    allowed, workers = config.adaptation.max_staleness, parallel_branches(config)
    tries = "one worker tries" if workers == 1 else f"{workers} workers try"
    message = f"the main run goes on for about {meanwhile:,} steps while {tries} an intervention"
    if meanwhile >= config.trainer.steps:
        remedy = "use clock lockstep, more workers or a shorter branches.horizon"
        return warning("overlap", f"{message}, so it ends before the first verdict", remedy)
    if meanwhile > allowed:
        rule = f"{message}, beyond adaptation.max_staleness {allowed:,}: verdicts are confirmed once more, at a price"
        return warning("overlap", rule, "use more workers, a shorter branches.horizon or a larger max_staleness")
    return ok("overlap", f"{message}, within adaptation.max_staleness {allowed:,}")


def check_ranking(config: RunConfig) -> Check:
    """Check what each intervention asks of a model that ranks moves; a limit that is reached ends adaptation."""
    preferences, limits = config.preferences, config.llm.limits
    # A request asks one vote about each pair of a batch.
    votes = preferences.pairs * preferences.queries * preferences.rounds
    requests = -(-preferences.pairs // preferences.batch) * preferences.queries * preferences.rounds
    tokens = votes * TOKENS_A_MOVE
    message = (
        f"{preferences.pairs:,} pairs × {preferences.queries} votes × {preferences.rounds} rounds for each group of "
        f"agents: {requests:,} requests, about {tokens:,} tokens; "
        f"llm.limits allow {limits.calls:,} and {limits.tokens:,} a run"
    )
    if requests <= limits.calls / 2 and tokens <= limits.tokens / 2:
        return ok("preferences", message)
    remedy = "raise llm.limits.calls and llm.limits.tokens, or lower preferences.pairs or preferences.rounds"
    return warning("preferences", message, remedy)


def check_speed(config: RunConfig, arithmetic: Arithmetic) -> Check:
    """Return how long the main run and an intervention take."""
    rate, main = arithmetic["steps_per_s"], _duration(arithmetic["main_s"])
    message = f"{rate:,} steps a second: the main run takes about {main}"
    if "intervention_s" in arithmetic:
        seconds = arithmetic["intervention_s"]
        share = seconds / arithmetic["main_s"]
        beside = "beside it" if config.clock == "overlap" else "during which it waits"
        message += f", an intervention {_duration(seconds)} ({share:.0%} of that), {beside}"
    return ok("speed", message)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
