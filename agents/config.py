"""Which model answers for which role, and the limits of a run. Imports no provider."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..rl.config import Config

Role = Literal["critic", "generator", "ranker"]


class ModelConfig(Config):
    """`provider: rules` is the embedded default and no language model. Any other name goes to LangChain's
    `init_chat_model`. The key is named, never written: `api_key_env` is an environment variable."""

    provider: str = "rules"
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    temperature: float | None = Field(default=None, ge=0, le=2)
    timeout_s: float = Field(default=60.0, gt=0)


class LimitsConfig(Config):
    """Hard limits of a run, all roles together. Reaching one stops adaptation, not training."""

    calls: int = Field(default=200, ge=1)
    tokens: int = Field(default=500_000, ge=1)
    requests_per_minute: Annotated[int, Field(ge=1)] = 60
    concurrency: int = Field(default=4, ge=1)


class LLMConfig(Config):
    """One model for every role, or one a role."""

    default: ModelConfig = ModelConfig()
    critic: ModelConfig | None = None
    generator: ModelConfig | None = None
    ranker: ModelConfig | None = None
    limits: LimitsConfig = LimitsConfig()

    def for_role(self, role: Role) -> ModelConfig:
        config: ModelConfig | None = getattr(self, role)
        return config or self.default
