"""Pairs, votes and scorers of a run, as the loop gets them: from processes of their own, files below the run directory.

    preferences/update_000000016/round_0/    what was collected at the point of update 16, first of the run's policy
        pairs.safetensors texts.json                        the pairs
        answers.jsonl                                       who said what about them
        collect.result.json fit.result.json                 what the processes said, written last
                               round_1/      then of a rehearsal

Everything is under a name made of the point, and what is there is not done again: a killed loop goes on.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..agents.llm.secrets import key_variable_names
from ..errors import PreferenceError
from ..rl.experience.transition_sample import TransitionSample
from ..rl.ipc.launcher import end_child, start_child, tail
from ..rl.ipc.messages import TrainerStatus
from ..rl.preferences.jobs import ANSWERS, RESULT, CollectJob, FitJob
from ..rl.preferences.pairs import Pairs, load_pairs, save_pairs
from ..rl.processes import module_command
from ..rl.signals.signal import LearnedTerm
from ..rl.task import splitmix64
from .branches import snapshot_of
from .context import Context

FOLDER = "preferences"
PLAYED = 12  # times as many moves are played as are ranked
CHOICE = 3  # times as many are looked at, where an ensemble can say which it disagrees on
_PAIR_SEED = 0x9A12

Groups = dict[str, dict[str, Any]]  # by the group's number: its scorer, and how well it fits


class RankingRound(NamedTuple):
    """One time of ranking: number `round` at the adaptation point `point`, moves of the policy in `snapshot`."""

    point: int
    round: int
    snapshot: str

    @property
    def folder(self) -> str:
        """Below the run directory."""
        return folder_of(self.point, self.round)

    def seed(self, run_seed: int, purpose: int) -> int:
        """Another for every run, point, round and purpose."""
        return splitmix64(splitmix64(splitmix64(purpose ^ run_seed) ^ self.point) ^ self.round) >> 33


def folder_of(point: int, round_: int) -> str:
    return f"{FOLDER}/update_{point:09d}/round_{round_}"


class Collected(NamedTuple):
    """`pairs` [g]; `steps`: environment steps that were played for them.
    `key_steps`: what the team must do, in words, where a model ranks."""

    pairs: list[Pairs]
    steps: int
    key_steps: list[str]


async def collected_pairs(ctx: Context, session: RankingRound, known: Groups) -> Collected:
    """Where an ensemble was fitted before (`known`), those come first that it disagrees on."""
    choice = CHOICE if known else 1
    counts = [ctx.config.preferences.pairs * choice for _ in ctx.spec.groups]
    told = await _key_steps(ctx)
    job = CollectJob(
        run_dir=ctx.run_dir, snapshot=session.snapshot, counts=counts, spread=PLAYED // choice,
        seed=session.seed(ctx.config.seed, _PAIR_SEED), out=f"{session.folder}/played",
        key_steps=told is None and ctx.config.preferences.ranker == "model",
    )  # fmt: skip
    done = await _done(ctx, job)
    pairs = await asyncio.to_thread(_chosen, ctx, session.folder, known)
    return Collected(pairs, int(done["steps"]), done["key_steps"] if told is None else told)


async def _key_steps(ctx: Context) -> list[str] | None:
    """As the run has found them before."""
    rows = await ctx.store.rows("rankings")
    found: list[str] | None = rows[0]["detail"]["key_steps"] if rows else None
    return found


def _chosen(ctx: Context, folder: str, known: Groups) -> list[Pairs]:
    """What is ranked of what was played; written as the session's pairs."""
    played, most = load_pairs(ctx.run_dir / folder / "played"), ctx.config.preferences.pairs
    pairs = [p if str(p.group) not in known else _most_disputed(ctx, p, known[str(p.group)], most) for p in played]
    save_pairs(pairs, ctx.run_dir / folder)
    return pairs


def _most_disputed(ctx: Context, pairs: Pairs, known: dict[str, Any], most: int) -> Pairs:
    disagreement = ctx.scorers.get(known["scorer"]).disagreement(pairs.obs, pairs.last_obs)
    return pairs.taken(np.argsort(-disagreement, kind="stable")[:most])


async def fitted_scorers(ctx: Context, session: RankingRound) -> Groups:
    """The scorers that were fitted to all pairs of the run so far, and how well they fit."""
    earlier = [row for row in await ctx.store.rows("rankings") if row["point"] < session.point]
    before = [(row["point"], k) for row in earlier for k in range(row["detail"]["rounds"])]
    here = [(session.point, k) for k in range(session.round + 1)]
    job = FitJob(
        run_dir=ctx.run_dir, folders=[folder_of(*each) for each in [*before, *here]],
        scorer=ctx.config.preferences.scorer, seed=session.point, out=session.folder,
    )  # fmt: skip
    return await _done(ctx, job)


async def known_scorers(ctx: Context, point: int) -> Groups:
    """The last that the run fitted at an earlier point; none before the first."""
    rows = [row for row in await ctx.store.rows("rankings") if row["point"] < point]
    fitted = [row["detail"]["groups"] for row in rows if row["detail"]["groups"]]
    found: Groups = fitted[-1] if fitted else {}
    return found


async def left_data(ctx: Context, status: TrainerStatus) -> list[str]:
    """Scorers in force whose pairs the policy has left: on too many recorded states their ensemble disagrees as on few
    of its own pairs."""
    terms = [term for term in status.signal.terms if isinstance(term, LearnedTerm)]
    if not terms or ctx.config.preferences.ranker == "none":
        return []
    recorded = await asyncio.to_thread(
        TransitionSample.load, ctx.run_dir / snapshot_of(status) / "recorded.safetensors"
    )
    usual = {
        group["scorer"]: (int(g), group["usual_disagreement"])
        for row in await ctx.store.rows("rankings")
        for g, group in row["detail"]["groups"].items()
    }
    known = [term for term in terms if term.scorer in usual]
    left = await asyncio.to_thread(lambda: [_has_left(ctx, term, recorded, *usual[term.scorer]) for term in known])
    return [term.scorer for term, has_left in zip(known, left, strict=True) if has_left]


def _has_left(ctx: Context, term: LearnedTerm, recorded: TransitionSample, g: int, usual: float) -> bool:
    size = recorded.obs[g].shape[-1]
    here = ctx.scorers.get(term.scorer).disagreement(
        recorded.obs[g].reshape(-1, size), recorded.last_obs[g].reshape(-1, size)
    )
    return bool(len(here)) and float((here > usual).mean()) > ctx.config.preferences.left_data


# ---------------------------------------------------------------- processes


async def _done(ctx: Context, job: CollectJob | FitJob) -> dict[str, Any]:
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


async def _run(ctx: Context, folder: Path, kind: str) -> None:
    output = folder / f"{kind}.out"
    command = module_command("cosignal.rl.preferences", str(folder / f"{kind}.json"))
    process = await start_child(command, output, key_variable_names(ctx.config.llm))
    try:
        code = await process.wait()
    finally:
        await end_child(process)
    if code != 0:
        raise PreferenceError(f"{kind} ended with status {code}: {await asyncio.to_thread(tail, output)}")


def answers_path(ctx: Context, session: RankingRound) -> Path:
    return ctx.run_dir / session.folder / ANSWERS
