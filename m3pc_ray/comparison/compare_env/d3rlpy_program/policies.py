"""Policies as tensors and a description, which are read without d3rlpy and run no code.

Perceptrons have the format of `m3pc_ray/comparison/exported_policy.py`, the Decision Transformer that of
`m3pc_ray/comparison/decision_transformer.py`. Before a perceptron is written, its actions are compared with d3rlpy's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .learner import Learner
from .transitions import Data

TOLERANCE = 1e-4
"""Largest difference between an exported policy's actions and d3rlpy's; the layers' order of arithmetic differs."""
NAMES = (
    (r"^_encoder\._layers\.0\.", "observation."),
    (r"^_action_embed\.", "action."),
    (r"^_rtg_embed\.", "return_to_go."),
    (r"^_position_encoding\._embed\.", "timestep."),
    (r"^_embed_ln\.", "embedding_norm."),
    (r"^_gpt2\._layer_norm\.", "final_norm."),
    (r"^_gpt2\._transformer\.", "blocks."),
    (r"\._attention\._k\.", ".key."),
    (r"\._attention\._q\.", ".query."),
    (r"\._attention\._v\.", ".value."),
    (r"\._attention\._proj\.", ".project."),
    (r"\._layer_norm([12])\.", r".norm\1."),
    (r"\._mlp\._l1\.", ".up."),
    (r"\._mlp\._l2\.", ".down."),
    (r"^_output\.", "action_head."),
)
"""d3rlpy's names of the Decision Transformer's parameters, and ours."""


def write_policy(folder: Path, point: int, learner: Learner, data: Data, assignment: Mapping[str, Any]) -> None:
    """Writes `policy-POINT.safetensors`, complete or absent."""
    modules = learner.algorithm.impl.modules
    if hasattr(modules, "transformer"):
        tensors, facts = _transformer(modules.transformer, learner.algorithm.config, data, assignment)
    else:
        tensors, facts = _perceptron(learner, data)
    facts["updates"] = learner.updates
    path = folder / f"policy-{point:08d}.safetensors"
    fresh = path.with_suffix(".part")
    whole = {key: value.detach().to(torch.float32).contiguous().clone() for key, value in tensors.items()}
    save_file(whole, fresh, metadata={"state": json.dumps(facts)})
    os.replace(fresh, path)


def _perceptron(learner: Learner, data: Data) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its linear layers; the standardisation of observations becomes part of the first."""
    policy = learner.algorithm.impl.modules.policy
    head = policy._mu if hasattr(policy, "_mu") else policy._fc
    linear = [layer for layer in policy._encoder._layers if isinstance(layer, nn.Linear)] + [head]
    layers = [(layer.weight.detach().double(), layer.bias.detach().double()) for layer in linear]
    mean, scale = (torch.as_tensor(values, dtype=torch.float64) for values in (data.mean, data.scale))
    weight, bias = layers[0]
    layers[0] = (weight / scale, bias - weight @ (mean / scale))
    tensors: dict[str, Tensor] = {}
    for number, (weight, bias) in enumerate(layers):
        tensors |= {f"layer{number}.weight": weight, f"layer{number}.bias": bias}
    _compare(tensors, learner, data)
    return tensors, {"activation": "relu", "output": "tanh"}


def _compare(tensors: Mapping[str, Tensor], learner: Learner, data: Data) -> None:
    """Raises RuntimeError where the layers do not act as d3rlpy does, as in a version that builds them otherwise."""
    inputs = data.observations[:256]
    hidden = torch.as_tensor(inputs * data.scale + data.mean, dtype=torch.float64)
    for number in range(len(tensors) // 2):
        hidden = torch.relu(hidden) if number else hidden
        hidden = hidden @ tensors[f"layer{number}.weight"].T + tensors[f"layer{number}.bias"]
    apart = float(np.abs(torch.tanh(hidden).numpy() - learner.algorithm.predict(inputs)).max())
    if not apart <= TOLERANCE:
        raise RuntimeError(f"the exported policy acts {apart:.1e} away from d3rlpy's")


def _transformer(
    module: nn.Module, config: Any, data: Data, assignment: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its parameters under our names, and how it is asked."""
    tensors = {}
    for key, value in module.state_dict().items():
        if key.endswith("._mask"):  # the causal mask, which is no parameter
            continue
        name = key
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        tensors[name] = value
    tensors |= {"observation_mean": torch.as_tensor(data.mean), "observation_scale": torch.as_tensor(data.scale)}
    facts = {
        "heads": config.num_heads,
        "blocks": config.num_layers,
        "context_length": config.context_size,
        "max_timestep": config.max_timestep,
        "reward_scale": data.reward_scale,
        "target_return": assignment["best_return"],
    }
    return tensors, facts
