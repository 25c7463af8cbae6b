"""`cosignal study signals`: what each kind of signal that is fitted to experience is worth, alone and in the loop.

Kinds: `decomposition` (return decomposition, `rl.signals.learned.return_decomposition`).

Arms, on the same seeds:

* `plain`           training on the sparse reward
* `alone`           the kind from the start, fitted anew every `REFIT` main steps to episodes of the policy as it is,
                    and put in force without a gate; what is played for it counts in total steps
* `rules`           the loop with the embedded rules
* `rules_and_kind`  the same, with the kind as one of the candidates where credit is unclear

Tasks: one that is built for the kind (`late_pay`: twenty agents, paid in the last of 40 steps), Victim-Rubble, and LBF
8x8-2p-2f-coop. All arms of a task have the same trainer and budget of main steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.run_config import RunConfig
from ..errors import ConfigError, SignalError, TrainingDiverged
from ..rl.processes import one_thread
from ..rl.signals.learned.config import DecompositionConfig
from ..rl.signals.learned.episodes import play_episodes
from ..rl.signals.learned.return_decomposition import decompose_returns
from ..rl.signals.scorer import FOLDER, Scorers
from ..rl.signals.signal import Signal
from ..rl.training.line import TrainingLine
from . import union
from .job_cache import Job, run_jobs
from .line_arms import outcome_of_line, run_lines
from .loop_arms import LoopArm, run_loops
from .outcome import Outcome, Point, summarise_outcome
from .report import Tell, example_config, finish_study, known_arms, markdown_table
from .two_switch import arm_rows, plain_arm, seeded

NAME = "signals"
KINDS = ("decomposition",)
ARMS = ("plain", "alone", "rules", "rules_and_kind")
REFIT = 50_000  # main steps
FIT = DecompositionConfig()
BUILT_FOR: Mapping[str, str] = {"decomposition": "late_pay"}
Json = dict[str, Any]


def run_signals(
    seeds: int,
    arms: Sequence[str],
    tell: Tell,
    tasks: Sequence[str] = (),
    kinds: Sequence[str] = (),
    first_seed: int = 1,
    base: RunConfig | None = None,
) -> Json:
    """Run the arms of every kind on every task; the result is also written to `studies_out/signals/`.

    Args:
        seeds: how many of each.
        arms: some of ARMS, all where none is named.
        tell: is given lines of progress.
        tasks: some of TASKS, all where none is named.
        kinds: some of KINDS, all where none is named.
        first_seed: the first of the seeds.
        base: config in place of the shipped example's.

    Raises:
        ConfigError: an arm, a task or a kind is unknown.
    """
    for option, given, known in (("--task", tasks, tuple(TASKS)), ("--kind", kinds, KINDS)):
        if unknown := [name for name in given if name not in known]:
            raise ConfigError(f"{option}: must be one of {', '.join(known)}, got {unknown[0]!r}; correct it")
    wanted = known_arms(arms, ARMS)
    base = (base or example_config()).model_copy(update={"seed": first_seed})
    rows, outcomes = [], list[Outcome]()
    for task in tasks or TASKS:
        configs = seeded(TASKS[task](base), seeds)
        for arm in wanted:
            # arms without a kind run once
            for kind in (kinds or KINDS) if arm in ("alone", "rules_and_kind") else ("",):
                name = " ".join(part for part in (task, arm, kind) if part)
                found = [Outcome(**{**one.as_dict(), "arm": name}) for one in run_arm(arm, configs, tell)]
                rows += arm_rows(name, found)
                outcomes += found
    options = [f"--task {task}" for task in tasks] + [f"--kind {kind}" for kind in kinds]
    extra = {"outcomes": [outcome.as_dict() for outcome in outcomes], "refit": REFIT, "built_for": dict(BUILT_FOR)}
    return finish_study(NAME, seeds, arms, rows, markdown_table(rows), extra, tell, first_seed, options)


def run_arm(arm: str, configs: Sequence[RunConfig], tell: Tell) -> list[Outcome]:
    """Run an arm on every config."""
    if arm == "plain":
        return run_lines([plain_arm(configs[0])], configs, tell)
    if arm == "alone":
        return [Outcome(**value) for value in run_jobs([alone_job(config) for config in configs], tell)]
    runs = [LoopArm(arm, config if arm == "rules" else with_kind(config)) for config in configs]
    return [run.outcome for run in run_loops(runs, tell)]


# ---------------------------------------------------------------- configs


def late_pay_config(base: RunConfig) -> RunConfig:
    """Return the example's loop on the task that is paid late, for 400,000 main steps."""
    settings = base.model_dump(mode="json")
    settings["task"] = {"env": "cosignal.studies.late_pay:LatePay"}
    settings["trainer"] |= {"steps": 400_000, "envs": 16, "rollout": 40}
    settings["adaptation"] |= {"interval": 20_000, "patience": 40_000}
    settings["gate"] |= {"claim": "policy"}
    return RunConfig.model_validate(settings)


def foraging_config(base: RunConfig) -> RunConfig:
    """Return the example's loop on LBF 8x8-2p-2f-coop."""
    settings = base.model_dump(mode="json")
    settings["task"] = {"name": "lbf"}
    settings["gate"] |= {"claim": "policy"}
    return RunConfig.model_validate(settings)


def victim_rubble_config(base: RunConfig) -> RunConfig:
    """Return the loop of the study union on Victim-Rubble, whose claim is that of a race."""
    config = union.task_config(base)
    return config.model_copy(update={"gate": config.gate.model_copy(update={"claim": "policy"})})


TASKS: Mapping[str, Callable[[RunConfig], RunConfig]] = {
    "late_pay": late_pay_config,
    "victim_rubble": victim_rubble_config,
    "8x8-2p-2f-coop": foraging_config,
}


def with_kind(config: RunConfig) -> RunConfig:
    """Return the config of a loop to which return decomposition makes proposals, too."""
    settings = config.model_dump(mode="json")
    settings["learned_signals"]["return_decomposition"]["enabled"] = True
    return RunConfig.model_validate(settings)


# ---------------------------------------------------------------- the kind alone


def alone_job(config: RunConfig) -> Job:
    """Return the job of one seed of a line under shares in the return, without a loop."""
    content = {
        "config": {**config.model_dump(mode="json", exclude={"run_dir", "llm"}), "adaptation": {"enabled": False}},
        "fit": FIT.model_dump(mode="json"),
        "refit": REFIT,
    }
    return Job("alone", content, work_alone, f"alone seed {config.seed}", summarise_outcome)


def work_alone(content: Json, folder: Path) -> Json:
    """Train one seed; a fit that explains too little changes nothing."""
    one_thread()
    config, fit = RunConfig.model_validate(content["config"]), DecompositionConfig.model_validate(content["fit"])
    line = TrainingLine(config.training(), scorers=Scorers(folder / FOLDER))
    points, played, fits = list[Point](), 0, 0
    while line.steps_main < config.trainer.steps:
        if line.steps_main // content["refit"] >= fits:
            fits += 1
            played += refit(line, fit, fits)
        row = line.update().row
        points.append(Point(line.steps_main, line.steps_main + played, row["success"]))
    outcome = outcome_of_line(line, "alone", config.seed, points, line.steps_main, line.steps_main + played)
    line.close()
    return outcome.as_dict()


def refit(line: TrainingLine, fit: DecompositionConfig, number: int) -> int:
    """Put shares in force that are fitted to the policy as it is, where they explain enough; return steps played."""
    learner = line.learner
    seed = line.config.seed * 1_000 + number
    number, observations = fit.episodes, fit.reads_observations
    episodes = play_episodes(line.config.task, learner, learner.new_rnn_states, number, seed, observations)
    try:
        found = decompose_returns(line.spec, episodes, fit, seed)
    except (SignalError, TrainingDiverged):  # such as that returns do not differ yet
        return episodes.steps
    if found.explained >= fit.least_explained:
        terms = fit.terms(line.spec, {g: line.scorers.add(scorer) for g, scorer in enumerate(found.scorers)})
        line.apply_signal(Signal(version=number, beta=1.0, terms=tuple(terms)))
    return episodes.steps
