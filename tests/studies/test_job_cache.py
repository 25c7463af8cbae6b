"""Jobs are cached, shared, and go on after an interruption."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cosignal.studies import job_cache
from cosignal.studies.job_cache import Job, run_jobs
from study_works import double, fail_once


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_cache, "PARALLEL", 0)


def job(x: int) -> Job:
    return Job("double", {"x": x}, double, f"job {x}", lambda value: f"came to {value['twice']}")


def runs() -> list[str]:
    return (job_cache.CACHE / "runs.log").read_text().split()


def test_equal_jobs_are_run_once_and_values_come_in_order() -> None:
    lines: list[str] = []
    values = run_jobs([job(3), job(1), job(3)], lines.append)
    assert [value["twice"] for value in values] == [6, 2, 6]
    assert runs() == ["3", "1"]
    assert [line.split(";")[0] for line in lines] == ["job 3: came to 6", "job 1: came to 2"]
    assert all(line.endswith(" CPU-s") for line in lines)


def test_a_second_time_nothing_is_run() -> None:
    run_jobs([job(1)], lambda line: None)
    lines: list[str] = []
    [one, two] = run_jobs([job(1), job(2)], lines.append)
    assert (one["twice"], two["twice"]) == (2, 4)
    assert runs() == ["1", "2"]
    assert lines[0] == "1 jobs are cached, 1 are to be run"


def test_other_code_or_other_content_is_another_job(monkeypatch: pytest.MonkeyPatch) -> None:
    before = job(1).key
    assert before == Job("double", {"x": 1}, fail_once, "another name").key  # what names say does not count
    assert before != job(2).key
    monkeypatch.setattr(job_cache, "code_id", lambda: "another commit")
    assert before != job(1).key


def test_one_that_was_cut_off_goes_on_and_the_others_are_cached() -> None:
    both = [job(1), Job("cut", {"x": 2}, fail_once)]
    with pytest.raises(RuntimeError, match="cut off"):
        run_jobs(both, lambda line: None)
    values = run_jobs(both, lambda line: None)
    assert (values[0]["twice"], values[1]) == (2, "2 went on")
    assert runs() == ["1"]


def test_a_file_says_what_it_is_of() -> None:
    run_jobs([job(4)], lambda line: None)
    [path] = job_cache.CACHE.glob("*.json")
    row = json.loads(path.read_text())
    assert path.stem == job(4).key
    assert (row["content"], row["code"], row["value"]["twice"]) == ({"x": 4}, job_cache.code_id(), 8)
    assert row["cpu_s"] >= 0


def test_they_run_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_cache, "PARALLEL", 2)
    values = run_jobs([job(x) for x in range(5)], lambda line: None)
    assert [value["twice"] for value in values] == [0, 2, 4, 6, 8]
    pids = {value["pid"] for value in values}
    assert os.getpid() not in pids and len(pids) <= 2  # one may have done all, being quicker
    with pytest.raises(RuntimeError, match="cut off"):
        run_jobs([Job("cut", {"x": 9}, fail_once), job(7)], lambda line: None)
    assert "7" in runs()  # it was beside the one that failed


def test_code_that_was_not_committed_is_known_by_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    job_cache.code_id.cache_clear()
    monkeypatch.setattr(job_cache, "commit", lambda: "abc")
    assert job_cache.code_id() == "abc"
    job_cache.code_id.cache_clear()
    monkeypatch.setattr(job_cache, "commit", lambda: "abc-dirty")
    assert job_cache.code_id().startswith("abc-dirty+") and len(job_cache.code_id()) == len("abc-dirty+") + 16
    job_cache.code_id.cache_clear()
