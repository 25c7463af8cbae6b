"""A policy that was trained with cosignal, for plain PyTorch. It needs torch, numpy and safetensors, and nothing else.

    policy = Policy.load("folder")
    actions = policy.act(observations)                 # greedy: {agent: action}, as the environment takes them
    actions = policy.act(observations, sample=True)    # drawn; the seed given to `load` or `seed` repeats the draws
    actions = policy.act(observations, masks)          # masks: {agent: [U]}, 1 where an action is allowed
    policy.reset()                                     # at the start of each episode: recurrent networks remember

`policy.json` says which network serves an agent, how its observation becomes numbers, and what its actions are.
`policy.safetensors` holds the weights:

    network_N.layer_L.weight         [outputs, inputs] of linear layer L of network N
    network_N.layer_L.bias           [outputs]
    network_N.convolution_L.weight   [channels, channels before, 3, 3] of a `cnn`, before the linear layers; stride 2
    network_N.convolution_L.bias     [channels]
    network_N.cell.…                 of a `gru`, as `torch.nn.GRUCell` names them, after the linear layers
    network_N.head.…                 of a `gru`, the linear layer after the cell
    network_N.std                    [k] standard deviations, where an action is k numbers
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
from torch.nn.functional import conv2d, linear

FORMAT = 2
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}
OBSERVATION, MASK = "observation", "action_mask"  # keys of an observation that brings its mask along


class Network(nn.Module):
    """Linear layers with an activation between them; convolutions before them, or a recurrent unit after them.

    Attributes:
        outputs: logits of choices, values of choices, or means of numbers in -1..1.
        epsilon: share of random actions where values are sampled, 0..1.
        std: [k] standard deviations of the numbers, None for choices.
        state_size: H, numbers that a recurrent network remembers; 0 of another one.
    """

    def __init__(self, name: str, description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.outputs, self.epsilon = description["outputs"], float(description["epsilon"])
        self.kind: str = description["kind"]
        self.image: list[int] = description.get("image", [])
        self.activation = ACTIVATIONS[description["activation"]]
        self.layers = [f"layer_{n}" for n in range(description["layers"])]
        self.convolutions = [f"convolution_{n}" for n in range(description.get("convolutions", 0))]
        # names of parameters have no dots
        mine = {key.removeprefix(f"{name}."): x for key, x in weights.items() if key.startswith(f"{name}.")}
        self.weights = nn.ParameterDict({key.replace(".", "_"): x for key, x in mine.items()})
        self.state_size = mine["cell.weight_hh"].shape[1] if self.kind == "gru" else 0

    @property
    def std(self) -> Tensor | None:
        std: Tensor | None = self.weights.get("std", None)
        return std

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs [N, outputs] for inputs [N, inputs], and the next states; states are [N, H]."""
        if self.kind == "cnn":
            height, width, channels = self.image
            pixels = x[:, : height * width * channels].reshape(-1, height, width, channels).permute(0, 3, 1, 2)
            for name in self.convolutions:
                weight, bias = self.weights[f"{name}_weight"], self.weights[f"{name}_bias"]
                pixels = torch.relu(conv2d(pixels, weight, bias, stride=2, padding=1))
            x = torch.cat([pixels.flatten(1), x[:, height * width * channels :]], -1)
        for name in self.layers:
            x = linear(x, self.weights[f"{name}_weight"], self.weights[f"{name}_bias"])
            if self.kind == "gru" or name != self.layers[-1]:
                x = self.activation(x)
        if self.kind == "gru":
            cell = [self.weights[f"cell_{part}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            state = torch.gru_cell(x, state, *cell)
            x = linear(state, self.weights["head_weight"], self.weights["head_bias"])
        return x, state


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
        self.states: dict[str, Tensor] = {}  # of agents with recurrent networks, [H]
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

    def reset(self) -> None:
        """Begin a new episode: what recurrent networks remember is forgotten."""
        self.states.clear()

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
        outputs, states = self._outputs(observations)
        self.states |= {str(agent): state for agent, state in states.items()}
        actions = dict[Any, Any]()
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

    def outputs(self, observations: Mapping[Any, Any]) -> dict[Any, Tensor]:
        """Return what the networks say, agent → [U] logits or values, or [k] means; masks play no part.

        Agents come in the order of `policy.json`, so that draws do not depend on that of the observations. What
        recurrent networks remember stays as it is.
        """
        return self._outputs(observations)[0]

    @torch.no_grad()
    def _outputs(self, observations: Mapping[Any, Any]) -> tuple[dict[Any, Tensor], dict[Any, Tensor]]:
        """Return the outputs of all agents, and what those of recurrent networks remember after this step."""
        if unknown := [agent for agent in observations if str(agent) not in self.agents]:
            raise ValueError(f"agents must be among {list(self.agents)}, got {unknown}; leave out who is not trained")
        places = {name: place for place, name in enumerate(self.agents)}
        present = sorted(observations, key=lambda agent: places[str(agent)])
        outputs, states = dict[Any, Tensor](), dict[Any, Tensor]()
        # the agents that share a network go through it at once
        for name, network in self.networks.items():
            mine = [agent for agent in present if self.agents[str(agent)]["network"] == name]
            if mine:
                rows = np.stack([network_input(agent, self.agents[str(agent)], observations[agent]) for agent in mine])
                zeros = torch.zeros(network.state_size, device=self.device)
                before = torch.stack([self.states.get(str(agent), zeros) for agent in mine])
                found, after = network(torch.from_numpy(rows).to(self.device), before)
                outputs.update(zip(mine, found.cpu(), strict=True))
                states.update(zip(mine, after, strict=True))
        return {agent: outputs[agent] for agent in present}, states

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
    inner = observed[OBSERVATION] if isinstance(observed, Mapping) and MASK in observed else observed
    flat = [part_of_input(agent, part, inner) for part in described["observation"]["parts"]]
    present = [1.0] if described["present"] else []
    return np.concatenate([*flat, np.array([*described["id"], *present], np.float32)])


def part_of_input(agent: Any, part: Mapping[str, Any], observed: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a Box or choices of an observation as numbers, which may lie in Dicts and Tuples."""
    for key in part["keys"]:
        observed = observed[key]
    numbers = np.asarray(observed)
    if list(numbers.shape) != part["shape"] and not (numbers.size == 1 and not part["shape"]):
        raise ValueError(
            f"agent {agent!r} must observe numbers of shape {tuple(part['shape'])}, got {numbers.shape}; give what "
            "the environment shows it"
        )
    flat = numbers.ravel() / part["divisor"]
    if part["sizes"]:
        choices = flat - np.array(part["starts"])
        if (choices < 0).any() or (choices >= part["sizes"]).any():
            raise ValueError(f"agent {agent!r} must observe choices within {part['sizes']}, got {flat.tolist()}")
        flat = np.concatenate([np.eye(size)[int(choice)] for size, choice in zip(part["sizes"], choices, strict=True)])
    return np.asarray(flat, np.float32)


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
