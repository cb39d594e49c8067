"""Gymnasium environments: construction, stepping several of them, action scaling, simulator states."""

from m3pc_ray.environments.actions import to_environment_range, to_model_range
from m3pc_ray.environments.make import EnvironmentGroup, EnvironmentSpec, make_environment, specification

__all__ = [
    "EnvironmentGroup",
    "EnvironmentSpec",
    "make_environment",
    "specification",
    "to_environment_range",
    "to_model_range",
]
