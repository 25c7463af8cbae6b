"""The signals of `adaptation.library`, as the Generator is shown them."""

from __future__ import annotations

from typing import Any

from ..agents.prompt_payload import UNFIT_EXAMPLES, Example, Payload
from ..config.identity import task_identity
from ..config.run_config import RunConfig
from .context import Context


def library_examples(config: RunConfig) -> list[Example]:
    """Return the library in its order; of signals with equal terms the first."""
    here, examples = task_identity(config.task), dict[str, Example]()
    for entry in config.adaptation.library:
        known: dict[str, Any] = {}
        if (origin := entry.origin) is not None:
            known = {"task": origin.task, "same_task": origin.task_identity == here, "seed": origin.seed}
            known |= {"proven": origin.claim, "gain": origin.gain, "gain_over_kick": origin.over_kick}
        shown = entry.signal.model_dump(include={"stage", "beta", "terms", "exploration"})
        examples.setdefault(entry.signal.shape_hash(), Example(title=entry.title, **known, **shown))
    return list(examples.values())


async def warn_of_unfit(ctx: Context, payload: Payload) -> None:
    """Tell the user, once, how many signals of the library are shown to nobody since they do not fit the task."""
    if unfit := payload.get("left_out", {}).get(UNFIT_EXAMPLES):
        await ctx.warn(
            "library",
            "signals of adaptation.library must name features, events and agents of this task, and no scorer of "
            f"another run, to be shown to the Generator, got {unfit} that do not; remove them",
        )
