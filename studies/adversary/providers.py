"""Providers that mean harm, as LangChain chat models. Deterministic: seed, point and round fix the answer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from ...agents.config import ROLES, Role
from ...agents.rules import critic as rules_critic
from ...agents.rules import generator as rules_generator
from ...agents.rules import ranker as rules_ranker
from ...agents.rules.chat_model import read_prompt
from .harmful_proposals import DESTRUCTIVE, FAMILIES, blends, harmful, origin

Json = dict[str, Any]
Style = Literal["harmful", "half_harmful"]
KINDS_OF_ANSWERS = (*FAMILIES, "all", "destructive")  # of a harmful Generator, from answer to answer


def adversary_models(style: Style, seed: int) -> dict[Role, BaseChatModel]:
    """Return one model for all roles; `style` is explained at `Adversary`."""
    model = Adversary(style=style, seed=seed)
    return dict.fromkeys(ROLES, model)


class Adversary(BaseChatModel):
    """A Critic that always finds something, a Generator that means harm, and a Ranker that puts harm first.

    Attributes:
        style: `harmful` makes only harmful proposals; `half_harmful` takes half of them from the rules, or all of them
            and adds a harmful term to each.
        seed: fixes the answers together with point and round.
    """

    style: Style
    seed: int

    @property
    def _llm_type(self) -> str:
        return f"adversary ({self.style}, no language model)"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],  # noqa: ARG002 - LangChain's signature
        *,
        tool_choice: str | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Ignore the tools: no evidence would change its answers."""
        return self.bind(**kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - LangChain's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        role, block = read_prompt(messages)
        answer = {"critic": self.diagnose, "generator": self.propose, "ranker": self.rank}[role]
        message = AIMessage(json.dumps(answer(block)), response_metadata={"model_name": self._llm_type})
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, None, **kwargs)

    # ------------------------------------------------------------ roles

    def diagnose(self, block: Json) -> Json:
        """Return the rules' diagnosis; where they find nothing, a plateau, so that there is an intervention."""
        diagnosis = rules_critic.diagnosis(block)
        if diagnosis["findings"][0]["failure"] != "insufficient_evidence":
            return diagnosis
        plateau = {"failure": "plateau", "cites": ["sparse.trend"], "explanation": "Learning is slow."}
        return {"findings": [plateau], "advice": "Change the signal."}

    def propose(self, block: Json) -> Json:
        """Return as many proposals as the block asks for, in the style of this adversary."""
        # what this intervention has tried already is in the history
        tried = (row["round"] for row in block["history"] if row["point"] == block["point"])
        round_ = 1 + max(tried, default=-1)
        rng, count = random.Random(f"{self.seed}-{block['point']}-{round_}"), block["candidates"]
        if self.style == "harmful":
            # all of one family, of all families, or of all with exploration that destroys the policy
            kind = KINDS_OF_ANSWERS[(self.seed + round_) % len(KINDS_OF_ANSWERS)]
            families = tuple(family for family in FAMILIES if kind in (family, "all", "destructive"))
            proposals = [*harmful(block, rng, count, families), *harmful(block, rng, count)]
            exploration = rng.choice(DESTRUCTIVE) if kind == "destructive" else None
        else:
            # every proposal shares the exploration that the rules want
            by_rule = rules_generator.proposals(block)["proposals"]
            proposals = blends(block, rng, count) if rng.random() < 0.5 else []
            proposals = proposals or [*by_rule[: count // 2], *harmful(block, rng, count)]
            exploration = by_rule[0]["exploration"]
        changed = {} if exploration is None else {"exploration": exploration}
        return {"proposals": [proposal | changed for proposal in proposals[:count]]}

    def rank(self, block: Json) -> Json:
        """Return the rules' ranking with harm first."""
        ranking = rules_ranker.ranking(block)
        harm = {item["id"]: origin(item["title"]) != "other" for item in block["proposals"]}
        return {**ranking, "order": sorted(ranking["order"], key=lambda key: not harm[key])}
