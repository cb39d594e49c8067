"""Whether the library that soft actor-critic stands on is installed."""

from __future__ import annotations

import importlib.util

from m3pc_ray.errors import UserError


def require_library() -> None:
    """Raises UserError, naming the command that installs it, where Stable-Baselines3 is missing."""
    if importlib.util.find_spec("stable_baselines3") is None:
        raise UserError("Stable-Baselines3 is not installed; install it with: pip install 'm3pc-ray[baselines]'")
