"""Runs a sweep: plans what is left to do, hands it to Ray Tune, and goes on later where it was interrupted.

A sweep resumes from its own files alone: the definition says which trials there are, the results which of them have
ended, DIR/trials and the copies of runs where the others go on. Ray Tune's own state, which is pickled Python, is never
read again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import ray.tune
from ray.tune import CheckpointConfig, FailureConfig, PlacementGroupFactory, TuneConfig, Tuner
from ray.tune import RunConfig as TuneRunConfig
from ray.tune.experiment import Trial as TuneTrial

from actors.cluster import ray_session
from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import read_yaml_text, write_yaml
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder
from tune.callbacks import logging_callbacks
from tune.definition import Sweep, read_sweep
from tune.evaluate_trial import evaluate_trial
from tune.finetune_trial import finetune_trial
from tune.fitting import cluster_nodes, trial_bundles
from tune.folder import DEFINITION, SweepFolder
from tune.plan import Replicate, Source, Trial, open_sources, plan_trials, replicates, trial_config
from tune.recorder import Recorder
from tune.reporting import SCORE, TrialContext
from tune.results import ENDED, ResultsFile
from tune.search import Tried, make_scheduler, make_searcher
from tune.view import SweepView

TRIALS = {"evaluate": evaluate_trial, "finetune": finetune_trial}


def start_sweep(sweep: Sweep, folder: SweepFolder) -> ResultsFile:
    """Run a new sweep to its end in an empty folder.

    Raises:
        UserError: the folder holds something, a trial cannot be made or can never fit the cluster.
        KeyboardInterrupt: Ctrl-C; `resume_sweep` goes on.
    """
    if folder.exists(DEFINITION):
        raise UserError(f"{folder.name}: a sweep is there; continue it with `m3pc resume {folder.name}`")
    if folder.exists():
        raise UserError(f"{folder.name}: not empty, so it is not touched; name another folder")
    sources = open_sources(sweep)
    sweep = replace(sweep, runs=tuple(str(source.folder.path) for source in sources))
    SweepRun(sweep, folder, sources).check()
    folder.write(DEFINITION, write_yaml(sweep.described()).encode())
    return resume_sweep(folder)


def resume_sweep(folder: SweepFolder) -> ResultsFile:
    """Go on with a sweep: trials that have ended stay, those that failed or were interrupted are taken up again.

    Raises:
        UserError, KeyboardInterrupt: as for `start_sweep`.
    """
    sweep = read_sweep(
        read_yaml_text(folder.read(DEFINITION), f"{folder.name}/{DEFINITION}"), f"{folder.name}/{DEFINITION}"
    )
    with _alone(folder), ray_session():
        return SweepRun(sweep, folder, open_sources(sweep)).run()


class SweepRun:
    """One sitting of a sweep.

    Args:
        sweep: the definition.
        folder: where it goes.
        sources: the pretrained runs.

    Raises:
        UserError: a trial cannot be made.
    """

    def __init__(self, sweep: Sweep, folder: SweepFolder, sources: list[Source]) -> None:
        self.sweep, self.folder, self.sources = sweep, folder, sources
        self.planned = plan_trials(sweep, sources)
        self.replicates = tuple(replicates(sweep, sources))
        self.online = trial_config(sweep, sources[0], {}, sweep.seeds[0]).online

    @property
    def num_trials(self) -> int:
        """Of the whole sweep."""
        suggested = self.sweep.samples * len(self.replicates) if self.sweep.searcher == "optuna" else 0
        return len(self.planned) + suggested

    def check(self) -> None:
        """Raises UserError for what can be known to be wrong without a cluster."""
        make_scheduler(self.sweep, self.online)
        if self.sweep.searcher == "optuna":
            make_searcher(self.sweep, 1, [])

    def run(self) -> ResultsFile:
        """Bring every trial to its end.

        Raises:
            UserError: a trial can never fit the cluster.
            KeyboardInterrupt: Ctrl-C.
        """
        results = ResultsFile(self.folder, self.sweep)
        keep_copies = self.sweep.scheduler.name == "pbt" or self.folder.path is None
        nodes = cluster_nodes()
        left = unfinished(self.planned, results)
        trials = {trial.name: trial for trial in left}
        context = TrialContext(self.sweep, self.folder.address, self.replicates, nodes, keep_copies, trials)
        for trial in {str(trial.settings): trial for trial in left}.values():
            trial_bundles(self.sweep, self._config(trial), nodes)
        with SweepView(self.sweep, results, self.num_trials) as view:
            recorder = Recorder(results, context, self.online, view)
            if left:
                self._fit(context, recorder, {"trial": ray.tune.grid_search([_described(trial) for trial in left])})
                _check_ended(left, results)
            if self.sweep.searcher == "optuna":
                self._suggest(context, recorder, results)
        return results

    def _suggest(self, context: TrialContext, recorder: Recorder, results: ResultsFile) -> None:
        """Let the searcher suggest what is left of `samples`."""
        tried = self._tried(results)
        if len(tried) >= self.sweep.samples:
            return
        domains = {name: axis.domain() for name, axis in self.sweep.space.items()}
        repetitions = len(self.replicates)
        self._fit(
            context,
            recorder,
            {"trial": {"settings": domains}},
            num_samples=(self.sweep.samples - len(tried)) * repetitions,
            search_alg=make_searcher(self.sweep, repetitions, tried),
        )
        if len(self._tried(results)) < self.sweep.samples and not _failed(results):
            raise KeyboardInterrupt

    def _fit(self, context: TrialContext, recorder: Recorder, space: dict[str, Any], **options: Any) -> None:
        """Have Ray Tune run the trials of a space."""
        trainable = ray.tune.with_parameters(TRIALS[self.sweep.kind], context=context)
        sweep = self.sweep

        def resources(config: dict[str, Any]) -> PlacementGroupFactory:
            settings = self._config(context.trial(config, config["trial"].get("name", "")))
            return PlacementGroupFactory(trial_bundles(sweep, settings, context.nodes))

        def name(trial: TuneTrial) -> str:
            return str(trial.config["trial"].get("name", trial.trial_id))

        population = sweep.scheduler.name == "pbt"
        tuner = Tuner(
            ray.tune.with_resources(trainable, resources),
            param_space=space,
            tune_config=TuneConfig(
                metric=SCORE,
                mode="max",
                scheduler=make_scheduler(sweep, self.online),
                max_concurrent_trials=sweep.max_concurrent or None,
                trial_name_creator=name,
                trial_dirname_creator=name,
                **options,
            ),
            run_config=TuneRunConfig(
                name=f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}",
                storage_path=self.folder.location("tune"),
                storage_filesystem=None if self.folder.path is not None else self.folder.filesystem,
                failure_config=FailureConfig(max_failures=sweep.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=None if population else 1),
                callbacks=[recorder, *logging_callbacks(sweep, self.sources[0].config)],
                verbose=0,
            ),
        )
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other output has a box that no verbosity leaves out
        with _signals_restored(), _quiet():
            tuner.fit()

    def _config(self, trial: Trial) -> RunConfig:
        source = next(source for source in self.sources if str(source.folder.path) == trial.run)
        return trial_config(self.sweep, source, trial.settings, trial.seed, trial.baseline)

    def _tried(self, results: ResultsFile) -> Tried:
        """Suggestions of which every repetition has ended, with their mean score."""
        scores: dict[tuple, list[float]] = {}
        for row in results.rows:
            if row["last"] and not row["baseline"] and row["status"] in ENDED:
                values = tuple(results.settings(row).values())
                scores.setdefault(values, []).append(row["return"] if row["score"] is None else row["score"])
        whole = {values: found for values, found in scores.items() if len(found) >= len(self.replicates)}
        return [(dict(zip(self.sweep.varied, values, strict=True)), fmean(found)) for values, found in whole.items()]


def _described(trial: Trial) -> dict[str, Any]:
    """A trial for Ray Tune."""
    return {"name": trial.name, "settings": trial.settings}


def unfinished(planned: Sequence[Trial], results: ResultsFile) -> list[Trial]:
    """What of a plan has not ended, as it is to go on; and suggestions of an earlier sitting that have not."""
    left = [trial for trial in planned if results.status(trial.name) not in ENDED]
    known = {trial.name for trial in planned}
    for name in dict.fromkeys(row["trial"] for row in results.rows):
        if name not in known and results.status(name) not in ENDED:
            row = next(row for row in results.rows if row["trial"] == name)
            shared = {key: row[key] for key in Replicate.__annotations__}
            left.append(Trial(name, results.settings(row), **shared))
    return [_as_it_stands(trial, results) for trial in left]


def _as_it_stands(trial: Trial, results: ResultsFile) -> Trial:
    """With the copy of its run, and the settings that a population has given it since."""
    newest = results.newest(trial.name)
    if newest is None:
        return trial
    settings = {} if trial.baseline else results.settings(newest)
    return replace(trial, settings=settings, checkpoint=newest["checkpoint"] or "")


def _check_ended(trials: Sequence[Trial], results: ResultsFile) -> None:
    """Raises KeyboardInterrupt where Ray Tune gave up trials that have neither ended nor failed: it takes Ctrl-C for an
    orderly end."""
    if any(results.status(trial.name) not in (*ENDED, "failed") for trial in trials):
        raise KeyboardInterrupt


def _failed(results: ResultsFile) -> bool:
    return any(row["status"] == "failed" for row in results.rows)


@contextlib.contextmanager
def _signals_restored() -> Iterator[None]:
    """Ctrl-C means afterwards what it meant before; Ray Tune leaves its own handler behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What went wrong with a trial is said in one line; its traceback is in DIR/tune/<sitting>/<trial>/error.txt."""
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Consider boosting PBT performance")  # the roles of a run are made anew
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _alone(folder: SweepFolder) -> Iterator[None]:
    """Be the only process that runs this sweep, where its folder is a path."""
    if folder.path is None:
        yield
        return
    with RunFolder(Path(folder.path)).exclusive():
        yield
