"""What is exported, from which state of a run, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cosignal
import numpy as np
import pytest
import torch
from cosignal.errors import (
    CosignalError,
    DamagedRunError,
    ExportError,
    NotARunError,
    SnapshotDamaged,
    SnapshotError,
    TaskImportError,
    TrustError,
)
from cosignal.export.policy import Policy
from cosignal.export.shaped_env import ExportedSignal, ShapedEnv
from cosignal.rl.ipc.messages import Promote, Rollback
from cosignal.rl.signals.learner_settings import LearnerSettings
from cosignal.rl.signals.scorer import Scorer
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.signals.terms import StepRewardTerm
from cosignal.rl.trainer.signal_log import promote, rollback
from cosignal.rl.training.checkpoint import save_snapshot, snapshot_name
from cosignal.rl.training.line import TrainingLine
from cosignal.runs.trust import Trust
from trained_runs import main_run, run_config, trained_run

GRID = {"name": "two_switch", "n_max": 20}
DOOR = {"name": "door", "kind": "potential", "expression": "-dist_door / 9"}
GOAL = {"name": "goal", "kind": "potential", "expression": "-dist_goal / 9", "anneal_steps": 50_000}
FILES = {
    "README.md", "policy.py", "policy.json", "policy.safetensors", "play.py", "shaping.py", "task.json", "signal.json",
}  # fmt: skip


def signal(*terms: dict[str, Any], **more: Any) -> Signal:
    return Signal.model_validate({"terms": terms, **more})


def outputs(folder: Path) -> torch.Tensor:
    rows = np.random.default_rng(0).random((2, 20), np.float32)
    policy = Policy.load(folder)
    return torch.stack(list(policy.outputs({"green": rows[0], "orange": rows[1]}).values()))


def outputs_of(line: TrainingLine) -> torch.Tensor:
    rows = np.random.default_rng(0).random((2, 20), np.float32)
    return line.learner.acting_networks()[0].network(torch.from_numpy(rows)).detach()


def exported_signal(folder: Path) -> ExportedSignal:
    return ExportedSignal.read(folder / "signal.json")


# ---------------------------------------------------------------- what is there


def test_the_folder_is_whole_and_the_run_stays_as_it_is(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run", run_config(GRID, signal={"terms": [DOOR]}), 3)
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    folder = cosignal.export_run(str(run), str(tmp_path / "export"))
    assert {path.name for path in folder.iterdir()} == FILES
    assert {path: path.read_bytes() for path in before} == before
    assert (folder / "policy.py").read_text() == Path(cosignal.__path__[0], "export", "policy.py").read_text()
    described = json.loads((folder / "policy.json").read_text())
    assert (described["run"], described["snapshot"]) == ("run", snapshot_name(3))
    assert (described["steps_main"], described["algorithm"], described["seed"]) == (3 * 128, "ippo", 1)
    assert not list(tmp_path.glob("*.partial"))


def test_the_readme_says_what_is_there(tmp_path: Path) -> None:
    config = run_config(GRID, "vdn", signal={"terms": [DOOR]})
    text = (
        cosignal.export_run(trained_run(tmp_path / "run", config, 4), tmp_path / "export") / "README.md"
    ).read_text()
    lines = text.splitlines()
    assert lines[0] == "# two_switch, trained with VDN"
    assert all(f"`{name}`" in text for name in FILES - {"README.md"})
    assert "An observation is 20 numbers" in text
    assert "0 stay, 1 turn_left, 2 turn_right, 3 forward, 4 interact" in text
    assert "Action masks are not needed" in text
    assert "* potential door: -dist_door / 9 (weight 1)" in lines
    assert all(
        f"{name} {version}" in text for name, version in (("torch", torch.__version__), ("numpy", np.__version__))
    )
    assert "probability 0.99" in text  # ε falls from 1 by 0.95 in 50 000 steps, of which 512 are over
    assert "\n\n\n" not in text


def test_the_readme_says_what_the_wrapper_does_not_pay(tmp_path: Path) -> None:
    with main_run(tmp_path / "run", run_config(GRID)) as main:
        main.update()
        group = main.line.spec.groups[0]
        policy = Scorer(
            (np.zeros((1, group.obs_size, group.n_actions), np.float32),), (np.zeros((1, group.n_actions), np.float32),)
        )
        steps = StepRewardTerm(
            name="better_steps", scorer=main.line.scorers.add(policy), agents=group.name, decay_steps=10_000
        )
        blended = signal(GOAL)
        blended = blended.model_copy(
            update={"terms": (*blended.terms, steps), "learner": LearnerSettings(blend_lr=0.1)}
        )
        promote(main, Promote(key="p", base_version=0, signal=blended))
        main.update()
        main.checkpoint()
    text = (cosignal.export_run(tmp_path / "run", tmp_path / "export") / "README.md").read_text()
    assert (
        "* The run added better_steps to advantages and not to rewards, so that the wrapper pays nothing for it."
        in text
    )
    assert "* The run multiplied each term by a factor that it learnt meanwhile (`blend_lr`)" in text
    assert "\n\n\n" not in text


def test_without_a_folder_it_is_made_here_after_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained_run(tmp_path / "runs" / "two_switch-s1", run_config(GRID), 1)
    monkeypatch.chdir(tmp_path)
    assert cosignal.export_run(run) == Path("two_switch-s1-export")
    assert (tmp_path / "two_switch-s1-export" / "README.md").exists()


def test_the_code_on_the_page_about_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_run(tmp_path / "the_run", run_config(GRID, signal={"terms": [DOOR]}), 2)
    page = Path(cosignal.__path__[0]).resolve() / "docs" / "export.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for block in blocks:
        exec(compile(block, page.name, "exec"), {})
    sys.modules.pop("policy")
    files, success, rewards = capsys.readouterr().out.splitlines()
    assert files == str(sorted(FILES))
    assert success in ("success: True", "success: False")
    assert "green" in rewards


# ---------------------------------------------------------------- which state


def test_a_snapshot_can_be_named_and_the_newest_is_taken_without(tmp_path: Path) -> None:
    with main_run(tmp_path / "run", run_config(GRID)) as main:
        main.update()
        main.checkpoint()
        old = outputs_of(main.line)
        main.update()
        main.checkpoint()
        save_snapshot(main.line, tmp_path / "run" / "branches" / "end")
        new = outputs_of(main.line)
    for name, expected in (
        (None, new), ("update_000000001", old), ("checkpoints/update_000000001", old), ("branches/end", new),
    ):  # fmt: skip
        folder = cosignal.export_run(tmp_path / "run", tmp_path / f"export-{name}".replace("/", "-"), name)
        assert torch.allclose(outputs(folder), expected, atol=1e-6), name
    assert not torch.allclose(old, new, atol=1e-6)


def test_a_signal_that_was_promoted_since_the_snapshot_is_in_force(tmp_path: Path) -> None:
    """It was put in force at the boundary at which the newest snapshot was taken, which does not have it."""
    with main_run(tmp_path / "run", run_config(GRID, signal={"terms": [GOAL]})) as main:
        main.update()
        main.update()
        promote(main, Promote(key="p", base_version=0, signal=signal(DOOR, GOAL)))
        promoted = main.line.signal
        policy = outputs_of(main.line)
    folder = cosignal.export_run(tmp_path / "run", tmp_path / "export")
    assert exported_signal(folder).signal.model_dump(exclude={"stage"}) == promoted.model_dump(exclude={"stage"})
    assert promoted.version == 1
    assert exported_signal(folder).age == 0
    assert torch.allclose(outputs(folder), policy, atol=1e-6)
    # the snapshot itself has the signal before, which had begun to anneal
    before = cosignal.export_run(tmp_path / "run", tmp_path / "before", snapshot_name(2))
    assert [term.name for term in exported_signal(before).signal.terms] == ["goal"]
    assert exported_signal(before).age == 2 * 128


def test_networks_of_their_own_that_were_promoted_since_the_snapshot_are_not_in_it(tmp_path: Path) -> None:
    """The policy is the same: what every agent has of its own is a copy of what it shared."""
    with main_run(tmp_path / "run", run_config(GRID)) as main:
        main.update()
        main.update()
        policy = outputs_of(main.line)
        apart = signal(GOAL).model_copy(update={"learner": LearnerSettings(share_parameters=False)})
        promote(main, Promote(key="p", base_version=0, signal=apart))
        assert len(main.line.learner.network_groups) > 1
    folder = cosignal.export_run(tmp_path / "run", tmp_path / "export")
    assert torch.allclose(outputs(folder), policy, atol=1e-6)
    assert exported_signal(folder).signal.learner == LearnerSettings(share_parameters=False)


def test_what_is_only_left_out_goes_on_fading(tmp_path: Path) -> None:
    with main_run(tmp_path / "run", run_config(GRID, signal={"terms": [DOOR, GOAL]})) as main:
        main.update()
        main.update()
        line = main.line
        left = line.signal.model_copy(update={"terms": line.signal.terms[1:]})
        promote(main, Promote(key="p", base_version=0, signal=left))
        age, terms = line.signal_age, line.signal.terms
    exported = exported_signal(cosignal.export_run(tmp_path / "run", tmp_path / "export"))
    assert (exported.age, exported.signal.terms) == (age, terms)
    assert age == 2 * 128


@pytest.mark.parametrize("undone", [False, True])
def test_a_state_that_was_adopted_since_the_snapshot_is_in_force(tmp_path: Path, undone: bool) -> None:
    """And where the adoption was undone, the state before it."""
    with main_run(tmp_path / "run", run_config(GRID)) as main:
        main.update()
        before = outputs_of(main.line)
        branch = TrainingLine(main.config.model_copy(update={"seed": 5}))
        branch.apply_signal(signal(DOOR, version=1))
        for _ in range(3):
            branch.update()
        save_snapshot(branch, tmp_path / "run" / "branches" / "end")
        promote(main, Promote(key="p", base_version=0, signal=branch.signal, adopt="branches/end"))
        if undone:
            rollback(main, Rollback(key="r", base_version=1))
        line, policy = main.line, outputs_of(main.line)
        in_force, age = line.signal, line.signal_age
    folder = cosignal.export_run(tmp_path / "run", tmp_path / "export")
    exported = exported_signal(folder)
    assert torch.allclose(outputs(folder), policy, atol=1e-6)
    assert torch.equal(policy, before) == undone
    assert (exported.signal.version, exported.signal.terms, exported.age) == (in_force.version, in_force.terms, age)
    assert (in_force.version, len(in_force.terms)) == ((2, 0) if undone else (1, 1))


def test_a_promotion_in_the_middle_of_the_run_is_in_the_snapshot(tmp_path: Path) -> None:
    with main_run(tmp_path / "run", run_config(GRID)) as main:
        main.update()
        exploration = Exploration(entropy=0.2)
        promote(main, Promote(key="p", base_version=0, signal=signal(DOOR, exploration=exploration)))
        main.update()
        main.checkpoint()
        in_force, age = main.line.signal, main.line.signal_age
    folder = cosignal.export_run(tmp_path / "run", tmp_path / "export")
    assert exported_signal(folder).signal == in_force
    assert exported_signal(folder).age == age == 128
    assert ShapedEnv(folder).signal == in_force


def test_a_q_learners_least_share_of_random_actions_is_kept(tmp_path: Path) -> None:
    config = run_config(GRID, "vdn", trainer={"vdn": {"epsilon_steps": 128, "learning_starts": 128, "batch_size": 32}})
    with main_run(tmp_path / "run", config) as main:
        main.update()
        promote(main, Promote(key="p", base_version=0, signal=signal(DOOR, exploration={"entropy": 0.3})))
        main.update()
        main.checkpoint()
        epsilon = main.line.learner.acting_networks()[0].epsilon
    described = json.loads((cosignal.export_run(tmp_path / "run", tmp_path / "export") / "policy.json").read_text())
    assert described["networks"]["network_0"]["epsilon"] == epsilon == pytest.approx(0.3)


# ---------------------------------------------------------------- what is refused


def edited(run: Path, file: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((run / file).read_text())
    change(content)
    (run / file).write_text(json.dumps(content))


def test_what_cannot_be_exported_is_told_with_its_remedy(tmp_path: Path) -> None:
    run, out = trained_run(tmp_path / "run", run_config(GRID), 2), tmp_path / "export"

    def refuses(error: type[CosignalError], line: str, path: Path = run, **more: Any) -> None:
        with pytest.raises(error, match=line):
            cosignal.export_run(path, more.pop("out", out), **more)
        assert not out.exists()

    refuses(NotARunError, "'/nowhere' is not a run directory", Path("/nowhere"))
    refuses(ExportError, r"has no 'update_7'; its newest are update_000000002$", snapshot="update_7")
    refuses(ExportError, "has no '../run'", snapshot="../run")
    refuses(ExportError, r"written to a new folder, '.*run' exists; remove it, or name another one with --out", out=run)
    refuses(ExportError, "cannot be .Not a directory.; name another one with --out", out=run / "run.json" / "export")
    (run / "checkpoints").rename(run / "kept")
    refuses(ExportError, r"must have written a snapshot before it can be exported, .*; wait for its first one")
    (run / "kept").rename(run / "checkpoints")
    # files that are not those that were written, or of another config
    edited(run, "training.json", lambda config: config["trainer"].update(algorithm="vdn"))
    refuses(SnapshotError, "snapshot 'checkpoints/update_000000002' does not fit this config")
    edited(run, "training.json", lambda config: config["trainer"].update(algorithm="ippo"))
    edited(run, "training.json", lambda config: config["task"].update(name="victim_rubble"))
    refuses(SnapshotError, "a snapshot must be of task 'victim_rubble', .* is of 'two_switch'")
    edited(run, "training.json", lambda config: config["task"].update(name="two_switch"))
    (run / snapshot_name(2) / "state.safetensors").write_bytes(b"x")
    refuses(SnapshotDamaged, "state.safetensors")
    (run / "training.json").write_text("{")
    refuses(DamagedRunError, r"training\.json")


def test_an_environment_of_ones_own_must_be_allowed(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run", run_config({"env": "small_tasks:Walk"}), 1)
    with pytest.raises(TrustError, match=r"import and call small_tasks:Walk .*; .* add --allow-env small_tasks:Walk"):
        cosignal.export_run(run, tmp_path / "export")
    allowed = Trust(envs=frozenset({"small_tasks:Walk", "small_tasks:Gone"}))
    assert (
        "`small_tasks:Walk`" in (cosignal.export_run(run, tmp_path / "export", trust=allowed) / "README.md").read_text()
    )
    edited(run, "training.json", lambda config: config["task"].update(env="small_tasks:Gone"))
    with pytest.raises(TaskImportError, match="has no 'Gone'"):
        cosignal.export_run(run, tmp_path / "other", trust=allowed)
