"""Pairs, votes and scorers of a run, as the loop gets them: from processes of their own, files below the run directory.

    preferences/update_000000016/    what was collected at the point of update 16
        pairs.safetensors texts.json                the pairs
        answers.jsonl                               who said what about them
        collect.result.json fit.result.json         what the processes said, written last

Everything is under a name made of the point, and what is there is not done again: a killed loop goes on.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..agents.keys import key_variable_names
from ..errors import PreferenceError
from ..rl.ipc.messages import TrainerStatus
from ..rl.ipc.process import end_child, start_child, tail
from ..rl.preferences.jobs import ANSWERS, RESULT, CollectJob, FitJob
from ..rl.preferences.pairs import Pairs, load_pairs, save_pairs
from ..rl.process import module_command
from ..rl.signals.recorded import Recorded
from ..rl.signals.signal import LearnedTerm
from ..rl.task import splitmix64
from .branching import snapshot_of
from .context import Ctx

FOLDER = "preferences"
CHOICE = 3  # times as many pairs are played as are ranked, where an ensemble can say which it disagrees on
_PAIR_SEED = 0x9A12


def folder_of(point: int) -> str:
    return f"{FOLDER}/update_{point:09d}"


class Collected(NamedTuple):
    """`pairs` [g] of the policy as it is at the point; `steps`: environment steps that were played for them.
    `key_steps`: what the team must do, in words, where a model ranks."""

    pairs: list[Pairs]
    steps: int
    key_steps: list[str]


async def collected_pairs(ctx: Ctx, point: int, status: TrainerStatus) -> Collected:
    """Where the run has fitted an ensemble before, those come first that it disagrees on."""
    folder, known = folder_of(point), await known_scorers(ctx)
    counts = [ctx.config.preferences.pairs * (CHOICE if known else 1) for _ in ctx.spec.groups]
    seed = splitmix64(splitmix64(_PAIR_SEED ^ ctx.config.seed) ^ point) >> 33
    told = await _key_steps(ctx)
    job = CollectJob(
        run_dir=ctx.run_dir, snapshot=snapshot_of(status), counts=counts, seed=seed, out=f"{folder}/played",
        key_steps=told is None and ctx.config.preferences.ranker == "model",
    )  # fmt: skip
    done = await _done(ctx, job)
    pairs = await asyncio.to_thread(_chosen, ctx, folder, known)
    return Collected(pairs, int(done["steps"]), done["key_steps"] if told is None else told)


async def _key_steps(ctx: Ctx) -> list[str] | None:
    """As the run has found them before."""
    rows = await ctx.store.rows("rankings")
    found: list[str] | None = rows[0]["detail"]["key_steps"] if rows else None
    return found


def _chosen(ctx: Ctx, folder: str, known: dict[str, dict[str, Any]]) -> list[Pairs]:
    """What is ranked of what was played; written as the point's pairs."""
    played, most = load_pairs(ctx.run_dir / folder / "played"), ctx.config.preferences.pairs
    pairs = [p if str(p.group) not in known else _most_disputed(ctx, p, known[str(p.group)], most) for p in played]
    save_pairs(pairs, ctx.run_dir / folder)
    return pairs


def _most_disputed(ctx: Ctx, pairs: Pairs, known: dict[str, Any], most: int) -> Pairs:
    disagreement = ctx.scorers.get(known["scorer"]).disagreement(pairs.obs, pairs.last_obs)
    return pairs.taken(np.argsort(-disagreement, kind="stable")[:most])


async def fitted_scorers(ctx: Ctx, point: int) -> dict[str, dict[str, Any]]:
    """By the group's number: the scorer that was fitted to all pairs of the run so far, and how well it fits."""
    earlier = [row["point"] for row in await ctx.store.rows("rankings") if row["point"] < point]
    folders = [folder_of(p) for p in [*earlier, point]]
    preferences = ctx.config.preferences
    job = FitJob(run_dir=ctx.run_dir, folders=folders, scorer=preferences.scorer, seed=point, out=folder_of(point))
    return await _done(ctx, job)


async def known_scorers(ctx: Ctx) -> dict[str, dict[str, Any]]:
    """By the group's number: the last that the run has fitted; none before the first."""
    fitted = [row["detail"]["groups"] for row in await ctx.store.rows("rankings") if row["detail"]["groups"]]
    found: dict[str, dict[str, Any]] = fitted[-1] if fitted else {}
    return found


async def left_data(ctx: Ctx, status: TrainerStatus) -> list[str]:
    """Scorers in force whose pairs the policy has left: on too many recorded states their ensemble disagrees as on few
    of its own pairs."""
    terms = [term for term in status.signal.terms if isinstance(term, LearnedTerm)]
    if not terms or ctx.config.preferences.ranker == "none":
        return []
    recorded = await asyncio.to_thread(Recorded.load, ctx.run_dir / snapshot_of(status) / "recorded.safetensors")
    usual = {
        group["scorer"]: (int(g), group["usual_disagreement"])
        for row in await ctx.store.rows("rankings")
        for g, group in row["detail"]["groups"].items()
    }
    known = [term for term in terms if term.scorer in usual]
    left = await asyncio.to_thread(lambda: [_has_left(ctx, term, recorded, *usual[term.scorer]) for term in known])
    return [term.scorer for term, has_left in zip(known, left, strict=True) if has_left]


def _has_left(ctx: Ctx, term: LearnedTerm, recorded: Recorded, g: int, usual: float) -> bool:
    size = recorded.obs[g].shape[-1]
    here = ctx.scorers.get(term.scorer).disagreement(
        recorded.obs[g].reshape(-1, size), recorded.last_obs[g].reshape(-1, size)
    )
    return bool(len(here)) and float((here > usual).mean()) > ctx.config.preferences.left_data


# ---------------------------------------------------------------- processes


async def _done(ctx: Ctx, job: CollectJob | FitJob) -> dict[str, Any]:
    """The job's result, from its file where it has been done.

    Raises PreferenceError with the process's own words where it fails.
    """
    folder = ctx.run_dir / job.out
    result = folder / f"{job.kind}.{RESULT}"
    if not await asyncio.to_thread(result.exists):
        await asyncio.to_thread(_write_job, folder, job)
        await _run(ctx, folder, job.kind)
    found: dict[str, Any] = json.loads(await asyncio.to_thread(result.read_text))
    return found


def _write_job(folder: Path, job: CollectJob | FitJob) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{job.kind}.json").write_text(job.model_dump_json(indent=2))


async def _run(ctx: Ctx, folder: Path, kind: str) -> None:
    output = folder / f"{kind}.out"
    command = module_command("cosignal.rl.preferences.process", str(folder / f"{kind}.json"))
    process = await start_child(command, output, key_variable_names(ctx.config.llm))
    try:
        code = await process.wait()
    finally:
        await end_child(process)
    if code != 0:
        raise PreferenceError(f"{kind} ended with status {code}: {await asyncio.to_thread(tail, output)}")


def answers_path(ctx: Ctx, point: int) -> Path:
    return ctx.run_dir / folder_of(point) / ANSWERS
