"""Rows and tables of a comparison: what they hold, and that they are plain JSON."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from m3pc_ray.evaluation.reaching.measures import tracking_error
from m3pc_ray.evaluation.reaching.rows import make_row
from m3pc_ray.evaluation.reaching.tables import details_table, reach_table
from m3pc_ray.goals.success import HalfTurn
from tests.evaluation.reaching.factory import KEY, SUCCESS, make_cloud, make_episode, make_setting


def test_a_row_sums_up_its_episodes() -> None:
    cloud = make_cloud()
    setting = make_setting(cloud)
    episodes = [make_episode(0), make_episode(1, gain=0.4), make_episode(2, steps=9), make_episode(3, steps=15)]
    row = make_row("backward", episodes, setting, SUCCESS, cloud)
    assert (row["planner"], row["episodes"], row["seeds"], row["lengths"]) == (
        "backward",
        4,
        [0, 1, 2, 3],
        [20, 20, 9, 15],
    )
    errors = [tracking_error(episode.reached, episode.wanted, setting.std) for episode in episodes]
    assert row["tracking_errors"] == errors
    assert row["tracking_error_mean"] == pytest.approx(np.mean(errors))
    assert row["tracking_error_sem"] == pytest.approx(np.std(errors, ddof=1) / 2)
    assert row["key_error_mean"] == row["tracking_error_mean"], "only the key entry is wanted"
    assert row["successes"] == [True, False, False, True]
    assert row["success_rate"] == 0.5
    assert row["terminated_rate"] == 0.5
    assert row["length_mean"] == 16.0
    assert row["success_longest_hold_steps_mean"] == pytest.approx((10 + 0 + 0 + 4) / 4)
    assert row["waypoints_visited_mean"] == pytest.approx((4 + 3 + 1 + 3) / 16)
    reached = np.concatenate([episode.reached for episode in episodes])
    assert row["nearest_distance_mean"] == pytest.approx(cloud.distances(reached).mean())
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_what_does_not_exist_is_none() -> None:
    cloud = make_cloud()
    episode = make_episode(0)
    free = dataclasses.replace(episode, wanted=np.full_like(episode.wanted, np.nan))
    turn = HalfTurn(KEY, 3)
    row = make_row("bc", [free, free], make_setting(cloud), turn, cloud)
    for name in ("tracking_error_mean", "key_error_sem", "waypoints_visited_mean", "success_turned_at_step_mean"):
        assert row[name] is None, name
    assert row["tracking_errors"] == [None, None]
    assert row["success_largest_turn_mean"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no episode"):
        make_row("bc", [], make_setting(cloud), turn, cloud)
    console = Console(file=io.StringIO(), width=80)
    console.print(reach_table([row], turn.describe()))
    console.print(details_table([row]))


def test_tables_show_planners_and_what_success_means() -> None:
    cloud = make_cloud()
    setting = make_setting(cloud)
    rows = [
        make_row("backward", [make_episode(seed) for seed in range(4)], setting, SUCCESS, cloud),
        make_row("bc", [make_episode(seed, gain=0.0) for seed in range(4)], setting, SUCCESS, cloud),
    ]
    console = Console(file=io.StringIO(), width=80)
    console.print(reach_table(rows, SUCCESS.describe()))
    console.print(details_table(rows))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = {line.split()[0]: line for line in reversed(text.splitlines()) if line.strip()}
    assert "hopper-test in Hopper-v4, 4 episodes from seed 0" in text
    assert "0.00 ± 0.00" in lines["backward"]
    assert lines["backward"].count("100%") >= 2
    assert f"{rows[1]['tracking_error_mean']:.2f} ± 0.00" in lines["bc"]
    assert "the foot joint is above 0.5 for 3 consecutive" in text
    assert f"{rows[0]['data_distance_p99']:.2f}" in text
    assert "longest hold steps" in text
