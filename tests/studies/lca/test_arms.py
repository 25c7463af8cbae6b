"""Arms of the LCA study."""

from __future__ import annotations

from cosignal.studies.lca.arms import ENTROPY, TASKS, arms_of, training_config


def test_arms_of_a_task_share_their_settings() -> None:
    for task in TASKS.values():
        for arm in arms_of(3, task):
            config = training_config(task, arm, 3)
            ppo = [getattr(config.trainer, name).model_copy(update={"entropy": 0.0}) for name in ("ippo", "mappo")]
            assert ppo[0].model_dump() == ppo[1].model_dump()
            assert (config.trainer.steps, config.seed) == (task.steps, 3)
    assert not set(ENTROPY) & set(arms_of(3, TASKS["pistonball"]))
