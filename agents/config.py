"""The section `llm` of a run's config: which model answers for which role, and the limits. Imports no provider."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from ..rl.base_config import Config, UserPath

Role = Literal["critic", "generator", "ranker"]
ROLES: tuple[Role, ...] = get_args(Role)
Structured = Literal["auto", "json_schema", "function_calling", "json_mode", "prompt"]
PromptSize = Literal["auto", "full", "small"]

FULL_PROMPT_TOKENS = 16_000  # of the longest full prompt, about


def can_rank_transitions(provider: str) -> bool:
    """Tell whether a provider may be asked about single agents' moves.

    The embedded rules are no language model and do not read states in words: where they are all there is, moves are
    ranked by the task's heuristic or not at all.
    """
    return provider != "rules"


class PriceConfig(Config):
    """US dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class ModelConfig(Config):
    """A model and how it is asked.

    `provider: rules` is the embedded default and no language model. Any other name goes to LangChain's
    `init_chat_model`. The key is named, never written: `api_key_env` is an environment variable.

    Attributes:
        timeout_s: of one attempt.
        deadline_s: of the whole question, with every attempt, wait, repair and fallback. Each model gets an equal part
            of what is left, a fallback's own bounds its part, and rules are asked in any case.
        retries: further attempts after a failure that may pass, for each turn.
        max_output_tokens: of one answer, thinking included; a call reserves as many of the run's budget.
        structured: how the answer's schema reaches the provider besides the prompt; `auto` chooses.
        prompt_size: which of the package's templates asks; `auto` is small where `context_tokens` has no room for a
            full prompt and an answer. A fallback is asked what the role's own model is, and rules the full prompt.
        context_tokens: the model's context, prompt and answer together; None where it is not known.
        logprobs: the provider is asked for the probabilities of what it writes, from which the Ranker takes its votes
            on moves.
        price: where it is not given, the table of the package genai-prices is asked, if that is installed.
        fallback: models that are asked the same question, one after the other, where this one does not answer it.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # somebody may write a key where its name belongs

    # Which model, and where.
    provider: str = "rules"
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    temperature: float | None = Field(default=None, ge=0, le=2)
    # How long, how often, how much.
    timeout_s: float = Field(default=60.0, gt=0)
    deadline_s: float = Field(default=300.0, gt=0)
    retries: int = Field(default=2, ge=0, le=10)
    max_output_tokens: int = Field(default=16_000, ge=1)
    # What is sent beside the prompt.
    structured: Structured = "auto"
    prompt_size: PromptSize = "auto"
    context_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    price: PriceConfig | None = None
    fallback: tuple[ModelConfig, ...] = Field(default=(), max_length=4)

    @property
    def small_prompts(self) -> bool:
        """Whether it is asked by small prompts; rules never are."""
        if self.provider == "rules" or self.prompt_size != "auto":
            return self.provider != "rules" and self.prompt_size == "small"
        return self.context_tokens is not None and self.context_tokens < FULL_PROMPT_TOKENS + self.max_output_tokens

    @field_validator("base_url")
    @classmethod
    def _holds_no_password(cls, url: str | None) -> str | None:
        if url is None:
            return url
        # Parts that may hold a secret come first: such a value is not repeated.
        if "@" in url:
            raise ValueError("must hold no user or password, got one; name a variable with the key by api_key_env")
        if "?" in url or "#" in url:
            raise ValueError("must hold no query, got one; name a variable with the key by api_key_env")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"must be an address that starts with http:// or https://, got {url!r}; write it in full")
        return url

    @field_validator("fallback")
    @classmethod
    def _is_one_chain(cls, chain: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
        for position, model in enumerate(chain):
            if model.fallback:
                names = [further.model or further.provider for further in model.fallback]
                raise ValueError(f"must be one list, got {names!r} below entry {position}; put them behind it instead")
        return chain


class LimitsConfig(Config):
    """Hard limits of a run, all roles together. Reaching one stops adaptation, not training.

    `usd` counts calls whose price is known. `tokens_per_minute`, `requests_per_minute` and `concurrency` only delay.
    """

    # Budgets.
    calls: int = Field(default=200, ge=1)
    tokens: int = Field(default=500_000, ge=1)
    usd: float = Field(default=5.0, gt=0)
    # Pace.
    requests_per_minute: Annotated[int, Field(ge=1)] = 60
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrency: int = Field(default=4, ge=1)


class PromptPaths(Config):
    """Prompt templates of the user's own, one a role; `docs/prompts.md` says what one looks like."""

    critic: UserPath | None = None
    generator: UserPath | None = None
    ranker: UserPath | None = None


class LLMConfig(Config):
    """One model for every role, or one a role.

    Attributes:
        samples: how often the Generator is asked the same question in a round, at once; the answers are pooled.
        sample_temperatures: the sampling temperature of each of them; empty: all at the model's own.
        tracing: whether prompts go to the hosted tracing service that LangSmith's variables name. Off, they do not,
            whatever the environment asks.
    """

    default: ModelConfig = ModelConfig()
    critic: ModelConfig | None = None
    generator: ModelConfig | None = None
    ranker: ModelConfig | None = None
    limits: LimitsConfig = LimitsConfig()
    prompts: PromptPaths = PromptPaths()
    samples: int = Field(default=1, ge=1, le=8)
    sample_temperatures: tuple[Annotated[float, Field(ge=0, le=2)], ...] = ()
    tracing: bool = False

    @field_validator("sample_temperatures")
    @classmethod
    def _is_one_a_sample(cls, ladder: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        samples = info.data.get("samples", len(ladder))  # missing where it is wrong itself
        if ladder and len(ladder) != samples:
            raise ValueError(
                f"must have one temperature for each of llm.samples = {samples}, got {list(ladder)!r}; write as many, "
                "or none for the model's own"
            )
        return ladder

    @property
    def ladder(self) -> tuple[float | None, ...]:
        """The sampling temperature of each sample of the Generator, None for the model's own."""
        return self.sample_temperatures or (None,) * self.samples

    def for_role(self, role: Role) -> ModelConfig:
        """Return the role's own model."""
        config: ModelConfig | None = getattr(self, role)
        return config or self.default

    def chain(self, role: Role) -> tuple[ModelConfig, ...]:
        """Return the role's own model, then its fallbacks."""
        head = self.for_role(role)
        return (head, *head.fallback)

    def prompt_path(self, role: Role) -> Path | None:
        """Return the file of the role's template, None for that of this package."""
        path: Path | None = getattr(self.prompts, role)
        return path
