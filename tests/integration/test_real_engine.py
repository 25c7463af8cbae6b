"""The loop against a real engine that answers in the schemas and means nothing by it (`make test-engine`).

llama.cpp's Python server honours a schema in one way only: as the parameters of a tool that must be called.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cosignal
import pytest
import random_engine
from cosignal import RunConfig, RunView
from cosignal.agents.config import LimitsConfig, ModelConfig
from cosignal.agents.generator import Pool, propose
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.llm.models import RoleModel
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.prompt_payload import build_payload
from cosignal.agents.schemas import Diagnosis, Proposal
from cosignal.errors import InvalidAnswer, ProviderError
from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.signals.check import CheckReport, check_signal
from cosignal.rl.signals.signal import Signal
from cosignal.testing import early_evidence
from cosignal.testing.fake_run import fake_run_spec, random_transitions
from pydantic import ValidationError
from scipy import stats
from short_runs import SHORT

# One event loop: langchain-openai keeps connections for a whole process, and those of a loop that is closed fail.
pytestmark = [
    pytest.mark.engine, pytest.mark.integration, pytest.mark.timeout(1800), pytest.mark.asyncio(loop_scope="module")
]  # fmt: skip

QUESTIONS = 150  # each with up to two answers
LEVEL, LUCK = 0.1, 1e-3  # the gate's, as shipped; the chance that a right gate fails here
FREE = {"calls": 100_000, "tokens": 10**9, "usd": 1e6, "requests_per_minute": 10**6}
DIAGNOSIS = {"findings": [{"failure": "plateau", "cites": ["sparse.trend"], "explanation": "flat"}]}

Tell = Callable[[str], None]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if lacking := random_engine.missing():
        pytest.fail(lacking)
    folder, [group] = tmp_path_factory.mktemp("engine"), fake_run_spec().groups
    words = random_engine.words_of(group.feature_names(), group.event_names())
    model = random_engine.write_model(folder / "nonsense.gguf", words, seed=1)
    with random_engine.served(model, folder / "server.log") as base_url:
        yield base_url


@pytest.fixture
def tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Tell:
    """Shows what was counted, also where the test passes."""
    reporter = request.config.pluginmanager.getplugin("terminalreporter")

    def told(line: str) -> None:
        with capsys.disabled():
            reporter.write_line(f"\n{request.node.name}: {line}")

    return told


def engine(url: str, **changes: Any) -> dict[str, Any]:
    told = {"structured": "function_calling", "temperature": 1.0, "timeout_s": 300, "deadline_s": 900, "retries": 0}
    return {"provider": "openai", "model": "nonsense", "base_url": url, "max_output_tokens": 4_000, **told, **changes}


async def test_senseless_answers_end_as_proposals_or_as_invalid_answers(url: str, tell: Tell) -> None:
    rows: list[Call] = []
    door = CallBudget(LimitsConfig.model_validate(FREE))
    model = RoleModel("generator", ModelConfig.model_validate(engine(url)), door, rows.append)
    context = build_payload(Evidence.model_validate(early_evidence()), [], Diagnosis.model_validate(DIAGNOSIS))
    ends: list[Pool | InvalidAnswer] = []
    for number in range(QUESTIONS):
        try:
            ends.append(await propose(model, Place(number, 0), context, 4))
        except InvalidAnswer as error:  # nothing else may come out
            ends.append(error)
    made = [proposal for end in ends if isinstance(end, Pool) for proposal in end.proposals]
    reports = checked(made)
    passed = sum(not report.problems for report in reports)
    written = sum(map(proposals_in, rows))
    tell(f"{len(rows)} answers with {written} proposals, within the schema's bounds {sum(map(of_schema, rows))}")
    tell(f"outcomes {dict(Counter(row.outcome for row in rows))}; to check {len(made)}, refused {len(made) - passed}")
    assert {row.outcome for row in rows} == {"ok", "repaired", "invalid"}
    assert all(isinstance(json.loads(row.raw), dict) for row in rows)  # the grammar holds
    assert written >= 200
    assert passed > 0


async def test_whole_runs_end_and_the_gate_accepts_no_more_than_its_level(tmp_path: Path, url: str, tell: Tell) -> None:
    """The Generator is the engine alone; the others have the rules behind it, else little would reach the gate."""
    helped = engine(url, fallback=[{"provider": "rules"}])
    roles = {"critic": {"provider": "rules"}, "ranker": helped, "default": engine(url)}
    views = [await played(tmp_path, seed, roles, interval=256) for seed in range(1, 4)]
    told(views, tell)
    judged = [row for view in views for row in view.decisions() if row.detail.judgements]
    accepted = sum(row.verdict == "accept" for row in judged)
    tell(f"{len(judged)} interventions judged by the gate, {accepted} accepted at level {LEVEL}")
    assert len(judged) >= 20
    assert stats.binom.sf(accepted - 1, len(judged), LEVEL) > LUCK
    assert sum(view.status()["promotions"] for view in views) <= accepted


async def test_all_roles_senseless_with_tools_and_no_fallback_the_run_still_ends(
    tmp_path: Path, url: str, tell: Tell
) -> None:
    view = await played(tmp_path, 8, {"default": engine(url)}, interval=1_280, evidence_calls=3)
    told([view], tell)
    assert len(view.decisions()) >= 5
    assert {call.provider for call in view.calls()} == {"openai"}


async def test_the_servers_refusal_of_a_json_schema_is_an_error_of_ours(url: str) -> None:
    rows: list[Call] = []
    config = ModelConfig.model_validate(engine(url, structured="json_schema"))
    model = RoleModel("generator", config, CallBudget(LimitsConfig()), rows.append)
    context = build_payload(Evidence.model_validate(early_evidence()), [], Diagnosis.model_validate(DIAGNOSIS))
    with pytest.raises(ProviderError, match="response_format"):
        await propose(model, Place(0, 0), context, 4)
    assert [row.outcome for row in rows] == ["error"]


async def test_auto_finds_out_that_the_server_takes_no_json_schema(url: str) -> None:
    rows: list[Call] = []
    config = ModelConfig.model_validate(engine(url, structured="auto"))
    model = RoleModel("generator", config, CallBudget(LimitsConfig()), rows.append)
    context = build_payload(Evidence.model_validate(early_evidence()), [], Diagnosis.model_validate(DIAGNOSIS))
    with pytest.raises(InvalidAnswer):  # nothing bounds what it says then
        await propose(model, Place(0, 0), context, 4)
    # A repair turn follows where the answer was not cut by the engine's context.
    assert [row.structured for row in rows][:2] == ["json_schema", "prompt"]


# ---------------------------------------------------------------- parts


def checked(made: Sequence[Proposal]) -> list[CheckReport]:
    """As the loop does it: what has come before is refused."""
    spec = fake_run_spec()
    recorded, in_force, before, reports = random_transitions(spec), Signal(scale=1.0), set[str](), []
    for one in made:
        signal = Signal(beta=one.beta, terms=tuple(one.terms), exploration=one.exploration)
        reports.append(check_signal(signal, spec, recorded, in_force, before))
        before = before | {signal.proposal_hash()}
    return reports


def proposals_in(row: Call) -> int:
    return len(json.loads(row.raw)["proposals"])


def of_schema(row: Call) -> int:
    """How many proposals of an answer pydantic takes; grammars know no bounds of numbers."""
    return sum(is_of_schema(proposal) for proposal in json.loads(row.raw)["proposals"])


def is_of_schema(proposal: Any) -> bool:
    try:
        Proposal.model_validate(proposal)
    except ValidationError:
        return False
    return True


async def played(folder: Path, seed: int, llm: dict[str, Any], interval: int, evidence_calls: int = 0) -> RunView:
    adaptation = {"interval": interval, "patience": interval, "max_share": 0.98, "evidence_calls": evidence_calls}
    changes = {
        "seed": seed,
        "run_dir": folder / "runs",
        "llm": {**llm, "limits": FREE},
        "adaptation": {**SHORT["adaptation"], **adaptation},
        "gate": {"claim": "signal", "level": LEVEL, "looks": [4, 6]},
    }
    async with cosignal.start(RunConfig.model_validate({**SHORT, **changes})) as run:
        result = await run.result()
    assert result.state == "done"
    return RunView(result.path)


def told(views: Sequence[RunView], tell: Tell) -> None:
    calls = [row for view in views for row in view.calls()]
    proposals = [row for view in views for row in view.proposals()]
    verdicts = [row.verdict for view in views for row in view.decisions()]
    tell(f"calls {dict(Counter((call.role, call.provider, call.outcome) for call in calls))}")
    tell(f"{len(proposals)} proposals, refused by check {sum(bool(row.problems) for row in proposals)}")
    tell(f"verdicts {dict(Counter(verdicts))}")
    outcomes = {call.outcome for call in calls}
    assert outcomes <= {"ok", "repaired", "invalid", "tool_call"}
