"""Whether a run can be gone on with: its newest checkpoint, its replay log, and the versions that made it."""

from __future__ import annotations

import json
from typing import Any

from m3pc_ray.diagnosis.rows import Row
from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.replay_log import half_written_bytes, log_files, read_log
from m3pc_ray.training.checkpoints import checkpoint_defects
from m3pc_ray.training.run_folder import RunFolder, package_versions


def check_checkpoint(run: RunFolder) -> list[Row]:
    """One row: the newest checkpoint matches its checksums; where it does not, whether an older one does."""
    name, defects = f"checkpoint {run.path.name}", checkpoint_defects(run)
    if not defects:
        return [Row(name, "failure", "the run has no checkpoint", "start it again with --overwrite")]
    whole = [step for step, defect in defects.items() if defect is None]
    newest = max(defects)
    if not whole:
        found = f"step {newest:,}: {defects[newest]}; no checkpoint of {len(defects)} is whole"
        return [Row(name, "failure", found, "restore the folder from a copy, or start the run again with --overwrite")]
    if whole[-1] != newest:
        found = f"step {newest:,}: {defects[newest]}; step {whole[-1]:,} is whole"
        return [Row(name, "warning", found, f"the run goes on from step {whole[-1]:,}; check the disk it lies on")]
    return [Row(name, "ok", f"step {newest:,} matches its SHA-256 sums; {len(whole)} of {len(defects)} are whole")]


def check_replay_log(run: RunFolder) -> list[Row]:
    """One row on the log of a finetuning run: it can be read to its end, and nothing learnt from is missing."""
    name, folder = f"replay log {run.path.name}", run.path / "replay"
    fragments = steps = 0
    try:
        files = log_files(folder)
        for fragment in read_log(folder):
            fragments += 1
            steps += fragment.num_steps
        tail = half_written_bytes(files[-1]) if files else 0
    except UserError as error:
        return [Row(name, "failure", str(error), f"restore {folder} from a copy: what comes after the damage is lost")]
    found = f"{steps:,} steps in {fragments:,} fragments, {len(files)} files"
    learnt = int(_newest_state(run).get("online", {}).get("fragments", 0))
    if fragments < learnt:
        lost = f"{found}; the newest checkpoint has learnt from {learnt:,} fragments"
        return [
            Row(name, "failure", lost, f"{learnt - fragments:,} fragments are missing: restore {folder} from a copy")
        ]
    if tail:
        found += f"; the last {tail:,} bytes are half a record"
        return [Row(name, "warning", found, "none: a writer was interrupted, or is at work; `m3pc resume` drops them")]
    return [Row(name, "ok", found)]


def check_versions(run: RunFolder) -> list[Row]:
    """One row: the versions that made the run, against those installed."""
    name, made, here = f"versions {run.path.name}", run.summary().get("versions", {}), package_versions()
    if not isinstance(made, dict) or not made:
        return [Row(name, "not checked", f"{run.summary_path} names no versions")]
    different = [
        f"{package} {made[package]} (here {here.get(package, 'missing')})"
        for package in made
        if made[package] != here.get(package)
    ]
    if different:
        advice = "scores may differ; a resumed run is bit for bit the same with the same versions only"
        return [Row(name, "warning", "made with " + ", ".join(different), advice)]
    return [Row(name, "ok", f"made with the {len(made)} versions installed here")]


def _newest_state(run: RunFolder) -> dict[str, Any]:
    """State of the newest whole checkpoint, without its tensors; empty where there is none."""
    whole = [step for step, defect in checkpoint_defects(run).items() if defect is None]
    if not whole:
        return {}
    path = run.checkpoints_path / f"step-{whole[-1]:08d}" / "state.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    return state if isinstance(state, dict) else {}
