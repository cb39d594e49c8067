"""The learner role: mirrors the replay, does the updates it owes, publishes weights, writes checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.critic.trainer import IQLTrainer
from m3pc_ray.errors import UserError
from m3pc_ray.model.precision import resolve_precision
from m3pc_ray.online.divergence import all_finite, keep_batches
from m3pc_ray.online.replay.fragments import Fragment
from m3pc_ray.online.replay.offline_data import OfflineData
from m3pc_ray.online.replay.replay_storage import ReplayStorage
from m3pc_ray.online.served_weights import served_groups
from m3pc_ray.training.assemble import Models
from m3pc_ray.training.btm_trainer import BTMTrainer, schedule_factor
from m3pc_ray.training.checkpoints import (
    Tensors,
    pack_generator,
    pack_torch_generator,
    save_checkpoint,
    unpack_generator,
    unpack_torch_generator,
)
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.trainer_state import pack_training, restore_multiplier, restore_optimizers

Arrays = dict[str, np.ndarray]


MOST_UPDATES_AT_ONCE = 2
"""Updates of the trajectory model between two looks at what else there is to do."""
_LOSSES = ("loss", "value_loss", "q_loss", "dynamics_loss")
WARMUP_UPDATES = 100
"""Updates over which learning rates rise online: the optimizers come out of a schedule that ended at 0."""


@dataclass(frozen=True)
class Weights:
    """Published weights: arrays by parameter name, and the learner's count of updates when they were copied."""

    version: int
    model: Arrays
    critic: Arrays


@dataclass
class WeightLag:
    """By how many updates the weights that chose actions were behind the learner when their steps reached it."""

    smallest: int = 0
    largest: int = 0
    total: float = 0.0
    steps: int = 0

    def add(self, now: int, versions: tuple[int, int], steps: int) -> None:
        newest, oldest = now - versions[1], now - versions[0]
        self.smallest = newest if self.steps == 0 else min(self.smallest, newest)
        self.largest = max(self.largest, oldest)
        self.total += 0.5 * (newest + oldest) * steps
        self.steps += steps

    def summary(self) -> dict[str, float]:
        """min, mean and max, in updates; nothing where no step has come."""
        if self.steps == 0:
            return {}
        mean = self.total / self.steps
        return {"weight_lag_min": self.smallest, "weight_lag_mean": mean, "weight_lag_max": self.largest}


def build_storage(config: RunConfig, models: Models) -> ReplayStorage:
    """The replay of a run on the models' device: the best offline episodes, and room for its online steps."""
    online, device = config.online, models.model.modality_embedding.device
    offline = OfflineData.of(config, models.description())
    return ReplayStorage(
        offline.rows(min(online.replay_capacity, online.steps), device),
        offline.row_format,
        models.statistics,
        offline_fraction=online.offline_fraction,
        balanced_after=online.balanced_after,
    )


class Learner:
    """Trains the trajectory model and the critic on the mirrored replay.

    Args:
        config: the run's settings.
        models: what is trained, in place.
        storage: the replay, without any online step; see `build_storage`.
        tensors, state: a checkpoint's contents; of a pretraining run at first (optimizers, target networks and the
            entropy multiplier go on from there), of this run on resuming.
        evidence: folder for the batches after which training was not finite any more; None: they are not kept.
    """

    def __init__(
        self,
        config: RunConfig,
        models: Models,
        storage: ReplayStorage,
        tensors: Tensors,
        state: dict[str, Any],
        evidence: Path | None = None,
    ) -> None:
        self.config, self.models, self.storage = config, models, storage
        self._evidence = evidence
        device = models.model.modality_embedding.device
        dtype = resolve_precision(config.pretrain.precision, device)
        pretrain = replace(config.pretrain, learning_rate=config.online.btm_learning_rate)
        self.btm_trainer = BTMTrainer(
            models.model, pretrain, config.masks, dtype, config.seed, config.online.trained_losses
        )
        critic = replace(config.critic, learning_rate=config.online.critic_learning_rate)
        self.critic_trainer = IQLTrainer(models.critic, critic, dtype, config.seed)
        self.fragments = 0
        self.fragments_at_checkpoint = int(state.get("online", {}).get("fragments", 0))
        """Fragments of the log that the checkpoint it started from had learnt from."""
        self.updates = {"btm": 0, "critic": 0}
        """Online updates done of each kind."""
        self.lag = WeightLag()
        self._segment_rng = np.random.default_rng([config.seed, 4])
        self._transition_rng = np.random.default_rng([config.seed, 5])
        self._newest: dict[str, dict[str, torch.Tensor]] = {}
        self._batches: dict[str, list[dict[str, torch.Tensor]]] = {}
        self._published = -1
        self._before = {"btm": int(state["btm_updates"]), "critic": int(state["critic_updates"])}
        torch.manual_seed(config.seed)
        self._restore(tensors, state)
        # What planners serve is kept in checkpoints where decisions are to be explained; they start with these weights.
        self._served = self.weights() if config.online.record_decisions else None
        models.model.train()

    @property
    def steps(self) -> int:
        """Online environment steps mirrored."""
        return self.storage.arrived

    @property
    def version(self) -> int:
        """Updates that published weights are counted by: the trajectory model's, or the critic's if only it learns."""
        return self.updates["btm" if self.config.online.btm_updates_per_step > 0 else "critic"]

    @property
    def publication_due(self) -> bool:
        """Whether it is time to publish: by `publish_every`, or before the next updates could pass `max_weight_lag`."""
        online = self.config.online
        every = online.publish_every
        if online.max_weight_lag:
            every = max(1, min(every, online.max_weight_lag - MOST_UPDATES_AT_ONCE + 1))
        return self._published < 0 or self.version - self._published >= every

    def ingest(self, fragments: Sequence[Fragment]) -> None:
        """Mirror the next fragments of the replay, in its order."""
        for fragment in fragments:
            if fragment.num_steps:
                self.lag.add(self.version, fragment.weight_versions, fragment.num_steps)
            self.storage.append(fragment)
        self.fragments += len(fragments)

    def update(self, updates: Mapping[str, int], executor: Executor | None = None) -> None:
        """Do so many updates of each kind (`btm`, `critic`).

        With an executor the critic's run in it beside the model's: they share nothing but the replay they read.

        Raises:
            UserError: a loss is not finite any more; the batches of this call are kept.
        """
        self._batches = {"btm": [], "critic": []}
        self._do_updates(updates, executor)
        losses = [metrics[name] for metrics in self._newest.values() for name in _LOSSES if name in metrics]
        if losses and not bool(torch.stack(losses).isfinite().all()):
            self.check_finite()
        self._batches = {}

    def _do_updates(self, updates: Mapping[str, int], executor: Executor | None) -> None:
        if executor is None:
            self._update_critic(updates["critic"])
            self._update_btm(updates["btm"])
        else:
            critic = executor.submit(self._update_critic, updates["critic"])
            self._update_btm(updates["btm"])
            critic.result()

    def _update_critic(self, count: int) -> None:
        if count == 0:
            return
        size = self.config.critic.batch_size
        factor = self._learning_rate_factor("critic")
        for batch in self.storage.sample_transitions(self._transition_rng, count, size):
            self._batches["critic"].append(batch)
            metrics = self.critic_trainer.update(batch, factor)
        self._newest["critic"] = metrics
        self.updates["critic"] += count

    def _update_btm(self, count: int) -> None:
        for _ in range(count):
            tokens, valid = self.storage.sample_segments(self._segment_rng, self.config.online.btm_batch_size)
            self._batches["btm"].append(tokens if valid is None else {**tokens, "valid": valid})
            factor = self._learning_rate_factor("btm")
            self._newest["btm"] = self.btm_trainer.update(tokens, valid, factor)
            self.updates["btm"] += 1

    def _learning_rate_factor(self, kind: str) -> float:
        online = self.config.online
        ratio = online.btm_updates_per_step if kind == "btm" else online.critic_updates_per_step
        done = self.updates[kind]
        return schedule_factor(online.schedule, WARMUP_UPDATES, done, done / max(1.0, ratio * online.steps))

    def metrics(self) -> dict[str, float]:
        """The newest update's metrics, and the weight lag since the last call.

        Raises:
            UserError: one is not finite: training has diverged.
        """
        row = self.check_finite()
        row |= self.lag.summary()
        self.lag = WeightLag()
        return row

    def check_finite(self) -> dict[str, float]:
        """The newest update's metrics.

        Raises:
            UserError: one of them or a weight is not finite: training has diverged, and its weights must not be used.
        """
        row = {f"{kind}/{name}": float(v) for kind, metrics in self._newest.items() for name, v in metrics.items()}
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if not bad and not all_finite([self.models.model, self.models.critic]):
            bad = ["a weight"]
        if bad:
            kept = ""
            if self._evidence is not None and any(self._batches.values()):
                kept = f"; what was trained on last is in {keep_batches(self._evidence, self.updates, self._batches)}"
            raise UserError(
                f"{', '.join(bad)} is not finite after {self.updates['btm']} model and {self.updates['critic']} critic "
                "updates; the last checkpoint is good: lower online.btm_learning_rate or online.critic_learning_rate"
                + kept
            )
        return row

    def publish(self) -> Weights:
        """`weights`, to be given to the planners; `publication_due` counts from here."""
        self.check_finite()
        self._published = self.version
        weights = self.weights()
        if self._served is not None:
            self._served = weights
        return weights

    def weights(self) -> Weights:
        """A copy of the weights that planners need."""

        def arrays(module: torch.nn.Module) -> Arrays:
            return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}

        return Weights(self.version, arrays(self.models.model), arrays(self.models.critic))

    def checkpoint(self, run: RunFolder) -> None:
        """Write everything the run needs to go on from the fragments mirrored so far; complete or absent."""
        self.check_finite()  # diverged weights must not replace good ones
        tensors, optimizers = pack_training(self.models, self.btm_trainer, self.critic_trainer)
        state = {
            "kind": "finetune",
            "models": self.models.description(),
            "btm_updates": self._before["btm"] + self.updates["btm"],
            "critic_updates": self._before["critic"] + self.updates["critic"],
            "environment_steps": self.steps,
            "online": {"fragments": self.fragments, "steps": self.steps, "updates": self.updates},
            "optimizers": optimizers,
            "random": {
                "segments": pack_generator(self._segment_rng),
                "transitions": pack_generator(self._transition_rng),
                "masks": pack_generator(self.btm_trainer.mask_rng),
                "torch": pack_torch_generator(),
            },
        }
        if self._served is not None:
            tensors |= served_groups(self._served.model, self._served.critic)
            state["served"] = {"version": self._served.version}
        save_checkpoint(run, self.steps, tensors, state, self.config.online.keep_checkpoints)

    def _restore(self, tensors: Tensors, state: dict[str, Any]) -> None:
        restore_multiplier(self.btm_trainer, tensors)
        restore_optimizers(self.critic_trainer, tensors, state["optimizers"])
        # Another optimizer than pretraining's was asked for: its moments start anew.
        if all(name in state["optimizers"] for name in self.btm_trainer.optimizers()) and (
            ("btm_muon" in state["optimizers"]) == ("btm_muon" in self.btm_trainer.optimizers())
        ):
            restore_optimizers(self.btm_trainer, tensors, state["optimizers"])
        online = state.get("online")
        if online is None:
            return
        self.updates = {kind: int(online["updates"][kind]) for kind in self.updates}
        self._before = {kind: self._before[kind] - self.updates[kind] for kind in self.updates}
        random = state["random"]
        self._segment_rng = unpack_generator(random["segments"])
        self._transition_rng = unpack_generator(random["transitions"])
        self.btm_trainer.mask_rng = unpack_generator(random["masks"])
        unpack_torch_generator(random["torch"])
