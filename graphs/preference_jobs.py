"""Pairs to rank and fitted scorers of a run, as the loop gets them: by processes of their own, from files.

    preferences/update_000000016/round_0/    ranked at the point of update 16, first moves of the run's policy
        played/                                 what was played, of which the pairs are chosen
        pairs.safetensors texts.json            the pairs
        answers.jsonl                           who said what about them
        refuted/                                pairs by which the sparse outcome refutes the scorers before
        fit.result.json                         the scorers that were fitted to them, written last
                               round_1/      then moves of a rehearsal

Every folder is named after its point and round, and what is there is not done again: a killed loop goes on.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import PreferenceError
from ..rl.experience.transition_sample import TransitionSample
from ..rl.ipc.messages import TrainerStatus
from ..rl.preferences.jobs import ANSWERS, CollectJob, FitJob
from ..rl.preferences.pairs import Pairs, load_pairs, save_pairs
from ..rl.task import splitmix64
from ..runs.records import FittedScorer, RankingRecord
from .branches import snapshot_of
from .child_jobs import result_of
from .context import Context

FOLDER = "preferences"
MODULE = "cosignal.rl.preferences"  # whose processes do the jobs
PLAYED_PER_RANKED = 12  # moves that are played for each that is ranked
CHOICE_PER_RANKED = 3  # moves that are candidates for each that is ranked, where an ensemble can say which it is for
PAIR_SEED = 0x9A12


FittedScorers = dict[str, FittedScorer]  # by the group's number, as JSON writes it


class RankingRound(NamedTuple):
    """One round of ranking at an adaptation point."""

    point: int
    number: int  # from 0 at every point
    snapshot: str  # whose policy plays the moves, relative to the run directory

    @property
    def folder(self) -> str:
        """The round's folder, relative to the run directory."""
        return round_folder(self.point, self.number)

    def seed(self, run_seed: int, purpose: int) -> int:
        """Return a seed that is another one for every run, point, round and purpose."""
        return splitmix64(splitmix64(splitmix64(purpose ^ run_seed) ^ self.point) ^ self.number) >> 33


def round_folder(point: int, number: int) -> str:
    """Return the folder of round `number` at `point`, relative to the run directory."""
    return f"{FOLDER}/update_{point:09d}/round_{number}"


class CollectedPairs(NamedTuple):
    """Pairs that are to be ranked."""

    pairs: list[Pairs]  # [g]
    steps: int  # environment steps that were played for them
    key_steps: list[str]  # what the team must do, in words; empty where no model ranks


# ---------------------------------------------------------------- pairs


async def collect_pairs_to_rank(ctx: Context, ranking_round: RankingRound, known: FittedScorers) -> CollectedPairs:
    """Play moves of the round's policy and choose the pairs that are ranked, `preferences.pairs` a group.

    Args:
        ctx: what nodes use.
        ranking_round: the round; its pairs are written to its folder.
        known: scorers fitted before. A group that has one gets the pairs that its ensemble disagrees on most.

    Raises:
        PreferenceError: the process that plays has failed.
    """
    preferences = ctx.config.preferences
    choice = CHOICE_PER_RANKED if known else 1
    # What the team must do is looked for once a run.
    earlier = await ctx.store.read(RankingRecord)
    key_steps = earlier[0].detail.key_steps if earlier else None
    job = CollectJob(
        run_dir=ctx.run_dir,
        snapshot=ranking_round.snapshot,
        counts=[preferences.pairs * choice for _ in ctx.spec.groups],
        spread=PLAYED_PER_RANKED // choice,
        seed=ranking_round.seed(ctx.config.seed, PAIR_SEED),
        out=f"{ranking_round.folder}/played",
        key_steps=key_steps is None and preferences.ranker == "model",
    )
    result = await result_of(ctx, MODULE, job, PreferenceError)

    # An ensemble that was fitted before says by its disagreement which of the candidates it can learn most from.
    def choose_pairs() -> list[Pairs]:
        folder = ctx.run_dir / ranking_round.folder
        chosen = []
        for pairs in load_pairs(folder / "played"):
            if fitted := known.get(str(pairs.group)):
                disagreement = ctx.scorers.get(fitted.scorer).disagreement(pairs.obs, pairs.last_obs)
                chosen.append(pairs.select(np.argsort(-disagreement, kind="stable")[: preferences.pairs]))
            else:
                chosen.append(pairs)
        save_pairs(chosen, folder)
        return chosen

    pairs = await asyncio.to_thread(choose_pairs)
    return CollectedPairs(pairs, int(result["steps"]), result["key_steps"] if key_steps is None else key_steps)


def answers_path(ctx: Context, ranking_round: RankingRound) -> Path:
    """Return the file with the recorded answers about the round's pairs."""
    return ctx.run_dir / ranking_round.folder / ANSWERS


# ---------------------------------------------------------------- scorers


async def fit_scorers(
    ctx: Context, ranking_round: RankingRound, status: TrainerStatus, before: FittedScorers
) -> FittedScorers:
    """Fit a scorer a group to all pairs that the run has ranked so far, those of `ranking_round` too.

    Args:
        ctx: what nodes use.
        ranking_round: the newest.
        status: the trainer's, whose snapshot says how episodes ended.
        before: the scorers that were fitted last, which these endings may refute.

    Raises:
        PreferenceError: the process that fits has failed.
    """
    earlier = [row for row in await ctx.store.read(RankingRecord) if row.point < ranking_round.point]
    rounds = [(row.point, number) for row in earlier for number in range(row.detail.rounds)]
    rounds += [(ranking_round.point, number) for number in range(ranking_round.number + 1)]
    job = FitJob(
        run_dir=ctx.run_dir,
        folders=[round_folder(point, number) for point, number in rounds],
        scorer=ctx.config.preferences.scorer,
        recorded=f"{snapshot_of(status)}/recorded.safetensors",
        before={g: fitted.scorer for g, fitted in before.items()},
        refuted=ctx.config.preferences.refuted,
        seed=ranking_round.point,
        out=ranking_round.folder,
    )
    return {
        g: FittedScorer.model_validate(fitted)
        for g, fitted in (await result_of(ctx, MODULE, job, PreferenceError)).items()
    }


async def last_fitted_scorers(ctx: Context, point: int) -> FittedScorers:
    """Return the scorers that the run fitted last before `point`; none before the first."""
    rows = [row for row in await ctx.store.read(RankingRecord) if row.point < point]
    fitted = [row.detail.groups for row in rows if row.detail.groups]
    return fitted[-1] if fitted else {}


async def scorers_out_of_data(ctx: Context, status: TrainerStatus) -> list[str]:
    """Return the scorers in force whose pairs the policy has left.

    A policy has left them where the scorer's ensemble disagrees on more than the share `preferences.left_data` of the
    recorded states more than it usually does on its own pairs.
    """
    in_force = [name for term in status.signal.terms for name in term.scorers]
    if not in_force or ctx.config.preferences.ranker == "none":
        return []
    # What the policy meets now: transitions that the trainer has recorded with the point's snapshot.
    recorded_file = ctx.run_dir / snapshot_of(status) / "recorded.safetensors"
    recorded = await asyncio.to_thread(TransitionSample.load, recorded_file)
    usual_disagreement: dict[str, tuple[int, float]] = {  # by scorer: its group, and how far its networks lie apart
        fitted.scorer: (int(g), fitted.usual_disagreement)
        for row in await ctx.store.read(RankingRecord)
        for g, fitted in row.detail.groups.items()
    }

    def has_left(scorer: str) -> bool:
        # [E, A_g, O_g] of all agents become one list of states.
        g, usual = usual_disagreement[scorer]
        size = recorded.obs[g].shape[-1]
        obs, last_obs = recorded.obs[g].reshape(-1, size), recorded.last_obs[g].reshape(-1, size)
        disagreement = ctx.scorers.get(scorer).disagreement(obs, last_obs)
        if not len(disagreement):
            return False
        return float((disagreement > usual).mean()) > ctx.config.preferences.left_data

    fitted_here = [scorer for scorer in in_force if scorer in usual_disagreement]
    return await asyncio.to_thread(lambda: [scorer for scorer in fitted_here if has_left(scorer)])
