"""Stands in for the other environment's Python: speaks as the program does, needs neither torch nor d3rlpy.

What it does is said by the file `behaviour` beside its folder's assignment.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def say(**values: Any) -> None:
    print(json.dumps(values), file=sys.stderr, flush=True)


def reach(folder: Path, assignment: dict[str, Any], point: int) -> None:
    """A policy of random layers."""
    rng = np.random.default_rng([assignment["seed"], point])
    sizes = [assignment["observation_dim"], 5, assignment["action_dim"]]
    tensors = {}
    for number, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        tensors[f"layer{number}.weight"] = rng.normal(size=(after, before)).astype(np.float32)
        tensors[f"layer{number}.bias"] = rng.normal(size=after).astype(np.float32)
    state = json.dumps({"activation": "relu", "output": "tanh", "updates": assignment["updates"] + point})
    save_file(tensors, folder / f"policy-{point:08d}.safetensors", metadata={"state": state})


def main() -> None:
    folder = Path(sys.argv[-1])
    assignment = json.loads((folder / "assignment.json").read_text())
    behaviour = (folder / "behaviour").read_text() if (folder / "behaviour").is_file() else ""
    if behaviour == "lacks d3rlpy":
        print("ModuleNotFoundError: No module named 'd3rlpy'", file=sys.stderr)
        sys.exit(1)
    asked: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: asked.append(number))
    (folder / "starts").open("a").write("x")
    if behaviour == "loads for ever":
        time.sleep(60.0)
    say(event="started")
    print("a warning that is no message", file=sys.stderr, flush=True)
    if behaviour == "crash":
        print('{"event": "unheard of"}', file=sys.stderr)
        print("FloatingPointError: update 7: critic_loss is not finite", file=sys.stderr)
        sys.exit(3)
    say(event="progress", phase="update", done=1, total=assignment["updates"])
    if behaviour == "works for ever":
        until = time.monotonic() + 60.0
        while not asked and time.monotonic() < until:
            time.sleep(0.01)
        (folder / "checkpoint").write_text("written after the signal" if asked else "never asked")
        sys.exit(130)
    for point in [0, *assignment["points"]]:
        reach(folder, assignment, point)
        say(event="point", point=point)
        if sys.stdin.readline().strip() != "continue":
            sys.exit(130)
        (folder / f"went-on-after-{point}").touch()


if __name__ == "__main__":
    main()
