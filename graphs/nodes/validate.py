"""validate: try the ranked candidates on forks of the run, beside a control; decide nothing.

screening: all candidates, short branches ─► finalists, one after another: full branches, seed by seed, judged at looks

A further seed is run only while it can still change the verdict. This costs time where many workers wait, not steps.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from langgraph.runtime import Runtime

from ...rl.branches.gate import Arm, Judgement, conclude, is_informative, screen, winner
from ...rl.branches.horizon import screening_steps
from ...rl.branches.jobs import CONTROL
from ...runs.records import ArmVerdict, DecisionVerdict, JudgedArm, Outcome, ScreenedArm
from ..branches import with_forks
from ..context import Context
from ..intervention import Results, Round, cost_until, judge_arm, levels, load_round, steps_left
from ..state import State
from .remove_shaping import with_removal


async def validate(state: State, runtime: Runtime[Context]) -> State:
    """Screen all candidates on short branches; then continue the best, one after another, until one is accepted.

    The outcome has the verdict and what is known of every arm. An arm of which a branch cannot be run is out; where it
    is the control there is no verdict on anything.
    """
    ctx = runtime.context
    if not ctx.config.adaptation.gated:  # an ablation: what ranks first is accepted as it is
        first = state["ranked"][0]
        unseen = Outcome(verdict="accept", winner=first, judgements=[], screened=[], problems=["the gate is off"])
        return {"outcome": unseen.model_dump(mode="json"), "note": {"finalists": [first], "verdict": "accept"}}

    async def attempt() -> State:
        return await _validate(ctx, state, await load_round(ctx, state))

    return await with_forks(ctx, attempt)


async def _validate(ctx: Context, state: State, round_: Round) -> State:
    # Screening: all arms to half the horizon.
    horizon, seeds = screening_steps(round_.horizon), range(ctx.config.branches.screen_seeds)
    jobs = [round_.job(ctx, arm, seed, horizon) for seed in seeds for arm in round_.signals]
    screened, failed = await round_.run(ctx, "screen", jobs)
    gains = {arm: _gains(screened, arm) for arm in round_.candidates if arm in screened and CONTROL in screened}
    finalists = screen(gains, ctx.config.branches.finalists)

    # One finalist after another: what an acceptance makes needless is never run.
    full: Results = {}
    judgements: list[Judgement] = []
    for place, arm in enumerate(finalists, start=1):
        if place > 1 and not await _can_pay(ctx, round_, -1, place):
            break
        judgement = await _judge_at_looks(ctx, round_, full, failed, arm, place)
        judgements += [judgement] if judgement is not None else []
        if CONTROL in failed or (judgement is not None and judgement.verdict == "accept"):
            break
    # Where no candidate was accepted, the round's kick alone may have lifted the control: then its state is adopted.
    revived = round_.exploration.kick is not None and winner(judgements) is None and CONTROL not in failed
    if revived and CONTROL in full:
        of_kick = await _judge_kick(ctx, round_, full, failed, max(len(judgements), 1))
        judgements += [of_kick] if of_kick is not None and of_kick.verdict == "accept" else []

    outcome = _outcome(ctx, round_, screened, full, judgements, finalists, failed)
    note: dict[str, Any] = {"finalists": finalists, "verdict": outcome.verdict}
    note |= {"failed": failed} if failed else {}
    return {"outcome": with_removal(outcome, state).model_dump(mode="json"), "note": note}


def _outcome(
    ctx: Context,
    round_: Round,
    screened: Results,
    full: Results,
    judgements: list[Judgement],
    finalists: list[str],
    failed: dict[str, str],
) -> Outcome:
    """Conclude from the branches of a round."""
    verdict: DecisionVerdict = "branch_failed" if failed else "no_difference"
    chosen = winner(judgements)
    if judgements and CONTROL not in failed:
        # Where no branch of any arm rose above the fork, the round has shown nothing.
        arms = [Arm.of(arm, ran) for results in (screened, full) for arm, ran in results.items()]
        best_return = ctx.spec.return_range[1] if ctx.spec.return_range else None
        informative = is_informative(arms, screened[CONTROL][0].fork_return, round_.width, best_return)
        verdict = conclude(judgements, informative)
    judged = {judgement.arm for judgement in judgements}
    others = [arm for arm in screened if arm not in {CONTROL, *judged, *failed} and CONTROL in screened]
    outcome = Outcome(
        verdict=verdict,
        winner=chosen.arm if chosen else None,
        horizon=round_.horizon,
        judgements=[JudgedArm(**judgement.model_dump(), **_curves(full, judgement.arm)) for judgement in judgements],
        screened=[_screened_arm(arm, screened, finalists, chosen, CONTROL in failed) for arm in others],
    )
    return outcome.model_copy(update={"failed": failed}) if failed else outcome


# ---------------------------------------------------------------- branches and judgements


async def _judge_at_looks(
    ctx: Context, round_: Round, full: Results, failed: dict[str, str], arm: str, place: int
) -> Judgement | None:
    """Judge one finalist at more and more seeds, until it is decided, no seed can decide it, or the budget ends.

    Only looks with a level decide; between them it is asked whether those ahead still can. None where a branch of it,
    or of the control, could not be run: `failed` says why then.
    """
    judgement: Judgement | None = None
    looks = list(zip(ctx.config.gate.looks, levels(ctx.config), strict=True))
    n = max(ctx.config.branches.screen_seeds, 2)  # one seed has no spread
    # The first look that can decide is paid: the trigger has asked, or `_can_pay` for a later finalist.
    for look, (last, level) in enumerate(looks):
        if level == 0:
            continue
        if judgement is not None and not await _can_pay(ctx, round_, look, place):
            break
        while n <= last:
            failed |= await _extend(ctx, round_, full, arm, n)
            if arm in failed or CONTROL in failed:
                return None
            ahead = [(seeds, share) for seeds, share in looks if seeds > n and share > 0]
            judgement = judge_arm(ctx, round_, full, arm, level if n == last else 0.0, ahead)
            if judgement.verdict != "no_difference" or not judgement.is_open:
                return judgement
            n += 1
    if judgement is None:
        raise AssertionError("look_levels leaves at least one look with a level")
    return judgement


async def _judge_kick(
    ctx: Context, round_: Round, full: Results, failed: dict[str, str], place: int
) -> Judgement | None:
    """Judge the round's kick on the control, at the last look or as many seeds as are paid; None where one failed.

    The finalists may have been given up early, so the control is continued while its own verdict is open.
    """
    last, level = ctx.config.gate.looks[-1], levels(ctx.config)[-1]
    ahead = [(last, level)]
    while len(full[CONTROL]) < last and judge_arm(ctx, round_, full, CONTROL, level, ahead).is_open:
        if not await _can_pay(ctx, round_, -1, place):
            break
        failed |= await _extend(ctx, round_, full, CONTROL, len(full[CONTROL]) + 1)
        if CONTROL in failed:
            return None
    return judge_arm(ctx, round_, full, CONTROL, level)


async def _extend(ctx: Context, round_: Round, full: Results, arm: str, n_seeds: int) -> dict[str, str]:
    """Run arm and control to the full horizon, into `full`; return which of them could not be run, and why.

    Screened branches are continued, other seeds start at the fork.
    """
    jobs = []
    for seed in range(n_seeds):
        for name in dict.fromkeys((CONTROL, arm)):
            screened = round_.job(ctx, name, seed, screening_steps(round_.horizon)).end_state
            start = screened if seed < ctx.config.branches.screen_seeds else None
            jobs.append(round_.job(ctx, name, seed, round_.horizon, start))
    by_arm, failed = await round_.run(ctx, "full", jobs)
    for name, results in by_arm.items():
        if len(results) > len(full.get(name, [])):  # the control may have more seeds from an earlier finalist
            full[name] = results
    return failed


async def _can_pay(ctx: Context, round_: Round, look: int, finalists: int) -> bool:
    """Tell whether this round may go on up to a look of so many finalists.

    Counts what was spent before the round and what it costs up to there, not what the store holds now, so that a round
    that runs again after a crash decides the same.
    """
    cost = cost_until(ctx.config, round_.horizon, look, finalists, len(round_.candidates))
    return cost <= await steps_left(ctx, round_.status, before=(round_.point, round_.number))


# ---------------------------------------------------------------- records


def _screened_arm(
    arm: str, screened: Results, finalists: list[str], chosen: Judgement | None, no_control: bool
) -> ScreenedArm:
    """Make the record of a candidate that was screened and not judged; the gate has said nothing about it."""
    verdict: ArmVerdict = "not_tried"
    if arm not in finalists:
        verdict, why = "screened_out", "screened out: others were better"
    elif no_control:
        why = "not tried further: a branch of the control could not be run"
    elif chosen is not None:
        why = f"not tried further: {chosen.arm} was accepted before its turn"
    else:
        why = "not tried further: adaptation.max_share was used up before its turn"
    # No bounds: the gate has not looked at it.
    gain, seeds = fmean(_gains(screened, arm)), [result.seed for result in screened[arm]]
    return ScreenedArm(
        arm=arm,
        verdict=verdict,
        gain=gain,
        seeds=seeds,
        explanation=f"{arm}: gain {gain:+.3f} over {len(seeds)} seeds in screening; {why}",
        **_curves(screened, arm),
    )


def _curves(results: Results, arm: str) -> dict[str, Any]:
    """Return the control's mean final return, and the curve of the arm's gain, means over the seeds."""
    means: dict[str, dict[int, float]] = {}  # arm → steps since the fork → mean sparse return
    for name in (arm, CONTROL):
        values: dict[int, list[float]] = {}
        for result in results[name]:
            for steps, value, _ in result.curve:
                values.setdefault(steps, []).append(value)
        means[name] = {steps: fmean(at_steps) for steps, at_steps in values.items()}
    mine, control = means[arm], means[CONTROL]
    return {
        "control": fmean(result.final_return for result in results[CONTROL]),
        "curve": [(steps, round(mine[steps] - control[steps], 4)) for steps in sorted(mine.keys() & control.keys())],
    }


def _gains(results: Results, arm: str) -> list[float]:
    """Return the arm's final returns over the control's, seed by seed."""
    control = {result.seed: result.final_return for result in results[CONTROL]}
    return [result.final_return - control[result.seed] for result in results[arm]]
