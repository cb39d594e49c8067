"""Runs a sweep: plans what is left to do, hands it to Ray Tune, and goes on later where it was interrupted.

A sweep resumes from its own files alone: the definition says which trials there are, the results which of them have
ended, DIR/trials and the copies of runs where the others go on. Ray Tune's own state, which is pickled Python, is never
read again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import ray.tune
from ray.tune import CheckpointConfig, FailureConfig, PlacementGroupFactory, TuneConfig, Tuner
from ray.tune import RunConfig as TuneRunConfig

from actors.cluster import ray_session
from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.offline_data import OfflineData
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.yaml_text import read_yaml_text, write_yaml
from tune.callbacks import check_logging, logging_callbacks, logging_settings
from tune.definition import Sweep
from tune.evaluate_trial import evaluate_trial
from tune.finetune_trial import finetune_trial
from tune.fitting import Nodes, cluster_nodes, trial_bundles
from tune.folder import DEFINITION, SweepFolder
from tune.pending import suggestions, tried, unfinished
from tune.plan import (
    Source,
    Trial,
    configuration_of,
    open_sources,
    plan_trials,
    replicates,
    trial_config,
    with_absolute_paths,
)
from tune.recorder import Recorder
from tune.reporting import SCORE, STEPS, TrialContext
from tune.results import ResultsFile
from tune.search import make_scheduler, make_searcher
from tune.sweep_file import read_sweep
from tune.trial_names import TrialNames
from tune.view import SweepView

TRIALS = {"evaluate": evaluate_trial, "finetune": finetune_trial}


def start_sweep(sweep: Sweep, folder: SweepFolder) -> ResultsFile:
    """Run a new sweep to its end in an empty folder; the folder stays empty where it cannot begin.

    Raises:
        UserError: the folder holds something, a trial cannot be made or can never fit the cluster, a data set cannot be
            read or belongs to another environment.
        KeyboardInterrupt: Ctrl-C; `resume_sweep` goes on.
    """
    if folder.exists(DEFINITION):
        raise UserError(f"{folder.name}: a sweep is there; continue it with `m3pc resume {folder.name}`")
    if folder.exists():
        raise UserError(f"{folder.name}: not empty, so it is not touched; name another folder")
    sources = open_sources(sweep)
    runs = tuple(str(source.folder.path) for source in sources)
    sweep = replace(with_absolute_paths(sweep), runs=runs, identity=secrets.token_hex(8))
    sitting = SweepRun(sweep, folder, sources)
    with ray_session():
        sitting.check()
        with _alone(folder):
            if folder.exists(DEFINITION):
                raise UserError(f"{folder.name}: another sweep began there meanwhile; name another folder")
            folder.write(DEFINITION, write_yaml(sweep.described()).encode())
            return sitting.run()


def resume_sweep(folder: SweepFolder) -> ResultsFile:
    """Go on with a sweep: trials that have ended stay, those that failed or were interrupted are taken up again.

    Raises:
        UserError: it cannot go on.
        KeyboardInterrupt: Ctrl-C.
    """
    source = folder.shown(DEFINITION)
    sweep = read_sweep(read_yaml_text(folder.read(DEFINITION), source), source)
    sitting = SweepRun(sweep, folder, open_sources(sweep))
    with _alone(folder), ray_session():
        return sitting.run()


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
        """What can be known to be wrong before a trial begins; Ray must be connected.

        Raises:
            UserError: a trial can never fit the cluster, a data set cannot be read or belongs to another environment,
                or the scheduler, the searcher or what reports go to cannot be made.
        """
        make_scheduler(self.sweep, self.online)
        check_logging(logging_settings(self.sweep, self.sources[0].config), self.folder)
        if self.sweep.searcher == "optuna":
            make_searcher(self.sweep, 1, [])
        self._check_fit(self.planned, cluster_nodes())
        if self.sweep.kind == "finetune":
            data = {}
            for trial in (*self.planned, *self._first_suggestion()):
                config = self._config(trial)
                data[trial.run, config.data.dataset] = OfflineData.of(config, self._source(trial).models)
            for offline in data.values():
                offline.check()

    def run(self) -> ResultsFile:
        """Bring every trial to its end.

        Raises:
            UserError: a trial can never fit the cluster.
            KeyboardInterrupt: Ctrl-C.
        """
        results = ResultsFile(self.folder, self.sweep)
        keep_copies = self.sweep.scheduler.name == "pbt" or self.folder.path is None
        nodes = cluster_nodes()
        left = unfinished(self.planned, self.replicates, results)
        trials = {trial.name: trial for trial in left}
        context = TrialContext(self.sweep, self.folder.address, self.replicates, nodes, keep_copies, trials)
        self._check_fit(left, nodes)
        with SweepView(self.sweep, results, self.num_trials) as view:
            recorder = Recorder(results, context, self.online, view)
            if left:
                described = [{"name": trial.name, "settings": trial.settings} for trial in left]
                self._fit(context, recorder, {"trial": ray.tune.grid_search(described)})
            made = suggestions(results)
            if self.sweep.searcher == "optuna" and len(made) < self.sweep.samples:
                domains = {name: axis.domain() for name, axis in self.sweep.space.items()}
                self._fit(
                    context,
                    recorder,
                    {"trial": {"settings": domains}},
                    first_suggestion=max(made, default=-1) + 1,
                    num_samples=(self.sweep.samples - len(made)) * len(self.replicates),
                    search_alg=make_searcher(self.sweep, len(self.replicates), tried(self.replicates, results)),
                )
        return results

    def _check_fit(self, trials: Sequence[Trial], nodes: Nodes) -> None:
        """Raises UserError where one of the trials, or of the suggestions to come, can never fit."""
        for trial in {str(trial.settings): trial for trial in (*trials, *self._first_suggestion())}.values():
            trial_bundles(self.sweep, self._config(trial), nodes)

    def _first_suggestion(self) -> list[Trial]:
        """A trial such as a searcher will suggest: what these reserve and read is the same for all of them."""
        if self.sweep.searcher != "optuna":
            return []
        settings = {name: axis.values[0] for name, axis in self.sweep.space.items()}
        return [Trial("", settings, **asdict(self.replicates[0]))]

    def _fit(
        self,
        context: TrialContext,
        recorder: Recorder,
        space: dict[str, Any],
        first_suggestion: int = 0,
        **options: Any,
    ) -> None:
        """Have Ray Tune run the trials of a space. Raises KeyboardInterrupt after Ctrl-C, which Tune takes for an
        orderly end."""
        trainable = ray.tune.with_parameters(TRIALS[self.sweep.kind], context=context)
        sweep = self.sweep

        def resources(config: dict[str, Any]) -> PlacementGroupFactory:
            settings = self._config(context.trial(config, config["trial"].get("name", "")))
            return PlacementGroupFactory(trial_bundles(sweep, settings, context.nodes))

        name = TrialNames(first_suggestion)
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
                # A trial that is at its end must not be compared once more, or a population would undo it.
                stop={STEPS: self.online.steps} if sweep.kind == "finetune" else None,
                callbacks=[recorder, *logging_callbacks(context, self.sources[0].config, self.folder)],
                verbose=0,
            ),
        )
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # those that are wanted are among the callbacks
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other output has a box that no verbosity leaves out
        with _signals_restored(), _quiet():
            tuner.fit()
        if recorder.interrupted:
            raise KeyboardInterrupt

    def _source(self, trial: Trial) -> Source:
        return next(source for source in self.sources if str(source.folder.path) == trial.run)

    def _config(self, trial: Trial) -> RunConfig:
        return configuration_of(self.sweep, self._source(trial), trial)


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
    folder.path.mkdir(parents=True, exist_ok=True)
    with RunFolder(folder.path).exclusive():
        yield
