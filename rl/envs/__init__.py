"""Tasks: `make_task` gives the batch that a config names, `task_spec` what may be said about it."""

from .factory import make_task, task_spec

__all__ = ["make_task", "task_spec"]
