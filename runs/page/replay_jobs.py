"""Asking recorded calls again from a page: begun by a form, done beside the server, kept below the run as by
`cosignal replay`. What failed is kept as `NAME.failed`, in words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, cast

from ...agents.config import LLMConfig, Role
from ...agents.replay_results import Replay, RoleReplay
from ...errors import ConfigError, CosignalError, NotInRunError, ReplayError
from ...prompts import load_template
from ..replays import FOLDER, new_name, read_replay, write_replay
from ..store import RunView

LONGEST = 500_000  # characters of a form
ROLES = ("critic", "generator", "ranker")
Row = dict[str, Any]


@dataclass(frozen=True)
class ReplayRequest:
    """What a form asked for. `call` or `role`, the other is empty; `prompt`: text of a template, None for the recorded
    one; `model`: None for the recorded one."""

    call: str
    role: str
    prompt: str | None
    model: str | None
    validate: bool

    @classmethod
    def of(cls, form: Mapping[str, str], own_prompt: str) -> ReplayRequest:
        prompt = form.get("prompt", "").replace("\r\n", "\n").strip()
        changed = prompt and prompt != own_prompt.strip()
        return cls(
            form.get("call", ""), form.get("role", ""), f"{prompt}\n" if changed else None,
            form.get("model", "").strip() or None, "validate" in form,
        )  # fmt: skip


class ReplayJobs:
    """`start` begins one and gives its name at once; `found` says what has come of it."""

    def __init__(self) -> None:
        self._running: dict[tuple[Path, str], asyncio.Task[None]] = {}
        self._failed: dict[tuple[Path, str], str] = {}  # also where nothing can be written

    async def start(self, run_dir: Path, wish: ReplayRequest) -> str:
        name = new_name(wish.call or f"all-{wish.role}")
        self._running[run_dir, name] = asyncio.create_task(self._run(run_dir, name, wish))
        return name

    async def _run(self, run_dir: Path, name: str, wish: ReplayRequest) -> None:
        try:
            found = await _asked(run_dir, name, wish)
            await asyncio.to_thread(write_replay, run_dir, name, found)
        except (CosignalError, OSError) as error:
            self._failed[run_dir, name] = words = f"{type(error).__name__}: {error}\n"
            with suppress(OSError):
                await asyncio.to_thread(_write, run_dir / FOLDER / f"{name}.failed", words)
        finally:
            del self._running[run_dir, name]

    def found(self, run_dir: Path, name: str) -> Row:
        """`state`: running, done or failed; with the replay, or the words. Raises NotInRunError for an unknown name."""
        if (run_dir, name) in self._running:
            return {"state": "running"}
        if (run_dir, name) in self._failed:
            return {"state": "failed", "words": self._failed[run_dir, name]}
        for row in kept_replays(run_dir):
            if row["name"] == name:
                return row
        raise NotInRunError(f"the run has no replay {name!r}; the page of a call begins one")

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)


async def _asked(run_dir: Path, name: str, wish: ReplayRequest) -> Replay | RoleReplay:
    """Imported here: it takes seconds, and most who look never ask."""
    from ...graphs.replay.offline_round import Trial
    from ...graphs.replay.replay import Changes, replay_call, replay_role

    prompt = None if wish.prompt is None else run_dir / FOLDER / f"{name}.md"
    if prompt is not None:
        await asyncio.to_thread(_write, prompt, str(wish.prompt))
    changes = Changes(prompt, wish.model)
    if wish.call:
        trial = Trial(run_dir / FOLDER / name) if wish.validate else None
        return await replay_call(run_dir, wish.call, changes, trial)
    return await replay_role(run_dir, cast("Role", wish.role), changes)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def kept_replays(run_dir: Path, call: str | None = None) -> list[Row]:
    """What is kept, of one call or of all, by name: `state` done with the `replay`, or failed with the `words`."""
    stem = "" if call is None else call.rpartition("-a")[0] + "-a"
    paths = [
        path for path in sorted((run_dir / FOLDER).glob(f"{escape(stem)}*")) if path.suffix in (".json", ".failed")
    ]
    return [_kept(path) for path in paths]


def _kept(path: Path) -> Row:
    if path.suffix == ".failed":
        return {"name": path.stem, "state": "failed", "words": path.read_text(encoding="utf-8", errors="replace")}
    try:
        return {"name": path.stem, "state": "done", "replay": read_replay(path)}
    except ReplayError as error:
        return {"name": path.stem, "state": "failed", "words": str(error)}


def template_text(view: RunView, role: str) -> str:
    """The template that the run's calls of this role were made with: the user's own while it is there."""
    given = LLMConfig.model_validate(view.config["llm"]).prompt_path(cast("Role", role))
    try:
        template = load_template(role, override=given)
    except ConfigError:  # moved since: the page begins from the one of this package
        template = load_template(role)
    return template.path.read_text(encoding="utf-8")
