"""The configuration of a run: `RunConfig` is the sum of the configs that sit beside their owners."""

from .run_config import RunConfig

__all__ = ["RunConfig"]
