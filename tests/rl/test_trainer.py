"""The trainer in this process: what it counts, and what it logs of a promotion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosignal.rl.branches.fork import run_branch
from cosignal.rl.ipc import messages as m
from cosignal.rl.metrics import read_counter, read_signals
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.trainer import Trainer
from cosignal.rl.training import TrainingLine
from training_lines import UPDATE, small_config

NEAR = {"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12"}


@contextmanager
def trainer(run_dir: Path) -> Iterator[Trainer]:
    """Started, and left without a checkpoint, as a killed one leaves."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / "training.json").write_text(small_config().model_dump_json())
    found = Trainer(run_dir)
    found._start()
    yield found
    found._counters()
    found.writer.close()
    found.board.close()
    found.server.close()


def updates(found: Trainer, number: int) -> None:
    for _ in range(number):
        found._update()


def test_steps_trained_again_after_a_crash_are_counted_apart_and_once(tmp_path: Path) -> None:
    with trainer(tmp_path) as first:
        updates(first, 5)
    with trainer(tmp_path) as second:
        assert second.steps_repeated == 0  # nothing has been trained again yet
        updates(second, 3)
        assert second.steps_repeated == 3 * UPDATE
    with trainer(tmp_path) as third:
        updates(third, 7)  # 5 again, and 2 new ones
        assert third.steps_repeated == 3 * UPDATE + 5 * UPDATE
        assert third.line.steps_main == 7 * UPDATE
    assert read_counter(tmp_path / "trainer.db", "steps_repeated") == str(8 * UPDATE)


def test_an_adopted_state_brings_its_signal_without_another_kick(tmp_path: Path) -> None:
    with trainer(tmp_path) as found:
        updates(found, 2)
        found._checkpoint()
        fork, shaped = "checkpoints/update_000000002", Signal.model_validate({"terms": [NEAR]})
        job = m.BranchJob(
            key="k", fork=fork, start=fork, arm="p", signal=shaped, exploration=Exploration(entropy=0.03, kick=0.5),
            seed=1, horizon=3 * UPDATE, evaluation_seed=3, evaluation_episodes=4, end_state="branches/k",
        )  # fmt: skip
        result = run_branch(TrainingLine(small_config()), tmp_path, job)
        asked = result.signal.model_copy(update={"exploration": job.exploration})
        reply = found.handle(m.Promote(key="p", base_version=0, signal=asked, adopt="branches/k"))
        assert reply == m.PromoteReply(version=1, applied_at_update=2, steps_main=5 * UPDATE, repeated=False)
        updates(found, 1)  # asked again later, it answers what was so then
        again = found.handle(m.Promote(key="p", base_version=0, signal=asked, adopt="branches/k"))
        assert again == m.PromoteReply(version=1, applied_at_update=2, steps_main=5 * UPDATE, repeated=True)
        line = found.line
        assert (line.update_index, line.steps_main, line.steps_adopted) == (6, 6 * UPDATE, 3 * UPDATE)
        assert line.signal.exploration == Exploration(entropy=0.03)  # the branch has had the kick
        assert (line.signal.version, line.signal.scale) == (1, result.signal.scale)


def test_a_signal_without_a_scale_is_logged_with_the_scale_it_gets(tmp_path: Path) -> None:
    with trainer(tmp_path) as found:
        updates(found, 3)
        found.handle(m.Promote(key="p", base_version=0, signal=Signal.model_validate({"terms": [NEAR]})))
        assert found.line.signal.scale is not None
        assert read_signals(tmp_path / "trainer.db")[1].signal.scale == found.line.signal.scale


def test_the_signal_of_a_config_may_kick_at_the_start() -> None:
    plain = TrainingLine(small_config())
    kicked = small_config()
    kicked = kicked.model_copy(
        update={"signal": kicked.signal.model_copy(update={"exploration": Exploration(kick=0.5)})}
    )
    one, other = (line.learner.networks[0].actor[-1].weight.detach() for line in (plain, TrainingLine(kicked)))
    assert (other == one * 0.5).all()
