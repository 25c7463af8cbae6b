"""Print how many characters a prompt of each role has on some tasks: `PYTHONPATH=tests/support python` this file.

Each task trains for UPDATES updates under its default config, which takes a minute in all. The prompt is that of the
first intervention of a run: no history, and four proposals of the embedded rules for the Ranker. A copy of this file
says the same in a tree of an older version.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from asked_rules import critic, generator
from cosignal import RunConfig
from cosignal.agents.critic import critic_question
from cosignal.agents.generator import generator_question
from cosignal.agents.llm.ledger import Place
from cosignal.agents.prompt_payload import build_payload
from cosignal.agents.ranker import ranker_question
from cosignal.rl.evidence.build import build_evidence
from cosignal.rl.training.line import TrainingLine
from cosignal.testing import role_model

UPDATES = 30
TASKS: dict[str, dict[str, Any]] = {
    "Two-Switch": {"name": "two_switch"},
    "Victim-Rubble": {"name": "victim_rubble"},
    "LBF": {"name": "lbf"},
    "mpe2's simple_spread as it is": {"env": "mpe2.simple_spread_v3:parallel_env"},
}


def evidence_of(line: TrainingLine) -> Any:
    """Return the evidence, with fresh episodes where the version has any."""
    try:
        from cosignal.rl.evidence.episodes import play_episodes
    except ImportError:
        return build_evidence(line, 1_000_000)
    return build_evidence(line, 1_000_000, play_episodes(line)[0])


async def sizes(task: dict[str, Any]) -> dict[str, int]:
    """Return the characters of each role's prompt, system and user part together."""
    line = TrainingLine(RunConfig.model_validate({"task": task, "trainer": {"steps": 1_000_000}}).training())
    for _ in range(UPDATES):
        line.update()
    evidence = evidence_of(line)
    raw = evidence.model_dump(mode="json")
    diagnosis, proposals = await critic(raw), await generator(raw)
    payload, diagnosed = build_payload(evidence), build_payload(evidence, (), diagnosis)
    asked = {f"p1-r0-{i}": proposal for i, proposal in enumerate(proposals)}
    questions: dict[str, Any] = {
        "critic": critic_question(role_model("critic"), Place(1), payload),
        "generator": generator_question(role_model("generator"), Place(1), diagnosed, 4),
        "ranker": ranker_question(role_model("ranker"), Place(1), diagnosed, asked),
    }
    return {role: len(question.prompt.system) + len(question.prompt.user) for role, question in questions.items()}


def main() -> None:
    sys.stdout.write("| task | critic | generator | ranker |\n|---|---|---|---|\n")
    for name, task in TASKS.items():
        cells = " | ".join(f"{size:,}" for size in asyncio.run(sizes(task)).values())
        sys.stdout.write(f"| {name} | {cells} |\n")


if __name__ == "__main__":
    main()
