"""What is installed is what is in the tree: the wheel, the editable install, the entry points."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NOT_SHIPPED = (".*", "__pycache__", "*.egg-info", "build", "dist", "runs_out", "studies_out", "shared")


def modules() -> set[str]:
    """Every Python file of the package, as the wheel names it."""
    found = set()
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).parts
        if not any(part.startswith(".") for part in parts) and parts[0] not in ("tests", "docs", "build", "runs_out"):
            found.add("/".join(("cosignal", *parts)))
    return found


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed; it sees no PYTHONPATH and no warning is lost."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_folder_with_code_is_listed_as_a_package() -> None:
    folders = {".".join(Path(module).parent.parts) for module in modules()}
    assert folders <= set(PROJECT["tool"]["setuptools"]["packages"])


def test_the_tests_are_no_package() -> None:
    """With a `tests/__init__.py` pytest imports the repository a second time, under its folder's name."""
    assert not list((ROOT / "tests").rglob("__init__.py")), "delete them; what tests share lives in tests/support"


def test_every_constraint_is_one_exact_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pins["torch"] in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "+" not in pins["torch"]
    names = {name.lower().replace("_", "-") for name in pins}
    extras = chain.from_iterable(PROJECT["project"]["optional-dependencies"].values())
    for requirement in [*PROJECT["project"]["dependencies"], *extras]:
        name = re.split(r"[<>\[]", requirement)[0]
        assert name in names, f"{requirement!r} has no pin in constraints.txt"


def test_the_package_is_importable_from_anywhere(tmp_path: Path) -> None:
    code = "import cosignal, cosignal.config, sys; print(cosignal.__path__[0]); print('config' in sys.modules)"
    path, bare = run(sys.executable, "-c", code, cwd=tmp_path).split()
    assert Path(path) == ROOT
    assert bare == "False"


def test_python_dash_m_is_the_command_line(tmp_path: Path) -> None:
    assert "status" in run(sys.executable, "-m", "cosignal", "--help", cwd=tmp_path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the tree stays clean."""
    source, target = tmp_path_factory.mktemp("wheel") / "main", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", target, source)
    run(sys.executable, *build, cwd=target)
    [path] = target.glob("cosignal-*.whl")
    return path


@pytest.mark.integration
def test_the_wheel_holds_the_whole_package_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {name for name in names if name.startswith("cosignal/")}
    assert {name for name in shipped if name.endswith(".py")} == modules()
    for folder, pattern in (("examples", "*.yaml"), ("prompts", "*/*.md"), ("runs/assets", "*")):
        data = {f"cosignal/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).glob(pattern)}
        assert data
        assert data <= shipped
    assert "cosignal/py.typed" in shipped
    assert not [name for name in names if "tests" in Path(name).parts]


@pytest.mark.integration
def test_whatever_is_tracked_in_a_package_folder_is_in_the_wheel(wheel: Path) -> None:
    """Not only modules: a template or a style sheet that no pattern of package-data names would be missing."""
    shipped = set(zipfile.ZipFile(wheel).namelist())
    folders = {package.split(".")[1] for package in PROJECT["tool"]["setuptools"]["packages"] if "." in package}
    paths = [Path(name) for name in tracked()]
    wanted = {f"cosignal/{path.as_posix()}" for path in paths if path.parts[0] in folders and (ROOT / path).exists()}
    assert len(wanted) > 50
    assert wanted <= shipped, f"name them in pyproject.toml: {wanted - shipped!r}"


def tracked() -> list[str]:
    """Files that git knows, those not yet committed included."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a clone: nothing says what belongs to the package")
    return run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()


@pytest.mark.integration
def test_the_wheel_runs_from_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """A venv that holds nothing but the wheel, with the dependencies borrowed by a path file."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "clean", cwd=tmp_path)
    python = tmp_path / "clean" / "bin" / "python"
    [site] = (tmp_path / "clean" / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    install = ("--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", *install, cwd=tmp_path)
    assert Path(run(python, "-c", "import cosignal; print(cosignal.__path__[0])", cwd=tmp_path).strip()).parent == site
    assert "run" in run(python.with_name("cosignal"), "--help", cwd=tmp_path)
    command = python.with_name("cosignal")
    assert "graph" in run(command, "graph", cwd=tmp_path)
    short = ("trainer.steps=2_048", "trainer.envs=8", "trainer.rollout=16", "adaptation.enabled=false", "run_dir=runs")
    final = run(command, "run", "two_switch", "--json", *chain.from_iterable(("--set", x) for x in short), cwd=tmp_path)
    assert json.loads(final)["state"] == "done"
    assert len(list((tmp_path / "runs").glob("two_switch-*/report.html"))) == 1


def test_every_file_that_the_readme_shows_exists() -> None:
    """A name stands in the folder whose line is the last one above it that is not indented, at any depth there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.split("## The tree")[1].split("```")[1]
    folder, shown = ROOT, 0
    for line in tree.strip().splitlines():
        if not line.startswith(" "):
            top = re.match(r"([a-z]+)/", line)
            folder = ROOT / top[1] if top else ROOT
        for name in re.findall(r"\b[a-z_]+\.(?:py|yaml|md|js)\b|^  [a-z]+/|(?<=  )[a-z]+/", line):
            shown += 1
            assert any(folder.rglob(name.strip(" /"))), f"{name} of {line!r} is not below {folder}"
    assert shown > 50
