"""Offline pretraining of the critic and the trajectory model: budget, metrics, validation, checkpoints, resume."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.critic.iql import same_networks
from m3pc_ray.critic.plausible import complaint
from m3pc_ray.critic.trainer import IQLTrainer
from m3pc_ray.errors import UserError
from m3pc_ray.model.masks import user_patterns
from m3pc_ray.model.precision import resolve_precision
from m3pc_ray.training import noise_std
from m3pc_ray.training.assemble import Models, as_trained, build_models, models_from_checkpoint
from m3pc_ray.training.btm_trainer import BTMTrainer, schedule_factor
from m3pc_ray.training.checkpoints import (
    Tensors,
    load_checkpoint,
    save_checkpoint,
)
from m3pc_ray.training.data import SegmentData, TransitionData
from m3pc_ray.training.data_parts import data_parts
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.metrics import MetricLogger
from m3pc_ray.training.pacing import Pace
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.state import (
    pack_generator,
    pack_torch_generator,
    unpack_generator,
    unpack_torch_generator,
)
from m3pc_ray.training.trainer_state import pack_training, restore_multiplier, restore_optimizers
from m3pc_ray.training.utility_units import measure_utility_units
from m3pc_ray.training.validation import validation_errors
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.resolve import load

CRITIC_STEPS_PER_CALL = 20
"""Critic updates between two looks at the clock; one takes a few milliseconds."""
LOOK_SECONDS = 0.2
"""Between two looks for Ctrl-C while the model is done and the critic is not."""
PHASES = ("critic", "btm")

ProgressCallback = Callable[[str, Pace, dict[str, float]], None]
"""Called with the phase, its pace and the newest metrics."""


def load_data(config: RunConfig) -> Trajectories:
    """The data set that a configuration names."""
    return load(config.data.dataset, config.data.environment, config.data.folder)


def resolve_order(config: RunConfig) -> str:
    """`side_by_side` or `in_turn`: how this machine trains critic and model."""
    if config.pretrain.components != "both":
        return "in_turn"
    if config.pretrain.order != "auto":
        return config.pretrain.order
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return "side_by_side" if cores > 1 else "in_turn"


@dataclass(frozen=True)
class TakenComponent:
    """The trained part of another run that `pretrain.components` leaves alone: `btm` or `critic`."""

    phase: str
    tensors: Tensors
    state: dict[str, Any]


def take_component(source: RunFolder, config: RunConfig, models: Models) -> TakenComponent:
    """Loads into `models` the component of `source` that is not to be trained.

    Raises:
        UserError: both components are to be trained, or `source` was trained on other data or with other sizes.
    """
    if config.pretrain.components == "both":
        raise UserError("--start-from needs --pretrain.components btm or critic: the other one is taken from that run")
    tensors, state = load_checkpoint(source)
    theirs = as_trained(source.config(), tensors)
    phase = "btm" if config.pretrain.components == "critic" else "critic"
    statistics, their_statistics = models.statistics.to_dict(), state["models"]["statistics"]
    # A critic sees rewards as they are and no returns-to-go: of the statistics only the states' matter to it.
    compared = list(statistics) if phase == "btm" else ["states_mean", "states_std"]
    other_scale = phase == "btm" and config.data.return_scale != theirs.data.return_scale
    if other_scale or any(statistics[name] != their_statistics[name] for name in compared):
        raise UserError(f"{source.path}: trained on other data than {config.data.dataset} (or another return_scale)")
    same = theirs.model == config.model if phase == "btm" else same_networks(theirs.critic, config.critic)
    if not same:
        sizes = "model.*, critic.hidden_width, critic.ensemble_size, critic.layer_norm, critic.dynamics"
        raise UserError(f"{source.path}: its {phase} has other sizes than these settings ({sizes})")
    (models.model if phase == "btm" else models.critic).load_state_dict(tensors[phase])
    return TakenComponent(phase, tensors, state)


class Pretraining:
    """Everything pretraining needs, as one object whose state is a checkpoint.

    Critic and model share nothing but the data they read, so where there are two cores they train side by side, the
    critic in a thread of its own, and each has all of the time. On one core they train in turn, each its share.

    Args:
        run: where metrics and checkpoints go.
        config: the run's settings.
        trajectories: the data set, of which `data_parts` says what is learnt from which episodes.
        models: what to train; None: new ones.
        taken: the component of `models` that came from another run.
        dtype: of the matrix products; None: what `pretrain.precision` says.
        order: `side_by_side` or `in_turn`; None: what `pretrain.order` says for this machine.
    """

    def __init__(
        self,
        run: RunFolder,
        config: RunConfig,
        trajectories: Trajectories,
        models: Models | None = None,
        taken: TakenComponent | None = None,
        dtype: torch.dtype | None = None,
        order: str | None = None,
    ) -> None:
        self.run, self.config = run, config
        self.order = order or resolve_order(config)
        self.updates_before = dict.fromkeys(PHASES, 0)
        parts = data_parts(trajectories, config)
        self.transition_episodes = parts.transitions
        self.models = models or build_models(config, parts.described)
        models = self.models
        self.device = models.model.modality_embedding.device
        self.dtype = dtype or resolve_precision(config.pretrain.precision, self.device)
        bounds = (models.action_low, models.action_high)

        def segments(part: Trajectories) -> SegmentData:
            scale, length = config.data.return_scale, config.model.segment_length
            return SegmentData(part, models.statistics, scale, models.time_limit, length, *bounds, self.device)

        self.segments, self.validation = segments(parts.train), segments(parts.validation)
        self.transitions = TransitionData(parts.transitions, *bounds, self.device)
        self.btm_trainer = BTMTrainer(models.model, config.pretrain, config.masks, self.dtype, config.seed)
        self.critic_trainer = IQLTrainer(models.critic, config.critic, self.dtype, config.seed)
        self.segment_rng = np.random.default_rng([config.seed, 2])
        self.transition_rng = np.random.default_rng([config.seed, 3])
        self.pace = self._paces()
        self.loggers = {phase: MetricLogger(run, config.logging, phase) for phase in PHASES}
        self._last_checkpoint = time.monotonic()
        self._stop = StopRequest()
        self._critic_thread: Future[None] | None = None
        self._critic_lock = threading.Lock()
        """Held by whoever changes or saves what the critic's training changes."""
        self._halt_critic = False
        self._torch_state: str | None = None
        if taken is not None:
            self.updates_before[taken.phase] = taken.state[f"{taken.phase}_updates"]
            self._restore_optimizers(taken.phase, taken.tensors, taken.state)

    def _restore_optimizers(self, phase: str, tensors: Tensors, state: dict[str, Any]) -> None:
        """Optimizers of a phase, and with the model's the entropy multiplier, as a checkpoint has them."""
        trainer: BTMTrainer | IQLTrainer = self.btm_trainer if phase == "btm" else self.critic_trainer
        restore_optimizers(trainer, tensors, state["optimizers"])
        if phase == "btm":
            restore_multiplier(self.btm_trainer, tensors)

    def _paces(self) -> dict[str, Pace]:
        config = self.config.pretrain
        seconds = dict.fromkeys(PHASES, 60.0 * config.max_minutes)
        if self.order == "in_turn" and config.components == "both":
            seconds["critic"] *= config.critic_fraction
            seconds["btm"] *= 1.0 - config.critic_fraction
        steps = {"critic": self.config.critic.updates, "btm": config.steps}
        trained = {phase: config.components in ("both", phase) for phase in PHASES}
        return {phase: Pace(steps[phase], seconds[phase]) if trained[phase] else Pace(0) for phase in PHASES}

    def train(self, on_progress: ProgressCallback | None = None) -> dict[str, float]:
        """Trains to the end and returns the last validation errors.

        The first Ctrl-C lets the update under way end, writes a checkpoint and raises KeyboardInterrupt.
        """
        if self._torch_state is None:
            torch.manual_seed(self.config.seed)  # of dropout
        else:
            unpack_torch_generator(self._torch_state)
        self.run.write_summary({"status": "running", "kind": "pretrain"})
        try:
            with StopRequest() as self._stop:
                torch.set_num_threads(self.config.pretrain.threads or os.cpu_count() or 1)
                if self.order == "side_by_side":
                    errors = self._train_side_by_side(on_progress)
                else:
                    self._train_critic(on_progress)
                    errors = self._train_btm(on_progress)
        except KeyboardInterrupt:
            self.run.write_summary({"status": "interrupted", **self._counters()})
            raise
        except BaseException:
            self.run.note_failure(**self._counters())
            raise
        finally:
            for logger in self.loggers.values():
                logger.flush()
        self.checkpoint()
        self._measure_settings()
        self.run.write_summary({"status": "finished", "validation": errors, **self._counters()})
        return errors

    def _measure_settings(self) -> None:
        """Writes what the planner needs measured into the run's configuration, where every planner finds it: the width
        of fixed noise where that is used, the units of the softmax."""
        models = replace(self.models, critic_updates=self._updates()["critic_updates"])
        if noise_std.missing(self.config):
            models = replace(models, config=noise_std.with_measured(models, self.transition_episodes))
        settings = {}
        if self.config.pretrain.utility_unit_power:
            units = measure_utility_units(models, self.transition_episodes, self.config.seed)
            settings = {f"planner.utility_unit_{guide}": unit for guide, unit in units.items()}
        self.run.write_config(with_settings(models.config, settings))

    def _train_side_by_side(self, on_progress: ProgressCallback | None) -> dict[str, float]:
        """The model here, where signals arrive, the critic in a thread."""
        self._halt_critic = False
        with ThreadPoolExecutor(1, thread_name_prefix="critic") as executor:
            self._critic_thread = executor.submit(self._train_critic, on_progress, beside_model=True)
            try:
                errors = self._train_btm(on_progress)
                while not self._critic_thread.done():
                    wait([self._critic_thread], LOOK_SECONDS)
                    self._between_updates()
                self._critic_thread.result()
            finally:  # whatever ended the model's training ends the critic's
                self._halt_critic = True
        return errors

    def _train_critic(self, on_progress: ProgressCallback | None, beside_model: bool = False) -> None:
        pace, config = self.pace["critic"], self.config
        while not pace.finished:
            if beside_model and (self._halt_critic or self._stop.requested):
                return  # the model's thread writes the checkpoint
            with self._critic_lock:
                started = time.monotonic()
                steps = min(CRITIC_STEPS_PER_CALL, pace.total_steps - pace.step)
                factor = schedule_factor(config.critic.schedule, 0, pace.step, pace.progress)
                for _ in range(steps):
                    batch = self.transitions.sample(self.transition_rng, config.critic.batch_size)
                    metrics = self.critic_trainer.update(batch, factor)
                pace.advance(time.monotonic() - started, steps)
            if pace.step % (config.pretrain.log_every * CRITIC_STEPS_PER_CALL) < CRITIC_STEPS_PER_CALL or pace.finished:
                row = self._finite({name: float(value) for name, value in metrics.items()}, "critic", pace.step)
                self._check_values(row["value_mean"], pace.step)
                row["updates_per_second"] = pace.step / max(pace.seconds, 1e-9)
                self.loggers["critic"].log(pace.step, row)
                if on_progress:
                    on_progress("critic", pace, row)
            if not beside_model:
                self._between_updates()

    def _train_btm(self, on_progress: ProgressCallback | None) -> dict[str, float]:
        pace, config = self.pace["btm"], self.config.pretrain
        errors: dict[str, float] = {}
        started = time.monotonic()
        while not pace.finished:
            share = self.config.data.labelled_share
            tokens, valid = self.segments.sample(self.segment_rng, config.batch_size, share)
            factor = schedule_factor(config.schedule, config.warmup_steps, pace.step, pace.progress)
            metrics = self.btm_trainer.update(tokens, valid, factor)
            now = time.monotonic()
            pace.advance(now - started)
            started = now
            if pace.step % config.log_every == 0 or pace.finished:
                row = self._finite({name: float(value) for name, value in metrics.items()}, "model", pace.step)
                row["sequences_per_second"] = config.batch_size * pace.step / pace.seconds
                row["learning_rate"] = config.learning_rate * factor
                self.loggers["btm"].log(pace.step, row)
                if on_progress:
                    on_progress("btm", pace, row)
            if config.validate_every and pace.step % config.validate_every == 0 and not pace.finished:
                errors = self._validate()
            self._between_updates()
        return self._validate() if pace.step else errors

    def _validate(self) -> dict[str, float]:
        t = min(self.config.planner.context_length, self.config.model.segment_length - 1)
        patterns = user_patterns(self.config.masks)
        likelihood = self.config.pretrain.action_loss == "nll"
        errors = validation_errors(self.models.model, self.validation, t, patterns=patterns, likelihood=likelihood)
        self.loggers["btm"].log(self.pace["btm"].step, {f"validation/{name}": value for name, value in errors.items()})
        return errors

    def _finite(self, row: dict[str, float], part: str, step: int) -> dict[str, float]:
        """The row itself, or an error when training has diverged: nothing after that would be worth keeping."""
        bad = [name for name, value in row.items() if not np.isfinite(value)]
        if bad:
            raise UserError(
                f"{self.run.path}: {', '.join(bad)} of the {part} is not finite at step {step}; the last checkpoint is "
                "good: lower the learning rate (pretrain.learning_rate, critic.learning_rate) and start again"
            )
        return row

    def _check_values(self, value_mean: float, step: int) -> None:
        """Raises UserError where the critic promises what rewards cannot pay: nothing planned by it is worth having."""
        rewards, ends = (self.transitions.columns[name].cpu().numpy() for name in ("rewards", "terminated"))
        wrong = complaint(value_mean, rewards, ends, self.config.critic, self.models.critic.value_std.item())
        if wrong:
            raise UserError(f"{self.run.path}: step {step}: {wrong}")

    def _counters(self) -> dict[str, Any]:
        return {
            "environment_steps": 0,
            **self._updates(),
            "seconds": (max if self.order == "side_by_side" else sum)(pace.seconds for pace in self.pace.values()),
        }

    def _total(self) -> int:
        return sum(pace.step for pace in self.pace.values())

    def _updates(self) -> dict[str, int]:
        return {f"{phase}_updates": self.updates_before[phase] + self.pace[phase].step for phase in PHASES}

    def _between_updates(self) -> None:
        critic = self._critic_thread
        if critic is not None and critic.done():
            critic.result()  # raises what ended it
        if self._stop.requested:
            self._halt_critic = True
            if critic is not None:
                critic.result()
            self.checkpoint()
            self._stop.check()
        if time.monotonic() - self._last_checkpoint > 60.0 * self.config.pretrain.checkpoint_minutes:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Writes everything; complete or absent. Raises UserError instead where a weight is not finite."""
        with self._critic_lock:
            self._write_checkpoint()
        self._last_checkpoint = time.monotonic()

    def _write_checkpoint(self) -> None:
        weights = {**dict(self.models.model.named_parameters()), **dict(self.models.critic.named_parameters())}
        self._finite({name: float(values.detach().sum()) for name, values in weights.items()}, "models", self._total())
        tensors, optimizers = pack_training(self.models, self.btm_trainer, self.critic_trainer)
        state = {
            "kind": "pretrain",
            "order": self.order,
            "models": self.models.description(),
            **self._updates(),
            "updates_before": self.updates_before,
            "dtype": str(self.dtype).removeprefix("torch."),
            "environment_steps": 0,
            "optimizers": optimizers,
            "pace": {name: pace.to_dict() for name, pace in self.pace.items()},
            "random": {
                "segments": pack_generator(self.segment_rng),
                "transitions": pack_generator(self.transition_rng),
                "masks": pack_generator(self.btm_trainer.mask_rng),
                "torch": pack_torch_generator(),
            },
        }
        save_checkpoint(self.run, self._total(), tensors, state)

    @classmethod
    def resume(cls, run: RunFolder, trajectories: Trajectories) -> Pretraining:
        """Pretraining as it stood at the run's newest complete checkpoint."""
        config = run.config()
        tensors, state = load_checkpoint(run)
        models = models_from_checkpoint(config, tensors, state)
        # The measured choice of one process may differ from another's: what was begun in bfloat16 goes on in it.
        dtype, order = getattr(torch, state["dtype"]), state["order"]
        pretraining = cls(run, config, trajectories, models, dtype=dtype, order=order)
        pretraining.updates_before = state["updates_before"]
        for phase in PHASES:
            pretraining._restore_optimizers(phase, tensors, state)
        pretraining.pace = {name: Pace(**state["pace"][name]) for name in PHASES}
        for name, logger in pretraining.loggers.items():
            logger.truncate_after(pretraining.pace[name].step)
        random = state["random"]
        pretraining.segment_rng = unpack_generator(random["segments"])
        pretraining.transition_rng = unpack_generator(random["transitions"])
        pretraining.btm_trainer.mask_rng = unpack_generator(random["masks"])
        pretraining._torch_state = random["torch"]
        return pretraining
