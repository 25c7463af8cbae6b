"""Asking recorded questions of a run again: one call, or all of a role. The run itself is only read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from langchain_core.language_models import BaseChatModel
from langsmith import tracing_context

from ...agents.config import LLMConfig, Role
from ...agents.llm.rate_limits import CallBudget
from ...agents.replay import RecordedQuestion, changed_config, replay_question
from ...agents.replay_results import Replay, RoleReplay
from ...agents.schemas import ProposalSet
from ...config.run_config import RunConfig
from ...errors import ConfigError, ReplayError
from ...runs.store import RunView
from ..nodes.critic_tools import TOOLS
from .recorded_calls import RunTables
from .validation import Trial, check_snapshot, try_on_branches

MAY_CHANGE = ("llm", "branches", "gate")  # parts of the config


@dataclass(frozen=True)
class Changes:
    """What is to be another than in the run; nothing, and the same question goes to the same model.

    `prompt`: a template. `model`: a model's name at the role's provider. `overrides`: keys of the run's config, below
    `MAY_CHANGE`, each `dotted.key=value`. `chats`: chat models that somebody has built, in place of what the config
    names.
    """

    prompt: Path | None = None
    model: str | None = None
    overrides: Sequence[str] = ()
    chats: Mapping[Role, BaseChatModel] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """A run whose calls are asked again: its config as it was, and with the changes; its books."""

    run_dir: Path
    own: RunConfig
    config: RunConfig
    changes: Changes
    books: RunTables

    @classmethod
    def open(cls, run_dir: Path, changes: Changes) -> Opened:
        """Reads files. Raises NotARunError, or ConfigError for an override that config or replay do not take."""
        view = RunView(run_dir)
        for override in changes.overrides:
            _check_may_change(override)
        own, config = (RunConfig.load(view.path / "config.json", sets) for sets in ((), changes.overrides))
        return cls(view.path, own, config, changes, RunTables(view, own.adaptation))

    def llm(self, role: Role) -> LLMConfig:
        """Raises ConfigError where a model is named for the embedded rules."""
        return changed_config(self.config.llm, role, self.changes.prompt, self.changes.model)

    async def ask(self, asked: RecordedQuestion, door: CallBudget) -> Replay:
        """As in a run, hosted tracing is off whatever the environment asks for, but with `llm.tracing`."""
        role = asked.first.role
        with tracing_context(enabled=self.config.llm.tracing):
            return await replay_question(asked, self.own.llm, self.llm(role), door, TOOLS, self.changes.chats.get(role))


def _check_may_change(override: str) -> None:
    """Task, trainer and seed are those of the recorded snapshot; under others it would be no replay."""
    key = override.partition("=")[0].strip()  # the value may be a secret that somebody wrote in the wrong place
    if key.partition(".")[0] not in MAY_CHANGE:
        raise ConfigError(
            f"--set: a replay takes keys below {', '.join(MAY_CHANGE)}, got {key!r:.60}; leave it out, the rest is the "
            "run's own"
        )


async def replay_call(run_dir: Path, call: str, changes: Changes = Changes(), trial: Trial | None = None) -> Replay:
    """One recorded call through another prompt or model. Limits of `llm.limits` hold for this replay alone.

    `trial`: the proposals of the new answer, if it is a valid one, are tried on branches.

    Raises:
        NotARunError: there is no run.
        ReplayError: no such call, or one that cannot be asked again.
        ConfigError: the template, the model or an override cannot be used.
        SnapshotError: there is a `trial`, and no snapshot to branch from; nobody was asked then.
        BranchError: a branch could not be run.
    """
    run = await asyncio.to_thread(Opened.open, run_dir, changes)
    asked = run.books.question(call)
    if trial is not None:
        await asyncio.to_thread(_check_can_branch, run, asked)
    replay = await run.ask(asked, CallBudget(run.config.llm.limits))
    if trial is None or not replay.after.valid:
        return replay
    proposals = ProposalSet.model_validate(replay.after.answer).proposals
    found = await try_on_branches(run.run_dir, run.config, run.own, asked.place, proposals, trial)
    return replay.model_copy(update={"validation": found})


def _check_can_branch(run: Opened, asked: RecordedQuestion) -> None:
    role = asked.first.role
    if role != "generator":
        raise ReplayError(
            f"--validate: needs a call of the generator, whose answer is proposals, got {asked.first.id!r} of the "
            f"{role}; leave it out"
        )
    check_snapshot(run.run_dir, asked.place.point)


async def replay_role(
    run_dir: Path, role: Role, changes: Changes = Changes(), tell: Callable[[Replay], None] = lambda _: None
) -> RoleReplay:
    """Every question that `role` was asked in the run, one after the other; `tell` hears of each. Where a limit of
    `llm.limits`, which hold for this replay alone, is reached, the rest is not asked.

    Raises:
        NotARunError: there is no run.
        ReplayError: none of the role's calls can be asked again.
        ConfigError: the template, the model or an override cannot be used.
    """
    run = await asyncio.to_thread(Opened.open, run_dir, changes)
    questions, left_out = run.books.questions(role)
    if not questions:
        reasons = "; ".join(dict.fromkeys(left_out.values())) or "it was never asked"
        raise ReplayError(f"no question of the role {role!r} can be asked again: {reasons}")
    door, replays = CallBudget(run.config.llm.limits), list[Replay]()
    for asked in questions:
        replay = await run.ask(asked, door)
        if replay.after.outcome == "budget":
            break
        replays.append(replay)
        tell(replay)
    return RoleReplay(role=role, replays=replays, left_out=left_out, not_asked=len(questions) - len(replays))
