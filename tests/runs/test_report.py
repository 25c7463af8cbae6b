"""The report and its drawings, from a made-up run directory with hand-made numbers."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest
from cosignal.errors import NotARunError
from cosignal.runs import report
from cosignal.runs.interventions import interventions
from cosignal.runs.store import RunView, steps_of
from cosignal.runs.timeline import timeline
from made_up_run import GRAPH, add_later_events

EVIL = "<script>document.title='owned'</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)

    def ids(self) -> set[str]:
        return {str(attributes["id"]) for _, attributes in self.tags if "id" in attributes}


@pytest.fixture
def page(finished_run: Path) -> Page:
    path = report.write_report(finished_run, GRAPH)
    assert path == finished_run / "report.html"
    return Page(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- the page


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotARunError, match="is not a run directory"):
        report.write_report(tmp_path, GRAPH)


def test_the_page_asks_nothing_of_the_network(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    [policy] = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_what_a_model_said_is_text_and_never_markup(page: Page) -> None:
    """The made-up run has a script in a finding, a proposal, a prompt and a visit."""
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert len(scripts) == 3  # the data, plotly, our own
    assert "".join(page.words).count(EVIL) >= 4
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_the_header_says_who_answered_and_how_it_ended(page: Page) -> None:
    text = " ".join(" ".join(page.words).split())
    assert "plain rules, no language model" in text
    assert "two_switch, seed 1 done" in text
    assert "sparse return 2.75" in text
    assert "8 6 tried, 1 promoted" in text


def test_the_header_says_why_a_run_failed(finished_run: Path) -> None:
    set_value(finished_run, "state", "failed")
    set_value(finished_run, "error", f"TrainerGone: no memory {EVIL}")
    text = report.write_report(finished_run, GRAPH).read_text(encoding="utf-8")
    header = text[text.index("<header>") : text.index("</header>")]
    assert "TrainerGone: no memory &lt;script&gt;" in header
    assert 'class="pill failed"' in header
    assert EVIL not in header


def test_a_report_can_be_written_before_the_run_is_said_to_be_done(finished_run: Path) -> None:
    set_value(finished_run, "state", "running")
    text = report.write_report(finished_run, GRAPH, state="done").read_text(encoding="utf-8")
    assert 'class="pill done"' in text
    assert not list(finished_run.glob("*.part"))


def test_verdicts_that_are_new_are_shown_in_words(finished_run: Path) -> None:
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        database.execute("UPDATE decisions SET verdict = 'insufficient_evidence' WHERE round = 0")
        detail = json.dumps({"judgements": [{"arm": "p80-r0-0", "verdict": "screened_out", "explanation": "little"}]})
        database.execute("UPDATE decisions SET detail = ? WHERE round = 0", (detail,))
    page = Page(report.write_report(finished_run, GRAPH).read_text(encoding="utf-8"))
    words = " ".join(page.words)
    assert "insufficient evidence" in words
    assert "screened out" in words
    assert "insufficient evidence" in [moment.text for moment in timeline(RunView(finished_run))]


def set_value(run_dir: Path, name: str, value: str) -> None:
    with closing(sqlite3.connect(run_dir / "loop.db")) as database, database:
        database.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (name, json.dumps(value)))


def test_what_the_gate_did_not_judge_is_not_shown_as_its_word(page: Page) -> None:
    text = " ".join(" ".join(page.words).split())
    assert text.count("Gate. p80") == 3
    assert (
        "Screening. p80-r1-1: gain +0.010 over 2 seeds in screening; not tried further: p80-r1-0 was accepted" in text
    )
    assert text.count("screened out: others were better") == 2


def test_every_node_of_the_graph_opens_its_visits(page: Page) -> None:
    links = {a["href"] for t, a in page.tags if t == "a" and str(a.get("href", "")).startswith("#node-")}
    assert links == {f"#node-{name}" for name in GRAPH.nodes if not name.startswith("__")}
    assert {str(link)[1:] for link in links} <= page.ids()


def test_prompts_and_answers_stand_in_the_visit_that_made_the_call(finished_run: Path) -> None:
    view = RunView(finished_run)
    nodes = {node["name"]: node for node in report.node_visits(GRAPH, view.visits(), view.calls())}
    assert nodes["critic"]["count"] == 2
    assert [len(visit["calls"]) for visit in nodes["critic"]["visits"]] == [1, 1]
    assert nodes["critic"]["stray"] == []
    assert nodes["observe"]["visits"][0]["calls"] == []
    assert nodes["observe"]["visits"][0]["seconds"] == pytest.approx(4.2)


# ---------------------------------------------------------------- numbers


def test_the_curves_data_adds_what_was_spent_by_then(finished_run: Path) -> None:
    view = RunView(finished_run)
    data = report.curve_data(view)
    branches = sum(steps_of(row) for row in view.branches())
    at = {row["update"]: index for index, row in enumerate(view.metrics())}
    # update 80 is the point itself: its branches ran after it; 3200 evaluation steps at updates 1 and 49
    assert data["total"][at[80]] == 80 * 2048 + 6_400
    # after it all branches are paid, and the 200,704 adopted ones are in the main line already
    assert data["total"][at[81]] == 81 * 2048 + 200_704 + 6_400 + branches - 200_704
    assert data["total"][-1] == view.steps_total()
    mark = {"main": 163_840, "total": data["total"][at[81]], "label": "v1", "cause": "promotion"}
    assert data["promotions"] == [mark]
    assert data["total"] == sorted(data["total"])


def test_a_state_that_is_taken_over_under_the_overlap_clock_adds_no_main_steps(finished_run: Path) -> None:
    assert report._adopted_steps(RunView(finished_run)) == {0: 0, 1: 200_704}
    config = json.loads((finished_run / "config.json").read_text())
    (finished_run / "config.json").write_text(json.dumps(config | {"clock": "overlap"}))
    assert report._adopted_steps(RunView(finished_run)) == {0: 0, 1: 0}


def test_adopted_steps_are_whole_updates(finished_run: Path) -> None:
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        database.execute("UPDATE branches SET result = json_set(result, '$.horizon', 200000) WHERE phase = 'full'")
    assert report._adopted_steps(RunView(finished_run))[1] == 200_704  # 98 updates of 2048


@pytest.mark.parametrize(("number", "told"), [("0", False), ("12", True)])
def test_lost_episodes_are_told_where_there_are_any(finished_run: Path, number: str, told: bool) -> None:
    with closing(sqlite3.connect(finished_run / "trainer.db")) as database, database:
        database.execute("INSERT INTO counters VALUES ('episodes_lost', ?)", (number,))
    text = report.write_report(finished_run, GRAPH).read_text(encoding="utf-8")
    assert ("12 training episodes were cut since their environment crashed or hung" in text) is told


def test_the_cost_adds_up_to_the_total(finished_run: Path) -> None:
    view = RunView(finished_run)
    cost = report.cost(view)
    assert sum(part["steps"] for part in cost["parts"]) == cost["total"] == view.steps_total()
    assert sum(part["share"] for part in cost["parts"]) == pytest.approx(1.0)
    assert (cost["adopted"], cost["repeated"]) == (200_704, 4_096)


def test_smoothing_by_hand() -> None:
    assert report.smooth([None, 2.0, None, 4.0]) == [None, 2.0, 2.0, 3.0]
    assert report.smooth([0.0] * 10 + [10.0]) == [0.0] * 10 + [1.0]


def test_the_signals_history_is_newest_first_with_its_difference(finished_run: Path) -> None:
    newest, oldest = report.signal_history(RunView(finished_run))
    assert (newest["version"], oldest["version"]) == (1, 0)
    assert oldest["diff"] == []
    assert [line["kind"] for line in newest["diff"]] == ["changes", "enters", "enters", "enters"]


def test_interventions_pair_branches_with_the_control_of_their_round(finished_run: Path) -> None:
    [found] = interventions(RunView(finished_run))
    assert found["steps"] == 163_840
    first, second = found["rounds"]
    assert (first["decision"]["verdict"], second["decision"]["verdict"]) == ("no_difference", "accept")
    winner = second["proposals"][0]
    assert winner["verdict"] == "accept"
    screen, full = winner["phases"]
    assert (screen["seeds"], full["seeds"]) == (2, 3)
    assert full["gain"] == pytest.approx(full["candidate"] - full["control"])
    low, high = full["interval"]
    assert low < full["gain"] < high
    verdicts = [[proposal["verdict"] for proposal in shown["proposals"]] for shown in (first, second)]
    assert verdicts == [
        ["no_difference", "no_difference", "refused", "screened_out"],
        ["accept", "not_tried", "refused", "screened_out"],
    ]
    assert first["proposals"][2]["chart"] is None


def test_the_interval_by_hand() -> None:
    """Gains 1, 2, 3: mean 2, sd 1, t(0.95, 2) = 2.920; 2 ± 2.920 / sqrt(3)."""
    from cosignal.runs.interventions import _interval

    assert _interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 1.6859, 2 + 1.6859), abs=1e-3)
    assert _interval([1.0]) is None


def test_the_story_is_in_order(finished_run: Path) -> None:
    moments = timeline(RunView(finished_run))
    assert [moment.kind for moment in moments] == [
        "stage", "stage", "diagnosis", "verdict", "verdict", "promotion", "stage", "stage"
    ]  # fmt: skip
    assert [moment.steps for moment in moments] == sorted(moment.steps for moment in moments)
    assert moments[4].text == "accept: Goal and switches together"


def test_a_run_that_has_just_begun_has_a_report_too(finished_run: Path) -> None:
    for name in ("trainer.db", "loop.db"):
        (finished_run / name).unlink()
    text = report.write_report(finished_run, GRAPH).read_text(encoding="utf-8")
    assert "Nothing was decided so far." in text
    [data] = re.findall(r'id="curve-data">(.*?)</script>', text)
    assert json.loads(data)["main"] == []


# ---------------------------------------------------------------- rollback, declined, stale, control kept


@pytest.fixture
def eventful_run(finished_run: Path) -> Path:
    return add_later_events(finished_run)


def test_the_story_tells_what_became_of_a_promotion(eventful_run: Path) -> None:
    told = {moment.kind: moment.text for moment in timeline(RunView(eventful_run))[8:]}
    verdicts = [moment.text for moment in timeline(RunView(eventful_run))[8:] if moment.kind == "verdict"]
    assert [text.partition(":")[0] for text in verdicts] == ["declined", "stale"]
    assert told["control"] == "v2: the control's state is the main line, the signal stays"
    assert told["rollback"] == (
        "v1 (Goal and switches together) is undone by v3: sparse return 0.200 at 451584 main steps, 1.000 before "
        "version 1: a regression, 2 of 2 running"
    )


def test_a_rollback_without_a_word_of_the_loop_is_told_all_the_same(eventful_run: Path) -> None:
    """The loop was killed before it wrote it down."""
    with closing(sqlite3.connect(eventful_run / "loop.db")) as database, database:
        database.execute("DELETE FROM decisions WHERE verdict = 'rollback'")
    [told] = [moment.text for moment in timeline(RunView(eventful_run)) if moment.kind == "rollback"]
    assert told == "v2 is undone by v3"


def test_interventions_say_what_became_of_the_winner(eventful_run: Path) -> None:
    found = interventions(RunView(eventful_run))
    assert [item["point"] for item in found] == [80, 150, 180]  # a rollback is no intervention
    promoted, declined, stale = found
    assert promoted["rounds"][1]["proposals"][0]["verdict"] == "rolled_back"
    assert declined["rounds"][0]["proposals"][0]["verdict"] == "declined"
    assert declined["rounds"][0]["kept_control"] == 2048
    [proposal] = stale["rounds"][0]["proposals"]
    assert proposal["verdict"] == "stale"
    assert [row["phase"] for row in proposal["phases"]] == ["full", "confirm"]
    full, confirm = proposal["phases"]
    assert (full["gain"] > 1.5, confirm["gain"]) == (True, pytest.approx(0.0))
    assert len(proposal["finals"]) == 3  # of the point's own branches


def test_the_page_shows_it_all(eventful_run: Path) -> None:
    page = Page(report.write_report(eventful_run, GRAPH).read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.words).split())
    assert "8 6 tried" not in text
    assert "1 promoted, 1 rolled back" in text
    assert "Dotted lines mark promotions and, in red, rollbacks." in text
    assert "Confirmation from 600,000 main steps" in text
    assert "The control's branch became the main line: its 2,048 steps are not run again." in text
    assert "policy and signal of before the promotion came back" in text
    assert "→ vNone" not in text


def test_curves_mark_promotions_and_rollbacks_and_no_kept_control(eventful_run: Path) -> None:
    marks = report.curve_data(RunView(eventful_run))["promotions"]
    assert [(mark["label"], mark["cause"]) for mark in marks] == [("v1", "promotion"), ("v3", "rollback")]


def test_the_proposals_of_a_point_are_shown_against_the_signal_in_force_there(eventful_run: Path) -> None:
    """At 150 the promoted signal was in force, whatever came of the point itself."""
    declined = interventions(RunView(eventful_run))[1]["rounds"][0]["proposals"][0]
    assert "- potential near_goal: -dist_goal / 14 (weight 1)" in [line["text"] for line in declined["diff"]]


def test_a_run_that_was_stopped_while_it_waited_says_how_to_answer(finished_run: Path) -> None:
    question = json.dumps({"id": "p80-r1", "proposal": "p80-r1-0", "title": EVIL})
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        database.execute("INSERT OR REPLACE INTO run VALUES ('waiting_for', ?)", (question,))
    text = report.write_report(finished_run, GRAPH).read_text(encoding="utf-8")
    header = text[text.index("<header>") : text.index("</header>")]
    assert "<strong>p80-r1</strong> waits for an answer" in header
    assert f"cosignal approve {finished_run} p80-r1 --yes" in header
    assert EVIL not in header
