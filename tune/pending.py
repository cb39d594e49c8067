"""What is left of a sweep: from its results, the trials that go on, and what a searcher has learnt so far."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import fmean

from tune.plan import Replicate, Trial
from tune.results import ENDED, ResultsFile
from tune.space import Settings

Tried = list[tuple[Settings, float]]
"""Suggested settings, each with its mean score."""


def suggested_name(suggestion: int, repetition: int) -> str:
    """Name of one trial of a searcher's suggestion; both count from 0."""
    return f"s{suggestion:04d}-{repetition}"


def suggestions(results: ResultsFile) -> dict[int, Settings]:
    """Settings of every suggestion that some trial has reported of, by number."""
    found = {}
    for row in results.rows:
        match = re.fullmatch(r"s(\d+)-\d+", row["trial"])
        if match:
            found[int(match[1])] = results.settings(row)
    return found


def unfinished(planned: Sequence[Trial], among: Sequence[Replicate], results: ResultsFile) -> list[Trial]:
    """Trials of the plan, and of suggestions that were made, which have not ended, as they are to go on.

    Args:
        planned: all that is known beforehand.
        among: what a suggestion is tried with.
        results: of the sweep so far.
    """
    made = [
        Trial(suggested_name(number, repetition), settings, **asdict(replicate))
        for number, settings in suggestions(results).items()
        for repetition, replicate in enumerate(among)
    ]
    return [_as_it_stands(trial, results) for trial in (*planned, *made) if results.status(trial.name) not in ENDED]


def tried(among: Sequence[Replicate], results: ResultsFile) -> Tried:
    """Suggestions of which every trial has ended."""
    found = []
    for number, settings in suggestions(results).items():
        newest = [results.newest(suggested_name(number, repetition)) for repetition in range(len(among))]
        scores = [
            row["return"] if row["score"] is None else row["score"]
            for row in newest
            if row is not None and row["status"] in ENDED
        ]
        if len(scores) == len(among):
            found.append((settings, fmean(scores)))
    return found


def _as_it_stands(trial: Trial, results: ResultsFile) -> Trial:
    """With the newest copy of its run, and the settings that a population had given it by then."""
    reports = [row for row in results.rows if row["trial"] == trial.name and row["report_step"] is not None]
    if not reports:
        return trial
    newest = next((row for row in reversed(reports) if row["checkpoint"]), reports[-1])
    settings = {} if trial.baseline else results.settings(newest)
    return replace(trial, settings=settings, checkpoint=newest["checkpoint"] or "")
