"""The question of `approve` as interfaces for reviewing agents show it, and the answers that they give.

The interrupt's value is a `HITLRequest`, the shape in which LangChain's human-in-the-loop middleware asks about a tool
call (`langchain.agents.middleware.human_in_the_loop`): one action, `promote`, whose arguments are the fields of
`ApprovalNeeded`. It may be approved or rejected, and not edited, since something else would not be what was tried.

An answer is one of these, or a list of one:

=======================================================  =============================================================
`{"decisions": [{"type": "approve"}]}`                   LangChain's `HITLResponse`
`{"decisions": [{"type": "reject", "message": "why"}]}`  the same; `message` may be left out, `respond` rejects too
`{"type": "approve"}`, …                                 one decision alone
`{"type": "accept", "args": None}`                       the older `HumanResponse` of Agent Inbox; `ignore` rejects, and
                                                         so does `response`, whose `args` say why
`{"yes": True}`, `{"yes": False, "because": "why"}`      this package's own; None where training is over
=======================================================  =============================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ApprovalError
from ..runs.approvals import Answer
from ..runs.events import ApprovalNeeded

if TYPE_CHECKING:  # seconds to import, for names of types
    from langchain.agents.middleware.human_in_the_loop import HITLRequest

ACTION = "promote"
ACCEPTING = ("approve", "accept")
REJECTING = ("reject", "respond", "ignore", "response")


def review_request(question: ApprovalNeeded, problem: str = "") -> HITLRequest:
    """Return the value of the interrupt; `problem` is what was wrong with an answer to it."""
    parts = [problem, question.title, question.reason, question.gate, "\n".join(question.diff)]
    return {
        "action_requests": [
            {
                "name": ACTION,
                "args": question.model_dump(mode="json", exclude={"kind"}),
                "description": "\n\n".join(filter(None, parts)),
            }
        ],
        "review_configs": [{"action_name": ACTION, "allowed_decisions": ["approve", "reject"]}],
    }


def question_in(value: Any) -> ApprovalNeeded:
    """Return the question that an interrupt's value asks; checkpoints of earlier versions hold it as it is."""
    return ApprovalNeeded.model_validate(value if "id" in value else value["action_requests"][0]["args"])


def answer_in(value: Any) -> Answer:
    """Return the answer in the value that the graph is resumed with.

    Raises:
        ApprovalError: it is no answer to the question.
    """
    said = value
    # One action was asked about, so the answer is one decision.
    if isinstance(said, Mapping) and "decisions" in said:
        said = said["decisions"]
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    if isinstance(said, Mapping):
        because = next((said[key] for key in ("because", "message", "args") if isinstance(said.get(key), str)), "")
        if "yes" in said and (said["yes"] is None or isinstance(said["yes"], bool)):
            return Answer(yes=said["yes"], because=because)
        if said.get("type") in ACCEPTING:
            return Answer(yes=True)
        if said.get("type") in REJECTING:
            return Answer(yes=False, because=because)
    raise ApprovalError(
        "the answer must approve or reject the one action as it is, such as {'decisions': [{'type': 'approve'}]}, got "
        f"{value!r:.200}; answer again"
    )
