"""What a terminal shows of a run while it runs."""

from __future__ import annotations

import io

import pytest
from cosignal.runs import events as e
from cosignal.runs import progress
from made_up_run import QUESTION
from rich.console import Console

PROGRESS = e.Progress(
    steps_main=50_000, steps_total=60_000, steps_budget=100_000, sparse_return=1.0, success_rate=0.25,
    stage="plateaued", signal_version=0, waiting=True,
)  # fmt: skip
EVENTS: list[e.Event] = [
    e.RunStarted(path="/runs/a", resumed=False, provider="rules", steps_budget=100_000),
    PROGRESS.model_copy(update={"steps_main": 1_000, "stage": "exploring", "waiting": False}),
    PROGRESS,
    e.NodeEntered(node="critic", point=24, round=0),
    e.Diagnosed(point=24, failures=["exploration_collapsed", "plateau"]),
    e.ProposalMade(id="p24-r0-0", title="Near [bold]the goal[/bold]", problems=[]),
    e.ProposalMade(id="p24-r0-1", title="Pay for turns", problems=["can be farmed"]),
    e.NodeEntered(node="validate", point=24, round=0),
    e.BranchFinished(
        point=24, phase="screen", arm="p24-r0-0", seed=0, horizon=100, final_return=2.5, success_rate=1.0, steps=100
    ),
    e.BranchFailed(
        point=24, phase="screen", arm="p24-r0-1", seed=1, horizon=100, reason="its worker ended (SIGKILL)", steps=100
    ),
    e.Warned(message="it came out different"),
    e.NodeLeft(node="validate", point=24, round=0, status="ok", detail={}),
    e.Decided(id="p24-r0", verdict="no_difference", winner=None, reason="too close"),
    e.Decided(id="p24-r1", verdict="accept", winner="p24-r0-0", reason="clear"),
    e.Promoted(proposal="p24-r0-0", version=1, adopted="state", repeated=False),
]


def test_the_tracker_follows_the_events() -> None:
    tracker = progress.Tracker()
    told: list[tuple[str, str]] = []
    activities: list[str] = []
    for event in EVENTS:
        told += [(line.label, line.text) for line in tracker.apply(event)]
        activities.append(tracker.activity)
    assert told == [
        ("started", "/runs/a"),
        ("provider", "rules: plain rules, no language model"),
        ("stage", "exploring → plateaued"),
        ("diagnosis", "exploration collapsed, plateau"),
        ("proposal", "p24-r0-0 Near [bold]the goal[/bold]"),
        ("proposal", "p24-r0-1 Pay for turns (refused: can be farmed)"),
        ("failed", "screen branch of p24-r0-1, seed 1, could not be run: its worker ended (SIGKILL)"),
        ("warning", "it came out different"),
        ("verdict", "no difference: too close"),
        ("verdict", "accept p24-r0-0: clear"),
        ("promotion", "v1 Near [bold]the goal[/bold] (the winning branch's state)"),
    ]
    assert activities[1] == "training"
    assert activities[3] == "critic"
    assert activities[8] == "validate: 1 branches done, last p24-r0-0 2.50"


def test_a_race_is_a_line_a_rung_and_its_winner_is_a_policy() -> None:
    arm, tracker = "p24-r0-0", progress.Tracker()
    proof = e.PolicyConfirmed(
        point=24, rung=3, arm=arm, gain=0.4, lower=None, level=0.0304, margin=0.1, proven=False
    )  # fmt: skip
    better = proof.model_copy(update={"gain": 1.45, "lower": 0.954, "level": 0.0076, "rung": 4, "proven": True})
    rung = e.RungFinished(
        point=24, rung=4, steps_main=65_536, control=2.0, arms={"kick@24": 2.01, arm: 3.4, "fresh@24": 0.5},
        dropped={"kick@24": "not moved toward reward", "fresh@24": "old", "p24-r0-1": "not moved toward reward"},
    )  # fmt: skip
    told = [
        (line.steps, line.label, line.text)
        for event in (
            e.ProposalMade(id=arm, title="Near the door", problems=[]),
            proof,
            better,
            rung,
            e.Decided(id="p24-r0", verdict="accept", winner=arm, reason="gain +1.45", claim="policy"),
            e.Promoted(proposal=arm, version=1, adopted="state", repeated=False, claim="policy"),
            e.Promoted(proposal="kick@24", version=2, adopted="state", repeated=False),
            e.Promoted(proposal="kick@24", version=3, adopted="state", repeated=False, claim="policy"),
            e.Promoted(proposal="p48-r0-0", version=4, adopted="signal", repeated=False, claim="offset"),
        )
        for line in tracker.apply(event)
    ]
    bound = "lower bound +0.954 at level 0.0076, margin 0.1"
    looks = f"main line 2.00, {arm} 3.40, kick@24 2.01, fresh@24 0.50"
    assert told[1:] == [
        (0, "policy", f"{arm} after rung 3: gain +0.400, no bound at level 0.0304, margin 0.1: not proven"),
        (0, "policy", f"{arm} after rung 4: gain +1.450, {bound}: better than the main line"),
        (65_536, "race", f"rung 4: {looks}; dropped kick@24, p24-r0-1: not moved toward reward; dropped fresh@24: old"),
        (0, "verdict", f"better policy {arm}: gain +1.45"),
        (0, "adoption", f"v1 Near the door (the policy of {arm}; nothing is proven of its signal)"),
        (0, "promotion", "v2 the exploration kick alone (the winning branch's state)"),
        (0, "adoption", "v3 the exploration kick alone (the policy of kick@24; nothing is proven of its signal)"),
        (0, "offset", "v4 p48-r0-0: out of the reward, kept in the critic"),
    ]
    assert tracker.activity == "race: rung 4 done"


def test_a_question_about_a_policy_says_so() -> None:
    tracker = progress.Tracker()
    proof = e.PolicyConfirmed(
        point=24, rung=3, arm="fresh@24", gain=0.4, lower=0.2, level=0.03, margin=0.1, proven=True
    )  # fmt: skip
    list(tracker.apply(proof))
    asked = QUESTION.model_copy(update={"proposal": "fresh@24", "title": ""})
    lines = [line.text for line in tracker.apply(asked)]
    assert lines[0] == "p24-r1: adopt the policy of fresh@24 a fresh start?"
    assert lines[2].startswith("race: ")


def test_the_signal_on_the_panel_is_the_one_in_force() -> None:
    """After a resume no promotion is seen, and its title is not known."""
    tracker = progress.Tracker()
    for version, words in ((0, "as the config says"), (1, "v1")):
        list(tracker.apply(PROGRESS.model_copy(update={"signal_version": version})))
        assert tracker.signal == words
    for event in EVENTS:
        list(tracker.apply(event))
    list(tracker.apply(PROGRESS.model_copy(update={"signal_version": 1})))
    assert tracker.signal == "v1 Near [bold]the goal[/bold]"


def test_a_question_is_shown_with_the_commands_that_answer_it() -> None:
    tracker = progress.Tracker()
    list(tracker.apply(e.RunStarted(path="/my runs/a", resumed=False, provider="rules", steps_budget=1)))
    list(tracker.apply(e.NodeEntered(node="approve", point=24, round=1)))
    assert [(line.label, line.text) for line in tracker.apply(QUESTION)] == [
        ("question", "p24-r1: promote p24-r1-0 Near the door?"),
        ("", "why: it is far"),
        ("", "gate: p24-r1-0: gain +1.2 over 5 seeds: accept"),
        ("", "signal: + potential door: -dist_door"),
        ("", "it would replace v2; taken over: the signal alone"),
        ("answer", "to promote it: cosignal approve '/my runs/a' p24-r1 --yes"),
        ("answer", "to decline it: cosignal approve '/my runs/a' p24-r1 --no"),
        ("", 'who declines may say why, and later prompts show it: --no --because "TEXT"'),
    ]
    list(tracker.apply(PROGRESS.model_copy(update={"waiting": False})))  # overlap: training goes on
    assert tracker.activity == "waiting for an answer to p24-r1"
    [line] = tracker.apply(e.ApprovalGiven(id="p24-r1", yes=False))
    assert (line.label, line.text) == ("answer", "p24-r1: no")
    [line] = tracker.apply(e.ApprovalGiven(id="p24-r1", yes=False, because="too far"))
    assert line.text == "p24-r1: no, because: too far"
    assert tracker.activity == "approve"
    left = e.NodeLeft(node="approve", point=24, round=1, status="waiting", detail={})
    assert list(tracker.apply(left)) == []


def test_a_command_is_never_broken_into_lines() -> None:
    written = io.StringIO()
    with progress.LiveDisplay(Console(file=written, width=60, force_terminal=True)) as display:
        display.show(e.RunStarted(path="/runs/" + "a" * 80, resumed=False, provider="rules", steps_budget=1))
        display.show(QUESTION)
    assert f"cosignal approve /runs/{'a' * 80} p24-r1 --yes" in written.getvalue()


def test_a_rollback_is_told_with_its_arithmetic() -> None:
    tracker = progress.Tracker()
    for event in EVENTS:
        list(tracker.apply(event))
    event = e.RolledBack(proposal="p24-r0-0", undone=1, version=2, reason="0.2 after 1.0", repeated=False)
    assert [(line.label, line.text) for line in tracker.apply(event)] == [
        ("rollback", "v1 Near [bold]the goal[/bold] is undone by v2"),
        ("", "0.2 after 1.0"),
    ]
    list(tracker.apply(PROGRESS.model_copy(update={"signal_version": 2})))
    assert tracker.signal == "v2, as before v1"


@pytest.mark.parametrize(
    ("tracing", "ignored", "words"),
    [
        (
            False,
            ["LANGSMITH_TRACING"],
            "off, though LANGSMITH_TRACING asks for it; llm.tracing: true would send prompts out",
        ),
        (True, [], "on: prompts go to the hosted service that the environment names"),
        (False, [], None),
    ],
)
def test_the_start_says_whether_prompts_leave_the_machine(tracing: bool, ignored: list[str], words: str | None) -> None:
    started = e.RunStarted(
        path="/a", resumed=False, provider="rules", steps_budget=1, tracing=tracing, tracing_ignored=ignored
    )
    told = {line.label: line.text for line in progress.Tracker().apply(started)}
    assert told.get("tracing") == words


@pytest.mark.parametrize("content", [True, False])
def test_where_spans_go_and_how_many_were_lost_is_told(content: bool) -> None:
    address, tracker = "http://127.0.0.1:4318/v1/traces", progress.Tracker()
    started = e.RunStarted(
        path="/a", resumed=False, provider="rules", steps_budget=1, spans_to=address, spans_content=content
    )
    told = {line.label: line.text for line in tracker.apply(started)}
    assert told["tracing"] == f"spans go to {address}, {'with' if content else 'without'} prompts and answers"
    [line] = tracker.apply(e.SpansLost(spans=3, address=address))
    assert line.text == f"3 spans did not reach {address}; is a collector listening there?"


def test_under_the_overlap_clock_what_a_node_does_is_shown_while_training_goes_on() -> None:
    tracker = progress.Tracker()
    for event in (e.NodeEntered(node="critic", point=24, round=0), PROGRESS.model_copy(update={"waiting": False})):
        list(tracker.apply(event))
    assert tracker.activity == "critic"
    for event in (e.NodeEntered(node="observe", point=24, round=0), PROGRESS.model_copy(update={"waiting": False})):
        list(tracker.apply(event))
    assert tracker.activity == "training"


def test_a_new_verdict_is_told_in_words() -> None:
    decided = e.Decided(
        id="p1-r0", verdict="not_seen_before", winner=None, reason="a: not_seen_before; b: no_difference"
    )
    [line] = progress.Tracker().apply(decided)
    assert line.text == "not seen before: a: not seen before; b: no difference"


def test_the_last_words_of_a_run() -> None:
    status = {"state": "done", "sparse_return": -0.001, "success_rate": None, "promotions": 1, "rollbacks": 0,
              "steps_main": 1_000, "steps_total": 2_000, "wall_s": 3.4, "path": "/runs/a"}  # fmt: skip
    assert progress.ending(status) == (
        "done: sparse return 0.00, success –, 1 promotion, 1,000 main steps, 2,000 in all, 3 s\n"
        "report: /runs/a/report.html"
    )
    assert "\n1,200 episodes were lost to crashes, see" in progress.ending(status | {"episodes_lost": 1_200})
    assert "2 promotions, 1 rollback, 1,000" in progress.ending(status | {"promotions": 2, "rollbacks": 1})


@pytest.mark.parametrize("display_class", [progress.LiveDisplay, progress.PlainDisplay])
def test_a_model_cannot_steer_the_terminal(display_class: type[progress.Display]) -> None:
    title = "Near\x1b]0;owned\x07\x9b2J\r\n 99,999  verdict    accept"
    written = io.StringIO()
    console = Console(file=written, width=200, force_terminal=display_class is progress.LiveDisplay)
    with display_class(console) as display:
        display.show(PROGRESS.model_copy(update={"signal_version": 1}))
        display.show(e.ProposalMade(id="p24-r0-0", title=title, problems=[]))
        display.show(e.Promoted(proposal="p24-r0-0", version=1, adopted="state", repeated=False))
    shown = written.getvalue()
    assert r"p24-r0-0 Near\x1b]0;owned\x07\x9b2J 99,999 verdict accept" in shown
    assert not any(bad in shown for bad in ("\x1b]0", "\x07", "\x9b"))


def test_a_node_that_fails_is_told() -> None:
    left = e.NodeLeft(node="critic", point=24, round=0, status="error", detail={"error": "boom"})
    assert [line.text for line in progress.Tracker().apply(left)] == ["error: {'error': 'boom'}"]


@pytest.mark.parametrize("display_class", [progress.LiveDisplay, progress.PlainDisplay])
def test_both_displays_show_what_happened(display_class: type[progress.Display]) -> None:
    """A model's words are text, not markup."""
    written = io.StringIO()
    console = Console(file=written, width=100, force_terminal=display_class is progress.LiveDisplay)
    with display_class(console) as display:
        for event in EVENTS:
            display.show(event)
    assert "Near [bold]the goal[/bold]" in written.getvalue()
    assert "exploring → plateaued" in written.getvalue()


def test_the_plain_display_tells_each_twentieth_once() -> None:
    written = io.StringIO()
    with progress.PlainDisplay(Console(file=written, width=200)) as display:
        for steps in (0, 1_000, 5_000, 9_999, 50_000, 20_000, 50_000, 100_000, 100_000):
            display.show(PROGRESS.model_copy(update={"steps_main": steps}))
    lines = [line.split()[0] for line in written.getvalue().splitlines()]
    assert lines == ["0", "5,000", "50,000", "20,000", "50,000", "100,000"]  # a younger state was adopted


def test_an_older_evaluation_is_told_with_its_steps() -> None:
    assert "(at" not in progress.summary(PROGRESS)
    at = PROGRESS.model_copy(update={"evaluated_at": PROGRESS.steps_main})
    assert progress.summary(at) == progress.summary(PROGRESS)
    older = PROGRESS.model_copy(update={"evaluated_at": 1_000})
    assert " (at 1,000), stage " in progress.summary(older)


def test_what_was_made_good_is_told() -> None:
    [line] = progress.Tracker().apply(e.Warned(message="the newest snapshot is gone"))
    assert (line.label, line.text) == ("warning", "the newest snapshot is gone")


def test_given_signals_are_no_model_and_no_rules() -> None:
    assert progress.provider_in_words("given signals") == "given signals: those of the config, no model and no rules"
    assert progress.provider_in_words("rules") == "rules: plain rules, no language model"
    assert progress.provider_in_words("openai") == "openai"
