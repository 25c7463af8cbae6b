"""Recorded calls that are asked again from a page.

A form begins a replay, which is done beside the server and kept below `replays/` of the run, as `cosignal replay` keeps
it. The message of one that failed is kept as `NAME.failed`, an edited template as `NAME.md`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Literal, Protocol, cast

from pydantic import ValidationError

from ...agents.config import ROLES, LLMConfig, Role
from ...agents.replay_results import Replay, RoleReplay, turn_name
from ...errors import ConfigError, CosignalError, NotInRunError, ReplayError, StorageError
from ...files import file_inside, write_whole
from ...prompts import check_template, parse_template, read_template
from ...prompts.bounded import off_the_loop
from ..replays import FOLDER, check_writable, new_name, read_replay, write_replay
from ..run_view import RunView
from ..trust import Trust

LONGEST_MESSAGE = 1_000_000  # bytes


@dataclass(frozen=True)
class ReplayRequest:
    """A replay that a form asks for.

    Attributes:
        role: whose question it is.
        call: id of the recorded call; empty for every question of the role.
        prompt: text of an edited template, None for the recorded one.
        model: of the role's provider, None for the recorded one.
        validate: whether branches try the new proposals.
    """

    role: Role
    call: str
    prompt: str | None
    model: str | None
    validate: bool

    @classmethod
    def from_form(cls, form: Mapping[str, str], view: RunView) -> ReplayRequest:
        """Read what the form on the page of a node or of a call sends. Reads the run's files.

        Raises:
            NotInRunError: the role does not exist, or was not asked this call in the run.
        """
        role, call = form.get("role", ""), form.get("call", "")
        if role not in ROLES:
            raise NotInRunError(
                f"a role is one of {', '.join(ROLES)}, got {role[:40]!r}; use the form of a call's page"
            )
        calls = {call.id for call in view.calls() if call.role == role}
        if call and call not in calls:  # checked before it becomes the name of a file
            raise NotInRunError(f"the {role} was not asked {call[:60]!r} in this run; use the form of a call's page")
        # Browsers send \r\n; a template that was left as it is counts as the recorded one.
        prompt = form.get("prompt", "").replace("\r\n", "\n").strip()
        edited = prompt and prompt != template_text(view, role).strip()
        return cls(
            role=role,
            call=call,
            prompt=f"{prompt}\n" if edited else None,
            model=form.get("model", "").strip() or None,
            validate="validate" in form,
        )


class AskAgain(Protocol):
    """Asks recorded calls of a run again. The command hands it in, since pages do not import the graph.

    Args:
        run_dir: the run.
        request: what to ask.
        prompt: file of the template to ask with, None for the recorded one.
        branches: a folder that does not exist yet, for the branches that `request.validate` asks for.
        trust: what the run may name to import, and to send to.

    Raises:
        CosignalError: the calls cannot be asked again.
    """

    async def __call__(
        self, run_dir: Path, request: ReplayRequest, prompt: Path | None, branches: Path, trust: Trust
    ) -> Replay | RoleReplay: ...


@dataclass(frozen=True)
class ReplayStatus:
    """The state of a replay: with the `replay` once it is done, with a `message` where it failed."""

    name: str
    state: Literal["running", "done", "failed"]
    replay: Replay | RoleReplay | None = None
    message: str = ""


class ReplayJobs:
    """Begins replays and knows how they stand; on the event loop of the server."""

    def __init__(self, ask_again: AskAgain) -> None:
        self._ask_again = ask_again
        self._running: dict[tuple[Path, str], asyncio.Task[None]] = {}
        # Messages by run and name; also of those that could not be written to the run.
        self._failed: dict[tuple[Path, str], str] = {}

    async def start(self, run_dir: Path, request: ReplayRequest, trust: Trust) -> str:
        """Begin a replay and return its name, without waiting for it; `trust` as for `AskAgain`.

        Raises:
            ConfigError: the edited template cannot be read or compiled.
        """
        if request.prompt is not None:
            template = parse_template(request.role, request.prompt, Path("of the form"))
            await off_the_loop(check_template, template)
        name = new_name(request.call or f"all-{request.role}")
        self._running[run_dir, name] = asyncio.create_task(self._run(run_dir, name, request, trust))
        return name

    def status(self, run_dir: Path, name: str) -> ReplayStatus:
        """Say where a replay stands.

        Raises:
            NotInRunError: the run has no replay of this name.
        """
        if (run_dir, name) in self._running:
            return ReplayStatus(name, "running")
        if (run_dir, name) in self._failed:
            return ReplayStatus(name, "failed", message=self._failed[run_dir, name])
        for replay in kept_replays(run_dir):
            if replay.name == name:
                return replay
        raise NotInRunError(f"the run has no replay {name!r}; the page of a call begins one")

    async def close(self) -> None:
        """Cancel the replays that are running."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _run(self, run_dir: Path, name: str, request: ReplayRequest, trust: Trust) -> None:
        try:
            await asyncio.to_thread(check_writable, run_dir)
            prompt = None
            if request.prompt is not None:
                prompt = run_dir / FOLDER / f"{name}.md"
                await asyncio.to_thread(_write, prompt, request.prompt)
            replay = await self._ask_again(run_dir, request, prompt, run_dir / FOLDER / name, trust)
            await asyncio.to_thread(write_replay, run_dir, name, replay)
        except Exception as error:  # whoever asked sees only this file
            if not isinstance(error, CosignalError | OSError):
                logging.getLogger(__name__).exception("the replay %s of %s failed", name, run_dir)
            self._failed[run_dir, name] = message = f"{type(error).__name__}: {error}\n"
            with suppress(OSError, ReplayError, StorageError):
                await asyncio.to_thread(check_writable, run_dir)
                await asyncio.to_thread(_write, run_dir / FOLDER / f"{name}.failed", message)
        finally:
            del self._running[run_dir, name]


# ---------------------------------------------------------------- files


def kept_replays(run_dir: Path, call: str | None = None) -> list[ReplayStatus]:
    """Read the replays that are kept, of one call with all its attempts or of the whole run, in the order of names."""
    stem = "" if call is None else turn_name(call) + "-a"
    replays: list[ReplayStatus] = []
    for path in sorted((run_dir / FOLDER).glob(f"{escape(stem)}*")):
        if path.suffix == ".failed":
            try:
                file_inside(path.parent, path.name, LONGEST_MESSAGE)
                message = path.read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                message = f"{str(path)!r} cannot be read: {error}"
            replays.append(ReplayStatus(path.stem, "failed", message=message))
        elif path.suffix == ".json":
            try:
                replays.append(ReplayStatus(path.stem, "done", read_replay(path)))
            except ReplayError as error:
                replays.append(ReplayStatus(path.stem, "failed", message=str(error)))
    return replays


def template_text(view: RunView, role: str) -> str:
    """Return the template that the run's calls of this role were made with: the user's own while it is there."""
    try:
        named = LLMConfig.model_validate(view.config["llm"]).prompt_path(cast("Role", role))
        template = read_template(role, override=named)
    except (ConfigError, ValidationError):  # ValidationError: a config of another version
        # It was moved or changed since: the page begins from the one of this package.
        template = read_template(role)
    return template.path.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    write_whole(path, text)
