"""validate: try the ranked candidates on forks of the run, beside a control; decide nothing."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from langgraph.runtime import Runtime

from ...rl.branches.gate import Arm, Judgement, conclude, is_informative, screen, winner
from ...rl.branches.horizon import screening_steps
from ..branches import CONTROL
from ..context import Context
from ..intervention import Results, Round, cost_until, judge_arm, levels, load_round, steps_left
from ..state import State
from .remove_shaping import removing


async def validate(state: State, runtime: Runtime[Context]) -> State:
    """Screen all candidates on short branches, then continue the best, one after another, until one is accepted or all
    are judged."""
    ctx = runtime.context
    if not ctx.config.adaptation.gated:
        return _unseen(state)
    this = await load_round(ctx, state)
    screened = await _screen(ctx, this)
    gains = {arm: _gains(screened, arm) for arm in this.candidates}
    finalists = screen(gains, ctx.config.branches.finalists)
    full, judgements = await _judge_in_turn(ctx, this, finalists)
    judgements += _revived(ctx, this, full, judgements)
    arms = [Arm.of(arm, found) for results in (screened, full) for arm, found in results.items()]
    best_return = ctx.spec.return_range[1] if ctx.spec.return_range else None
    informative = is_informative(arms, screened[CONTROL][0].fork_return, this.width, best_return)
    chosen = winner(judgements)
    outcome = {
        "verdict": conclude(judgements, informative) if judgements else "no_difference",
        "winner": chosen.arm if chosen else None,
        "horizon": this.horizon,
        "judgements": [_judged(judgement, full) for judgement in judgements],
        "screened": [
            _screened(arm, screened, *_why_not(arm, finalists, chosen))
            for arm in gains
            if arm not in {judgement.arm for judgement in judgements}
        ],
        **removing(state),
    }
    return {"outcome": outcome, "note": {"finalists": finalists, "verdict": outcome["verdict"]}}


def _unseen(state: State) -> State:
    """The ablation without a gate: what ranks first is accepted as it is."""
    first = state["ranked"][0]
    outcome = {"verdict": "accept", "winner": first, "judgements": [], "screened": [], "problems": ["the gate is off"]}
    return {"outcome": outcome, "note": {"finalists": [first], "verdict": "accept"}}


async def _screen(ctx: Context, this: Round) -> Results:
    horizon = screening_steps(this.horizon)
    seeds = range(ctx.config.branches.screen_seeds)
    return await this.run(ctx, "screen", [this.job(ctx, arm, seed, horizon) for seed in seeds for arm in this.signals])


async def _judge_in_turn(ctx: Context, this: Round, finalists: list[str]) -> tuple[Results, list[Judgement]]:
    """Full branches and judgements, one finalist after another: what an acceptance makes needless is never run."""
    full: Results = {}
    judgements: list[Judgement] = []
    for place, arm in enumerate(finalists, start=1):
        if place > 1 and not await _can_pay(ctx, this, -1, place):
            break
        judgements.append(await _judge_at_looks(ctx, this, full, arm, place))
        if judgements[-1].verdict == "accept":
            break
    return full, judgements


async def _judge_at_looks(ctx: Context, this: Round, full: Results, arm: str, place: int) -> Judgement:
    """One finalist at more and more seeds, until it is decided or the budget ends. A look without a level decides
    nothing: the next one runs its seeds at once."""
    judgement: Judgement | None = None
    for look, level in enumerate(levels(ctx.config)):
        if level == 0:
            continue
        if judgement is not None and not await _can_pay(ctx, this, look, place):
            break
        await _extend(ctx, this, full, arm, ctx.config.gate.looks[look])
        judgement = judge_arm(ctx, this, full, arm, level)
        if judgement.verdict != "no_difference":
            break
    if judgement is None:
        raise AssertionError("look_levels leaves at least one look with a level")
    return judgement


def _revived(ctx: Context, this: Round, full: Results, judgements: list[Judgement]) -> list[Judgement]:
    """Where no candidate was accepted but the kick alone lifted the control: that judgement, to adopt the control."""
    if this.exploration.kick is None or winner(judgements) is not None:
        return []
    judgement = judge_arm(ctx, this, full, CONTROL, levels(ctx.config)[-1])
    return [judgement] if judgement.verdict == "accept" else []


async def _extend(ctx: Context, this: Round, full: Results, arm: str, n_seeds: int) -> None:
    """Arm and control to the full horizon: screened branches are continued, other seeds start at the fork."""
    jobs = []
    for seed in range(n_seeds):
        for name in (CONTROL, arm):
            screened = this.job(ctx, name, seed, screening_steps(this.horizon)).end_state
            start = screened if seed < ctx.config.branches.screen_seeds else None
            jobs.append(this.job(ctx, name, seed, this.horizon, start))
    for name, results in (await this.run(ctx, "full", jobs)).items():
        if len(results) > len(full.get(name, [])):
            full[name] = results


async def _can_pay(ctx: Context, this: Round, look: int, finalists: int) -> bool:
    """Whether this round may go on. Counts what was spent before the round and what it costs up to there, not what the
    store holds now, so that a round that runs again after a crash decides the same."""
    spent = await ctx.store.branch_steps(before=(this.point, this.number))
    cost = cost_until(ctx.config, this.horizon, look, finalists, len(this.candidates))
    return cost <= steps_left(ctx.config, this.status.steps_budget, spent)


# ---------------------------------------------------------------- records


def _judged(judgement: Judgement, full: Results) -> dict[str, Any]:
    return judgement.model_dump(mode="json") | _curves(full, judgement.arm)


def _why_not(arm: str, finalists: list[str], chosen: Judgement | None) -> tuple[str, str]:
    """Verdict and words for a candidate that was screened but not judged; the gate has said nothing about it."""
    if arm not in finalists:
        return "screened_out", "screened out: others were better"
    if chosen is not None:
        return "not_tried", f"not tried further: {chosen.arm} was accepted before its turn"
    return "not_tried", "not tried further: adaptation.max_share was used up before its turn"


def _screened(arm: str, screened: Results, verdict: str, why: str) -> dict[str, Any]:
    gain, seeds = fmean(_gains(screened, arm)), [result.seed for result in screened[arm]]
    return {
        "arm": arm,
        "verdict": verdict,
        "gain": gain,
        "lower": None,
        "upper": None,
        "seeds": seeds,
        "explanation": f"{arm}: gain {gain:+.3f} over {len(seeds)} seeds in screening; {why}",
        **_curves(screened, arm),
    }


def _curves(results: Results, arm: str) -> dict[str, Any]:
    """`control`: its mean final return. `curve`: [steps since the fork, gain], both means over the seeds."""
    mine, control = (_mean_curve(results, name) for name in (arm, CONTROL))
    return {
        "control": fmean(result.final_return for result in results[CONTROL]),
        "curve": [[steps, round(mine[steps] - control[steps], 4)] for steps in sorted(mine.keys() & control.keys())],
    }


def _mean_curve(results: Results, arm: str) -> dict[int, float]:
    points: dict[int, list[float]] = {}
    for result in results[arm]:
        for steps, value, _ in result.curve:
            points.setdefault(steps, []).append(value)
    return {steps: fmean(values) for steps, values in points.items()}


def _gains(results: Results, arm: str) -> list[float]:
    """Final return over the control's, seed by seed."""
    control = {result.seed: result.final_return for result in results[CONTROL]}
    return [result.final_return - control[result.seed] for result in results[arm]]
