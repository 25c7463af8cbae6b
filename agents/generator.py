"""The Generator: K candidate signals, each a different idea of what would help."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ExpressionError, ModelAnswerError
from ..prompts.bounded import off_the_loop
from ..rl.signals.terms import TERM_KINDS, Term
from ..rl.stage import STAGES
from .llm.ledger import Call, Place
from .llm.model_call import Question, ledger_message
from .llm.models import RoleModel
from .llm.parse import json_schema
from .prompt_payload import Json, Payload, pictures, prompt_block
from .race_rules import RaceRules
from .schemas import Proposal, ProposalSet
from .small_prompts.questions import ask_for_proposals, question_of_size


@dataclass(frozen=True)
class Pool:
    """The proposals of all samples of a round.

    Attributes:
        proposals: of the valid answers, in the order of the samples.
        failed: number of a sample → why it gave no valid answer.
    """

    proposals: list[Proposal]
    failed: Mapping[int, ModelAnswerError]


async def propose(
    model: RoleModel,
    place: Place,
    payload: Payload,
    k: int,
    race: RaceRules | None = None,
    ladder: Sequence[float | None] = (None,),
    known: Sequence[Call] = (),
) -> Pool:
    """Ask for proposals: one question, put once for each temperature of the ladder, all at the same time.

    Each sample has its own retries, repair turn and fallbacks, and one that has failed is left out.

    Args:
        model: the Generator's.
        place: the adaptation point and round.
        payload: of `build_payload`, with the diagnosis and the history.
        k: most proposals of a sample.
        race: how they will race; None where the gate judges signals.
        ladder: the sampling temperature of each sample, None for the model's own.
        known: ledger rows of the same place: what has answered a sample there is not asked again.

    Raises:
        ModelAnswerError: no sample has a valid answer; the first one's, see `RoleModel.ask`.
    """
    question = await off_the_loop(generator_question, model, place, payload, k, race)

    async def answer(number: int, temperature: float | None) -> ProposalSet:
        sample = replace(question, place=replace(place, part=sample_part(number)), temperature=temperature)
        if (before := _answered_before(sample, known)) is not None:
            return before
        answered = await model.ask(sample)
        assert answered.parsed is not None  # no tools are offered
        return answered.parsed

    # All are waited for, also where one fails: they are paid for.
    answers = await asyncio.gather(*(answer(*sample) for sample in enumerate(ladder)), return_exceptions=True)
    proposals, failed = list[Proposal](), dict[int, ModelAnswerError]()
    for number, one in enumerate(answers):
        if isinstance(one, ModelAnswerError):
            failed[number] = one
        elif isinstance(one, BaseException):
            raise one
        else:
            proposals += one.proposals
    if len(failed) == len(ladder):
        raise failed[0]
    return Pool(proposals, failed)


def sample_part(number: int) -> str:
    """Return what the names of a sample's calls have besides the place; nothing for the first one."""
    return f"-s{number}" if number else ""


def _answered_before(sample: Question[ProposalSet], known: Sequence[Call]) -> ProposalSet | None:
    """Return the valid answer that `known` has to this very question, so that nobody pays for it twice."""
    messages = [ledger_message(message) for message in sample.messages()]
    for row in known:
        asked = row.id.startswith(f"{sample.place.question_id('generator')}-")
        if asked and row.parsed is not None and row.messages[: len(messages)] == messages:
            return ProposalSet.model_validate(row.parsed)
    return None


def generator_question(
    model: RoleModel, place: Place, payload: Payload, k: int, race: RaceRules | None = None
) -> Question[ProposalSet]:
    """Return the question that `propose` asks. Raises ModelAnswerError where the template fails on this data."""
    # The prompt's words and its block name the same limits.
    rule = STAGES[payload["evidence"]["stage"]]
    kinds = list(rule.kinds)
    rules = None if race is None else race.model_dump()
    limits = {"candidates": k, "term_kinds": kinds, "longest_decay_steps": rule.decay_steps, "race": rules}
    full = {
        "stage": payload["evidence"]["stage"],
        "schema": schema_of_kinds({*kinds, *(term["kind"] for term in payload["evidence"]["signal"]["terms"])}),
        "candidates": k,
        "term_kinds": kinds,
        "race": rules,
        "block": {**prompt_block(payload), "point": place.point, **limits},
        "pictures": pictures(payload),
    }

    def problems(answer: ProposalSet) -> list[str]:
        return proposal_problems(answer, payload, k, race)

    return question_of_size(model, place, ProposalSet, full, lambda: ask_for_proposals(payload, k), problems)


def schema_of_kinds(kinds: Collection[str]) -> Json:
    """Return the schema of proposals as a prompt shows it, with these kinds of terms alone.

    The others are made by fits, and may only stay where they are in force; each would take a page.
    """
    schema: Json = json_schema(ProposalSet)
    definitions, terms = schema["$defs"], schema["$defs"]["Proposal"]["properties"]["terms"]["items"]
    left_out = {term.__name__ for kind, term in TERM_KINDS.items() if kind not in kinds}
    refs = {f"#/$defs/{name}" for name in left_out}
    terms["oneOf"] = [item for item in terms["oneOf"] if item["$ref"] not in refs]
    mapping = terms["discriminator"]["mapping"]
    terms["discriminator"]["mapping"] = {kind: ref for kind, ref in mapping.items() if ref not in refs}
    for name in left_out:
        del definitions[name]
    # what only they are made of
    while unused := {name for name in definitions if f'"#/$defs/{name}"' not in json.dumps(schema)}:
        for name in unused:
            del definitions[name]
    return schema


def proposal_problems(answer: ProposalSet, payload: Payload, k: int, race: RaceRules | None = None) -> list[str]:
    """Return what a model can repair at once: too many proposals, unknown names, what the stage does not allow."""
    lines = []
    # The schema has one bound for every run; `k` is this round's.
    if len(answer.proposals) > k:
        lines.append(f"{len(answer.proposals)} proposals, at most {k} are asked for; leave the weakest out")
    # The gate judges a signal, so the control must explore as the candidates do. A race compares policies, whatever
    # brought them about.
    if race is None and len({proposal.exploration for proposal in answer.proposals}) > 1:
        lines.append("proposals differ in 'exploration', which every arm of a round shares; give all the same")
    for position, proposal in enumerate(answer.proposals):
        names = [term.name for term in proposal.terms]
        if len(set(names)) != len(names):
            lines.append(f"proposals[{position}]: term names must be unique, got {names!r}")
        for term in proposal.terms:
            problems = _term_problems(term, payload["evidence"])
            lines += [f"proposals[{position}]: term {term.name!r}: {problem}" for problem in problems]
    return lines


def _term_problems(term: Term, evidence: Json) -> Iterator[str]:
    stage, new = evidence["stage"], term.model_dump(mode="json")
    rule = STAGES[stage]
    # A term in force may stay as it is, or leave earlier, whatever the stage allows for new ones.
    in_force = next((row for row in evidence["signal"]["terms"] if _ingredients(row) == _ingredients(new)), None)
    if in_force is None and term.kind not in rule.kinds:
        yield f"kind {term.kind!r} is not allowed at stage {stage!r}; use one of {list(rule.kinds)!r}"
        return
    name, steps = term.fading_field, term.fades_over
    most = max(rule.decay_steps, (in_force or {}).get(name) or 0)
    if steps is not None and steps > most:
        yield f"{name} must be at most {most} at stage {stage!r}, got {steps!r}; lower it"
        return

    # What it reads must be in the evidence.
    try:
        reads = term.reads
    except ExpressionError as error:
        yield str(error)
        return
    features = [feature["name"] for feature in evidence["features"]]
    repeatable = {event["name"]: event["repeatable"] for event in evidence["events"]}
    yield from (f"{name!r} is no feature; use one of {features!r}" for name in sorted(reads.features - set(features)))
    for name in sorted(reads.events):
        if name not in repeatable:
            yield f"{name!r} is no event; use one of {list(repeatable)!r}"
        elif repeatable[name] and term.weight > 0 and term.pays_repeats:
            yield f"event {name!r} can be repeated without progress; bound it, or reward a potential instead"


def _ingredients(term: dict[str, Any]) -> dict[str, Any]:
    """Return what makes two terms the same: all but name, weight and duration."""
    apart = {"name", "weight", *(kind.fading_field for kind in TERM_KINDS.values())}
    return {key: value for key, value in term.items() if key not in apart}
