"""What must hold of every online run that came to its end, whatever happened to it."""

from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import EpisodeEnd


def assert_exact(run: RunFolder, steps: int = 203) -> None:
    """Summary, checkpoint and log agree on the promised counts, and every episode in the log is whole and closed."""
    summary = run.summary()
    assert summary["status"] == "finished"
    counts = [summary[name] for name in ("environment_steps", "btm_updates", "critic_updates")]
    assert counts == [steps, round(0.1 * steps), steps]
    fragments = list(read_log(run.path / "replay"))
    assert sum(fragment.num_steps for fragment in fragments) == steps
    _, state = load_checkpoint(run)
    updates = {"btm": round(0.1 * steps), "critic": steps}
    assert state["online"] == {"fragments": len(fragments), "steps": steps, "updates": updates}
    lengths: dict[object, int] = {}
    closed: dict[object, EpisodeEnd] = {}
    for fragment in fragments:
        assert fragment.key not in closed
        assert fragment.offset == lengths.get(fragment.key, 0)
        lengths[fragment.key] = fragment.offset + fragment.num_steps
        if fragment.end is not None:
            closed[fragment.key] = fragment.end
    assert set(closed) == set(lengths)
