"""Clusters in docs and README: every command line is one that its tool takes, and those of step 3 work."""

import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

import click
import pytest

from m3pc_ray.cli import main
from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.live import read_live
from m3pc_ray.training.run_folder import RunFolder
from tests.actors.checks import assert_exact
from tests.cluster.commands import UnknownCommandError, check, command_lines
from tests.cluster.head import JOB_SECONDS, Head, ray_command, run
from tests.faults.driver import REPOSITORY

PAGE = REPOSITORY / "docs" / "clusters.md"
LINES = list(command_lines(PAGE))
README = [line for line in command_lines(REPOSITORY / "README.md") if line.startswith(("ray ", "RAY_", "export "))]
FEW = ["--online.evaluate_every", "0", "--online.evaluation_episodes", "1"]


@pytest.mark.parametrize("line", [*LINES, *README])
def test_every_command_is_one_that_its_tool_takes(line):
    check(line)


def test_the_page_has_every_step():
    assert len(README) >= 4
    text = "\n".join(LINES)
    for command in ("ray start --head", "ray job submit", "ray up", "ray submit", "kubectl apply", "m3pc resume"):
        assert command in text


@pytest.mark.parametrize(
    "line",
    [
        "ray start --haed",
        "ray job submitt -- m3pc doctor",
        "ray job submit --working-dir . -- m3pc finetune --run a --outt b",
        "ray job submit --working-dir . -- frobnicate",
        "ray submit configs/cluster/aws.yaml configs/cluster/submit.py -- finetun --run a --out b",
        "ray up configs/cluster/awz.yaml",
        "m3pc finetune --run a --out b --online.stepz 3",
        "m3pc finetune --run a --out b --config online/workers_65",
        "RAY_AUTH_MODUS=token ray start --head",
        "kubectl aply -f configs/cluster/rayjob.yaml",
        "helm install kuberay",
    ],
)
def test_a_command_that_is_wrong_would_be_found(line):
    with pytest.raises((UnknownCommandError, UserError, click.ClickException)):
        check(line)


def test_every_file_of_configs_cluster_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert [path.name for path in (REPOSITORY / "configs/cluster").iterdir() if path.name not in text] == []


def test_links_lead_somewhere():
    for target, anchor in re.findall(r"\]\(([^)#]+)(#[^)]+)?\)", PAGE.read_text(encoding="utf-8")):
        path = (PAGE.parent / target).resolve()
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
            assert anchor[1:] in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, anchor


def test_the_table_is_what_the_command_prints(tmp_path):
    (line,) = [line for line in LINES if line.startswith("m3pc bench sizing")]
    assert main([*shlex.split(line)[1:], "--json", str(tmp_path / "rows.json")]) == 0
    computed = {
        f"| {row['workers']} | {row['planners']} | {row['steps_per_second']:.0f} | {row['limit']} | {row['hours']:.1f} "
        f"| {row['learner_ms']:.2g} ms |"
        for row in json.loads((tmp_path / "rows.json").read_text())["rows"]
    }
    printed = set(re.findall(r"^\| \d+ \| \d+ \| \d+ \| .*\|$", PAGE.read_text(encoding="utf-8"), re.M))
    assert len(printed) >= 6
    assert printed <= computed


def on_the_head(line: str, shared: Path) -> list[str]:
    """A line's words with the test's shared folder, the environment that installs nothing, and few evaluations."""
    line = line.replace("/shared/runs", str(shared)).replace("runtime_env.yaml", "runtime_env_installed.yaml")
    words = shlex.split(line)
    return [*words, *FEW] if "finetune" in words else words


@pytest.mark.slow
def test_the_commands_of_step_3_work_one_after_the_other(head: Head, pretrained, tmp_path):
    (tmp_path / "hopper").symlink_to(pretrained.path)
    jobs = [on_the_head(line, tmp_path) for line in LINES if line.startswith("ray job") and "sweep" not in line]
    submit, submit_hopper, status, logs, stop, resume = jobs
    assert head.ray(*submit[1:]).returncode == 0
    assert_exact(RunFolder.open(tmp_path / "hopper-online"))
    more = ["--steps", "20000"]  # so that it is not at its end when it is stopped
    assert head.ray(*submit_hopper[1:], *more).returncode == 0
    ends = time.monotonic() + JOB_SECONDS
    while not ((tmp_path / "hopper-2/live.json").exists() and read_live(RunFolder(tmp_path / "hopper-2")).steps > 50):
        assert time.monotonic() < ends, head.ray(*logs[1:]).stdout
        time.sleep(0.1)
    assert "running" in head.ray(*status[1:]).stdout.lower()
    assert head.ray(*stop[1:]).returncode == 0
    assert "m3pc: interrupted" in head.ray(*logs[1:]).stdout
    stopped = RunFolder.open(tmp_path / "hopper-2")
    assert stopped.summary()["status"] == "interrupted"
    steps = stopped.summary()["environment_steps"]
    config = stopped.path / "config.yaml"
    config.write_text(config.read_text().replace("steps: 20000", f"steps: {steps + 50}"))
    assert head.ray(*resume[1:]).returncode == 0
    assert_exact(stopped, steps + 50)


@pytest.mark.slow
def test_the_submit_script_runs_m3pc_on_the_cluster_of_the_head(head: Head, pretrained, tmp_path):
    (tmp_path / "hopper").symlink_to(pretrained.path)
    line = next(line for line in LINES if line.startswith("ray submit --tmux"))
    words = on_the_head(line, tmp_path)
    script, arguments = words[words.index("--") - 1], words[words.index("--") + 1 :]
    environment = {**head.environment, "RAY_ADDRESS": head.address, "PYTHONPATH": str(REPOSITORY)}
    ran = run([sys.executable, script, *arguments], environment)
    assert ran.returncode == 0, ran.stdout
    assert_exact(RunFolder.open(tmp_path / "hopper-online"))


def test_the_auth_token_command_makes_one(tmp_path):
    line = next(line for line in LINES if "get-auth-token" in line)
    ran = run(ray_command(*shlex.split(line)[1:]), {**os.environ, "HOME": str(tmp_path)})
    assert ran.returncode == 0, ran.stdout
    assert len((tmp_path / ".ray/auth_token").read_text()) >= 32
