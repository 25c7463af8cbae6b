"""The compact, bounded record that models see, made from what a training line keeps. Sparse reward only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CosignalError
from ..experience.episodes import action_labels, entropy_at_start, team_distances
from ..stage import WINDOW_STEPS, HistoryRow, Window, window
from ..task import work_events
from ..training.line import TrainingLine
from .schema import (
    BehaviourEvidence,
    EpisodeEvidence,
    EventEvidence,
    Evidence,
    FeatureEvidence,
    LearnerEvidence,
    SparseEvidence,
    TeamEvidence,
    TermEvidence,
)

CURVE_ROWS = 12
MOST = 4  # agents at one target that are told apart
RECENT_UPDATES = 32
RECENT_EPISODES = 200
REACHED = 0.05  # share of a feature's range that counts as its end

Curve = list[tuple[int, float, float | None]]  # rows of main steps, mean sparse return, success rate


def build_evidence(line: TrainingLine, steps_budget: int, episodes: Sequence[EpisodeEvidence] = ()) -> Evidence:
    """Return the evidence of a line at this moment; the same line always gives the same evidence.

    Args:
        line: the training line.
        steps_budget: main environment steps of the whole run.
        episodes: fresh ones of its policy, see `play_episodes`.
    """
    stage, reason = line.stage()
    spec, groups = line.spec, range(len(line.spec.groups))
    task = {
        "name": spec.name,
        "description": spec.description,
        "max_steps": spec.max_steps,
        "has_success": spec.has_success,
        "groups": [{"name": g.name, "agents": list(g.agents), "actions": list(g.action_names)} for g in spec.groups],
    }
    return Evidence(
        task=task,
        steps=line.steps_main,
        steps_budget=steps_budget,
        stage=stage,
        stage_reason=reason,
        signal=line.signal,
        learner=learner_evidence(line),
        sparse=sparse_evidence(line),
        behaviour=[behaviour_evidence(line, g) for g in groups],
        features=[row for g in groups for row in feature_evidence(line, g)],
        team=team_evidence(line),
        events=[row for g in groups for row in event_evidence(line, g)],
        idle_tail=idle_tail(line),
        terms=term_evidence(line),
        episodes=list(episodes),
        key_moments=line.last_rollout_text()["key_moments"],
    )


def query(line: TrainingLine, what: str, name: str | None, points: int) -> dict[str, Any]:
    """Answer one question of the `query_trainer` tool with plain data.

    Args:
        line: the training line.
        what: `metric_curve`, `episode`, `term_statistics` or `feature_statistics`.
        name: the feature that statistics are asked of, None for all.
        points: how many rows a curve has at most.

    Raises:
        CosignalError: there is no such feature or question.
    """
    if what == "metric_curve":
        return {"columns": ["steps", "sparse_return", "success_rate"], "rows": metric_curve(line, points)}
    if what == "episode":
        return {"steps": line.last_rollout_text()["episode"]}
    if what == "term_statistics":
        return {"terms": [row.model_dump() for row in term_evidence(line)], "potentials": potential_range(line)}
    if what == "feature_statistics":
        rows = [row for g in range(len(line.spec.groups)) for row in feature_evidence(line, g)]
        asked = [row.model_dump() for row in rows if name in (None, row.name)]
        if not asked:
            known = [f.name for g in line.spec.groups for f in g.features]
            raise CosignalError(f"feature must be one of {known!r}, got {name!r}")
        return {"features": asked}
    raise CosignalError(f"cannot query {what!r}; ask for metric_curve, episode, term_statistics or feature_statistics")


# ------------------------------------------------------------ what learns, the return, and how the policy behaves


def learner_evidence(line: TrainingLine) -> LearnerEvidence:
    """Return what learns, and who shares a policy."""
    trainer = line.config.trainer
    config = trainer.algorithm_config.learning_as(line.signal.learner)
    return LearnerEvidence(
        algorithm=trainer.algorithm,
        gamma=config.gamma,
        lr=config.lr,
        advantage_norm=getattr(config, "advantage_norm", None),
        blend_lr=getattr(config, "blend_lr", None) if config.can_blend else None,
        networks=[list(network.spec.agents[network.agents]) for network in line.learner.network_groups],
        entropy_bonus=line.signal.exploration.entropy,
    )


def sparse_evidence(line: TrainingLine) -> SparseEvidence:
    """Return the last window's figures beside the window before it."""
    now, before = window(line.history, line.steps_main), window(line.history, line.steps_main - WINDOW_STEPS)
    recent = line.episodes.recent("returns")[-RECENT_EPISODES:].astype(float)
    return SparseEvidence(
        return_now=_rounded(now.returns if now else None),
        return_best=_rounded(line.best_return),
        return_range=line.spec.return_range or line.seen_range,
        trend=_rounded((now.returns - before.returns) * 100_000 / WINDOW_STEPS if now and before else None),
        spread=_rounded(float(recent.std()) if len(recent) else None),
        success_rate=_rounded(now.success if now and line.spec.has_success else None),
        window_steps=WINDOW_STEPS,
        curve=metric_curve(line, CURVE_ROWS),
    )


def metric_curve(line: TrainingLine, points: int) -> Curve:
    """Return the learning curve of training episodes as at most `points` means, oldest first."""
    return [
        (row.end, round(row.returns, 4), round(row.success, 4) if line.spec.has_success else None)
        for row in _windows(line, points)
    ]


def _windows(line: TrainingLine, points: int) -> list[Window]:
    """Return at most `points` windows that cover the history side by side, oldest first."""
    if not line.history:
        return []
    # They are counted from its end, and those in which no episode ended are left out.
    first, last = line.history[0]["steps"], line.history[-1]["steps"]
    width = max((last - first) // points, line.collector.rollout.steps)
    ends = list(range(last, first, -width))[:points]
    return [row for end in reversed(ends) if (row := window(line.history, end, width))]


def behaviour_evidence(line: TrainingLine, g: int) -> BehaviourEvidence:
    """Return how the policy of group g acted in recent updates and episodes."""
    group, rows = line.spec.groups[g], line.history[-RECENT_UPDATES:]
    # Before the first update the policy is the one that has learnt nothing.
    names = action_labels(group)
    at_start = entropy_at_start(group, line.config.trainer.algorithm_config.initial_log_std)
    shares = np.mean([row["actions"][g] for row in rows], axis=0) if rows else np.zeros(len(names))
    lengths = line.episodes.recent("lengths")
    # One value for each window of the return's curve.
    curve = [
        np.mean([row["entropy"][g] for row in line.history if span.start < row["steps"] <= span.end])
        for span in _windows(line, CURVE_ROWS)
    ]
    counts = line.episodes.recent(f"counts.{g}")  # [n, A_g, V_g]
    per_agent = counts.sum(-1).mean(0) if len(counts) else np.zeros(len(group.agents))
    return BehaviourEvidence(
        group=group.name,
        entropy=round(float(np.mean([row["entropy"][g] for row in rows])) if rows else at_start, 4),
        entropy_max=round(at_start, 4),
        entropy_curve=[round(float(x), 3) for x in curve],
        same_view_share=round(float(np.mean(alike)), 4) if (alike := _same_view(rows, g)) else None,
        no_effect_share=round(float(np.mean([row["no_effect"][g] for row in rows])) if rows else 0.0, 4),
        action_shares=[(n, round(float(s), 4)) for n, s in zip(names, shares, strict=True)],
        episode_length_mean=round(float(lengths.mean()), 2) if len(lengths) else None,
        events_per_agent=[(a, round(float(c), 4)) for a, c in zip(group.agents, per_agent, strict=True)],
    )


def _same_view(rows: Sequence[HistoryRow], g: int) -> list[float]:
    """Return the shares of agents of group g that observed what another did, of the updates that have them."""
    return [row["same_view"][g] for row in rows if "same_view" in row]


# ------------------------------------------------------------ features, events and terms, a row each


def feature_evidence(line: TrainingLine, g: int) -> list[FeatureEvidence]:
    """Return statistics of each feature of group g: over finished episodes, and over the states of the sample."""
    group = line.spec.groups[g]
    # By episode [n, F_g], and by sampled state.
    low, high, start, end = (line.episodes.recent(f"{x}.{g}").astype(float) for x in ("low", "high", "start", "end"))
    success = line.episodes.recent("successes").astype(bool)
    sampled = line.recorder.ring[f"features.{g}"][: line.recorder.size]  # [N, A_g, F_g]
    rows = []
    for f, spec in enumerate(group.features):
        # An episode has reached an end of the range when any agent came this near to it.
        edge = REACHED * (spec.high - spec.low)
        states, (total, count) = sampled[:, :, f], line.before_reward[g][:, f]
        sum_before_done, times_done = line.before_done[g][:, f]
        rows.append(
            FeatureEvidence(
                name=spec.name,
                group=group.name,
                description=spec.description,
                kind=spec.kind,
                unit=spec.unit,
                low=spec.low,
                high=spec.high,
                done=spec.done,
                mean=round(float(states.mean()) if states.size else 0.0, 4),
                start=_mean(start[:, f]),
                end_success=_mean(end[success, f]),
                end_failure=_mean(end[~success, f]),
                seen_low=round(float(states.min()) if states.size else 0.0, 4),
                seen_high=round(float(states.max()) if states.size else 0.0, 4),
                reached_low_share=_mean(low[:, f] <= spec.low + edge),
                reached_high_share=_mean(high[:, f] >= spec.high - edge),
                change_before_reward=round(float(total / count), 4) if count >= 1 else None,
                before_done=round(float(sum_before_done / times_done), 4) if times_done else None,
            )
        )
    return rows


def event_evidence(line: TrainingLine, g: int) -> list[EventEvidence]:
    """Return how often each event of group g happened in finished episodes."""
    group = line.spec.groups[g]
    counts = line.episodes.recent(f"counts.{g}").astype(float)  # [n, A_g, V_g]
    firsts, lasts = (line.episodes.recent(f"{x}.{g}").astype(float) for x in ("first", "last"))  # [n, V_g]
    rows = []
    for v, spec in enumerate(group.events):
        per_agent = counts[:, :, v].sum(0) if len(counts) else np.zeros(len(group.agents))
        total = float(per_agent.sum())
        # The busiest agent of each episode, so that agents who take turns over episodes are still seen as lazy.
        busiest = counts[:, :, v].max(1).sum() / total if total else None
        rows.append(
            EventEvidence(
                name=spec.name,
                group=group.name,
                description=spec.description,
                reward=spec.reward,
                repeatable=spec.repeatable,
                per_episode=round(total / max(len(counts), 1), 4),
                episodes_share=round(float((counts[:, :, v].sum(1) > 0).mean()) if len(counts) else 0.0, 4),
                largest_agent_share=_rounded(busiest),
                first_step=_mean(firsts[:, v][firsts[:, v] >= 0]),
                last_step=_mean(lasts[:, v][lasts[:, v] >= 0]),
            )
        )
    return rows


def idle_tail(line: TrainingLine) -> float | None:
    """Return the mean share of an episode's steps after its last event; 1 for an episode without any."""
    work, lengths = work_events(line.spec), line.episodes.recent("lengths").astype(float)
    if not work or not len(lengths):
        return None
    last = np.max([line.episodes.recent(f"last.{g}")[:, v] for g, v in work], axis=0).clip(min=0)  # -1: never
    return _mean((lengths - last) / lengths)


def team_evidence(line: TrainingLine) -> list[TeamEvidence]:
    """Return how the agents stand together to each distance that several of them have."""
    at_once = line.episodes.recent("at_once").astype(float)  # [n, D]
    rows = []
    for d, distance in enumerate(team_distances(line.spec)):
        # By sampled state, the value of every agent that has it; where it is done, it says nothing of where they are.
        states = []
        for g, f in distance.columns:
            column = line.recorder.ring[f"features.{g}"][: line.recorder.size, :, f]
            done = line.spec.groups[g].features[f].done
            states.append(column if done is None else np.where(column == np.float32(done), np.nan, column))
        values = np.concatenate(states, axis=1).astype(float)  # [N, agents]
        values = values[~np.isnan(values).all(1)]
        if not len(values) or not len(at_once):
            continue
        rows.append(
            TeamEvidence(
                name=distance.name,
                agents=distance.agents,
                nearest=round(float(np.nanmin(values, axis=1).mean()), 4),
                furthest=round(float(np.nanmax(values, axis=1).mean()), 4),
                at_once=[
                    round(float((at_once[:, d] >= k).mean()), 4) for k in range(2, min(distance.agents, MOST) + 1)
                ],
            )
        )
    return rows


def term_evidence(line: TrainingLine) -> list[TermEvidence]:
    """Return what each term in force has paid in recent updates."""
    rows, lengths = line.history[-RECENT_UPDATES:], line.episodes.recent("lengths")
    mean_length = float(lengths.mean()) if len(lengths) else 0.0
    # What all terms and the sparse reward pay a step; a term counts as nothing in updates before it came.
    everything = 0.0
    if rows:
        shaped = [np.mean([row["terms"].get(t.name, [0, 0])[1] for row in rows]) for t in line.signal.terms]
        everything = float(sum(shaped) + np.mean([row["reward_abs"] for row in rows]))
    evidence = []
    for term in line.signal.terms:
        paid = [row["terms"][term.name] for row in rows if term.name in row["terms"]]
        mean, mean_abs = np.mean(paid, axis=0) if paid else (0.0, 0.0)
        evidence.append(
            TermEvidence(
                name=term.name,
                kind=term.kind,
                per_episode=round(float(mean) * mean_length, 4),
                mean_abs=round(float(mean_abs), 6),
                share=round(float(mean_abs / everything) if everything else 0.0, 4),
            )
        )
    return evidence


def potential_range(line: TrainingLine) -> dict[str, list[float]]:
    """Return [mean, low, high] of beta · scale · Φ over recorded states; nothing where none is recorded."""
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
