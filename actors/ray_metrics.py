"""The numbers of an online run as Ray metrics, for Prometheus.

Every number of live.json becomes the gauge `m3pc_<name>`, which Prometheus sees as `ray_m3pc_<name>`, with the tags
`run` (the run folder's name) and `role` (`run` for what belongs to the run as a whole): docs/metrics.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ray.util.metrics import Gauge

from m3pc_ray.online.watching.live import LiveStatus

WHOLE_RUN = "run"
"""Tag `role` of what belongs to no single role."""


class RayMetrics:
    """Gauges of one run, each made when its number is first there. Needs a connection to Ray.

    Args:
        run: name of the run, the gauges' tag `run`.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._gauges: dict[str, Gauge] = {}

    def set(self, status: LiveStatus) -> None:
        """Bring all gauges up to date. A number that is not finite leaves its gauge as it was."""
        for name, role, value in gauge_values(status):
            if math.isfinite(value):
                self._gauge(name).set(value, tags={"run": self._run, "role": role})

    def _gauge(self, name: str) -> Gauge:
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, description="see docs/metrics.md", tag_keys=("run", "role"))
        return self._gauges[name]


def gauge_values(status: LiveStatus) -> Iterator[tuple[str, str, float]]:
    """Name of the gauge, tag `role` and value of every number in the status."""
    counts = {"steps": status.steps, "total_steps": status.total_steps, "seconds": status.seconds}
    counts |= {f"updates_{kind}": count for kind, count in status.updates.items()}
    counts |= {f"promised_updates_{kind}": count for kind, count in status.promised_updates.items()}
    for name, value in {**status.metrics, **counts}.items():
        yield gauge_name(name), WHOLE_RUN, float(value)
    for role in status.roles:
        own = {"running": role.state == "running", "restarts": role.restarts, "memory_bytes": role.memory_bytes}
        for name, value in {**role.values, **own}.items():
            yield gauge_name(name), role.name, float(value)


def gauge_name(name: str) -> str:
    """A metric's name as Prometheus allows it: `btm/loss` becomes `m3pc_btm_loss`."""
    return "m3pc_" + re.sub(r"\W", "_", name, flags=re.ASCII)
