"""Small random models and tokens for the tests of this folder."""

import numpy as np
import torch

from m3pc_ray.config import ModelConfig
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.trajectories.statistics import Statistics

OBSERVATION_DIM, ACTION_DIM, T = 5, 2, 8


def make_model(seed: int = 0, **settings: float | str) -> TrajectoryModel:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)

    def moments(dim: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=dim).astype(np.float32), rng.uniform(0.5, 2, size=dim).astype(np.float32)

    statistics = Statistics(*moments(OBSERVATION_DIM), *moments(1), *moments(1))
    config = ModelConfig(**{"width": 16, "heads": 2, **settings})  # type: ignore[arg-type]
    model = TrajectoryModel(OBSERVATION_DIM, ACTION_DIM, config, statistics)
    with torch.no_grad():
        model.modality_embedding.normal_()  # zero at the start would hide mistakes
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def make_tokens(batch: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dims = {"states": OBSERVATION_DIM, "returns": 1, "actions": ACTION_DIM, "rewards": 1}
    return {name: torch.rand(batch, T, dim, generator=generator) * 2 - 1 for name, dim in dims.items()}
