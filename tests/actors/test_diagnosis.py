"""The Ray check passes here, and every way in which Ray can be unusable is a row."""

import os

import pytest

from actors import diagnosis
from actors.diagnosis import check_ray
from actors.ray_probe import check_modes_agree
from m3pc_ray.errors import UserError


def without_ray() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def test_a_local_cluster_starts_works_and_leaves_nothing_behind(tmp_path):
    rows, machine = check_ray({**without_ray(), "HOME": str(tmp_path)})
    assert [(row.name, row.status) for row in rows] == [("ray", "ok"), ("ray network", "ok")]
    assert "a task and an actor answered" in rows[0].found
    assert rows[1].found == "the local cluster listens on loopback only"
    assert machine is not None
    assert machine.is_local
    assert sum(machine.cores) >= 1
    assert list(tmp_path.iterdir()) == []  # Ray's token would lie there


def test_the_cluster_of_ray_address_is_joined(cluster):
    # RAY_AUTH_MODE was set by Ray when this process started the cluster.
    rows, machine = check_ray({**os.environ, "RAY_ADDRESS": cluster})
    assert [row.status for row in rows] == ["ok", "ok"]
    assert f"cluster at {cluster}, 1 nodes: 2 cores" in rows[0].found
    assert rows[1].found.startswith("token authentication is on")
    assert machine is not None
    assert (machine.is_local, machine.cores) == (False, (2.0,))


def test_a_cluster_that_asks_for_a_token_turns_strangers_away(cluster, tmp_path):
    ((row,), machine) = check_ray({**without_ray(), "RAY_ADDRESS": cluster, "HOME": str(tmp_path)})
    assert row.status == "failure"
    assert "the cluster asks for its token: set RAY_AUTH_MODE=token" in row.found
    assert machine is None


def test_an_address_where_nobody_answers_fails():
    ((row,), machine) = check_ray({**without_ray(), "RAY_ADDRESS": "127.0.0.1:1"})
    assert row.status == "failure"
    assert "nobody answers there" in row.found
    assert machine is None


def test_ray_that_cannot_be_imported_fails(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('no raylet for this processor')")
    ((row,), _) = check_ray({**without_ray(), "PYTHONPATH": str(tmp_path)})
    assert row.status == "failure"
    assert "no raylet for this processor" in row.found


def test_a_process_that_dies_without_a_word_fails(tmp_path):
    (tmp_path / "ray.py").write_text("import os; os.abort()")
    ((row,), _) = check_ray({**without_ray(), "PYTHONPATH": str(tmp_path)})
    assert (row.status, row.found) == ("failure", "Ray ended the process with exit code -6")


def test_no_answer_in_time_fails(tmp_path):
    (tmp_path / "ray.py").write_text("import time; time.sleep(60)")
    ((row,), _) = check_ray({**without_ray(), "PYTHONPATH": str(tmp_path)}, seconds=1.0)
    assert (row.status, row.found) == ("failure", "no answer in 1 s")


@pytest.mark.parametrize(
    ("outside", "mode", "status", "advice"),
    [
        ([], "", "ok", ""),
        (["0.0.0.0 (raylet)"], "", "warning", "whoever has no token is turned away"),
        (["0.0.0.0 (raylet)"], "disabled", "warning", "RAY_AUTH_MODE=token"),
    ],
)
def test_a_local_cluster_that_others_reach_is_a_warning(outside, mode, status, advice):
    row = diagnosis._reach({"outside": outside, "token_required": True}, local=True, mode=mode)
    assert row.status == status
    assert advice in row.advice


def test_token_authentication_on_one_side_only_is_said():
    with pytest.raises(UserError, match="unset it here, or turn it on there"):
        check_modes_agree(False, "token")
    for required, mode in ((True, "token"), (False, ""), (False, "disabled")):
        check_modes_agree(required, mode)


def test_a_cluster_without_token_authentication_is_a_warning():
    row = diagnosis._reach({"outside": [], "token_required": False}, local=False, mode="")
    assert row.status == "warning"
    assert "token authentication is off" in row.found
