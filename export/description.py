"""What `policy.json` and `policy.safetensors` of an export hold; `policy` reads them.

policy.json   format, and where the policy comes from
              stochastic: whether the run evaluated it by drawing actions
              networks: name → outputs, activation, layers, epsilon
              agents: name → network, observation (shape; sizes and starts of choices), id, present, action
"""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Discrete, MultiDiscrete
from torch import Tensor

from ..rl.algorithms.learner import ActingNetwork
from ..rl.envs.pettingzoo.declared import GroupLayout, Layout
from ..rl.envs.pettingzoo.spaces import ActionSpace, ObservationSpace
from ..rl.task import Arrays, GroupSpec
from .policy import FORMAT


def described_policy(networks: list[ActingNetwork], layout: Layout, origin: dict[str, Any]) -> dict[str, Any]:
    """Return the content of `policy.json`.

    Args:
        networks: those that choose actions.
        layout: says how observations become their inputs, and their outputs actions.
        origin: where the policy comes from, as plain data.
    """
    agents = {}
    for n, acting in enumerate(networks):
        group, spec = layout.groups[acting.members.group], acting.members.spec
        for i in range(len(spec.agents))[acting.members.agents]:
            agents[spec.agents[i]] = {"network": _name(n), **described_agent(acting, group, spec, i)}
    return {
        "format": FORMAT,
        **origin,
        "stochastic": networks[0].outputs != "values",
        "networks": {
            _name(n): {
                "outputs": acting.outputs,
                "activation": acting.network.activation.__name__,
                "layers": len(acting.network.linears),
                "epsilon": acting.epsilon,
            }
            for n, acting in enumerate(networks)
        },
        "agents": agents,
    }


def policy_weights(networks: list[ActingNetwork]) -> Arrays:
    """Return the weights by the names that `policy` documents, float32."""
    tensors: dict[str, Tensor] = {}
    for n, acting in enumerate(networks):
        for number, layer in enumerate(acting.network.linears):
            tensors[f"{_name(n)}.layer_{number}.weight"] = layer.weight
            tensors[f"{_name(n)}.layer_{number}.bias"] = layer.bias
        if acting.std is not None:
            tensors[f"{_name(n)}.std"] = acting.std
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def sees_presence(acting: ActingNetwork) -> bool:
    """Return whether the last number of a network's input is the sign of an agent that is there."""
    return acting.network.linears[0].in_features > acting.members.spec.obs_size


def _name(n: int) -> str:
    return f"network_{n}"


def described_agent(acting: ActingNetwork, group: GroupLayout, spec: GroupSpec, i: int) -> dict[str, Any]:
    """Return how the observation of agent i of a group becomes its network's input, and the output its action."""
    return {
        "observation": described_observation(group.observations),
        "id": group.identity[i].tolist(),
        "present": sees_presence(acting),
        "action": described_action(group.actions, spec),
    }


def described_observation(observations: ObservationSpace) -> dict[str, Any]:
    """Return the shape of what is observed, and where it is choices, their numbers and first ones."""
    space, sizes, starts = observations.space, list[int](), list[int]()
    if isinstance(space, Discrete):
        sizes, starts = [int(space.n)], [int(space.start)]
    elif isinstance(space, MultiDiscrete):
        sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
    return {"shape": list(space.shape or ()), "sizes": sizes, "starts": starts}


def described_action(actions: ActionSpace, spec: GroupSpec) -> dict[str, Any]:
    """Return number, first one and names of choices, or bounds, shape and dtype of a Box."""
    if not spec.continuous:
        return {"choices": actions.n, "start": actions.start, "names": list(spec.action_names)}
    low, high = zip(*actions.bounds, strict=True)
    return {"low": list(low), "high": list(high), "shape": list(actions.shape), "dtype": actions.dtype}
