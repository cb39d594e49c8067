"""live.json: what is written is what is read; anything else is refused with the field's name."""

import dataclasses
import json
import math
import threading

import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.live import live_path, read_live, write_live
from m3pc_ray.training.run_folder import RunFolder
from tests.online.watching.live_factory import role, status


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder(tmp_path)


def test_what_is_written_is_read(run):
    write_live(run, status())
    assert read_live(run) == status()
    write_live(run, status(state="finished", roles=[]))
    assert read_live(run) == status(state="finished", roles=[])
    assert [path.name for path in run.path.iterdir()] == ["live.json"]


def test_numbers_that_are_not_finite_survive_as_null(run):
    write_live(
        run, status(metrics={"a": math.inf, "b": 1.0}, roles=[role("learner", "learner", values={"c": math.nan})])
    )
    stored = json.loads(live_path(run).read_text())
    assert stored["metrics"] == {"a": None, "b": 1.0}
    assert math.isnan(read_live(run).metrics["a"])
    assert math.isnan(read_live(run).roles[0].values["c"])


def test_a_reader_never_sees_half_a_status(run):
    """One thread writes a long and a short status in turn while this one reads."""
    long = status(roles=[role(f"rollout_worker-{n}", "rollout_worker") for n in range(200)])
    write_live(run, long)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            write_live(run, status(roles=[]))
            write_live(run, long)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        lengths = {len(read_live(run).roles) for _ in range(200)}
    finally:
        done.set()
        writer.join()
    assert lengths <= {0, 200}


def test_no_status_is_a_clear_error(run):
    with pytest.raises(UserError, match="no live status; is the run running"):
        read_live(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, r"steps: must be int, not None"),
        ({"steps": 1.5}, r"steps: must be int"),
        ({"pid": True}, r"pid: must be int"),
        ({"updates": {"btm": "three"}}, r"updates.btm: must be int"),
        ({"metrics": [1]}, r"metrics: must be dict\[str, float\]"),
        ({"state": "sleeping"}, r"state: must be one of starting, running"),
        ({"roles": {}}, r"roles: must be list"),
        ({"roles": ["learner"]}, r"roles\[0\]: holds no mapping"),
        ({"roles": [{"name": "learner"}]}, r"roles\[0\].kind: missing"),
    ],
)
def test_a_damaged_status_is_named(run, change, message):
    write_live(run, status())
    live_path(run).write_text(json.dumps({**dataclasses.asdict(status()), **change}))
    with pytest.raises(UserError, match=message):
        read_live(run)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00\x01"])
def test_text_that_is_no_status(run, text):
    live_path(run).write_text(text)
    with pytest.raises(UserError, match="not a live status"):
        read_live(run)


def test_missing_fields_are_refused_and_unknown_ones_passed_over(run):
    tree = dataclasses.asdict(status())
    live_path(run).write_text(json.dumps({**tree, "invented_later": 3}))
    assert read_live(run) == status()
    del tree["seconds"]
    live_path(run).write_text(json.dumps(tree))
    with pytest.raises(UserError, match="seconds: missing"):
        read_live(run)


def test_writing_a_state_that_does_not_exist_is_a_defect(run):
    with pytest.raises(ValueError, match="state"):
        write_live(run, status(state="asleep"))
    with pytest.raises(ValueError, match="roles: x: kind"):
        write_live(run, status(roles=[role("x", "cook")]))
    assert not live_path(run).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match="gone/live.json: cannot write the live status"):
        write_live(RunFolder(tmp_path / "gone"), status())
