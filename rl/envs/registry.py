"""Tasks that come with cosignal, by the name that `task.name` takes. Imports nothing, since the config reads it."""

from __future__ import annotations

from typing import Literal, NamedTuple

ShippedName = Literal[
    "two_switch", "victim_rubble", "relay", "lbf", "rware", "mpe_spread", "mpe_speaker_listener", "pistonball"
]


class Extra(NamedTuple):
    """A task around an environment of a third-party package. The *sum* of its agents' rewards is the team's.

    Attributes:
        factory: "module:class" of a `Task`; its arguments have defaults, and one of them is `n_max`.
        extra: the extra of pip that installs the package.
    """

    factory: str
    extra: str


NATIVE = ("two_switch", "victim_rubble", "relay")  # compiled into one batch, not environments of PettingZoo
NATIVE_WITH_HEURISTIC = ("two_switch", "victim_rubble")

EXTRAS = {
    "lbf": Extra("cosignal.rl.envs.lbf:ForagingTask", "lbf"),
    "rware": Extra("cosignal.rl.envs.warehouse:WarehouseTask", "rware"),
    "mpe_spread": Extra("cosignal.rl.envs.mpe:SpreadTask", "mpe"),
    "mpe_speaker_listener": Extra("cosignal.rl.envs.mpe:SpeakerListenerTask", "mpe"),
    "pistonball": Extra("cosignal.rl.envs.pistonball:PistonballTask", "pistonball"),
}
