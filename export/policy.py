"""A policy that was trained with cosignal, for plain PyTorch. It needs torch, numpy and safetensors, and nothing else.

    policy = Policy.load("folder")
    actions = policy.act(observations)                 # greedy: {agent: action}, as the environment takes them
    actions = policy.act(observations, sample=True)    # drawn; the seed given to `load` or `seed` repeats the draws
    actions = policy.act(observations, masks)          # masks: {agent: [U]}, 1 where an action is allowed

`policy.json` says which network serves an agent, how its observation becomes numbers, and what its actions are.
`policy.safetensors` holds the weights:

    network_N.layer_L.weight   [outputs, inputs] of layer L of network N
    network_N.layer_L.bias     [outputs]
    network_N.std              [k] standard deviations, where an action is k numbers
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import linear

FORMAT = 1
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}
OBSERVATION, MASK = "observation", "action_mask"  # keys of an observation that brings its mask along


class Network(nn.Module):
    """Linear layers with an activation between them: [..., inputs] → [..., outputs].

    Attributes:
        outputs: logits of choices, values of choices, or means of numbers in -1..1.
        epsilon: share of random actions where values are sampled, 0..1.
        std: [k] standard deviations of the numbers, None for choices.
    """

    def __init__(self, name: str, description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.outputs, self.epsilon = description["outputs"], float(description["epsilon"])
        self.activation = ACTIVATIONS[description["activation"]]
        layers = [f"{name}.layer_{n}" for n in range(description["layers"])]
        self.weights = nn.ParameterList([weights[f"{layer}.weight"] for layer in layers])
        self.biases = nn.ParameterList([weights[f"{layer}.bias"] for layer in layers])
        self.std = weights.get(f"{name}.std")

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.weights) - 1
        for n, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = linear(x, weight, bias)
            if n < last:
                x = self.activation(x)
        return x


class Policy:
    """The networks of all agents.

    Attributes:
        description: the content of `policy.json`.
        agents: name → the agent's part of it.
        networks: name → network.
        stochastic: whether the run evaluated it by drawing actions; a policy by values is evaluated greedily.
    """

    def __init__(
        self, description: dict[str, Any], weights: Mapping[str, Tensor], seed: int = 0, device: str = "cpu"
    ) -> None:
        if description.get("format") != FORMAT:
            raise ValueError(
                f"policy.json must have format {FORMAT}, got {description.get('format')!r}; use the policy.py that was "
                "exported with it"
            )
        self.description, self.device = description, torch.device(device)
        self.agents: dict[str, dict[str, Any]] = description["agents"]
        self.stochastic: bool = description["stochastic"]
        self.networks = {
            name: Network(name, network, weights).requires_grad_(False).to(self.device)
            for name, network in description["networks"].items()
        }
        self.generator = torch.Generator()  # on the CPU, so that a seed draws the same on every device
        self.seed(seed)

    @classmethod
    def load(cls, folder: str | Path, seed: int = 0, device: str = "cpu") -> Policy:
        """Read `policy.json` and `policy.safetensors`.

        Args:
            folder: of the export.
            seed: of the actions that are drawn.
            device: where the networks live, as torch names it.
        """
        description = json.loads((Path(folder) / "policy.json").read_text(encoding="utf-8"))
        return cls(description, load_file(Path(folder) / "policy.safetensors"), seed, device)

    def seed(self, seed: int) -> None:
        """Draw actions from the stream of this seed from now on."""
        self.generator.manual_seed(seed)

    # ------------------------------------------------------------ acting

    def act(
        self, observations: Mapping[Any, Any], masks: Mapping[Any, Any] | None = None, *, sample: bool = False
    ) -> dict[Any, Any]:
        """Choose an action for each agent that observes something.

        Args:
            observations: agent → what the environment shows it; with its mask, if that is how the environment gives it.
            masks: agent → [U], 1 where an action is allowed, for agents whose mask comes elsewhere (PettingZoo:
                `infos[agent]["action_mask"]`). Whoever has none may do everything.
            sample: draw from the policy instead of taking the best action. A policy by values then explores as in
                training: with probability ε it takes any allowed action.

        Returns:
            Agent → an int, or an array of the shape and dtype of the agent's Box.

        Raises:
            ValueError: an agent is not known, an observation or a mask is none of its.
        """
        outputs, actions = self.outputs(observations), dict[Any, Any]()
        for agent, output in outputs.items():
            described, network = self.agents[str(agent)], self.networks[self.agents[str(agent)]["network"]]
            if network.std is not None:
                numbers = output + network.std.cpu() * self._normal(output) if sample else output
                actions[agent] = box_action(described["action"], numbers.numpy())
                continue
            observed = observations[agent]
            mask = observed.get(MASK) if isinstance(observed, Mapping) else (masks or {}).get(agent)
            choice = self._choice(network, output, allowed(agent, mask, len(output)), sample)
            actions[agent] = choice + int(described["action"]["start"])
        return actions

    @torch.no_grad()
    def outputs(self, observations: Mapping[Any, Any]) -> dict[Any, Tensor]:
        """Return what the networks say, agent → [U] logits or values, or [k] means; masks play no part.

        Agents come in the order of `policy.json`, so that draws do not depend on that of the observations.
        """
        if unknown := [agent for agent in observations if str(agent) not in self.agents]:
            raise ValueError(f"agents must be among {list(self.agents)}, got {unknown}; leave out who is not trained")
        places = {name: place for place, name in enumerate(self.agents)}
        present = sorted(observations, key=lambda agent: places[str(agent)])
        outputs: dict[Any, Tensor] = {}
        # the agents that share a network go through it at once
        for name, network in self.networks.items():
            mine = [agent for agent in present if self.agents[str(agent)]["network"] == name]
            if mine:
                rows = np.stack([network_input(agent, self.agents[str(agent)], observations[agent]) for agent in mine])
                outputs.update(zip(mine, network(torch.from_numpy(rows).to(self.device)).cpu(), strict=True))
        return {agent: outputs[agent] for agent in present}

    def _choice(self, network: Network, output: Tensor, may: Tensor, sample: bool) -> int:
        """Return the number of a choice, from logits or values [U] and what is allowed [U]."""
        scores = output.masked_fill(~may, -torch.inf)
        weights = torch.softmax(scores, -1)
        if network.outputs == "values":
            explores = sample and float(torch.rand((), generator=self.generator)) < network.epsilon
            sample, weights = explores, may.float()
        if not sample:
            return int(scores.argmax())
        return int(torch.multinomial(weights, 1, generator=self.generator))

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator)


# ---------------------------------------------------------------- observations, masks, actions


def network_input(agent: Any, described: Mapping[str, Any], observed: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return one agent's input, float32 [inputs]: its observation flat, its one-hot number, a 1 for being there.

    The last two are only there where `policy.json` says so. Choices in an observation become one-hot.
    """
    space = described["observation"]
    numbers = np.asarray(observed[OBSERVATION] if isinstance(observed, Mapping) else observed)
    if list(numbers.shape) != space["shape"] and not (numbers.size == 1 and not space["shape"]):
        raise ValueError(
            f"agent {agent!r} must observe numbers of shape {tuple(space['shape'])}, got {numbers.shape}; give what "
            "the environment shows it"
        )
    flat = numbers.ravel()
    if space["sizes"]:
        choices = flat - np.array(space["starts"])
        if (choices < 0).any() or (choices >= space["sizes"]).any():
            raise ValueError(f"agent {agent!r} must observe choices within {space['sizes']}, got {flat.tolist()}")
        flat = np.concatenate([np.eye(size)[int(choice)] for size, choice in zip(space["sizes"], choices, strict=True)])
    present = [1.0] if described["present"] else []
    return np.concatenate([flat.astype(np.float32), np.array([*described["id"], *present], np.float32)])


def allowed(agent: Any, mask: Any, choices: int) -> Tensor:
    """Return which of an agent's choices are allowed, bool [U]; all of them where there is no mask."""
    may = torch.ones(choices, dtype=torch.bool) if mask is None else torch.from_numpy(np.array(mask, np.bool_))
    if may.shape != (choices,) or not may.any():
        raise ValueError(
            f"the mask of {agent!r} must allow at least one of {choices} actions, got {may.int().tolist()}"
        )
    return may


def box_action(box: Mapping[str, Any], numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an action of a Box, from k numbers of the policy, which are clipped to -1..1.

    In a Box of floats -1 is the lowest and 1 the highest number. In one of integers each has an equal part of -1..1.
    """
    parts = (np.clip(numbers.astype(np.float64), -1.0, 1.0) + 1) / 2  # of the way from the lowest to the highest
    bounds = list(zip(box["low"], box["high"], strict=True))
    if np.dtype(box["dtype"]).kind in "biu":
        # Python's own integers, since the number of those between two of 64 bits has 65
        steps = [min(int(part * (high - low + 1)), high - low) for part, (low, high) in zip(parts, bounds, strict=True)]
        whole = [low + step for step, (low, _) in zip(steps, bounds, strict=True)]
        return np.array(whole, box["dtype"]).reshape(box["shape"])
    low, high = np.array(bounds, np.float64).T
    scaled = np.clip(low + (high - low) * parts, low, high)
    return np.asarray(scaled.reshape(box["shape"]).astype(box["dtype"]))
