"""A Decision Transformer read from a file: what it does at each step, without the library that trained it.

Every step of the window is three tokens, return-to-go, observation, action, each a linear embedding plus that of the
time step; pre-norm causal attention over them; the observation's output is the action (Chen et al., arXiv 2106.01345).

The file is safetensors: `observation.weight`, ..., `blocks.0.query.weight`, ..., `action_head.bias`, and
`observation_mean` and `observation_scale` (observation_dim,); its header has heads, blocks, context_length,
max_timestep, reward_scale, target_return and updates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from m3pc_ray.comparison.learner_file import load_learner
from m3pc_ray.environments.actions import FloatArray
from m3pc_ray.errors import UserError
from m3pc_ray.planning.plan import Plan
from m3pc_ray.trajectories.episodes import DatasetMetadata

EMBEDDING_EPSILON = 1e-5
BLOCK_EPSILON = 0.003
"""Of LayerNorm: torch's default after the embeddings, d3rlpy's in the blocks and behind them."""


class DecisionTransformer:
    """The network at inference.

    Args:
        tensors: its parameters, by the names above.
        facts: the header.
    """

    def __init__(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self._tensors = dict(tensors)
        self.heads, self.blocks = int(facts["heads"]), int(facts["blocks"])
        self.context_length, self.max_timestep = int(facts["context_length"]), int(facts["max_timestep"])
        self.reward_scale, self.target_return = float(facts["reward_scale"]), float(facts["target_return"])
        self.updates = int(facts["updates"])
        self.mean, self.scale = self._tensors["observation_mean"], self._tensors["observation_scale"]
        self.observation_dim = self._tensors["observation.weight"].shape[1]
        self.action_dim = self._tensors["action.weight"].shape[1]

    @classmethod
    def load(cls, path: Path) -> DecisionTransformer:
        """The network of a file. Raises UserError for a damaged one."""
        try:
            return cls(*load_learner(path))
        except KeyError as error:
            raise UserError(f"{path}: no Decision Transformer: {error} is missing; remove it to train again") from error

    @torch.no_grad()
    def act(self, observations: Tensor, actions: Tensor, returns: Tensor, timesteps: Tensor) -> Tensor:
        """Actions (B, action_dim) in (-1, 1) for the last step of the windows.

        Args:
            observations: (B, T, observation_dim), raw.
            actions: (B, T, action_dim); the last is not looked at.
            returns: (B, T), raw returns-to-go.
            timesteps: (B, T), from 1 on; 0 where the episode had not begun.
        """
        batch, steps, _ = observations.shape
        when = functional.embedding(timesteps, self._tensors["timestep.weight"])
        tokens = torch.stack(
            [
                self._linear("return_to_go", returns.unsqueeze(-1) * self.reward_scale) + when,
                self._linear("observation", (observations - self.mean) / self.scale) + when,
                self._linear("action", actions) + when,
            ],
            dim=2,
        )
        hidden = self._norm("embedding_norm", tokens.reshape(batch, 3 * steps, -1)[:, :-1], EMBEDDING_EPSILON)
        exists = (timesteps > 0).repeat_interleave(3, dim=1)[:, :-1]
        length = hidden.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        # A padded token sees itself: its output is never used, and a softmax over nothing would be NaN.
        visible = (causal & exists[:, None, :]) | torch.eye(length, dtype=torch.bool)  # (B, length, length)
        for number in range(self.blocks):
            block = f"blocks.{number}"
            hidden = hidden + self._attend(block, self._norm(f"{block}.norm1", hidden, BLOCK_EPSILON), visible)
            normed = self._norm(f"{block}.norm2", hidden, BLOCK_EPSILON)
            hidden = hidden + self._linear(f"{block}.down", torch.relu(self._linear(f"{block}.up", normed)))
        last = self._norm("final_norm", hidden[:, -1], BLOCK_EPSILON)  # the last observation's token
        return torch.tanh(self._linear("action_head", last))

    def _linear(self, name: str, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _norm(self, name: str, inputs: Tensor, epsilon: float) -> Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return functional.layer_norm(inputs, weight.shape, weight, bias, epsilon)

    def _attend(self, block: str, inputs: Tensor, visible: Tensor) -> Tensor:
        """(B, tokens, width) to the same; `visible` (B, tokens, tokens) says which keys a query sees."""
        batch, length, width = inputs.shape

        def heads(name: str) -> Tensor:
            return self._linear(f"{block}.{name}", inputs).view(batch, length, self.heads, -1).transpose(1, 2)

        scores = heads("query") @ heads("key").transpose(2, 3) / math.sqrt(width // self.heads)
        weights = scores.masked_fill(~visible[:, None], -math.inf).softmax(dim=-1)
        return self._linear(f"{block}.project", (weights @ heads("value")).transpose(1, 2).reshape(inputs.shape))


class DecisionTransformerAgent:
    """Plays episodes as `evaluation.evaluate.run_episodes` asks; the rewards that it hears lower what is left to earn.

    Args:
        network: what acts.
        metadata: of the data it learned from; its bounds are the environment's.
    """

    def __init__(self, network: DecisionTransformer, metadata: DatasetMetadata) -> None:
        self.network, self.updates = network, network.updates
        self.action_low = np.asarray(metadata.action_low, dtype=np.float32)
        self.action_high = np.asarray(metadata.action_high, dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        """Forgets every episode."""
        self._windows: dict[int, _Window] = {}

    def plan(
        self,
        observations: npt.ArrayLike,
        episode_start: bool | npt.ArrayLike | None = None,
        deterministic: bool = True,
        *,
        rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
        streams: npt.ArrayLike | None = None,
    ) -> Plan:
        """See `Agent.plan`. Raises ValueError for `deterministic` False: it has one action and nothing to sample."""
        if not deterministic:
            raise ValueError("a Decision Transformer has one action and nothing to sample from")
        batch = np.asarray(observations, dtype=np.float32)
        numbers = [int(row) for row in (range(len(batch)) if rows is None else rows)]
        starts = np.broadcast_to(np.asarray(False if episode_start is None else episode_start), len(batch))
        for row, observation, start in zip(numbers, batch, starts, strict=True):
            if start or row not in self._windows:
                self._windows[row] = _Window(self.network)
            self._windows[row].see(observation)
        windows = [self._windows[row] for row in numbers]
        stacked = (
            torch.as_tensor(np.stack([getattr(window, name) for window in windows]))
            for name in ("observations", "actions", "returns", "timesteps")
        )
        actions: FloatArray = self.network.act(*stacked).numpy()
        for window, action in zip(windows, actions, strict=True):
            window.actions[-1] = action
        return Plan(actions)

    def hear(self, rewards: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> None:
        """See `evaluation.evaluate.HearsRewards`."""
        for row, reward in zip(rows, rewards, strict=True):
            self._windows[int(row)].left -= float(reward)


class _Window:
    """The last steps of one episode, the newest last; zeros before its first."""

    def __init__(self, network: DecisionTransformer) -> None:
        length = network.context_length
        self.observations = np.zeros((length, network.observation_dim), np.float32)
        self.actions = np.zeros((length, network.action_dim), np.float32)
        self.returns = np.zeros(length, np.float32)
        self.timesteps = np.zeros(length, np.int64)
        self.left = network.target_return
        self._seen, self._most = 0, network.max_timestep

    def see(self, observation: FloatArray) -> None:
        """The next step begins."""
        for values in (self.observations, self.actions, self.returns, self.timesteps):
            values[:-1] = values[1:]
        self._seen = min(self._seen + 1, self._most)
        self.observations[-1], self.actions[-1] = observation, 0.0
        self.returns[-1], self.timesteps[-1] = self.left, self._seen
