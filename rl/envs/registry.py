"""Tasks that come with cosignal, by the name that `task.name` takes. Imports nothing, since the config reads it."""

from __future__ import annotations

from typing import Literal, NamedTuple

ShippedName = Literal[
    "two_switch", "victim_rubble", "relay",
    "lbf", "lbf_original", "rware", "rware_original", "mpe_spread", "mpe_speaker_listener", "pistonball",
]  # fmt: skip


class Extra(NamedTuple):
    """A task around an environment of a third-party package. The *sum* of its agents' rewards is the team's.

    Attributes:
        factory: "module:class" of a `Task`; its arguments have defaults, and one of them is `n_max`.
        extra: the extra of pip that installs the package.
    """

    factory: str
    extra: str


GRIDS = ("two_switch", "victim_rubble", "relay")  # games of two agents, each of whom is paid the team's reward
COMPILED = ("lbf", "rware")  # tasks of other packages, whose rules were written anew
NATIVE = (*GRIDS, *COMPILED)  # compiled into one batch, not environments of PettingZoo
NATIVE_WITH_HEURISTIC = ("two_switch", "victim_rubble")

EXTRAS = {
    "lbf_original": Extra("cosignal.rl.envs.lbf.original:OriginalForagingTask", "lbf"),
    "rware_original": Extra("cosignal.rl.envs.rware.original:OriginalWarehouseTask", "rware"),
    "mpe_spread": Extra("cosignal.rl.envs.mpe:SpreadTask", "mpe"),
    "mpe_speaker_listener": Extra("cosignal.rl.envs.mpe:SpeakerListenerTask", "mpe"),
    "pistonball": Extra("cosignal.rl.envs.pistonball:PistonballTask", "pistonball"),
}
WITH_ARGUMENTS = (*COMPILED, *EXTRAS)  # those that `task.env_args` go with
