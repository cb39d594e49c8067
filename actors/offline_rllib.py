"""RLlib's BC, IQL or CQL on a data set, as a process of its own: `python -m actors.offline_rllib FOLDER`.

FOLDER/assignment.json says what to train (`m3pc_ray.comparison.methods.rllib`). Left behind: learner.safetensors while
it is not done, then policy.safetensors. What it says meanwhile is in `m3pc_ray.comparison.child`.

The networks, losses, optimizers and targets are RLlib's: its Learner is built from its algorithm's configuration and
updated as its algorithms do. Only what feeds it differs: batches are drawn from arrays in memory, where
`Algorithm.train` streams the same rows through Ray Data. So no Ray cluster is needed.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from m3pc_ray.comparison.compare_env.d3rlpy_program.messages import STOPPED, Parent, Stopped
from m3pc_ray.comparison.exported_policy import ACTIVATIONS, ExportedPolicy, Output
from m3pc_ray.comparison.learner_file import load_learner, save_learner
from m3pc_ray.errors import UserError
from m3pc_ray.training.data import transition_arrays
from m3pc_ray.training.state import pack_optimizer, pack_torch_generator, unpack_optimizer, unpack_torch_generator
from m3pc_ray.trajectories.resolve import load

MODULE = "default_policy"
BATCH_SIZE = 256
LOOK_UPDATES = 20
CHECKPOINT_SECONDS = 60.0
ACTION_LIMIT = 1.0 - 1e-3
"""Logged actions are clamped to it, as our own model does: at the bounds a tanh Gaussian has no likelihood."""
CHECKPOINT = "learner.safetensors"


def configuration(algorithm: str, observation_dim: int, action_dim: int) -> Any:
    """RLlib's AlgorithmConfig; values that are not RLlib's defaults are those of the papers (docs/comparison.md)."""
    from ray.rllib.algorithms.bc import BCConfig
    from ray.rllib.algorithms.cql import CQLConfig
    from ray.rllib.algorithms.iql import IQLConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    own: dict[str, dict[str, Any]] = {
        "bc": {"lr": 3e-4},
        "iql": {"beta": 3.0, "expectile": 0.7, "tau": 5e-3, "actor_lr": 3e-4, "critic_lr": 3e-4, "value_lr": 3e-4},
        "cql": {"bc_iters": 0, "min_q_weight": 5.0, "actor_lr": 1e-4, "critic_lr": 3e-4, "alpha_lr": 1e-4},
    }
    config = {"bc": BCConfig, "iql": IQLConfig, "cql": CQLConfig}[algorithm]()
    return (
        config.environment(
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (observation_dim,), np.float32),
            action_space=gymnasium.spaces.Box(-1.0, 1.0, (action_dim,), np.float32),
        )
        .training(train_batch_size_per_learner=BATCH_SIZE, **own[algorithm])
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[256, 256], fcnet_activation="relu"))
        .env_runners(num_env_runners=0)
        .learners(num_learners=0)
    )


def make_learner(config: Any) -> Any:
    """RLlib's Learner of a configuration, in this process."""
    spaces = (config.observation_space, config.action_space)
    spec = config.get_multi_rl_module_spec(spaces={MODULE: spaces})
    learner = config.get_default_learner_class()(config=config, module_spec=spec)
    learner.build()
    return learner


def export(module: Any, updates: int) -> ExportedPolicy:
    """An RLModule's action without noise as a plain perceptron.

    Of a squashed Gaussian that is tanh(mean). RLlib 2.60's own greedy inference leaves the tanh out and clips the mean
    (`TorchSquashedGaussian.to_deterministic`), though it was trained, and samples, with it.

    Raises UserError where the module is built of anything but linear layers and a known activation.
    """
    from ray.rllib.core.distribution.torch.torch_distribution import TorchDiagGaussian, TorchSquashedGaussian

    parts = [module.pi_encoder, module.pi] if hasattr(module, "pi") else [module._encoder, module._pi_head]
    found = [each for part in parts for each in part.net.mlp]
    linears = [each for each in found if isinstance(each, nn.Linear)]
    between = {type(each) for each in found if not isinstance(each, nn.Linear)}
    names = {kind: name for name, kind in ACTIVATIONS.items()}
    distribution = module.get_inference_action_dist_cls()
    outputs: dict[Any, Output] = {TorchSquashedGaussian: "tanh", TorchDiagGaussian: "clip"}
    if len(between) != 1 or not between <= set(names) or distribution not in outputs or len(found) % 2 == 0:
        raise UserError(f"RLlib's module is not a plain perceptron: {module}")
    layers = [(each.weight.detach().cpu().clone(), each.bias.detach().cpu().clone()) for each in linears]
    actions = len(layers[-1][1]) // 2  # means, then logarithms of standard deviations
    layers[-1] = (layers[-1][0][:actions].clone(), layers[-1][1][:actions].clone())
    return ExportedPolicy(layers, names[between.pop()], outputs[distribution], updates)


class Batches:
    """Batches in RLlib's form, drawn with replacement.

    Args:
        dataset: reference of the data set.
        seed: of the draws.
    """

    def __init__(self, dataset: str, seed: int) -> None:
        trajectories = load(dataset)
        metadata = trajectories.metadata
        bounds = (np.asarray(metadata.action_low, np.float32), np.asarray(metadata.action_high, np.float32))
        arrays, keep = transition_arrays(trajectories, *bounds)
        names = {"observations": "obs", "next_observations": "new_obs", "actions": "actions", "rewards": "rewards"}
        self.columns = {new: torch.as_tensor(np.asarray(arrays[old][keep], np.float32)) for old, new in names.items()}
        self.columns["actions"].clamp_(-ACTION_LIMIT, ACTION_LIMIT)
        self.columns["terminateds"] = torch.as_tensor(arrays["terminated"][keep] > 0)
        self.observation_dim, self.action_dim = trajectories.observation_dim, trajectories.action_dim
        self.seed, self.size = seed, int(keep.sum())

    def draw(self, number: int) -> Any:
        """Batch `number`: the same whenever it is asked for, so that a resumed training goes on with the next."""
        from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

        rows: npt.NDArray[np.int64] = np.random.default_rng([self.seed, 12, number]).integers(
            self.size, size=BATCH_SIZE
        )
        at = torch.as_tensor(rows)
        return MultiAgentBatch(
            {MODULE: SampleBatch({name: each[at] for name, each in self.columns.items()})}, BATCH_SIZE
        )


def train(folder: Path, parent: Parent) -> None:
    """Does what FOLDER/assignment.json says, from the last checkpoint on.

    Raises Stopped where it is to end, after a checkpoint; UserError where training diverges.
    """
    work = json.loads((folder / "assignment.json").read_text())
    torch.set_num_threads(work["threads"])
    torch.manual_seed(work["seed"])
    batches = Batches(work["dataset"], work["seed"])
    learner = make_learner(configuration(work["algorithm"], batches.observation_dim, batches.action_dim))
    done, checkpoint = 0, folder / CHECKPOINT
    if checkpoint.is_file():
        done = restore(learner, checkpoint)
    saved = time.monotonic()
    while done < work["updates"]:
        for _ in range(min(LOOK_UPDATES, work["updates"] - done)):
            learner.update(batch=batches.draw(done), timesteps={"num_env_steps_sampled_lifetime": done * BATCH_SIZE})
            done += 1
        if not all(bool(torch.isfinite(each).all()) for each in learner.module[MODULE].parameters()):
            raise UserError(f"RLlib's {work['algorithm']} diverged before update {done}: a weight is not finite")
        parent.progress("update", done, work["updates"])
        stop = parent.wants_stop
        if stop or time.monotonic() - saved > CHECKPOINT_SECONDS:
            save(learner, checkpoint, done)
            saved = time.monotonic()
        if stop:
            raise Stopped
    export(learner.module[MODULE], done).save(folder / "policy.safetensors")
    checkpoint.unlink(missing_ok=True)


def save(learner: Any, path: Path, updates: int) -> None:
    """Everything that an update changes."""
    tensors = {f"module/{name}": value for name, value in learner.module[MODULE].state_dict().items()}
    optimizers = {}
    for name, optimizer in learner.get_optimizers_for_module(MODULE):
        packed, optimizers[name] = pack_optimizer(optimizer)
        tensors |= {f"{name}/{key}": value for key, value in packed.items()}
    if hasattr(learner, "curr_log_alpha"):  # CQL's entropy temperature is no part of the module
        tensors["log_alpha"] = learner.curr_log_alpha[MODULE]
    save_learner(path, tensors, {"updates": updates, "optimizers": optimizers, "generator": pack_torch_generator()})


def restore(learner: Any, path: Path) -> int:
    """The learner as `save` found it; the updates it had done."""
    tensors, state = load_learner(path)

    def under(name: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}

    learner.module[MODULE].load_state_dict(under("module"))
    for name, optimizer in learner.get_optimizers_for_module(MODULE):
        unpack_optimizer(optimizer, under(name), state["optimizers"][name])
    if "log_alpha" in tensors:
        with torch.no_grad():
            learner.curr_log_alpha[MODULE].copy_(tensors["log_alpha"])
    unpack_torch_generator(state["generator"])
    return int(state["updates"])


def main(folder: Path) -> int:
    """The program; its exit code."""
    warnings.filterwarnings("ignore")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        with Parent() as parent:
            train(folder, parent)
    except Stopped:
        return STOPPED
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
