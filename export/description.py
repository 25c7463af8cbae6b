"""What `policy.json` and `policy.safetensors` of an export hold; `policy` reads them.

policy.json   format, and where the policy comes from
              stochastic: whether the run evaluated it by drawing actions
              networks: name → outputs, epsilon, kind, activation, layers; of a cnn image and convolutions
              agents: name → network, observation (its parts: keys, shape, divisor, sizes and starts of
              choices), id, present, action
"""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Discrete, MultiDiscrete
from torch import Tensor, nn

from ..rl.algorithms.learner import ActingNetwork
from ..rl.algorithms.networks.cnn import CHANNELS, CNN
from ..rl.algorithms.networks.factory import Network
from ..rl.algorithms.networks.gru import GRU
from ..rl.envs.pettingzoo.declared import GroupLayout, Layout
from ..rl.envs.pettingzoo.spaces import ActionSpace, ObservationSpace, ObservedPart
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
                "epsilon": acting.epsilon,
                **_described_network(acting.network),
            }
            for n, acting in enumerate(networks)
        },
        "agents": agents,
    }


def policy_weights(networks: list[ActingNetwork]) -> Arrays:
    """Return the weights by the names that `policy` documents, float32."""
    tensors: dict[str, Tensor] = {}
    for n, acting in enumerate(networks):
        for part, layer in _layers(acting.network).items():
            tensors |= {f"{_name(n)}.{part}.{name}": tensor for name, tensor in layer.named_parameters()}
        if acting.std is not None:
            tensors[f"{_name(n)}.std"] = acting.std
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def sees_presence(acting: ActingNetwork) -> bool:
    """Return whether the last number of a network's input is the sign of an agent that is there."""
    return acting.network.inputs > acting.members.spec.obs_size


def _described_network(network: Network) -> dict[str, Any]:
    """Return of what kind and size a network is."""
    if isinstance(network, CNN):
        more = {"kind": "cnn", "image": list(network.image), "convolutions": len(CHANNELS)}
        return _described_network(network.linear) | more
    kind = "gru" if isinstance(network, GRU) else "mlp"
    return {"kind": kind, "activation": network.activation.__name__, "layers": len(network.linears)}


def _layers(network: Network) -> dict[str, nn.Module]:
    """Return the layers of a network by the names that `policy` documents."""
    linear = network.linear if isinstance(network, CNN) else network
    layers: dict[str, nn.Module] = {f"layer_{number}": layer for number, layer in enumerate(linear.linears)}
    if isinstance(network, CNN):
        layers |= {f"convolution_{number}": layer for number, layer in enumerate(network.convolutions)}
    if isinstance(network, GRU):
        layers |= {"cell": network.cell, "head": network.head}
    return layers


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
    """Return the parts of what is observed: the keys to each, its shape and divisor, and of choices their numbers and
    first ones.
    """
    return {"parts": [_described_part(part) for part in observations.parts]}


def _described_part(part: ObservedPart) -> dict[str, Any]:
    space, sizes, starts = part.space, list[int](), list[int]()
    if isinstance(space, Discrete):
        sizes, starts = [int(space.n)], [int(space.start)]
    elif isinstance(space, MultiDiscrete):
        sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
    described = {"keys": list(part.keys), "shape": list(space.shape or ()), "divisor": part.divisor}
    return described | {"sizes": sizes, "starts": starts}


def described_action(actions: ActionSpace, spec: GroupSpec) -> dict[str, Any]:
    """Return number, first one and names of choices, or bounds, shape and dtype of a Box."""
    if not spec.continuous:
        return {"choices": actions.n, "start": actions.start, "names": list(spec.action_names)}
    low, high = zip(*actions.bounds, strict=True)
    return {"low": list(low), "high": list(high), "shape": list(actions.shape), "dtype": actions.dtype}
