"""`cosignal study ranking`: what the numbers of a proposal, computed before any training, say of what training brings.

At a snapshot of plain training candidates are made: ideas of the embedded rules, harmful proposals, and potentials of
one feature drawn at random. Each gets the numbers of `rl.signals.preview` and the questions of `check`, whose refusal
is the pre-screen that a run has, and is trained all the same: as an arm of a race that nobody drops, from the snapshot,
under random streams that all arms have in common, with the exploration kick of `race.kick` where it asks for no
exploration. The control trains on without a signal and without a kick. After each rung all play the same episodes.

The *gain* of a candidate is its best mean return less the control's best, as a share of the task's range. Within a
snapshot each number has a rank correlation (Spearman) with the gain, and an area under the ROC curve (AUC): the chance
that of two candidates the one that gains more than the gate's margin has the larger number, ties counted half. Both are
averaged over snapshots, with 95 % bootstrap intervals over them; a correlation is of the snapshots whose gains differ
by more than the margin, an AUC of those with candidates of either kind. A number may do no more than tell ideas from
nonsense, so that all is also said of the rules' ideas alone.

Seeds are those that no result in docs/results.md is about (101 to 146); `--seeds` are snapshots of each task.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..agents.prompt_payload import build_payload
from ..agents.rules import critic as rules_critic
from ..agents.rules import generator as rules_generator
from ..agents.rules.features import feature_roles, kinds_of_agents
from ..agents.schemas import Proposal
from ..config.run_config import RunConfig
from ..rl.evidence.build import build_evidence
from ..rl.evidence.schema import Evidence
from ..rl.processes import one_thread
from ..rl.signals.check import check_signal, twin_problems
from ..rl.signals.distance import SignalComparison
from ..rl.signals.preview import SignalPreview, preview_signal
from ..rl.signals.signal import Exploration, Signal
from ..rl.stage import STAGES
from ..rl.task import splitmix64
from ..rl.training.evaluate import Evaluator
from ..rl.training.line import TrainingLine
from .adversary.harmful_proposals import harmful
from .job_cache import Job, run_jobs
from .outcome import mean_ci
from .race import TASKS, task_config
from .report import Row, Tell, example_config, finish_study, markdown_table, result_row

NAME = "ranking"
USUAL = tuple(TASKS)
FIRST_SEED = 101
FORK = 163_840  # main steps of a snapshot: ten intervals, where the loop's patience is first over
RUNGS = 6  # each `adaptation.interval`
EPISODES = 32  # that are played after a rung
DRAWS = {"rules": 8, "harmful": 2, "random": 2}  # candidates of a snapshot
EVALUATION_SEED = 0x4A6E
COLUMNS = {"rho": "rank correlation with the gain", "auc": "AUC of a gain above the margin"}

Json = dict[str, Any]


def run_ranking(
    seeds: int, tell: Tell, tasks: Sequence[str] = (), first_seed: int = FIRST_SEED, base: RunConfig | None = None
) -> Json:
    """Run all snapshots; the result is also written to `studies_out/ranking/`.

    Args:
        seeds: snapshots of each task, each of a seed of its own.
        tell: is given lines of progress.
        tasks: those of the study race, all of them where none is named.
        first_seed: the first of the seeds.
        base: config in place of the shipped example's.

    Raises:
        ConfigError: a task is unknown.
    """
    base = base or example_config()
    chosen = tuple(tasks) or USUAL
    configs = {task: task_config(task, base) for task in chosen}
    plan = [
        (task, configs[task].model_copy(update={"seed": seed}))
        for seed in range(first_seed, first_seed + seeds)
        for task in chosen
    ]
    values = run_jobs([snapshot_job(task, config) for task, config in plan], tell)
    snapshots = [
        {"task": task, "seed": config.seed, "margin": config.gate.margin, **value}
        for (task, config), value in zip(plan, values, strict=True)
    ]
    rows = number_rows(snapshots, chosen)
    options = [f"--task {task}" for task in tasks]
    extra = {"snapshots": snapshots}
    table = markdown_table(rows, COLUMNS, "number")
    return finish_study(NAME, seeds, (), rows, table, extra, tell, first_seed, options)


# ---------------------------------------------------------------- one snapshot


def snapshot_job(task: str, config: RunConfig) -> Job:
    """Return the job of one snapshot with all its candidates."""
    content = {
        "config": config.model_dump(mode="json", exclude={"run_dir"}),
        "fork": FORK,
        "rungs": RUNGS,
        "episodes": EPISODES,
        "draws": DRAWS,
    }
    return Job("ranking", content, work_snapshot, f"{task}, seed {config.seed}", _summary)


def _summary(value: Json) -> str:
    gains = sorted(gains_of(value), reverse=True)
    return f"{len(gains)} candidates at {value['stage']}, gains {', '.join(f'{gain:+.2f}' for gain in gains)}"


def work_snapshot(content: Json, folder: Path) -> Json:  # noqa: ARG001 nothing is kept
    """Train to the snapshot, make candidates, and train each of them and the control from there."""
    one_thread()
    config = RunConfig.model_validate(content["config"])
    line = TrainingLine(config.training())
    evaluator = Evaluator(config.task, content["episodes"], EVALUATION_SEED)
    try:
        while line.steps_main < content["fork"]:
            line.update()
        arrays, data = line.state_dict()
        seed, kicked = splitmix64(config.seed) >> 33, Exploration(kick=config.race.kick)

        def returns(signal: Signal | None) -> list[float]:
            """Train an arm, None for the control, and return its mean return after each rung."""
            line.load_state_dict({name: array.copy() for name, array in arrays.items()}, data)
            line.reseed(seed)
            if signal is not None:
                line.apply_signal(signal.model_copy(update={"exploration": Exploration()}))
                line.explore(kicked if signal.exploration == Exploration() else signal.exploration)
            means = []
            for rung in range(1, content["rungs"] + 1):
                while line.steps_main < content["fork"] + rung * config.adaptation.interval:
                    line.update()
                means.append(round(evaluator.evaluate(line.learner).mean_return, 4))
            return means

        evidence = build_evidence(line, config.trainer.steps)
        arms = previewed(line, config, drafted(evidence, config.seed, content["draws"]))
        value = {
            "stage": evidence.stage,
            "fork_return": line.history[-1]["returns"],
            "return_range": list(line.return_range),
            "control": returns(None),
        }
        return value | {"arms": [row | {"returns": returns(signal)} for row, signal in arms]}
    finally:
        evaluator.close()
        line.close()


def drafted(evidence: Evidence, seed: int, draws: Mapping[str, int]) -> list[tuple[str, Proposal]]:
    """Return candidates with whose idea they are, at most as many of each as `draws` says."""
    payload = build_payload(evidence)
    # What a Generator would read.
    block = payload | {
        "diagnosis": rules_critic.diagnosis(payload),
        "point": 0,
        "candidates": draws["rules"],
        "term_kinds": list(STAGES[evidence.stage].kinds),
        "longest_decay_steps": STAGES[evidence.stage].decay_steps,
    }
    rng = random.Random(seed)
    made = {
        "rules": rules_generator.proposals(block)["proposals"],
        "harmful": harmful(block, rng, draws["harmful"]),
        "random": list(random_proposals(block, rng, draws["random"])),
    }
    return [
        (whose, Proposal.model_validate(proposal))
        for whose, proposals in made.items()
        for proposal in proposals[: draws[whose]]
    ]


def random_proposals(block: Json, rng: random.Random, count: int) -> Iterator[Json]:
    """Yield potentials of one feature each, drawn at random, with a random sign."""
    features = [feature for kind in kinds_of_agents(block["evidence"]) for feature in feature_roles(kind).features]
    for feature in rng.sample(features, min(count, len(features))):
        sign = rng.choice(("", "-"))
        term = {
            "name": "term",
            "kind": "potential",
            "expression": f"{sign}{feature.name} / {feature.span:.4f}",
            "agents": feature.agents,
        }
        yield {"title": f"Random: {sign}{feature.name}", "reason": "Drawn at random.", "addresses": ["plateau"],
               "beta": 0.5, "terms": [term]}  # fmt: skip


def previewed(
    line: TrainingLine, config: RunConfig, drafts: Sequence[tuple[str, Proposal]]
) -> list[tuple[Json, Signal]]:
    """Return what is known of each candidate before it is trained, and its signal."""
    recorded, gamma = line.recorder.recorded(line.episodes), config.trainer.algorithm_config.gamma
    comparison = SignalComparison(line.spec, recorded, line.signal, line.return_range)
    arms = list[tuple[Json, Signal]]()
    earlier = dict[str, Signal]()
    for number, (whose, proposal) in enumerate(drafts):
        signal = Signal(
            version=line.signal.version + 1,
            parent=line.signal.version,
            stage=line.stage()[0],
            beta=proposal.beta,
            terms=tuple(proposal.terms),
            exploration=proposal.exploration,
            learner=proposal.learner,
        )
        hashes = {other.proposal_hash() for other in earlier.values()}
        problems = check_signal(signal, line.spec, recorded, line.signal, hashes, line.return_range).problems
        problems = problems or [*twin_problems(signal, comparison, {}, {}, earlier)]
        preview = preview_signal(signal, comparison, gamma, list(earlier.items()))
        row = {"title": proposal.title, "whose": whose, "problems": problems, "numbers": numbers_of(preview)}
        arms.append((row, signal))
        earlier[f"{number}"] = signal
    return arms


def numbers_of(preview: SignalPreview) -> dict[str, float]:
    """Return the numbers of a candidate that may say how good it is, by name; what cannot be told is missing.

    Besides those of the preview: by how much mean Φ rises from the start of episodes to their end, and to events.
    Distances say how new an idea is, and the mean reward is the same for all.
    """
    left_out = {"phi_after", "mean_reward", "distances", "distance_in_force", "epic_in_force", "epic_distances"}
    numbers = {name: getattr(preview, name) for name in sorted(SignalPreview.model_fields.keys() - left_out)}
    end = preview.phi_end_failed if preview.phi_end_success is None else preview.phi_end_success
    if preview.phi_start is not None:
        numbers["rise to the end"] = None if end is None else end - preview.phi_start
        after = [phi for _, phi in preview.phi_after]
        numbers["rise to events"] = float(np.mean(after)) - preview.phi_start if after else None
    return {name: round(value, 6) for name, value in numbers.items() if value is not None}


# ---------------------------------------------------------------- results


def gains_of(snapshot: Mapping[str, Any]) -> list[float]:
    """Return each candidate's gain, as a share of the range of returns."""
    low, high = snapshot["return_range"]
    return [(max(arm["returns"]) - max(snapshot["control"])) / (high - low) for arm in snapshot["arms"]]


def number_rows(snapshots: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[Row]:
    """Return the rows of `check` and of each number: over everything, among the rules' ideas, and by task."""
    names = dict.fromkeys(name for snapshot in snapshots for arm in snapshot["arms"] for name in arm["numbers"])
    rows: list[Row] = []
    for name in ("passes check", *sorted(names)):
        rows += _rows_of(name, name, snapshots)
        rows += _rows_of(name, f"{name}, rules", snapshots, ("rules",))
        for task in tasks if len(tasks) > 1 else ():
            rows += _rows_of(name, f"{name}, {task}", [one for one in snapshots if one["task"] == task])
    return rows


def _rows_of(
    number: str, label: str, snapshots: Sequence[Mapping[str, Any]], origins: Sequence[str] = tuple(DRAWS)
) -> list[Row]:
    found: dict[str, list[float | None]] = {"rho": [], "auc": []}
    for snapshot in snapshots:
        pairs = [
            (value, gain)
            for arm, gain in zip(snapshot["arms"], gains_of(snapshot), strict=True)
            if arm["whose"] in origins and (value := _value(number, arm)) is not None
        ]
        found["rho"].append(rank_correlation(pairs, snapshot["margin"]))
        found["auc"].append(auc(pairs, snapshot["margin"]))
    rows = []
    for field, statement in (("rho", "rank correlation of {} with the gain"), ("auc", "AUC of {}")):
        known = [x for x in found[field] if x is not None]
        if known:
            rows.append(result_row(f"{label}.{field}", statement.format(label), len(known), *mean_ci(known)))
    return rows


def _value(number: str, arm: Mapping[str, Any]) -> float | None:
    if number == "passes check":
        return float(not arm["problems"])
    value: float | None = arm["numbers"].get(number)
    return value


def rank_correlation(pairs: Sequence[tuple[float, float]], margin: float) -> float | None:
    """Return Spearman's correlation of numbers and gains.

    None with fewer than four candidates, where gains differ by no more than the margin, or numbers not at all.
    """
    numbers, gains = np.array([x for x, _ in pairs]), np.array([gain for _, gain in pairs])
    if len(pairs) < 4 or np.ptp(gains) <= margin or np.ptp(numbers) == 0:
        return None
    return float(stats.spearmanr(numbers, gains).statistic)


def auc(pairs: Sequence[tuple[float, float]], margin: float) -> float | None:
    """Return the chance that a candidate that gains more than the margin has a larger number than one that does not.

    Ties count half; None where there are not both kinds.
    """
    good, rest = [x for x, gain in pairs if gain > margin], [x for x, gain in pairs if gain <= margin]
    if not good or not rest:
        return None
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in good for b in rest]))
