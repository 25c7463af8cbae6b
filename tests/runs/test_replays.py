"""Replays on the terminal, and as files of a run."""

from __future__ import annotations

import io
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.replay_results import Rebuilt, Replay, ReplayedArm, RoleReplay, Side, Validation
from cosignal.errors import ReplayError, StorageError
from cosignal.runs.replays import (
    call_line,
    check_writable,
    new_name,
    read_replay,
    replay_lines,
    show,
    summary_lines,
    write_replay,
)
from replays import raced_replay
from rich.console import Console

RECORDED: dict[str, Any] = {
    "provider": "rules", "model": "rules", "prompt_id": "generator/v1", "prompt_hash": "0123456789abcdef",
    "outcome": "ok", "valid": True, "answer": {"a": 1}, "raw": "{}", "error": None, "attempts": 1, "repairs": 0,
    "tool_calls": 0, "input_tokens": None, "output_tokens": None, "cost_usd": 0.0, "latency_s": 0.004,
}  # fmt: skip


def replay(**after: Any) -> Replay:
    before, new = Side.model_validate(RECORDED), Side.model_validate(RECORDED | after)
    same = before.answer == new.answer and new.valid
    lines = [] if same else ["--- recorded", "+++ replayed", '-  "title": "x\x1b[2J"', "+      y"]
    return Replay(
        call="p16-r0-generator-t0-a0", role="generator", point=16, round=0, prompt=None, rebuilt=Rebuilt(same=True),
        before=before, after=new, same_answer=same, difference=lines,
    )  # fmt: skip


OTHER = replay(
    provider="openai", model="tiny", outcome="repaired", answer={"a": 2}, attempts=2, repairs=1, input_tokens=1234,
    output_tokens=56, cost_usd=0.01234, latency_s=3.21,
)  # fmt: skip
WRONG = replay(outcome="invalid", valid=False, answer=None, error="no JSON\nat all", cost_usd=None, input_tokens=10)


def test_both_sides_stand_beside_each_other() -> None:
    assert [line.text for line in replay_lines(OTHER)][:13] == [
        "p16-r0-generator-t0-a0: generator, point 16, round 0",
        "              recorded                   replayed",
        "answered by   rules                      openai tiny",
        "prompt        generator/v1 0123456789ab  generator/v1 0123456789ab",
        "outcome       ok                         repaired",
        "valid         yes                        yes",
        "repair turns  0                          1",
        "attempts      1                          2",
        "tool calls    0                          0",
        "tokens in     not counted                1,234",
        "tokens out    not counted                56",
        "cost          $0.0000                    $0.0123",
        "latency       0.00 s                     3.21 s",
    ]


def test_the_difference_keeps_its_indent_and_no_control_characters() -> None:
    assert [line.text for line in replay_lines(OTHER)][13:] == [
        "--- recorded", "+++ replayed", '-  "title": "x\\x1b[2J"', "+      y",
    ]  # fmt: skip
    assert [line.text for line in replay_lines(replay())][-1] == "the same answer"


def test_another_question_is_told_first() -> None:
    told = replay().model_copy(update={"rebuilt": Rebuilt(same=False, note="another text then")})
    assert [line.text for line in replay_lines(told)][1] == "not the same question: another text then"
    assert call_line(told).text.endswith("(not the same question)")


def test_what_branches_said() -> None:
    arms = [
        ReplayedArm(id="p16-r0-0", title="Near", problems=[], notes=[], verdict="accept", explanation="gain +1.000"),
        ReplayedArm(id="p16-r0-1", title="Flat", problems=["it is constant"], notes=[], verdict="refused"),
    ]
    found = Validation(
        snapshot="checkpoints/update_000000016", verdict="accept", winner="p16-r0-0", reason="gain +1.000",
        recorded="no_difference", horizon=1000, arms=arms, branches=7, reused=6, steps=5000, steps_evaluation=700,
    )  # fmt: skip
    told = [line.text for line in replay_lines(OTHER.model_copy(update={"validation": found}))]
    assert told[-7:] == [
        "asked: does a signal help over training seeds?",
        "branches from checkpoints/update_000000016: accept (in the run: no_difference)",
        "  accept          Near",
        "    gain +1.000",
        "  refused         Flat",
        "    it is constant",
        "steps: 5,000 of 7 branches and 700 of their evaluation; 6 branches were taken from the run",
    ]


def test_what_a_race_said() -> None:
    told = [line.text for line in replay_lines(raced_replay())]
    at = told.index("asked: does a policy return more than the main line's?")
    assert told[at + 1 :] == [
        "a race of 3 rungs from checkpoints/update_000000016: a better policy (in the run: no_difference)",
        "  policy_proven   Near (candidate)",
        "    last look, after rung 3: mean return 2.50, the main line's 1.00 over 16 episodes each",
        "    confirmation 2 after rung 3, against control at 4096: gain +1.50, lower bound +1.10",
        "    Near",
        "  refused         Near",
        "    Near",
        "  dropped         the kick (kick)",
        "    last look, after rung 2: mean return 1.25, the main line's 1.00 over 16 episodes each",
        "    low",
        "steps: 5,000 of 8 branches and 700 of their evaluation; 0 branches were taken from the run",
    ]


def test_why_nobody_won_a_race_is_said() -> None:
    replay = raced_replay()
    assert replay.validation is not None
    changes = {"verdict": "no_difference", "winner": None, "reason": "no policy was proven better: no arm is left"}
    changes |= {"recorded": "accept"}
    lost = replay.model_copy(update={"validation": replay.validation.model_copy(update=changes)})
    told = [line.text for line in replay_lines(lost)]
    at = next(place for place, line in enumerate(told) if line.startswith("a race of 3 rungs"))
    assert told[at].endswith(": no_difference (in the run: a better policy)")
    assert told[at + 1] == "  no policy was proven better: no arm is left"


def test_a_replay_of_a_version_that_knew_no_claims_is_about_signals(tmp_path: Path) -> None:
    kept = json.loads(raced_replay().model_dump_json())
    tried = kept["validation"]
    for name in ("claim", "recorded_claim", "rungs"):
        del tried[name]
    tried["arms"] = [{name: value for name, value in arm.items() if name != "race"} for arm in tried["arms"]]
    (tmp_path / "old.json").write_text(json.dumps(kept))
    old = read_replay(tmp_path / "old.json")
    assert isinstance(old, Replay) and old.validation is not None
    assert (old.validation.claim, old.validation.shown_verdict) == ("signal", "accept")


def test_a_role_is_summed_up() -> None:
    whole = RoleReplay(role="generator", replays=[replay(), OTHER, WRONG], left_out={"p1": "gone"}, not_asked=2)
    assert [line.text for line in summary_lines(whole)] == [
        "              recorded     replayed",
        "valid         3 of 3       2 of 3",
        "repair turns  0            1",
        "tokens in     not counted  1,244",
        "tokens out    not counted  56",
        "cost          $0.0000      unknown",
        "latency       0.01 s       3.22 s",
        "the same answer in 1 of 3 calls of the generator",
        "left out p1: gone",
        "2 calls were not asked: a limit of llm.limits is reached; raise it by --set",
    ]
    assert call_line(WRONG).text == (
        "p16-r0-generator-t0-a0          ok → invalid  10 in, not counted out, unknown  no JSON at all"
    )


def test_colours_only_on_a_terminal() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    show(OTHER, Console(file=plain))
    show(OTHER, Console(file=coloured, force_terminal=True, color_system="standard"))
    assert "\x1b[" not in plain.getvalue()
    assert "\x1b[32m+      y" in coloured.getvalue()


def test_replays_are_kept_below_the_run(tmp_path: Path) -> None:
    whole = RoleReplay(role="generator", replays=[OTHER], left_out={})
    assert write_replay(tmp_path, "one", OTHER) == tmp_path / "replays" / "one.json"
    write_replay(tmp_path, "two", whole)
    kept = {path.stem: read_replay(path) for path in (tmp_path / "replays").glob("*.json")}
    assert kept == {"one": OTHER, "two": whole}
    (tmp_path / "replays" / "three.json").write_text("{}")
    with pytest.raises(ReplayError, match="is no replay of this version"):
        read_replay(tmp_path / "replays" / "three.json")


def test_a_run_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "replays").write_text("a file")
    with pytest.raises(ReplayError, match="cannot be written"):
        write_replay(tmp_path, "one", OTHER)


def test_a_call_of_any_name_is_kept_below_the_folder(tmp_path: Path) -> None:
    for call in ("p1-r0-critic/../../../x-t0-a0", "/etc/x", "a\0b", "x" * 500):
        name = new_name(call)
        assert (tmp_path / name).parent == tmp_path
        assert len(name) < 140
    assert new_name("p1-r0-critic-t0-a0").startswith("p1-r0-critic-t0-a0-")


def test_what_cannot_be_kept_is_said_before_anybody_is_asked(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    check_writable(run)
    assert list(run.iterdir()) == []
    (run / "replays").symlink_to(elsewhere)
    with pytest.raises(ReplayError, match="a link leads out"):
        check_writable(run)


def test_a_read_only_directory_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(
        ReplayError, match=r"cannot be written \(it is read-only\); make the directory writable, or copy"
    ):
        check_writable(tmp_path)


def test_a_full_disk_is_found_before_anybody_is_asked(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        for keep in (check_writable, lambda run: write_replay(run, "one", OTHER)):
            with pytest.raises(StorageError, match="make room there"):
                keep(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_replay_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ReplayError, match="no regular file"):
        read_replay(tmp_path / "a.json")
