"""`cosignal study union`: what ranking single moves (LCA) and validated adaptation are worth together.

Victim-Rubble, where plain IPPO settles for what each agent can do by itself. Arms, on the same seeds and main steps:

* `plain`   IPPO on the sparse reward
* `lca`     scorers fitted before the first step to moves of play in which the task's heuristic takes part, in force
            for ever, without any branch
* `lca_unaided`  the same, but that nobody plays the heuristic: moves of the untrained policy, as many as `union` ranks
* `loop`    the rules propose, the gate decides; nobody ranks moves
* `union`   besides, where credit is unclear moves of the current policy and of its rehearsals are ranked, and what is
            fitted to the rankings is offered to the gate as one proposal more; nobody plays the heuristic

`lca_noisy` and `union_noisy` (on request) are told the truth about seven moves of ten.

The ranker is an oracle, the heuristic that the task carries: nothing here says how well a language model ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ..config.run_config import RunConfig
from ..graphs.nodes.rank_transitions import LEARNED_TITLE
from ..graphs.preference_jobs import PLAYED_PER_RANKED
from ..rl.preferences.collect import sampling
from ..rl.processes import one_thread
from ..rl.training.line import TrainingLine
from .job_cache import Job, run_jobs
from .lca.arms import TASKS, LcaArm, LcaTask
from .lca.curves import fit_scorers, pay_by
from .line_arms import outcome_of_line, run_lines
from .loop_arms import LoopArm, LoopRun, run_loops
from .outcome import Outcome, Point, mean_ci, summarise_outcome
from .report import Row, Tell, example_config, finish_study, known_arms, markdown_table, result_row
from .two_switch import arm_rows, plain_arm, seeded

NAME = "union"
ARMS = ("plain", "lca", "lca_unaided", "loop", "union", "lca_noisy", "union_noisy")
TASK = TASKS["victim_rubble"]
PAIRS, ROUNDS = 1_000, 6  # that the union ranks
ACCURACY = {"lca": 1.0, "lca_unaided": 1.0, "lca_noisy": 0.7, "union": 1.0, "union_noisy": 0.7}  # of the votes
COLUMNS = {
    "solved": "share solved", "main_to_90": "main steps to 90 %", "total_to_90": "total steps to 90 %",
    "final_return": "final sparse return", "steps_total": "total steps of a run", "promotions": "promotions",
    "learned": "of them learned",
}  # fmt: skip


def run_union(seeds: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """Run the named arms, the first five where none is named; the result is also written to `studies_out/union/`.

    Args:
        seeds: how many, from the seed of `base` on.
        arms: some of ARMS.
        tell: is given lines of progress.
        base: its seed is the first one; another config than the study's own is for tests.

    Raises:
        ConfigError: an arm is unknown.
    """
    base = base or example_config()
    config = base if base.task.name == TASK.name else task_config(base)
    wanted = known_arms(arms, ARMS, ARMS[:5])
    configs = seeded(config, seeds)
    outcomes = run_lines([plain_arm(config)] if "plain" in wanted else [], configs, tell)
    # LCA alone: lines under scorers that were fitted before the first step
    lca_arms = [arm for arm in wanted if arm.startswith("lca") for _ in configs]
    values = run_jobs([lca_job(arm, c) for arm in wanted if arm.startswith("lca") for c in configs], tell)
    outcomes += [Outcome(**{**value, "arm": arm}) for arm, value in zip(lca_arms, values, strict=True)]
    loops = [
        LoopArm(arm, config if arm == "loop" else ranked_config(arm, config))
        for arm in wanted
        if arm in ("loop", "union", "union_noisy")
        for config in configs
    ]
    runs = run_loops(loops, tell)
    rows = union_rows([*outcomes, *(run.outcome for run in runs)], runs, wanted)
    extra = {"outcomes": [o.as_dict() for o in outcomes], "seeds": [r.outcome.as_dict() | r.details for r in runs]}
    return finish_study(NAME, seeds, arms, rows, markdown_table(rows, COLUMNS), extra, tell, config.seed)


def task_config(base: RunConfig) -> RunConfig:
    """Return the shipped example's loop on Victim-Rubble.

    Its trainer is that of the study lca, and its branches are half as long as a whole run is there.
    """
    settings = base.model_dump(mode="json")
    settings["task"] = {"name": TASK.name}
    settings["trainer"] |= {"steps": 800_000, "envs": 8, "rollout": 128}
    settings["trainer"]["ippo"] |= {"epochs": 10, "lr": 5e-4}
    settings["adaptation"] |= {"patience": 150_000}
    settings["branches"] |= {"horizon": 100_000}
    settings["preferences"] |= {"form": "difference"}  # as in LCA
    return RunConfig.model_validate(settings)


def ranked_config(arm: str, config: RunConfig) -> RunConfig:
    """Return the config of a loop for which the task's heuristic ranks moves, as accurately as the arm says."""
    preferences = {"ranker": "task_heuristic", "accuracy": ACCURACY[arm], "pairs": PAIRS, "rounds": ROUNDS}
    return config.model_copy(update={"preferences": config.preferences.model_copy(update=preferences)})


# ---------------------------------------------------------------- LCA alone


def lca_job(arm: str, config: RunConfig) -> Job:
    """Return the job of one seed of LCA alone."""
    aided = arm != "lca_unaided"
    # unaided with as many pairs as `union` ranks at most
    task = TASK if aided else replace(TASK, counts=tuple(PAIRS * ROUNDS for _ in TASK.counts))
    content = {
        "config": config.model_dump(mode="json", exclude={"run_dir", "llm"}), "accuracy": ACCURACY[arm],
        "task": asdict(task), "aided": aided,
    }  # fmt: skip
    return Job("union-lca", content, work_lca, f"{arm} seed {config.seed}", summarise_outcome)


def work_lca(content: dict[str, Any], _folder: Path) -> dict[str, Any]:
    """Do the work of an `lca_job`."""
    one_thread()
    config = RunConfig.model_validate(content["config"])
    task = replace(TASK, counts=tuple(content["task"]["counts"]))
    return train_lca(config, task, content["accuracy"], content["aided"]).as_dict()


def train_lca(config: RunConfig, task: LcaTask, accuracy: float, aided: bool) -> Outcome:
    """Fit scorers, then train a line that is paid by them from its first step on.

    Args:
        config: of the line.
        task: how many pairs are ranked.
        accuracy: of the votes that the scorers are fitted to.
        aided: whether the heuristic plays the moves that are ranked; else the untrained policy does.

    Returns:
        The outcome, whose total steps count what was played for pairs.
    """
    line, arm = TrainingLine(config.training()), LcaArm("lca", "LCA", queries=1, accuracy=accuracy)
    generator = torch.Generator().manual_seed(line.config.seed)
    # moves are played before the first step, and count as steps
    if aided:
        fits, played = fit_scorers(task, arm, config.seed)
    else:
        fits, played = fit_scorers(task, arm, config.seed, sampling(line.learner, generator), PLAYED_PER_RANKED)
    pay_by(line, fits)
    points = list[Point]()
    while line.steps_main < config.trainer.steps:
        success = line.update().row["success"]
        points.append(Point(line.steps_main, line.steps_main + played, success))
    return outcome_of_line(line, "lca", config.seed, points, line.steps_main, line.steps_main + played)


# ---------------------------------------------------------------- results


def union_rows(outcomes: Sequence[Outcome], runs: Sequence[LoopRun], arms: Sequence[str]) -> list[Row]:
    """Return the rows of each arm, those of its promotions where it is a loop, and the comparisons."""
    by_arm = {arm: sorted((o for o in outcomes if o.arm == arm), key=lambda o: o.seed) for arm in arms}
    rows = [row for arm in arms for row in arm_rows(arm, by_arm[arm])]
    for arm in arms:
        accepted = [
            [decision for decision in run.details["decisions"] if decision["verdict"] == "accept"]
            for run in runs
            if run.outcome.arm == arm
        ]
        if accepted:
            learned = [sum(decision["title"] == LEARNED_TITLE for decision in decisions) for decisions in accepted]
            promotions, n = [len(decisions) for decisions in accepted], len(accepted)
            rows.append(result_row(f"{arm}.promotions", "promotions of a run", n, *mean_ci(promotions)))
            rows.append(result_row(f"{arm}.learned", "promotions of what the Ranker prefers", n, *mean_ci(learned)))
    halves = [alone for alone in ("lca", "lca_unaided", "loop") if {alone, "union"} <= set(arms)]
    rows += [comparison_row(alone, by_arm) for alone in halves]
    if {"lca_noisy", "union_noisy"} <= set(arms):
        rows.append(comparison_row("lca_noisy", by_arm, "union_noisy"))
    return rows


def comparison_row(alone: str, by_arm: Mapping[str, Sequence[Outcome]], union: str = "union") -> Row:
    """Return the union's final sparse return minus that of one of its halves, paired by seed."""
    pairs = zip(by_arm[union], by_arm[alone], strict=True)
    mean, (low, high) = mean_ci([together.final_return - one.final_return for together, one in pairs])
    verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    statement = "final sparse return, paired by seed"
    return result_row(f"{union} against {alone}", statement, len(by_arm[alone]), mean, (low, high), verdict)
