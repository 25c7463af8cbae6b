"""`cosignal study curves`: plain training on the field's own tasks by EPyMARL's protocol, beside published figures.

Arms are an algorithm and a network, as in `mappo_gru`; settings are those of `protocol: epymarl` (config/protocols.py),
but that `_mlp` arms of IPPO and MAPPO, and `_gru` arms of VDN and QMIX, have the other network; `--set` changes a key
of every row's config. No signal is in force and nothing adapts. After every 50,000 steps 100 episodes are played
greedily by the policy as it is then.

* `best`        the mean over seeds at the evaluation where that mean is highest
* `best_each`   the mean over seeds of each seed's own best evaluation, which is never lower
* `final`       the mean over seeds of the last evaluation

Tasks go by the names of lbforaging and rware (`8x8-2p-2f-coop`, `2s-10x10-3p-3f-pen`, `grid-8x8-2p-2f`, `tiny-2ag`,
`small-4ag-hard`, `img-Nd-tiny-2ag`), by those of other shipped tasks, or by "package.module:factory". Published figures
are Mava's README charts of EPyMARL at 20 million steps, read off to within about 5 %; they stand below the table where
a row has one.
"""

from __future__ import annotations

import re
import resource
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError

from ..config.load import Settings, set_override
from ..config.run_config import RunConfig
from ..errors import ConfigError
from ..rl.envs.config import TaskConfig
from ..rl.envs.factory import task_spec
from ..rl.envs.registry import ShippedName
from ..rl.processes import one_thread
from ..rl.training.checkpoint import (
    load_snapshot,
    newest_snapshot,
    prune_snapshots,
    save_snapshot,
    snapshot_name,
)
from ..rl.training.evaluate import Evaluator
from ..rl.training.line import TrainingLine
from ..text import one_line
from . import job_cache
from .job_cache import Job, run_jobs
from .outcome import mean_ci
from .report import Row, Tell, finish_study, known_arms, markdown_table, result_row

NAME = "curves"
ALGORITHMS = ("ippo", "mappo", "vdn", "qmix")
NETWORKS = ("mlp", "gru")
ARMS = tuple(f"{algorithm}_{network}" for algorithm, network in product(ALGORITHMS, NETWORKS))
USUAL = ("ippo_gru", "mappo_mlp", "mappo_gru", "vdn_mlp", "qmix_mlp")
TASKS = ("8x8-2p-2f-coop", "2s-8x8-2p-2f-coop", "tiny-2ag")  # where none is named
EVALUATION_SEED = 0xE7A1
KEEP_EVERY = 1_000_000  # main steps between two snapshots
MEASURED_UPDATES = 2  # of each arm, for the plan of hours
COLUMNS = {
    "best": "best evaluation",
    "best_each": "best of each seed",
    "final": "last evaluation",
    "steps": "steps",
    "hours": "CPU hours a seed",
}

# Returns of EPyMARL at 20 million steps, by task and arm: charts of Mava's README (MAPPO and IPPO, 16 environments).
PUBLISHED: Mapping[tuple[str, str], str] = {
    ("tiny-2ag", "mappo_mlp"): "17.3",
    ("tiny-2ag", "mappo_gru"): "21.5",
    ("tiny-2ag", "ippo_mlp"): "0.7",
    ("tiny-2ag", "ippo_gru"): "1.3",
    ("tiny-4ag", "mappo_mlp"): "42",
    ("tiny-4ag", "mappo_gru"): "46",
    ("tiny-4ag", "ippo_mlp"): "6",
    ("small-4ag", "mappo_mlp"): "15.7",
    ("small-4ag", "mappo_gru"): "15.6",
    ("15x15-4p-3f", "mappo_gru"): "0.93",
    ("2s-8x8-2p-2f-coop", "mappo_gru"): "rises to 0.90, falls to 0.50",
}

FORAGING = re.compile(
    r"(?P<grid>grid-)?(?:(?P<sight>\d+)s-)?(?P<size>\d+)x(?P=size)-(?P<players>\d+)p-(?P<foods>\d+)f(?P<coop>-coop)?(?P<ind>-ind)?(?P<pen>-pen)?"
)
WAREHOUSE = re.compile(
    r"(?:(?P<image>img|imgdict)-(?P<fixed>Nd-)?)?"
    r"(?P<size>tiny|small|medium|large)-(?P<agents>\d+)ag(?:-(?P<difficulty>easy|hard))?"
)
OBSERVATIONS = {None: "flattened", "img": "image", "imgdict": "image_dict"}

Json = dict[str, Any]


def run_curves(
    seeds: int,
    arms: Sequence[str],
    tell: Tell,
    tasks: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    steps: int | None = None,
    first_seed: int = 1,
    overrides: Sequence[str] = (),
) -> Json:
    """Train every arm on every task; the result is also written to `studies_out/curves/`.

    Args:
        seeds: how many of each.
        arms: some of ARMS, USUAL where none is named.
        tell: is given lines of progress; first the plan of steps and hours, by rates that are measured then.
        tasks: see the module, TASKS where none is named.
        algorithms: only arms of these.
        steps: main steps of a run in place of the protocol's, which are then less than what was published.
        first_seed: the first of the seeds.
        overrides: keys of every row's config, each `dotted.key=value`.

    Raises:
        ConfigError: a task, an arm or an algorithm is unknown, none is left, or an override is wrong.
    """
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            raise ConfigError(f"--algorithm: must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}; correct it")
    usual = ARMS if algorithms else USUAL
    wanted = [x for x in known_arms(arms, ARMS, usual) if not algorithms or x.partition("_")[0] in algorithms]
    if not wanted:
        raise ConfigError(f"--algorithm: must leave an arm, got {', '.join(algorithms)} beside {', '.join(arms)}")
    rows_wanted = list(product(tuple(tasks) or TASKS, wanted))
    configs = {(task, arm): curve_config(task, arm, steps, overrides) for task, arm in rows_wanted}
    jobs = {
        key: [curve_job(config.model_copy(update={"seed": first_seed + k}), *key) for k in range(seeds)]
        for key, config in configs.items()
    }
    tell_plan(configs, jobs, tell)
    values = iter(run_jobs([job for key in rows_wanted for job in jobs[key]], tell))
    curves = {key: [next(values) for _ in range(seeds)] for key in rows_wanted}
    rows = [row for key in rows_wanted for row in curve_rows(*key, curves[key])]
    options = [f"--task {task}" for task in tasks] + [f"--algorithm {algorithm}" for algorithm in algorithms]
    options += [f"--steps {steps}"] if steps is not None else []
    options += [f"--set {shlex.quote(override)}" for override in overrides]
    extra = {
        "curves": [
            {"task": task, "arm": arm, "seed": first_seed + k, **curve}
            for (task, arm), of_row in curves.items()
            for k, curve in enumerate(of_row)
        ],
        "published": {f"{task} {arm}": figure for (task, arm), figure in PUBLISHED.items()},
    }
    table = markdown_table(rows, COLUMNS) + "\n\n" + published_lines(rows_wanted)
    return finish_study(NAME, seeds, arms, rows, table, extra, tell, first_seed, options)


# ---------------------------------------------------------------- configs


def curve_config(task: str, arm: str, steps: int | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the config of a row of the table. Raises ConfigError: an override is wrong."""
    algorithm, _, network = arm.partition("_")
    trainer: Json = {"algorithm": algorithm, algorithm: {"network": network}}
    if steps is not None:
        trainer["steps"] = steps
    data = {"protocol": "epymarl", "task": task_settings(task), "trainer": trainer, "adaptation": {"enabled": False}}
    settings = Settings(Path(f"{task} {arm}"), data, {})
    for override in overrides:
        set_override(settings, override)
    return RunConfig.from_settings(settings)


def task_settings(name: str) -> Json:
    """Return the config's section `task` for a task by its usual name. Raises ConfigError where there is none."""
    if found := FORAGING.fullmatch(name.removeprefix("Foraging-").removesuffix("-v3")):
        numbers = {key: int(found[key]) for key in ("size", "players", "foods")}
        flags = {"sight": int(found["sight"]) if found["sight"] else None, "coop": bool(found["coop"])}
        rest = ({"max_food_level": 1} if found["ind"] else {}) | ({"penalty": 0.1} if found["pen"] else {})
        rest |= {"grid_observation": True} if found["grid"] else {}
        return {"name": "lbf", "env_args": {**numbers, **flags, **rest}}
    if found := WAREHOUSE.fullmatch(name.removeprefix("rware-").removesuffix("-v2")):
        chosen: Json = {
            "size": found["size"],
            "agents": int(found["agents"]),
            "difficulty": found["difficulty"] or "normal",
        }
        image = {"observation_type": OBSERVATIONS[found["image"]], "directional": not found["fixed"]}
        return {"name": "rware", "env_args": chosen | (image if found["image"] else {})}
    if name in get_args(ShippedName):
        return _with_limit({"name": name})
    if ":" in name:
        return _with_limit({"env": name})
    raise ConfigError(
        f"--task: must be a name of lbforaging (8x8-2p-2f-coop) or rware (tiny-2ag), a shipped task, or "
        f'"package.module:factory", got {name!r}; correct it'
    )


def _with_limit(task: Json) -> Json:
    """Return the section `task` with the time limit that the task declares, if it does.

    Raises:
        ConfigError: no task is found there.
    """
    try:
        limit = task_spec(TaskConfig.model_validate(task)).max_steps
    except ValidationError as error:
        raise ConfigError(f"--task: must name a task, got {task!r}: {one_line(str(error))}; correct it") from error
    return task if limit is None else task | {"n_max": limit}


# ---------------------------------------------------------------- one seed


def curve_job(config: RunConfig, task: str, arm: str) -> Job:
    """Return the job of one seed of an arm on a task."""
    content = {"config": config.model_dump(mode="json", exclude={"run_dir", "llm"})}
    return Job("curve", content, work_curve, f"{task} {arm} seed {config.seed}", summarise_curve)


def work_curve(content: Json, folder: Path) -> Json:
    """Train one seed to its end, and return its evaluations with what it took.

    A snapshot is kept in `folder` now and then, from which a job that was cut off goes on, bit for bit.
    """
    one_thread()
    config = RunConfig.model_validate(content["config"])
    evaluation = config.trainer.evaluation
    line = TrainingLine(config.training())
    evaluator = Evaluator(config.task, evaluation.episodes, EVALUATION_SEED + config.seed)
    points: list[Json] = []
    spent = {"wall_s": 0.0, "cpu_s": 0.0}  # before it was cut off
    started, cpu = time.perf_counter(), time.process_time()

    def spent_now() -> dict[str, float]:
        return {
            "wall_s": round(spent["wall_s"] + time.perf_counter() - started, 1),
            "cpu_s": round(spent["cpu_s"] + time.process_time() - cpu, 1),
        }

    try:
        if (saved := newest_snapshot(folder)) is not None:
            extra: Json = load_snapshot(line, saved)
            points, spent = extra["points"], extra["spent"]
        kept = line.steps_main // KEEP_EVERY
        while line.steps_main < config.trainer.steps:
            line.update()
            # the first update at or after every so many steps, and the last one
            due = line.steps_main // evaluation.every_steps > len(points)
            if due or line.steps_main >= config.trainer.steps:
                found = evaluator.evaluate(line.learner)
                points.append(
                    {
                        "steps": line.steps_main,
                        "mean_return": round(found.mean_return, 4),
                        "success": found.success_rate,
                    }
                )
            if line.steps_main // KEEP_EVERY > kept:
                kept = line.steps_main // KEEP_EVERY
                name = Path(snapshot_name(line.update_index)).name
                save_snapshot(line, folder / name, {"points": points, "spent": spent_now()})
                prune_snapshots(folder, 1, set())
    finally:
        evaluator.close()
        line.close()
    shutil.rmtree(folder)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"points": points, "steps_main": line.steps_main, **spent_now(), "max_memory_mb": memory}


def summarise_curve(value: Mapping[str, Any]) -> str:
    """Return a curve in one line."""
    best, final = best_and_final(value)
    return f"best {best:.3g}, last {final:.3g} after {value['steps_main']:_} steps, {value['max_memory_mb']} MB at most"


def best_and_final(curve: Mapping[str, Any]) -> tuple[float, float]:
    """Return the best and the last mean return of a seed."""
    returns = [point["mean_return"] for point in curve["points"]]
    return max(returns), returns[-1]


def best_of_all(curves: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the seeds' mean returns at the evaluation where their mean is highest."""
    returns = np.array([[point["mean_return"] for point in curve["points"]] for curve in curves])
    best: list[float] = returns[:, returns.mean(0).argmax()].tolist()
    return best


# ---------------------------------------------------------------- plan and results


def tell_plan(
    configs: Mapping[tuple[str, str], RunConfig], jobs: Mapping[tuple[str, str], Sequence[Job]], tell: Tell
) -> None:
    """Tell steps and hours of what is not cached yet, by the rate of a few updates of each arm that are made now."""
    hours = 0.0
    for key, config in configs.items():
        missing = sum(not job.path.exists() for job in jobs[key])
        if not missing:
            continue
        rate = measured_rate(config)
        takes = missing * config.trainer.steps / rate / 3600
        hours += takes
        tell(
            f"plan: {' '.join(key)}: {missing} seeds of {config.trainer.steps:_} steps at {rate:,.0f} a core-second, "
            "evaluations included: "
            f"{takes:.1f} core-hours"
        )
    cores = max(job_cache.PARALLEL, 1)
    tell(f"plan: {hours:.1f} core-hours in all, {hours / cores:.1f} hours on {cores} cores")


def measured_rate(config: RunConfig) -> float:
    """Return main steps a CPU second of a few updates, the first of which is left out, and of evaluations as they are
    due."""
    one_thread()
    line = TrainingLine(config.training())
    try:
        # a replay learns nothing before it is filled
        while line.steps_main <= getattr(config.trainer.algorithm_config, "learning_starts", 0):
            line.update()
        line.update()
        started, before = time.process_time(), line.steps_main
        for _ in range(MEASURED_UPDATES):
            line.update()
        a_step = (time.process_time() - started) / (line.steps_main - before)
        evaluation = config.trainer.evaluation
        started = time.process_time()
        evaluator = Evaluator(config.task, evaluation.episodes, EVALUATION_SEED)
        evaluator.evaluate(line.learner)
        evaluator.close()
        return 1 / (a_step + (time.process_time() - started) / evaluation.every_steps)
    finally:
        line.close()


def curve_rows(task: str, arm: str, curves: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows of an arm on a task: best and last evaluation, steps, CPU hours."""
    each, final = zip(*(best_and_final(curve) for curve in curves), strict=True)
    # a dot would part the name of a row from its field
    name, n = f"{task.replace('.', '/')} {arm}", len(curves)
    hours = [curve["cpu_s"] / 3600 for curve in curves]
    steps = float(np.mean([curve["steps_main"] for curve in curves]))
    return [
        result_row(f"{name}.best", f"mean over seeds where it is highest, {name}", n, *mean_ci(best_of_all(curves))),
        result_row(f"{name}.best_each", f"mean of each seed's best evaluation, {name}", n, *mean_ci(each)),
        result_row(f"{name}.final", f"mean of the last evaluations, {name}", n, *mean_ci(final)),
        result_row(f"{name}.steps", f"main steps of a seed, {name}", n, steps, (steps, steps)),
        result_row(f"{name}.hours", f"CPU hours of a seed, {name}", n, *mean_ci(hours)),
    ]


def published_lines(rows_wanted: Sequence[tuple[str, str]]) -> str:
    """Return what is published of these rows, a line each."""
    known = [key for key in rows_wanted if key in PUBLISHED]
    lines = [f"* {task} {arm}: EPyMARL at 20 M steps {PUBLISHED[task, arm]} (Mava's README)" for task, arm in known]
    return "\n".join(lines) or "Nothing is published of these rows."
