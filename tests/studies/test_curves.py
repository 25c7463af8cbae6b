"""Names of tasks, a short row on real trainers, and rows by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosignal.errors import ConfigError
from cosignal.rl.algorithms.learner import Learner
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.training.evaluate import Evaluation
from cosignal.studies import curves, job_cache
from cosignal.studies.curves import best_and_final, best_of_all, curve_config, curve_rows, run_curves, task_settings

TINY = ("trainer.evaluation.every_steps=1000", "trainer.evaluation.episodes=2")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("8x8-2p-2f-coop", {"size": 8, "players": 2, "foods": 2, "sight": None, "coop": True}),
        ("Foraging-2s-10x10-3p-3f-v3", {"size": 10, "players": 3, "foods": 3, "sight": 2, "coop": False}),
        (
            "5x5-2p-1f-ind-pen",
            {"size": 5, "players": 2, "foods": 1, "sight": None, "coop": False, "max_food_level": 1, "penalty": 0.1},
        ),
        ("tiny-2ag", {"size": "tiny", "agents": 2, "difficulty": "normal"}),
        (
            "Foraging-grid-3s-8x8-2p-1f-v3",
            {"size": 8, "players": 2, "foods": 1, "sight": 3, "coop": False, "grid_observation": True},
        ),
        ("rware-small-4ag-hard-v2", {"size": "small", "agents": 4, "difficulty": "hard"}),
        (
            "rware-imgdict-Nd-tiny-2ag-v2",
            {
                "size": "tiny",
                "agents": 2,
                "difficulty": "normal",
                "observation_type": "image_dict",
                "directional": False,
            },
        ),
    ],
)
def test_tasks_go_by_upstreams_names(name: str, settings: dict[str, object]) -> None:
    found = task_settings(name)
    assert found["env_args"] == settings
    TaskConfig.model_validate(found)


def test_other_tasks_go_by_their_own_names_and_nonsense_is_refused() -> None:
    assert task_settings("two_switch") == {"name": "two_switch", "n_max": 100}
    twin = "cosignal.rl.envs.two_switch:TwoSwitchEnv"
    assert task_settings(twin) == {"env": twin, "n_max": 100}
    for name in ("relay", twin):
        config = curve_config(name, "ippo_mlp", None)
        assert config.trainer.rollout == config.task.n_max > 0
    spread = "mpe2.simple_spread_v3:parallel_env"
    assert curve_config(spread, "mappo_gru", None, ("task.n_max=25",)).trainer.rollout == 25
    with pytest.raises(ConfigError, match=r"task.n_max must be set for a task other than .*; set it"):
        curve_config(spread, "mappo_gru", None)
    with pytest.raises(ConfigError, match=r"--task: must be a name of lbforaging .*, got '8x9-2p-2f'; correct it"):
        task_settings("8x9-2p-2f")
    with pytest.raises(ConfigError, match="--algorithm: must be one of ippo, mappo, vdn, qmix, got 'coma'"):
        run_curves(1, (), print, algorithms=("coma",))
    with pytest.raises(ConfigError, match="--algorithm: must leave an arm, got vdn beside mappo_mlp"):
        run_curves(1, ("mappo_mlp",), print, algorithms=("vdn",))


def test_an_arm_has_the_protocols_settings_with_its_network() -> None:
    config = curve_config("tiny-2ag", "mappo_mlp", None)
    assert (config.trainer.mappo.network, config.trainer.mappo.hidden) == ("mlp", (128, 128))
    assert (config.trainer.steps, config.adaptation.enabled) == (20_050_000, False)
    assert curve_config("tiny-2ag", "vdn_gru", 9_000).trainer.vdn.network == "gru"


def test_a_key_of_every_row_can_be_set() -> None:
    config = curve_config("tiny-2ag", "mappo_mlp", None, ("trainer.mappo.lr=5e-4", "trainer.time_limit=truncation"))
    assert (config.trainer.mappo.lr, config.trainer.mappo.network, config.trainer.time_limit) == (
        5e-4, "mlp", "truncation",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="--set trainer.mappo.clap: unknown key, got value 1; did you mean"):
        curve_config("tiny-2ag", "mappo_mlp", None, ("trainer.mappo.clap=1",))


def test_best_is_the_mean_of_the_seeds_best_evaluations() -> None:
    curves = [
        {"points": [{"mean_return": x} for x in returns], "steps_main": 300, "cpu_s": 36.0}
        for returns in ([0.0, 0.75, 0.5], [0.25, 0.25, 0.5])
    ]
    assert [best_and_final(curve) for curve in curves] == [(0.75, 0.5), (0.5, 0.5)]
    rows = {row["id"]: row["mean"] for row in curve_rows("a.b:C", "vdn_mlp", curves)}
    # the means are 0.125, 0.5 and 0.5; the first of equals counts
    name = "a/b:C vdn_mlp"
    assert (rows[f"{name}.best"], rows[f"{name}.best_each"], rows[f"{name}.final"]) == (0.5, 0.625, 0.5)
    assert best_of_all(curves) == [0.75, 0.25]
    assert rows[f"{name}.hours"] == 0.01


@pytest.mark.timeout(240)
def test_a_short_row_is_run_once_and_read_from_the_cache_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_cache, "PARALLEL", 0)
    lines: list[str] = []
    tasks, arms = ("5x5-2p-1f",), ("ippo_mlp", "qmix_mlp")
    result = run_curves(1, arms, lines.append, tasks, steps=2_500, overrides=TINY)
    assert [line for line in lines if line.startswith("plan: 5x5-2p-1f qmix_mlp: 1 seeds of 2_500 steps")]
    for curve in result["curves"]:
        assert [point["steps"] for point in curve["points"]] == [1_000, 2_000, 2_500]
        assert curve["max_memory_mb"] > 0
    assert result["command"] == (
        "cosignal study curves --task 5x5-2p-1f --steps 2500 --set trainer.evaluation.every_steps=1000 "
        "--set trainer.evaluation.episodes=2 --seeds 1 --arm ippo_mlp --arm qmix_mlp --json"
    )
    again: list[str] = []
    assert run_curves(1, arms, again.append, tasks, steps=2_500, overrides=TINY)["rows"] == result["rows"]
    assert again[:2] == ["plan: 0.0 core-hours in all, 0.0 hours on 1 cores", "2 jobs are cached, 0 are to be run"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("arm", ["mappo_gru", "vdn_mlp"])
def test_a_job_that_was_cut_off_goes_on_as_if_it_had_not_been(
    arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "KEEP_EVERY", 1_000)
    overrides = (*TINY, "trainer.envs=2", "trainer.vdn.learning_starts=500")
    content = {"config": curve_config("5x5-2p-1f", arm, 3_500, overrides).model_dump(mode="json")}

    def run(folder: Path) -> dict[str, object]:
        folder.mkdir(exist_ok=True)
        return curves.work_curve(content, folder)

    whole = run(tmp_path / "whole")
    evaluate, calls = curves.Evaluator.evaluate, [0]

    def cut_off(self: curves.Evaluator, policy: Learner) -> Evaluation:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return evaluate(self, policy)

    monkeypatch.setattr(curves.Evaluator, "evaluate", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    resumed = run(tmp_path / "cut")
    assert calls[0] == 3 + 2, "it begins behind its second evaluation"
    assert resumed["points"] == whole["points"]
    assert not (tmp_path / "cut").exists()
