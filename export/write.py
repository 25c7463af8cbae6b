"""Writing an export: a folder with a run's policy for plain PyTorch, its signal as a PettingZoo wrapper, and a README.

The files are listed in docs/export.md. The folder appears whole or not at all, and the run is only read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from ..errors import ExportError
from ..files import whole_folder
from ..packages import installed_version
from ..rl.signals.scorer import FOLDER, copy_scorers
from ..runs.trust import SHIPPED_ONLY, Trust
from .description import described_policy, policy_weights
from .environment import ExportedTask
from .readme import readme, templates
from .shaped_env import ExportedSignal
from .source import Source, read_source

INDENT = 1  # of JSON files, which people read


def export_run(
    run_dir: str | Path, out: str | Path | None = None, snapshot: str | None = None, trust: Trust = SHIPPED_ONLY
) -> Path:
    """Write policy and signal of a run, finished or running, as a folder of their own, and return it.

    Args:
        run_dir: the run directory.
        out: the folder, which must not exist; `NAME-export` in the current directory where None, after the run.
        snapshot: whose policy and signal, by its name; those in force where None, see `source.read_source`.
        trust: what the run may load. An environment that is none of the shipped ones must be named here:
            `Trust(envs=frozenset({"my_module:make_env"}))`.

    Raises:
        NotARunError, TrustError, TaskImportError, SnapshotError: as `source.read_source` raises them.
        ExportError: the run has no such snapshot, or the folder exists or cannot be written.
        SignalError: a scorer that the signal names is missing.
    """
    source = read_source(Path(run_dir), snapshot, trust)
    folder = Path(out) if out is not None else Path(f"{source.run}-export")
    if folder.exists():
        raise ExportError(
            f"an export is written to a new folder, {str(folder)!r} exists; remove it, or name another one with --out"
        )
    try:
        with whole_folder(folder.absolute()) as unfinished:
            _write_policy(source, unfinished)
            _write_environment(source, Path(run_dir), unfinished)
            (unfinished / "README.md").write_text(readme(source), encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ExportError(
            f"an export must be written to a folder, {str(folder)!r} cannot be ({reason}); name another one with --out"
        ) from error
    return folder


def _write_policy(source: Source, folder: Path) -> None:
    """Write the module, its data, and the script that plays it."""
    origin: dict[str, Any] = {
        "cosignal": installed_version("cosignal") or "unknown",
        "run": source.run,
        "snapshot": source.snapshot,
        "steps_main": source.steps_main,
        "seed": source.config.seed,
        "task": source.layout.spec.name,
        "algorithm": source.config.trainer.algorithm,
    }
    described = described_policy(source.networks, source.layout, origin)
    (folder / "policy.json").write_text(json.dumps(described, indent=INDENT), encoding="utf-8")
    save_file(policy_weights(source.networks), folder / "policy.safetensors")
    (folder / "policy.py").write_text(Path(__file__).with_name("policy.py").read_text(encoding="utf-8"), "utf-8")
    (folder / "play.py").write_text(templates().get_template("play.py.j2").render(), encoding="utf-8")


def _write_environment(source: Source, run_dir: Path, folder: Path) -> None:
    """Write task and signal as data, the wrapper, and the scorers that the signal reads."""
    trainer = source.config.trainer
    signal = ExportedSignal(
        signal=source.signal,
        age=source.age,
        gamma=trainer.algorithm_config.gamma,
        reward=trainer.reward,
        limit_terminates=trainer.time_limit == "termination",
    )
    task = ExportedTask(task=source.config.task, spec=source.layout.spec)
    (folder / "task.json").write_text(task.model_dump_json(indent=INDENT), encoding="utf-8")
    (folder / "signal.json").write_text(signal.model_dump_json(indent=INDENT), encoding="utf-8")
    copy_scorers(source.signal, run_dir / FOLDER, folder / FOLDER)
    (folder / "shaping.py").write_text(templates().get_template("shaping.py.j2").render(), encoding="utf-8")
