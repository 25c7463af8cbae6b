"""The Critic as a reader of failed episodes: step by step, what each failed of (after Auto MC-Reward's analyser)."""

from __future__ import annotations

from collections.abc import Sequence

from ..rl.evidence.schema import EpisodeEvidence
from .llm.ledger import Place
from .llm.model_call import Question
from .llm.models import RoleModel
from .llm.parse import json_schema
from .schemas import EpisodeReading

MAX_CHARS = 24_000  # of the lines that are shown; the middle of a longer episode is left out


async def read_episode(
    model: RoleModel, place: Place, task: str, agents: Sequence[str], episode: EpisodeEvidence
) -> EpisodeReading:
    """Return what an episode that did not succeed failed of, by the Critic's model.

    Args:
        model: the Critic's chain of models, with the template of this question.
        place: the adaptation point; its `part` begins the call's name.
        task: its rules in words.
        agents: the names of the team's agents.
        episode: with all of its lines.

    Raises:
        ModelAnswerError: see `RoleModel.ask`; `ProviderError` where the model is the embedded rules.
    """
    variables = {
        "task": task,
        "agents": list(agents),
        "schema": json_schema(EpisodeReading),
        "block": {"outcome": episode.outcome, "length": episode.length, "steps": bounded_lines(episode.every_line)},
    }
    question = Question(
        place,
        model.prompt(variables),
        EpisodeReading,
        problems=lambda reading: reading_problems(reading, agents, episode.length),
        by_rules=False,
    )
    answered = await model.ask(question)
    assert answered.parsed is not None  # no tools are offered
    return answered.parsed


def bounded_lines(lines: Sequence[str]) -> list[str]:
    """Return the lines of an episode, at most `MAX_CHARS` of them: its beginning and its end."""
    kept, left = list(lines), 0
    while sum(map(len, kept)) > MAX_CHARS and len(kept) > 2:
        del kept[len(kept) // 2]
        left += 1
    return [*kept[: len(kept) // 2], f"({left} steps left out)", *kept[len(kept) // 2 :]] if left else kept


def reading_problems(reading: EpisodeReading, agents: Sequence[str], length: int) -> list[str]:
    """Return a line for each part that names nothing of the episode."""
    lines = []
    if reading.step is not None and reading.step > length:
        lines.append(f"step is {reading.step}; it must be one of the episode's, 1 to {length}, or null")
    if reading.agent is not None and reading.agent not in agents:
        lines.append(f"agent is {reading.agent!r}; it must be one of {list(agents)!r}, or null")
    return lines
