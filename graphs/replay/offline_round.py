"""Branches of a replay: the proposals of a new answer, tried from the recorded snapshot.

The nodes `check` and `validate` do it, as in a run, on a folder that looks like the run directory did at that point:
the snapshot, and books that hold what came before. So the run itself is only read. Branches that the run had run
already are not run again, since equal jobs give equal results.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from langgraph.runtime import Runtime

from ...agents.config import LLMConfig
from ...agents.llm.hosted_tracing import hidden_from_children
from ...agents.llm.ledger import Call, Place
from ...agents.llm.models import build_models
from ...agents.llm.rate_limits import CallBudget
from ...agents.replay_results import ReplayedArm, Validation
from ...agents.schemas import Proposal
from ...config.run_config import RunConfig
from ...errors import SnapshotError
from ...rl.branches.executors import executor_for
from ...rl.branches.horizon import screening_steps
from ...rl.branches.jobs import Executor
from ...rl.envs.factory import task_spec
from ...rl.evidence.schema import Evidence
from ...rl.ipc import messages as m
from ...rl.ipc.client import MemoryChannel, TrainerClient
from ...rl.signals.scorer import FOLDER, Scorers
from ...rl.training.checkpoint import pack_snapshot, snapshot_name, unpack_snapshot
from ...runs.events import Event
from ...runs.store import LoopStore, Row, RunView
from ..branches import CONTROL, round_exploration
from ..context import Context
from ..history import decided_before, proposal_rows
from ..intervention import load_round, reason_of
from ..nodes.check import check
from ..nodes.validate import validate
from ..state import State

SPENT = "spent:"  # before the key of a branch that is in the books for its steps only
MADE_HERE = ("checkpoints", "branches", "replay", FOLDER)  # folders that are not kept


@dataclass(frozen=True)
class Trial:
    """Where a replay may run branches. `folder`: made for it, below the run's `replays/`. `executor`: in place of what
    `branches` of the config names. `emit` hears of every branch."""

    folder: Path
    executor: Executor | None = None
    emit: Callable[[Event], None] = lambda _: None


class Untrained:
    """Stands where a trainer would be: nothing is asked of one, and nothing can be promoted."""

    def handle(self, request: m.Request) -> m.Reply:
        return m.ErrorReply(error="bad_request", message=f"a replay has no trainer that could answer {request.kind!r}")


def check_snapshot(run_dir: Path, point: int) -> str:
    """The snapshot of an intervention, relative to the run directory.

    Raises:
        SnapshotError: the run does not have it any more.
    """
    name = snapshot_name(point)
    if (run_dir / name / "state.json").is_file():
        return name
    kept = ", ".join(sorted(path.name for path in (run_dir / "checkpoints").glob("update_*"))) or "none"
    raise SnapshotError(
        f"the snapshot of point {point} is gone (kept: {kept}), so no branch can start there; leave out --validate, or "
        "replay a call of an intervention whose snapshot is kept; trainer.keep_looks says of how many a run keeps it"
    )


async def tried_on_branches(
    run_dir: Path, config: RunConfig, own: RunConfig, place: Place, proposals: Sequence[Proposal], trial: Trial
) -> Validation:
    """Check, screen and judge `proposals` as the run would have at `place`, against its control. `own`: the run's
    config, `config`: the one to branch by. They are tried in their own order, since no Ranker is asked.

    Raises:
        SnapshotError: the snapshot is gone, or of another version.
        BranchError: a branch could not be run.
    """
    snapshot = await asyncio.to_thread(check_snapshot, run_dir, place.point)
    books = await asyncio.to_thread(_books, run_dir, place, config.branches.horizon == own.branches.horizon)
    try:
        await asyncio.to_thread(_furnish, run_dir, trial.folder, snapshot)
        async with _context(config, trial, books) as ctx:
            state = _state(place, await asyncio.to_thread(_status, run_dir, snapshot, place.point, books, config))
            return await _validation(ctx, state, proposals, books, snapshot)
    finally:
        await asyncio.to_thread(_clear, trial.folder)


# ---------------------------------------------------------------- the folder and its books


@dataclass(frozen=True)
class StartingTables:
    """Rows to begin with, by table. `verdict`: what the run decided in this very round. `reusable`: keys of branches
    that need not be run."""

    tables: dict[str, list[Row]]
    verdict: str | None
    reusable: frozenset[str]

    @property
    def evidence(self) -> Evidence:
        return Evidence.model_validate(self.tables["diagnoses"][0]["evidence"])


def _books(run_dir: Path, place: Place, same_horizon: bool) -> StartingTables:
    """What the run's tables held when the round began, and what branches from its snapshot came to later."""
    view, here = RunView(run_dir), (place.point, place.round)
    decisions, branches = view.decisions(), view.branches()
    reusable = _reusable(branches, place.point) if same_horizon else frozenset[str]()
    tables = {
        "diagnoses": [row for row in view.looks() if row["point"] == place.point],
        "decisions": decided_before(decisions, *here),
        "proposals": [row for row in view.proposals() if (row["point"], row["round"]) < here],
        "rankings": [row for row in view.rankings() if row["point"] <= place.point],
        "branches": [_kept(row, row["key"] in reusable) for row in branches if _counts(row, here, reusable)],
    }
    verdict = next((row["verdict"] for row in decisions if row["id"] == f"p{place.point}-r{place.round}"), None)
    return StartingTables(tables, verdict, reusable)


def _counts(row: Row, here: tuple[int, int], reusable: frozenset[str]) -> bool:
    """Whether the branch was paid for before this round, or need not be run again in it."""
    beside = row["phase"] in ("probe", "rehearsal") and row["point"] <= here[0]
    return row["key"] in reusable or beside or (row["point"], row["round"]) < here


def _kept(row: Row, reusable: bool) -> Row:
    return row if reusable else row | {"key": SPENT + row["key"]}


def _reusable(branches: Sequence[Row], point: int) -> frozenset[str]:
    """Branches that ran to the full horizon, and the screening that they continue. End states are gone, so screening
    alone is worth nothing: it could not be continued."""
    rows = [row for row in branches if row["point"] == point and row["phase"] in ("screen", "full")]
    whole = {_line(row) for row in rows if row["phase"] == "full"}
    return frozenset(row["key"] for row in rows if _line(row) in whole)


def _line(row: Row) -> str:
    """What the screening and the full branch of one arm and seed have in common."""
    return json.dumps([row["job"].get(name) for name in ("fork", "signal", "exploration", "seed")], sort_keys=True)


def _furnish(run_dir: Path, folder: Path, snapshot: str) -> None:
    (folder / "branches").mkdir(parents=True)
    unpack_snapshot(pack_snapshot(run_dir, snapshot), folder, snapshot)
    shutil.copyfile(run_dir / "training.json", folder / "training.json")


def _clear(folder: Path) -> None:
    """The books stay, what is large goes."""
    for name in MADE_HERE:
        shutil.rmtree(folder / name, ignore_errors=True)


# ---------------------------------------------------------------- what the nodes need


@asynccontextmanager
async def _context(config: RunConfig, trial: Trial, books: StartingTables) -> AsyncIterator[Context]:
    store = await LoopStore.open(trial.folder)
    try:
        for table, rows in books.tables.items():
            await store.write_all(table, rows)
        if trial.executor is not None:
            yield await asyncio.to_thread(_ctx, config, trial, store, trial.executor)
            return
        async with executor_for(config.branches, trial.folder, hidden_from_children(config.llm)) as executor:
            yield await asyncio.to_thread(_ctx, config, trial, store, executor)
    finally:
        await store.close()


def _ctx(config: RunConfig, trial: Trial, store: LoopStore, executor: Executor) -> Context:
    """A replay is judged by the gate also where the run had none."""
    calls: list[Call] = []
    gated = config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"gated": True})})
    return Context(
        config=gated,
        run_dir=trial.folder,
        client=TrainerClient(MemoryChannel(Untrained())),
        pool=executor,
        store=store,
        models=build_models(LLMConfig(), CallBudget(config.llm.limits), calls.append),  # nobody is asked
        spec=task_spec(config.task),
        calls=calls,
        emit=trial.emit,
        scorers=Scorers(trial.folder / FOLDER),
    )


def _status(run_dir: Path, snapshot: str, point: int, books: StartingTables, config: RunConfig) -> m.TrainerStatus:
    """The trainer's at the point: what its snapshot and the evidence of that instant say of it."""
    path, evidence = run_dir / snapshot / "state.json", books.evidence
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        extra, adopted, told = saved["extra"], saved["line"]["steps_adopted"], saved["extra"]["evaluation"]
        evaluation = None if told is None else m.EvaluationReport.model_validate(told)
    except (OSError, ValueError, LookupError) as error:  # a ValidationError is a ValueError
        raise SnapshotError(
            f"{str(path)!r} must be the state of a snapshot, got {error!r}; replay with the version that has made it"
        ) from error
    return m.TrainerStatus(
        state="waiting", update=point, steps_main=evidence.steps, steps_evaluation=extra["steps_evaluation"],
        steps_repeated=0, steps_adopted=adopted, steps_budget=config.trainer.steps, waiting_at=point,
        snapshot=snapshot, stage=evidence.stage, signal=evidence.signal,
        sparse_return=evaluation.mean if evaluation else None,
        success_rate=evaluation.success_rate if evaluation else None, evaluation=evaluation,
    )  # fmt: skip


def _state(place: Place, status: m.TrainerStatus) -> State:
    return {"point": place.point, "round": place.round, "status": status.model_dump(mode="json")}


# ---------------------------------------------------------------- the round


async def _validation(
    ctx: Context, state: State, proposals: Sequence[Proposal], books: StartingTables, fork: str
) -> Validation:
    rows, runtime = proposal_rows(state, proposals), Runtime(context=ctx)
    await ctx.store.write_all("proposals", rows)
    state = _with(state, await check(state, runtime))
    outcome: dict[str, Any] = {"verdict": "no_candidate", "winner": None, "judgements": [], "screened": []}
    if state["passed"]:
        in_force = m.TrainerStatus.model_validate(state["status"]).signal
        passed = [p for row, p in zip(rows, proposals, strict=True) if row["id"] in state["passed"]]
        exploration = round_exploration([proposal.exploration for proposal in passed], in_force)
        ranked: State = {"ranked": state["passed"], "exploration": exploration.model_dump(mode="json")}
        state = _with(state, ranked)
        outcome = (await validate(state, runtime))["outcome"]
    return await _told(ctx, state, outcome, books, fork)


def _with(state: State, update: State) -> State:
    return cast(State, {**state, **update})


async def _told(ctx: Context, state: State, outcome: dict[str, Any], books: StartingTables, fork: str) -> Validation:
    rows = await ctx.store.rows("proposals", point=state["point"], round=state["round"])
    found = {arm["arm"]: arm for arm in [*outcome["judgements"], *outcome["screened"]]}
    ran = [
        row["result"]
        for row in await ctx.store.rows("branches", point=state["point"])
        if row["key"] not in books.reusable and not row["key"].startswith(SPENT)
    ]
    return Validation(
        snapshot=fork,
        verdict=outcome["verdict"],
        winner=outcome["winner"],
        reason=reason_of(outcome) if outcome["judgements"] else "nothing passed the checks",
        recorded=books.verdict,
        horizon=outcome.get("horizon"),
        arms=[_arm(row, found.get(row["id"])) for row in rows],
        branches=len(ran),
        reused=await _reused(ctx, state, outcome, books.reusable) if state["passed"] else 0,
        steps=sum(result["steps"] for result in ran),
        steps_evaluation=sum(result["steps_evaluation"] for result in ran),
    )


def _arm(row: Row, found: Row | None) -> ReplayedArm:
    told = {} if found is None else {name: found[name] for name in ("gain", "lower", "upper", "seeds", "explanation")}
    return ReplayedArm(
        id=row["id"],
        title=row["proposal"]["title"],
        problems=row["problems"],
        notes=row["notes"],
        verdict="refused" if found is None else found["verdict"],
        **told,
    )


async def _reused(ctx: Context, state: State, outcome: dict[str, Any], reusable: frozenset[str]) -> int:
    """How many branches of this round the run had run already."""
    this = await load_round(ctx, state)
    half, seeds = screening_steps(this.horizon), range(ctx.config.branches.screen_seeds)
    branched = [arm["arm"] for arm in [*outcome["judgements"], *outcome["screened"]] if arm["seeds"]]
    keys = {this.job(ctx, arm, seed, half).key for arm in {CONTROL, *branched} for seed in seeds}
    for judged in outcome["judgements"]:
        arms = {CONTROL, judged["arm"]}
        keys |= {this.job(ctx, arm, seed, this.horizon).key for arm in arms for seed in judged["seeds"]}
    return len(keys & reusable)
