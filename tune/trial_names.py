"""Ray Tune's trials are called what the sweep calls them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search.repeater import TRIAL_INDEX

from tune.pending import suggested_name

_INSTANCES: dict[int, TrialNames] = {}
_KEYS = count()


class TrialNames:
    """Names for Tune; a searcher's suggestions are numbered in the order in which they are made.

    Tune copies what gives it names with every trial, by pickle, so a copy within this process is the same object.

    Args:
        first_suggestion: number of the first that is to come.
    """

    def __init__(self, first_suggestion: int) -> None:
        self._suggestion = first_suggestion - 1
        self._known: dict[str, str] = {}
        self._key = next(_KEYS)
        _INSTANCES[self._key] = self

    def __call__(self, trial: TuneTrial) -> str:
        if TRIAL_INDEX not in trial.config:
            return str(trial.config["trial"]["name"])
        if trial.trial_id not in self._known:
            repetition = int(trial.config[TRIAL_INDEX])
            self._suggestion += repetition == 0
            self._known[trial.trial_id] = suggested_name(self._suggestion, repetition)
        return self._known[trial.trial_id]

    def __reduce__(self) -> tuple[Callable[..., TrialNames], tuple[Any, ...]]:
        return _instance, (self._key, self._suggestion)


def _instance(key: int, suggestion: int) -> TrialNames:
    """The instance of this process; elsewhere, where nothing is named, a new one."""
    return _INSTANCES[key] if key in _INSTANCES else TrialNames(suggestion + 1)
