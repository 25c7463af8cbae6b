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
from ..rl.preferences.collect import Act
from ..rl.processes import one_thread
from ..rl.task import ActionArray, BoolArray, FloatArray
from ..rl.training.evaluate import Evaluator
from ..rl.training.line import TrainingLine
from .job_cache import Job, run_jobs
from .lca.arms import TASKS, LcaArm, LcaTask
from .lca.curves import fit_scorers, pay_by
from .line_arms import FINAL_EPISODES, FINAL_SEED, run_lines
from .loop_arms import LoopArm, LoopRun, run_loops
from .outcome import Outcome, Point, first_solved, mean_ci, told
from .report import Row, Tell, example_config, finished, known_arms, row, table
from .two_switch import arm_rows, plain_arm

NAME = "union"
ARMS = ("plain", "lca", "lca_unaided", "loop", "union", "lca_noisy", "union_noisy")
TASK = TASKS["victim_rubble"]
PAIRS, ROUNDS = 1_000, 6  # that the union ranks
ACCURACY = {"lca": 1.0, "lca_unaided": 1.0, "lca_noisy": 0.7, "union": 1.0, "union_noisy": 0.7}
COLUMNS = {
    "solved": "share solved", "main_to_90": "main steps to 90 %", "total_to_90": "total steps to 90 %",
    "final_return": "final sparse return", "steps_total": "total steps of a run", "promotions": "promotions",
    "learned": "of them learned",
}  # fmt: skip


def run_union(seeds: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """The named arms, the first five where none is named; results as plain data, also written to `studies_out/union/`.

    `base`: its seed is the first one; another config than the study's own is for tests.
    """
    base = base or example_config()
    config = base if base.task.name == TASK.name else task_config(base)
    wanted = known_arms(arms, ARMS, ARMS[:5])
    configs = [config.model_copy(update={"seed": config.seed + i}) for i in range(seeds)]
    outcomes = run_lines([plain_arm(config)] if "plain" in wanted else [], configs, tell)
    outcomes += _run_lca([arm for arm in wanted if arm.startswith("lca")], configs, tell)
    loops = [
        LoopArm(arm, _ranked(arm, c)) for arm in wanted if arm in ("loop", "union", "union_noisy") for c in configs
    ]
    runs = run_loops(loops, tell)
    rows = _rows([*outcomes, *(run.outcome for run in runs)], runs, wanted)
    more = {"outcomes": [o.as_dict() for o in outcomes], "seeds": [r.outcome.as_dict() | r.details for r in runs]}
    return finished(NAME, seeds, arms, rows, table(rows, COLUMNS), more, tell, config.seed)


def task_config(base: RunConfig) -> RunConfig:
    """The shipped example's loop on Victim-Rubble, with the trainer of the study lca and branches half as long as a
    whole run is there."""
    settings = base.model_dump(mode="json")
    settings["task"] = {"name": TASK.name}
    settings["trainer"] |= {"steps": 800_000, "envs": 8, "rollout": 128}
    settings["trainer"]["ippo"] |= {"epochs": 10, "lr": 5e-4}
    settings["adaptation"] |= {"patience": 150_000}
    settings["branches"] |= {"horizon": 100_000}
    settings["preferences"] |= {"form": "difference"}  # as in LCA
    return RunConfig.model_validate(settings)


def _ranked(arm: str, config: RunConfig) -> RunConfig:
    if arm == "loop":
        return config
    preferences = {"ranker": "task_heuristic", "accuracy": ACCURACY[arm], "pairs": PAIRS, "rounds": ROUNDS}
    return config.model_copy(update={"preferences": config.preferences.model_copy(update=preferences)})


# ---------------------------------------------------------------- LCA alone


def _run_lca(arms: Sequence[str], configs: Sequence[RunConfig], tell: Tell) -> list[Outcome]:
    pieces = [_lca_piece(arm, config) for arm in arms for config in configs]
    names = [arm for arm in arms for _ in configs]
    values = run_jobs(pieces, tell)
    return [Outcome(**{**value, "arm": name}) for name, value in zip(names, values, strict=True)]


def _lca_piece(arm: str, config: RunConfig) -> Job:
    content = {
        "config": config.model_dump(mode="json", exclude={"run_dir", "llm"}), "accuracy": ACCURACY[arm],
        "task": asdict(_unaided_task() if arm == "lca_unaided" else TASK), "aided": arm != "lca_unaided",
    }  # fmt: skip
    return Job("union-lca", content, work_lca, f"{arm} seed {config.seed}", told)


def _unaided_task() -> LcaTask:
    """With as many pairs as `union` ranks at most."""
    return replace(TASK, counts=tuple(PAIRS * ROUNDS for _ in TASK.counts))


def work_lca(content: dict[str, Any], _folder: Path) -> dict[str, Any]:
    one_thread()
    config = RunConfig.model_validate(content["config"])
    task = replace(TASK, counts=tuple(content["task"]["counts"]))
    return train_lca(config, task, content["accuracy"], content["aided"]).as_dict()


def train_lca(config: RunConfig, task: LcaTask, accuracy: float, aided: bool) -> Outcome:
    """Scorers, then a line that is paid by them from its first step on. Total steps count what was played for pairs.
    `aided`: by the heuristic, which plays; else the untrained policy does."""
    line, arm = TrainingLine(config.training()), LcaArm("lca", "LCA", queries=1, accuracy=accuracy)
    if aided:
        fits, played = fit_scorers(task, arm, config.seed)
    else:
        fits, played = fit_scorers(task, arm, config.seed, _untrained(line), PLAYED_PER_RANKED)
    pay_by(line, fits)
    points = list[Point]()
    while line.steps_main < config.trainer.steps:
        success = line.update().row["success"]
        points.append(Point(line.steps_main, line.steps_main + played, success))
    final, solved = Evaluator(config.task, FINAL_EPISODES, FINAL_SEED).evaluate(line.learner), first_solved(points)
    return Outcome(
        "lca", config.seed, solved.main if solved else None, solved.total if solved else None,
        line.steps_main, line.steps_main + played, final.mean_return, final.success_rate or 0.0,
    )  # fmt: skip


def _untrained(line: TrainingLine) -> Act:
    generator = torch.Generator().manual_seed(line.config.seed)

    def act(obs: list[FloatArray], masks: list[BoolArray] | None) -> list[ActionArray]:
        return line.learner.act(obs, generator, masks)[0]

    return act


# ---------------------------------------------------------------- results


def _rows(outcomes: Sequence[Outcome], runs: Sequence[LoopRun], arms: Sequence[str]) -> list[Row]:
    by_arm = {arm: sorted((o for o in outcomes if o.arm == arm), key=lambda o: o.seed) for arm in arms}
    rows = [item for arm, found in by_arm.items() for item in arm_rows(arm, found)]
    for arm in arms:
        mine = [run for run in runs if run.outcome.arm == arm]
        if mine:
            rows += _promotions(arm, mine)
    for alone in ("lca", "lca_unaided", "loop"):
        if {alone, "union"} <= set(arms):
            rows.append(_beyond(alone, by_arm))
    if {"lca_noisy", "union_noisy"} <= set(arms):
        rows.append(_beyond("lca_noisy", by_arm, "union_noisy"))
    return rows


def _promotions(arm: str, runs: Sequence[LoopRun]) -> list[Row]:
    accepted = [[d for d in run.details["decisions"] if d["verdict"] == "accept"] for run in runs]
    learned = [sum(d["title"] == LEARNED_TITLE for d in found) for found in accepted]
    return [
        row(f"{arm}.promotions", "promotions of a run", len(runs), *mean_ci([len(found) for found in accepted])),
        row(f"{arm}.learned", "promotions of what the Ranker prefers", len(runs), *mean_ci(learned)),
    ]


def _beyond(alone: str, by_arm: Mapping[str, Sequence[Outcome]], union: str = "union") -> Row:
    """The union's final sparse return minus that of one of its halves, paired by seed."""
    pairs = zip(by_arm[union], by_arm[alone], strict=True)
    mean, interval = mean_ci([together.final_return - one.final_return for together, one in pairs])
    verdict = "better" if interval[0] > 0 else "worse" if interval[1] < 0 else "no difference shown"
    return row(
        f"{union} against {alone}", "final sparse return, paired by seed", len(by_arm[alone]), mean, interval, verdict
    )
