"""The disk of the run folder fills up in the middle of a run: one clear error, and it goes on once there is room."""

import contextlib
import os

import pytest

from m3pc_ray.cli import main
from m3pc_ray.commands.finetune import resume_finetune
from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint
from tests.actors.checks import assert_exact

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("cluster")]


def fill(folder, leave: int) -> None:
    """Take the room of a disk up to so many bytes; again, what has become free since."""
    with (folder / "ballast").open("ab", buffering=0) as file:
        while (free := os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - leave) > 0:
            with contextlib.suppress(OSError):
                file.write(bytes(min(free, 2**16)))


@pytest.mark.parametrize("small_disk", [16], indirect=True)  # holds the three checkpoints that a run may have at once
@pytest.mark.parametrize(
    "leave, error",
    [
        pytest.param(
            2**20,  # too little for a checkpoint's 1.7 MB, more than enough for logs
            r"step-\d+: the disk is full, so this checkpoint was not written \(earlier ones are intact\)",
            marks=pytest.mark.slow,
        ),
        (0, "No space left on device|disk is full"),
    ],
    ids=["checkpoint", "everything"],
)
def test_the_run_ends_with_one_error_and_resumes(pretrained, small_disk, monkeypatch, capsys, leave, error):
    settings = {"online.evaluate_every": "0", "online.steps": "300", "online.checkpoint_updates": "10"}
    run = prepare(pretrained, small_disk / "run", finetune_config(pretrained, settings))
    update = OnlineProgress.update

    def fill_after_100_steps(progress, steps, *arguments, **options):
        update(progress, steps, *arguments, **options)
        if steps >= 100:  # from then on, for an old checkpoint that is removed makes room for a new one
            fill(small_disk, leave)

    with monkeypatch.context() as patch:
        patch.setattr(OnlineProgress, "update", fill_after_100_steps)
        assert main(["resume", str(run.path)]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert pytest.raises(UserError, match=error).matches(UserError(said))
    before = [fragment.key for fragment in read_log(run.path / "replay")]
    for step in list_checkpoints(run):
        assert load_checkpoint(run, step)[1]["environment_steps"] == step
    if leave == 0:  # no better now
        assert main(["resume", str(run.path)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    (small_disk / "ballast").unlink()
    resume_finetune(run.path, quiet=True)
    assert_exact(run, 300)
    assert [fragment.key for fragment in read_log(run.path / "replay")][: len(before)] == before
