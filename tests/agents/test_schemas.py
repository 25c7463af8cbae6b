"""The schemas that prompts show, with the docstrings that are their descriptions.

After a change of the words on purpose write the file anew with `python tests/agents/test_schemas.py`, and read the
difference: it changes every prompt.
"""

from __future__ import annotations

import json
from pathlib import Path

from cosignal.agents.llm.parse import json_schema
from cosignal.agents.schemas import Diagnosis, ProposalRanking, ProposalSet, TransitionVotes

GOLDEN = Path(__file__).with_name("answer_schemas.json")


def shown() -> str:
    """Return the schemas as JSON, keys in the order in which models see them."""
    schemas = {
        model.__name__: json_schema(model) for model in (Diagnosis, ProposalSet, ProposalRanking, TransitionVotes)
    }
    return json.dumps(schemas, indent=1, ensure_ascii=False) + "\n"


def test_models_are_shown_the_schemas_of_the_golden_file() -> None:
    assert shown() == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.write_text(shown(), encoding="utf-8")
