"""One question to a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from cosignal.errors import SnapshotError
from cosignal.rl.child import Child
from cosignal.rl.processes import child_environment


def test_an_answer_may_take_long_while_the_child_says_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "s")
    places: list[str] = []
    child = Child("answering", "slow", secrets=["MY_SECRET"], variables={"MORE": "1"}, tell=places.append)
    assert child.answer() == {"keys": ["MORE"]}
    assert places == ["working"]


def test_an_error_of_ours_is_raised_as_itself() -> None:
    with pytest.raises(SnapshotError, match="no such file; restore it"):
        Child("answering", "error").answer()


async def test_whoever_does_not_wait_any_more_ends_the_child() -> None:
    hanging = asyncio.Event()
    loop = asyncio.get_running_loop()
    child = Child("answering", "hang", tell=lambda _: loop.call_soon_threadsafe(hanging.set))
    task = asyncio.create_task(child.answer_soon())
    await hanging.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ChildProcessError, match="not wanted any more"):
        child.start()


def test_results_have_standard_output_for_themselves() -> None:
    code = (
        "import os, subprocess; from cosignal.rl.child import results_only; results = results_only();"
        "print('noise', flush=True); os.write(1, b'noise'); subprocess.run(['echo', 'noise']); results.write('7')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr.count("noise")) == ("7", 3)
