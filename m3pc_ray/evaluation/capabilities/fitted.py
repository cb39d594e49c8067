"""The trained baselines of a run, kept in a folder so that they are trained once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from m3pc_ray.baselines.behaviour_cloning import fit_behaviour_cloning
from m3pc_ray.baselines.dynamics import fit_dynamics
from m3pc_ray.baselines.inverse_dynamics import fit_inverse_dynamics
from m3pc_ray.errors import UserError
from m3pc_ray.model.mlp import MLP, MLPConfig, Progress, TrainedMLP, Training
from m3pc_ray.model.precision import resolve_precision
from m3pc_ray.trajectories.store import checksum

if TYPE_CHECKING:
    from m3pc_ray.trajectories.episodes import Trajectories

FITS: Mapping[str, Callable[[Trajectories, Training, Progress | None], TrainedMLP]] = {
    "dynamics": fit_dynamics,
    "inverse_dynamics": fit_inverse_dynamics,
    "behaviour_cloning": fit_behaviour_cloning,
}
"""Baselines by name, in the order in which they are trained."""
FORMAT = 1
"""Raised whenever a baseline's inputs, outputs or training change, so that kept ones are trained again."""


@dataclass(frozen=True)
class Fitted:
    """One baseline and what is reported about it."""

    network: MLP
    seconds: float
    """Wall time of its training, whenever that was."""
    rows: int
    """Transitions it could learn from."""

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())


def fit(
    name: str, trajectories: Trajectories, training: Training, folder: Path, progress: Progress | None = None
) -> Fitted:
    """The baseline `name` of `FITS`, read from `folder` where it was trained on the same data in the same way.

    Raises UserError where it cannot be written. A kept file that cannot be read is trained again.
    """
    settings = {
        "format": FORMAT,
        "name": name,
        "data": checksum(trajectories),
        "action_bounds": [trajectories.metadata.action_low, trajectories.metadata.action_high],
        "steps": training.steps,
        "batch_size": training.batch_size,
        "seed": training.seed,
        "precision": str(resolve_precision("auto", training.device)),
        "config": asdict(training.config),
    }
    key = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()
    path = folder / f"{name}-{key}.safetensors"
    kept = _read(path, training.device)
    if kept is not None:
        return kept
    trained = FITS[name](trajectories, training, progress)
    network = trained.network
    described = {
        "input_dim": network.hidden[0].in_features,
        "output_dim": network.output.out_features,
        "squash": network.squash,
        "seconds": trained.seconds,
        "rows": trained.rows,
        **settings,
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save(tensors, {"baseline": json.dumps(described)}))
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot write the trained baseline: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Fitted(network, trained.seconds, trained.rows)


def _read(path: Path, device: torch.device | str) -> Fitted | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            described: dict[str, Any] = json.loads(file.metadata()["baseline"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = MLP(
            described["input_dim"], described["output_dim"], MLPConfig(**described["config"]), described["squash"]
        )
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError):
        return None
    network.to(device).eval().requires_grad_(False)
    return Fitted(network, float(described["seconds"]), int(described["rows"]))
