"""FOLDER has `assignment.json` and `transitions.parquet`; a checkpoint and policies are written beside them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from .learner import TrainingError
from .messages import STOPPED, Parent, Stopped
from .training import train


def main() -> int:
    """Trains to the last point, or until it is told to stop, after a checkpoint."""
    folder = Path(sys.argv[1]).resolve()
    os.chdir(folder)  # MuJoCo writes its log into the working folder
    assignment = json.loads((folder / "assignment.json").read_text())
    torch.set_num_threads(assignment["threads"])
    try:
        with Parent() as parent:
            train(folder, assignment, parent)
    except Stopped:
        return STOPPED
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
