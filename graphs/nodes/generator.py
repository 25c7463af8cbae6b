"""generator: candidate signals for the diagnosis."""

from __future__ import annotations

from langgraph.runtime import Runtime

from ...agents.generator import propose
from ...agents.llm.ledger import Call, Place
from ...agents.schemas import Proposal
from ...errors import ModelAnswerError
from ..asking import MAX_REASON_CHARS, diagnosed_payload, end_without_answer
from ..context import Context
from ..history import proposal_records
from ..library import library_examples, warn_of_unfit
from ..state import State


async def generator(state: State, runtime: Runtime[Context]) -> State:
    """Ask for up to `adaptation.candidates` proposals; the history says what earlier rounds have shown.

    Signals of `adaptation.library` are shown as examples. Proposals that were fitted at this point, to rankings or to
    episodes, take the first places in the first round, and the model is asked for so many fewer. With `llm.samples` the
    model is asked so often, and the proposals of all answers are pooled; `check` finds twins among them, and lets no
    more pass than `adaptation.candidates`.
    """
    ctx, learned = runtime.context, state.get("learned")
    found = [*([] if learned is None else [learned]), *state.get("fitted", [])] if state["round"] == 0 else []
    proposals = [Proposal.model_validate(proposal) for proposal in found][: ctx.config.adaptation.candidates]
    missing, ladder = ctx.config.adaptation.candidates - len(proposals), ctx.config.llm.ladder
    failed: dict[int, str] = {}
    if missing > 0:
        place = Place(state["point"], state["round"])
        # A run that was stopped here may have answers of some samples already.
        here = {"role": "generator", "point": place.point, "round": place.round}
        known = await ctx.store.read(Call, **here) if len(ladder) > 1 else []
        try:
            async with ctx.recording_calls():
                payload = await diagnosed_payload(ctx, state, library_examples(ctx.config))
                await warn_of_unfit(ctx, payload)
                race = ctx.config.race_rules()
                pool = await propose(ctx.models.generator, place, payload, missing, race, ladder, known)
        except ModelAnswerError as error:
            return await end_without_answer(ctx, state, error)
        proposals += pool.proposals
        failed = {
            number: f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS] for number, error in pool.failed.items()
        }
    # The ids are those of point, round and position: a node that runs again replaces its own rows.
    records = proposal_records(state, proposals)
    await ctx.store.write(*records)
    ids = [record.id for record in records]
    note = {"proposals": ids} | ({"samples_without_answer": failed} if failed else {})
    return {"proposals": ids, "passed": [], "ranked": [], "note": note}
