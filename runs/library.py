"""The signals that did well in runs, with what was proven there: `cosignal signals`.

What is listed was put in force after a proof, and no monitor has undone it. A race proves a policy, never the signal
that it was trained under; the gate proves a signal. The list is a file that `adaptation.library` of another run names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ..config.given_signals import MAX_LIBRARY, GivenSignal, Origin
from ..config.identity import task_identity
from ..errors import ConfigError, DamagedRunError
from ..files import write_whole
from ..rl.envs.config import TaskConfig
from ..text import one_line
from .checked import first_problem
from .race_records import RaceRecord
from .races import gain_over_kick
from .records import DecisionRecord, JudgedArm
from .run_view import RunView

# What a claim proves, in words.
PROVEN: dict[Literal["policy", "signal"], str] = {
    "policy": "a policy, not the signal",
    "signal": "the signal",
}
EXPLAINED: dict[Literal["policy", "signal"], str] = {
    "policy": "a policy that was trained under the signal was better than the main line's by the gain in sparse "
    "return, over episodes that no decision had seen; nothing is proven of the signal itself",
    "signal": "branches under the signal ended better than those without it, which explored alike, by the gain in "
    "sparse return, over training seeds",
}


def good_signals(view: RunView) -> list[GivenSignal]:
    """Read the signals of a run's proposals that were put in force after a proof and not undone, the best first.

    Left out are the arms without a signal of their own (the kick alone, the fresh start), what was only taken away, and
    what left by its exact offset, since of these nothing says that a signal did well.

    Raises:
        NotARunError: the run cannot be read; a `DamagedRunError` where its task is none of this version.
    """
    try:
        task = task_identity(TaskConfig.model_validate(view.config["task"]))
    except ValidationError as error:
        raise DamagedRunError(
            f"{str(view.path / 'config.json')!r} must name a task of this version of cosignal, {first_problem(error)}; "
            "look at the run with the version that has made it"
        ) from error
    decisions, races = view.decisions(), {row.id: row for row in view.races()}
    proposals = {row.id: row for row in view.proposals()}
    put_in_force = {row.version: row.applied_steps for row in view.signals()}
    undone = {row.winner for row in decisions if row.verdict == "rollback"}
    found: list[GivenSignal] = []
    for decision in decisions:
        proposal = proposals.get(decision.winner or "")
        if decision.verdict != "accept" or proposal is None or decision.version is None or proposal.id in undone:
            continue
        proof = _policy_proof(decision, races) if decision.detail.claim == "policy" else _signal_proof(decision)
        if proof is None:
            continue
        claim, gain, over_kick = proof
        origin = Origin(
            task=task.name,
            task_digest=task.digest,
            run=view.path.absolute().name,
            seed=view.config["seed"],
            proposal=proposal.id,
            claim=claim,
            gain=gain,
            over_kick=over_kick,
            steps=put_in_force.get(decision.version, decision.created_steps),
        )
        # What belongs to its run does not count elsewhere.
        signal = proposal.signal.model_copy(update={"version": 0, "parent": None, "scale": None})
        found.append(GivenSignal(title=proposal.proposal.title or proposal.id, signal=signal, origin=origin))
    return best_first(found)


Proof = tuple[Literal["policy", "signal"], float, float | None]  # claim, gain, gain over the kick alone


def _policy_proof(decision: DecisionRecord, races: dict[str, RaceRecord]) -> Proof | None:
    """Return the gain of the last confirmation that proved the winner's policy; None where there is no such record."""
    race, winner = races.get(decision.detail.race or decision.id), decision.winner
    if race is None or winner is None:
        return None
    proofs = [proof for rung in race.detail.rungs for proof in rung.proofs if proof.arm == winner and proof.proven]
    over = gain_over_kick(race.detail, winner)
    return ("policy", proofs[-1].gain, None if over is None else over.gain) if proofs else None


def _signal_proof(decision: DecisionRecord) -> Proof | None:
    """Return the gain that the gate has found last; None where it was off, or asked only whether shaping may leave."""
    confirmation, arm = decision.detail.confirmation, decision.detail.arm(decision.winner or "")
    judgement = confirmation.judgement if confirmation is not None else arm
    if decision.detail.claim != "signal" or not isinstance(arm, JudgedArm) or judgement is None or arm.removal:
        return None
    return "signal", judgement.gain, None


def best_first(signals: Sequence[GivenSignal]) -> list[GivenSignal]:
    """Sort by task; within one, proven signals come before those of proven policies, and larger gains first."""

    def place(entry: GivenSignal) -> tuple[str, str, bool, float]:
        assert entry.origin is not None
        return *entry.origin.task_identity, entry.origin.claim == "policy", -entry.origin.gain

    return sorted(signals, key=place)


def write_library(path: Path, signals: Sequence[GivenSignal]) -> int:
    """Write the first `MAX_LIBRARY` of the signals as a file for `adaptation.library`; return how many these are.

    Raises:
        ConfigError: there is none, or the file cannot be written.
    """
    kept = signals[:MAX_LIBRARY]
    if not kept:
        raise ConfigError(f"--out: must have a signal to write, got none; give runs with one, or leave {path} out")
    try:
        content = [entry.model_dump(mode="json") for entry in kept]
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ConfigError(f"--out: must be a file that can be written, got {str(path)!r} ({error.strerror})") from error
    return len(kept)


# ---------------------------------------------------------------- on a terminal


def table_lines(signals: Sequence[GivenSignal]) -> Iterator[str]:
    """Yield the signals as lines of a table, with what each claim that occurs proves below it."""
    origins = [entry.origin for entry in signals if entry.origin is not None]
    rows = [("proven", "gain", "over kick", "task", "seed", "steps", "proposal", "run", "title")]
    for entry, origin in zip(signals, origins, strict=True):
        over = "–" if origin.over_kick is None else f"{origin.over_kick:+.3f}"
        cells = (PROVEN[origin.claim], f"{origin.gain:+.3f}", over, origin.task, str(origin.seed), f"{origin.steps:,}")
        rows.append((*cells, origin.proposal, one_line(origin.run), one_line(entry.title)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    claims = {origin.claim for origin in origins}
    yield from (f"{PROVEN[claim]}: {EXPLAINED[claim]}" for claim in PROVEN if claim in claims)
    if any(origin.over_kick is not None for origin in origins):
        yield "over kick: mean return over that of the arm with the exploration kick alone, at their last common look"
