"""The declared value of being done: distances of the grid tasks have it where the thing is handled and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.rl.envs.relay import map as relay
from cosignal.rl.envs.relay.spec import relay_spec
from cosignal.rl.envs.two_switch import map as two_switch
from cosignal.rl.envs.two_switch.spec import two_switch_spec
from cosignal.rl.envs.victim_rubble import map as victim_rubble
from cosignal.rl.envs.victim_rubble.spec import victim_rubble_spec
from cosignal.rl.task import TaskSpec

# By task: the bits of the flags that must be set before a distance is done.
BITS = {
    "two_switch": {"dist_switch_a": 1, "dist_switch_b": 2, "dist_nearest_open_switch": 3},
    "victim_rubble": {
        "dist_free_victim": 1, "dist_blocked_victim": 2, "dist_rubble_1": 4, "dist_rubble_2": 8, "dist_rubble_3": 16,
    },
    "relay": {"dist_lever_1": 1, "dist_lever_2": 2, "dist_lever_3": 4, "dist_lever_4": 8},
}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "task_map"),
    [(two_switch_spec(), two_switch), (victim_rubble_spec(), victim_rubble), (relay_spec(), relay)],
    ids=list(BITS),
)
def test_a_distance_is_done_where_its_thing_is_handled(spec: TaskSpec, task_map: Any) -> None:
    tables = task_map.kernel_tables().features  # [agent, flags, pose, feature]
    poses = [task_map.MAP.number(*pose) for pose in task_map.standing_poses()]
    declared = {feature.name: feature.done for group in spec.groups for feature in group.features}
    assert {name for name, done in declared.items() if done is not None} == BITS[spec.name].keys()
    flags = np.arange(tables.shape[1])
    for name, bits in BITS[spec.name].items():
        column = tables[:, :, poses, task_map.FEATURE_NAMES.index(name)]
        handled = (flags & bits) == bits
        np.testing.assert_array_equal(column == declared[name], np.broadcast_to(handled[:, None], column.shape))
