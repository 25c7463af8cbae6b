"""One gate trial: a whole round of the loop's own `check` and `validate` on a recorded snapshot, with candidates of the
study's choice. Nothing of the gate is done anew here; only the trainer and the models are absent."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from langgraph.runtime import Runtime

from ...agents.llm.models import build_models
from ...agents.llm.rate_limits import CallBudget
from ...agents.prompt_payload import build_payload
from ...agents.rules import critic as rules_critic
from ...agents.schemas import Proposal
from ...config.run_config import RunConfig
from ...files import write_whole
from ...graphs.branches import CONTROL, kept_exploration
from ...graphs.context import Context
from ...graphs.history import proposal_rows
from ...graphs.nodes.check import check
from ...graphs.nodes.validate import validate
from ...graphs.state import State
from ...rl.branches.jobs import OnResult
from ...rl.branches.run_branch import run_branch
from ...rl.envs.factory import task_spec
from ...rl.evidence.schema import Evidence
from ...rl.ipc.client import MemoryChannel, TrainerClient
from ...rl.ipc.messages import BranchJob, BranchResult, ErrorReply, Reply, Request, TrainerStatus
from ...rl.processes import one_thread
from ...rl.signals.signal import Exploration
from ...rl.stage import STAGES
from ...rl.training.line import TrainingLine
from ...runs.store import LoopStore
from ..job_cache import Job
from ..two_switch import HAND_MADE
from .harmful_proposals import FAMILIES, Family, harmful, origin
from .snapshots import Snapshot

Arm = Literal["harmful", "good"]
Json = dict[str, Any]
GOOD = "Good"  # how the title of the one helpful candidate begins
DRAFTS = 24  # harmful proposals made for a trial; the first ones that pass `check` are its candidates
OF_A_TRIAL: tuple[tuple[Family, ...], ...] = (*((family,) for family in FAMILIES), FAMILIES)  # by the trial's number


@dataclass(frozen=True)
class Trial:
    """`exploration`: what every arm of the round gets, None for what is in force. `number`: of the trial at its
    snapshot; it fixes the candidates."""

    group: str
    snapshot: Snapshot
    arm: Arm
    number: int
    exploration: Exploration | None = None

    @property
    def name(self) -> str:
        return f"{self.arm} trial {self.group}-s{self.snapshot.config.seed}-{self.number}"


def trial_job(trial: Trial) -> Job:
    snapshot = trial.snapshot
    content = {
        "config": snapshot.config.model_dump(mode="json", exclude={"run_dir"}),
        "folder": str(snapshot.folder),
        "status": snapshot.status.model_dump(mode="json"),
        "evidence": snapshot.evidence.model_dump(mode="json"),
        "exploration": None if trial.exploration is None else trial.exploration.model_dump(mode="json"),
        "arm": trial.arm,
        "number": trial.number,
    }
    return Job("trial", content, work_trial, trial.name, _told)


def _told(value: Json) -> str:
    winner = f" of {value['winner_title']!r}" if value["winner"] else ""
    return f"{value['verdict']}{winner}, {value['steps']:_} branch steps at horizon {value['horizon'] or 0:_}"


def work_trial(content: Json, folder: Path) -> Json:
    """Check, screen, judge; a trial that was cut off begins anew, but for the control's branches."""
    one_thread()
    shared, own = Path(content["folder"]), folder / "run"
    shutil.rmtree(own, ignore_errors=True)
    (own / "branches").mkdir(parents=True)
    (own / "checkpoints").symlink_to((shared / "checkpoints").absolute())
    value = asyncio.run(_trial(content, shared, own))
    shutil.rmtree(folder)
    return value


async def _trial(content: Json, shared: Path, own: Path) -> Json:
    config = RunConfig.model_validate(content["config"])
    status = TrainerStatus.model_validate(content["status"])
    line = await asyncio.to_thread(TrainingLine, config.training())
    store = await LoopStore.open(own)
    try:
        runtime = Runtime(context=_context(config, status, store, InProcess(line, shared, own), own))
        await store.write("diagnoses", {"point": status.update, "evidence": content["evidence"]})
        state: State = {"point": status.update, "round": 0, "status": content["status"]}
        rows = proposal_rows(state, _drafts(content))
        await store.write_all("proposals", rows)
        passed = (await check(state, runtime))["passed"]
        titles = {row["id"]: row["proposal"]["title"] for row in rows}
        ranked = _chosen(content["arm"], passed, titles, config.adaptation.candidates)
        exploration = content["exploration"] or kept_exploration(status.signal).model_dump(mode="json")
        state = {**state, "passed": passed, "ranked": ranked, "exploration": exploration}
        outcome = (await validate(state, runtime))["outcome"]
        return _value(outcome, titles, passed, ranked) | {"steps": await store.branch_steps()}
    finally:
        await store.close()


def _context(config: RunConfig, status: TrainerStatus, store: LoopStore, pool: InProcess, own: Path) -> Context:
    """What nodes get; nobody is there to be asked but the pool."""
    calls: list[Any] = []
    return Context(
        config=config,
        run_dir=own,
        client=TrainerClient(MemoryChannel(Standing(status))),
        pool=pool,
        store=store,
        models=build_models(config.llm, CallBudget(config.llm.limits), calls.append),
        spec=task_spec(config.task),
        calls=calls,
        emit=lambda event: None,  # noqa: ARG005 - nobody watches
    )


# ---------------------------------------------------------------- candidates


def _drafts(content: Json) -> list[Proposal]:
    """Harmful proposals of the trial's families, in the arm `good` after the one that helps."""
    config, number, evidence = content["config"], content["number"], Evidence.model_validate(content["evidence"])
    context = build_payload(evidence)
    block = context | {
        "diagnosis": rules_critic.diagnosis(context),
        "point": content["status"]["update"],
        "candidates": DRAFTS,
        "term_kinds": list(STAGES[evidence.stage].kinds),
    }
    rng = random.Random(f"{config['seed']}-{block['point']}-{number}")
    families = OF_A_TRIAL[number % len(OF_A_TRIAL)]
    bad = [*harmful(block, rng, DRAFTS, families), *harmful(block, rng, DRAFTS)][:DRAFTS]
    proposals = [Proposal.model_validate(proposal) for proposal in bad]
    if content["arm"] == "harmful":
        return proposals
    good = {"title": f"{GOOD}: hand-made", "reason": "Written by hand.", "addresses": ["plateau"], "beta": 0.5}
    return [Proposal.model_validate({**good, "terms": [HAND_MADE]}), *proposals]


def _chosen(arm: Arm, passed: Sequence[str], titles: Json, count: int) -> list[str]:
    """The first that passed; in the arm `good` the one that helps comes last, so that no order favours it."""
    bad = [key for key in passed if origin(titles[key]) == "harmful"]
    good = [key for key in passed if titles[key].startswith(GOOD)]
    return bad[:count] if arm == "harmful" else [*bad[: count - 1], *good]


def _value(outcome: Json, titles: Json, passed: Sequence[str], ranked: Sequence[str]) -> Json:
    winner = outcome["winner"]
    bad = [key for key, title in titles.items() if origin(title) == "harmful"]
    judged = ("arm", "verdict", "gain", "lower", "upper", "seeds")
    return {
        "verdict": outcome["verdict"],
        "winner": winner,
        "winner_title": CONTROL if winner == CONTROL else titles.get(winner or ""),
        "horizon": outcome.get("horizon"),
        "drafts": len(bad),
        "passed": sum(key in passed for key in bad),
        "candidates": [[key, titles[key]] for key in ranked],
        "judgements": [{key: judgement[key] for key in judged} for judgement in outcome["judgements"]],
    }


# ---------------------------------------------------------------- in place of trainer and workers


class Standing:
    """A trainer that stands at its snapshot for ever."""

    def __init__(self, status: TrainerStatus) -> None:
        self.status = status

    def handle(self, request: Request) -> Reply:
        if request.kind == "get_status":
            return self.status
        return ErrorReply(error="bad_request", message=f"nothing is trained in a trial, got {request.kind!r}")


class InProcess:
    """Runs branches in this process, as a worker would. The control's results and end states are kept beside the
    snapshot, where all its trials find them; the candidates' go with the trial."""

    def __init__(self, line: TrainingLine, shared: Path, own: Path) -> None:
        self._line = line
        self._shared = shared
        self._own = own

    async def run(self, jobs: Sequence[BranchJob], on_result: OnResult | None = None) -> list[BranchResult]:
        results = []
        for job in jobs:
            results.append(await asyncio.to_thread(self._control if job.arm == CONTROL else self._candidate, job))
            if on_result is not None:
                await on_result(job, results[-1])
        return results

    def _candidate(self, job: BranchJob) -> BranchResult:
        return run_branch(self._line, self._own, job)

    def _control(self, job: BranchJob) -> BranchResult:
        kept = self._shared / "branches" / f"{job.key}.json"
        if kept.exists():
            return BranchResult.model_validate_json(kept.read_text())
        result = run_branch(self._line, self._shared, job)
        write_whole(kept, result.model_dump_json())
        return result
