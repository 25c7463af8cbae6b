"""Races as the store keeps them, with the numbers that a test is about."""

from __future__ import annotations

from typing import Any

from cosignal.runs.race_records import RaceRecord

Json = dict[str, Any]
FIRST, SECOND = "p1-r0-0", "p1-r0-1"  # proposals that race where a test names no arms


def look(arm: str, mean: float, moved: tuple[str, ...] = (), **reached: float) -> Json:
    shares = {name.replace("_2", " ×2"): share for name, share in reached.items()}
    return {
        "arm": arm, "state": "s", "steps": 1, "mean": mean, "sd": 0.5, "episodes": 32, "success": None,
        "reached": shares, "moved": [*moved],
    }  # fmt: skip


def rung(number: int, control: Json, *arms: Json, **dropped: str) -> Json:
    return {
        "number": number, "point": number, "steps_main": number, "horizon": number, "left": 0, "control": control,
        "arms": [*arms], "dropped": {key.replace("_", "-"): why for key, why in dropped.items()},
    }  # fmt: skip


def race(*rungs: Json, kinds: dict[str, str] | None = None, point: int = 1, round_: int = 0) -> RaceRecord:
    arms = [
        {
            "name": name, "kind": kind, "signal": {}, "exploration": {}, "seed": 1, "start": "s", "start_steps": 0,
            "fork": "s", "fork_steps": 0,
        }
        for name, kind in (kinds or {FIRST: "candidate", SECOND: "candidate", "kick@1": "kick"}).items()
    ]  # fmt: skip
    detail = {"fork_steps": 0, "fork": look("control", 0.0), "margin": 0.1, "left": 0, "arms": arms, "rungs": [*rungs]}
    return RaceRecord.model_validate({"id": f"p{point}-r{round_}", "point": point, "round": round_, "detail": detail})
