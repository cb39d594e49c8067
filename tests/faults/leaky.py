"""A replay that leaks on purpose, for the test of what the measurement of memory can see."""

from typing import Any

import numpy as np
import ray

from actors.replay import ReplayActor

LEAK_BYTES = 2**20


class LeakyReplay(ReplayActor):
    """Keeps an object in the object store, and as much memory of its own, for every look at its counters."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._kept: list[Any] = []

    async def status(self, rollouts_wait: bool = False) -> dict[str, Any]:
        """As the replay's, and leaks."""
        self._kept.append(ray.put(np.ones(LEAK_BYTES, np.uint8)))
        self._kept.append(np.ones(LEAK_BYTES, np.uint8))
        return await super().status(rollouts_wait)
