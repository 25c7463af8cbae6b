"""A training line repeats itself, continues from a snapshot, and changes its signal as the laws of shaping say."""

from pathlib import Path

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.algorithms.ippo import IPPO
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.training.checkpoint import load_snapshot, save_snapshot
from cosignal.rl.training.line import TrainingLine
from training_lines import assert_same_state, small_config, trained

NEAR = {"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12"}
GOAL = {"name": "goal", "kind": "potential", "expression": "-dist_goal / 26"}


def signal(*terms: dict[str, object], **fields: object) -> Signal:
    return Signal.model_validate({"terms": terms, "scale": 2.0, **fields})


def test_same_seed_same_run_and_another_seed_another_run() -> None:
    one, other = trained(small_config(), 6), trained(small_config(), 6)
    assert_same_state(one, other)
    third = trained(small_config(seed=2), 6)
    assert third.history != one.history


def test_a_wrapped_task_gives_the_same_curves_as_the_batch() -> None:
    wrapped = small_config().model_copy(
        update={"task": TaskConfig(env="cosignal.rl.envs.two_switch:TwoSwitchEnv", team_reward="mean", agent_ids=False)}
    )
    batch = small_config().model_copy(update={"task": TaskConfig(name="two_switch")})
    native, other = trained(batch, 8), trained(wrapped, 8)
    assert native.history == other.history
    for name, value in native.learner.state_dict().items():
        assert np.array_equal(value, other.learner.state_dict()[name]), name


def test_a_snapshot_continues_bit_for_bit(tmp_path: Path) -> None:
    line = trained(small_config(), 4)
    save_snapshot(line, tmp_path / "update_000000004", {"steps_evaluation": 12})
    copy = TrainingLine(small_config())
    assert load_snapshot(copy, tmp_path / "update_000000004") == {"steps_evaluation": 12}
    assert_same_state(line, copy)
    assert copy.last_rollout_text() == line.last_rollout_text()
    for _ in range(3):
        line.update()
        copy.update()
    assert_same_state(line, copy)


def test_a_signal_whose_weights_are_zero_changes_nothing() -> None:
    plain, shaped = trained(small_config(), 2), trained(small_config(), 2)
    shaped.apply_signal(signal({**NEAR, "weight": 0.0}))
    for line in (plain, shaped):
        line.update()
    for name, value in plain.learner.state_dict().items():
        assert np.array_equal(value, shaped.learner.state_dict()[name]), name


def advantages(line: TrainingLine) -> np.ndarray:
    """Of the next rollout, under the line's signal, without learning from it."""
    line.step = line.collector.collect(line.learner, line.step)
    rollout, rewards = line.collector.rollout, line.rewards()
    assert isinstance(line.learner, IPPO)
    (batch,) = line.learner.batches(rollout, rewards.shape(rollout), rewards)
    return line.learner.advantages(0, batch)[0].numpy()


def test_a_potential_that_enters_acts_and_would_not_if_the_critic_were_offset_by_it() -> None:
    plain, entered, corrected = (trained(small_config(), 3) for _ in range(3))
    entered.apply_signal(signal(NEAR))
    corrected.apply_signal(signal(NEAR))
    corrected.offsets.append(signal({**NEAR, "weight": -1.0}))  # V' = V − βΦ, which the line never does
    base, with_it, offset = advantages(plain), advantages(entered), advantages(corrected)
    assert np.abs(with_it - base).max() > 0.05
    assert offset == pytest.approx(base, abs=1e-5)


def test_a_potential_that_leaves_is_offset_exactly_and_changes_no_advantage() -> None:
    kept, removed = (trained(small_config(), 2) for _ in range(2))
    for line in (kept, removed):
        line.apply_signal(signal(NEAR, GOAL))
        line.update()
    removed.apply_signal(signal(GOAL, scale=2.0))
    assert advantages(removed) == pytest.approx(advantages(kept), abs=1e-5)
    assert len(removed.offsets) == 1 and not kept.offsets


ANNEALED = {**NEAR, "anneal_steps": 1000}  # eight updates


def annealing_lines(updates: int) -> tuple[TrainingLine, TrainingLine]:
    """The same line under a potential that stays, and under one that anneals, for `updates` updates."""
    kept, annealed = trained(small_config(), 2), trained(small_config(), 2)
    kept.apply_signal(signal(NEAR, GOAL))
    annealed.apply_signal(signal(ANNEALED, GOAL))
    for line in (kept, annealed):
        for _ in range(updates):
            line.update()
    return kept, annealed


def weights(line: TrainingLine) -> np.ndarray:
    state = line.learner.state_dict()
    return np.concatenate([state[name].ravel() for name in state if name.endswith(("weight", "bias"))])


def test_annealing_changes_no_advantage_and_no_update() -> None:
    """V′ = V + (w − w_now)Φ: half annealed or gone, the line learns what it learns under the potential that stays."""
    kept, annealed = annealing_lines(5)
    assert advantages(annealed) == pytest.approx(advantages(kept), abs=1e-5)
    kept, annealed = annealing_lines(12)
    assert annealed.signal_age > 1000
    assert not any(x.any() for x in annealed.rewards().shape(annealed.collector.rollout).per_term[0])
    assert weights(annealed) == pytest.approx(weights(kept), abs=1e-5)
    assert [row["returns"] for row in annealed.history] == pytest.approx(
        [row["returns"] for row in kept.history], nan_ok=True
    )


def test_without_the_offset_annealing_would_change_what_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.rl.training.line.annealed_potential", lambda *_: None)
    kept, uncorrected = annealing_lines(5)
    assert np.abs(advantages(uncorrected) - advantages(kept)).max() > 0.05


@pytest.mark.parametrize("then", ["goes", "stays", "stays weaker", "goes on annealing"])
def test_replacing_a_half_annealed_potential_changes_no_advantage(then: str) -> None:
    kept, annealed = annealing_lines(4)
    terms = {"goes": [], "stays": [ANNEALED], "stays weaker": [{**ANNEALED, "weight": 0.1}]}
    terms["goes on annealing"] = [{**ANNEALED, "weight": 0.488}]  # 1 − 4 · 128 / 1000: nothing is left to leave
    annealed.apply_signal(signal(GOAL, *terms[then]))
    assert advantages(annealed) == pytest.approx(advantages(kept), abs=1e-5)
    left = {"goes": [0.512, 0.488], "stays": [0.512], "stays weaker": [0.512, 0.388], "goes on annealing": [0.512]}
    assert [o.terms[0].weight for o in annealed.offsets] == pytest.approx(left[then])
    if then == "stays":
        assert annealed.signal.terms[1].weight == pytest.approx(0.488)


def test_a_half_annealed_potential_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    _, line = annealing_lines(4)
    line.apply_signal(signal(GOAL, ANNEALED))
    line.update()
    save_snapshot(line, tmp_path / "update_000000007")
    copy = TrainingLine(small_config())
    load_snapshot(copy, tmp_path / "update_000000007")
    for _ in range(3):
        line.update()
        copy.update()
    assert_same_state(line, copy)


def test_an_adopted_state_brings_its_counters_and_past_but_not_the_steps_trained(tmp_path: Path) -> None:
    _, early = annealing_lines(4)
    save_snapshot(early, tmp_path / "update_000000006")
    first = advantages(early)
    past = (
        early.update_index,
        early.steps_main,
        early.history,
        early.best_return,
        early.seen_range,
        early.signal_start,
    )
    line = trained(small_config(seed=5), 9)
    load_snapshot(line, tmp_path / "update_000000006", adopted=True)
    assert past == (
        line.update_index, line.steps_main, line.history, line.best_return, line.seen_range, line.signal_start
    )  # fmt: skip
    assert line.steps_trained == 9 * 128
    assert line.signal_age == 4 * 128
    assert np.array_equal(advantages(line), first)
    assert line.signal == early.signal


def test_a_state_of_an_older_version_counts_what_was_not_adopted_as_trained() -> None:
    line = trained(small_config(), 5)
    arrays, data = line.state_dict()
    del data["steps_trained"]
    data["steps_adopted"] = 2 * 128
    line.load_state_dict(arrays, data)
    assert (line.steps_main, line.steps_trained) == (5 * 128, 3 * 128)


def test_scale_is_frozen_on_recorded_states_when_a_signal_comes_in() -> None:
    line = trained(small_config(), 4)
    applied = line.apply_signal(signal(NEAR, scale=None))
    values = np.concatenate(
        [x.ravel() for x in line.compiled.potential(line.recorder.recorded(line.episodes).features)]
    )
    assert applied.scale is not None
    low, high = line.return_range
    assert applied.scale * (values.max() - values.min()) == pytest.approx(high - low, rel=0.1)
    assert trained(small_config(), 0).apply_signal(signal(NEAR, scale=None)).scale == 1.0  # nothing recorded yet


def test_an_unknown_feature_is_refused_before_anything_changes() -> None:
    line = trained(small_config(), 1)
    with pytest.raises(SignalError, match="dist_gaol"):
        line.check_signal(signal({**GOAL, "expression": "-dist_gaol"}))
    assert line.signal.terms == ()


def test_exploration_kicks_once_and_keeps_the_entropy() -> None:
    line = trained(small_config(), 2)
    head = line.learner.networks[0].actor.layers[-1].weight.detach().clone()
    line.explore(Exploration(entropy=0.03, kick=0.5))
    assert np.allclose(line.learner.networks[0].actor.layers[-1].weight.detach(), head * 0.5)
    assert line.signal.exploration == Exploration(entropy=0.03)
    line.explore(Exploration())
    line.update()
    assert line.learner.entropy_coef == 0.03


def test_every_environment_step_is_counted() -> None:
    line = trained(small_config(), 5)
    assert (line.update_index, line.steps_main) == (5, 5 * 8 * 16)


def test_the_shortest_rollout_trains() -> None:
    line = trained(small_config(rollout=2), 3)
    assert line.steps_main == 3 * 8 * 2


def test_best_and_first_window_and_the_seen_range_are_kept() -> None:
    line = trained(small_config(envs=128, rollout=64), 14)  # 8192 steps an update
    assert line.start_return is not None
    assert line.best_return is not None
    assert line.best_return >= line.start_return
    frozen = line.seen_range
    assert frozen is not None
    assert frozen[0] >= -1.0 - 1e-5
    line.episodes.ring["returns"][:] = 99.0
    line.update()
    assert line.seen_range == frozen  # after two windows it stays


def test_of_a_task_that_cannot_be_repeated_no_running_episode_goes_on(tmp_path: Path) -> None:
    line = trained(small_config(), 3)
    line.spec = line.spec.model_copy(update={"deterministic": False})
    save_snapshot(line, tmp_path / "update_000000003")
    assert line.episodes.running["length"].any()
    load_snapshot(line, tmp_path / "update_000000003")
    assert not line.episodes.running["length"].any()
    assert (line.episodes.running["first.0"] == -1).all()


def test_a_time_limit_that_is_learned_as_an_end_stays_a_time_limit_in_words() -> None:
    """The rollout says terminated, of which shaping and learner know; what models read says what happened."""
    task = TaskConfig(name="two_switch", n_max=5)
    for limit in ("truncation", "termination"):
        line = trained(small_config(time_limit=limit).model_copy(update={"task": task}), 1)
        rollout = line.collector.rollout
        assert rollout.done.any()
        assert (rollout.terminated == (rollout.done if limit == "termination" else 0)).all()
        told = "\n".join(line.last_rollout_text()["episode"])
        assert told.endswith("cut by the time limit")


def test_rewards_are_counted_and_kept_where_they_are_standardised() -> None:
    """Of Two-Switch, whose rewards are -0.01 but for a switch now and then."""
    config = small_config(ippo={"standardise_rewards": True, "minibatches": 2})
    line = trained(config, 3)
    assert isinstance(line.learner, IPPO)
    number, total, squares = line.learner.reward_scale.moments
    assert number == line.steps_main
    assert line.learner.reward_scale.value == pytest.approx((squares / number - (total / number) ** 2) ** -0.5)
    arrays, data = line.state_dict()
    copy = TrainingLine(config)
    copy.load_state_dict(arrays, data)
    assert_same_state(line, copy)
    # a snapshot of an older version has no such numbers
    copy.load_state_dict({name: x for name, x in arrays.items() if name != "learner/moments"}, data)
    assert isinstance(copy.learner, IPPO) and copy.learner.reward_scale.value == 1.0
