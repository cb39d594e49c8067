"""docs/metrics.md: every number that a run writes is on the page, and every line of it says something."""

import dataclasses
import re
from pathlib import Path

import pytest

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import to_dict
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.watching.live import LiveStatus, RoleStatus
from m3pc_ray.training.metrics import read_metrics
from m3pc_ray.training.run_folder import RunFolder
from tests.online.factory import make_pretrained_run
from tune.reporting import REPORTED as REPORTED_BY_TRIALS
from tune.reporting import SCORE

PAGE = Path(__file__).parent.parent / "docs/metrics.md"
STREAMS = ("btm", "critic", "online", "episodes", "evaluation")
REPORTED = """steps_per_second waiting_steps waiting_updates planner_batch_mean planner_batch_fill planner_batch_ms
planner_wait_ms planner_busy planner_decisions_per_second weight_version weight_lag_min weight_lag_mean weight_lag_max
learner_busy planning_share simulation_share fragments fragments_in_memory duplicates replay_segments"""
"""What a run on Ray reports in live.json and in the stream `online`."""
ROLE_VALUES = """batch_1 batch_16 queue steps_per_second planning_share simulation_share unacknowledged_fragments busy
updates_per_second_btm updates_per_second_critic checkpoint_seconds fragments_in_memory log_bytes sync_share sync_ms"""


def sections() -> dict[str, list[list[str]]]:
    """Rows (cells) of the tables under each heading."""
    found: dict[str, list[list[str]]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found[line.removeprefix("## ").removeprefix("Stream ").strip("`")] = []
        elif line.startswith("| ") and found and not line.startswith("| name |"):
            found[list(found)[-1]].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def names(rows: list[list[str]]) -> list[str]:
    """The names that rows are about."""
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]


def missing(written: set[str], section: str) -> set[str]:
    """Names that are not in the section; those of another stream after a slash are looked up there."""
    patterns = [re.sub(r"<\w+>", r"[^/]+", re.escape(name)) for name in names(sections()[section])]
    unknown = set()
    for name in written:
        stream, _, rest = name.partition("/")
        if section == "online" and stream in ("btm", "critic"):
            unknown |= {f"{stream}/{found}" for found in missing({rest}, stream)}
        elif not any(re.fullmatch(pattern, name) for pattern in patterns):
            unknown.add(name)
    return unknown


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[RunFolder]:
    """A tiny pretraining run, and one finetuned from it in one process."""
    from m3pc_ray.commands.finetune import resume_finetune

    folder = tmp_path_factory.mktemp("metrics")
    pretrained = make_pretrained_run(folder)
    run = prepare(pretrained, folder / "online", finetune_config(pretrained, {"online.steps": "60"}))
    run.write_summary({"serial": True})
    resume_finetune(run.path, quiet=True)
    return [pretrained, run]


@pytest.mark.parametrize("stream", STREAMS)
def test_every_number_of_a_run_is_explained(runs, stream):
    rows = [row for run in runs for row in read_metrics(run, stream)]
    written = {name for row in rows for name in row} - {"time", "stream", "step"}
    assert len(written) >= 3
    assert missing(written, stream) == set()


def test_the_streams_are_those_a_run_writes(runs):
    assert {row["stream"] for run in runs for row in read_metrics(run)} == set(STREAMS)


def test_every_number_of_the_live_status_is_explained():
    fields = {field.name for form in (LiveStatus, RoleStatus) for field in dataclasses.fields(form)}
    assert missing(fields | set(ROLE_VALUES.split()), "live.json") == set()
    assert missing(set(REPORTED.split()), "online") == set()


def test_every_number_of_a_trial_is_explained():
    assert missing({*REPORTED_BY_TRIALS, SCORE}, "Sweeps") == set()


def test_a_number_that_is_not_there_is_noticed():
    assert missing({"loss", "lost"}, "btm") == {"lost"}
    assert missing({"btm/loss", "btm/lost", "critic/q_loss"}, "online") == {"btm/lost"}
    assert missing({"none/return_mean", "none/return/mean", "return_mean"}, "evaluation") == {
        "none/return/mean",
        "return_mean",
    }


def test_every_line_has_a_name_and_a_meaning():
    for section, rows in sections().items():
        for row in rows:
            assert len(row) == 3, (section, row)
            assert row[0].startswith("`"), (section, row)
            assert row[1], (section, row)
        if section != "live.json":  # whose tables repeat names on purpose: of the run, and of a role
            assert len(set(names(rows))) == len(names(rows)), section


def test_settings_that_the_page_names_exist():
    config = to_dict(RunConfig())
    named = re.findall(r"`((?:online|planner|pretrain|model|critic|logging)\.\w+)", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 20
    for name in named:
        section, _, setting = name.partition(".")
        assert setting in config[section], name
