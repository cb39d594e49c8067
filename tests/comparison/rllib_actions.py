"""Run by test_rllib_methods.py in a process of its own: `python rllib_actions.py STORE OUT`.

For each algorithm: a few updates, then an episode by RLlib's own environment runner, without exploration and through
its whole connector pipeline, and actions sampled from RLlib's distribution with next to no noise; both beside those of
the exported policy. Then the same updates again, cut in two by a checkpoint.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actors import offline_rllib
from m3pc_ray.comparison.exported_policy import ExportedPolicy

UPDATES = {"bc": 30, "iql": 4, "cql": 2}


def updated(learner: Any, batches: offline_rllib.Batches, start: int, stop: int) -> None:
    for number in range(start, stop):
        learner.update(batch=batches.draw(number), timesteps={"num_env_steps_sampled_lifetime": number})


def weights(learner: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in learner.module[offline_rllib.MODULE].state_dict().items()}


def without_noise(module: Any, observations: np.ndarray) -> np.ndarray:
    """Actions (B, action_dim) that RLlib's own distribution gives where its noise is next to nothing."""
    logits = module.forward_inference({"obs": torch.as_tensor(observations)})["action_dist_inputs"].detach()
    kind = module.get_inference_action_dist_cls()
    actions = kind(loc=kind.from_logits(logits).loc, scale=torch.tensor(1e-9)).sample()
    return np.clip(actions.numpy(), -1.0, 1.0)


def check(algorithm: str, batches: offline_rllib.Batches, folder: Path) -> dict[str, Any]:
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    def learner() -> Any:
        torch.manual_seed(3)
        return offline_rllib.make_learner(offline_rllib.configuration(algorithm, *sizes))

    sizes, total = (batches.observation_dim, batches.action_dim), UPDATES[algorithm]
    whole = learner()
    updated(whole, batches, 0, total)
    module = whole.module[offline_rllib.MODULE]
    path = folder / f"{algorithm}.safetensors"
    offline_rllib.export(module, total).save(path)

    config = offline_rllib.configuration(algorithm, *sizes).environment(env="Hopper-v4").env_runners(explore=False)
    runner = SingleAgentEnvRunner(config=config)
    runner.set_state({"rl_module": {offline_rllib.MODULE: module.get_state(inference_only=True)}})
    (episode,) = runner.sample(num_episodes=1, explore=False)
    observations = np.asarray(episode.get_observations())[:-1].astype(np.float32)
    taken = np.asarray(episode.get_actions())
    exported = ExportedPolicy.load(path)
    acted = exported(observations)
    narrow = without_noise(module, observations)
    # RLlib 2.60 leaves the tanh out of a squashed Gaussian's greedy action: what its runner did is the mean, clipped.
    greedy = np.clip(np.arctanh(acted.astype(np.float64)), -1.0, 1.0) if exported.output == "tanh" else acted

    cut, checkpoint = learner(), folder / f"{algorithm}-checkpoint.safetensors"
    updated(cut, batches, 0, total // 2)
    offline_rllib.save(cut, checkpoint, total // 2)
    resumed = learner()
    done = offline_rllib.restore(resumed, checkpoint)
    updated(resumed, batches, done, total)
    again = weights(resumed)
    return {
        "steps": len(taken),
        "spread": float(taken.std()),
        "greedy": float(np.abs(taken - greedy).max()),
        "without_noise": float(np.abs(narrow - acted).max()),
        "done": done,
        "resumed": max(float(np.abs(value - again[name]).max()) for name, value in weights(whole).items()),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    store, out = sys.argv[1:]
    batches = offline_rllib.Batches(store, seed=5)
    results = {algorithm: check(algorithm, batches, Path(out).parent) for algorithm in UPDATES}
    Path(out).write_text(json.dumps(results))
