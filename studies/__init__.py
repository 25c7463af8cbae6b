"""Comparisons that anyone can run again: `cosignal study NAME`.

| name | what it compares |
|---|---|
| two-switch | the loop with plain training, restarts and blind shaping |
| adversary | a run whose provider means harm with plain training of the same seed |
| gate-trials | single rounds of the gate with harmful candidates, from snapshots at several competences |
| policy-power | level and power of the policy claim, by simulation |
| economy | what the ideas that make validation cheaper save |
| stages | a loop that knows the stage of learning with loops that are told the same one for ever |
| dip | what taking shaping away costs, with and without the exact offset of the critic |
| lca | the figures of LCA, a paper this builds on, that need no hosted model |
| race | races of policies with plain training, restarts and the gate |
| race-harm | what adopted policies are worth later, beside a twin of the run that goes on without them |
| ranking | what the numbers of a proposal, before any training, say of what training under it brings |
| curves | plain training on LBF and RWARE by EPyMARL's protocol with published figures |
| signals | kinds of signals that are fitted to experience, alone and as candidates of the loop |
| union | ranking moves (LCA) and validated adaptation together, and either alone |

Modules, in reading order:

`outcome`      the outcome of one seed, when it first solved its task, and 95 % intervals over seeds
`report`       rows of measured things, as JSON and as a Markdown table
`job_cache`    jobs in processes of their own, cached, so that a study that was interrupted goes on where it was
`line_arms`    arms that are one training line, without a loop
`loop_arms`    arms that are whole runs of the loop
`two_switch`, `economy`, `stages`, `dip`, `union`, `race`, `ranking`, `curves`, `signals`    a study each
`late_pay`     the task of the study signals on which a reward comes late
`adversary/`   the studies adversary, gate-trials, policy-power and race-harm
`lca/`         the study lca
`bench/`       measurements of this machine: `cosignal bench NAME`

Flow of a study: its `run_…` makes a job for each arm and seed, `run_jobs` returns their values (from the cache where it
can), rows are made of them, and `finish_study` writes the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError


class Study(NamedTuple):
    """The place of a study, and what its command takes besides `--seeds`.

    Attributes:
        module: of this package.
        function: of that module; it runs the study.
        seeds: how many seeds (or trials) where none are asked for.
        options: of the command.
        counts: what `--seeds` counts; the name of the function's argument.
    """

    module: str
    function: str
    seeds: int
    options: tuple[str, ...]
    counts: str = "seeds"


STUDIES = {
    "two-switch": Study("two_switch", "run_two_switch", 10, ("--arm", "--first-seed")),
    "adversary": Study("adversary.study", "run_adversary", 10, ("--arm", "--first-seed")),
    "gate-trials": Study("adversary.gate_trials", "run_gate_trials", 72, ("--arm",), counts="trials"),
    "policy-power": Study("adversary.policy_power", "run_policy_power", 100, (), counts="trials"),
    "economy": Study("economy", "run_economy", 10, ("--arm", "--first-seed")),
    "stages": Study("stages", "run_stages", 10, ("--arm", "--first-seed")),
    "dip": Study("dip", "run_dip", 8, ()),
    "lca": Study("lca.study", "run_lca", 5, ("--first-seed", "--figure", "--task")),
    "union": Study("union", "run_union", 5, ("--arm", "--first-seed")),
    "ranking": Study("ranking", "run_ranking", 3, ("--first-seed", "--task")),
    "race-harm": Study("adversary.race_harm", "run_race_harm", 40, ("--arm", "--first-seed", "--task", "--proposals")),
    "curves": Study("curves", "run_curves", 5, ("--arm", "--first-seed", "--task", "--algorithm", "--steps", "--set")),
    "signals": Study("signals", "run_signals", 5, ("--arm", "--first-seed", "--task", "--kind")),
    "race": Study("race", "run_race", 20, ("--arm", "--first-seed", "--task", "--proposals", "--stalled")),
}
NAMES = tuple(STUDIES)


def run_study(
    name: str,
    seeds: int | None,
    arms: Sequence[str],
    tell: Callable[[str], None],
    first_seed: int | None = None,
    figures: Sequence[int] = (),
    tasks: Sequence[str] = (),
    proposals: Path | None = None,
    stalled: int | None = None,
    algorithms: Sequence[str] = (),
    steps: int | None = None,
    overrides: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a study, and return `name, command, commit, rows` and more as plain data.

    Args:
        name: one of NAMES.
        seeds: how many; the study's own number where None.
        arms: some of the study's arms, its usual ones where empty.
        tell: is given lines of progress, and the table at the end.
        first_seed: the first seed; the study's own where None.
        figures: of the study lca, all where empty.
        tasks: of the studies lca, ranking, curves and signals, all where empty; of the studies race and race-harm one.
        proposals: file of the signals that the studies race and race-harm try.
        stalled: how many seeds of the study race are to stall.
        algorithms: whose arms the study curves runs.
        steps: main steps of a run of the study curves.
        kinds: of signals that the study signals compares, all where empty.
        overrides: keys of the configs of the study curves, each `dotted.key=value`.

    Raises:
        ConfigError: the name or an arm is unknown, or the study has no such option.
    """
    if name not in STUDIES:
        raise ConfigError(f"study must be one of {', '.join(NAMES)}, got {name!r}; name one of them")
    study = STUDIES[name]
    # every option that was used, and its values
    asked: Mapping[str, Sequence[Any]] = {
        "--figure": figures,
        "--task": tasks,
        "--proposals": () if proposals is None else (str(proposals),),
        "--stalled": () if stalled is None else (stalled,),
        "--algorithm": algorithms,
        "--steps": () if steps is None else (steps,),
        "--set": overrides,
        "--kind": kinds,
        "--first-seed": () if first_seed in (None, 1) else (first_seed,),
        "--arm": arms,
    }
    for option, values in asked.items():
        if values and option not in study.options:
            raise ConfigError(f"{option}: the study {name!r} has no such option, got {values[0]!r}; leave it out")
    # functions of studies take their arguments by these names
    keywords: dict[str, Any] = {study.counts: seeds or study.seeds, "tell": tell}
    if "--arm" in study.options:
        keywords["arms"] = arms
    if "--figure" in study.options:
        keywords["figures"] = figures
    if "--task" in study.options:
        keywords["tasks"] = tasks
    if "--proposals" in study.options:
        keywords["proposals"] = proposals
    if "--stalled" in study.options:
        keywords["stalled"] = stalled
    if "--algorithm" in study.options:
        keywords["algorithms"] = algorithms
    if "--steps" in study.options:
        keywords["steps"] = steps
    if "--kind" in study.options:
        keywords["kinds"] = kinds
    if "--set" in study.options:
        keywords["overrides"] = overrides
    if first_seed is not None and name in ("lca", "ranking", "race", "race-harm", "curves", "signals"):
        keywords["first_seed"] = first_seed
    elif first_seed is not None and "--first-seed" in study.options:
        from .report import example_config  # imports the config, which `cosignal --help` does without

        keywords["base"] = example_config(first_seed)
    run: Callable[..., dict[str, Any]] = getattr(import_module(f".{study.module}", __package__), study.function)
    return run(**keywords)
