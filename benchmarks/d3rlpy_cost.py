"""CPU seconds of d3rlpy's updates, per method, in the environment of `make compare-env`.

    python -m m3pc_ray.benchmarks.d3rlpy_cost --data bundled/hopper --json cost.json

Each method trains in stretches of a few updates; the first warms up and is left out, of the others best and median are
shown. One thread, batches of 256 transitions, or of 64 windows for `dt`. The start of the program is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from m3pc_ray.commands._output import write_rows
from m3pc_ray.comparison.method import Assignment
from m3pc_ray.comparison.methods.d3rlpy import find_python, prepare, program_environment
from m3pc_ray.trajectories.resolve import load

STRETCHES = 6
LENGTHS = {"dt": 5, "iql-d3rlpy": 30, "awac": 20, "cal-ql": 3}
"""Updates of a stretch: about half a second each."""


def main() -> None:
    """Prints a line a method and writes rows where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="bundled/hopper", metavar="REF")
    parser.add_argument("--methods", default=",".join(LENGTHS), metavar="A,B")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    trajectories, rows = load(arguments.data), []
    changed = {**os.environ, **program_environment(), "OMP_NUM_THREADS": "1"}
    environment = {name: value for name, value in changed.items() if value is not None}
    for name in arguments.methods.split(","):
        with tempfile.TemporaryDirectory() as folder:
            prepare(name, Assignment("data", arguments.data, trajectories, 0, Path(folder), {"updates": 1}))
            words = [str(STRETCHES), str(LENGTHS[name])]
            said = subprocess.run(
                [str(find_python()), "-P", "-W", "ignore", "-m", "d3rlpy_program.costs", folder, *words],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
        measured = json.loads(said.stdout.splitlines()[-1])
        row = {"method": name, "stretch": LENGTHS[name]}
        for part, values in measured.items():
            row |= {f"{part}_best": min(values), f"{part}_median": statistics.median(values)}
        rows.append(row)
        print(
            ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
    if arguments.json:
        write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
