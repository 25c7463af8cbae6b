"""The report and its drawings, from a made-up run directory with hand-made numbers."""

from __future__ import annotations

import asyncio
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
from cosignal.runs.records import DecisionRecord
from cosignal.runs.run_view import RunView
from cosignal.runs.store import LoopStore
from cosignal.runs.timeline import timeline
from made_up_run import BECAUSE, EXPLAINED, GRAPH, RACE, REMOVED
from records import failed_branch

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


def test_a_race_is_on_the_page_with_its_adoption_in_words(raced_run: Path) -> None:
    page = Page(report.write_report(raced_run, GRAPH).read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.words).split())
    assert "Policy adopted: p160-r0-1 , a proposal's signal ( Idea 1" in text
    assert f"Confirmation 2 of the run, after rung 4, at level 0.0076: {EXPLAINED}." in text
    assert "nothing was proven of it" in text
    assert "No policy was adopted : every arm was dropped" in text
    assert "Out of the reward, kept in the critic." in text
    assert "A fresh start began at step 0 and is drawn over its age." in text
    assert {"race-p160-r0-title", "race-p160-r0-desc", "race-p240-r0-title"} <= page.ids()
    assert [attributes for tag, attributes in page.tags if tag == "script"][3:] == []  # the data, plotly, our own


def test_a_human_is_asked_about_the_policy_and_not_about_a_signal(raced_run: Path) -> None:
    waiting = {"id": f"p{RACE}-r0", "proposal": f"kick@{RACE}", "title": ""}
    set_value(raced_run, "waiting_for", waiting)
    asked = report.question(RunView(raced_run))
    assert (asked["asks"], asked["title"]) == ("adopt the policy of", "the exploration kick alone")
    set_value(raced_run, "waiting_for", waiting | {"id": f"p{REMOVED}-r0", "title": "Remove"})
    asked = report.question(RunView(raced_run))
    assert (asked["asks"], asked["title"]) == ("promote", "Remove")


def test_no_text_of_the_page_calls_the_signal_of_an_adopted_policy_accepted_or_proven(raced_run: Path) -> None:
    text = report.write_report(raced_run, GRAPH).read_text(encoding="utf-8")
    body = text[text.index("528,384 main steps") : text.index("692,224 main steps")]
    texts = [" ".join(words.split()) for words in Page(body).words]
    assert not [text for text in texts if re.search(r"accept|promoted|validated", text)]
    sentences = [part for text in texts for part in re.split(r"[.;] ", text)]
    about_signals = [part for part in sentences if "proven" in part and "signal" in part]
    assert about_signals
    assert [part for part in about_signals if "othing was proven" not in part] == []


def test_verdicts_that_are_new_are_shown_in_words(finished_run: Path) -> None:
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        database.execute("UPDATE decisions SET verdict = 'insufficient_evidence' WHERE round = 0")
        arm = {"arm": "p80-r0-0", "verdict": "screened_out", "gain": 0.0, "seeds": [0], "explanation": "little"}
        database.execute("UPDATE decisions SET detail = ? WHERE round = 0", (json.dumps({"screened": [arm]}),))
    page = Page(report.write_report(finished_run, GRAPH).read_text(encoding="utf-8"))
    words = " ".join(page.words)
    assert "insufficient evidence" in words
    assert "screened out" in words
    assert "insufficient evidence" in [moment.text for moment in timeline(RunView(finished_run))]


def test_branches_that_could_not_be_run_and_warnings_are_shown(finished_run: Path) -> None:
    row = failed_branch("f", 80, 1, 50_000, arm="p80-r1-1", seed=1, reason=f"no licence {EVIL}", steps=700)

    async def write() -> None:
        store = await LoopStore.open(finished_run)
        await store.write(row)
        await store.set(warnings={"replay": f"it came out different {EVIL}"})
        [decision] = await store.read(DecisionRecord, id="p80-r1")
        detail = decision.detail.model_copy(update={"failed": {"p80-r1-1": "seed 1: no licence"}})
        judged = [arm for arm in decision.detail.judgements if arm.arm != "p80-r1-1"]
        screened = [arm for arm in decision.detail.screened if arm.arm != "p80-r1-1"]
        detail = detail.model_copy(update={"judgements": judged, "screened": screened})
        await store.write(decision.model_copy(update={"detail": detail}))
        await store.close()

    before = RunView(finished_run).steps().extra.branches
    asyncio.run(write())
    view = RunView(finished_run)
    assert view.steps().extra.branches == before + 700
    [item] = interventions(view)
    assert item.failed == [row]
    [shown] = [proposal for round_ in item.rounds for proposal in round_.proposals if proposal.id == "p80-r1-1"]
    assert (shown.verdict, shown.failed) == ("branch_failed", "seed 1: no licence")
    page = Page(report.write_report(finished_run, GRAPH).read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.words).split())
    assert f"screen branch of p80-r1-1, seed 1, 50,000 steps: no licence {EVIL}" in text
    assert "A branch of it could not be run , seed 1: no licence" in text
    assert f"it came out different {EVIL}" in text
    assert "branch failed" in text


def set_value(run_dir: Path, name: str, value: str | dict[str, str]) -> None:
    with closing(sqlite3.connect(run_dir / "loop.db")) as database, database:
        database.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (name, json.dumps(value)))


def test_what_the_gate_did_not_judge_is_not_shown_as_its_word(page: Page) -> None:
    text = " ".join(" ".join(page.words).split())
    assert text.count("Gate. p80") == 3
    assert (
        "Screening. p80-r1-1: gain +0.010 over 2 seeds in screening; not tried further: p80-r1-0 was accepted" in text
    )
    assert text.count("screened out: others were better") == 2


def test_the_numbers_of_proposals_are_on_the_page(page: Page) -> None:
    text = " ".join(" ".join(page.words).split())
    assert text.count("Its numbers before any training") == 6  # two of eight were refused without any
    assert "after the first switch_triggered where it fails" in text
    assert "-0.31 0.125 0.12 0.87 42 % 0.0123 0.004 0.66 0.31 – p80-r0-1, 0.25" in text


def test_every_node_of_the_graph_opens_its_visits(page: Page) -> None:
    links = {a["href"] for t, a in page.tags if t == "a" and str(a.get("href", "")).startswith("#node-")}
    assert links == {f"#node-{name}" for name in GRAPH.nodes if not name.startswith("__")}
    assert {str(link)[1:] for link in links} <= page.ids()


# ---------------------------------------------------------------- numbers


def test_the_curves_data_adds_what_was_spent_by_then(finished_run: Path) -> None:
    view = RunView(finished_run)
    data = report.curve_data(view)
    branches = sum(row.steps for row in view.branches())
    at = {row["update"]: index for index, row in enumerate(view.metrics())}
    # update 80 is the point itself: its branches ran after it; 3200 evaluation steps at updates 1 and 49
    assert data["total"][at[80]] == 80 * 2048 + 6_400
    # after it all branches are paid, and the 200,704 adopted ones are in the main line already
    assert data["total"][at[81]] == 81 * 2048 + 200_704 + 6_400 + branches - 200_704
    assert data["total"][-1] == view.steps_total()
    mark = {"main": 163_840, "total": data["total"][at[81]], "label": "v1", "cause": "promotion"}
    assert data["promotions"] == [mark]
    assert data["total"] == sorted(data["total"])


@pytest.mark.parametrize(("number", "told"), [("0", False), ("12", True)])
def test_lost_episodes_are_told_where_there_are_any(finished_run: Path, number: str, told: bool) -> None:
    with closing(sqlite3.connect(finished_run / "trainer.db")) as database, database:
        database.execute("INSERT INTO counters VALUES ('episodes_lost', ?)", (number,))
    text = report.write_report(finished_run, GRAPH).read_text(encoding="utf-8")
    assert ("12 training episodes were cut since their environment crashed or hung" in text) is told


def test_the_cost_adds_up_to_the_total(finished_run: Path) -> None:
    view = RunView(finished_run)
    cost = report.cost(view)
    assert sum(part.steps for part in cost.parts) == cost.total == view.steps_total()
    assert sum(part.share for part in cost.parts) == pytest.approx(1.0)
    assert (cost.trained, cost.repeated) == (300 * 2_048, 4_096)


def test_smoothing_by_hand() -> None:
    assert report.smooth([None, 2.0, None, 4.0]) == [None, 2.0, 2.0, 3.0]
    assert report.smooth([0.0] * 10 + [10.0]) == [0.0] * 10 + [1.0]


def test_the_signals_history_is_newest_first_with_its_difference(finished_run: Path) -> None:
    newest, oldest = report.signal_history(RunView(finished_run))
    assert (newest.version, oldest.version) == (1, 0)
    assert oldest.diff == []
    assert [line.kind for line in newest.diff] == ["changes", "enters", "enters", "enters"]


def test_a_version_is_shown_with_the_stage_at_its_own_update(eventful_run: Path) -> None:
    """A kept control and a rollback carry the stage at which their signal was proposed once."""
    shown = {row.version: (row.at_update, row.stage) for row in report.signal_history(RunView(eventful_run))}
    assert shown == {0: (0, "exploring"), 1: (80, "plateaued"), 2: (150, "converged"), 3: (220, "converged")}
    stored = {row.version: row.signal.stage for row in RunView(eventful_run).signals()}
    assert (stored[2], stored[3]) == ("plateaued", "plateaued")


def test_a_run_that_has_just_begun_has_a_report_too(finished_run: Path) -> None:
    for name in ("trainer.db", "loop.db"):
        (finished_run / name).unlink()
    text = report.write_report(finished_run, GRAPH).read_text(encoding="utf-8")
    assert "Nothing was decided so far." in text
    [data] = re.findall(r'id="curve-data">(.*?)</script>', text)
    assert json.loads(data)["main"] == []


# ---------------------------------------------------------------- rollback, declined, stale, control kept


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
    # In what happened, and where the round is told.
    assert (text.count(f"because: {BECAUSE}"), text.count(f"Declined because {BECAUSE}")) == (1, 1)


def test_curves_mark_promotions_and_rollbacks_and_no_kept_control(eventful_run: Path) -> None:
    marks = report.curve_data(RunView(eventful_run))["promotions"]
    assert [(mark["label"], mark["cause"]) for mark in marks] == [("v1", "promotion"), ("v3", "rollback")]


def test_a_run_that_was_stopped_while_it_waited_says_how_to_answer(finished_run: Path) -> None:
    question = json.dumps({"id": "p80-r1", "proposal": "p80-r1-0", "title": EVIL})
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        database.execute("INSERT OR REPLACE INTO run VALUES ('waiting_for', ?)", (question,))
    text = report.write_report(finished_run, GRAPH).read_text(encoding="utf-8")
    header = text[text.index("<header>") : text.index("</header>")]
    assert "<strong>p80-r1</strong> waits for an answer" in header
    assert f"cosignal approve {finished_run} p80-r1 --yes" in header
    assert EVIL not in header
