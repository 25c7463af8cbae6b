"""What a run directory says: `RunView`, the one read model of a run.

It reads both databases and the two JSON files that make a directory a run, `config.json` and `run.json`, also while the
run is live, and gives CLI, report and page the same numbers.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from ..agents.llm.ledger import Call
from ..errors import DamagedRunError
from ..files import UNFINISHED
from ..rl.processes import lock_is_held
from .checked import VALUES, Metric, RunInfo, UsedConfig, first_problem
from .events import GIVEN_SIGNALS
from .race_records import EvaluationRecord, RaceRecord
from .records import (
    BranchRecord,
    DecisionRecord,
    FailedBranchRecord,
    FitRecord,
    InterventionRecord,
    ProposalRecord,
    RankingRecord,
    SignalVersion,
    VisitRecord,
)
from .run_files import decode, query, read_json
from .steps import ExtraSteps, RunSteps, StepHistory, StepsAt, whole_updates
from .store import TABLES, record_of

Row = dict[str, Any]  # of a database, or of metrics
RunState = Literal["running", "waiting", "done", "failed", "stopped"]
R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")

# Tables of each database of which one has rows as soon as the run has begun.
FIRST_ROWS = {"loop.db": ("run", "visits"), "trainer.db": ("counters", "metrics")}


class RunView:
    """Reads a run directory, which need not be one that can be written; every call reads anew.

    Args:
        run_dir: the run directory.
        lenient: rows that cannot be read are left out and told in `damage`, so that the rest can be looked at. Else the
            first one is an error.

    Attributes:
        path: the run directory.
        info: what `run.json` says: id, created, config_hash and version.
        config: the resolved config, as plain data.
        damage: a line for each thing that could not be read so far; always empty where reading is not lenient.

    Raises:
        NotARunError: there is no run; a `DamagedRunError` where it cannot be read, or was made by a version whose rows
            this one cannot read. So do all methods.
    """

    def __init__(self, run_dir: Path, lenient: bool = False) -> None:
        self.path, self.lenient = Path(run_dir), lenient
        self.damage: list[str] = []
        self.info = self._object("run.json", RunInfo)
        self.config = self._object("config.json", UsedConfig, needed=("seed", "llm", "trainer", "task"))

    @property
    def knows_claims(self) -> bool:
        """Whether its version knew more than one claim: every version writes all keys. Earlier ones judged signals."""
        gate = self.config.get("gate")
        return isinstance(gate, dict) and "claim" in gate

    # ------------------------------------------------------------ tables

    def metrics(self) -> list[Row]:
        """Read one row an update, oldest first: the trainer's metric data, with `update`, `steps` and `steps_trained`.

        `steps` are main steps, which step back where a younger state was taken over; `steps_trained` only rise.
        """

        def metric(row: Row) -> Row:
            data = {**decode(row["data"]), "update": row["update_index"], "steps": row["steps"]}
            return Metric.model_validate(data).model_dump()

        rows = self._rows("trainer.db", "metrics", "SELECT * FROM metrics ORDER BY update_index", metric)
        older = [row for row in rows if row["steps_trained"] is None]
        adopted = self._adopted_by_older() if older else []
        for row in older:
            row["steps_trained"] = row["steps"] - sum(past.steps for past in adopted if past.update < row["update"])
        return rows

    def signals(self) -> list[SignalVersion]:
        """Read the signal log, version 0 first."""
        return self._read(SignalVersion)

    def interventions(self) -> list[InterventionRecord]:
        """Read the evidence of each intervention, with its diagnosis where the Critic has answered."""
        return self._read(InterventionRecord)

    def rankings(self) -> list[RankingRecord]:
        """Read what was ranked at each point, and the scorers that came of it."""
        return self._read(RankingRecord)

    def fits(self) -> list[FitRecord]:
        """Read what was fitted to the run's own episodes at each point."""
        return self._read(FitRecord)

    def proposals(self) -> list[ProposalRecord]:
        """Read all proposals in the order in which they were made."""
        return self._read(ProposalRecord)

    def branches(self) -> list[BranchRecord]:
        """Read all finished branches, by point and round."""
        return self._read(BranchRecord)

    def failed_branches(self) -> list[FailedBranchRecord]:
        """Read all branches that could not be run, by point and round."""
        return self._read(FailedBranchRecord)

    def races(self) -> list[RaceRecord]:
        """Read all races, by point and round."""
        return self._read(RaceRecord)

    def evaluations(self) -> list[EvaluationRecord]:
        """Read all evaluations of policies of a race, by point and round."""
        return self._read(EvaluationRecord)

    def decisions(self) -> list[DecisionRecord]:
        """Read what was decided, by point and round."""
        return self._read(DecisionRecord)

    def calls(self) -> list[Call]:
        """Read the model calls, one an attempt, oldest first."""
        return self._read(Call)

    def visits(self) -> list[VisitRecord]:
        """Read the visits of nodes, oldest first."""
        return self._read(VisitRecord)

    def counters(self) -> dict[str, str]:
        """Read the trainer's counters as it wrote them; empty before its first update."""
        rows = self._rows("trainer.db", "counters", "SELECT name, value FROM counters", dict)
        return {row["name"]: str(row["value"]) for row in rows}

    def count(self, name: str) -> int:
        """Read one counter, 0 where the trainer has not written it."""
        text = self.counters().get(name, "0")
        try:
            if (count := int(text)) >= 0:
                return count
        except ValueError:
            pass
        database = str(self.path / "trainer.db")
        self._damaged(f"the counter {name!r} of {database!r} must be a number from 0, got {text!r:.80}; restore it")
        return 0

    def values(self) -> dict[str, Any]:
        """Read the loop's named values: state, error, wall_s, provider, waiting_for, warnings."""

        def named(row: Row) -> tuple[str, Any]:
            value = decode(row["value"])
            if row["name"] in VALUES:
                VALUES[row["name"]].validate_python(value)
            return row["name"], value

        return dict(self._rows("loop.db", "run", "SELECT name, value FROM run", named))

    def waiting_for(self) -> dict[str, Any] | None:
        """Read the promotion that waits for a human, the fields of the event `ApprovalNeeded`; None where none does."""
        question: dict[str, Any] | None = self.values().get("waiting_for")
        return question and {"proposal": "", "title": "", **question}

    # ------------------------------------------------------------ status

    def state(self) -> RunState:
        """Say whether the run is under way.

        `running` while a loop holds the run's lock, `waiting` where it waits for a human; else what the loop wrote
        last, `stopped` when it was killed.
        """
        # A killed loop leaves no word, but the system gives its lock back.
        if self._lock_is_held():
            return "running" if self.waiting_for() is None else "waiting"
        written = self.values().get("state")
        if written == "done" and self.counters().get("state") == "finished":
            return "done"
        return "failed" if written == "failed" else "stopped"

    def steps(self) -> RunSteps:
        """Count the environment steps of everything so far."""
        main, evaluation = self.count("steps_main"), self.count("steps_evaluation")
        is_older = "steps_trained" not in self.counters()
        trained = main - self.count("steps_adopted") if is_older else self.count("steps_trained")
        spent = self.step_history()
        branches, play = (sum(row.steps for row in rows) for rows in (spent.branches, spent.play))
        return RunSteps(trained, main, evaluation, ExtraSteps(branches, play))

    def steps_total(self) -> int:
        """Count every environment step of the run once; see `runs.steps`."""
        return self.steps().total

    def step_history(self) -> StepHistory:
        """Say when steps beside the trainer were spent, so that the total of any update can be had."""
        branches = [
            *(StepsAt(row.spent, row.steps) for row in self.branches()),
            *(StepsAt(row.spent, row.steps) for row in self.failed_branches()),
            *(StepsAt(row.spent_at, row.steps) for row in self.evaluations()),
        ]
        played = [StepsAt(row.point, row.steps) for row in self.rankings()]
        played += [StepsAt(row.point, row.steps) for row in self.fits()]
        return StepHistory(branches, play=played)

    def _adopted_by_older(self) -> list[StepsAt]:
        """Say when steps of branches became main steps, as a version that did not write `steps_trained` did it.

        Under the lockstep clock an adopted state was ahead by its branch; under the other one it left main steps as
        they were.
        """
        if self.config.get("clock") == "overlap":
            return []
        update_steps = int(self.config["trainer"]["envs"]) * int(self.config["trainer"]["rollout"])
        lengths: dict[str | None, int] = {
            row.result.end_state: whole_updates(row.result.horizon, update_steps) for row in self.branches()
        }
        return [StepsAt(row.applied_update, lengths[row.adopt]) for row in self.signals() if row.adopt in lengths]

    def status(self) -> dict[str, Any]:
        """Say where the run stands, in the fields of `cosignal status --json`.

        `error`: what made the run fail, else null. `sparse_return`, `success_rate`: of the last evaluation of the main
        line; null before the first one. `episodes_lost`: training episodes of the main line that were cut since their
        environment crashed or hung. `llm_calls`: those that were made, not those that the budget refused.
        `waiting_for`: id of the promotion that waits for a human, else null. `branches_lost`: branches that could not
        be run. `warnings`: what the user should know about the run, each once.
        """
        counters, proposals, branches, steps = self.counters(), self.proposals(), self.branches(), self.steps()
        signals, values, waiting = self.signals(), self.values(), self.waiting_for()
        evaluated = [row for row in self.metrics() if row.get("evaluation_return") is not None]
        last = evaluated[-1] if evaluated else {}
        return {
            "path": str(self.path.absolute()),
            "state": self.state(),
            "error": values.get("error"),
            "seed": self.config["seed"],
            "provider": values.get("provider") or provider(self.config),
            "stage": counters.get("stage"),
            "steps_main": steps.main,
            "steps_total": steps.total,
            "steps_budget": self.config["trainer"]["steps"],
            "signal_version": signals[-1].version if signals else 0,
            "proposals": len(proposals),
            "validated": len({row.arm for row in branches} & {row.id for row in proposals}),
            "promotions": sum(row.cause == "promotion" for row in signals),
            "rollbacks": sum(row.cause == "rollback" for row in signals),
            "waiting_for": waiting["id"] if waiting else None,
            "llm_calls": sum(call.outcome != "budget" for call in self.calls()),
            "sparse_return": last.get("evaluation_return"),
            "success_rate": last.get("evaluation_success"),
            "episodes_lost": self.count("episodes_lost"),
            "branches_lost": len(self.failed_branches()),
            "warnings": list((values.get("warnings") or {}).values()),
            "wall_s": round(float(values.get("wall_s", 0.0)), 1),
        }

    # ------------------------------------------------------------ reading

    def _read(self, kind: type[R]) -> list[R]:
        table = TABLES[kind]
        statement = f"SELECT * FROM {table.name} ORDER BY {table.order}"
        # Numbers that are not finite cannot be drawn; who reads strictly gets them as they were written.
        read = decode if self.lenient else json.loads
        return self._rows(table.database, table.name, statement, lambda row: record_of(kind, row, read))

    def _rows(self, database: str, table: str, statement: str, read: Callable[[Row], T]) -> list[T]:
        """Return what `read` makes of each row; one that it cannot read is damage, as is a database that breaks off."""
        path, rows, problems = self.path / database, list[T](), list[str]()
        try:
            for row in query(path, table, statement):
                try:
                    rows.append(read(row))
                except ValidationError as error:
                    problems.append(first_problem(error))
                except (ValueError, TypeError, RecursionError) as error:  # no JSON, or none of an object
                    problems.append(f"got {error!s:.200}")
        except (OSError, sqlite3.Error) as error:
            self._damaged(
                f"the database {str(path)!r} must be one of a run, got {error}; restore it or look at another run"
            )
        # One clear line instead of pydantic's many, for the command line and for the list of runs.
        if problems:
            self._damaged(
                f"the table {table!r} of {str(path)!r} must hold rows of this version of cosignal, "
                f"{problems[0]} ({len(problems)} of {len(rows) + len(problems)} rows); look at the run with the "
                "version that has made it"
            )
        elif not rows:
            self._check_not_lost(database)
        return rows

    def _check_not_lost(self, database: str) -> None:
        """Note that a database is gone or empty where the run has come further than its first rows."""
        if self._has_any(database, *FIRST_ROWS[database]) or self._lock_is_held():
            return
        # A trainer writes its counters before it snapshots, and starts after the loop has written that it runs.
        trained = any(not path.name.endswith(UNFINISHED) for path in (self.path / "checkpoints").glob("*"))
        of_other = ("trainer.db", "metrics") if database == "loop.db" else ("loop.db", "diagnoses", "branches")
        if trained or self._has_any(*of_other):
            state = "empty" if (self.path / database).exists() else "missing"
            self._damaged(
                f"{str(self.path / database)!r} must hold what the run wrote, but it is {state}; restore it from a copy"
            )

    def _has_any(self, database: str, *tables: str) -> bool:
        """Tell whether one of the tables has a row."""
        path = self.path / database
        try:
            return any(any(query(path, table, f"SELECT 1 FROM {table} LIMIT 1")) for table in tables)
        except (OSError, sqlite3.Error):
            return True  # who reads it is told what is wrong

    def _object(self, name: str, model: type[BaseModel], needed: Sequence[str] = ()) -> dict[str, Any]:
        data = read_json(self.path / name, needed)
        try:
            model.model_validate(data, strict=True)
        except ValidationError as error:
            raise DamagedRunError(
                f"{str(self.path / name)!r} must be the {name} of a run, {first_problem(error)}; restore the file or "
                "name another run"
            ) from error
        return data

    def _lock_is_held(self) -> bool:
        try:
            return lock_is_held(self.path / "loop.lock")
        except OSError as error:
            self._damaged(f"the lock of {str(self.path)!r} must be a file, got {error}; remove it")
            return False

    def _damaged(self, line: str) -> None:
        """Note what could not be read; where reading is not lenient that is an error."""
        if not self.lenient:
            raise DamagedRunError(line)
        if line not in self.damage:
            self.damage.append(line)


def provider(config: Mapping[str, Any], chat_models: Mapping[str, str] | None = None) -> str:
    """Name the providers of all roles, each once: `rules`, or `openai+rules`; `given signals` where nobody is asked.

    Args:
        config: of the run, as plain data.
        chat_models: role → kind of the chat model that a caller gave it in place of the config's.
    """
    if (config.get("adaptation") or {}).get("signals"):
        return GIVEN_SIGNALS
    llm = config["llm"]
    # A role that the config does not name has the default's provider.
    roles = {role: str((llm.get(role) or llm["default"])["provider"]) for role in ("critic", "generator", "ranker")}
    return "+".join(sorted({*(roles | dict(chat_models or {})).values()}))
