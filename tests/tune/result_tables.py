"""Tables as a sweep's results.parquet holds them, made up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from tune.results import COLUMNS_AFTER, COLUMNS_BEFORE, FORMAT_VERSION, METADATA_KEY


def report(
    trial: str, mean: float | None, *, seed: int = 0, episodes: Sequence[float] = (), **more: Any
) -> dict[str, Any]:
    """A row: `mean` is the score (the return is 30 times that), other columns have defaults."""
    known = mean is not None
    row: dict[str, Any] = {
        "trial": trial,
        "kind": "evaluate",
        "baseline": False,
        "seed": seed,
        "run": "runs/hopper",
        "environment": "Hopper-v5",
        "dataset": "bundled/hopper",
        "status": "finished",
        "environment_steps": 0,
        "last": True,
        "planner": "critic",
        "score": mean,
        "return": 30.0 * mean if mean is not None else None,
        "scores": list(episodes) if known else None,
        "returns": [30.0 * each for each in episodes] if known else None,
        "seconds": 1.0,
        "error": "",
    }
    return row | more


def table(
    rows: Iterable[Mapping[str, Any]],
    varied: Mapping[str, pa.DataType],
    *,
    scales: Mapping[str, str] | None = None,
    **metadata: Any,
) -> pa.Table:
    """The rows with the sweep's metadata; `varied` has the type of every varied setting's column."""
    described = {
        "name": "made up",
        "kind": "evaluate",
        "varied": list(varied),
        "varied_scale": dict(scales or dict.fromkeys(varied, "linear")),
        "report_steps": [],
        "baseline": {"planner.guide": "none"},
        "baseline_label": "no planning",
        "episodes": 10,
        "format_version": FORMAT_VERSION,
    } | metadata
    columns = COLUMNS_BEFORE | dict(varied) | COLUMNS_AFTER
    schema = pa.schema(columns, metadata={METADATA_KEY: json.dumps(described).encode()})
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def write(folder: Path, results: pa.Table) -> Path:
    """The folder of a sweep with these results and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(results, folder / "results.parquet")
    return folder


def lambda_sweep(seeds: int = 3, steps: Sequence[int] = (), **metadata: Any) -> pa.Table:
    """Seven values of lambda and a baseline, `seeds` each; with `steps`, reports of finetuning there."""
    generator = np.random.default_rng(5)
    rows = []
    for index, value in enumerate((None, 0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9)):
        for seed in range(seeds):
            for step in steps or (0,):
                height = 60.0 if value is None else 85.0 - 60.0 * (value - 0.55) ** 2
                height += 2.0 * np.sqrt(step / 50_000)
                own = height + generator.normal(0.0, 2.0)
                episodes = own + generator.normal(0.0, 3.0, 10)
                rows.append(
                    report(
                        f"t{index}{seed}",
                        float(episodes.mean()),
                        seed=seed,
                        episodes=episodes,
                        baseline=value is None,
                        planner="none" if value is None else "critic",
                        environment_steps=step,
                        last=step == (steps or (0,))[-1],
                        kind="finetune" if steps else "evaluate",
                        **{"planner.td_lambda": value},
                    )
                )
    kind = {"kind": "finetune", "report_steps": list(steps)} if steps else {}
    return table(rows, {"planner.td_lambda": pa.float64()}, **(kind | {"name": "lambda"} | metadata))
