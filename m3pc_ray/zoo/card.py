"""The model card of a run: what it is, what it learnt from, what it cost, what it earns, how to use it."""

from __future__ import annotations

import json
from typing import Any

from m3pc_ray.errors import UserError
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.run_folder import RunFolder

PLANNERS = {"none": "BTM, one mask", "return": "M³PC-M", "critic": "M³PC-Q"}


def model_card(run: RunFolder, step: int) -> str:
    """Markdown with the header that Hugging Face reads.

    Args:
        step: the checkpoint that goes with it.
    """
    config, summary = run.config(), run.summary()
    _, state = load_checkpoint(run, step)
    metadata = state["models"]["metadata"]
    model = config.model
    lines = [
        "---",
        "library_name: m3pc_ray",
        "tags: [reinforcement-learning, model-predictive-control, offline-to-online, m3pc]",
        "---",
        "",
        f"# M³PC on {metadata['environment_id']}, {metadata['name']}",
        "",
        "A bidirectional trajectory model, a masked transformer over states, actions, rewards and returns, that plans "
        "with itself: M³PC, arXiv 2412.05675.",
        "",
        "| | |",
        "|---|---|",
        f"| environment | {metadata['environment_id']}: {len(metadata['observation_low'])} observations, "
        f"{len(metadata['action_low'])} actions |",
        f"| learnt from | {metadata['name']} |",
        f"| model | segments of {model.segment_length} steps, width {model.width}, {model.encoder_layers} encoder and "
        f"{model.decoder_layers} decoder layers, {model.heads} heads |",
        f"| kind, status | {summary.get('kind')}, {summary.get('status')} |",
        f"| updates | model {summary.get('btm_updates', 0):,}, critic {summary.get('critic_updates', 0):,} |",
        f"| environment steps | {summary.get('environment_steps', 0):,} |",
        f"| training | {summary.get('seconds', 0.0) / 60:.0f} minutes |",
        f"| seed | {config.seed} |",
        f"| checkpoint | {step} |",
        "",
        "## Scores",
        "",
        *_scores(run),
        "",
        "## Use",
        "",
        "```",
        "m3pc pull PLACE runs/pulled",
        "m3pc evaluate --run runs/pulled --planner critic --episodes 20",
        "m3pc finetune --run runs/pulled --out runs/online --data.dataset DATA",
        "```",
        "",
        "```python",
        "from m3pc_ray.agent import Agent",
        "",
        'agent = Agent.load("runs/pulled", planner="critic")',
        "```",
        "",
        "`config.yaml` has every setting, `m3pc-run.json` sizes and checksums. Versions: "
        + ", ".join(f"{name} {version}" for name, version in summary.get("versions", {}).items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _scores(run: RunFolder) -> list[str]:
    rows = _evaluated(run)
    if not rows:
        return ["Not evaluated: `m3pc evaluate --run RUN --json RUN/evaluation.json` before pushing puts scores here."]
    table = ["| planner | score | return | episodes |", "|---|---|---|---|"]
    for row in rows:
        score = "" if row.get("score_mean") is None else f"{row['score_mean']:.1f} ± {row['score_sem']:.1f}"
        earned = f"{row['return_mean']:.1f} ± {row['return_sem']:.1f}"
        table.append(f"| {PLANNERS.get(row['planner'], row['planner'])} | {score} | {earned} | {row['episodes']} |")
    return [*table, "", "± is the standard error over the episodes of this one training."]


def _evaluated(run: RunFolder) -> list[dict[str, Any]]:
    path = run.path / "evaluation.json"
    if not path.is_file():
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
        for row in rows:
            _ = row["planner"], row["return_mean"] + row["return_sem"], row["episodes"]
        return rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no evaluation of `m3pc evaluate --json` ({error}); write it again or remove it"
        ) from error
