"""Jobs submitted to a real head node: they are the same runs as the commands, and end as the commands end."""

import re
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from m3pc_ray.cli import main
from m3pc_ray.online.watching.live import read_live
from m3pc_ray.training.checkpoints import list_checkpoints
from m3pc_ray.training.metrics import read_metrics
from m3pc_ray.training.run_folder import RunFolder
from tests.actors.checks import assert_exact
from tests.cluster.head import JOB_SECONDS, Head, ray_command, run

INSTALLED = ("--runtime-env", "configs/cluster/runtime_env_installed.yaml")
WITH_PIP = ("--runtime-env", "configs/cluster/runtime_env.yaml")
SHOW_CODE = 'import sys, m3pc_ray; print("code:", m3pc_ray.__file__, "python:", sys.prefix)'


def finetune(source: RunFolder, out: Path, *options: str) -> list[str]:
    few = ["--online.evaluate_every", "100", "--online.evaluation_episodes", "1"]
    return ["m3pc", "finetune", "--run", str(source.path), "--out", str(out), *few, *options]


def evaluations(run: RunFolder) -> list[dict]:
    """What the run measured of itself, but for when and how fast."""
    times = ("time", "seconds", "decisions_per_s", "planning_cpu_ms")
    return [
        {name: value for name, value in row.items() if name.rpartition("/")[2] not in times}
        for row in read_metrics(run, "evaluation")
    ]


@pytest.mark.slow
def test_a_serial_job_gives_the_bits_of_the_command(head: Head, pretrained, tmp_path):
    job = head.submit(*finetune(pretrained, tmp_path / "job", "--serial", "--threads", "1"), options=INSTALLED)
    assert job.returncode == 0, job.stdout
    assert main(finetune(pretrained, tmp_path / "direct", "--serial", "--threads", "1")[1:]) == 0
    by_job, direct = RunFolder.open(tmp_path / "job"), RunFolder.open(tmp_path / "direct")
    assert evaluations(by_job) == evaluations(direct) != []
    assert by_job.summary()["returns"] == direct.summary()["returns"]
    for name in ("replay/log-000000.arrow", "checkpoints/step-00000203/manifest.json"):  # it has the hashes of the rest
        assert (by_job.path / name).read_bytes() == (direct.path / name).read_bytes(), name


def test_a_job_on_ray_takes_the_same_steps_and_updates_and_its_logs_are_followed(head: Head, pretrained, tmp_path):
    words = finetune(pretrained, tmp_path / "run", "--rollout-workers", "1", "--steps", "103")
    job = head.submit(*words, options=INSTALLED)
    assert job.returncode == 0, job.stdout
    assert_exact(RunFolder.open(tmp_path / "run"), 103)
    lines = job.stdout.splitlines()
    seen = [
        next(number for number, line in enumerate(lines) if re.search(pattern, line))
        for pattern in (r"submitted successfully", r"environment steps \d+ of 103", r"^run: .* 103 steps", r"succeeded")
    ]
    assert seen == sorted(seen)


def test_a_job_runs_the_uploaded_code_and_a_mistake_is_one_line_and_a_failed_job(head: Head, tmp_path):
    mistaken = f"m3pc finetune --run runs/hopper --out {tmp_path / 'run'}"
    words = ("bash", "-c", f"python -c '{SHOW_CODE}' && {mistaken}")
    job = head.submit(*words, options=("--submission-id", "mistaken"))
    assert job.returncode == 1
    assert re.search(r"^code: \S+/runtime_resources/working_dir_files/\w+/m3pc_ray/__init__.py", job.stdout, re.M)
    assert "m3pc: error: runs/hopper: no such run folder; a job sees a copy of the folder" in job.stdout
    assert "Traceback" not in job.stdout
    assert "failed" in head.ray("job", "status", "mistaken").stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_stopped_job_leaves_a_checkpoint_that_another_job_goes_on_from(head: Head, pretrained, tmp_path):
    path = tmp_path / "run"
    long = ("--serial", "--steps", "1000000", "--online.checkpoint_updates", "1000000", "--online.evaluate_every", "0")
    options = (*INSTALLED, "--submission-id", "stopped", "--no-wait")
    assert head.submit(*finetune(pretrained, path, *long), options=options).returncode == 0
    ends = time.monotonic() + JOB_SECONDS
    while not ((path / "live.json").exists() and read_live(RunFolder(path)).steps > 0):
        assert time.monotonic() < ends, head.ray("job", "logs", "stopped").stdout
        time.sleep(0.1)
    assert head.ray("job", "stop", "stopped").returncode == 0
    assert "m3pc: interrupted" in head.ray("job", "logs", "stopped").stdout
    summary = RunFolder.open(path).summary()
    assert summary["status"] == "interrupted"
    assert list_checkpoints(RunFolder.open(path)) == [0, summary["environment_steps"]]


@pytest.mark.slow
def test_a_sweep_is_a_job_too(head: Head, pretrained, tmp_path):
    definition = tmp_path / "sweep.yaml"
    definition.write_text("kind: evaluate\nspace:\n  planner.td_lambda: [0, 0.6]\nseeds: [0]\n")
    words = ("m3pc", "sweep", "--config", str(definition), "--run", str(pretrained.path), "--episodes", "2")
    job = head.submit(*words, "--out", str(tmp_path / "sweep"), options=INSTALLED)
    assert job.returncode == 0, job.stdout
    table = pq.read_table(tmp_path / "sweep" / "results.parquet")
    rows = table.filter(table["last"]).to_pylist()
    assert sorted(row["planner.td_lambda"] for row in rows) == [0.0, 0.6]
    assert {row["status"] for row in rows} == {"finished"}
    assert all(len(row["returns"]) == 2 for row in rows)
    misplaced = head.submit(*words, "--out", "sweeps/lambda", options=INSTALLED)
    assert misplaced.returncode == 1
    assert "lies in the copy of your folder" in misplaced.stdout


def test_without_the_token_no_job_is_taken(head: Head):
    job = run(ray_command("job", "submit", "--", "true"), head.stranger)
    assert job.returncode != 0
    assert "token" in job.stdout.lower()
    assert "submitted successfully" not in job.stdout


@pytest.mark.slow
def test_nodes_without_the_package_get_an_environment_with_it(head: Head, pretrained, tmp_path):
    began = time.monotonic()
    job = head.submit("python", "-c", SHOW_CODE, options=WITH_PIP)
    print(f"the first job took {time.monotonic() - began:.0f} s")
    assert job.returncode == 0, job.stdout
    place = r"^code: \S+/working_dir_files/\S+ python: \S+/runtime_resources/pip/\w+/virtualenv$"
    assert re.search(place, job.stdout, re.M)
    again = head.submit(*finetune(pretrained, tmp_path / "run"), options=WITH_PIP)
    assert again.returncode == 0, again.stdout
    assert_exact(RunFolder.open(tmp_path / "run"))
