"""`cosignal bench signals`: what each kind of signal costs the trainer while it is in force, beside none.

IPPO on Two-Switch as shipped, one line a kind, updates in turns. Scorers are ensembles of the sizes that fits make,
with random weights: what they pay does not matter here.

`ratio` is the steps per CPU second with the kind by those without any; `state_kb` what the line's state takes, which
is what a snapshot holds and a branch loads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import numpy as np

from ...rl.processes import one_thread
from ...rl.signals.captions import caption_format
from ...rl.signals.learned.config import DecompositionConfig, StepRewardsConfig
from ...rl.signals.learned.judged_config import ProgressConfig
from ...rl.signals.learner_settings import LearnerSettings
from ...rl.signals.scorer import Scorer
from ...rl.signals.signal import Signal
from ...rl.signals.terms import (
    DecompositionTerm,
    EventTerm,
    LearnedTerm,
    MessageTerm,
    PotentialTerm,
    ProgressTerm,
    SimilarityTerm,
    StepRewardTerm,
    SubgoalsTerm,
    TableTerm,
    Term,
)
from ...rl.signals.terms.decomposition import input_size
from ...rl.training.line import TrainingLine
from ..report import Tell, example_config
from .measure import alternating, bench_result, median, rate, ratios, span

MEMBERS = 5  # of a learned term's ensemble, as `preferences.scorer` has it


def run_signals(tell: Tell, rounds: int = 7, round_s: float = 0.6) -> dict[str, Any]:
    """Measure every kind.

    Args:
        tell: is given lines of progress.
        rounds: spells of each kind.
        round_s: CPU seconds that a spell takes at least.
    """
    one_thread()
    config = example_config().model_copy(update={"seed": 1})
    with ExitStack() as closing:
        lines: dict[str, TrainingLine] = {}
        for kind in ("none", *KINDS):
            lines[kind] = TrainingLine(config.training().model_copy(update={"record_obs": True}))
            closing.callback(lines[kind].close)
            if kind != "none":
                lines[kind].apply_signal(KINDS[kind](lines[kind]))
            lines[kind].update()
        works = {kind: updates(line) for kind, line in lines.items()}
        spells = alternating(works, rounds, round_s)
        metrics: dict[str, Any] = {}
        for kind, line in lines.items():
            found = ratios(spells[kind], spells["none"])
            state = sum(x.nbytes for x in line.state_dict()[0].values())
            metrics[kind] = {"steps_per_core_s": rate(spells[kind]), "ratio": median(found), "ratio_range": span(found)}
            metrics[kind]["state_kb"] = state // 1024
            tell(f"{kind}: {metrics[kind]}")
    return bench_result("signals", {"task": "two_switch", "rounds": rounds, "round_s": round_s}, metrics)


def updates(line: TrainingLine) -> Callable[[], int]:
    """Return work that makes one update."""

    def work() -> int:
        line.update()
        return line.collector.rollout.steps

    return work


# ---------------------------------------------------------------- a signal of each kind


def random_scorer(members: int, *sizes: int) -> Scorer:
    """Return an ensemble of networks of these layers."""
    rng = np.random.default_rng(0)
    layers = list(pairwise(sizes))
    weights = tuple(rng.normal(size=(members, n, m)).astype(np.float32) / np.float32(n**0.5) for n, m in layers)
    return Scorer(weights, tuple(np.zeros((members, m), np.float32) for _, m in layers))


def of_terms(*terms: Term, learner: LearnerSettings | None = None) -> Signal:
    """Return a signal of these terms at a strength of 0.1."""
    return Signal(version=1, beta=0.1, scale=1.0, terms=terms, learner=learner or LearnerSettings())


def near(line: TrainingLine) -> PotentialTerm:
    """Return a potential over the group's first distance."""
    features = line.spec.groups[0].features
    name = next(x.name for x in features if x.kind == "distance")
    return PotentialTerm(name="near", expression=f"-{name} / 10")


def learned(line: TrainingLine) -> Signal:
    """Return a signal with a scorer of observations."""
    scorer = random_scorer(MEMBERS, line.spec.groups[0].obs_size, 64, 64, 1)
    return of_terms(LearnedTerm(name="ranked", scorer=line.scorers.add(scorer), agents=line.spec.groups[0].name))


def decomposition(line: TrainingLine) -> Signal:
    """Return a signal with shares in the return."""
    fit, size = DecompositionConfig(), input_size(line.spec, 0, "features", agent_ids=True)
    scorer = random_scorer(fit.members, size, *fit.hidden, 1)
    name = line.spec.groups[0].name
    return of_terms(DecompositionTerm(name="share", scorer=line.scorers.add(scorer), agents=name))


def step_reward(line: TrainingLine) -> Signal:
    """Return a signal with step rewards."""
    group, fit = line.spec.groups[0], StepRewardsConfig()
    scorer = random_scorer(1, group.obs_size, *fit.hidden, group.n_actions)
    return of_terms(StepRewardTerm(name="step", scorer=line.scorers.add(scorer), agents=group.name))


def table(line: TrainingLine) -> Signal:
    """Return a signal with a table of four states."""
    rows = [{"when": f"{near(line).expression} > {-k / 10}", "worth": 0.5} for k in range(1, 5)]
    term = {"name": "states", "rows": rows, "agents": line.spec.groups[0].name}
    return of_terms(TableTerm.model_validate(term))


def message(line: TrainingLine) -> Signal:
    """Return a signal with a text that was called helpful."""
    group = line.spec.groups[0]
    form = caption_format(group)
    return of_terms(
        MessageTerm(
            name="helps", form="hash", helpful=("x",), features=form.features, events=form.events, agents=group.name
        )
    )


def progress(line: TrainingLine) -> Signal:
    """Return a signal with judged progress."""
    group, fit = line.spec.groups[0], ProgressConfig()
    scorer = random_scorer(1, len(group.features), fit.hidden, 1)
    return of_terms(ProgressTerm(name="way", scorer=line.scorers.add(scorer), agents=group.name))


def similarity(line: TrainingLine) -> Signal:
    """Return a signal with the similarity of four features to a goal."""
    names = [feature.name for feature in line.spec.groups[0].features[:4]]
    objects = [{"name": name, "attributes": [{"feature": name, "goal": 0.0}]} for name in names]
    return of_terms(SimilarityTerm.model_validate({"name": "goal", "objects": objects}))


def subgoals(line: TrainingLine) -> Signal:
    """Return a signal with the group's events in order, and one of them bounded by delta."""
    events = [event.name for event in line.spec.groups[0].events]
    return of_terms(
        SubgoalsTerm(name="order", events=tuple(events[:8]), per="team"),
        EventTerm(name="once", event=events[0], bound="delta"),
    )


KINDS: dict[str, Callable[[TrainingLine], Signal]] = {
    "potential": lambda line: of_terms(near(line)),
    "learned": learned,
    "decomposition": decomposition,
    "table": table,
    "step_reward": step_reward,
    "message": message,
    "progress": progress,
    "similarity": similarity,
    "subgoals": subgoals,
    "blend": lambda line: of_terms(near(line), learner=LearnerSettings(blend_lr=0.1)),
    "separate networks": lambda _: of_terms(learner=LearnerSettings(share_parameters=False)),
}
