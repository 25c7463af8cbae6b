"""The signals that did well in runs, from made-up run directories: what counts, and what is said to be proven."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cosignal.config.given_signals import MAX_LIBRARY, GivenSignal, Origin, read_signals
from cosignal.config.identity import task_identity
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError, DamagedRunError
from cosignal.runs.library import best_first, good_signals, table_lines, write_library
from cosignal.runs.records import DecisionRecord
from cosignal.runs.run_view import RunView
from cosignal.runs.store import LoopStore
from cosignal.testing.run_directory import POINT, WINNER
from made_up_run import RACE

SIGNAL, POLICY = f"p{POINT}-r1-0", f"p{RACE}-r0-1"  # what the made-up runs have promoted and adopted


def changed(path: Path, key: str, detail: dict[str, Any] | None = None, **columns: Any) -> RunView:
    """Write a decision of the run again, with some of it changed."""
    view = RunView(path)
    [row] = [row for row in view.decisions() if row.id == key]
    more = row.detail.model_copy(update=detail or {})

    async def write(record: DecisionRecord) -> None:
        store = await LoopStore.open(path)
        await store.write(record)
        await store.close()

    asyncio.run(write(row.model_copy(update={"detail": more, **columns})))
    return view


def origin_of(entry: GivenSignal) -> Origin:
    assert entry.origin is not None
    return entry.origin


def test_a_promoted_signal_is_told_with_the_gates_gain(finished_run: Path) -> None:
    [entry] = good_signals(RunView(finished_run))
    origin = origin_of(entry)
    [judged] = [row.detail.arm(SIGNAL) for row in RunView(finished_run).decisions() if row.winner == SIGNAL]
    assert judged is not None
    assert (origin.claim, origin.gain, origin.over_kick) == ("signal", judged.gain, None)
    assert (origin.proposal, origin.run, origin.seed) == (SIGNAL, finished_run.name, RunConfig().seed)
    assert origin.task_identity == task_identity(RunConfig().task)
    assert origin.steps == POINT * 2048  # where it was put in force
    assert [term.model_dump(mode="json") for term in entry.signal.terms] == [
        term | {"anneal_steps": None} for term in WINNER
    ]
    assert (entry.signal.version, entry.signal.parent, entry.signal.scale) == (0, None, None)


def test_an_adopted_policy_is_told_with_its_proof_and_its_gain_over_the_kick(raced_run: Path) -> None:
    """The signals that left by their offset, the race without a winner and the arms without a signal are not told."""
    signal, policy = good_signals(RunView(raced_run))
    assert (origin_of(signal).claim, origin_of(signal).proposal) == ("signal", SIGNAL)
    origin = origin_of(policy)
    assert (origin.claim, origin.proposal, origin.gain) == ("policy", POLICY, 1.453)
    assert origin.over_kick == pytest.approx(3.47 - 1.99)  # after the last rung


@pytest.mark.parametrize(
    ("detail", "columns"),
    [
        ({}, {"verdict": "declined"}),
        ({}, {"verdict": "stale"}),
        ({}, {"version": None}),  # killed before it was put in force
        ({"judgements": []}, {}),  # the gate was off
        ({"claim": "offset"}, {}),
        ({}, {"winner": "control"}),
    ],
)
def test_what_was_not_proven_or_not_put_in_force_is_left_out(
    finished_run: Path, detail: dict[str, Any], columns: dict[str, Any]
) -> None:
    assert good_signals(changed(finished_run, f"p{POINT}-r1", detail, **columns)) == []


def test_a_removal_is_no_signal_that_did_well(finished_run: Path) -> None:
    [row] = [row for row in RunView(finished_run).decisions() if row.winner == SIGNAL]
    judged = [arm.model_copy(update={"removal": True}) for arm in row.detail.judgements]
    assert good_signals(changed(finished_run, row.id, {"judgements": judged})) == []


def test_what_was_rolled_back_is_left_out(eventful_run: Path) -> None:
    assert good_signals(RunView(eventful_run)) == []


def test_a_run_of_a_task_that_is_none_is_damaged(finished_run: Path) -> None:
    config = json.loads((finished_run / "config.json").read_text())
    config["task"]["gravity"] = 9.81
    (finished_run / "config.json").write_text(json.dumps(config))
    with pytest.raises(DamagedRunError, match="must name a task of this version"):
        good_signals(RunView(finished_run))


def test_the_table_says_of_each_what_was_proven_and_never_more(raced_run: Path) -> None:
    head, signal, policy, blank, *below = table_lines(good_signals(RunView(raced_run)))
    assert head.split() == ["proven", "gain", "over", "kick", "task", "seed", "steps", "proposal", "run", "title"]
    assert signal.startswith("the signal ") and policy.startswith("a policy, not the signal ")
    assert (blank, len(below)) == ("", 3)
    assert "nothing is proven of the signal itself" in below[0] and below[0].startswith("a policy, not the signal: ")
    assert "over training seeds" in below[1]
    assert not any("a policy" in line for line in table_lines(good_signals(RunView(raced_run))[:1]))


def test_a_title_is_one_printable_line(finished_run: Path) -> None:
    [entry] = good_signals(RunView(finished_run))
    lines = list(table_lines([entry.model_copy(update={"title": "a\n\x1b[2Jb"})]))
    assert lines[1].endswith("a \\x1b[2Jb") and all(line.isprintable() for line in lines)


def test_the_best_come_first_and_proven_signals_before_proven_policies(raced_run: Path) -> None:
    signal, policy = good_signals(RunView(raced_run))

    def like(entry: GivenSignal, **changes: Any) -> GivenSignal:
        return entry.model_copy(update={"origin": origin_of(entry).model_copy(update=changes)})

    better, other = like(policy, gain=99.0), like(signal, task="relay", gain=-1.0)
    assert best_first([policy, signal, better, other]) == [other, signal, better, policy]


def test_a_written_library_reads_back_and_has_a_most(finished_run: Path, tmp_path: Path) -> None:
    [entry] = good_signals(RunView(finished_run))
    path = tmp_path / "good.json"
    assert write_library(path, [entry] * (MAX_LIBRARY + 3)) == MAX_LIBRARY
    assert write_library(path, [entry]) == 1
    config = RunConfig.model_validate({"adaptation": {"library": [str(path)]}})
    assert config.adaptation.library == (entry,)
    assert len(read_signals(path)) == 1
    with pytest.raises(ConfigError, match="must have a signal to write, got none"):
        write_library(path, [])
    with pytest.raises(ConfigError, match="must be a file that can be written"):
        write_library(tmp_path / "nowhere" / "x.json", [entry])
