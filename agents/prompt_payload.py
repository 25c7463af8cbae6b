"""The payload of a prompt: evidence, diagnosis and history as plain data of bounded size.

    Evidence, Diagnosis, history  ->  plain data, four significant digits
                                  ->  truncate_by_relevance: limits for the lists that grow with the task
                                  ->  cuts, one after the other, until it fits into `max_chars`
                                  ->  Payload, which prompts carry as one JSON block

Order is the evidence's own order everywhere and never that of names. Rows are left out by what they show and then by
position, a name stays or goes in all groups at once, and what the embedded rules read is cut last: so renaming
features, events and agents changes nothing but names.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NotRequired, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ..errors import ExpressionError, PromptTooLong
from ..rl.evidence.schema import Evidence
from ..rl.signals.preview import SignalSummary
from ..rl.signals.signal import Exploration
from ..rl.signals.terms import TERM_KINDS, Term
from ..rl.task import EXPRESSION_WORDS
from .evidence_view import shown
from .schemas import Diagnosis, Proposal

MAX_CHARS = 40_000  # about 12k tokens
MAX_HISTORY = 16  # entries
MAX_EXAMPLES = 4
UNFIT_EXAMPLES = "examples_of_other_names"  # left out since the task has not all that they name
MAX_RUNGS = 12  # rows of a race
MAX_MOVED = 6  # milestones of an arm
MAX_REASON = 200  # characters of why it was dropped
MAX_FEATURES = 64  # rows, about 20 000 characters
MAX_EVENTS = 32  # rows
MAX_AGENTS = 32  # of a group
MAX_ACTIONS = 32  # of a group
NEVER = 0.05  # share of episodes below which an end counts as not reached
UNREACHED = 0.1  # weight of an end that is not reached, in changes of the feature's range

Json = dict[str, Any]
Row = TypeVar("Row")
# The first four are the gate's. screened_out: others did better in screening. not_tried: its turn never came.
# rolled_back: accepted, and then the return fell. declined: accepted, and a human said no. stale: accepted, but the run
# had moved on, and a confirmation from where it was did not accept. branch_failed: a branch of it could not be run.
# adopted, not_adopted: of races, which prove policies and no signal. A policy that was trained under it was proven
# better and became the main line; it raced, and no policy of it was proven.
# out_of_reward: potentials left the reward by their exact offset and are kept in the critic; nothing was tried.
Verdict = Literal[
    "accept", "reject", "no_difference", "not_informative", "failed_check", "screened_out", "not_tried", "rolled_back",
    "declined", "stale", "branch_failed", "adopted", "not_adopted", "out_of_reward",
]  # fmt: skip
RaceWinner = Literal["candidate", "kick", "fresh_start", "carried"]


class Payload(TypedDict):
    """The plain data of a prompt.

    Attributes:
        evidence: an `Evidence`, numbers rounded and rows left out.
        diagnosis: a `Diagnosis`, None for the Critic.
        history: `TriedProposal`s, oldest first.
        examples: `Example`s, the best first; missing where there are none, and for all but the Generator.
        left_out: how many rows or texts of each kind were left out; missing where nothing was.
    """

    evidence: Json
    diagnosis: Json | None
    history: list[Json]
    examples: NotRequired[list[Json]]
    left_out: NotRequired[dict[str, int]]


def _is_nothing(value: object) -> bool:
    """Tell whether a field that is shown only where it is set is not set: gains of 0 are."""
    return value is None or value == []


class TriedProposal(BaseModel):
    """One proposal of the past with the outcome of its branches. Returns are sparse.

    What is of a race is shown only where the proposal raced; see `raced`.

    Attributes:
        gain: mean of (candidate − control) over the seeds; of the screening branches where the gate did not judge it,
            at the last look where it raced, None where it was not run.
        gain_low, gain_high: interval of `gain` at the gate's level, None where the gate did not judge it.
        control: the control's mean final return.
        curve: rows [steps since the fork, gain].
        problems: reasons for which a check refused it, or a branch of it failed.
        declined_because: what the human who declined it has written of it; shown only where there is something.
        race: rows [rung, mean return of its policy, the control's], of fresh episodes.
        moved: rows [milestone, share of its episodes that reached it, the control's], where it moved toward reward.
        dropped: why it left the race before its end.
        kick_gain: gain of the kick alone over the control at the same rung, or at its own last one before.
        won_by: kind of the arm whose policy was adopted; `candidate` may be another proposal.
        numbers: what was computed of it before it was tried; None in runs of earlier versions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    proposal_id: str
    point: int
    round: int
    verdict: Verdict
    proposal: Proposal
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    control: float | None = None
    curve: list[tuple[int, float]] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    declined_because: str | None = Field(default=None, exclude_if=_is_nothing)
    race: list[tuple[int, float, float]] = Field(default_factory=list, exclude_if=_is_nothing)
    moved: list[tuple[str, float, float]] = Field(default_factory=list, exclude_if=_is_nothing)
    dropped: str | None = Field(default=None, exclude_if=_is_nothing)
    kick_gain: float | None = Field(default=None, exclude_if=_is_nothing)
    won_by: RaceWinner | None = Field(default=None, exclude_if=_is_nothing)
    numbers: SignalSummary | None = Field(default=None, exclude_if=_is_nothing)

    @property
    def raced(self) -> bool:
        """Tell whether it was an arm of a race."""
        return bool(self.race)


class Example(BaseModel):
    """A signal of an earlier run, shown to the Generator; nothing of it was tried in this run.

    Attributes:
        task: that it comes from; None where nobody says.
        same_task: whether that is the task of this run.
        seed: of the run that it comes from.
        proven: what was proven there. `policy`: of a policy that was trained under it, and nothing of the signal.
            `signal`: of the signal, over training seeds. None: nothing is known.
        gain: in sparse return, of that policy or that signal.
        gain_over_kick: of that policy over the arm with the exploration kick alone; None where not both raced.
        stage: of learning at which it was proposed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    task: str | None = None
    same_task: bool = False
    seed: int | None = None
    proven: Literal["policy", "signal"] | None = None
    gain: float | None = None
    gain_over_kick: float | None = None
    stage: str
    beta: float
    terms: tuple[Term, ...]
    exploration: Exploration

    def fits(self, evidence: Evidence) -> bool:
        """Tell whether the task has every feature, event, group and agent that it names, and it needs no scorer."""
        features, events = ({row.name for row in rows} for rows in (evidence.features, evidence.events))
        groups = {"all", *(item.group for item in evidence.behaviour)}
        agents = {name for item in evidence.behaviour for name, _ in item.events_per_agent}
        for term in self.terms:
            try:
                reads = term.reads
            except ExpressionError:
                return False
            for_whom = term.agents in groups if isinstance(term.agents, str) else agents.issuperset(term.agents)
            if term.scorers or not (reads.features <= features and reads.events <= events and for_whom):
                return False
        return True


def bounded_rows(rows: Sequence[Row], limit: int) -> list[Row]:
    """Return at most `limit` rows, from 2 on: evenly spread, the first and the last among them."""
    if len(rows) <= limit:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (limit - 1))] for i in range(limit)]


def build_payload(
    evidence: Evidence,
    history: Sequence[TriedProposal] = (),
    diagnosis: Diagnosis | None = None,
    max_chars: int = MAX_CHARS,
    examples: Sequence[Example] = (),
) -> Payload:
    """Return the payload of a prompt, at most `max_chars` characters of JSON.

    Of the lists that grow with the task (features, events, agents, actions) the most relevant rows are kept. Cut in
    this order until it fits: pictures of states, examples, the last first, numbers of the history, key moments, lines
    of episodes, the history's curves, rungs and problems, rows of the return curve, texts that describe the task, the
    oldest entries of the history, the least relevant features, the least relevant events. Terms are never cut. Where
    anything was cut, `left_out` counts it.

    Args:
        evidence: the run at the adaptation point.
        history: oldest first, the running intervention's rejected proposals included; the last `MAX_HISTORY` are kept.
        diagnosis: the Critic's answer, for the roles that come after it.
        max_chars: limit of the payload, without the words of the prompt.
        examples: the best first. Those that the task does not fit are left out, and of the others the first
            `MAX_EXAMPLES` are kept.

    Raises:
        PromptTooLong: what must stay is larger than `max_chars`.
    """
    payload: Payload = {
        "evidence": rounded(evidence.model_dump(mode="json")),
        "diagnosis": diagnosis.model_dump(mode="json") if diagnosis else None,
        "history": [rounded(tried.model_dump(mode="json")) for tried in history[-MAX_HISTORY:]],
    }
    for episode in payload["evidence"]["episodes"]:  # read apart, see `episode_reader`
        episode.pop("every_line", None)
    fitting = [example for example in examples if example.fits(evidence)]
    if fitting:
        payload["examples"] = [rounded(example.model_dump(mode="json")) for example in fitting[:MAX_EXAMPLES]]
    left_out = truncate_by_relevance(payload["evidence"], _names_in_use(payload))
    unshown = {"examples": len(fitting[MAX_EXAMPLES:]), UNFIT_EXAMPLES: len(examples) - len(fitting)}
    left_out |= {kind: count for kind, count in unshown.items() if count}
    if left_out:
        payload["left_out"] = left_out
    # Only what is needed is cut, so the size is asked before each cut.
    cuts = _cuts(payload)
    while payload_size(payload) > max_chars:
        kind, count = next(cuts, (None, 0))
        if kind is None:
            raise PromptTooLong(
                f"the evidence takes {payload_size(payload)!r} characters, a prompt at most {max_chars!r}; "
                "give the task fewer groups, and groups, agents and terms shorter names"
            )
        counts = payload.setdefault("left_out", {})
        counts[kind] = counts.get(kind, 0) + count
    return payload


def prompt_block(payload: Payload) -> Json:
    """Return `payload` in the layout of prompts; its pictures stand beside it, see `pictures`."""
    return {**payload, "evidence": shown(payload["evidence"])}


def pictures(payload: Payload) -> list[Json]:
    """Return the pictures of states in `payload`: the `title` that says which state one is, and its `text`."""
    found = []
    for episode in payload["evidence"]["episodes"]:
        for picture in episode.get("pictures", ()):
            state = f"after step {picture['after_step']} of {episode['length']}"
            if not picture["after_step"]:
                state = "before the first step"
            found.append({"title": f"The {episode['outcome']} episode {state}", "text": picture["text"]})
    return found


def payload_size(payload: Payload) -> int:
    """Return the characters of `payload` the way prompts write it: as JSON, and its pictures."""
    drawn = sum(len(picture["title"]) + len(picture["text"]) for picture in pictures(payload))
    return len(json.dumps(prompt_block(payload), ensure_ascii=False)) + drawn


def _cuts(payload: Payload) -> Iterator[tuple[str, int]]:
    """Cut `payload` in place, a little at each step and the least needed first. Yield what was cut, and how much."""
    evidence, history = payload["evidence"], payload["history"]
    # Those of a successful episode first; where an episode stops says more than where it began.
    for episode in sorted(evidence["episodes"], key=lambda episode: episode["outcome"] != "successful"):
        while episode["pictures"]:
            del episode["pictures"][0]
            yield "pictures", 1
    while examples := payload.get("examples"):
        # The text about examples goes with the last one.
        payload["examples"] = examples[:-1]
        if len(examples) == 1:
            del payload["examples"]
        yield "examples", 1
    for tried in history:
        if tried.pop("numbers", None):
            yield "numbers_of_history", 1
    while evidence["key_moments"]:
        del evidence["key_moments"][0]
        yield "key_moments", 1
    # The ends of episodes stay longest: they show where agents stand in vain.
    for episode in evidence["episodes"]:
        while len(episode["lines"]) > 1:
            del episode["lines"][len(episode["lines"]) // 2]
            yield "lines_of_episodes", 1
    # Oldest first, as above and below.
    for tried in history:
        details = [key for key in ("curve", "problems", "race") if tried.get(key)]
        for key in details:
            tried[key] = []
        if details:
            yield "details_of_history", 1
    while evidence["sparse"]["curve"]:
        del evidence["sparse"]["curve"][0]
        yield "curve", 1
    task = evidence["task"]
    # The longest text, until all are empty.
    while task and task[longest := max(task, key=lambda key: len(json.dumps(task[key])))]:
        task[longest] = ""
        yield "texts_of_task", 1
    while history:
        del history[0]
        yield "history", 1
    # One name at a time, and one always stays.
    for kind in ("features", "events"):
        rows = evidence[kind]
        while len(fewer := most_relevant(kind, rows, len(rows) - 1, _names_in_use(payload))) < len(rows):
            evidence[kind] = fewer
            yield kind, len(rows) - len(fewer)
            rows = fewer


def _names_in_use(payload: Payload) -> set[str]:
    """Return the names that terms in force, those tried before and examples are built of: the roles go on from them."""
    return names_in_terms(payload["evidence"]["signal"]["terms"]).union(
        *(names_in_terms(tried["proposal"]["terms"]) for tried in payload["history"]),
        *(names_in_terms(example["terms"]) for example in payload.get("examples", ())),
        # What an arm reached is what the next idea is built on.
        *(re.findall(r"[a-z]\w*", row[0]) for tried in payload["history"] for row in tried.get("moved", ())),
    )


def names_in_terms(terms: Sequence[Json]) -> set[str]:
    """Return the features and events that the terms are built of."""
    names = set[str]()
    for term in terms:
        reads_from = TERM_KINDS[term["kind"]].reads_from
        words = set(re.findall(r"\b[a-z]\w*", term.get(reads_from, "")))
        names |= words - EXPRESSION_WORDS if reads_from == "expression" else words
    return names


def rounded(value: Any) -> Any:
    """Round to four significant digits: more costs tokens and shows nothing. Not-a-number becomes None."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value


# ---------------------------------------------------------------- the most relevant rows


def truncate_by_relevance(evidence: Json, names_in_use: Collection[str]) -> dict[str, int]:
    """Cut the lists of `evidence` that grow with the task to their limits, in place.

    Args:
        evidence: an `Evidence` as plain data.
        names_in_use: features and events that terms are built of; these are kept first.

    Returns:
        How many rows of each kind were left out, without the kinds of which none was.
    """
    left_out = Counter[str]()
    for kind, limit in (("features", MAX_FEATURES), ("events", MAX_EVENTS)):
        rows = evidence[kind]
        evidence[kind] = most_relevant(kind, rows, limit, names_in_use)
        left_out[kind] += len(rows) - len(evidence[kind])
    for item in evidence["behaviour"]:
        agents, actions = item["events_per_agent"], item["action_shares"]
        left_out["agents"] += len(agents[MAX_AGENTS:])
        left_out["actions"] += len(actions[MAX_ACTIONS:])
        # The agents that differ most from the group's mean, and the most frequent actions.
        mean = sum(count or 0.0 for _, count in agents) / max(len(agents), 1)
        distances = [abs((count or 0.0) - mean) for _, count in agents]
        item["events_per_agent"] = _largest(agents, MAX_AGENTS, distances)
        item["action_shares"] = _largest(actions, MAX_ACTIONS, [share or 0.0 for _, share in actions])
    # The task's description lists the same agents and actions once more.
    limits = {"agents": MAX_AGENTS, "actions": MAX_ACTIONS}
    groups = evidence["task"].get("groups", [])
    if groups:
        evidence["task"]["groups"] = [
            {key: value[: limits[key]] if key in limits else value for key, value in group.items()} for group in groups
        ]
    return {kind: count for kind, count in left_out.items() if count}


def most_relevant(kind: str, rows: Sequence[Json], limit: int, names_in_use: Collection[str]) -> list[Json]:
    """Return at most `limit` of the rows of `kind` (features or events), in their own order; one name always stays."""
    # A name's score is the best of its groups.
    best: dict[str, float] = {}
    for row in rows:
        best[row["name"]] = max(_relevance(kind, row), best.get(row["name"], 0.0))
    # `sorted` is stable, so that ties keep their positions.
    names = sorted(best, key=lambda name: (name not in names_in_use, -best[name]))
    # Whole names, as many as fit: a name has a row in each of its groups.
    count = Counter(row["name"] for row in rows)
    chosen, total = set[str](), 0
    for name in names:
        total += count[name]
        if chosen and total > limit:
            break
        chosen.add(name)
    return [row for row in rows if row["name"] in chosen]


def _relevance(kind: str, row: Json) -> float:
    """Score a feature or an event.

    An event counts by how often it happens. A feature by what precedes rewards, what separates successes from failures,
    what an episode changes (all in shares of the feature's range), and by an end that episodes do not reach.
    """
    if kind == "events":
        return float(row["per_episode"] or 0.0)
    # In shares of the range, which makes features comparable.
    low = row["low"] if row["low"] is not None else row["seen_low"]
    high = row["high"] if row["high"] is not None else row["seen_high"]
    if low is None or high is None or not low < high:
        return 0.0
    success, failure, start = row["end_success"], row["end_failure"], row["start"]
    # Without successes the failures' end stands for the episode's.
    differences = [(row["change_before_reward"], 0.0), (success, failure)]
    differences.append((failure if success is None else success, start))
    known = sum(abs(one - other) for one, other in differences if one is not None and other is not None)
    share = row["reached_low_share" if row["kind"] == "distance" else "reached_high_share"]
    return float(known / (high - low)) + (UNREACHED if share is not None and share < NEVER else 0.0)


def _largest(items: Sequence[Any], limit: int, scores: Sequence[float]) -> list[Any]:
    """Return the `limit` items with the largest scores, in their own order."""
    positions = sorted(range(len(items)), key=lambda i: -scores[i])[:limit]
    return [items[i] for i in sorted(positions)]
