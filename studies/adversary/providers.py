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
    """One model for all roles: a Critic that always finds something, a Generator as `style` says, and a Ranker that
    puts harm first."""
    model = Adversary(style=style, seed=seed)
    return dict.fromkeys(ROLES, model)


class Adversary(BaseChatModel):
    """`harmful`: only harmful proposals. `half_harmful`: half of them the rules' own, or each of the rules' own with a
    harmful term added."""

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
        """Tools are not used: it knows what it wants."""
        return self.bind(**kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - LangChain's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        role, block = read_prompt(messages)
        text = json.dumps(_ANSWERS[role](self, block))
        message = AIMessage(text, response_metadata={"model_name": self._llm_type})
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
        """What the rules find; where they find nothing, a plateau, so that there is an intervention."""
        found = rules_critic.diagnosis(block)
        if found["findings"][0]["failure"] != "insufficient_evidence":
            return found
        made_up = {"failure": "plateau", "cites": ["sparse.trend"], "explanation": "Learning is slow."}
        return {"findings": [made_up], "advice": "Change the signal."}

    def propose(self, block: Json) -> Json:
        rng = random.Random(f"{self.seed}-{block['point']}-{_round(block)}")
        return {"proposals": self._harmful(block, rng) if self.style == "harmful" else _half(block, rng)}

    def rank(self, block: Json) -> Json:
        """Harm first, then in the order of the rules."""
        found = rules_ranker.ranking(block)
        harm = {item["id"]: origin(item["title"]) != "other" for item in block["proposals"]}
        return {**found, "order": sorted(found["order"], key=lambda key: not harm[key])}

    def _harmful(self, block: Json, rng: random.Random) -> list[Json]:
        """All of one family, of all families, or of all with exploration that destroys the policy."""
        kind = KINDS_OF_ANSWERS[(self.seed + _round(block)) % len(KINDS_OF_ANSWERS)]
        families = tuple(family for family in FAMILIES if kind in (family, "all", "destructive"))
        found = [*harmful(block, rng, block["candidates"], families), *harmful(block, rng, block["candidates"])]
        found = found[: block["candidates"]]
        if kind == "destructive":
            exploration = rng.choice(DESTRUCTIVE)
            found = [{**proposal, "exploration": exploration} for proposal in found]
        return found


def _half(block: Json, rng: random.Random) -> list[Json]:
    """Every proposal shares the exploration that the rules want."""
    own = rules_generator.proposals(block)["proposals"]
    exploration = own[0]["exploration"]
    mixed = blends(block, rng, block["candidates"]) if rng.random() < 0.5 else []
    if not mixed:
        mixed = [*own[: block["candidates"] // 2], *harmful(block, rng, block["candidates"])]
    return [{**proposal, "exploration": exploration} for proposal in mixed[: block["candidates"]]]


def _round(block: Json) -> int:
    """Of this intervention: what it has tried already is in the history."""
    return 1 + max((tried["round"] for tried in block["history"] if tried["point"] == block["point"]), default=-1)


_ANSWERS: dict[str, Callable[[Adversary, Json], Json]] = {
    "critic": Adversary.diagnose,
    "generator": Adversary.propose,
    "ranker": Adversary.rank,
}
