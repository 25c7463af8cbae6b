"""The count of steps over promotions, adoptions, rollbacks and crashes: every step that anybody played, once.

What was played is counted beside the code under test, where it is played: in `TrainingLine.update` and in
`Evaluator.evaluate`, of trainer and branches alike.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest
from cosignal.rl.branches.run_branch import run_branch
from cosignal.rl.ipc import messages as m
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.trainer.database import LoggedSignal
from cosignal.rl.trainer.main_run import MainRun
from cosignal.rl.trainer.signal_log import promote, reapply_log, rollback
from cosignal.rl.training.checkpoint import save_snapshot
from cosignal.rl.training.config import TrainingConfig
from cosignal.rl.training.evaluate import Evaluation, Evaluator
from cosignal.rl.training.line import TrainingLine, UpdateReport
from cosignal.runs.steps import ExtraSteps, RunSteps, StepHistory, StepsAt
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_lines import UPDATE, small_config

NEAR = {"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12"}
TRAINER: dict[str, Any] = {
    "steps": 1_000 * UPDATE, "checkpoint_every_steps": 3 * UPDATE,
    "evaluation": {"every_steps": 2 * UPDATE, "episodes": 4}, "ippo": {"hidden": (8,), "epochs": 1, "minibatches": 1},
}  # fmt: skip


def config(seed: int) -> TrainingConfig:
    return small_config(seed, **TRAINER).model_copy(update={"clock": "overlap"})


CONFIG = config(seed=1)


class Run:
    """A main line with branches beside it, and what all of them have played.

    Attributes:
        played: environment steps of everybody; what a crash makes the trainer play again is left out.
        spent: of branches, with the update of the main line.
        ages: version of a promotion → main steps right before it.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        (run_dir / "training.json").write_text(CONFIG.model_dump_json())
        self.played, self.spent, self.made = 0, list[StepsAt](), 0
        self.ages = dict[int, int]()
        self.open()
        self.main.log_signal(LoggedSignal(0, "start", None, 0, 0, self.main.line.signal, None, "start"))
        self.main.evaluate_afresh()

    def open(self) -> None:
        self.closing = ExitStack()
        self.main = MainRun(self.run_dir, self.closing)

    def close(self) -> None:
        self.main.close()
        self.closing.close()

    # ------------------------------------------------------------ what may happen

    def train(self, updates: int) -> None:
        for _ in range(updates):
            self.main.update()
            reapply_log(self.main)

    def branch(self, fork: str, updates: int, seed: int = 1) -> str:
        """Train a branch in a worker; its end state."""
        self.made += 1
        end = f"branches/b{self.made}"
        job = m.BranchJob(
            key=end, fork=fork, start=fork, arm="a", signal=self.main.line.signal, exploration=Exploration(),
            seed=seed, horizon=updates * UPDATE, evaluation_seed=3, evaluation_episodes=4, end_state=end,
        )  # fmt: skip
        line = TrainingLine(CONFIG)
        result = run_branch(line, self.run_dir, job)
        line.close()
        self.spent.append(StepsAt(self.main.line.update_index, result.steps + result.steps_evaluation))
        return end

    def fresh_start(self, updates: int) -> str:
        """Train a new line from step 0, with a seed of its own."""
        self.made += 1
        end, line = f"branches/b{self.made}", TrainingLine(config(seed=100 + self.made))
        for _ in range(updates):
            line.update()
        save_snapshot(line, self.run_dir / end, {"fork_steps": 0, "fork_return": 0.0})
        line.close()
        self.spent.append(StepsAt(self.main.line.update_index, updates * UPDATE))
        return end

    def promote(self, adopt: str | None, cause: Literal["promotion", "control"] = "promotion") -> m.PromoteReply:
        base, before = self.main.line.signal.version, self.main.line.steps_main
        signal = Signal.model_validate({"terms": [NEAR | {"weight": 1.0 + base}]})
        request = m.Promote(key=f"p{base}", base_version=base, signal=signal, adopt=adopt, cause=cause)
        reply = promote(self.main, request)
        self.ages[reply.version] = before if cause == "promotion" else self.ages.get(base, -1)
        assert promote(self.main, request) == reply.model_copy(update={"repeated": True})
        return reply

    def rollback(self) -> m.PromoteReply:
        base = self.main.line.signal.version
        reply = rollback(self.main, m.Rollback(key=f"r{base}", base_version=base))
        assert rollback(self.main, m.Rollback(key=f"r{base}", base_version=base)).steps_main == reply.steps_main
        return reply

    def crash(self) -> None:
        """Lose what is in memory, and train again up to where the line stood."""
        update, played = self.main.line.update_index, self.played
        before = self.state()
        self.close()
        self.open()
        reapply_log(self.main)
        while self.main.line.update_index < update:
            self.train(1)
        self.played = played
        assert self.state() == before

    # ------------------------------------------------------------ what it comes to

    def state(self) -> Any:
        """All that must be the same after a crash."""
        line = self.main.line
        return line.state_dict()[1], line.steps_trained, self.main.steps_evaluation, self.main.evaluation, self.rows()

    def rows(self) -> list[dict[str, Any]]:
        self.main.writer.flush()
        with closing(sqlite3.connect(self.run_dir / "trainer.db")) as database:
            found = database.execute("SELECT update_index, data FROM metrics ORDER BY update_index").fetchall()
        return [json.loads(data) | {"update": update} for update, data in found]

    def steps(self) -> RunSteps:
        line, extra = self.main.line, ExtraSteps(sum(row.steps for row in self.spent), 0)
        return RunSteps(line.steps_trained, line.steps_main, self.main.steps_evaluation, extra)

    def counts(self) -> tuple[int, int, int]:
        """(Update, main, trained), the steps in updates."""
        line = self.main.line
        return line.update_index, line.steps_main // UPDATE, line.steps_trained // UPDATE

    def check(self) -> None:
        steps, history, rows = self.steps(), StepHistory(self.spent, []), self.rows()
        assert steps.total == self.played
        assert steps.dropped >= 0
        assert steps.total == steps.main + steps.evaluation + steps.dropped
        at = [history.at(r["update"], r["steps_trained"], r["steps_main"], r["steps_evaluation"]) for r in rows]
        totals = [one.total for one in at]
        assert totals == sorted(totals)
        assert all(one.dropped >= 0 and one.total == one.main + one.evaluation + one.dropped for one in at)
        # what was spent at this very boundary is counted with the next update
        here = sum(row.steps for row in self.spent if row.update >= rows[-1]["update"])
        assert at[-1].total + here == self.played
        assert rows[-1]["update"] == self.main.line.update_index


@contextmanager
def counted(run_dir: Path) -> Iterator[Run]:
    """A run, whose steps are counted as they are played."""
    with pytest.MonkeyPatch.context() as patch:
        update, evaluate = TrainingLine.update, Evaluator.evaluate

        def counted_update(line: TrainingLine) -> UpdateReport:
            report = update(line)
            run.played += line.collector.rollout.steps
            return report

        def counted_evaluate(evaluator: Evaluator, *args: Any, **named: Any) -> Evaluation:
            evaluation = evaluate(evaluator, *args, **named)
            run.played += evaluation.steps
            return evaluation

        patch.setattr(TrainingLine, "update", counted_update)
        patch.setattr(Evaluator, "evaluate", counted_evaluate)
        run = Run.__new__(Run)
        run.__init__(run_dir)  # type: ignore[misc]  # it plays already while it is made
        try:
            yield run
        finally:
            run.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with counted(tmp_path) as made:
        yield made


# ------------------------------------------------------------ by hand


def test_a_state_of_as_many_steps_takes_the_place_of_the_line(run: Run) -> None:
    """A race: the control went on in the trainer while a candidate trained beside it."""
    run.train(4)
    candidate = run.branch(run.main.checkpoint(), 3)
    run.train(3)
    assert run.counts() == (7, 7, 7)
    assert run.promote(candidate).steps_main == 7 * UPDATE
    assert run.counts() == (8, 7, 7)
    played = run.spent[0].steps  # three updates and an evaluation
    assert run.steps().dropped == played
    assert run.steps().total == 7 * UPDATE + played + run.main.steps_evaluation
    run.train(2)
    assert run.counts() == (10, 9, 9)
    assert run.rollback().steps_main == 7 * UPDATE
    assert run.counts() == (11, 7, 9)
    assert run.steps().dropped == played + 2 * UPDATE
    run.check()


def test_a_fresh_start_brings_its_age_and_its_past(run: Run) -> None:
    run.train(6)
    past = run.main.line.history
    younger = run.fresh_start(2)
    assert run.promote(younger).steps_main == 2 * UPDATE
    assert run.counts() == (7, 2, 6)
    assert [row["steps"] for row in run.main.line.history] == [UPDATE, 2 * UPDATE]
    assert run.steps().dropped == 6 * UPDATE  # what it replaces; its own two updates are the main line now
    run.train(2)
    assert run.counts() == (9, 4, 8)
    assert run.rollback().steps_main == 6 * UPDATE
    assert run.counts() == (10, 6, 8)
    assert run.main.line.history == past
    assert run.steps().dropped == 4 * UPDATE  # two of the fresh start, two that were trained on from it
    assert run.steps().total == 10 * UPDATE + run.main.steps_evaluation
    run.check()


def test_under_overlap_the_line_goes_back_to_the_fork_and_on_from_the_branch(run: Run) -> None:
    run.train(4)
    fork = run.main.checkpoint()
    run.train(5)
    assert run.promote(run.branch(fork, 3)).steps_main == 7 * UPDATE
    assert run.counts() == (10, 7, 9)
    evaluated = run.spent[0].steps - 3 * UPDATE
    assert run.steps().dropped == 5 * UPDATE + evaluated
    run.train(1)
    assert run.rollback().steps_main == 9 * UPDATE
    assert run.counts() == (12, 9, 10)
    run.check()


def test_a_kept_control_costs_its_evaluation_alone(run: Run) -> None:
    run.train(4)
    control = run.branch(run.main.checkpoint(), 3, seed=0)
    assert run.promote(control, "control").steps_main == 7 * UPDATE
    assert run.counts() == (7, 7, 4)  # it lies ahead, and keeps its update
    assert run.steps().dropped == run.spent[0].steps - 3 * UPDATE
    run.train(2)
    assert run.counts() == (9, 9, 6)
    run.check()


def test_a_winner_that_lies_ahead_can_be_undone(run: Run) -> None:
    run.train(4)
    winner = run.branch(run.main.checkpoint(), 3)
    run.promote(winner)
    run.train(2)
    assert run.counts() == (9, 9, 6)
    assert run.rollback().steps_main == 4 * UPDATE
    assert run.counts() == (10, 4, 6)
    run.check()


def test_rows_that_a_crash_left_in_the_place_that_a_state_skips_are_taken_out(run: Run) -> None:
    run.train(3)  # a snapshot
    winner = run.branch(run.main.checkpoint(), 4)
    run.train(2)
    run.main.writer.flush()
    run.close()
    run.open()
    assert run.counts() == (3, 3, 3)
    run.played -= 2 * UPDATE + run.rows()[-1]["steps_evaluation"] - run.main.steps_evaluation
    run.promote(winner)
    assert [row["update"] for row in run.rows()] == [0, 1, 2, 3, 7]
    run.check()


def curves(run_dir: Path) -> dict[str, list[int]]:
    """By curve of TensorBoard, the main steps of its evaluations, in updates."""
    found: dict[str, list[int]] = {}
    for folder in sorted({path.parent for path in run_dir.glob("tensorboard/**/events.*")}):
        events = EventAccumulator(str(folder))
        events.Reload()
        values = (
            events.Scalars("sparse/evaluation_return") if "sparse/evaluation_return" in events.Tags()["scalars"] else []
        )
        found[str(folder.relative_to(run_dir))] = [value.step // UPDATE for value in values]
    return found


def test_the_events_of_a_younger_state_are_a_curve_of_their_own_also_after_a_crash(run: Run) -> None:
    run.train(6)
    run.promote(run.fresh_start(3))
    run.train(1)
    run.crash()  # between the snapshots of updates 6 and 9, so that the fresh start is adopted again
    run.train(4)
    run.rollback()
    run.main.board.close()
    assert curves(run.run_dir) == {
        "tensorboard": [0, 2, 4, 6],
        "tensorboard/from_version_1": [3, 4, 6, 8],
        "tensorboard/from_version_2": [6],
    }


# ------------------------------------------------------------ whatever happens

OPERATIONS = st.one_of(
    st.tuples(st.just("train"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["signal", "rollback", "crash", "fork"]), st.just(0)),
    st.tuples(st.sampled_from(["branch", "fresh", "control", "dropped"]), st.integers(1, 4)),
)


@settings(max_examples=25, deadline=None)
@given(operations=st.lists(OPERATIONS, min_size=1, max_size=9))
def test_whatever_happens_every_step_is_counted_once(operations: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder, counted(Path(folder)) as run:
        fork, fork_age = run.main.checkpoint(), 0
        age = trained = updates = 0
        undoable = dict[int, bool]()  # by version
        for name, number in operations:
            base, before = run.main.line.signal.version, run.main.line.update_index
            match name:
                case "train":
                    run.train(number)
                    age, trained = age + number, trained + number
                case "fork":
                    fork, fork_age = run.main.look(), age
                case "signal":
                    undoable[run.promote(None).version] = True
                case "branch":
                    undoable[run.promote(run.branch(fork, number)).version] = True
                    age = fork_age + number
                case "fresh":
                    undoable[run.promote(run.fresh_start(number)).version] = True
                    age = number
                case "control":
                    state = run.branch(run.main.checkpoint(), number, seed=0)
                    undoable[run.promote(state, "control").version] = undoable.get(base, False)
                    age += number
                case "dropped":
                    run.branch(fork, number)
                case "rollback" if undoable.get(base):
                    run.rollback()
                    age = run.ages[base] // UPDATE
                case "crash":
                    run.crash()
            updates, main, own = run.counts()
            assert (main, own) == (age, trained), name
            assert updates >= before
            assert updates > before or name in ("signal", "fork", "dropped", "rollback", "crash")
            run.check()
