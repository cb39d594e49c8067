"""What the library calls between two environment steps: progress, and checkpoints at ends of episodes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

if TYPE_CHECKING:
    from m3pc_ray.sac.trainer import Progress, SacTrainer


class Watching(BaseCallback):
    """Acts where a step and its updates are done and the next has not begun, so that what it saves is whole.

    Args:
        trainer: whose training this is.
        progress: called after every step; what it raises is passed on, after a checkpoint where there is a folder.
    """

    def __init__(self, trainer: SacTrainer, progress: Progress | None) -> None:
        super().__init__()
        self._trainer, self._progress = trainer, progress
        self._first = trainer.steps
        self._episodes = -1
        self._return = float("nan")
        self._counted = self._saved = time.monotonic()

    def seconds_to_count(self) -> float:
        """Wall time since it was asked last."""
        before, self._counted = self._counted, time.monotonic()
        return self._counted - before

    def report(self) -> None:
        """Tell where training stands; where that raises, save first."""
        if self._progress is None:
            return
        try:
            self._progress(self._trainer.steps, self._mean_return())
        except BaseException:
            if self._trainer.folder is not None:
                self._trainer.seconds += self.seconds_to_count()
                self._trainer.save()
            raise

    def _mean_return(self) -> float:
        model = self._trainer.model
        if model._episode_num != self._episodes:
            self._episodes = model._episode_num
            self._return = float(np.mean([episode["r"] for episode in model.ep_info_buffer or [{"r": np.nan}]]))
        return self._return

    def _on_rollout_start(self) -> None:
        if self._trainer.steps == self._first:  # nothing is done yet in this call
            return
        trainer = self._trainer
        due = trainer.folder is not None and time.monotonic() - self._saved > trainer.checkpoint_seconds
        if due and trainer.episode_ended:
            trainer.seconds += self.seconds_to_count()
            trainer.save()
            self._saved = time.monotonic()
        self.report()

    def _on_step(self) -> bool:
        return True
