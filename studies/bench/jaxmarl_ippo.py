"""JaxMARL's IPPO loop on its own MPE spread, timed; a script for the environment of `make bench-peers`.

JaxMARL's baselines are not in its wheel. This is the loop of its `baselines/IPPO/ippo_ff_mpe.py`, written anew: the
same sizes and settings, everything inside one compiled scan, networks and Adam as there (flax's `Dense` is a product
and a bias). Left out are what it logs and the annealed step size. It imports nothing of cosignal.

    python jaxmarl_ippo.py ENVS ROLLOUT AT_LEAST_S  →  one line of JSON: CPU seconds and agent steps, without compiling
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxmarl
import optax
from jaxmarl.wrappers.baselines import MPELogWrapper

EPOCHS, MINIBATCHES, HIDDEN = 4, 4, (64, 64)
LR, GAMMA, LAMBDA, CLIP, ENTROPY, VALUE_COEF, MAX_NORM = 2.5e-4, 0.99, 0.95, 0.2, 0.01, 0.5, 0.5
UPDATES = 20  # of one call of the compiled function


def mlp(key: Any, sizes: list[int], last_gain: float) -> Any:
    """Return weights and biases, orthogonal and zero."""
    keys = jax.random.split(key, len(sizes) - 1)
    gains = [2**0.5] * (len(sizes) - 2) + [last_gain]
    orthogonal = jax.nn.initializers.orthogonal
    return [
        (orthogonal(gain)(k, (n, m)), jnp.zeros(m))
        for k, gain, n, m in zip(keys, gains, sizes[:-1], sizes[1:], strict=True)
    ]


def apply(layers: Any, x: Any) -> Any:
    """[..., inputs] → [..., outputs]; tanh between layers."""
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def chosen_log_prob(logits: Any, actions: Any) -> Any:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[..., None], -1)[..., 0]


def loss(networks: Any, batch: dict[str, Any]) -> Any:
    """PPO's loss with the clipped value loss that the baseline has."""
    logits, value = apply(networks["actor"], batch["obs"]), apply(networks["critic"], batch["obs"])[..., 0]
    # value
    near = batch["value"] + (value - batch["value"]).clip(-CLIP, CLIP)
    errors = jnp.maximum(jnp.square(value - batch["target"]), jnp.square(near - batch["target"]))
    # policy
    ratio = jnp.exp(chosen_log_prob(logits, batch["action"]) - batch["logp"])
    advantage = (batch["advantage"] - batch["advantage"].mean()) / (batch["advantage"].std() + 1e-8)
    surrogate = jnp.minimum(ratio * advantage, ratio.clip(1 - CLIP, 1 + CLIP) * advantage)
    logp = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(logp) * logp).sum(-1)
    return -surrogate.mean() + VALUE_COEF * 0.5 * errors.mean() - ENTROPY * entropy.mean()


class Training:
    """The compiled loop, its state, and the number of agent steps that one call of it makes."""

    def __init__(self, envs: int, rollout: int) -> None:
        self.envs, self.rollout = envs, rollout
        self.env = MPELogWrapper(jaxmarl.make("MPE_simple_spread_v3"))
        self.agents = self.env.agents
        self.actors = envs * len(self.agents)
        self.n_actions = self.env.action_space(self.agents[0]).n
        self.obs_size = self.env.observation_space(self.agents[0]).shape[0]
        self.adam = optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(LR, eps=1e-5))
        key, actor, critic, start = jax.random.split(jax.random.PRNGKey(1), 4)
        networks = {
            "actor": mlp(actor, [self.obs_size, *HIDDEN, self.n_actions], 0.01),
            "critic": mlp(critic, [self.obs_size, *HIDDEN, 1], 1.0),
        }
        obs, env_state = jax.vmap(self.env.reset)(jax.random.split(start, envs))
        self.state = (networks, self.adam.init(networks), env_state, self.batchify(obs), key)
        self.compiled = jax.jit(partial(jax.lax.scan, self.update, xs=None, length=UPDATES))
        self.compiled_env = jax.jit(partial(jax.lax.scan, self.random_step, xs=None, length=UPDATES * rollout))

    def batchify(self, by_agent: dict[str, Any]) -> Any:
        return jnp.stack([by_agent[a] for a in self.agents]).reshape((self.actors, -1))

    def env_step(self, env_state: Any, actions: Any, key: Any) -> Any:
        """Step all environments with actions [agents x envs]: observations, state, rewards, ends."""
        by_agent = dict(zip(self.agents, actions.reshape((len(self.agents), self.envs)), strict=True))
        keys = jax.random.split(key, self.envs)
        obs, env_state, reward, done, _ = jax.vmap(self.env.step)(keys, env_state, by_agent)
        return self.batchify(obs), env_state, self.batchify(reward)[:, 0], self.batchify(done)[:, 0]

    def random_step(self, carry: Any, _: None) -> Any:
        env_state, key = carry
        key, choose, step = jax.random.split(key, 3)
        actions = jax.random.randint(choose, (self.actors,), 0, self.n_actions)
        obs, env_state, reward, _ = self.env_step(env_state, actions, step)
        return (env_state, key), obs.sum() + reward.sum()

    def update(self, state: Any, _: None) -> Any:
        """One rollout, its advantages, and the gradient steps on it."""
        networks, adam_state, env_state, obs, key = state

        def act(carry: Any, _: None) -> Any:
            env_state, obs, key = carry
            key, choose, step = jax.random.split(key, 3)
            logits, value = apply(networks["actor"], obs), apply(networks["critic"], obs)[..., 0]
            action = jax.random.categorical(choose, logits)
            next_obs, env_state, reward, done = self.env_step(env_state, action, step)
            row = {"obs": obs, "action": action, "logp": chosen_log_prob(logits, action), "value": value}
            return (env_state, next_obs, key), row | {"reward": reward, "done": done}

        (env_state, obs, key), rows = jax.lax.scan(act, (env_state, obs, key), None, self.rollout)

        # advantages, from the last step to the first
        def back(carry: Any, row: dict[str, Any]) -> Any:
            advantage, next_value = carry
            go_on = 1 - row["done"]
            delta = row["reward"] + GAMMA * next_value * go_on - row["value"]
            advantage = delta + GAMMA * LAMBDA * go_on * advantage
            return (advantage, row["value"]), advantage

        last = apply(networks["critic"], obs)[..., 0]
        _, advantage = jax.lax.scan(back, (jnp.zeros_like(last), last), rows, reverse=True, unroll=8)
        rows = {name: rows[name] for name in ("obs", "action", "logp", "value")}
        rows |= {"advantage": advantage, "target": advantage + rows["value"]}
        flat = {name: x.reshape((self.rollout * self.actors, *x.shape[2:])) for name, x in rows.items()}

        # epochs of minibatches
        def minibatch(carry: Any, batch: dict[str, Any]) -> Any:
            networks, adam_state = carry
            value, gradient = jax.value_and_grad(loss)(networks, batch)
            steps, adam_state = self.adam.update(gradient, adam_state, networks)
            return (optax.apply_updates(networks, steps), adam_state), value

        def epoch(carry: Any, key: Any) -> Any:
            order = jax.random.permutation(key, self.rollout * self.actors)
            shuffled = {name: x[order].reshape((MINIBATCHES, -1, *x.shape[1:])) for name, x in flat.items()}
            return jax.lax.scan(minibatch, carry, shuffled)

        key, shuffle = jax.random.split(key)
        carry, losses = jax.lax.scan(epoch, (networks, adam_state), jax.random.split(shuffle, EPOCHS))
        return (*carry, env_state, obs, key), losses.mean()

    def train(self) -> int:
        self.state, losses = self.compiled(self.state)
        losses.block_until_ready()
        return UPDATES * self.rollout * self.actors

    def step_only(self) -> int:
        _, sums = self.compiled_env((self.state[2], self.state[4]))
        sums.block_until_ready()
        return UPDATES * self.rollout * self.actors


def timed(work: Callable[[], int], at_least_s: float) -> dict[str, float]:
    """Call `work` once to compile it, and then for at least so many CPU seconds."""
    work()
    begun, steps = time.process_time(), 0
    while time.process_time() - begun < at_least_s:
        steps += work()
    return {"agent_steps": steps, "cpu_s": time.process_time() - begun}


if __name__ == "__main__":
    training = Training(int(sys.argv[1]), int(sys.argv[2]))
    seconds = float(sys.argv[3])
    result = {"train": timed(training.train, seconds), "env": timed(training.step_only, seconds / 4)}
    sizes = {"obs_size": training.obs_size, "n_actions": int(training.n_actions), "agents": len(training.agents)}
    sys.stdout.write(json.dumps(result | sizes) + "\n")
