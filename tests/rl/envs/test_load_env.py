"""Other people's environments, and one clear line where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cosignal.errors import ConfigError, MissingGuard, TaskImportError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task, task_spec
from cosignal.rl.envs.load_env import check_not_importing
from cosignal.rl.envs.registry import EXTRAS, ShippedName

TWO_SWITCH = "cosignal.rl.envs.two_switch:TwoSwitchEnv"


def test_the_current_directory_is_importable_also_for_what_the_factory_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_env_of_a_test.py").write_text("def make():\n    import my_game_of_a_test\n\n")
    with (tmp_path / "my_env_of_a_test.py").open("a") as source:
        source.write("    return my_game_of_a_test.TwoSwitchEnv(7)\n")
    (tmp_path / "my_game_of_a_test.py").write_text("from cosignal.rl.envs.two_switch.env import TwoSwitchEnv\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    for _ in range(2):
        assert task_spec(TaskConfig(env="my_env_of_a_test:make")).max_steps == 7
        assert sys.path == [*before, str(tmp_path)]  # last, and once


def test_a_module_can_start_no_run_while_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from cosignal.rl.envs.load_env import check_not_importing\ncheck_not_importing()\n"
    (tmp_path / "starting_env_of_a_test.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingGuard, match="'starting_env_of_a_test' starts one; put what starts it in "):
        task_spec(TaskConfig(env="starting_env_of_a_test:make"))
    check_not_importing()  # it is over


def test_what_other_processes_cannot_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "Env", object, raising=False)
    for build in (task_spec, lambda config: make_task(config, 1)):
        with pytest.raises(
            TaskImportError, match="other processes can import, got '__main__:Env'.* a module of its own"
        ):
            build(TaskConfig(env="__main__:Env"))
    for env in ("mine:make.<locals>.Env", "mine:<lambda>", "mine", "./mine:Env", ShippedName, lambda: None, 3):
        with pytest.raises(ValueError, match="the text 'package.module:factory', by which other processes import"):
            TaskConfig.model_validate({"env": env})


def test_a_nested_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from cosignal.rl.envs.two_switch.env import TwoSwitchEnv\n\nclass Outer:\n    Inner = TwoSwitchEnv\n"
    (tmp_path / "nested_env_of_a_test.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert task_spec(TaskConfig(env="nested_env_of_a_test:Outer.Inner")).name == "two_switch"


BAD = "def raises():\n    raise RuntimeError('no licence')\n\ndef makes_an_int():\n    return 3\n\nnumber = 5\n"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("no_such_module:make", "'no_such_module' must be importable.*ModuleNotFoundError"),
        ("bad_env_of_a_test:nothing", "has no 'nothing'; correct the name"),
        ("bad_env_of_a_test:raises", "RuntimeError: no licence"),
        ("bad_env_of_a_test:makes_an_int", "ParallelEnv.*builds a int"),
        ("bad_env_of_a_test:number", "a class or a function.*a int"),
        ("broken_env_of_a_test:make", "ZeroDivisionError"),
        ("leaving_env_of_a_test:make", "SystemExit: 2"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(
    env: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_env_of_a_test.py").write_text(BAD)
    (tmp_path / "broken_env_of_a_test.py").write_text("1 / 0\n")
    (tmp_path / "leaving_env_of_a_test.py").write_text("raise SystemExit(2)\n")
    monkeypatch.chdir(tmp_path)
    for build in (task_spec, lambda config: make_task(config, 1)):
        with pytest.raises(TaskImportError, match=message) as told:
            build(TaskConfig(env=env))
        assert env in str(told.value)
        assert "\n" not in str(told.value)


def test_options_of_two_switch_are_refused_for_others() -> None:
    with pytest.raises(ConfigError, match="allow_agent_overlap"):
        task_spec(TaskConfig(env=TWO_SWITCH, allow_agent_overlap=False))
    with pytest.raises(
        ConfigError,
        match="allow_agent_overlap is an option of two_switch, victim_rubble and relay, got False with task.name",
    ):
        task_spec(TaskConfig(name="rware_original", allow_agent_overlap=False))
    with pytest.raises(ConfigError, match="allow_agent_overlap.*got False with task.name 'lbf'"):
        task_spec(TaskConfig(name="lbf", allow_agent_overlap=False))


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("lbf_original", "lbforaging"),
        ("rware_original", "rware"),
        ("mpe_spread", "mpe2"),
        ("mpe_speaker_listener", "mpe2"),
        ("pistonball", "pymunk"),
    ],
)
def test_a_missing_package_is_told_with_its_extra(name: ShippedName, package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; from cosignal.rl.envs.config import TaskConfig;"
        f"from cosignal.rl.envs.factory import task_spec; task_spec(TaskConfig(name={name!r}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert "TaskImportError: task.name: " in told
    assert told.strip().endswith(f"; pip install 'cosignal[{EXTRAS[name].extra}]'")
