"""`cosignal study policy-power`: how often the policy claim adopts what is not better, and how often it sees what is.

Monte Carlo without any training; `--seeds` is the number of trials. All returns are on the scale of Two-Switch, whose
range is −1 to 4 with a margin of 0.1.

*Level*: whole runs of RACES races of `race.rungs` rungs. In each rung five arms and the main line play look episodes;
the reference is the main-line policy of the race with the best look, and every arm whose look is above the reference's
by more than the margin is confirmed, best first, which spends the run's error, until one is adopted. All arms have a
gain of exactly the margin, so that every adoption is false and the level is hardest to keep. `oscillating`: each policy
solves a share of the episodes that is drawn anew at each rung, so that the arms' peaks meet chance peaks of the main
line; an adoption is false where the arm's true gain over its reference is not above the margin.

*Power*: of one confirmation, at the level of the first, third and tenth of a run, for several numbers of episodes.

*As shipped* a confirmation of the bets begins with `race.confirm_episodes` of either side, and goes on by as many up to
`race.most_confirm_episodes`, while more may prove something.

Student's t (Welch) with a deviation floored at half the margin, as the gate for signals has it, stands beside the bets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from ...config.budget import cost_of_intervention, horizon_to_plan_for
from ...rl.branches.config import RaceConfig
from ...rl.branches.gate import Floats, sd_floor
from ...rl.branches.policy_claim import WIDENED, confirmation_level, least_provable_gain, refutes
from ..outcome import mean_ci, rare_ci, share_ci
from ..report import Row, Tell, example_config, finish_study, markdown_table, result_row

NAME = "policy-power"
LOW, HIGH, MARGIN = -1.0, 4.0, 0.1
RACES = 10  # of a run
ARMS = 5
STUCK, SOLVED = 1.0, 2.83  # returns of a stalled policy and of one that solves the task
RARE = MARGIN / (SOLVED - STUCK)  # share of solved episodes that is worth a margin
# claims, and episodes of a side, of which the power is told
SHOWN = (("bets", 32), ("bets", 64), ("bets", 128), ("pairs", 64), ("pairs", 128), ("student", 64), ("student", 128))
EPISODE_STEPS = 100  # of the longest episode
CONFIRMATIONS = (1, 3, 10)
SIZES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # tried for a power of 0.8

Draw = Callable[[np.random.Generator, int], Floats]  # returns [n] of fresh episodes of one policy
Claim = Callable[[Floats, Floats, float], bool]  # (arm's returns, main line's, level) → whether the gain is proven
# (arm, main line, level, random numbers) → whether the gain is proven, and from how many episodes of a side
Confirm = Callable[[Draw, Draw, float, np.random.Generator], tuple[bool, int]]


# ------------------------------------------------------------ claims


def bets(x: Floats, y: Floats, level: float) -> bool:
    """Tell whether independent sides prove the margin; see `rl.branches.policy_claim`."""
    return refutes(x, y, MARGIN, level=level, low=LOW, high=HIGH, paired=False)


def pairs(x: Floats, y: Floats, level: float) -> bool:
    """Tell whether the bets on differences of pairs prove it."""
    return refutes(x, y, MARGIN, level=level, low=LOW, high=HIGH, paired=True)


def undeclared(x: Floats, y: Floats, level: float) -> bool:
    """Tell whether independent sides prove it where no return range is declared."""
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    reach = WIDENED * (high - low)
    return bool(high > low) and refutes(x, y, MARGIN, level=level, low=low - reach, high=high + reach, paired=False)


def student(x: Floats, y: Floats, level: float) -> bool:
    """Tell whether Welch's t would prove it, with deviations floored as the gate does."""
    deviations = [max(float(z.std(ddof=1)), sd_floor(MARGIN)) for z in (x, y)]
    squares = [deviation**2 / len(z) for deviation, z in zip(deviations, (x, y), strict=True)]
    freedom = sum(squares) ** 2 / sum(q**2 / (len(z) - 1) for q, z in zip(squares, (x, y), strict=True))
    reach = float(stats.t.ppf(1 - level, freedom)) * math.sqrt(sum(squares))
    return bool(x.mean() - y.mean() - reach > MARGIN)


CLAIMS: Mapping[str, Claim] = {"bets": bets, "pairs": pairs, "undeclared": undeclared, "student": student}


# ------------------------------------------------------------ confirmations


def of_size(claim: Claim, episodes: int) -> Confirm:
    """Return the confirmation of `episodes` a side."""

    def confirm(arm: Draw, main: Draw, level: float, rng: np.random.Generator) -> tuple[bool, int]:
        return claim(arm(rng, episodes), main(rng, episodes), level), episodes

    return confirm


def as_shipped(race: RaceConfig) -> Confirm:
    """Return the confirmation of a run, which goes on while more episodes may prove something."""
    most = race.most_confirm_episodes

    @cache
    def least(level: float) -> float:
        return least_provable_gain(level, most, margin=MARGIN, width=HIGH - LOW, paired=False)

    def confirm(arm: Draw, main: Draw, level: float, rng: np.random.Generator) -> tuple[bool, int]:
        x, y = np.empty(0), np.empty(0)
        while len(x) < most and (not len(x) or x.mean() - y.mean() > least(level)):
            more = min(race.confirm_episodes, most - len(x))
            x, y = np.append(x, arm(rng, more)), np.append(y, main(rng, more))
            if bets(x, y, level):
                return True, len(x)
        return False, len(x)

    return confirm


def confirmations(race: RaceConfig, sizes: Sequence[tuple[str, int]]) -> dict[str, Confirm]:
    """Return by the heading of its column the shipped confirmation, and those of other claims and sizes."""
    shipped = {f"bets, {race.confirm_episodes} to {race.most_confirm_episodes}": as_shipped(race)}
    return shipped | {f"{claim}, {n}": of_size(CLAIMS[claim], n) for claim, n in sizes}


# ------------------------------------------------------------ policies


def normal(mean: float, deviation: float) -> Draw:
    """Return a policy whose returns are normal, clipped to the range."""
    return lambda rng, n: rng.normal(mean, deviation, n).clip(LOW, HIGH)


def two_valued(often: float, rarely: float, share: float) -> Draw:
    """Return a policy that returns `rarely` in a share of the episodes, else `often`."""
    return lambda rng, n: np.where(rng.random(n) < share, rarely, often)


def exponential(low: float, mean: float) -> Draw:
    """Return a policy with a heavy right tail above `low`."""
    return lambda rng, n: (low + rng.exponential(mean, n)).clip(max=HIGH)


# The arm's policy and the main line's, with a gain of just the margin.
NULLS: Mapping[str, tuple[Draw, Draw]] = {
    "normal": (normal(1.5 + MARGIN, 0.5), normal(1.5, 0.5)),
    "bimodal": (two_valued(STUCK, SOLVED, 0.5 + RARE), two_valued(STUCK, SOLVED, 0.5)),
    "arm solves rarely": (two_valued(STUCK, SOLVED, RARE), two_valued(STUCK, STUCK, 0.0)),
    "main line solves rarely": (two_valued(STUCK + 2 * MARGIN, SOLVED, 0.0), two_valued(STUCK, SOLVED, RARE)),
    "rare catastrophe": (two_valued(1.143, LOW, 0.02), two_valued(STUCK, STUCK, 0.0)),
    "heavy tail": (two_valued(0.6, 0.6, 0.0), exponential(0.0, 0.5)),
}


# ------------------------------------------------------------ level


def false_adoption(
    arm: Draw, main: Draw, confirm: Confirm, race: RaceConfig, rng: np.random.Generator, races: int = RACES
) -> tuple[bool, int]:
    """Simulate a run of races in which every arm has a gain of just the margin.

    Returns:
        (whether anything was adopted, confirmations spent until then).
    """
    spent = 0
    for _ in range(races):
        best = float(main(rng, race.look_episodes).mean())  # the fork's look
        for _ in range(race.rungs):
            best = max(best, float(main(rng, race.look_episodes).mean()))
            looks = np.sort([arm(rng, race.look_episodes).mean() for _ in range(ARMS)])
            for _ in range(int((looks > best + MARGIN).sum())):
                spent += 1
                if confirm(arm, main, confirmation_level(race.error, spent), rng)[0]:
                    return True, spent
    return False, spent


def oscillating_adoptions(
    confirm: Confirm, race: RaceConfig, rng: np.random.Generator, races: int = RACES
) -> tuple[int, int, int]:
    """Simulate a run in which all policies solve a share of the episodes that is uniform in 0…1 at each rung.

    Returns:
        (adoptions, those whose true gain over their reference is not above the margin, those whose true return is not
        above that of the best main-line policy of the race so far): looks may pick the wrong reference.
    """
    adopted = false = behind = spent = 0
    for _ in range(races):
        mains: list[tuple[float, float]] = []  # (look, true share) of the main line's policies
        over = False
        for rung in range(race.rungs + 1):
            share = rng.random()
            mains.append((float(rng.binomial(race.look_episodes, share)) / race.look_episodes, share))
            if rung == 0 or over:
                continue
            look, reference = max(mains)
            shares = rng.random(ARMS)
            seen = rng.binomial(race.look_episodes, shares) / race.look_episodes
            for which in np.argsort(-seen):
                if (seen[which] - look) * (SOLVED - STUCK) <= MARGIN or over:
                    break
                spent += 1
                arm, main = (two_valued(STUCK, SOLVED, share) for share in (shares[which], reference))
                if confirm(arm, main, confirmation_level(race.error, spent), rng)[0]:
                    over = True
                    adopted += 1
                    false += bool((shares[which] - reference) * (SOLVED - STUCK) <= MARGIN)
                    behind += bool(shares[which] <= max(true for _, true in mains))
    return adopted, false, behind


# ------------------------------------------------------------ power

# What an arm may do beside a stalled main line, or one whose returns have a deviation of 0.5, a tenth of the range.
ARMS_THAT_HELP: Mapping[str, tuple[Draw, Draw]] = {
    **{
        f"stalled, {gain} margins": (normal(STUCK + gain * MARGIN, 0.02), two_valued(STUCK, STUCK, 0.0))
        for gain in (1, 2, 4, 8)
    },
    **{f"noisy, {gain} margins": (normal(1.5 + gain * MARGIN, 0.5), normal(1.5, 0.5)) for gain in (1, 2, 4, 8)},
    "stalled, 30 % solve": (two_valued(STUCK, SOLVED, 0.3), two_valued(STUCK, STUCK, 0.0)),
    "20 % solve, 60 % solve": (two_valued(STUCK, SOLVED, 0.6), two_valued(STUCK, SOLVED, 0.2)),
    "stalled, all solve": (two_valued(SOLVED, SOLVED, 0.0), two_valued(STUCK, STUCK, 0.0)),
}


def power(arm: Draw, main: Draw, confirm: Confirm, level: float, trials: int, rng: np.random.Generator) -> int:
    """Return in how many of `trials` confirmations the gain is proven at `level`."""
    return sum(confirm(arm, main, level, rng)[0] for _ in range(trials))


def episodes_needed(
    arm: Draw, main: Draw, claim: Claim, level: float, trials: int, rng: np.random.Generator
) -> int | None:
    """Return the least of SIZES with a power of 0.8 or more, by bisection; None where none of them has it."""
    short, long = 0, len(SIZES)
    while short < long:
        middle = (short + long) // 2
        enough = power(arm, main, of_size(claim, SIZES[middle]), level, trials, rng) >= 0.8 * trials
        short, long = (short, middle) if enough else (middle + 1, long)
    return SIZES[long] if long < len(SIZES) else None


# ------------------------------------------------------------ the study


def run_policy_power(trials: int, tell: Tell) -> dict[str, Any]:
    """Simulate the level in `trials` runs and the power in `trials` confirmations of each kind.

    The result is also written to `studies_out/policy-power/`; its `rows` have shares, `needed` the episodes of a side
    and the steps of both for a power of 0.8, None where 512 episodes are not enough.
    """
    race = RaceConfig()
    levels = level_rows(race, trials, tell)
    powers, needed = power_rows(race, trials, tell)
    config = example_config()
    horizon = horizon_to_plan_for(config.branches)
    gate = cost_of_intervention(config.branches, config.gate, config.adaptation, horizon).total
    heads = {name: name for name in confirmations(race, SHOWN)} | {"episodes": "episodes of a side, as shipped"}
    by_number = [[row for row in powers if row["id"].startswith(f"{number}: ")] for number in CONFIRMATIONS]
    tables = [
        markdown_table(levels, {name: name for name in level_confirmations(race)}, "false adoptions in"),
        *(
            markdown_table(rows, heads, f"power at confirmation {number}")
            for number, rows in zip(CONFIRMATIONS, by_number, strict=True)
        ),
        needed_table(needed, gate),
    ]
    table = "\n\n".join(tables)
    extra = {"needed": needed, "gate_steps": gate, "level": race.error}
    return finish_study(NAME, trials, (), [*levels, *powers], table, extra, tell)


def level_confirmations(race: RaceConfig) -> dict[str, Confirm]:
    """Return what the level is told of: the shipped confirmation, and every claim at the size that it begins with."""
    return confirmations(race, [(claim, race.confirm_episodes) for claim in CLAIMS])


def level_rows(race: RaceConfig, trials: int, tell: Tell) -> list[Row]:
    """Return the shares of runs with a false adoption, for every kind of returns and every confirmation."""
    rows, confirms = list[Row](), level_confirmations(race)
    for kind, (arm, main) in NULLS.items():
        tell(f"level, {kind}")
        for name, confirm in confirms.items():
            rng = np.random.default_rng(1)
            hits = sum(false_adoption(arm, main, confirm, race, rng)[0] for _ in range(trials))
            rows.append(result_row(f"{kind}.{name}", "runs with a false adoption", trials, *rare_ci(hits, trials)))
    for name, confirm in confirms.items():
        rng = np.random.default_rng(1)
        runs = [oscillating_adoptions(confirm, race, rng) for _ in range(trials)]
        hits = sum(false > 0 for _, false, _ in runs)
        rows.append(result_row(f"oscillating.{name}", "runs with a false adoption", trials, *rare_ci(hits, trials)))
        adopted, behind = (sum(run[i] for run in runs) for i in (0, 2))
        statement = "adoptions that are not above the main line's true best of the race"
        row = result_row(f"oscillating, behind the best.{name}", statement, adopted, *rare_ci(behind, adopted))
        rows.append(row)
    return rows


def power_rows(
    race: RaceConfig, trials: int, tell: Tell
) -> tuple[list[Row], dict[str, dict[str, dict[str, int | None]]]]:
    """Return the rows of power, and by kind of arm, claim and confirmation the episodes needed for 0.8."""
    rows: list[Row] = []
    needed: dict[str, dict[str, dict[str, int | None]]] = {}
    for kind, (arm, main) in ARMS_THAT_HELP.items():
        tell(f"power, {kind}")
        needed[kind] = {"bets": {}, "student": {}}
        for number in CONFIRMATIONS:
            level = confirmation_level(race.error, number)
            for which, (name, confirm) in enumerate(confirmations(race, SHOWN).items()):
                rng = np.random.default_rng(1)
                found = [confirm(arm, main, level, rng) for _ in range(trials)]
                share = share_ci(sum(proven for proven, _ in found), trials)
                rows.append(result_row(f"{number}: {kind}.{name}", f"proven at confirmation {number}", trials, *share))
                if which == 0:
                    mean = mean_ci([episodes for _, episodes in found])
                    rows.append(result_row(f"{number}: {kind}.episodes", "episodes of a side", trials, *mean))
            for name in needed[kind] if "1 margins" not in kind else ():  # a gain of the margin is not to be proven
                rng = np.random.default_rng(1)
                needed[kind][name][str(number)] = episodes_needed(arm, main, CLAIMS[name], level, trials, rng)
    return rows, needed


def needed_table(needed: Mapping[str, Mapping[str, Mapping[str, int | None]]], gate: int) -> str:
    """Return in Markdown the episodes of a side for a power of 0.8, and the steps of both sides beside the gate's."""
    heads = [f"{claim}, confirmation {number}" for claim in ("bets", "student") for number in CONFIRMATIONS]
    lines = [f"| episodes of a side for a power of 0.8 | {' | '.join(heads)} | steps, bets, first |"]
    lines.append("|" + "---|" * (len(heads) + 2))
    for kind, claims in needed.items():
        if "1 margins" in kind:
            continue
        numbers = [claims[claim][str(number)] for claim in ("bets", "student") for number in CONFIRMATIONS]
        first = numbers[0]
        steps = "–" if first is None else f"{2 * first * EPISODE_STEPS:,}"
        lines.append(f"| {kind} | {' | '.join('–' if n is None else str(n) for n in numbers)} | {steps} |")
    lines += ["", f"One round of the gate for signals costs {gate:,} steps."]
    return "\n".join(lines)
