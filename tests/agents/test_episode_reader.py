"""Reading failed episodes: whether the prompt has what it takes to name a planted cause, bounds, and wrong answers."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from cosignal.agents.config import LimitsConfig, LLMConfig, ModelConfig
from cosignal.agents.episode_reader import MAX_CHARS, bounded_lines, read_episode
from cosignal.agents.llm.ledger import Place
from cosignal.agents.llm.models import EPISODE_VERSION, RoleModel, check_can_read
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.schemas import EpisodeReading
from cosignal.errors import ConfigError, ModelAnswerError
from cosignal.prompts import load_template
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task
from cosignal.rl.evidence.schema import EpisodeEvidence
from cosignal.rl.task import episode_seed
from cosignal.testing import ScriptedChatModel, role_model
from langchain_core.messages import BaseMessage

STEPS = 30


def played(seed: int, still: int | None) -> EpisodeEvidence:
    """A failed episode of Two-Switch under random actions, in which one agent never moves (None: nobody opens)."""
    task = make_task(TaskConfig(name="two_switch", n_max=STEPS), 1)
    task.reset(seed)
    rng = np.random.default_rng(seed)
    names = task.spec.groups[0].action_names
    # nobody toggles, so that no switch is turned and no door opened
    moves = [i for i, name in enumerate(names) if "turn" in name or "forward" in name]
    actions = rng.choice(moves, (STEPS, 2))
    if still is not None:
        actions[:, still] = task.spec.groups[0].stay
    shown = task.episode_text(episode_seed(seed, 0, 0), [actions], {0})
    task.close()
    return EpisodeEvidence(
        outcome="failed", sparse_return=-1.0, length=STEPS, last_event=0, lines=shown.lines[:2], every_line=shown.lines
    )


class Reader(ScriptedChatModel):
    """Reads the lines as a careful reader would: who always does the same, and whether the door is ever open."""

    stay: str = ""

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        lines = json.loads(re.findall(r"```json\n(.*?)\n```", messages[1].text, re.DOTALL)[-1])["steps"]
        did = [
            dict(part.split(" ", 1) for part in line.split(": ", 1)[1].split(" -> ")[0].split(", ")) for line in lines
        ]
        still = [agent for agent in did[0] if all(step[agent] == self.stay for step in did)]
        answer: dict[str, Any] = {"step": 1, "agent": None, "failure": "subgoal_never_reached"}
        answer["cause"] = "The door is never opened." if not any("door open" in line for line in lines) else "Nothing."
        if still:
            answer |= {"agent": still[0], "cause": f"{still[0]} never moves.", "failure": "lazy_agent"}
        self.script = [json.dumps(answer)]
        return await super()._agenerate(messages, *args, **kwargs)


def reader(chat: ScriptedChatModel) -> RoleModel:
    template = load_template("critic", EPISODE_VERSION)
    return RoleModel("critic", ModelConfig(), CallBudget(LimitsConfig()), [].append, template, chat)


@pytest.mark.parametrize("still", [1, None])
async def test_a_planted_cause_is_found_in_nine_of_ten_episodes(still: int | None) -> None:
    task = make_task(TaskConfig(name="two_switch", n_max=STEPS), 1)
    group, rules = task.spec.groups[0], task.spec.description
    task.close()
    assert group.stay is not None
    chat = Reader(script=[], stay=group.action_names[group.stay])
    found = []
    for seed in range(10):
        reading = await read_episode(reader(chat), Place(seed + 1, part="-e"), rules, group.agents, played(seed, still))
        if still is None:
            found.append(reading.agent is None and "door" in reading.cause)
        else:
            found.append(reading.agent == group.agents[still] and "never moves" in reading.cause)
        assert reading.step == 1
    assert sum(found) >= 9


async def test_an_answer_must_name_a_step_and_an_agent_of_the_episode() -> None:
    wrong = {"step": STEPS + 1, "agent": "red", "cause": "c", "failure": "plateau"}
    right = wrong | {"step": 3, "agent": "orange"}
    model = role_model("critic", [json.dumps(wrong), json.dumps(right)], None, [].append)
    model.template = load_template("critic", EPISODE_VERSION)
    episode = played(1, 0)
    got = await read_episode(model, Place(1, part="-e"), "rules", ["green", "orange"], episode)
    assert got == EpisodeReading.model_validate(right)
    model = role_model("critic", [json.dumps(wrong)] * 2, None, [].append)
    model.template = load_template("critic", EPISODE_VERSION)
    with pytest.raises(ModelAnswerError, match=r"step is 31; it must be one of the episode's, 1 to 30"):
        await read_episode(model, Place(1, part="-e"), "rules", ["green", "orange"], episode)


def test_long_episodes_lose_their_middle() -> None:
    lines = [f"step {k}: {'x' * 200}" for k in range(1000)]
    kept = bounded_lines(lines)
    assert sum(map(len, kept)) < MAX_CHARS + 100
    assert kept[0] == lines[0]
    assert kept[-1] == lines[-1]
    assert any(line.endswith("steps left out)") for line in kept)
    assert bounded_lines(lines[:3]) == lines[:3]


def test_rules_cannot_read() -> None:
    with pytest.raises(
        ConfigError, match="adaptation.read_failures: must be false where the Critic is the embedded rules"
    ):
        check_can_read(LLMConfig())
    check_can_read(LLMConfig(), ["critic"])
