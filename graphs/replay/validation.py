"""The proposals of a replayed answer, tried on branches from the recorded snapshot.

    folder of the replay: the point's snapshot, tables of what came before ─► offline round ─► Validation

The round is that of the run (`graphs.offline_round`), in a folder that looks like the run directory did at that point;
so the run itself is only read. It asks what the run's config asks: whether a signal helps, or, in a race, whether a
policy is better. Branches that the run had run already are not run again, since equal jobs give equal results; those of
a race are, since their end states are gone and the next rung goes on from them.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...agents.llm.hosted_tracing import hidden_from_children
from ...agents.llm.ledger import Place
from ...agents.replay_results import RacedArm, ReplayedArm, ReplayedLook, ReplayedProof, Validation
from ...agents.schemas import Proposal
from ...config.run_config import RunConfig
from ...errors import SnapshotError
from ...files import file_inside
from ...rl.branches.executors import executor_for
from ...rl.branches.jobs import Executor
from ...rl.evidence.schema import Evidence
from ...rl.ipc.messages import EvaluationReport, TrainerStatus
from ...rl.signals.scorer import FOLDER
from ...rl.training.checkpoint import pack_snapshot, snapshot_name, unpack_snapshot
from ...rl.training.config import TrainingConfig
from ...rl.training.line import steps_trained
from ...runs.events import Event
from ...runs.race_records import EvaluationRecord, RaceDetail, RaceRecord
from ...runs.races import arm_title, show_race
from ...runs.records import (
    BRANCH_FAILED,
    BranchRecord,
    DecisionRecord,
    FailedBranchRecord,
    FitRecord,
    InterventionRecord,
    ProposalRecord,
    RankingRecord,
    decision_id,
)
from ...runs.run_files import damage_in_words
from ...runs.run_view import RunView
from ...runs.store import LoopStore
from ..branches import round_exploration
from ..context import Context
from ..history import decided_before
from ..intervention import claim_at
from ..offline_round import Candidates, OfflineRound, offline_context, run_offline_round
from ..race.arms import looks_of

SPENT = "spent:"  # before the key of a branch that is in the tables for its steps only
PROOF_FIELDS = set(ReplayedProof.model_fields) - {"rung"}
MADE_HERE = ("checkpoints", "branches", "replay", FOLDER)  # folders that are not kept


@dataclass(frozen=True)
class Trial:
    """The place where a replay may run branches.

    Attributes:
        folder: made for it, below the run's `replays/`.
        executor: runs the branches, in place of what `branches` of the config names.
        emit: hears of every branch.
    """

    folder: Path
    executor: Executor | None = None
    emit: Callable[[Event], None] = lambda _: None


@dataclass(frozen=True)
class RecordedRun:
    """The run whose round is tried again.

    Attributes:
        path: the run directory.
        own: its config.
        training: what its trainer had read. Branches train by this very one, whatever the file says by then.
    """

    path: Path
    own: RunConfig
    training: TrainingConfig


def check_snapshot(run_dir: Path, point: int) -> str:
    """Return the snapshot of an intervention, relative to the run directory.

    Raises:
        SnapshotError: the run does not have it any more.
    """
    name = snapshot_name(point)
    if (run_dir / name / "state.json").is_file():
        try:
            check_files(run_dir, name)
        except OSError as error:
            raise SnapshotError(
                f"the snapshot {name!r} of {str(run_dir)!r} must consist of files of its own, got another one "
                f"({error}); copy what it leads to into its place"
            ) from error
        return name
    kept = ", ".join(sorted(path.name for path in (run_dir / "checkpoints").glob("update_*"))) or "none"
    raise SnapshotError(
        f"the snapshot of point {point} is gone (kept: {kept}), so no branch can start there; leave out --validate, or "
        "replay a call of an intervention whose snapshot is kept; trainer.keep_looks says of how many a run keeps it"
    )


def check_files(run_dir: Path, snapshot: str) -> None:
    """Check that all that is read with a snapshot lies in the run directory. Raises OSError where something does not.

    Nothing that a link leads to elsewhere is copied, or sent to another machine.
    """
    for folder in (snapshot, FOLDER):
        if (run_dir / folder).exists():
            for path in (run_dir / folder).iterdir():
                file_inside(run_dir, f"{folder}/{path.name}")


async def try_on_branches(
    run: RecordedRun,
    config: RunConfig,
    place: Place,
    proposals: Sequence[Proposal],
    trial: Trial,
    secrets: Sequence[str] = (),
) -> Validation:
    """Check proposals, and judge or race them as the run would have at `place`, against its control.

    Args:
        run: the recorded one.
        config: the one to branch by; it says whether signals are judged or policies race.
        place: point and round.
        proposals: tried in their own order, since no Ranker is asked.
        trial: where branches run.
        secrets: environment variables that workers must not see, besides those that both configs name.

    Raises:
        SnapshotError: the snapshot is gone, or of another version.
        BranchError: a branch could not be run.
    """
    run_dir = run.path
    snapshot = await asyncio.to_thread(check_snapshot, run_dir, place.point)
    same_horizon = config.branches.horizon == run.own.branches.horizon
    with damage_in_words(run_dir):
        tables = await asyncio.to_thread(StartingTables.of, run_dir, place, same_horizon)

    def lay_out() -> TrainerStatus:
        """Make the folder look like a run directory at the point."""
        (trial.folder / "branches").mkdir(parents=True)
        unpack_snapshot(pack_snapshot(run_dir, snapshot), trial.folder, snapshot)
        (trial.folder / "training.json").write_text(run.training.model_dump_json(indent=2))
        return _status_at(run_dir, snapshot, tables.intervention, config)

    def clear() -> None:
        for name in MADE_HERE:
            shutil.rmtree(trial.folder / name, ignore_errors=True)

    def choose(passed: list[ProposalRecord]) -> Candidates | None:
        if not passed:
            return None
        exploration = round_exploration([record.proposal.exploration for record in passed], status.signal)
        return Candidates([record.id for record in passed], exploration)

    try:
        status = await asyncio.to_thread(lay_out)
        async with AsyncExitStack() as stack:
            store = await LoopStore.open(trial.folder)
            stack.push_async_callback(store.close)
            await tables.write_to(store)
            # Branches begin as those of the run do.
            await store.set(warnings=await asyncio.to_thread(lambda: RunView(run_dir).values().get("warnings", {})))
            executor = trial.executor
            if executor is None:
                hidden = [*hidden_from_children(config.llm), *hidden_from_children(run.own.llm), *secrets]
                executor = await stack.enter_async_context(executor_for(config.branches, trial.folder, hidden))
            ctx = await asyncio.to_thread(offline_context, config, trial.folder, store, executor, trial.emit)
            claim = claim_at(config, removing=False)  # to take shaping away nobody is asked for proposals
            result = await run_offline_round(ctx, place, status, proposals, choose, claim)
            return await _validation(ctx, place, snapshot, claim, result, tables)
    finally:
        await asyncio.to_thread(clear)


# ---------------------------------------------------------------- what the run's tables held


@dataclass(frozen=True)
class StartingTables:
    """The run's tables when the round began, with branches from its snapshot that were run later.

    Attributes:
        recorded: the decision of the run about this very round, None where it was not decided.
        reusable: keys of branches that need not be run.
    """

    intervention: InterventionRecord
    decisions: list[DecisionRecord]
    proposals: list[ProposalRecord]
    rankings: list[RankingRecord]
    fits: list[FitRecord]
    branches: list[BranchRecord]
    failed: list[FailedBranchRecord]
    races: list[RaceRecord]
    evaluations: list[EvaluationRecord]
    recorded: DecisionRecord | None
    reusable: frozenset[str]

    @classmethod
    def of(cls, run_dir: Path, place: Place, same_horizon: bool) -> StartingTables:
        """Read them. Branches of another horizon than this round's (`same_horizon`) cannot be reused."""
        view, here = RunView(run_dir), (place.point, place.round)
        decisions, branches = view.decisions(), view.branches()

        # Branches that ran to the full horizon need not be run again, nor the screening that they continue. End states
        # are gone, so screening alone is worth nothing: it could not be continued.
        def arm_and_seed(row: BranchRecord) -> str:
            return row.job.model_dump_json(include={"fork", "signal", "exploration", "seed"})

        here_run = [row for row in branches if row.point == place.point and row.phase in ("screen", "full")]
        whole = {arm_and_seed(row) for row in here_run if row.phase == "full"}
        reusable = {row.key for row in here_run if same_horizon and arm_and_seed(row) in whole}

        # What was paid for before this round counts for the budget, under keys that no job of this round has.
        paid: list[BranchRecord] = []
        for row in branches:
            beside = row.phase in ("probe", "rehearsal") and row.point <= place.point
            if row.key in reusable:
                paid.append(row)
            elif beside or (row.point, row.round) < here:  # paid for before this round
                paid.append(row.model_copy(update={"key": SPENT + row.key}))
        # What failed in this round is tried anew: its fault may be mended.
        failed = [
            row.model_copy(update={"key": SPENT + row.key})
            for row in view.failed_branches()
            if (row.point, row.round) < here or (row.phase in ("probe", "rehearsal") and row.point <= place.point)
        ]
        decided = decision_id(place.point, place.round)
        return cls(
            intervention=next(row for row in view.interventions() if row.point == place.point),
            decisions=decided_before(decisions, *here),
            proposals=[row for row in view.proposals() if (row.point, row.round) < here],
            rankings=[row for row in view.rankings() if row.point <= place.point],
            fits=[row for row in view.fits() if row.point <= place.point],
            branches=paid,
            failed=failed,
            races=[row for row in view.races() if (row.point, row.round) < here],
            evaluations=[
                row.model_copy(update={"key": SPENT + row.key})
                for row in view.evaluations()
                if (row.point, row.round) < here
            ],
            recorded=next((row for row in decisions if row.id == decided), None),
            reusable=frozenset(reusable),
        )

    async def write_to(self, store: LoopStore) -> None:
        """Fill the tables of another run directory."""
        await store.write(self.intervention)
        branched = (self.branches, self.failed, self.races, self.evaluations)
        for rows in (self.decisions, self.proposals, self.rankings, self.fits, *branched):
            await store.write(*rows)


def _status_at(run_dir: Path, snapshot: str, intervention: InterventionRecord, config: RunConfig) -> TrainerStatus:
    """Return the trainer's status at the point: what its snapshot and the evidence of that instant say of it."""
    path, evidence = run_dir / snapshot / "state.json", Evidence.model_validate(intervention.evidence)
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        extra, trained = saved["extra"], steps_trained(saved["line"])
        evaluation = None if extra["evaluation"] is None else EvaluationReport.model_validate(extra["evaluation"])
    except (OSError, ValueError, LookupError) as error:  # a ValidationError is a ValueError
        raise SnapshotError(
            f"{str(path)!r} must be the state of a snapshot, got {error!r}; replay with the version that has made it"
        ) from error
    return TrainerStatus(
        state="waiting",
        update=intervention.point,
        steps_main=evidence.steps,
        steps_evaluation=extra["steps_evaluation"],
        steps_repeated=0,
        steps_trained=trained,
        steps_budget=config.trainer.steps,
        waiting_at=intervention.point,
        snapshot=snapshot,
        stage=evidence.stage,
        signal=evidence.signal,
        sparse_return=evaluation.mean if evaluation else None,
        success_rate=evaluation.success_rate if evaluation else None,
        evaluation=evaluation,
    )


# ---------------------------------------------------------------- what it came to


async def _validation(
    ctx: Context,
    place: Place,
    snapshot: str,
    claim: Literal["policy", "signal"],
    result: OfflineRound,
    tables: StartingTables,
) -> Validation:
    """Say what the round came to, and what it took."""
    outcome, race = result.outcome, result.race
    # Branches that were run here, and not taken from the run or only counted as spent.
    ran = [
        row.result
        for row in await ctx.store.read(BranchRecord, point=place.point)
        if row.key not in tables.reusable and not row.key.startswith(SPENT)
    ]
    played = [row for row in await ctx.store.read(EvaluationRecord, point=place.point) if not row.key.startswith(SPENT)]
    raced = {} if race is None else raced_arms(race, {row.id: row.proposal.title for row in result.proposals})
    arms: list[ReplayedArm] = []
    for record in result.proposals:
        arm = ReplayedArm(
            id=record.id,
            title=record.proposal.title,
            problems=record.problems,
            notes=record.notes,
            verdict="refused",
        )
        if record.id in raced:
            arm = raced.pop(record.id).model_copy(update={"notes": record.notes})
        elif not record.problems and claim == "policy":
            arm = arm.model_copy(update={"verdict": "not_tried"})  # there was no race
        elif record.id in outcome.failed:
            arm = arm.model_copy(update={"verdict": BRANCH_FAILED, "explanation": outcome.failed[record.id]})
        elif (tried := outcome.arm(record.id)) is not None:
            numbers = tried.model_dump(include={"verdict", "gain", "lower", "upper", "seeds", "explanation"})
            arm = arm.model_copy(update=numbers)
        arms.append(arm)
    rungs = [] if race is None else race.detail.rungs
    is_tried = bool(outcome.reason or outcome.judgements or outcome.failed)
    return Validation(
        snapshot=snapshot,
        claim=claim,
        verdict=outcome.verdict,
        winner=outcome.winner,
        reason=(outcome.reason or outcome.explanation) if is_tried else "nothing passed the checks",
        recorded=None if tables.recorded is None else tables.recorded.verdict,
        recorded_claim=None if tables.recorded is None else tables.recorded.detail.claim,
        horizon=rungs[-1].horizon if rungs else outcome.horizon,
        rungs=len(rungs),
        arms=[*arms, *raced.values()],
        branches=len(ran),
        reused=len(result.branch_keys(ctx) & tables.reusable),
        steps=sum(branch.steps for branch in ran),
        steps_evaluation=sum(branch.steps_evaluation for branch in ran) + sum(row.steps for row in played),
    )


def raced_arms(race: RaceRecord, titles: Mapping[str, str]) -> dict[str, ReplayedArm]:
    """Return by name what became of every arm of a race that is over, in the order in which they joined.

    Args:
        race: the race.
        titles: id of a proposal → its title.
    """
    outcomes = {arm.name: arm.outcome for arm in show_race(race, None, titles).arms}
    found: dict[str, ReplayedArm] = {}
    for arm in [*race.detail.arms, *race.detail.waiting]:
        looks, proofs = list[ReplayedLook](), list[ReplayedProof]()
        for rung in race.detail.rungs:
            looks += [
                ReplayedLook(rung=rung.number, mean=look.mean, main_line=rung.control.mean, episodes=look.episodes)
                for look in rung.arms
                if look.arm == arm.name
            ]
            proofs += [
                ReplayedProof(rung=rung.number, **proof.model_dump(include=PROOF_FIELDS))
                for proof in rung.proofs
                if proof.arm == arm.name
            ]
        found[arm.name] = ReplayedArm(
            id=arm.name,
            title=arm_title(arm.name, titles),
            problems=[],
            notes=[],
            verdict=_raced_verdict(race.detail, arm.name),
            explanation=outcomes.get(arm.name, "the race was over before its turn"),
            race=RacedArm(kind=arm.kind, look=looks[-1] if looks else None, proofs=proofs),
        )
    return found


def _raced_verdict(detail: RaceDetail, arm: str) -> str:
    """Name what became of an arm of a race that is over. Of an arm that won, its policy is proven, not its signal."""
    if arm == detail.winner:
        return "policy_proven"
    for rung in detail.rungs:
        if arm in rung.dropped:
            return "dropped" if any(look.arm == arm for look in rung.arms) else BRANCH_FAILED
    return "not_proven" if looks_of(detail, arm) else "not_tried"
