"""`make bench-peers`: agent steps a CPU second of IPPO here and in JaxMARL, in one run on one core.

    python -m cosignal.studies.bench.peers PEERS_PYTHON    all of it; PEERS_PYTHON has jaxmarl, see the Makefile
    python -m cosignal.studies.bench.peers ours E T SECONDS    our share of it, a line of JSON

Both train with 4 epochs, 4 minibatches and actors and critics of two layers of 64 with tanh: JaxMARL on its MPE spread
(`jaxmarl_ippo.py`, run by PEERS_PYTHON), we on Two-Switch by whole updates of a training line. Their observations are
18 and 20 numbers wide, and both choose one of five actions, so that an agent step takes about as many products. Every
measurement is a process of its own with one thread, pinned to one core; those that are compared take turns, and start
and compilation do not count.

`environment` is what the environments alone make under random actions; `products` what is left of us if there were
nothing but the matrix products of an update in numpy, or in torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...rl.envs.config import TaskConfig
from ...rl.envs.factory import make_task
from ...rl.processes import child_environment, one_thread
from ...rl.training.line import TrainingLine
from .measure import median, span, spell
from .trainer import training_config

SIZES = ((16, 128), (64, 32))  # environments, rollout
RUNS, SECONDS = 5, 4.0  # of each, and CPU seconds that one measures
HIDDEN, EPOCHS, MINIBATCHES = 64, 4, 4
CORETYPE = "OPENBLAS_CORETYPE"
ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
AGENTS = 2  # of Two-Switch


def flop_of_agent_step(obs_size: int, n_actions: int) -> int:
    """Return the floating-point operations in the products of IPPO for one agent step.

    Actor and critic once while acting, and in every epoch forward, the gradients of the weights, and those of all
    layers' inputs but the first.
    """
    actor = obs_size * HIDDEN + HIDDEN * HIDDEN + HIDDEN * n_actions
    critic = obs_size * HIDDEN + HIDDEN * HIDDEN + HIDDEN
    below = 2 * HIDDEN * HIDDEN + HIDDEN * (n_actions + 1)
    return 2 * ((actor + critic) * (1 + 2 * EPOCHS) + below * EPOCHS)


def products_of_update(envs: int, rollout: int, in_torch: bool) -> Callable[[], int]:
    """Return work that makes the products of the gradient steps of one update, and nothing else; in agent steps."""
    samples = envs * rollout * AGENTS
    rows, rng = samples // MINIBATCHES, np.random.default_rng(0)
    spec = make_task(TaskConfig(name="two_switch"), 1).spec.groups[0]

    def array(*shape: int) -> Any:
        x = rng.standard_normal(shape, np.float32)
        return torch.from_numpy(x) if in_torch else x

    # (A, B, C) of every product of a minibatch
    products = []
    for n_out in (spec.n_actions, 1):
        sizes = (spec.obs_size, HIDDEN, HIDDEN, n_out)
        for layer, (n, m) in enumerate(pairwise(sizes)):
            x, w, delta = array(rows, n), array(m, n), array(rows, m)
            products += [(x, w.T, array(rows, m)), (delta.T, x, array(m, n))]
            if layer:
                products.append((delta, w, array(rows, n)))
    multiply: Any = torch.mm if in_torch else np.matmul

    def work() -> int:
        for _ in range(EPOCHS * MINIBATCHES):
            for a, b, c in products:
                multiply(a, b, out=c)
        return samples

    return work


def ours(envs: int, rollout: int, seconds: float) -> dict[str, float]:
    """Return agent steps a CPU second: training, the environment alone, and the products alone."""
    one_thread()
    line = TrainingLine(training_config("ippo", envs, rollout))

    def train() -> int:
        line.update()
        return envs * rollout * AGENTS

    task = make_task(TaskConfig(name="two_switch"), envs)
    step = task.reset(1)
    drawn = np.random.default_rng(1).integers(0, 5, (rollout, *step.obs[0].shape[:2]))

    def step_only() -> int:
        for actions in drawn:
            task.step([actions])
        return envs * rollout * AGENTS

    works = {
        "train": train, "environment": step_only,
        "products in numpy": products_of_update(envs, rollout, in_torch=False),
        "products in torch": products_of_update(envs, rollout, in_torch=True),
    }  # fmt: skip
    for work in works.values():
        for _ in range(3):
            work()
    return {name: spell(work, seconds if name == "train" else seconds / 4).rate for name, work in works.items()}


def theirs(python: str, envs: int, rollout: int, seconds: float) -> dict[str, float]:
    """Return the same of JaxMARL, without products."""
    script = Path(__file__).with_name("jaxmarl_ippo.py")
    found = child([python, str(script), str(envs), str(rollout), str(seconds)], {"XLA_FLAGS": ONE_CORE})
    return {
        name: found[part]["agent_steps"] / found[part]["cpu_s"]
        for name, part in (("train", "train"), ("environment", "env"))
    }


def child(command: Sequence[str], variables: dict[str, str]) -> dict[str, Any]:
    """Run a command that writes a line of JSON at last, with one thread; return that.

    Raises:
        CalledProcessError: it fails.
    """
    environment = {name: value for name, value in child_environment().items() if name != CORETYPE} | variables
    environment.pop("PYTHONPATH")  # of this environment, not of the peers'
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(python: str, tell: Callable[[str], None], runs: int = RUNS, seconds: float = SECONDS) -> None:
    """Measure everything, and tell the rates and ratios of each size."""
    # children inherit the core
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    tell(f"core {core}; medians of {runs} runs [lowest, highest], agent steps a CPU second")
    tell(f"products of an agent step: {flop_of_agent_step(20, 5) / 1e3:.0f} kFLOP ours, "
         f"{flop_of_agent_step(18, 5) / 1e3:.0f} kFLOP JaxMARL's")  # fmt: skip
    for envs, rollout in SIZES:
        us = [sys.executable, "-m", "cosignal.studies.bench.peers", "ours", str(envs), str(rollout), str(seconds)]
        measured: dict[str, list[dict[str, float]]] = {"JaxMARL": [], "cosignal": [], "cosignal, Haswell": []}
        for _ in range(runs):
            measured["JaxMARL"].append(theirs(python, envs, rollout, seconds))
            measured["cosignal"].append(child(us, {}))
            measured["cosignal, Haswell"].append(child(us, {CORETYPE: "Haswell"}))
        tell(f"{envs} environments x {rollout} steps")
        for who, found in measured.items():
            for what in found[0]:
                rates = [x[what] / 1e3 for x in found]
                tell(f"  {who:18} {what:18} {median(rates, 1):8}k {span(rates, 1)}")
            share = [x["train"] / x["environment"] for x in found]
            tell(f"  {who:18} {'environment share':18} {median(share):8}  {span(share)}")
            if who != "JaxMARL":
                ratios = [a["train"] / b["train"] for a, b in zip(found, measured["JaxMARL"], strict=True)]
                tell(f"  {who:18} {'to JaxMARL':18} {median(ratios, 2):8}  {span(ratios, 2)}")


if __name__ == "__main__":
    started = time.monotonic()
    if sys.argv[1] == "ours":
        sys.stdout.write(json.dumps(ours(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))) + "\n")
    else:
        compare(sys.argv[1], lambda text: print(text, flush=True))  # noqa: T201 a script
        print(f"{time.monotonic() - started:.0f} s")  # noqa: T201
