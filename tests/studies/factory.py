"""Small studies on the bundled data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m3pc_ray.studies.definition import Study
from m3pc_ray.studies.study_file import load_study
from m3pc_ray.yaml_text import write_yaml

SMALL: dict[str, Any] = {
    "device": "cpu",
    "model.width": 16,
    "model.heads": 2,
    "pretrain.components": "btm",
    "pretrain.steps": 4,
    "pretrain.batch_size": 8,
    "pretrain.precision": "float32",
    "pretrain.warmup_steps": 1,
    "critic.hidden_width": 16,
    "critic.updates": 5,
    "critic.batch_size": 8,
    "planner.num_candidates": 4,
    "planner.precision": "float32",
    "logging.tensorboard": False,
}


def study_tree(**changes: Any) -> dict[str, Any]:
    """What a small study file holds, with some of its keys replaced; None removes one."""
    tree: dict[str, Any] = {
        "title": "A small study",
        "question": "Does it work?",
        "datasets": {"hop": {"dataset": "bundled/hopper"}},
        "settings": dict(SMALL),
        "seeds": [0],
        "variants": {
            "standard": {"settings": {"pretrain.components": "both"}},
            "one_group": {"start_from": "standard", "settings": {"masks.groups": 1}},
            "pair": {"proposes": "one_group", "predicts": "standard"},
            "seen_anew": {"trained_as": "standard", "settings": {"planner.current_state": "reconstructed"}},
            "plain": {"settings": {"masks.groups": 1}},
        },
        "evaluation": {"planners": ["none", "critic"], "episodes": 2, "seed": 7},
        "columns": ["action_error/return_conditioned", "states_error/1_ahead", "score/none", "score/critic"],
    }
    tree |= changes
    return {key: value for key, value in tree.items() if value is not None}


def write_study(path: Path, **changes: Any) -> Path:
    path.write_text(write_yaml(study_tree(**changes)))
    return path


def make_study(folder: Path, **changes: Any) -> Study:
    return load_study(write_study(folder / "small.yaml", **changes))
