"""d3rlpy on a data set: `PYTHON -P d3rlpy_program.py FOLDER`, with the Python of the environment that has d3rlpy.

d3rlpy 2.8.1 asks for another Gymnasium than ours, so this file runs in an environment of its own (`make compare-env`)
and imports nothing of this project. What goes between the two, all in FOLDER:

assignment.json        method, seed, threads, environment_id, updates, start and stop (environment steps), evaluation
transitions.parquet    a row a step: observation, action in (-1, 1), reward, terminated, cut (the episode ends, though
                       it could go on)
progress.json          updates or environment_steps done
model.d3, model.json   d3rlpy's own checkpoint and how far it is
online.h5              what was collected online
result-STOP.parquet    updates; returns and lengths of episodes, where the method must play them itself
policy-STOP.npz        otherwise the policy as a plain perceptron
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import d3rlpy
import gymnasium
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from d3rlpy import algos, dataset, preprocessing

CHECKPOINT_SECONDS = 60.0
LOOK_UPDATES = 20
BATCH_SIZE = 256
OFFLINE_SHARE = 0.5
"""Of every batch online, as Cal-QL and RLPD mix them."""
DECISION_TRANSFORMER_BATCH = 64


class Stop(Exception):
    """Asked to stop, between two updates."""


def make_algorithm(method: str, data: Any, horizon: int) -> Any:
    """The method with d3rlpy's defaults, but for standardised observations, batches of 256 and Cal-QL's weight (5, its
    paper's for locomotion)."""
    seen = np.concatenate([episode.observations for episode in data.episodes]).astype(np.float64)
    mean, std = seen.mean(0).astype(np.float32), seen.std(0).astype(np.float32)
    # Given rather than fitted: a stage that begins from a checkpoint fits nothing.
    standard = preprocessing.StandardObservationScaler(mean=mean, std=std)
    common = {"batch_size": BATCH_SIZE, "observation_scaler": standard}
    if method == "dt":
        return algos.DecisionTransformerConfig(
            batch_size=DECISION_TRANSFORMER_BATCH,
            context_size=20,
            max_timestep=horizon,
            observation_scaler=standard,
            reward_scaler=preprocessing.MultiplyRewardScaler(0.001),
        ).create()
    configs = {
        "iql-d3rlpy": lambda: algos.IQLConfig(**common),
        "awac": lambda: algos.AWACConfig(**common),
        "cal-ql": lambda: algos.CalQLConfig(**common, conservative_weight=5.0),
    }
    return configs[method]().create()


def read_episodes(path: Path) -> Any:
    """The transitions as d3rlpy's data set."""
    table = parquet.read_table(path)

    def column(name: str) -> np.ndarray:
        return np.stack(table[name].to_numpy()).astype(np.float32)

    return dataset.MDPDataset(
        observations=column("observation"),
        actions=column("action"),
        rewards=table["reward"].to_numpy().astype(np.float32),
        terminals=table["terminated"].to_numpy().astype(np.float32),
        timeouts=table["cut"].to_numpy().astype(np.float32),
    )


class Program:
    """One stage: offline, or online from one point to the next."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, json.loads((folder / "assignment.json").read_text())
        self.data = read_episodes(folder / "transitions.parquet")
        self.environment = self._make_environment()
        horizon = self.environment.spec.max_episode_steps or 10_000
        self.algorithm = make_algorithm(self.work["method"], self.data, horizon)
        self.algorithm.build_with_dataset(self.data)
        self.updates, self.steps = 0, 0
        self.stopping = False
        self._saved = time.monotonic()
        if (folder / "model.json").is_file():
            self.updates, self.steps = json.loads((folder / "model.json").read_text()).values()
            self.algorithm.load_model(str(folder / "model.d3"))
        # Which batches come next is not kept: what is continued differs from what was never interrupted.
        d3rlpy.seed(
            int(np.random.SeedSequence([self.work["seed"], self.updates, self.steps]).generate_state(1)[0] // 2)
        )
        signal.signal(signal.SIGINT, self._ask_to_stop)

    def run(self) -> None:
        """To the stage's end, with what it leaves."""
        try:
            if self.work["stop"] == 0:
                self._offline()
            else:
                self._online()
        except Stop:
            self._save()
            raise SystemExit(130) from None
        self._save()
        self._leave_result()

    def _offline(self) -> None:
        missing, before = self.work["updates"] - self.updates, self.updates
        if missing <= 0:
            return

        def look(_algorithm: Any, _epoch: int, done: int) -> None:
            self.updates = before + done
            self._look({"updates": self.updates})

        self.algorithm.fit(
            self.data,
            n_steps=missing,
            n_steps_per_epoch=missing,
            show_progress=False,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
            callback=look,
        )

    def _online(self) -> None:
        """Whole stages only: one that is interrupted begins again at its start, from the checkpoint before it."""
        begun, before = self.steps, self.algorithm.grad_step
        self.environment.reset(seed=self.work["seed"] * 100_003 + begun)
        self.environment.action_space.seed(self.work["seed"] + begun)
        kept, buffer = self.folder / "online.h5", dataset.FIFOBuffer(1_000_000)
        if kept.is_file():
            online = dataset.ReplayBuffer.load(str(kept), buffer)
        else:
            online = dataset.ReplayBuffer(buffer, env=self.environment)
        mixed = dataset.MixedReplayBuffer(online, self.data, OFFLINE_SHARE)

        def look(algorithm: Any, _epoch: int, done: int) -> None:
            self.steps = begun + done
            self._look({"environment_steps": self.steps}, save=False)

        try:
            self.algorithm.fit_online(
                self.environment,
                mixed,
                n_steps=self.work["stop"] - begun,
                n_steps_per_epoch=self.work["stop"] - begun,
                # Until there is an episode to draw from, nothing is learnt.
                update_start_step=0 if kept.is_file() else self.environment.spec.max_episode_steps or 1_000,
                show_progress=False,
                logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
                callback=look,
            )
        except Stop:
            raise SystemExit(130) from None
        self.updates += self.algorithm.grad_step - before
        online.clip_episode(False)
        with open(f"{kept}.new", "w+b") as file:
            online.dump(file)
        os.replace(f"{kept}.new", kept)

    def _make_environment(self) -> Any:
        environment = gymnasium.make(self.work["environment_id"])
        space: Any = environment.action_space
        if not (np.all(space.low == -1) and np.all(space.high == 1)):
            environment = gymnasium.wrappers.RescaleAction(environment, np.float32(-1.0), np.float32(1.0))
        return gymnasium.wrappers.DtypeObservation(environment, np.float32)

    def _look(self, progress: dict[str, int], save: bool = True) -> None:
        if self.stopping:
            raise Stop
        if next(iter(progress.values())) % LOOK_UPDATES == 0:
            _write(self.folder / "progress.json", json.dumps(progress))
            if save and time.monotonic() - self._saved > CHECKPOINT_SECONDS:
                self._save()

    def _save(self) -> None:
        path = self.folder / "model.d3"
        self.algorithm.save_model(f"{path}.new")
        os.replace(f"{path}.new", path)
        _write(self.folder / "model.json", json.dumps({"updates": self.updates, "steps": self.steps}))
        self._saved = time.monotonic()

    def _leave_result(self) -> None:
        played: dict[str, Any] = {"returns": None, "lengths": None}
        name = f"{self.work['stop']:08d}"
        if self.work["method"] == "dt":
            returns, lengths = self._play()
            played = {"returns": returns, "lengths": lengths}
        else:
            self._export(self.folder / f"policy-{name}.npz")
        types = {"updates": pa.int64(), "returns": pa.list_(pa.float64()), "lengths": pa.list_(pa.int64())}
        row = {"updates": self.updates, **played}
        table = pa.table({key: pa.array([row[key]], types[key]) for key in types})
        parquet.write_table(table, self.folder / f"result-{name}.parquet.new")
        os.replace(self.folder / f"result-{name}.parquet.new", self.folder / f"result-{name}.parquet")

    def _play(self) -> tuple[list[float], list[int]]:
        """Episodes of a Decision Transformer, asked for the data's best return; resets as in our own evaluations."""
        evaluation = self.work["evaluation"]
        best = max(float(episode.compute_return()) for episode in self.data.episodes)
        returns, lengths = [], []
        for number in range(evaluation["episodes"]):
            actor = self.algorithm.as_stateful_wrapper(target_return=best)
            observation, _ = self.environment.reset(seed=evaluation["seed"] + number)
            reward, total, length, over = 0.0, 0.0, 0, False
            while not over:
                action = actor.predict(observation, reward)
                observation, reward, terminated, truncated, _ = self.environment.step(action)
                total, length, over = total + float(reward), length + 1, terminated or truncated
            returns.append(total)
            lengths.append(length)
        return returns, lengths

    def _export(self, path: Path) -> None:
        """The policy's mode as a perceptron on raw observations. Raises RuntimeError where it acts otherwise."""
        policy = self.algorithm.impl.policy
        last = policy._mu if hasattr(policy, "_mu") else policy._fc
        layers = [each for each in policy._encoder.modules() if isinstance(each, torch.nn.Linear)] + [last]
        arrays: dict[str, Any] = {}
        for number, layer in enumerate(layers):
            weight, bias = (tensor.detach().double().numpy() for tensor in (layer.weight, layer.bias))
            if number == 0:  # the scaler, folded in
                scaler = self.algorithm.observation_scaler
                std = scaler.std + scaler.eps
                weight, bias = weight / std, bias - weight @ (scaler.mean / std)
            arrays |= {f"weight{number}": weight.astype(np.float32), f"bias{number}": bias.astype(np.float32)}
        rows = np.random.default_rng(0).integers(len(self.data.episodes), size=64)
        seen = np.concatenate([self.data.episodes[row].observations[:4] for row in rows])
        hidden = seen
        for number in range(len(layers)):
            hidden = np.maximum(hidden, 0) if number else hidden
            hidden = hidden @ arrays[f"weight{number}"].T + arrays[f"bias{number}"]
        away = np.abs(np.tanh(hidden) - self.algorithm.predict(seen)).max()
        if away > 1e-3:
            raise RuntimeError(f"the exported policy's actions differ from d3rlpy's by {away:.2g}")
        np.savez(path, **arrays)

    def _ask_to_stop(self, _number: int, _frame: Any) -> None:
        self.stopping = True


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def main() -> None:
    """The command."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(json.loads((folder / "assignment.json").read_text())["threads"])
    Program(folder).run()


if __name__ == "__main__":
    main()
