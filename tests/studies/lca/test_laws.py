"""The laws of LCA's method."""

from __future__ import annotations

import pytest
from cosignal.studies.lca import laws as lca_laws
from cosignal.studies.lca.laws import law_rows


@pytest.mark.usefixtures("one_thread")
def test_the_laws_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lca_laws, "PAIRS", 500)
    assert {row["id"]: row["verdict"] for row in law_rows([1])} == dict.fromkeys(("T-1", "T-2", "T-3"), "reproduced")
