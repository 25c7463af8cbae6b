"""Compute from a config what an intervention costs, how many there can be, and what a policy or a signal must show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from ..config.budget import (
    affordable_interventions,
    arms_at_a_time,
    branch_budget,
    cost_of_intervention,
    cost_of_race,
    first_rungs,
    horizon_to_plan_for,
    race_arms,
)
from ..config.run_config import RunConfig
from ..graphs.intervention import levels
from ..graphs.nodes.remove_shaping import REMOVALS
from ..rl.branches.gate import gain_bounds, sd_floor
from ..rl.branches.horizon import SHORT_HORIZON
from ..rl.branches.policy_claim import confirmation_level, least_provable_gain
from ..rl.branches.survival import FRESH_RUNGS
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


class RaceSum(TypedDict):
    """What a race costs. Steps are those of its arms; what episodes take comes on top, at most so many steps."""

    arms: int
    rung_steps: int
    first_rungs: int
    rungs: int  # of its own, after which an arm that does not rise is dropped
    fresh_rungs: int | None  # after which a fresh start is; None where none races
    at_a_time: int  # that train a rung; the others join when these are out
    steps_first: int
    steps_whole: int  # where no arm rises, and none is dropped before that
    evaluation_first: int | None  # None where the task does not say how long an episode can be
    evaluation_whole: int | None
    evaluation_confirm: int | None  # of one confirmation, both sides
    interventions_first: int  # that the budget pays for, where each race is decided after the first rungs
    levels: list[float]  # of the first confirmations of the run
    least_gains: list[float] | None  # in return, that they can prove; None where the return range is not declared


class Arithmetic(TypedDict, total=False):
    """The cost of adaptation, as `cosignal doctor --json` prints it.

    Steps are environment steps of branches; evaluation comes on top. Where policies race, an intervention is a race to
    its last rung, and signals are judged where shaping may leave. Where only signals are judged, it ends at the first
    look that can decide. With `gate.claim: policy` no signal is judged, and what is told of signals is what it would
    take. The last three are measured; without adaptation there are no others.
    """

    update_steps: int  # main steps of one update
    margin: float | None  # of the gate, in return; None where the return range is not declared
    race: RaceSum | None  # None where only signals are judged
    horizon: int  # of a full branch that judges a signal
    looks: list[Look]
    steps_screen: int
    steps_signal: int  # of a round that judges a signal
    steps_intervention: int
    steps_branches: int  # that `adaptation.max_share` pays for
    interventions: int  # how many that are
    interventions_short: int | None  # judging signals at the short horizon of `auto`; None where there are none
    interventions_by_patience: int
    steps_meanwhile: int | None  # overlap clock: main steps that the run goes on during an intervention
    steps_per_s: float  # main steps
    main_s: float
    intervention_s: float


def arithmetic_of(
    config: RunConfig, return_range: tuple[float, float] | None, max_steps: int | None = None
) -> Arithmetic:
    """Compute steps, interventions and levels of a config whose proposals are tried.

    Args:
        config: the config.
        return_range: worst and best return of an episode, None where the task declares none.
        max_steps: the longest episode, None where the task does not say.
    """
    adaptation, steps = config.adaptation, config.trainer.steps
    sums: Arithmetic = {
        "update_steps": config.trainer.envs * config.trainer.rollout,
        "margin": None if return_range is None else config.gate.margin * (return_range[1] - return_range[0]),
        "race": None,
        "steps_branches": branch_budget(adaptation, steps),
        "interventions_short": None,
        "interventions_by_patience": (steps - 1) // max(adaptation.patience, 1),
    }
    sums |= _of_signals(config)
    sums["steps_intervention"] = sums["steps_signal"]
    if config.gate.claim != "signal":
        race = race_sum(config, return_range, max_steps)
        sums["race"], sums["steps_intervention"] = race, race["steps_whole"]
    sums["interventions"] = affordable_interventions(adaptation, sums["steps_intervention"], steps)
    overlap = config.clock == "overlap"
    sums["steps_meanwhile"] = sums["steps_intervention"] // parallel_branches(config) if overlap else None
    return sums


def race_sum(config: RunConfig, return_range: tuple[float, float] | None, max_steps: int | None) -> RaceSum:
    """Compute what a race costs and asks for; the arguments are those of `arithmetic_of`."""
    race, adaptation = config.race, config.adaptation
    cost = cost_of_race(race, adaptation, overlap=config.clock == "overlap")
    levels = [confirmation_level(race.error, number) for number in (1, 2)]
    least_gains = None
    if return_range is not None:
        width = return_range[1] - return_range[0]
        asked = {"margin": config.gate.margin * width, "width": width}
        least_gains = [
            least_provable_gain(level, race.most_confirm_episodes, **asked, paired=False) for level in levels
        ]
    return {
        "arms": race_arms(race, adaptation),
        "rung_steps": adaptation.interval,
        "first_rungs": first_rungs(race),
        "rungs": min(race.rungs, race.longest),
        "fresh_rungs": min(FRESH_RUNGS, race.longest) if race.fresh_start else None,
        "at_a_time": arms_at_a_time(race, adaptation),
        "steps_first": cost.first,
        "steps_whole": cost.whole,
        "evaluation_first": None if max_steps is None else cost.first_episodes * max_steps,
        "evaluation_whole": None if max_steps is None else cost.whole_episodes * max_steps,
        "evaluation_confirm": None if max_steps is None else 2 * race.most_confirm_episodes * max_steps,
        "interventions_first": affordable_interventions(adaptation, cost.first, config.trainer.steps),
        "levels": levels,
        "least_gains": least_gains,
    }


def _of_signals(config: RunConfig) -> Arithmetic:
    """Compute the keys of rounds that judge signals; where policies race, these are removals at convergence alone."""
    settings, horizon = (config.branches, config.gate, config.adaptation), horizon_to_plan_for(config.branches)
    is_removal, candidates = config.gate.claim != "signal", None
    if is_removal:
        candidates = REMOVALS
        horizon = SHORT_HORIZON if config.branches.horizon == "auto" else horizon
    looks: list[Look] = []
    for i, (seeds, level) in enumerate(zip(config.gate.looks, levels(config), strict=True)):
        least_gain = None
        if level > 0:
            # Where all seeds agree the deviation is at its floor, and the gain must reach that far beyond the bar: one
            # margin, or for what only removes minus one.
            bar = -1.0 if is_removal else 1.0
            least_gain = round(bar + gain_bounds([0.0] * seeds, level, sd_floor(1.0)).reach, 2)
        cost = cost_of_intervention(*settings, horizon, i, candidates=candidates)
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
    # A round is over at the first look whose seeds are enough to decide.
    first = next(look for look in looks if look["level"] > 0)
    # At convergence and for a competent run `auto` takes a short horizon, so that there can be more of them.
    short = None
    if config.branches.horizon == "auto" and not is_removal:
        steps = cost_of_intervention(*settings, SHORT_HORIZON, looks.index(first)).total
        short = affordable_interventions(config.adaptation, steps, config.trainer.steps)
    return {
        "horizon": horizon,
        "looks": looks,
        "steps_screen": first["steps_screen"],
        "steps_signal": first["steps"],
        "interventions_short": short,
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
    if (race := arithmetic["race"]) is not None:
        yield from check_race(config, race)
    # All interventions: as many as the budget pays for, and as patience leaves time for.
    adaptation, count = config.adaptation, arithmetic["interventions"]
    message = (
        f"max_share {adaptation.max_share:g} of {config.trainer.steps:,} main steps pays "
        f"{arithmetic['steps_branches']:,} branch steps: "
    )
    if race is not None:
        count = race["interventions_first"]
        message += f"{count} races that are decided after {race['first_rungs']} rungs, {arithmetic['interventions']} "
        message += "in which no arm rises"
    else:
        yield ok("intervention.steps", _signal_steps(config, arithmetic))
        message += f"{count} interventions"
        short = arithmetic["interventions_short"]
        message += "" if short is None else f", {short} where the run is competent and the horizon short"
    message += f"; patience allows {arithmetic['interventions_by_patience']}"
    if count >= 2:
        yield ok("interventions", message)
    else:
        lower = "adaptation.interval or race.arms" if race is not None else "branches.horizon or adaptation.candidates"
        remedy = f"raise trainer.steps, or lower {lower}"
        yield warning("interventions", f"{message}: after a refusal nothing is left to try", remedy)
    if config.gate.claim == "auto":
        wanted = f"at convergence, for shaping that is no potential: {_signal_steps(config, arithmetic)}"
        yield ok("signal.steps", wanted)
    if config.gate.claim != "policy":
        yield from check_gate(config, arithmetic)
    if (meanwhile := arithmetic["steps_meanwhile"]) is not None:
        first = arithmetic["steps_intervention"] if race is None else race["steps_first"]
        yield check_staleness(config, meanwhile, first // parallel_branches(config))
    if config.preferences.ranker == "model":
        yield check_ranking(config)


def check_race(config: RunConfig, race: RaceSum) -> Iterator[Check]:
    """Yield what a race costs, and what it asks of a policy that is to be adopted."""
    settings = config.race
    beside = [f"{config.adaptation.candidates} candidates"]
    beside += ["the kick alone"] * settings.kick_alone + ["a fresh start"] * settings.fresh_start
    control = " and the control" if config.clock == "overlap" else ""
    fresh = "" if race["fresh_rungs"] is None else f", {race['fresh_rungs']} for the fresh start"
    yield ok(
        "intervention.steps",
        f"a race of {race['arms']} arms ({', '.join(beside)}), {race['at_a_time']} at a time{control}, "
        f"{race['rung_steps']:,} steps a rung: {race['steps_first']:,} branch steps until the first "
        f"{race['first_rungs']} rungs, at most {race['steps_whole']:,} where none rises ({race['rungs']} rungs "
        f"each{fresh})",
    )
    confirm = f"{settings.confirm_episodes} to {settings.most_confirm_episodes}"
    looks = f"{settings.look_episodes} episodes of every policy a rung, {confirm} of both sides of a "
    looks += "confirmation"
    if race["evaluation_first"] is None:
        bound = "as many steps as episodes take, which this task does not bound"
    else:
        bound = (
            f"on top at most {race['evaluation_first']:,} steps until rung {race['first_rungs']}, "
            f"{race['evaluation_whole']:,} where none rises, {race['evaluation_confirm']:,} a confirmation"
        )
    yield ok("intervention.evaluation", f"{looks}: {bound}")
    first, second = race["levels"]
    proves = ""
    if race["least_gains"] is not None:
        least, then = race["least_gains"]
        proves = f"; they need a mean gain of at least {least:.2g} return, and {then:.2g}, more where returns spread"
    yield ok(
        "race.error",
        f"{settings.error:g} over the whole run: confirmation j has level {settings.error:g} · 6 / (π² j²), "
        f"{first:.2g} for the first and {second:.2g} for the second{proves}",
    )


def _signal_steps(config: RunConfig, arithmetic: Arithmetic) -> str:
    """Return what a round that judges a signal costs, in words."""
    # Its arms are the candidates and the control.
    looks, screened = arithmetic["looks"], config.branches.screen_seeds * (arithmetic["horizon"] // 2)
    arms = arithmetic["steps_screen"] // screened
    at_looks = ", ".join(f"{look['steps_full']:,} for a finalist at {look['seeds']} seeds" for look in looks)
    return (
        f"{arithmetic['steps_signal']:,} branch steps at horizon {arithmetic['horizon']:,}: screening {arms} arms × "
        f"{config.branches.screen_seeds} seeds {arithmetic['steps_screen']:,}, then {at_looks} (control included)"
    )


def check_gate(config: RunConfig, arithmetic: Arithmetic) -> Iterator[Check]:
    """Yield how the gate spends its level on signals, and what it asks for at each look."""
    margin = "" if arithmetic["margin"] is None else f" of {arithmetic['margin']:.3g} return"
    spent = f"spent over rounds ({config.adaptation.rounds}), finalists ({config.branches.finalists}) and looks"
    counts = f"a gain counts from one margin{margin} on"
    if config.gate.claim == "auto":  # the only signals that are judged take shaping away
        counts = f"shaping may leave where less than one margin{margin} is lost"
    yield ok("gate", f"level {config.gate.level:g} an intervention that judges a signal, {spent}; {counts}")
    for look in arithmetic["looks"]:
        name = f"gate.look {look['seeds']} seeds"
        if look["level"] == 0:
            rule = f"only continues: its share of the level is below 4⁻ⁿ = {4.0 ** -look['seeds']:.2g}"
            yield warning(name, rule, "judge at more seeds, or raise gate.level")
        else:
            least = f"a mean gain above {look['least_gain_margins']:.2f} margins"
            spread = "where all seeds agree, more where they spread"
            yield ok(name, f"level {look['level']:.2g}: accepts {least} {spread}")


def check_staleness(config: RunConfig, meanwhile: int, first: int) -> Check:
    """Check how far the run goes on during an intervention, under the overlap clock.

    A verdict about a signal, from a snapshot that the run has left far behind, is confirmed once more, which costs
    steps again. A policy is compared with the newest snapshot in any case.

    Args:
        config: the config.
        meanwhile: main steps during an intervention.
        first: main steps until anything can be decided.
    """
    allowed, workers = config.adaptation.max_staleness, parallel_branches(config)
    tries = "one worker tries" if workers == 1 else f"{workers} workers try"
    message = f"the main run goes on for about {meanwhile:,} steps while {tries} an intervention"
    shorter = "branches.horizon" if config.gate.claim == "signal" else "adaptation.interval"
    if first >= config.trainer.steps:
        remedy = f"use clock lockstep, more workers or a shorter {shorter}"
        return warning("overlap", f"{message}, so it ends before the first verdict", remedy)
    if config.gate.claim != "signal":
        return ok("overlap", f"{message}; a policy must beat the newest snapshot too before it is adopted")
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
