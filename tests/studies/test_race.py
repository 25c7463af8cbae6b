"""The study of races: its rows on outcomes made by hand, its configs and seeds, and a tiny run of every arm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cosignal import RunConfig
from cosignal.errors import ConfigError
from cosignal.studies import job_cache, race, report
from cosignal.studies.line_arms import LineArm
from cosignal.studies.outcome import Outcome
from cosignal.studies.race import loop_config, race_rows, ratio_rows, run_race, task_config
from made_up_outcomes import decision, loop_run, outcome, rows_by_id
from short_runs import SHORT

pytestmark = pytest.mark.timeout(300)

GIVEN = [
    {"title": "near", "signal": {"terms": [{"kind": "potential", "name": "near", "expression": "-dist_goal / 17"}]}},
    {"title": "door", "signal": {"terms": [{"kind": "potential", "name": "door", "expression": "-dist_door / 9"}]}},
]


def at(arm: str, seed: int, total: int | None, end: int = 4_000_000) -> Outcome:
    main = None if total is None else total // 2
    return outcome(arm, seed, main_to_90=main, total_to_90=total, steps_total=end)


def made_up() -> list[Outcome]:
    """Seeds 1 and 2 of both groups: 2 stalls; 7 was added since it stalls, too."""
    plain = [at("plain", 1, 300_000), at("plain", 2, None, 1_500_000), at("plain", 7, None, 1_500_000)]
    restarts = [at("restarts", 1, 300_000), at("restarts", 2, 500_000), at("restarts", 7, 1_000_000)]
    raced = [at("race", 1, 315_000), at("race", 2, 600_000), at("race", 7, 1_050_000)]
    return [*plain, *restarts, *raced]


def test_stalled_seeds_are_those_that_plain_training_fails_and_added_ones_count_there_only() -> None:
    rows = rows_by_id(race_rows(made_up(), [], ("plain", "restarts", "race"), range(1, 3)))
    assert (rows["race.solved"]["seeds"], rows["race.solved"]["mean"]) == (2, 1.0)
    assert rows["race.total_to_90"]["mean"] == (315_000 + 600_000) / 2
    assert (rows["race.stalled_solved"]["seeds"], rows["race.stalled_solved"]["mean"]) == (2, 1.0)
    assert rows["race.stalled_total"]["mean"] == (600_000 + 1_050_000) / 2
    assert (rows["plain.stalled_total"]["mean"], rows["plain.stalled_total"]["censored"]) == (1_500_000, 2)
    assert rows["plain.stalled_total"]["median"] is None
    # The ratio of the means, over pairs of seeds: 1.65 M to 1.5 M.
    ratio = rows["race against restarts over stalled seeds"]
    assert (ratio["mean"], ratio["seeds"], ratio["verdict"]) == (1.1, 2, "measured")
    assert ratio["ci95"] == [1.05, 1.2]  # 1 050 to 1 000 and 600 to 500, each drawn twice in a quarter of the samples
    healthy = rows["race against plain over seeds that plain solves"]
    assert (healthy["mean"], healthy["ci95"], healthy["seeds"]) == (1.05, [1.05, 1.05], 1)
    assert "plain against restarts over stalled seeds" not in rows


def test_a_ratio_says_which_bound_it_is_where_seeds_are_unsolved() -> None:
    def verdict(mine: int | None, other: int | None) -> str:
        by_arm = {"race": {1: at("race", 1, mine)}, "restarts": {1: at("restarts", 1, other, 6_000_000)}}
        [row] = ratio_rows("race", "restarts", by_arm, [1], "stalled seeds")
        return row["verdict"]

    assert verdict(600_000, 500_000) == "measured"
    assert verdict(None, 500_000) == "at least: 1 seeds of race are unsolved"
    assert verdict(600_000, None) == "at most: 1 seeds of restarts are unsolved"
    assert verdict(None, None).startswith("no bound: ")


def test_without_a_stalled_seed_nothing_is_said_of_them() -> None:
    outcomes = [at(arm, 1, 300_000) for arm in ("plain", "restarts", "race")]
    rows = rows_by_id(race_rows(outcomes, [], ("plain", "restarts", "race"), range(1, 2)))
    assert not [name for name in rows if "stalled" in name]


def test_adoptions_are_counted_by_kind_of_arm_and_removals_are_not() -> None:
    def adopted(kind: str | None, **more: Any) -> dict[str, Any]:
        return decision("accept", "x", **more) | {"kind": kind}

    runs = [
        loop_run(at("race", 1, 300_000), adopted("candidate"), adopted("fresh_start"), adopted(None, removal=True)),
        loop_run(at("race", 2, 300_000), adopted("candidate"), decision("no_difference")),
    ]
    rows = rows_by_id(race.adoption_rows("race", runs))
    found = {name.removeprefix("race."): row["mean"] for name, row in rows.items()}
    assert found == {"adoptions": 1.5, "candidate": 1.0, "fresh_start": 0.5, "kick": 0.0, "carried": 0.0}
    # The gate has arms of one kind only.
    gate = race.adoption_rows("gate", [loop_run(at("gate", 1, 300_000), decision("accept", "x"))])
    assert [row["id"] for row in gate] == ["gate.adoptions"]
    assert race.adoption_rows("plain", []) == []


def test_each_loop_differs_from_the_config_in_what_its_name_says() -> None:
    shipped = report.example_config()

    def changed(arm: str) -> dict[str, Any]:
        before, now = (config.model_dump() for config in (shipped, loop_config(arm, shipped)))
        return {
            f"{part}.{name}": value
            for part in ("gate", "race", "adaptation", "branches")
            for name, value in now[part].items()
            if value != before[part][name]
        }

    assert changed("gate") == {}  # a study judges signals unless it says otherwise
    assert loop_config("gate", shipped).gate.claim == "signal"
    assert changed("race") == {"gate.claim": "policy"}
    assert changed("race_no_fresh") == {"gate.claim": "policy", "race.fresh_start": False}
    assert loop_config("union", shipped).preferences.ranker == "task_heuristic"


def test_restarts_have_the_trigger_of_the_loop_and_as_many_steps() -> None:
    shipped = report.example_config()
    arm = race.line_arm("restarts", shipped)
    assert (arm.when_stalled, arm.budget) == ("restart", 6_000_000)
    assert race.line_arm("kick", shipped).budget == 1_500_000


def test_seeds_are_added_until_enough_of_them_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def lines(arms: Sequence[LineArm], configs: Sequence[RunConfig], tell: Any) -> list[Outcome]:
        asked.extend(config.seed for config in configs)
        return [at("plain", c.seed, None if c.seed % 5 == 0 else 300_000) for c in configs]

    monkeypatch.setattr(race, "run_lines", lines)
    config = report.example_config(311)
    first = lines((), race.seeded(config, 5), print)  # 315 stalls
    asked.clear()
    found = race.add_stalled(config, first, 4, print)
    assert [one.seed for one in found] == [320, 325, 330]
    assert asked == list(range(316, 332))
    assert race.add_stalled(config, first, 1, print) == []
    monkeypatch.setattr(race, "MOST_SEEDS", 2)
    with pytest.raises(ConfigError, match="--stalled: of 8 seeds at least 4 must stall under plain training, got 1"):
        race.add_stalled(config, first, 4, print)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": ("two_switch", "victim_rubble")}, "--task: must be given once for the study 'race'"),
        ({"tasks": ("nonsense",)}, "--task: must be one of two_switch, victim_rubble, relay or"),
        ({"arms": ("union",)}, "--arm: union is an arm of victim_rubble only, got the task 'two_switch'"),
        ({"proposals": Path("nowhere.json")}, "nowhere.json: a file of signals must exist here"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run_race(1, **{"arms": (), "tell": print, **options})


def test_tasks_are_shipped_ones_or_a_factory() -> None:
    base = report.example_config()
    assert task_config("victim_rubble", base).task.name == "victim_rubble"
    assert (task_config("relay", base).task.name, task_config("relay", base).trainer.steps) == ("relay", 3_000_000)
    assert task_config("vault_task:VaultTask", base).task.env == "vault_task:VaultTask"


def test_every_arm_runs_on_the_same_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_cache, "PARALLEL", 0)
    Path("given.json").write_text(json.dumps(GIVEN))
    settings = {**SHORT, "trainer": {**SHORT["trainer"], "steps": 2_560}}
    settings["adaptation"] = {**SHORT["adaptation"], "interval": 640}
    settings["race"] = {"look_episodes": 4, "confirm_episodes": 8, "rungs": 2, "longest": 2}
    base = RunConfig.model_validate(settings)
    result = run_race(1, (), lambda line: None, proposals=Path("given.json"), stalled=1, first_seed=5, base=base)
    assert {one["arm"] for one in result["outcomes"]} == {"plain", "restarts"}
    assert {run["arm"] for run in result["seeds"]} == {"gate", "race", "race_no_fresh"}
    assert {one["seed"] for one in [*result["outcomes"], *result["seeds"]]} == {5}
    assert result["provider"] == "given signals"
    titles = {proposal[2] for run in result["seeds"] for proposal in run["proposals"]}
    assert titles == {"near", "door"}
    assert "--proposals given.json --stalled 1 --seeds 1 --first-seed 5" in result["command"]
    assert (report.OUT / "race" / "two_switch-given" / "table.md").exists()
    lines: list[str] = []
    run_race(1, (), lines.append, proposals=Path("given.json"), first_seed=5, base=base)
    assert all("0 are to be run" in line for line in lines[:-1])  # all of it was cached
