"""Harmful proposals: they pass `check`, they have the sign they claim, and they read nothing but the evidence.

The evidence and the recorded transitions are made of played episodes of Two-Switch: random ones, which fail, and greedy
ones, which succeed.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from cosignal.agents.schemas import Proposal
from cosignal.rl.envs.two_switch.game import TwoSwitchGame
from cosignal.rl.envs.two_switch.heuristic import greedy_heuristic
from cosignal.rl.envs.two_switch.spec import two_switch_spec
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.check import check_signal
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm
from cosignal.studies.adversary import harmful_proposals as h
from cosignal.studies.two_switch import HAND_MADE
from cosignal.testing import feature_evidence
from numpy.typing import NDArray

SPEC = two_switch_spec()
NAMES = SPEC.groups[0].feature_names()
States = NDArray[np.float32]  # [T, agents, features], of one episode


@cache
def episodes(kind: str, count: int) -> list[States]:
    """States up to the last non-terminal one."""
    return [_episode(kind, seed) for seed in range(count)]


def _episode(kind: str, seed: int) -> States:
    game, rng = TwoSwitchGame(seed), random.Random(seed)
    states = []
    while True:
        states.append([[game.features(i)[name] for name in NAMES] for i in (0, 1)])
        greedy = greedy_heuristic(game)
        outcome = game.step(greedy if kind == "greedy" else (rng.randrange(5), rng.randrange(5)))
        if outcome.terminated or outcome.truncated:
            return np.array(states, np.float32)


@dataclass(frozen=True)
class Material:
    block: dict[str, Any]
    recorded: TransitionSample


def material(stage: str = "exploring", successes: int = 0) -> Material:
    """60 random episodes, and `successes` greedy ones."""
    failed, solved = episodes("random", 60), episodes("greedy", 40)[:successes]
    every = [*failed, *solved]
    ends = np.stack([states[-1] for states in every])
    events = np.zeros((sum(len(states) - 1 for states in every), 2, 2), np.float32)
    own = NAMES.index("own_triggered")
    events[..., 0] = np.concatenate([np.diff(states[..., own], axis=0) > 0 for states in every])
    recorded = TransitionSample(
        features=[np.concatenate([states[:-1] for states in every])],
        last_features=[np.concatenate([states[1:] for states in every])],
        events=[events],
        terminated=np.zeros(len(events), np.float32),
        end_features=[ends],
        end_success=np.array([0.0] * len(failed) + [1.0] * len(solved), np.float32),
    )
    return Material(_block(stage, every, failed, solved, float(events[..., 0].sum()) / len(every)), recorded)


def _block(stage: str, every: list[States], failed: list[States], solved: list[States], rate: float) -> dict[str, Any]:
    rows = [_row(f, every, failed, solved) for f in range(len(NAMES))]
    events = [
        {"name": name, "group": "agents", "repeatable": False, "per_episode": share, "episodes_share": share,
         "largest_agent_share": 0.5, "first_step": None}
        for name, share in (("switch_triggered", rate), ("goal_reached", len(solved) / len(every)))
    ]  # fmt: skip
    evidence = {
        "stage": stage, "signal": {"beta": 0.5, "terms": []}, "features": rows, "events": events, "terms": [],
        "behaviour": [{"group": "agents", "events_per_agent": [["green", 1.0], ["orange", 1.0]]}],
        "sparse": {"return_range": [-1.0, 4.0], "success_rate": len(solved) / len(every), "return_now": 0.5,
                   "return_best": 0.5, "curve": []},
    }  # fmt: skip
    kinds = ["potential", "event"] if stage in ("exploring", "plateaued") else ["potential"]
    block = {"evidence": evidence, "diagnosis": None, "history": [], "point": 48, "candidates": 4, "term_kinds": kinds}
    block |= {"longest_decay_steps": 300_000}
    plain: dict[str, Any] = json.loads(json.dumps(block))
    return plain


def _row(f: int, every: list[States], failed: list[States], solved: list[States]) -> dict[str, Any]:
    spec = SPEC.groups[0].features[f]
    values = np.concatenate([states[..., f].ravel() for states in every])
    edge = 0.05 * (spec.high - spec.low)
    lows, highs = ([reduce(states[..., f]) for states in every] for reduce in (np.min, np.max))
    return feature_evidence(
        spec.name, spec.kind, spec.low, spec.high, mean=float(values.mean()), seen_low=float(values.min()),
        seen_high=float(values.max()), start=float(np.mean([states[0, :, f].mean() for states in every])),
        end_success=float(np.mean([s[-1, :, f].mean() for s in solved])) if solved else None,
        end_failure=float(np.mean([s[-1, :, f].mean() for s in failed])),
        reached_low_share=float(np.mean([low <= spec.low + edge for low in lows])),
        reached_high_share=float(np.mean([high >= spec.high - edge for high in highs])),
    )  # fmt: skip


def signal_of(proposal: dict[str, Any]) -> Signal:
    parsed = Proposal.model_validate(proposal)
    return Signal(version=1, beta=parsed.beta, terms=tuple(parsed.terms), scale=1.0)


def problems(proposal: dict[str, Any], recorded: TransitionSample) -> list[str]:
    signal = signal_of(proposal).model_copy(update={"scale": None})
    return check_signal(signal, SPEC, recorded, Signal(scale=1.0), set()).problems


def rise(signal: Signal) -> float:
    """Φ at the end of solved episodes minus at their start, in shares of its range over them; mean over episodes."""
    compiled = CompiledSignal(signal, SPEC)
    phi = [compiled.potential([states])[0] for states in episodes("greedy", 40)]
    spread = max(x.max() for x in phi) - min(x.min() for x in phi)
    return float(np.mean([x[-1].mean() - x[0].mean() for x in phi]) / spread)


def drafts(found: Material, family: h.Family, count: int = 12) -> list[dict[str, Any]]:
    return [draft for seed in range(4) for draft in h.harmful(found.block, random.Random(seed), count, (family,))]


@pytest.mark.parametrize("family", h.FAMILIES)
@pytest.mark.parametrize(("stage", "successes"), [("exploring", 0), ("plateaued", 4), ("improving", 40)])
def test_most_pass_check(family: h.Family, stage: str, successes: int) -> None:
    found = material(stage, successes)
    made = drafts(found, family, 4)
    if family == "events" and stage == "improving":
        assert made == []  # events are not allowed at this stage
        return
    passed = [draft for draft in made if not problems(draft, found.recorded)]
    assert len(made) >= 12 and len(passed) > 0.5 * len(made)


def test_a_good_potential_rises_and_flipped_ones_fall() -> None:
    assert rise(Signal(version=1, terms=(HAND_MADE,), scale=1.0)) > 0.7
    for successes, fall in ((0, -0.3), (40, 0.05)):  # what falls clearly is refused once there are successes
        found = material("exploring", successes)
        passed = [draft for draft in drafts(found, "flipped") if not problems(draft, found.recorded)]
        assert len(passed) > 20
        rises = [rise(signal_of(draft)) for draft in passed]
        # away from the door leads a little nearer to the goal behind it, no other one rises
        assert max(rises) < 0.15 and np.mean(rises) < fall


def test_distractors_lead_nowhere() -> None:
    for successes in (0, 40):
        found = material("exploring", successes)
        rises = [rise(signal_of(draft)) for draft in drafts(found, "distractor") if not problems(draft, found.recorded)]
        assert max(rises) < 0.4 and np.mean(rises) < 0.2


def test_events_charge_for_progress_as_much_and_as_long_as_is_allowed() -> None:
    found = material("exploring")
    first = signal_of(h.harmful(found.block, random.Random(0), 1, ("events",))[0])
    [term] = first.terms
    assert isinstance(term, EventTerm) and term.event == "switch_triggered"  # nobody reaches the goal here
    assert first.beta * term.weight == -1.25  # a quarter of the width of the return range, the most that check allows
    assert term.decay_steps == 500_000  # the most at this stage


def test_blends_keep_what_is_good_and_add_one_harmful_term() -> None:
    found = material("exploring")
    for blend in h.blends(found.block, random.Random(1), 4):
        assert h.origin(blend["title"]) == "blend" and not problems(blend, found.recorded)
        good = signal_of({**blend, "terms": blend["terms"][:-1]})
        bad = signal_of({**blend, "terms": blend["terms"][-1:]})
        assert rise(good) > 0.0 and rise(bad) < 0.3
        assert abs(blend["terms"][-1]["weight"]) == max(abs(term["weight"]) for term in blend["terms"][:-1])


def test_what_was_tried_does_not_come_again() -> None:
    block = material("exploring").block
    first = h.harmful(block, random.Random(0), 4)
    tried = [{"proposal": proposal, "point": 48, "round": 0} for proposal in first]
    second = h.harmful({**block, "history": tried}, random.Random(0), 4)
    assert len(second) == 4
    assert not {h._content(one) for one in first} & {h._content(one) for one in second}
    assert first == h.harmful(block, random.Random(0), 4)  # the same dice, the same answer
    assert {h.origin(proposal["title"]) for proposal in first} == {"harmful"}
    assert (h.origin("Staircase to the frontier"), h.origin(None)) == ("other", "other")


def test_names_are_read_from_the_evidence_only() -> None:
    """Another task's names in place of these: the same proposals about them."""
    block = material("plateaued", 4).block
    renamed_text = json.dumps(block)
    for position, name in enumerate(sorted((*NAMES, "switch_triggered", "goal_reached"), key=len, reverse=True)):
        renamed_text = renamed_text.replace(f'"{name}"', f'"thing_{position}"')
    mapping = {
        f"thing_{position}": name
        for position, name in enumerate(sorted((*NAMES, "switch_triggered", "goal_reached"), key=len, reverse=True))
    }
    renamed = h.harmful(json.loads(renamed_text), random.Random(3), 8)
    back = json.dumps(renamed)
    for new in sorted(mapping, key=len, reverse=True):
        back = back.replace(new, mapping[new])
    assert json.loads(back) == h.harmful(block, random.Random(3), 8)
