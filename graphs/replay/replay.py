"""Recorded questions of a run asked again: one call, or all of a role. The run itself is only read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from langchain_core.language_models import BaseChatModel
from langsmith import tracing_context

from ...agents.config import Role
from ...agents.llm.rate_limits import CallBudget
from ...agents.replay import RecordedQuestion, changed_config, replay_question
from ...agents.replay_results import Replay, RoleReplay
from ...agents.schemas import ProposalSet
from ...config.run_config import RunConfig
from ...errors import ConfigError, ReplayError
from ...rl.training.config import TrainingConfig
from ...runs.replays import check_writable
from ...runs.run_files import damage_in_words
from ...runs.run_view import RunView
from ...runs.trust import SHIPPED_ONLY, Trust, Wish, read_training, replay_wishes
from ..nodes.critic_tools import TOOLS
from .recorded_calls import RunTables
from .validation import RecordedRun, Trial, check_snapshot, try_on_branches

MAY_CHANGE = ("llm", "branches", "gate")  # parts of the config


@dataclass(frozen=True)
class Changes:
    """The differences to the run; without any, the same question goes to the same model.

    Attributes:
        prompt: a template.
        model: a model's name at the role's provider.
        overrides: keys of the run's config, below `MAY_CHANGE`, each `dotted.key=value`.
        chats: chat models that a caller has built, in place of what the config names.
    """

    prompt: Path | None = None
    model: str | None = None
    overrides: Sequence[str] = ()
    chats: Mapping[Role, BaseChatModel] = field(default_factory=dict)


async def replay_call(
    run_dir: Path, call: str, changes: Changes = Changes(), trial: Trial | None = None, trust: Trust = SHIPPED_ONLY
) -> Replay:
    """Ask one recorded call again, through another prompt or model.

    Args:
        run_dir: the run directory.
        call: id of a row of its table `calls`.
        changes: differences to the run. Limits of `llm.limits` hold for this replay alone.
        trial: tries the proposals of the new answer on branches, if it is a valid one.
        trust: what the run directory may name to import, and to send to.

    Raises:
        NotARunError: there is no run; a `DamagedRunError` where it cannot be read.
        TrustError: it names something that `trust` does not have; nobody was asked then, and nothing imported.
        ReplayError: no such call, or one that cannot be asked again.
        ConfigError: the template, the model or an override cannot be used.
        SnapshotError: there is a `trial`, and no snapshot to branch from; nobody was asked then.
        BranchError: a branch could not be run.
    """
    with damage_in_words(run_dir):
        run = await asyncio.to_thread(ReplayedRun.open, run_dir, changes)
        question = run.tables.question(call)
        role = question.first.role
        if trial is not None:
            if role != "generator":
                raise ReplayError(
                    f"--validate: needs a call of the generator, whose answer is proposals, got {question.first.id!r} "
                    f"of the {role}; leave it out"
                )
            await asyncio.to_thread(check_snapshot, run.path, question.place.point)
        training = None if trial is None else await asyncio.to_thread(read_training, run.path)
        trust.require(await asyncio.to_thread(run.wishes, role, training))
    replay = await run.ask(question, CallBudget(run.config.llm.limits))
    if trial is None or training is None or not replay.after.valid:
        return replay
    proposals = ProposalSet.model_validate(replay.after.answer).proposals
    recorded = RecordedRun(run.path, run.own, training)
    validation = await try_on_branches(recorded, run.config, question.place, proposals, trial, trust.secrets())
    return replay.model_copy(update={"validation": validation})


async def replay_role(
    run_dir: Path,
    role: Role,
    changes: Changes = Changes(),
    tell: Callable[[Replay], None] = lambda _: None,
    trust: Trust = SHIPPED_ONLY,
) -> RoleReplay:
    """Ask every question that `role` was asked in the run again, one after the other.

    Where a limit of `llm.limits`, which hold for this replay alone, is reached, the rest is not asked.

    Args:
        run_dir: the run directory.
        role: whose questions.
        changes: differences to the run.
        tell: hears of each replay.
        trust: what the run directory may name to send to.

    Raises:
        NotARunError: there is no run; a `DamagedRunError` where it cannot be read.
        TrustError: it names something that `trust` does not have; nobody was asked then.
        ReplayError: none of the role's calls can be asked again.
        ConfigError: the template, the model or an override cannot be used.
    """
    with damage_in_words(run_dir):
        run = await asyncio.to_thread(ReplayedRun.open, run_dir, changes)
        questions, left_out = run.tables.questions(role)
    if not questions:
        reasons = "; ".join(dict.fromkeys(left_out.values())) or "it was never asked"
        raise ReplayError(f"no question of the role {role!r} can be asked again: {reasons}")
    trust.require(run.wishes(role, None))
    budget, replays = CallBudget(run.config.llm.limits), list[Replay]()
    for question in questions:
        replay = await run.ask(question, budget)
        if replay.after.outcome == "budget":
            break
        replays.append(replay)
        tell(replay)
    return RoleReplay(role=role, replays=replays, left_out=left_out, not_asked=len(questions) - len(replays))


@dataclass(frozen=True)
class ReplayedRun:
    """A run whose calls are asked again.

    Attributes:
        path: the run directory.
        own: its config.
        config: the one to ask with.
        tables: that questions are rebuilt from.
    """

    path: Path
    own: RunConfig
    config: RunConfig
    changes: Changes
    tables: RunTables

    @classmethod
    def open(cls, run_dir: Path, changes: Changes) -> ReplayedRun:
        """Read the run.

        Raises:
            NotARunError: there is no run.
            ReplayError: what comes of it could not be kept there.
            ConfigError: an override that config or replay do not take.
        """
        view = RunView(run_dir)
        check_writable(view.path)
        for override in changes.overrides:
            # Task, trainer and seed are those of the recorded snapshot; under others it would be no replay.
            key = override.partition("=")[0].strip()  # the value may be a secret that was written in the wrong place
            if key.partition(".")[0] not in MAY_CHANGE:
                raise ConfigError(
                    f"--set: a replay takes keys below {', '.join(MAY_CHANGE)}, got {key!r:.60}; leave it out, the "
                    "rest is the run's own"
                )
        older = [] if view.knows_claims else ["gate.claim=signal"]
        file, changed = view.path / "config.json", [*older, *changes.overrides]
        own, config = RunConfig.load(file, older), RunConfig.load(file, changed)
        return cls(view.path, own, config, changes, RunTables(view, own))

    def wishes(self, role: Role, training: TrainingConfig | None) -> list[Wish]:
        """Return what the run directory names that a replay would send to, or import for branches.

        Args:
            role: who is asked.
            training: what trains branches; None where none are run.
        """
        given = [override.partition("=")[0].strip() for override in self.changes.overrides]
        asked = None if role in self.changes.chats else role
        return replay_wishes(self.path, self.config, asked, training, given, self.changes.model)

    async def ask(self, question: RecordedQuestion, budget: CallBudget) -> Replay:
        """Ask a question again.

        As in a run, hosted tracing is off whatever the environment asks for, but with `llm.tracing`.

        Raises:
            ConfigError: a model is named for the embedded rules, or the template cannot be used.
        """
        role = question.first.role
        llm = changed_config(self.config.llm, role, self.changes.prompt, self.changes.model)
        with tracing_context(enabled=self.config.llm.tracing):
            return await replay_question(question, self.own.llm, llm, budget, TOOLS, self.changes.chats.get(role))
