"""A provider that takes its time, over real HTTP: a question ends at its deadline, and fallbacks have what is left."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from asking import GOOD, asked, built, config, parsed, question
from cosignal.agents.config import LimitsConfig, ModelConfig, PriceConfig
from cosignal.agents.critic import diagnose
from cosignal.agents.llm import endpoint
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.llm.models import RoleModel
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.prompt_payload import build_payload
from cosignal.agents.schemas import Diagnosis
from cosignal.errors import ProviderError
from cosignal.rl.evidence.schema import Evidence
from cosignal.testing import MisbehavingServer, stuck_evidence
from cosignal.testing.server import Behaviour, drips, hangs, refuses, says

pytestmark = pytest.mark.usefixtures("quick_and_keyed")

# ---------------------------------------------------------------- time


@pytest.mark.parametrize("behaviour", [hangs, drips])
async def test_whoever_does_not_answer_in_time_is_given_up(behaviour: Behaviour) -> None:
    rows: list[Call] = []
    with MisbehavingServer(behaviour) as server:
        result = await asked(server, rows, timeout_s=0.15, retries=1)
    assert isinstance(result, ProviderError)
    assert "timeout_s 0.15" in str(result)
    assert [(row.outcome, row.error_class) for row in rows] == [("error", "TimeoutError")] * 2


async def test_the_deadline_ends_everything_fallbacks_too() -> None:
    rows: list[Call] = []
    with MisbehavingServer(hangs) as server:
        result = await asked(server, rows, timeout_s=30, deadline_s=0.3, retries=10, fallback=(config(server),))
    assert isinstance(result, ProviderError)
    assert "its part of llm deadline_s" in str(result)
    assert [(row.fallback, row.error_class) for row in rows] == [(0, "TimeoutError"), (1, "TimeoutError")]


async def test_a_model_that_hangs_leaves_time_for_its_fallback() -> None:
    rows: list[Call] = []
    with MisbehavingServer(hangs) as first, MisbehavingServer(says(GOOD)) as second:
        end = await asked(first, rows, timeout_s=30, deadline_s=2.0, retries=10, fallback=(config(second),))
    assert parsed(end)
    assert [(row.fallback, row.outcome) for row in rows] == [(0, "error"), (1, "ok")]


async def test_the_rules_answer_also_where_the_deadline_is_over() -> None:
    rows: list[Call] = []
    with MisbehavingServer(hangs) as server:
        told = config(server, timeout_s=30, deadline_s=0.2, fallback=(config(server), ModelConfig()))
        model = await built(RoleModel("critic", told, CallBudget(LimitsConfig()), rows.append))
        assert isinstance(
            await diagnose(model, Place(3), build_payload(Evidence.model_validate(stuck_evidence()))), Diagnosis
        )
    assert [(row.fallback, row.outcome) for row in rows] == [(0, "error"), (1, "error"), (2, "ok")]


async def test_a_model_that_is_not_set_up_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(endpoint, "build_chat_model", lambda told: released.wait(30))
    with MisbehavingServer(says(GOOD)) as server:
        model = RoleModel("critic", config(server, deadline_s=0.1), CallBudget(LimitsConfig()), [].append)
        with pytest.raises(ProviderError, match="not set up within llm deadline_s"):
            await model.ask(question())
        released.set()
        assert server.requests == []


async def _cut_off(server: MisbehavingServer, rows: list[Call], budget: CallBudget, ready: Callable[[], bool]) -> None:
    task = asyncio.create_task(asked(server, rows, budget))
    while not ready():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_is_cut_off_has_its_row_and_its_charge() -> None:
    """Its id is its own: the node that asks again in a resumed run does not write over it."""
    rows, budget = list[Call](), CallBudget(LimitsConfig())
    with MisbehavingServer(hangs) as server:
        await _cut_off(server, rows, budget, lambda: bool(server.requests))
    [row] = rows
    assert (row.outcome, row.error_class) == ("error", "CancelledError")
    assert row.id.startswith("p16-r1-critic-t0-a0-cut")
    assert row.charged_tokens == budget.tokens == (12 + 14) // 4


async def test_what_is_cut_off_at_the_door_is_not_charged() -> None:
    rows, budget = list[Call](), CallBudget(LimitsConfig(concurrency=1))
    with MisbehavingServer(says(GOOD)) as server:
        async with budget.slot(remote=True):
            await _cut_off(server, rows, budget, budget._slots.locked)
        assert server.requests == []
    assert [(row.error_class, row.charged_tokens) for row in rows] in ([], [("CancelledError", 0)])
    assert budget.tokens == 0


async def test_a_fallback_has_what_is_left_or_its_own_deadline() -> None:
    rows: list[Call] = []
    with MisbehavingServer(refuses(401)) as first, MisbehavingServer(hangs) as second:
        quick = config(second, deadline_s=0.2)
        result = await asked(first, rows, fallback=(quick, quick))
    told = re.search(r"within the ([0-9.]+) s that were its part of llm deadline_s", str(result))
    assert told is not None and 0.1 < float(told[1]) <= 0.2  # its own deadline, less what its set-up took
    assert [row.fallback for row in rows] == [0, 1, 2]


async def test_a_wait_beyond_the_deadline_is_not_waited_for() -> None:
    rows: list[Call] = []
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    for said in ("3600", later):
        with MisbehavingServer(refuses(429, said)) as server:
            result = await asked(server, rows)
        assert isinstance(result, ProviderError)
        assert "Retry-After" in str(result) and "deadline_s" in str(result)
        assert len(server.requests) == 1


async def test_waiting_for_the_door_does_not_count_as_timeout_but_ends_with_the_deadline() -> None:
    """One request a minute: the second call has no turn before the deadline, and the server is not asked."""
    budget, rows = CallBudget(LimitsConfig(requests_per_minute=1)), list[Call]()
    with MisbehavingServer(says(GOOD)) as server:
        assert parsed(await asked(server, rows, budget))
        result = await asked(server, rows, budget, timeout_s=0.01, deadline_s=0.2)
    assert isinstance(result, ProviderError)
    assert "requests_per_minute" in str(result)
    assert len(server.requests) == 1
    assert [row.outcome for row in rows] == ["ok", "error"]
    assert budget.calls == 1


# ---------------------------------------------------------------- fallbacks


async def test_a_fallback_is_asked_the_original_question_and_the_ledger_names_it() -> None:
    rows: list[Call] = []
    with (
        MisbehavingServer(says("no")) as first,
        MisbehavingServer(refuses(401)) as second,
        MisbehavingServer(says(GOOD)) as third,
    ):
        price = PriceConfig(input=100, output=1000)
        chain = (config(second, model="b"), config(third, model="c", price=price, max_output_tokens=100))
        assert parsed(await asked(first, rows, fallback=chain))
    outcomes = [(row.fallback, row.outcome, row.model) for row in rows]
    assert outcomes == [(0, "invalid", "tiny-1"), (0, "invalid", "tiny-1"), (1, "error", "b"), (2, "ok", "tiny-1")]
    assert [row.id[-2:] for row in rows] == ["a0", "a1", "a2", "a3"]
    assert third.requests[0]["messages"] == first.requests[0]["messages"]
    assert rows[0].cost_usd is None
    assert rows[3].cost_usd == pytest.approx((11 * 100 + 3 * 1000) / 1e6)


async def test_the_rules_may_be_the_last_resort() -> None:
    """With no language model they still need evidence to answer from."""
    rows: list[Call] = []
    with MisbehavingServer(refuses(500)) as server:
        model = RoleModel("critic", config(server, fallback=(ModelConfig(),)), CallBudget(LimitsConfig()), rows.append)
        assert isinstance(
            await diagnose(model, Place(3), build_payload(Evidence.model_validate(stuck_evidence()))), Diagnosis
        )
    assert [(row.provider, row.outcome, row.cost_usd) for row in rows] == [
        ("openai", "error", None), ("openai", "error", None), ("openai", "error", None), ("rules", "ok", 0.0)
    ]  # fmt: skip
