"""`cosignal study signals`: what each kind of signal that is fitted to experience is worth, alone and in the loop.

Kinds: those of `learned_signals` (what a model would judge is judged by the run's own outcomes here, which is no model:
the rows say what a kind does with such answers, and nothing about any model), and what is no signal but
another way to learn: `learner`, a network for every agent, `advantage_norm`, advantages normalised for every agent, and
`blend`, factors of the terms that are in force.

Arms, on the same seeds:

* `plain`           training on the sparse reward
* `alone`           the kind from the start, fitted anew every `REFIT` main steps to episodes of the policy as it is,
                    and put in force without a gate; what is played for it counts in total steps. What is no
                    signal comes beside the signal of the config
* `rules`           the loop with the embedded rules
* `rules_and_kind`  the same, with the kind as one of the candidates; what is no signal the rules propose by themselves

Tasks: those built for a kind (`late_pay`: twenty agents, paid in the last of 40 steps; `chain`: a small reward near and
a large one far; `stations`: agents that observe the same; `scales`: agents that are paid 1 and 100 for what they do
themselves; `misled`: a shorter chain under a signal whose sign is wrong), Victim-Rubble, and LBF 8x8-2p-2f-coop. All
arms of a task have the same trainer and budget of main steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.run_config import RunConfig
from ..errors import ConfigError
from ..rl.fitting.fit import fit_signals
from ..rl.processes import one_thread
from ..rl.signals.learned.config import FIT_KINDS, FitKind, LearnedSignalsConfig
from ..rl.signals.learned.outcome_judge import NAME as OUTCOME
from ..rl.signals.learner_settings import LearnerSettings
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
# what is no signal, by its name
LEARNERS: Mapping[str, LearnerSettings] = {
    "learner": LearnerSettings(share_parameters=False),
    "advantage_norm": LearnerSettings(advantage_norm="agent"),
    "blend": LearnerSettings(blend_lr=0.2),
}
KINDS = (*FIT_KINDS, *LEARNERS)
ARMS = ("plain", "alone", "rules", "rules_and_kind")
REFIT = 50_000  # main steps
BUILT_FOR: Mapping[str, str] = {
    "return_decomposition": "late_pay",
    "named_states": "chain",
    "step_rewards": "late_pay",
    **dict.fromkeys(("message_hash", "message_classifier", "message_ranking", "progress", "goal_similarity"), "chain"),
    "learner": "stations",
    "advantage_norm": "scales",
    "blend": "misled",
}
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
                found = [Outcome(**{**one.as_dict(), "arm": name}) for one in run_arm(arm, kind, configs, tell)]
                rows += arm_rows(name, found)
                outcomes += found
    options = [f"--task {task}" for task in tasks] + [f"--kind {kind}" for kind in kinds]
    extra = {"outcomes": [outcome.as_dict() for outcome in outcomes], "refit": REFIT, "built_for": dict(BUILT_FOR)}
    return finish_study(NAME, seeds, arms, rows, markdown_table(rows), extra, tell, first_seed, options)


def run_arm(arm: str, kind: str, configs: Sequence[RunConfig], tell: Tell) -> list[Outcome]:
    """Run an arm on every config, with this kind where the arm has one."""
    if arm == "plain":
        return run_lines([plain_arm(configs[0])], configs, tell)
    if arm == "alone":
        return [Outcome(**value) for value in run_jobs([alone_job(config, kind) for config in configs], tell)]
    runs = [LoopArm(arm, with_kind(config, kind)) for config in configs]
    return [run.outcome for run in run_loops(runs, tell)]


# ---------------------------------------------------------------- configs


def late_pay_config(base: RunConfig) -> RunConfig:
    """Return the example's loop on the task that is paid late, for 400,000 main steps."""
    return small_task(base, {"env": "cosignal.studies.late_pay:LatePay"})


def chain_config(base: RunConfig) -> RunConfig:
    """Return the example's loop on the deceptive chain, for 400,000 main steps."""
    return small_task(base, {"env": "cosignal.studies.chain:Chain"})


def stations_config(base: RunConfig) -> RunConfig:
    """Return the example's loop on the task whose agents observe the same, for 400,000 main steps."""
    return small_task(base, {"env": "cosignal.studies.stations:Stations", "agent_ids": False})


def scales_config(base: RunConfig) -> RunConfig:
    """Return the example's loop on the task whose agents are paid 1 and 100 for their own events."""
    config = small_task(base, {"env": "cosignal.studies.scales:Scales"})
    return config.model_copy(update={"trainer": config.trainer.model_copy(update={"reward": "individual"})})


def misled_config(base: RunConfig) -> RunConfig:
    """Return the example's loop on a chain of five cells, with a table in force whose worths have the wrong sign."""
    config = small_task(base, {"env": "cosignal.studies.chain:Chain", "env_args": {"length": 5}})
    settings = config.model_dump(mode="json")
    rows = [{"when": f"cell > {cell}.5", "worth": -1.0} for cell in range(4)]
    table = {"kind": "table", "name": "wrong", "rows": rows, "weight": 0.5, "agents": "agents", "decay_steps": 10**9}
    settings["signal"] |= {"beta": 0.5, "terms": [table]}
    settings["trainer"]["ippo"]["lr"] = 2e-4
    return RunConfig.model_validate(settings)


def small_task(base: RunConfig, task: Json) -> RunConfig:
    """Return the example's loop on a task of short episodes, for 400,000 main steps."""
    settings = base.model_dump(mode="json")
    settings["task"] = task
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
    "chain": chain_config,
    "stations": stations_config,
    "scales": scales_config,
    "misled": misled_config,
    "victim_rubble": victim_rubble_config,
    "8x8-2p-2f-coop": foraging_config,
}


def with_kind(config: RunConfig, kind: str) -> RunConfig:
    """Return the config of a loop to which a kind of fit makes proposals, too; as it is for what is no fit."""
    if kind not in FIT_KINDS:
        return config
    settings = config.model_dump(mode="json")
    settings["learned_signals"][kind]["enabled"] = True
    if "judge" in settings["learned_signals"][kind]:
        settings["learned_signals"][kind]["judge"] = OUTCOME
    return RunConfig.model_validate(settings)


# ---------------------------------------------------------------- the kind alone


def alone_job(config: RunConfig, kind: str) -> Job:
    """Return the job of one seed of a line under a kind of signal, without a loop."""
    config = with_kind(config, kind)
    content = {
        "config": {**config.model_dump(mode="json", exclude={"run_dir", "llm"}), "adaptation": {"enabled": False}},
        "kind": kind,
        "refit": REFIT,
    }
    return Job("alone", content, work_alone, f"{kind} alone seed {config.seed}", summarise_outcome)


def work_alone(content: Json, folder: Path) -> Json:
    """Train one seed; a fit that is not good enough changes nothing."""
    one_thread()
    config, kind = RunConfig.model_validate(content["config"]), content["kind"]
    line = TrainingLine(config.training(), scorers=Scorers(folder / FOLDER))
    if kind in LEARNERS:
        line.apply_signal(line.signal.model_copy(update={"version": 1, "learner": LEARNERS[kind]}))
    points, played, fits = list[Point](), 0, 0
    while line.steps_main < config.trainer.steps:
        if kind not in LEARNERS and line.steps_main // content["refit"] >= fits:
            fits += 1
            played += refit(line, kind, config.learned_signals, fits)
        row = line.update().row
        points.append(Point(line.steps_main, line.steps_main + played, row["success"]))
    outcome = outcome_of_line(line, "alone", config.seed, points, line.steps_main, line.steps_main + played)
    line.close()
    return outcome.as_dict()


def refit(line: TrainingLine, kind: FitKind, config: LearnedSignalsConfig, number: int) -> int:
    """Put in force what is fitted to the policy as it is, where it is good enough; return the steps played."""
    found = fit_signals(line, (kind,), config, line.config.seed * 1_000 + number, line.scorers)
    if config.of(kind).accepts(found.fits[kind]):
        line.apply_signal(Signal(version=number, beta=1.0, terms=found.fits[kind].terms))
    return found.steps
