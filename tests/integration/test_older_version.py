"""A run directory of an older version: killed in the middle of a branch there, resumed here.

`tests/data/older_run/run.tar.xz` was made at commit f06ce9c: `short_runs.SHORT` with networks of 8 units, killed with
SIGKILL while branches of its seventh intervention ran, after a promotion. `record.json.xz` is what the same run came to
there without the kill (`run_record`). The config of that version has keys that are gone.
"""

from __future__ import annotations

import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cosignal import RunConfig, RunView
from cosignal.config.run_config import REMOVED_KEYS, RemovedKeyWarning
from cosignal.errors import ResumeError
from cosignal.graphs.session.resume import find_run
from run_record import run_record
from short_runs import start_run

DATA = Path(__file__).parents[1] / "data" / "older_run"


@pytest.fixture
def older_run(tmp_path: Path) -> Path:
    with tarfile.open(DATA / "run.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    (path,) = (tmp_path / "runs").iterdir()
    return path


def config_of(run_dir: Path) -> dict[str, Any]:
    """The run's own config, in the place where it is now."""
    config: dict[str, Any] = json.loads((run_dir / "config.json").read_text())
    return config | {"run_dir": str(run_dir.parent)}


def test_it_can_be_looked_at(older_run: Path) -> None:
    status = RunView(older_run).status()
    assert (status["state"], status["promotions"], status["signal_version"]) == ("stopped", 1, 2)


def test_its_config_loads_with_a_warning_for_each_key_that_is_gone(older_run: Path) -> None:
    with pytest.warns(RemovedKeyWarning) as warnings:
        config = RunConfig.model_validate(config_of(older_run))
    assert sorted(str(warning.message).partition(":")[0] for warning in warnings) == sorted(REMOVED_KEYS)
    section, name = next(iter(REMOVED_KEYS)).split(".")
    assert name not in config.model_dump()[section]


def test_resumed_it_goes_on_to_judge_signals_and_never_races_by_a_default_that_it_did_not_know(older_run: Path) -> None:
    with pytest.warns(RemovedKeyWarning):
        config = RunConfig.model_validate(config_of(older_run))
    assert config.gate.claim == "auto"
    with pytest.raises(ResumeError, match=r"differs in gate\.claim \('signal' there, 'auto' here\)"):
        find_run(config)
    as_it_was = config.model_copy(update={"gate": config.gate.model_copy(update={"claim": "signal"})})
    assert (run := find_run(as_it_was).run) is not None and run.path == older_run


@pytest.mark.integration
def test_resumed_it_comes_to_what_it_would_have_come_to(older_run: Path, tmp_path: Path) -> None:
    config = config_of(older_run)
    for key in REMOVED_KEYS:
        section, name = key.split(".")
        del config[section][name]
    config["gate"]["claim"] = "signal"  # what that version knew
    (tmp_path / "config.json").write_text(json.dumps(config))
    process = start_run(tmp_path / "config.json", "--resume")
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert list(older_run.parent.iterdir()) == [older_run]  # it was continued, not started anew
    expected = json.loads(lzma.decompress((DATA / "record.json.xz").read_bytes()))
    record = run_record(older_run)
    view = RunView(older_run)
    # that version counted the branch steps among the main steps, this one what the trainer trained
    counts = {row["name"]: int(row["value"]) for row in expected.pop("counters")}
    found = {row["name"]: int(row["value"]) for row in record["counters"]}
    assert found == counts | {"steps_trained": counts["steps_main"] - counts.pop("steps_adopted")}
    played = sum(row["result"]["steps"] + row["result"]["steps_evaluation"] for row in expected["branches"])
    total = found["steps_trained"] + counts["steps_evaluation"] + played
    assert view.status()["steps_total"] == total
    rows = view.metrics()  # of both versions
    history = view.step_history()
    totals = [history.at(r["update"], r["steps_trained"], r["steps"], r["steps_evaluation"]).total for r in rows]
    assert totals == sorted(totals)
    assert totals[-1] == total
    trained = [row["steps_trained"] for row in rows if row["trained"]]
    assert trained == [128 * number for number in range(1, len(trained) + 1)]
    _forget_later_words(record)
    for table, rows in expected.items():
        assert_equal(record[table], rows, table)


def _forget_later_words(record: dict[str, Any]) -> None:
    """Take out what later versions write besides."""
    for row in record["branches"]:
        assert row.pop("spent_at") is None
        row["result"].pop("episodes", None)
    for row in record["calls"]:
        assert row.pop("temperature") is None
        assert not row.pop("clipped")
    for row in record["proposals"]:
        row.pop("preview", None)
    for row in record["metrics"]:
        row["data"].pop("steps_trained", None)


def assert_equal(found: Any, expected: Any, place: str) -> None:
    """Compare two records; a processor that was not the recorded one's rounds the last digits in its own way."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key, value in expected.items():
            assert_equal(found[key], value, f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for number, value in enumerate(expected):
            assert_equal(found[number], value, f"{place}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6), place
    else:
        assert found == expected, place
