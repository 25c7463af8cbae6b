"""The embedded Critic: the failure taxonomy as thresholds on the evidence. `docs/failures.md` has each in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..evidence_view import analysed
from .features import NEVER, Feature, Json, kinds_of_agents, never_reached, value_range

# What the rules compare with; `thresholds` tells models. Shares "of R" are of the size of the return's range.
FEW_EPISODES = 20
LOW_SUCCESS = 0.1
MIDDLING_SUCCESS = 0.5
FLAT_TREND = 0.03  # of R, per 100k steps
FALLING_TREND = -0.01  # of R, per 100k steps
LITTLE_SPREAD = 0.15  # of R
NO_SPREAD = 0.03  # of R
IDLE = 0.5  # share of steps without effect
NARROWED = 0.85  # of the highest entropy
QUIET = 0.05  # events per episode
SHUNNED = 0.25  # of a distance's range, by which failures end nearer to it than successes
LAZY = 0.9  # share of an event's busiest agent
SHARED_WORK = 1.5  # events per episode from which on it says anything
WAITING = 0.6  # share of steps without effect of a group that waits
APART = 0.4  # and by how much it is above the busiest group's
DOMINANT = 0.9  # share of the reward
MUCH_PAID = 0.1  # of R, per episode
EARNED = 0.05  # of R, above its lower end
SOLVED = 0.9
ALIKE = 0.5  # share of agents that observe what another does
IN_VAIN = 8  # signals in a row
IN_VAIN_VERDICTS = ("reject", "no_difference", "not_adopted", "screened_out", "not_informative")
MAX_FINDINGS = 4

_ADVICE = {
    "exploration_collapsed": "No signal acts on a policy that no longer explores: give every arm a kick.",
    "not_exploring": "Reward progress that random behaviour can already make.",
    "subgoal_never_reached": "Build a ladder from what is reached today to what never is.",
    "wrong_subgoal_order": "Gate the later subgoal by the earlier one.",
    "lazy_agent": "Reward the team's furthest agent, so that each has to move.",
    "waiting_on_each_other": "Reward the idle agents' own next distance.",
    "shaping_dominates": "Weaken or remove terms.",
    "plateau": "Point the signal at what separates successes from failures.",
    "shared_parameter_conflict": "Give every agent a network of its own.",
    "not_the_signal": "Change how policies learn: a network for each agent, advantages of its own, other steps.",
    "unclear_credit": "Rank what single agents do, from each one's side.",
    "regression": "Weaken or remove what came last.",
}


def diagnosis(block: Mapping[str, Any]) -> Json:
    """Return the answer of schema `Diagnosis`, the most important finding first."""
    findings = _findings(block["evidence"])
    if findings[0]["failure"] != "insufficient_evidence" and (other := not_the_signal(block)) is not None:
        findings.insert(0, other)
    findings = findings[:MAX_FINDINGS]
    answer = {"findings": findings, "advice": _ADVICE.get(findings[0]["failure"], "")}
    return answer if findings[0]["failure"] == "insufficient_evidence" else answer | _went_wrong(block["evidence"])


def _went_wrong(evidence: Json) -> Json:
    """Return the step from which on nothing happened any more in the episode that did not succeed, if there is one."""
    episode = analysed(evidence)
    last = None if episode is None else episode.get("last_event")
    if episode is None or last is None or last >= episode["length"]:
        return {}
    why = f"Nothing happened any more after step {last}." if last else "Nothing happened in any step."
    return {"went_wrong_at": last + 1, "went_wrong_because": why}


def tool_call(block: Mapping[str, Any]) -> Json:
    """Return the arguments of the one `query_trainer` call.

    It asks for the least reached distance, else for the first feature, else for the curve of the return.
    """
    features = [feature for group in kinds_of_agents(block["evidence"]) for feature in group]
    chosen = next(iter([*never_reached(features), *features]), None)
    if chosen is None:
        return {"what": "metric_curve", "points": 20}
    return {"what": "feature_statistics", "name": chosen.name}


def _findings(evidence: Json) -> list[Json]:
    # Episodes in the last window, from its steps and their length.
    lengths = [item["episode_length_mean"] for item in evidence["behaviour"] if item["episode_length_mean"]]
    has_episodes = evidence["sparse"]["return_now"] is not None and bool(lengths)
    steps = min(evidence["sparse"]["window_steps"], evidence["steps"])
    if not has_episodes or steps / max(lengths) < FEW_EPISODES:
        return [_finding("insufficient_evidence", [], f"Fewer than {FEW_EPISODES} episodes ended in the last window.")]

    # A plateau is a finding only where nothing else explains it, unclear credit only beside another finding.
    findings = [finding for rule in RULES if (finding := rule(evidence)) is not None]
    if not findings and (finding := plateau(evidence)) is not None:
        findings.append(finding)
    if findings and (finding := unclear_credit(evidence)) is not None:
        findings.append(finding)
    return findings or [_finding("insufficient_evidence", [], "No failure of the taxonomy shows in the evidence.")]


# ---------------------------------------------------------------- the taxonomy, one rule each
# Every rule returns its finding, or None where the evidence does not show the failure.


def regression(evidence: Json) -> Json | None:
    """The stage says that the return has fallen."""
    if evidence["stage"] != "regressing":
        return None
    sparse = evidence["sparse"]
    text = f"The return is {sparse['return_now']} after a best window of {sparse['return_best']}."
    return _finding("regression", ["sparse.return_now", "sparse.return_best"], text)


def shared_parameter_conflict(evidence: Json) -> Json | None:
    """Agents in one network observe the same, so that they cannot act differently, and the return is flat and low."""
    sparse, learner = evidence["sparse"], evidence.get("learner")
    is_flat = sparse["trend"] is not None and abs(sparse["trend"]) <= FLAT_TREND * value_range(sparse)
    if not learner or not is_flat or not _unsuccessful(evidence, MIDDLING_SUCCESS):
        return None
    for item in evidence["behaviour"]:
        agents = {agent for agent, _ in item["events_per_agent"]}
        shared = any(len(agents & set(members)) > 1 for members in learner["networks"])
        if shared and (item.get("same_view_share") or 0.0) >= ALIKE:
            text = f"{item['same_view_share']:.0%} of {item['group']} observe what another does, and share a network."
            return _finding(
                "shared_parameter_conflict", [*_behaviour_cites(item, "same_view_share"), "learner.networks"], text
            )
    return None


def no_exploration(evidence: Json) -> Json | None:
    """Other actions are no longer sampled, or the policy has not begun to explore."""
    sparse = evidence["sparse"]
    if collapsed(evidence):
        idle = max(evidence["behaviour"], key=lambda item: item["no_effect_share"])
        cites = ["sparse.trend", "sparse.spread", *_behaviour_cites(idle, "no_effect_share", "entropy")]
        text = (
            f"The return stays at {sparse['return_now']} (trend {sparse['trend']} per 100k steps, "
            f"spread {sparse['spread']}) while {idle['no_effect_share']:.0%} of steps change nothing: "
            "other actions are no longer sampled."
        )
        return _finding("exploration_collapsed", cites, text)
    is_quiet = all(event["per_episode"] < QUIET for event in evidence["events"])
    is_still = sparse["spread"] is not None and sparse["spread"] <= 0.01 * value_range(sparse)
    if _unsuccessful(evidence) and is_quiet and (evidence["events"] or is_still):
        events = evidence["events"][:3]
        cites = [cite for event in events for cite in _row_cites("events", [event], "per_episode")] or ["sparse.spread"]
        return _finding("not_exploring", cites, "Episodes cause no events and the return stays where it started.")
    return None


def subgoal_never_reached(evidence: Json) -> Json | None:
    """Unsuccessful, and distances that no agent ever closes."""
    if not _unsuccessful(evidence):
        return None
    distances = never_reached([feature for group in kinds_of_agents(evidence) for feature in group])[:2]
    if not distances:
        return None
    cites = [cite for feature in distances for cite in _feature_cites(evidence, feature, "reached_low_share")]
    success = ["sparse.success_rate"] if evidence["sparse"]["success_rate"] is not None else []
    names = " and ".join(feature.name for feature in distances)
    return _finding("subgoal_never_reached", cites + success, f"No agent ever comes close to the end of {names}.")


def wrong_subgoal_order(evidence: Json) -> Json | None:
    """Failures end nearer than successes to something that a term in force attracts to."""
    terms = evidence["signal"]["terms"]
    attracting = " ".join(term["expression"] for term in terms if term["kind"] == "potential")
    for feature in (feature for group in kinds_of_agents(evidence) for feature in group):
        is_shunned = feature.kind == "distance" and feature.gap is not None and feature.gap > SHUNNED
        if is_shunned and re.search(rf"\b{re.escape(feature.name)}\b", attracting):
            cites = _feature_cites(evidence, feature, "end_success", "end_failure")
            text = f"Terms in force reward small {feature.name}, but failures end nearer to it than successes."
            return _finding("wrong_subgoal_order", cites, text)
    return None


def lazy_agent(evidence: Json) -> Json | None:
    """One of several agents causes nearly all of an event."""
    sizes = {item["group"]: len(item["events_per_agent"]) for item in evidence["behaviour"]}
    for event in evidence["events"]:
        share = event["largest_agent_share"]
        # With about one event an episode the busiest agent has all of it by definition.
        if (
            share is not None
            and share >= LAZY
            and event["per_episode"] >= SHARED_WORK
            and sizes.get(event["group"], 0) > 1
        ):
            text = f"One agent causes {share:.0%} of {event['name']}."
            return _finding("lazy_agent", _row_cites("events", [event], "largest_agent_share"), text)
    return None


def waiting_on_each_other(evidence: Json) -> Json | None:
    """One group idles while another acts."""
    if collapsed(evidence) or len(evidence["behaviour"]) < 2 or not _unsuccessful(evidence, MIDDLING_SUCCESS):
        return None
    # Steps that change nothing: most of one group's, few of another's.
    idle = max(evidence["behaviour"], key=lambda item: item["no_effect_share"])
    busy = min(evidence["behaviour"], key=lambda item: item["no_effect_share"])
    if idle["no_effect_share"] < WAITING or idle["no_effect_share"] - busy["no_effect_share"] < APART:
        return None
    cites = [*_behaviour_cites(idle, "no_effect_share"), *_behaviour_cites(busy, "no_effect_share")]
    return _finding("waiting_on_each_other", cites, "One group mostly idles while another acts.")


def shaping_dominates(evidence: Json) -> Json | None:
    """Terms pay most of the reward, and the sparse return falls."""
    terms, sparse = evidence["terms"], evidence["sparse"]
    if not terms or sparse["trend"] is None or not _unsuccessful(evidence, MIDDLING_SUCCESS):
        return None
    # All bounds are in shares of the return's range, so that the scale of a task's rewards does not matter.
    size = value_range(sparse)
    income, share = sum(term["per_episode"] for term in terms), sum(term["share"] for term in terms)
    if share < DOMINANT or income < MUCH_PAID * size or sparse["trend"] > FALLING_TREND * size:
        return None
    largest = max(terms, key=lambda term: term["share"])
    text = f"Terms pay {income:.2f} an episode ({share:.0%} of the reward) while the sparse return falls."
    return _finding("shaping_dominates", [f"terms.{largest['name']}.share", "sparse.trend"], text)


RULES: tuple[Callable[[Json], Json | None], ...] = (
    regression,
    shared_parameter_conflict,
    no_exploration,
    subgoal_never_reached,
    wrong_subgoal_order,
    lazy_agent,
    waiting_on_each_other,
    shaping_dominates,
)  # the most important first


def plateau(evidence: Json) -> Json | None:
    """The return is flat, and nothing else explains it."""
    sparse = evidence["sparse"]
    is_flat = sparse["trend"] is not None and abs(sparse["trend"]) <= FLAT_TREND * value_range(sparse)
    if evidence["stage"] != "plateaued" and not (is_flat and _unsuccessful(evidence, SOLVED)):
        return None
    text = f"The return stays at {sparse['return_now']} (trend {sparse['trend']} per 100k steps)."
    return _finding("plateau", ["sparse.trend", "sparse.return_now"], text)


def unclear_credit(evidence: Json) -> Json | None:
    """Several agents, something is earned, and no progress: nobody learns by whom."""
    sparse, agents = evidence["sparse"], sum(len(item["events_per_agent"]) for item in evidence["behaviour"])
    if agents < 2 or sparse["trend"] is None or not _unsuccessful(evidence, MIDDLING_SUCCESS):
        return None
    size = value_range(sparse)
    low = sparse["return_range"][0] if sparse["return_range"] else 0.0
    grows = abs(sparse["trend"]) > FLAT_TREND * size and evidence["stage"] != "plateaued"
    if grows or sparse["return_now"] < low + EARNED * size:
        return None
    text = f"{agents} agents share a return of {sparse['return_now']}, and it does not grow."
    return _finding("unclear_credit", ["sparse.return_now", "sparse.trend"], text)


def not_the_signal(block: Mapping[str, Any]) -> Json | None:
    """So many signals in a row were tried, and nothing came of any."""
    sparse, tried = block["evidence"]["sparse"], signals_in_vain(block["history"])
    if tried < IN_VAIN or not _unsuccessful(block["evidence"], MIDDLING_SUCCESS):
        return None
    text = f"{tried} signals in a row were tried without effect, and the return stays at {sparse['return_now']}."
    return _finding("not_the_signal", ["sparse.return_now", "learner.networks"], text)


# ---------------------------------------------------------------- what several rules read


def signals_in_vain(history: Sequence[Mapping[str, Any]]) -> int:
    """Return how many signals of the history were tried in vain since one was kept, or the learner was changed.

    Those that moved toward reward in a race, and those whose turn never came, do not count.
    """
    count = 0
    for tried in reversed(history):
        if tried["verdict"] in ("failed_check", "not_tried"):
            continue
        if tried["verdict"] in ("accept", "adopted") or tried["proposal"].get("learner") or tried.get("won_by"):
            break
        count += tried["verdict"] in IN_VAIN_VERDICTS and not tried.get("moved")
    return count


def collapsed(evidence: Json) -> bool:
    """Tell whether exploration has collapsed.

    The return is flat and low, and either most steps change nothing or it does not vary under a narrowed policy.
    """
    sparse, behaviour = evidence["sparse"], evidence["behaviour"]
    size = value_range(sparse)
    if sparse["trend"] is None or sparse["spread"] is None or not behaviour or not _unsuccessful(evidence):
        return False
    is_flat = abs(sparse["trend"]) <= FLAT_TREND * size and sparse["spread"] <= LITTLE_SPREAD * size
    is_idle = max(item["no_effect_share"] for item in behaviour) >= IDLE
    is_narrowed = all(item["entropy"] <= NARROWED * item["entropy_max"] for item in behaviour)
    return is_flat and (is_idle or (is_narrowed and sparse["spread"] <= NO_SPREAD * size))


def _unsuccessful(evidence: Json, below: float = LOW_SUCCESS) -> bool:
    """Tell whether success is below `below`.

    Where a task has no success test: whether the return is in the lower half of its known range.
    """
    sparse = evidence["sparse"]
    if sparse["success_rate"] is not None:
        return bool(sparse["success_rate"] < below)
    if not sparse["return_range"] or sparse["return_now"] is None:
        return True
    low, high = sparse["return_range"]
    return bool(sparse["return_now"] < low + max(below, 0.5) * (high - low))


def _behaviour_cites(item: Json, *fields: str) -> list[str]:
    # A group's name is of any length, a cite is not.
    return [f"behaviour.{item['group']}.{field}" for field in fields if len(item["group"]) <= 80]


def _feature_cites(evidence: Json, feature: Feature, *fields: str) -> list[str]:
    rows = [row for row in evidence["features"] if row["name"] == feature.name]
    return _row_cites("features", [row for row in rows if feature.agents in (row["group"], "all")], *fields)


def _row_cites(part: str, rows: Sequence[Json], *fields: str) -> list[str]:
    """Return for each field its key in the first of the rows that has it."""
    known = [(field, next((row for row in rows if row[field] is not None), rows[0])) for field in fields]
    return [
        f"{part}.{row['group']}.{row['name']}.{field}" if len(row["group"]) <= 40 else f"{part}.{row['name']}.{field}"
        for field, row in known
    ]


def _finding(failure: str, cites: list[str], explanation: str) -> Json:
    return {"failure": failure, "cites": cites, "explanation": explanation[:400]}


# ---------------------------------------------------------------- the same thresholds, in words and numbers


def thresholds(evidence: Json) -> Json:
    """Return for each failure when it is usually named and what the evidence has now, as models are told.

    Args:
        evidence: an `Evidence` as plain data, with rows.

    Returns:
        By failure, the fields `when` and `now`, both texts.
    """
    sparse, size = evidence["sparse"], value_range(evidence["sparse"])
    low = sparse["return_range"][0] if sparse["return_range"] else 0.0
    success = _success_now(sparse)
    flat = f"trend within ±{FLAT_TREND * size:.3g}"
    idle = ", ".join(f"{item['group']} {item['no_effect_share']:.2f}" for item in evidence["behaviour"])
    alike = ", ".join(f"{item['group']} {item.get('same_view_share')}" for item in evidence["behaviour"])
    entropy = ", ".join(
        f"{item['group']} {item['entropy'] / item['entropy_max']:.2f}" if item["entropy_max"] else item["group"]
        for item in evidence["behaviour"]
    )
    returns = f"trend {sparse['trend']}, spread {sparse['spread']}"
    most = max((event["per_episode"] for event in evidence["events"]), default=None)
    never = never_reached([feature for kind in kinds_of_agents(evidence) for feature in kind])
    terms = evidence["terms"]
    shared = [
        f"{event['name']} {event['largest_agent_share']} of {event['per_episode']} an episode"
        for event in evidence["events"]
        if event["largest_agent_share"] is not None
    ]
    together = [f"{row['name']} {row['at_once']}" for row in evidence.get("team", ())]
    rows = {
        "not_exploring": (
            f"{_below(LOW_SUCCESS)}, every event below {QUIET} an episode",
            f"{success}, most frequent event {most}",
        ),
        "exploration_collapsed": (
            f"{_below(LOW_SUCCESS)}, {flat}, spread up to {LITTLE_SPREAD * size:.3g}, and no_effect_share from {IDLE} "
            f"in a group; or spread up to {NO_SPREAD * size:.3g} with entropy up to {NARROWED} of entropy_max in all",
            f"{success}, {returns}; no_effect_share: {idle}; entropy by entropy_max: {entropy}",
        ),
        "subgoal_never_reached": (
            f"{_below(LOW_SUCCESS)}, a distance with reached_low_share below {NEVER}",
            f"{success}; {', '.join(feature.name for feature in never) or 'no such distance'}",
        ),
        "wrong_subgoal_order": (
            f"a term in force over a distance to which failures end nearer than successes, by {SHUNNED} of its range",
            f"{len(terms)} terms in force",
        ),
        "lazy_agent": (
            f"largest_agent_share from {LAZY} of an event that happens {SHARED_WORK} times an episode or more",
            "; ".join(shared) or "no event of a known share",
        ),
        "same_target": (
            "agents are at one target at once, often, while another is not done",
            f"at_once of 2, 3, …: {'; '.join(together) or 'no distance that two agents have'}",
        ),
        "waiting_on_each_other": (
            f"{_below(MIDDLING_SUCCESS)}, no_effect_share of a group from {WAITING} and {APART} above another's",
            f"{success}; no_effect_share: {idle}",
        ),
        "shaping_dominates": (
            f"{_below(MIDDLING_SUCCESS)}, shares of terms from {DOMINANT} in sum, per_episode from "
            f"{MUCH_PAID * size:.3g}, trend {FALLING_TREND * size:.3g} or less",
            f"shares {sum(term['share'] for term in terms):.2f}, per_episode "
            f"{sum(term['per_episode'] for term in terms):.3g}, trend {sparse['trend']}",
        ),
        "plateau": (f"stage plateaued, or {flat} with {_below(SOLVED)}", f"stage {evidence['stage']}, {returns}"),
        "regression": ("stage regressing", f"stage {evidence['stage']}"),
        "unclear_credit": (
            f"two agents or more, {_below(MIDDLING_SUCCESS)}, {flat}, return from {low + EARNED * size:.3g}",
            f"{success}, return {sparse['return_now']}, trend {sparse['trend']}",
        ),
        "shared_parameter_conflict": (
            f"{flat}, {_below(MIDDLING_SUCCESS)}, same_view_share from {ALIKE} of agents in one network",
            f"{success}; same_view_share: {alike}",
        ),
        "not_the_signal": (
            f"{IN_VAIN} signals in a row tried in vain, {_below(MIDDLING_SUCCESS)}",
            f"{success}; see `history`",
        ),
        "insufficient_evidence": (
            f"fewer than {FEW_EPISODES} episodes in the last window, or no other",
            "see `sparse`",
        ),
    }
    return {failure: {"when": when, "now": now} for failure, (when, now) in rows.items()}


def _success_now(sparse: Json) -> str:
    if sparse["success_rate"] is not None:
        return f"success {sparse['success_rate']}"
    return f"return {sparse['return_now']} of {sparse['return_range']}"


def _below(success: float) -> str:
    return f"success below {success:g} (without a success test: the lower half of the return's range)"
