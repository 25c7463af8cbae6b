"""Outcomes, decisions and finished runs of the loop that are made by hand, for the rows of studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cosignal.studies.loop_arms import LoopRun
from cosignal.studies.outcome import Outcome

Json = dict[str, Any]


def outcome(arm: str, seed: int, final: float = 3.8, **more: Any) -> Outcome:
    settings: Json = {
        "main_to_90": 300_000, "total_to_90": 500_000, "steps_main": 1_500_000, "steps_total": 4_000_000,
        "final_return": final, "final_success": 1.0,
    }  # fmt: skip
    return Outcome(arm, seed, **{**settings, **more})


def decision(verdict: str, title: str | None = None, point: int = 48, removal: bool = False) -> Json:
    return {"point": point, "round": 0, "verdict": verdict, "title": title, "removal": removal}


def loop_run(one: Outcome, *decisions: Json, proposals: tuple[Any, ...] = (), **details: Any) -> LoopRun:
    empty: Json = {"branch_steps": 0, "signals": [], "curve": []}
    return LoopRun(one, {**empty, "decisions": list(decisions), "proposals": list(proposals), **details})


def rows_by_id(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {row["id"]: row for row in rows}
