"""How a reply ended, in the words of every provider: as it should, cut at its length, withheld, or failed."""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.messages import AIMessage

Ending = Literal["whole", "cut", "withheld", "failed"]

# Where the packages keep the reason. `incomplete_details` is that of OpenAI's responses.
_PLACES = ("finish_reason", "stop_reason", "done_reason", "stopReason", "finishReason", "incomplete_details")
_ENDINGS: dict[Ending, frozenset[str]] = {
    "cut": frozenset(
        {"length", "max_tokens", "max_output_tokens", "max_length", "model_length", "max_new_tokens", "token_limit",
         "model_context_window_exceeded", "context_length", "max_completion_tokens"}
    ),
    "withheld": frozenset(
        {"content_filter", "content_filtered", "refusal", "safety", "guardrail_intervened", "prohibited_content",
         "blocklist", "spii", "recitation", "error_toxic", "sensitive", "moderation"}
    ),
    "failed": frozenset({"error", "network_error", "insufficient_system_resource", "abort", "aborted", "cancelled"}),
}  # fmt: skip


def end_reason(message: AIMessage) -> str | None:
    """Return why the provider says that it ended the reply, as it writes it."""
    for place in _PLACES:
        value: Any = message.response_metadata.get(place)
        value = value.get("reason") if isinstance(value, dict) else value
        if isinstance(value, str) and value:
            return value
    return None


def ending(message: AIMessage) -> Ending:
    """Return how the reply ended. A reply that is nothing but a refusal is withheld, whatever the reason says."""
    reason = (end_reason(message) or "").lower().rpartition(".")[2]  # some packages write `FinishReason.MAX_TOKENS`
    if refusal(message) and not message.text.strip() and not message.tool_calls:
        return "withheld"
    return next((ending for ending, reasons in _ENDINGS.items() if reason in reasons), "whole")


def refusal(message: AIMessage) -> str:
    """Return the words of a refusal, empty where there is none."""
    value = message.additional_kwargs.get("refusal")
    parts = [part.get("refusal") for part in message.content if isinstance(part, dict)]
    return next((text for text in (value, *parts) if isinstance(text, str) and text), "")
