"""The LCA study: runs at a tiny size, and verdicts on curves made by hand."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cosignal.errors import ConfigError
from cosignal.studies import job_cache as pieces
from cosignal.studies import run_study
from cosignal.studies.lca import arms as lca_arms
from cosignal.studies.lca import laws as lca_laws
from cosignal.studies.lca import rollout as lca_rollout
from cosignal.studies.lca import study as lca
from cosignal.studies.lca.arms import ENTROPY, FIGURES, TASKS, LcaArm, arms_of, training_config
from cosignal.studies.lca.curves import Curve, half_way, train_curve
from cosignal.studies.lca.laws import law_rows
from cosignal.studies.lca.statements import STATEMENTS, Found, Part, above, below, judged, rows_of, verdict_of

pytestmark = pytest.mark.usefixtures("one_thread")

TWO_SWITCH = TASKS["two_switch"]


def curve(*returns: float, success: float = 0.0, seed: int = 1) -> Curve:
    """Ten points by thousand steps."""
    steps = [1000 * (i + 1) for i in range(len(returns))]
    return Curve(seed, steps, list(returns), [success] * len(returns), returns[-1], success, [], 0)


def found(**arms: list[Curve]) -> Found:
    return Found(TWO_SWITCH, arms)


# ------------------------------------------------------------ numbers of a curve


def test_r_is_of_the_last_tenth_and_the_area_of_all_of_the_budget() -> None:
    one = curve(*[0.0] * 9, 4.0)
    assert one.last(one.returns) == 4.0
    assert one.steps_to(2.0) == 10_000 and one.steps_to(0.0) == 1000
    assert one.steps_to(4.1) == 10_000  # never: counted at the budget
    assert one.area == pytest.approx(0.2, abs=0.01)  # a ramp in the last tenth: 4 / 2 / 10
    assert one.at(np.array([9500.0])).tolist() == [2.0]


def test_half_of_the_optimum_is_on_the_axis_where_the_optimum_is_zero() -> None:
    assert half_way(TWO_SWITCH) == pytest.approx(2.415)
    assert half_way(TASKS["pistonball"]) == -6.5


# ------------------------------------------------------------ parts and verdicts


def test_a_part_holds_fails_or_is_open() -> None:
    assert above("x", [1.0, 1.2], 1.0).level == "holds"
    assert above("x", [0.0, 1.9], 1.0).level == "open"  # the mean fails, its interval does not
    assert above("x", [0.0, 0.1], 1.0).level == "fails"
    assert above("x", [1.0, 1.0], 1.0, strictly=True).level == "fails"
    low = below("x", [0.25, 0.5], 0.375)
    assert (low.level, low.mean, low.interval) == ("holds", 0.375, (0.25, 0.5))
    assert below("x", [0.2, 0.6], 0.3).level == "open"


def test_a_verdict_is_that_of_all_parts() -> None:
    assert verdict_of(["holds", "holds"]) == "reproduced"
    assert verdict_of(["fails", "fails"]) == "not reproduced"
    assert verdict_of(["holds", "fails"]) == verdict_of(["open"]) == "weaker"
    row = judged("X", "it holds", [Part("a", 1.0, (0.5, 1.5), "holds")], 2)
    assert (row["mean"], row["ci95"], row["verdict"]) == (1.0, [0.5, 1.5], "reproduced")


def test_far_above_is_beyond_the_pooled_deviation() -> None:
    mine, others = [curve(3.0), curve(5.0)], [curve(1.0), curve(3.0)]  # deviations √2, difference 2
    assert found(a=mine, b=others).far_above("a", "b").level == "holds"
    assert found(a=mine, b=[curve(2.0), curve(4.0)]).far_above("a", "b").level == "fails"  # the difference is 1


def test_sooner_and_steadier_compare_what_they_say() -> None:
    early, late = curve(0, 3, 3, 3), curve(0, 0, 0, 3)
    both = found(a=[early, early], b=[late, late], c=[curve(1.0), curve(2.0)])
    assert both.sooner("a", "b").mean == -2000 and both.sooner("a", "b").level == "holds"
    assert both.sooner("b", "a").level == "fails"
    assert both.steadier("a", "c").level == "holds" and both.steadier("c", "a").level == "fails"
    assert both.no_worse("a", "b").level == "holds"
    assert both.on_par("a", "c").level == "fails"


def all_arms(**special: float) -> dict[str, list[Curve]]:
    """Every arm of Two-Switch's figures at a return of 1, but for `special`."""
    names = {arm.name for figure in FIGURES for arm in arms_of(figure, TWO_SWITCH)}
    return {name: [curve(*[special.get(name, 1.0)] * 10) for _ in range(3)] for name in names}


def test_the_rows_of_figure_3_say_what_curves_show() -> None:
    verdicts = {row["id"]: row["verdict"] for row in rows_of(3, [found(**all_arms(lca=4.7))])}
    assert verdicts["F3-1"] == verdicts["F3-2"] == verdicts["F3-4"] == "reproduced"
    assert verdicts["F3-3"] == "weaker"  # as steady as the others
    assert verdicts["F3-5"] == "not run" and verdicts["E3-2"] == "not reproduced"
    worse = {row["id"]: row["verdict"] for row in rows_of(3, [found(**all_arms(qmix=4.0, vdn=4.0))])}
    assert worse["F3-1"] == worse["F3-2"] == worse["F3-4"] == "not reproduced"


def test_the_rows_of_figures_4_and_5() -> None:
    arms = all_arms(lca_4q80=4.6, lca_4q70=3.0, lca_1q80=2.0, lca_1q70=0.0, lca_2q80=4.5)
    fourth = {row["id"]: row["verdict"] for row in rows_of(4, [found(**arms)])}
    assert fourth == {
        "F4-1.two_switch": "reproduced", "F4-2": "reproduced", "F4-3": "reproduced", "F4-4": "weaker",
        "F4-5.two_switch": "reproduced",
    }  # fmt: skip
    fifth = {row["id"]: row["verdict"] for row in rows_of(5, [found(**arms)])}
    assert fifth == {"F5-1.two_switch": "weaker", "F5-3": "not run"}


def test_every_row_of_the_specification_is_there_once() -> None:
    ids = [statement.id for statement in STATEMENTS]
    assert len(set(ids)) == len(ids)
    assert {f"F3-{n}" for n in range(1, 11)} | {f"F4-{n}" for n in range(1, 6)} | {"F5-1", "F5-2", "F5-3"} <= set(ids)


# ------------------------------------------------------------ runs


def test_arms_of_a_task_share_their_settings() -> None:
    for task in TASKS.values():
        for arm in arms_of(3, task):
            config = training_config(task, arm, 3)
            ppo = [getattr(config.trainer, name).model_copy(update={"entropy": 0.0}) for name in ("ippo", "mappo")]
            assert ppo[0].model_dump() == ppo[1].model_dump()
            assert (config.trainer.steps, config.seed) == (task.steps, 3)
    assert not set(ENTROPY) & set(arms_of(3, TASKS["pistonball"]))


def test_the_same_seed_gives_the_same_curve() -> None:
    task = replace(TWO_SWITCH, steps=6000, counts=(60,), window=5)
    arm = LcaArm("a", "A", queries=4, accuracy=0.8)
    one, other = (train_curve(task, arm, 2) for _ in range(2))
    assert one == other and one.pair_steps > 0 and len(one.agreement) == 1
    assert one.steps[-1] >= 6000
    assert train_curve(task, replace(arm, queries=0), 2).returns != one.returns


def test_the_study_runs_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pieces, "PARALLEL", 0)
    monkeypatch.setattr(lca_rollout, "EPISODES", 2)
    monkeypatch.setattr(lca_laws, "PAIRS", 60)
    small = {
        name: replace(task, steps=2600, counts=tuple(60 for _ in task.counts), window=2) for name, task in TASKS.items()
    }
    for module in (lca_arms, lca, lca_rollout):
        monkeypatch.setattr(module, "TASKS", small)
    told: list[str] = []
    result = run_study("lca", 2, (), told.append, 3, (4, 6), ("two_switch", "victim_rubble"))
    asked = "--figure 4 --figure 6 --task two_switch --task victim_rubble --seeds 2 --first-seed 3"
    assert result["command"] == f"cosignal study lca {asked} --json"
    ids = [row["id"] for row in result["rows"]]
    assert {"F4-1.two_switch", "F4-1.victim_rubble", "F4-2", "A-1", "T-1", "T-2", "T-3"} <= set(ids)
    assert "two_switch.4.lca_4q80.r" in ids
    for path in result["figures"]:
        assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert json.loads(Path("studies_out/lca/result.json").read_text())["rows"] == result["rows"]
    table = Path("studies_out/lca/table.md").read_text()
    assert all(line.count("|") == 6 for line in table.splitlines() if line.startswith("| F4"))


def test_what_does_not_exist_is_named() -> None:
    def run(*options: object) -> None:
        run_study("lca", 1, (), print, None, *options)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match=r"--figure: must be one of 3, 4, 5, 6, got 7"):
        run((7,))
    with pytest.raises(ConfigError, match="--task: must be one of two_switch, victim_rubble, pistonball, got 'x'"):
        run((), ("x",))
    with pytest.raises(ConfigError, match="--figure: the study 'dip' has no such option, got 3"):
        run_study("dip", 1, (), print, None, (3,))


def test_the_laws_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lca_laws, "PAIRS", 500)
    assert {row["id"]: row["verdict"] for row in law_rows([1])} == dict.fromkeys(("T-1", "T-2", "T-3"), "reproduced")


def test_a_missing_matplotlib_is_told_before_anything_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(lca, "run_curves", None)
    with pytest.raises(ConfigError, match=r"need matplotlib, it is not installed; pip install 'cosignal\[studies\]'"):
        run_study("lca", 1, (), print)
