"""One gate trial: a round of the loop's own `check` and `validate` on a recorded snapshot, with candidates of the
study's choice. The round is `graphs.offline_round`: nothing of the gate is done anew here."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

from ...agents.llm.ledger import Place
from ...agents.prompt_payload import build_payload
from ...agents.rules import critic as rules_critic
from ...agents.schemas import Proposal
from ...config.run_config import RunConfig
from ...files import write_whole
from ...graphs.branches import kept_exploration
from ...graphs.offline_round import Candidates, OfflineRound, offline_context, run_offline_round
from ...rl.branches.jobs import CONTROL, JobReply, OnReply, OnResult
from ...rl.branches.jobs import Job as AnyJob
from ...rl.branches.run_branch import run_branch
from ...rl.branches.run_evaluation import run_evaluation
from ...rl.evidence.schema import Evidence
from ...rl.ipc.messages import BranchJob, BranchReply, BranchResult, TrainerStatus
from ...rl.processes import one_thread
from ...rl.signals.signal import Exploration
from ...rl.stage import STAGES
from ...rl.training.line import TrainingLine
from ...runs.records import InterventionRecord, ProposalRecord
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
    """A gate trial.

    Attributes:
        group: snapshots of one competence.
        snapshot: where the branches fork.
        arm: whether all candidates do harm, or one of them helps.
        number: of the trial at its snapshot; it fixes the candidates.
        exploration: what every arm of the round gets; None for what is in force.
    """

    group: str
    snapshot: Snapshot
    arm: Arm
    number: int
    exploration: Exploration | None = None

    @property
    def name(self) -> str:
        """The name in lines of progress."""
        return f"{self.arm} trial {self.group}-s{self.snapshot.config.seed}-{self.number}"


def trial_job(trial: Trial) -> Job:
    """Make the job of a trial; its content is all that its value follows from."""
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
    return Job("trial", content, work_trial, trial.name, _summary)


def _summary(value: Json) -> str:
    winner = f" of {value['winner_title']!r}" if value["winner"] else ""
    return f"{value['verdict']}{winner}, {value['steps']:_} branch steps at horizon {value['horizon'] or 0:_}"


def work_trial(content: Json, folder: Path) -> Json:
    """Check, screen, judge; a trial that was cut off begins anew, but for the control's branches."""
    one_thread()
    shared, own = Path(content["folder"]), folder / "run"
    shutil.rmtree(own, ignore_errors=True)
    (own / "branches").mkdir(parents=True)
    (own / "checkpoints").symlink_to((shared / "checkpoints").absolute())
    value = asyncio.run(_run_trial(content, shared, own))
    shutil.rmtree(folder)
    return value


async def _run_trial(content: Json, shared: Path, own: Path) -> Json:
    """Run the round in the run directory `own`; control branches are kept in `shared`."""
    config = RunConfig.model_validate(content["config"])
    status = TrainerStatus.model_validate(content["status"])
    exploration = kept_exploration(status.signal)
    if content["exploration"] is not None:
        exploration = Exploration.model_validate(content["exploration"])

    def choose(passed: list[ProposalRecord]) -> Candidates:
        """Take the first that passed; in the arm `good` the one that helps comes last, so that no order favours it."""
        count = config.adaptation.candidates
        bad = [record.id for record in passed if origin(record.proposal.title) == "harmful"]
        good = [record.id for record in passed if record.proposal.title.startswith(GOOD)]
        return Candidates(bad[:count] if content["arm"] == "harmful" else [*bad[: count - 1], *good], exploration)

    # Branches run in this process, on one line that is loaded again for each.
    line = await asyncio.to_thread(TrainingLine, config.training())
    store = await LoopStore.open(own)
    try:
        await store.write(InterventionRecord(point=status.update, evidence=content["evidence"]))
        pool = InProcess(line, shared, own)
        ctx = await asyncio.to_thread(offline_context, config, own, store, pool, lambda _: None)
        result = await run_offline_round(ctx, Place(status.update), status, _drafts(content), choose)
        return _value(result) | {"steps": (await store.extra_steps()).total}
    finally:
        await store.close()


# ---------------------------------------------------------------- candidates


def _drafts(content: Json) -> list[Proposal]:
    """Make harmful proposals of the trial's families, in the arm `good` after the one that helps."""
    config, number, evidence = content["config"], content["number"], Evidence.model_validate(content["evidence"])
    # What a Generator would read, so that the same code makes the same proposals as in a run.
    payload = build_payload(evidence)
    block = payload | {
        "diagnosis": rules_critic.diagnosis(payload),
        "point": content["status"]["update"],
        "candidates": DRAFTS,
        "term_kinds": list(STAGES[evidence.stage].kinds),
        "longest_decay_steps": STAGES[evidence.stage].decay_steps,
    }
    rng = random.Random(f"{config['seed']}-{block['point']}-{number}")
    # First the trial's own families, then all, for `check` may refuse some.
    families = OF_A_TRIAL[number % len(OF_A_TRIAL)]
    bad = [*harmful(block, rng, DRAFTS, families), *harmful(block, rng, DRAFTS)][:DRAFTS]
    proposals = [Proposal.model_validate(proposal) for proposal in bad]
    if content["arm"] == "harmful":
        return proposals
    good = {"title": f"{GOOD}: hand-made", "reason": "Written by hand.", "addresses": ["plateau"], "beta": 0.5}
    return [Proposal.model_validate({**good, "terms": [HAND_MADE]}), *proposals]


def _value(result: OfflineRound) -> Json:
    """Say what came of the round, as plain data."""
    outcome, titles = result.outcome, {record.id: record.proposal.title for record in result.proposals}
    winner = outcome.winner
    bad = [record for record in result.proposals if origin(record.proposal.title) == "harmful"]
    ranked = [] if result.round is None else result.round.candidates
    judged = {"arm", "verdict", "gain", "lower", "upper", "seeds"}
    return {
        "verdict": outcome.verdict,
        "winner": winner,
        "winner_title": CONTROL if winner == CONTROL else titles.get(winner or ""),
        "horizon": outcome.horizon,
        "drafts": len(bad),
        "passed": sum(not record.problems for record in bad),
        "candidates": [[arm, titles[arm]] for arm in ranked],
        "judgements": [judgement.model_dump(mode="json", include=judged) for judgement in outcome.judgements],
    }


class InProcess:
    """Runs branches in this process, as a worker would.

    The control's results and end states are kept beside the snapshot, where all its trials find them; the candidates'
    go with the trial.
    """

    def __init__(self, line: TrainingLine, shared: Path, own: Path) -> None:
        self._line = line
        self._shared = shared
        self._own = own

    @overload
    async def run(self, jobs: Sequence[BranchJob], on_result: OnResult | None = None) -> list[BranchReply]: ...
    @overload
    async def run(self, jobs: Sequence[AnyJob], on_result: OnReply | None = None) -> list[JobReply]: ...
    async def run(self, jobs: Sequence[AnyJob], on_result: Any = None) -> Any:
        """Run the jobs one after another."""
        results = []
        for job in jobs:
            results.append(await asyncio.to_thread(self._run_one, job))
            if on_result is not None:
                await on_result(job, results[-1])
        return results

    def _run_one(self, job: AnyJob) -> JobReply:
        if not isinstance(job, BranchJob):
            return run_evaluation(self._line, self._shared if job.arm == CONTROL else self._own, job)
        if job.arm != CONTROL:
            return run_branch(self._line, self._own, job)
        kept = self._shared / "branches" / f"{job.key}.json"
        if kept.exists():
            return BranchResult.model_validate_json(kept.read_text())
        result = run_branch(self._line, self._shared, job)
        write_whole(kept, result.model_dump_json())
        return result
