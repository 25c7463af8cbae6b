"""The base of all configs. Imports neither torch nor LangChain."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A config is frozen, refuses unknown keys, and has finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
