"""The ranges that numeric settings of goal tasks must lie in: by name, as a name means the same in every task."""

from __future__ import annotations

RANGES: dict[str, str] = {
    "every": "[1, inf)",
    "fidelity": "[0, inf)",
    "data_episodes": "[0, inf)",
    "start_step": "[0, inf)",
    "hold_steps": "[0, inf)",
    # hopper-wiggle
    "frequency_hz": "(0, inf)",
    "amplitude": "(0, inf)",
    "center": "(-inf, inf)",
    "cycles": "(0, inf)",
    # walker2d-split
    "ramp_steps": "[1, inf)",
    "start_angle": "(-inf, inf)",
    "final_angle": "(-inf, inf)",
    "beyond_steps": "[1, inf)",
    # halfcheetah-flip
    "turn_steps": "[1, inf)",
    "rest_height": "(-inf, inf)",
    "lift": "(-inf, inf)",
    "lying_height": "(-inf, inf)",
    "alive_steps": "[0, inf)",
    # can-carry
    "place_x": "(-inf, inf)",
    "place_y": "(-inf, inf)",
    "lowest": "(-inf, inf)",
    "highest": "(-inf, inf)",
    "tolerance": "(0, inf)",
    "settle_steps": "[0, inf)",
    # waypoints
    "visited_share": "(0, 1]",
    "visited_tolerance": "(0, inf)",
}
