"""Files with missing actions or rewards: read, written, described, made and joined."""

import dataclasses
import hashlib
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest

from m3pc_ray import cli
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import store
from m3pc_ray.trajectories.d4rl import read_hdf5, write_hdf5
from m3pc_ray.trajectories.store import read_store, write_store
from tests.trajectories.factory import (
    ARRAYS,
    CUT,
    TERMINATED,
    TIME_LIMIT,
    assert_same,
    d4rl_arrays,
    make_trajectories,
    write_arrays,
)


def make_mixed():
    """One episode with everything, one without actions, one that lacks single values, one of states alone."""
    data = make_trajectories([3, 7, 4, 5], [TIME_LIMIT, TIME_LIMIT, TERMINATED, CUT], unknown_finals=[2])
    rng = np.random.default_rng(1)
    actions_known, rewards_known = np.ones((2, data.num_steps), bool)
    actions_known[3:10] = False
    actions_known[10:14], rewards_known[10:14] = rng.permutation([[1, 0, 1, 0], [0, 1, 1, 1]])
    actions_known[14:], rewards_known[14:] = False, False
    return dataclasses.replace(data, actions_known=actions_known, rewards_known=rewards_known)


def test_a_file_without_actions_or_rewards_takes_sizes_from_the_environment(tmp_path):
    data = make_trajectories([5, 6])
    for missing in (["actions"], ["rewards"], ["actions", "rewards"]):
        arrays = {key: values for key, values in d4rl_arrays(data).items() if key not in missing}
        read = read_hdf5(write_arrays(tmp_path / "set.hdf5", arrays))
        (tmp_path / "set.hdf5").unlink()
        assert read.action_dim == 3
        for name in ("actions", "rewards"):
            known = getattr(read, f"{name}_known")
            assert (known is not None and not known.any()) if name in missing else known is None
            expected = np.zeros_like(getattr(data, name)) if name in missing else getattr(data, name)
            np.testing.assert_array_equal(getattr(read, name), expected)
        np.testing.assert_array_equal(read.observations, data.observations)


def test_steps_of_nan_are_unknown_and_half_a_nan_is_an_error(tmp_path):
    arrays = d4rl_arrays(make_trajectories([5, 6]))
    arrays["actions"] = arrays["actions"].copy()
    arrays["actions"][4] = np.nan
    read = read_hdf5(write_arrays(tmp_path / "set.hdf5", arrays))
    assert np.flatnonzero(~read.actions_known).tolist() == [4]
    assert read.rewards_known is None
    arrays["actions"][7, 1] = np.nan
    with pytest.raises(UserError, match=r"half\.hdf5: actions\[7, 1\] is nan; every value must be finite"):
        read_hdf5(write_arrays(tmp_path / "half.hdf5", arrays))


@pytest.mark.parametrize("everything", [False, True])
def test_both_forms_give_back_exactly_what_is_missing(tmp_path, everything):
    data = make_mixed()
    if everything:
        nothing = np.zeros(data.num_steps, bool)
        data = dataclasses.replace(data, actions_known=nothing, rewards_known=nothing)
    write_store(data, tmp_path / "store")
    write_hdf5(data, tmp_path / "set.hdf5")
    assert_same(read_store(tmp_path / "store"), data)
    assert_same(read_hdf5(tmp_path / "set.hdf5"), data)
    columns = parquet.read_table(tmp_path / "store" / store.DATA_FILE).to_pydict()
    assert [value is not None for value in columns["actions"]] == data.actions_known.tolist()
    assert [value is not None for value in columns["rewards"]] == data.rewards_known.tolist()


def test_a_complete_store_is_what_it_was(tmp_path):
    data = make_trajectories([3, 4])
    write_store(data, tmp_path / "store")
    described = json.loads((tmp_path / "store" / store.METADATA_FILE).read_text())
    assert "nulls_in" not in described
    digest = hashlib.sha256()
    for name, kind in zip(ARRAYS, ("<f4", "<f4", "<f4", "<i8", "<i1", "<f4"), strict=True):
        values = getattr(data, name)
        digest.update(f"{name}{values.shape}".encode() + values.astype(kind).tobytes())
    assert described["checksum"] == f"sha256:{digest.hexdigest()}"  # as before actions could be missing
    assert store.checksum(make_mixed()) != store.checksum(dataclasses.replace(make_mixed(), rewards_known=None))


def test_a_null_where_the_store_tells_of_none_is_damage(tmp_path):
    write_store(make_mixed(), tmp_path / "store")
    path = tmp_path / "store" / store.METADATA_FILE
    described = json.loads(path.read_text())
    assert described["nulls_in"] == ["actions", "rewards"]
    path.write_text(json.dumps({**described, "nulls_in": ["rewards"]}))
    with pytest.raises(UserError, match=r"actions\[3\] is null; every value must be there"):
        read_store(tmp_path / "store")
    path.write_text(json.dumps({**described, "nulls_in": ["obs"]}))
    with pytest.raises(UserError, match=r"nulls_in is \['obs'\]; only actions and rewards may have nulls"):
        read_store(tmp_path / "store")


def test_a_partly_labelled_copy_info_join_and_the_complete_part(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = make_trajectories([10] * 20)
    write_store(data, "whole")
    for share, name in (("0.8", "few"), ("0.5", "half"), ("1", "none")):
        assert cli.main(["data", "convert", "whole", name, "--drop-actions", share, "--seed", "3"]) == 0
    few, half, none = (read_store(name) for name in ("few", "half", "none"))
    assert few.actions_known.reshape(20, 10).all(axis=1).sum() == 4
    assert not (few.actions_known & ~half.actions_known).any()
    assert not none.actions_known.any()
    assert few.metadata.origin == "made by a test; actions of 16 of 20 episodes left out, seed 3"
    np.testing.assert_array_equal(few.rewards, data.rewards)

    capsys.readouterr()
    assert cli.main(["data", "info", "few", "--json", "info.json"]) == 0
    assert "known for 20.0 % of the steps" in capsys.readouterr().out
    assert json.loads((tmp_path / "info.json").read_text())["rows"][0]["fraction_actions_known"] == pytest.approx(0.2)
    assert cli.main(["data", "info", "whole"]) == 0
    assert "known for" not in capsys.readouterr().out

    assert cli.main(["data", "convert", "whole", "none", "joined.hdf5"]) == 0
    joined = read_hdf5(tmp_path / "joined.hdf5")
    assert joined.actions_known.tolist() == [True] * 200 + [False] * 200
    assert cli.main(["data", "convert", "joined.hdf5", "labelled", "--complete-only"]) == 0
    np.testing.assert_array_equal(read_store("labelled").actions, data.actions)
    described = read_store("labelled").metadata
    assert described.name == "labelled", "not the episodes of the data set it was made from"
    assert described.origin.startswith("the 20 of 40 episodes of joined that are complete; of all: ")
    assert cli.main(["data", "convert", "whole", "same", "--complete-only"]) == 0
    assert read_store("same").metadata == data.metadata

    capsys.readouterr()
    for words, message in (
        (["whole", "bad", "--drop-actions", "1.5"], "--drop-actions is 1.5; it must be above 0 and at most 1"),
        (["whole", "bad", "--drop-actions", "0.5", "--seed", "-1"], "--seed is -1"),
        (["whole", "bad", "--seed", "3"], "--seed: needs --drop-actions"),
        (["none", "bad", "--complete-only"], "every episode lacks actions or rewards"),
    ):
        assert cli.main(["data", "convert", *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()
