"""The README of an export, in words that follow from what was exported."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..packages import installed_version
from ..rl.algorithms.networks.gru import GRU
from ..rl.signals.signal import describe_signal
from ..rl.task import GroupSpec
from ..text import printable
from .description import sees_presence
from .source import Source

NEEDED = ("torch", "numpy", "safetensors", "pettingzoo")
# By what the networks give: the numbers themselves, and the two ways of acting by them.
OUTPUTS = {
    "logits": (
        "logits of the choices",
        "the choice of the highest logit",
        "draws a choice with the probability that the softmax of the logits gives it",
    ),
    "values": (
        "values of the choices",
        "the choice of the highest value",
        "takes any allowed choice with probability {epsilon:.3g}, the share that training had at this snapshot, and "
        "else the best one",
    ),
    "means": (
        "means of the numbers, in -1..1",
        "the means of the numbers",
        "draws each number from a normal distribution around its mean, and clips it to -1..1",
    ),
}


def templates() -> Environment:
    """Return the environment of the templates of an export, which are plain text."""
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=False,  # Markdown and Python
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["steps"] = lambda value: f"{value:,}"
    return environment


def readme(source: Source) -> str:
    """Return README.md of an export."""
    spec, task, first = source.layout.spec, source.config.task, source.networks[0]
    outputs, greedy, sampled = OUTPUTS[first.outputs]
    learning = source.config.trainer.algorithm_config.learning_as(source.signal.learner)
    text = (
        templates()
        .get_template("README.md.j2")
        .render(
            task=spec.name,
            algorithm=source.config.trainer.algorithm.upper(),
            run=source.run,
            made_by=source.version or "of an unknown version",
            snapshot=source.snapshot,
            steps=source.steps_main,
            seed=source.config.seed,
            evaluation=source.evaluation,
            versions={"cosignal": installed_version("cosignal") or "unknown"}
            | {name: version(name) for name in NEEDED},
            scorers=[name for term in source.signal.terms for name in term.scorers],
            stochastic=first.outputs != "values",
            outputs=outputs,
            recurrent=isinstance(first.network, GRU),
            greedy=greedy,
            sampled=sampled.format(epsilon=first.epsilon),
            description=spec.description.rstrip(),
            groups=[_group(source, g, group) for g, group in enumerate(spec.groups)],
            masks=_masks(source),
            version=source.signal.version,
            signal=describe_signal(source.signal),
            difference=any(getattr(term, "form", "") == "difference" for term in source.signal.terms),
            on_advantages=[term.name for term in source.signal.terms if term.acts_on_advantages],
            first_step_only=[term.name for term in source.signal.terms if term.bounded_by[0] == "delta"],
            blended=bool(getattr(learning, "blend_lr", 0.0)) and bool(source.signal.terms),
            gamma=source.config.trainer.algorithm_config.gamma,
            reward=source.config.trainer.reward,
            age=source.age,
            env=task.env,
            shipped=source.adapter if task.env is None else "",
        )
    )
    return printable(text)


def _group(source: Source, g: int, spec: GroupSpec) -> dict[str, Any]:
    """Return what the README says of a group of agents."""
    layout = source.layout.groups[g]
    networks = [acting for acting in source.networks if acting.members.group == g]
    return {
        "name": spec.name,
        "agents": spec.agents,
        "sharing": "one network" if len(networks) == 1 else "a network each",
        "shown": len(layout.observations.bounds),
        "id": layout.identity.shape[1],
        "present": sees_presence(networks[0]),
        "action": _action(source, g, spec),
    }


def _action(source: Source, g: int, spec: GroupSpec) -> str:
    """Return in words what an action of the group is."""
    actions = source.layout.groups[g].actions
    if spec.continuous:
        bounds = ", ".join(f"{low:g} to {high:g}" for low, high in actions.bounds)
        return f"an array {list(actions.shape)} of {actions.dtype} in a Box ({bounds})"
    numbers = range(actions.start, actions.start + actions.n)
    if not spec.action_names:
        return f"a number from {numbers[0]} to {numbers[-1]}"
    return "a number: " + ", ".join(f"{n} {name}" for n, name in zip(numbers, spec.action_names, strict=True))


def _masks(source: Source) -> str:
    """Return where action masks come from: none, observed, or in infos."""
    spec = source.layout.spec
    if any(group.observations.masked for group in source.layout.groups):
        return "observed"
    return "in infos" if spec.has_masks and not all(group.continuous for group in spec.groups) else "none"
