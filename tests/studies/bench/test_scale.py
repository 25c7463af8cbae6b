"""What `bench scale` says of a tiny run."""

from cosignal.studies.bench.branches import run_scale


def test_every_round_has_its_candidates_and_the_control() -> None:
    said: list[str] = []
    result = run_scale(said.append, candidates=(1, 3), horizon=2_048)
    metrics = result["metrics"]
    assert (result["name"], metrics["1"]["branches"], metrics["3"]["branches"], len(said)) == ("scale", 2, 4, 2)
    assert metrics["snapshot_bytes"] > 100_000
    assert metrics["3"]["cpu_s"] > metrics["3"]["cpu_s_per_branch"] > 0
