"""Settings of soft actor-critic, plain (Haarnoja et al. 2018) and with offline data (RLPD, Ball et al. 2023)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from m3pc_ray.configuration_ranges import inside
from m3pc_ray.errors import UserError


@dataclass(frozen=True)
class SacSettings:
    """Defaults are plain SAC with the networks, rates and batches of Haarnoja et al. (2018, arXiv 1812.05905); `rlpd`
    gives RLPD's."""

    update: Literal["sac", "rlpd"] = "sac"
    """`sac`: the library's own update, in which every gradient step moves critics, actor and entropy weight, and both
    targets and actor take the smallest of all Qs. `rlpd`: targets take the smallest of a random subset of the Qs, the
    actor climbs their mean and moves once an environment step, after all of its critic updates."""
    critics: int = 2
    """Q networks (RLPD: 10); updates take longer with each."""
    target_critics: int = 2
    """Of these, how many are drawn for the minimum of each target (RLPD: 2). `sac` always takes all."""
    layer_norm: bool = False
    """LayerNorm after every hidden product of the critics (RLPD: true); bounds what Qs say far from the data."""
    offline_fraction: float = 0.5
    """Part of every batch that is drawn from offline data, where there are any (RLPD: 0.5)."""
    updates_per_step: int = 1
    """Critic updates per environment step (RLPD: 20); time rises with it nearly in proportion."""
    learning_starts: int = 5_000
    """Environment steps taken with uniformly random actions before the first update."""
    batch_size: int = 256
    """Transitions per update."""
    learning_rate: float = 3e-4
    """Of Adam, for actor, critics and entropy weight."""
    discount: float = 0.99
    """Of values."""
    polyak: float = 0.005
    """Part of the way that target critics move with every critic update."""
    hidden_width: int = 256
    """Units of each hidden layer of every network."""
    hidden_layers: int = 2
    """Hidden layers of every network."""
    entropy_per_dimension: float = -1.0
    """Target entropy per action dimension; the entropy weight is tuned to keep the policy there (RLPD: -0.5)."""
    entropy_backup: bool = True
    """Whether targets count the entropy of the next action; only `rlpd` may leave it out (as RLPD does on AntMaze)."""
    buffer_size: int = 1_000_000
    """Newest environment steps that are kept to learn from; about 4 x (2 x observation + action + 3) bytes each."""

    def __post_init__(self) -> None:
        for name, interval in _RANGES.items():
            if not inside(getattr(self, name), interval):
                raise UserError(f"sac.{name}: must be in {interval}, not {getattr(self, name)}")
        if self.update not in ("sac", "rlpd"):
            raise UserError(f"sac.update: must be sac or rlpd, not {self.update}")
        if self.target_critics > self.critics:
            raise UserError(f"sac.target_critics: must be at most sac.critics = {self.critics}")
        if self.update == "sac" and self.target_critics != self.critics:
            raise UserError("sac.target_critics: must equal sac.critics, or sac.update be rlpd, which draws a subset")
        if self.update == "sac" and not self.entropy_backup:
            raise UserError("sac.entropy_backup: false needs sac.update rlpd")

    @classmethod
    def rlpd(cls, **changes: Any) -> SacSettings:
        """RLPD's settings for locomotion (Ball et al. 2023, appendix: hyperparameters), with some of them changed."""
        given: dict[str, Any] = {
            "update": "rlpd",
            "critics": 10,
            "target_critics": 2,
            "layer_norm": True,
            "offline_fraction": 0.5,
            "updates_per_step": 20,
            "entropy_per_dimension": -0.5,
        }
        return cls(**{**given, **changes})

    def to_json(self) -> dict[str, Any]:
        """Plain values; `SacSettings(**values)` is the inverse."""
        return dataclasses.asdict(self)


_RANGES = {
    "critics": "[1, inf)",
    "target_critics": "[1, inf)",
    "offline_fraction": "[0, 1]",
    "updates_per_step": "[1, inf)",
    "learning_starts": "[1, inf)",
    "batch_size": "[2, inf)",
    "learning_rate": "(0, inf)",
    "discount": "[0, 1]",
    "polyak": "(0, 1]",
    "hidden_width": "[1, inf)",
    "hidden_layers": "[1, inf)",
    "entropy_per_dimension": "(-inf, inf)",
    "buffer_size": "[2, inf)",
}
"""Interval of every numeric setting; a square bracket includes its end."""
