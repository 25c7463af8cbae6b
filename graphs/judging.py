"""Asking the Ranker's model about what a run has recorded, for the kinds of signals that follow its judgements.

    judgements.jsonl    every question that was answered, once: asked at no later point, nor by a loop that was killed

Under the overlap clock the trainer goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from ..agents.judge import JudgeSetting, judge
from ..agents.llm.ledger import Place
from ..rl.experience.transition_sample import TransitionSample
from ..rl.ipc.messages import TrainerStatus
from ..rl.signals.learned.config import FitKind
from ..rl.signals.learned.judged import judged_kinds, questions_for
from ..rl.signals.learned.judged_config import JudgedConfig
from ..rl.signals.learned.judgements import JudgeQuestion, answers_of, append_judgements, read_judgements
from ..runs.visits import JUDGE_PART
from .asking import write_as_they_come
from .branches import snapshot_of
from .context import Context

JUDGEMENTS = "judgements.jsonl"  # in the run directory


async def ask_judge(ctx: Context, point: int, status: TrainerStatus, kinds: Sequence[FitKind], seed: int) -> bool:
    """Ask what is open at this point for the kinds that a model judges for; return whether there are such kinds.

    Args:
        ctx: what nodes use.
        point: the adaptation point.
        status: the trainer's there, whose snapshot has what was recorded.
        kinds: that are to be fitted.
        seed: of the fit, which asks for the same.

    Raises:
        BudgetExhausted, ModelAnswerError: see `agents.judge.judge`. What was answered before is kept.
        FitError: the file of judgements is broken.
    """
    config, spec = ctx.config.learned_signals, ctx.spec
    by_model = judged_kinds(kinds, config, "model")
    if not by_model:
        return False
    path = ctx.run_dir / JUDGEMENTS
    judgements = await asyncio.to_thread(read_judgements, path)
    # what this point asks is the same after a stop; what is answered of it is left out below
    earlier, known = answers_of([x for x in judgements if x.point < point]), answers_of(judgements)
    recorded = await asyncio.to_thread(
        TransitionSample.load, ctx.run_dir / snapshot_of(status) / "recorded.safetensors", spec
    )
    # two kinds may ask the same
    wanted: dict[JudgeQuestion, int] = {}
    for kind in by_model:
        settings = config.of(kind)
        assert isinstance(settings, JudgedConfig)
        asked = await asyncio.to_thread(questions_for, kind, spec, recorded, settings, seed, earlier)
        for question in asked:
            if question not in known:
                wanted.setdefault(question, settings.batch)
    for batch in dict.fromkeys(wanted.values()):
        questions = [question for question, size in wanted.items() if size == batch]
        setting = JudgeSetting(spec.description, spec.agents)
        requests = judge(ctx.models.judge, Place(point, part=JUDGE_PART), setting, questions, batch)
        await write_as_they_come(ctx, requests, partial(append_judgements, path))
    return True
