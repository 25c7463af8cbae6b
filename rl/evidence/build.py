"""The compact, bounded record that models see, made from what a training line keeps. Sparse reward only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CosignalError
from ..algorithms.config import IPPOConfig
from ..experience.episodes import action_labels, entropy_at_start
from ..stage import WINDOW_STEPS, HistoryRow, window
from ..task import FeatureSpec
from ..training.line import TrainingLine
from .schema import BehaviourEvidence, EventEvidence, Evidence, FeatureEvidence, SparseEvidence, TermEvidence

CURVE_ROWS = 12
RECENT_UPDATES = 32
REACHED = 0.05  # share of a feature's range that counts as its end


def build_evidence(line: TrainingLine, steps_budget: int) -> Evidence:
    """Evidence of a line as it stands; the same line always gives the same evidence."""
    stage, reason = line.stage()
    groups = range(len(line.spec.groups))
    return Evidence(
        task=task_facts(line), steps=line.steps_main, steps_budget=steps_budget, stage=stage, stage_reason=reason,
        signal=line.signal, sparse=_sparse(line), behaviour=[_behaviour(line, g) for g in groups],
        features=[x for g in groups for x in _features(line, g)], events=[x for g in groups for x in _events(line, g)],
        terms=_terms(line), key_moments=line.tale()["key_moments"],
    )  # fmt: skip


def task_facts(line: TrainingLine) -> dict[str, Any]:
    spec = line.spec
    return {
        "name": spec.name, "description": spec.description, "max_steps": spec.max_steps,
        "has_success": spec.has_success,
        "groups": [{"name": g.name, "agents": list(g.agents), "actions": list(g.action_names)} for g in spec.groups],
    }  # fmt: skip


def metric_curve(line: TrainingLine, points: int) -> list[tuple[int, float, float | None]]:
    """[main steps, mean sparse return, success rate] of training episodes, at most `points` rows."""
    if not line.history:
        return []
    first, last = line.history[0]["steps"], line.history[-1]["steps"]
    width = max((last - first) // points, line.collector.rollout.steps)
    ends = range(last, first, -width)
    rows = [w for end in list(ends)[:points] if (w := window(line.history, end, width))]
    return [(w.end, round(w.returns, 4), _success(line, w.success)) for w in reversed(rows)]


def feature_statistics(line: TrainingLine, name: str | None) -> list[FeatureEvidence]:
    found = [x for g in range(len(line.spec.groups)) for x in _features(line, g)]
    return found if name is None else [x for x in found if x.name == name]


def _success(line: TrainingLine, value: float) -> float | None:
    return round(value, 4) if line.spec.has_success else None


def _sparse(line: TrainingLine) -> SparseEvidence:
    now = window(line.history, line.steps_main)
    before = window(line.history, line.steps_main - WINDOW_STEPS)
    recent = line.episodes.recent("returns")[-200:].astype(float)
    trend = (now.returns - before.returns) * 100_000 / WINDOW_STEPS if now and before else None
    return SparseEvidence(
        return_now=_rounded(now.returns if now else None), return_best=_rounded(line.best_return),
        return_range=line.spec.return_range or line.seen_range, trend=_rounded(trend),
        spread=_rounded(float(recent.std()) if len(recent) else None),
        success_rate=_success(line, now.success) if now else None, window_steps=WINDOW_STEPS,
        curve=metric_curve(line, CURVE_ROWS),
    )  # fmt: skip


def _recent(line: TrainingLine) -> list[HistoryRow]:
    return line.history[-RECENT_UPDATES:]


def _behaviour(line: TrainingLine, g: int) -> BehaviourEvidence:
    group, rows = line.spec.groups[g], _recent(line)
    names = action_labels(group)
    chosen = line.config.trainer.chosen
    at_start = entropy_at_start(group, chosen.log_std_init if isinstance(chosen, IPPOConfig) else 0.0)
    shares = np.mean([row["actions"][g] for row in rows], axis=0) if rows else np.zeros(len(names))
    lengths = line.episodes.recent("lengths")
    counts = line.episodes.recent(f"counts.{g}")  # [n, A_g, V_g]
    per_agent = counts.sum(-1).mean(0) if len(counts) else np.zeros(len(group.agents))
    return BehaviourEvidence(
        group=group.name,
        entropy=round(float(np.mean([row["entropy"][g] for row in rows])) if rows else at_start, 4),
        entropy_max=round(at_start, 4),
        no_effect_share=round(float(np.mean([row["no_effect"][g] for row in rows])) if rows else 0.0, 4),
        action_shares=[(n, round(float(s), 4)) for n, s in zip(names, shares, strict=True)],
        episode_length_mean=round(float(lengths.mean()), 2) if len(lengths) else None,
        events_per_agent=[(a, round(float(c), 4)) for a, c in zip(group.agents, per_agent, strict=True)],
    )


def _features(line: TrainingLine, g: int) -> list[FeatureEvidence]:
    group = line.spec.groups[g]
    rings = {name: line.episodes.recent(f"{name}.{g}").astype(float) for name in ("low", "high", "start", "end")}
    success = line.episodes.recent("successes").astype(bool)
    kept = min(line.recorder.count, len(line.recorder.ring["terminated"]))
    states = line.recorder.ring[f"features.{g}"][:kept]
    return [
        _feature(
            spec,
            group.name,
            {k: v[:, f] for k, v in rings.items()},
            success,
            states[:, :, f],
            line.before_reward[g][:, f],
        )
        for f, spec in enumerate(group.features)
    ]


def _feature(
    spec: FeatureSpec, group: str, episode: dict[str, NDArray[np.float64]], success: NDArray[np.bool_],
    states: NDArray[np.float32], before_reward: NDArray[np.float64],
) -> FeatureEvidence:  # fmt: skip
    edge = REACHED * (spec.high - spec.low)
    total, count = before_reward
    return FeatureEvidence(
        name=spec.name, group=group, kind=spec.kind, unit=spec.unit, low=spec.low, high=spec.high,
        mean=round(float(states.mean()) if states.size else 0.0, 4), start=_mean(episode["start"]),
        end_success=_mean(episode["end"][success]), end_failure=_mean(episode["end"][~success]),
        seen_low=round(float(states.min()) if states.size else 0.0, 4),
        seen_high=round(float(states.max()) if states.size else 0.0, 4),
        reached_low_share=_mean(episode["low"] <= spec.low + edge),
        reached_high_share=_mean(episode["high"] >= spec.high - edge),
        change_before_reward=round(float(total / count), 4) if count >= 1 else None,
    )  # fmt: skip


def _events(line: TrainingLine, g: int) -> list[EventEvidence]:
    group = line.spec.groups[g]
    counts = line.episodes.recent(f"counts.{g}").astype(float)  # [n, A_g, V_g]
    firsts = line.episodes.recent(f"first.{g}").astype(float)  # [n, V_g]
    found = []
    for v, spec in enumerate(group.events):
        per_agent = counts[:, :, v].sum(0) if len(counts) else np.zeros(len(group.agents))
        total, first = float(per_agent.sum()), firsts[:, v][firsts[:, v] >= 0]
        # the busier agent of each episode, so that agents who take turns over episodes are still seen as lazy
        busiest = counts[:, :, v].max(1).sum() / total if total else None
        found.append(
            EventEvidence(
                name=spec.name,
                group=group.name,
                repeatable=spec.repeatable,
                per_episode=round(total / max(len(counts), 1), 4),
                episodes_share=round(float((counts[:, :, v].sum(1) > 0).mean()) if len(counts) else 0.0, 4),
                largest_agent_share=_rounded(busiest),
                first_step=_mean(first),
            )
        )
    return found


def _terms(line: TrainingLine) -> list[TermEvidence]:
    rows, lengths = _recent(line), line.episodes.recent("lengths")
    mean_length = float(lengths.mean()) if len(lengths) else 0.0
    found = []
    everything = 0.0
    if rows:
        shaped = [np.mean([r["terms"].get(t.name, [0, 0])[1] for r in rows]) for t in line.signal.terms]
        everything = float(sum(shaped) + np.mean([row["reward_abs"] for row in rows]))
    for term in line.signal.terms:
        used = [row["terms"][term.name] for row in rows if term.name in row["terms"]]
        mean, mean_abs = np.mean(used, axis=0) if used else (0.0, 0.0)
        share = float(mean_abs / everything) if everything else 0.0
        found.append(
            TermEvidence(
                name=term.name,
                kind=term.kind,
                per_episode=round(float(mean) * mean_length, 4),
                mean_abs=round(float(mean_abs), 6),
                share=round(share, 4),
            )
        )
    return found


def query(line: TrainingLine, what: str, name: str | None, points: int) -> dict[str, Any]:
    """Answer of the `query_trainer` tool: plain data. Raises CosignalError for an unknown feature or question."""
    if what == "metric_curve":
        return {"columns": ["steps", "sparse_return", "success_rate"], "rows": metric_curve(line, points)}
    if what == "episode":
        return {"steps": line.tale()["episode"]}
    if what == "term_statistics":
        return {"terms": [x.model_dump() for x in _terms(line)], "potentials": _potentials(line)}
    if what == "feature_statistics":
        found = feature_statistics(line, name)
        if not found:
            known = [f.name for g in line.spec.groups for f in g.features]
            raise CosignalError(f"feature must be one of {known!r}, got {name!r}")
        return {"features": [x.model_dump() for x in found]}
    raise CosignalError(f"cannot query {what!r}; ask for metric_curve, episode, term_statistics or feature_statistics")


def _potentials(line: TrainingLine) -> dict[str, list[float]]:
    """Mean of beta · scale · Φ over recorded states and its range, [mean, low, high]."""
    recorded = line.recorder.recorded(line.episodes)
    if not len(recorded.terminated):
        return {}
    values = line.compiled.potential(recorded.features, recorded.obs)
    strength = line.signal.beta * (line.signal.scale or 1.0)
    flat = np.concatenate([x.ravel() for x in values]) * strength
    return {"in_force": [round(float(x), 4) for x in (flat.mean(), flat.min(), flat.max())]}


def _mean(values: NDArray[Any]) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
