"""Offline rows in shared memory against those of a run's own: the same bits, and no run sees another's writes."""

import os
import secrets
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.replay import offline_data
from m3pc_ray.online.replay.offline_data import OfflineData
from m3pc_ray.online.replay.private_mapping import ALIGNMENT
from m3pc_ray.online.replay.replay_rows import ReplayRows, RowFormat, fill_rows
from m3pc_ray.online.replay.replay_storage import ReplayStorage
from m3pc_ray.online.replay.shared_rows import map_rows, write_rows
from m3pc_ray.online.roles import make_learner
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories
from m3pc_ray.trajectories.statistics import Statistics
from m3pc_ray.trajectories.store import read_store, write_store
from tests.online.factory import make_fragment

FORMAT = RowFormat("sum", 1000, 4, np.full(2, -1.0, np.float32), np.full(2, 1.0, np.float32))
STATISTICS = Statistics(*(np.full(size, value, np.float32) for size in (3, 1, 1) for value in (0.25, 1.5)))


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def shared(pretrained) -> RunConfig:
    return finetune_config(pretrained, {"data.share_memory": "true"})


def offline(pretrained, config: RunConfig) -> OfflineData:
    return OfflineData.of(config, load_checkpoint(pretrained)[1]["models"])


def files() -> list[Path]:
    return sorted(Path(tempfile.gettempdir()).glob("m3pc-*/*.rows"))


def random_episodes(rng: np.random.Generator, episodes: int, longest: int = 60) -> Trajectories:
    """Episodes that end in every way, some with an unknown last observation."""
    lengths = rng.integers(1, longest, size=episodes)
    steps = int(lengths.sum())
    ends = rng.integers(0, 3, size=episodes)
    finals = rng.normal(size=(episodes, 3))
    finals[ends == EpisodeEnd.CUT] = np.nan
    return Trajectories(
        observations=rng.normal(size=(steps, 3)),
        actions=rng.uniform(-1, 1, size=(steps, 2)),
        rewards=rng.normal(size=steps),
        episode_starts=np.concatenate([[0], np.cumsum(lengths)]),
        episode_ends=ends,
        final_observations=finals,
        metadata=DatasetMetadata("random", "Toy-v0", (-9.0,) * 3, (9.0,) * 3, (-1.0,) * 2, (1.0,) * 2),
    )


def mapped(path: Path, trajectories: Trajectories, capacity: int) -> ReplayRows:
    if not path.exists():
        write_rows(path, fill_rows(trajectories, FORMAT, 0))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return map_rows(descriptor, 3, 2, 4, capacity)
    finally:
        os.close(descriptor)


def storage(rows: ReplayRows) -> ReplayStorage:
    return ReplayStorage(rows, FORMAT, STATISTICS, offline_fraction=0.5, balanced_after=20)


def assert_same(one: object, other: object) -> None:
    """Equal to the bit, whatever they are made of."""
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        assert len(one) == len(other)
        for part, its_other in zip(one, other, strict=True):
            assert_same(part, its_other)
    elif isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert one.dtype == other.dtype
        assert np.array_equal(one.numpy(), other.numpy(), equal_nan=True)
    else:
        assert one is None
        assert other is None


def test_samples_are_the_same_to_the_bit_while_the_ring_fills_and_wraps(tmp_path) -> None:
    seed = secrets.randbits(64)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    episodes = random_episodes(rng, int(rng.integers(2, 40)))
    capacity = int(rng.integers(60, 200))
    both = [
        storage(fill_rows(episodes, FORMAT, capacity)),
        storage(mapped(tmp_path / "rows", episodes, capacity)),
    ]
    episode = 0
    while both[0].arrived < 3 * capacity:
        steps, end = int(rng.integers(1, 50)), EpisodeEnd(int(rng.integers(3)))
        for it in both:
            it.append(make_fragment(episode, 0, steps, end))
        episode += 1
        draw = int(rng.integers(2**32))
        samples = [
            (
                it.sample_segments(np.random.default_rng(draw), 40),
                it.sample_transitions(np.random.default_rng(draw), 3, 16),
            )
            for it in both
        ]
        assert_same(*samples)


def test_updates_are_the_same_to_the_bit(pretrained, tmp_path) -> None:
    fragments = [make_fragment(i, 0, 20, EpisodeEnd.TIME_LIMIT, observation_dim=4, action_dim=1) for i in range(8)]
    settings = {"online.replay_capacity": "90", "online.balanced_after": "30"}
    weights = []
    for share in ("false", "true"):
        config = finetune_config(pretrained, {**settings, "data.share_memory": share})
        learner = make_learner(prepare(pretrained, tmp_path / share, config))
        for start in range(0, 8, 2):
            learner.ingest(fragments[start : start + 2])
            learner.update({"btm": 2, "critic": 5})
        models = learner.models
        weights.append({**models.model.state_dict(), **models.critic.state_dict()})
    assert len(files()) == 1
    assert_same(*weights)


def test_no_run_sees_what_another_writes_and_the_file_stays_as_it_is(tmp_path) -> None:
    episodes = random_episodes(np.random.default_rng(0), 10)
    one, other = (mapped(tmp_path / "rows", episodes, 50) for _ in range(2))
    before = (tmp_path / "rows").read_bytes()
    untouched = [other.steps.values.clone(), other.outcomes.values.clone(), other.returns_known.clone()]
    assert not untouched[0][-50:].any()
    for values in (one.steps.values, one.outcomes.values):
        values[:] = 7.0
    one.returns_known[:] = ~one.returns_known
    assert_same([other.steps.values, other.outcomes.values, other.returns_known], untouched)
    assert (tmp_path / "rows").read_bytes() == before


def test_offline_rows_are_pages_of_the_file_and_the_ring_is_not(tmp_path) -> None:
    episodes = random_episodes(np.random.default_rng(0), 1000)
    it = storage(mapped(tmp_path / "rows", episodes, 500))
    for episode in range(20):
        it.append(make_fragment(episode, 0, 50, EpisodeEnd.TERMINATED))
        it.sample_segments(np.random.default_rng(0), 500)
        it.sample_transitions(np.random.default_rng(0), 2, 500)
    held = {"Rss": 0, "Anonymous": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name not in held and "-" in name.split()[0]:
            inside = line.endswith(str(tmp_path / "rows"))
        elif inside and name in held:
            held[name] += 1024 * int(rest.split()[0])
    assert held["Rss"] > 40 * episodes.num_steps
    assert held["Anonymous"] <= 3 * ALIGNMENT  # a page of each array has both offline rows and the ring's first
    assert (tmp_path / "rows").stat().st_size < 80 * episodes.num_steps + 7 * ALIGNMENT


def test_whoever_finds_the_file_does_not_read_the_data_set(pretrained, shared, tmp_path, monkeypatch) -> None:
    prepare(pretrained, tmp_path / "first", shared)
    (made,) = files()
    inode = made.stat().st_ino

    def fails(_: RunConfig) -> Trajectories:
        raise AssertionError("read the data set")

    monkeypatch.setattr(offline_data, "load_data", fails)
    make_learner(prepare(pretrained, tmp_path / "second", with_settings(shared, {"seed": "5"})))
    assert [path.stat().st_ino for path in files()] == [inode]
    with pytest.raises(AssertionError, match="read the data set"):
        offline(pretrained, with_settings(shared, {"data.share_memory": "false"})).check()


def test_runs_that_start_together_read_the_data_set_once(pretrained, shared, monkeypatch) -> None:
    read = []

    def load(config: RunConfig) -> Trajectories:
        read.append(config)
        return read_store(config.data.dataset)

    monkeypatch.setattr(offline_data, "load_data", load)
    data = offline(pretrained, shared)
    with ThreadPoolExecutor(4) as executor:
        rows = list(executor.map(lambda _: data.rows(10), range(4)))
    assert len(read) == 1
    for other in rows[1:]:
        assert_same(other.steps.values, rows[0].steps.values)


@pytest.mark.parametrize(
    ("setting", "value", "same"),
    [
        ("online.offline_episodes", "3", False),
        ("data.environment", "InvertedPendulum-v5", False),
        ("online.replay_capacity", "50", True),
        ("planner.td_lambda", "0.1", True),
        ("critic.discount", "0.9", True),
    ],
)
def test_a_file_belongs_to_what_its_rows_depend_on(pretrained, shared, setting, value, same) -> None:
    before, after = offline(pretrained, shared), offline(pretrained, with_settings(shared, {setting: value}))
    assert (before._digest() == after._digest()) == same


def test_a_data_set_that_was_changed_has_another_file(pretrained, shared, tmp_path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shared.data.dataset, folder)
    data = offline(pretrained, with_settings(shared, {"data.dataset": str(folder)}))
    before = data.rows(0)
    assert before.offline_steps == read_store(folder).num_steps
    write_store(read_store(folder).select([1, 0]), folder, overwrite=True)
    after = data.rows(0)
    assert after.offline_steps < before.offline_steps
    assert len(files()) == 2


@pytest.mark.parametrize("damage", ["empty", "header", "shortened", "first array", "last array"])
def test_a_damaged_file_is_made_again(pretrained, shared, damage) -> None:
    data = offline(pretrained, shared)
    expected = data.rows(5)
    (path,) = files()
    content = path.read_bytes()
    last = len(content.rstrip(b"\0")) - 1
    place = {"empty": 0, "header": 10, "shortened": last, "first array": ALIGNMENT + 100, "last array": last}[damage]
    if damage in ("empty", "shortened"):
        damaged = content[:place]
    else:
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    path.unlink()  # `expected` has the old one mapped
    path.write_bytes(damaged)
    again = data.rows(5)
    assert path.read_bytes() == content
    assert_same(again.steps.values, expected.steps.values)
    np.testing.assert_array_equal(again.segments.lasts, expected.segments.lasts)


def test_data_of_another_environment_leaves_nothing_behind(pretrained, shared, tmp_path) -> None:
    episodes = random_episodes(np.random.default_rng(0), 3)
    metadata = episodes.metadata.replace(environment_id="Hopper-v4", max_episode_steps=1000)
    wrong = Trajectories(**{**vars(episodes), "metadata": metadata})
    write_store(wrong, tmp_path / "wrong")
    for share in ("true", "false"):
        config = with_settings(shared, {"data.dataset": str(tmp_path / "wrong"), "data.share_memory": share})
        with pytest.raises(UserError, match="wrong comes from Hopper-v4, the run's weights were trained for Inverted"):
            prepare(pretrained, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
    assert files() == []


def test_a_full_disk_is_one_line(pretrained, shared, monkeypatch) -> None:
    def write(path: Path, rows: ReplayRows) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(offline_data, "write_rows", write)
    with pytest.raises(UserError, match=r"\.rows: cannot be written \(No space left on device\)"):
        offline(pretrained, shared).check()
    assert [path.name for path in Path(tempfile.gettempdir()).glob("m3pc-*/*")] == ["lock"]


def test_it_is_refused_where_there_is_no_such_mapping(pretrained, shared, monkeypatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UserError, match=r"data\.share_memory: works on Linux only, this is darwin"):
        offline(pretrained, shared).check()


@pytest.mark.parametrize("share_memory", ["false", "true"])
def test_the_replay_takes_episodes_that_have_all_their_actions(pretrained, tmp_path, caplog, share_memory) -> None:
    source = finetune_config(pretrained, {})
    data = offline(pretrained, source).load()
    dropped = np.arange(0, data.num_episodes, 2)
    write_store(data.without_actions(dropped), tmp_path / "mixed")
    overrides = {"data.dataset": str(tmp_path / "mixed"), "data.share_memory": share_memory}
    config = finetune_config(pretrained, overrides)
    mine = offline(pretrained, config)
    kept = data.select(np.setdiff1d(np.arange(data.num_episodes), dropped))
    assert_same(vars(mine.rows(5).steps)["values"][: kept.num_steps], mine.fill(kept, 5).steps.values[: kept.num_steps])
    assert f"takes the {kept.num_episodes} of {data.num_episodes} episodes" in caplog.text
    with pytest.raises(ValueError, match="rows need every action and reward"):
        mine.fill(data.without_actions(dropped), 0)
    write_store(data.without_actions(np.arange(data.num_episodes)), tmp_path / "none")
    config = finetune_config(pretrained, {**overrides, "data.dataset": str(tmp_path / "none")})
    with pytest.raises(UserError, match="every episode lacks actions or rewards"):
        offline(pretrained, config).check()


@pytest.mark.parametrize("share_memory", ["false", "true"])
def test_the_replay_of_a_run_on_fractions_knows_no_more_than_the_run(pretrained, share_memory) -> None:
    whole = finetune_config(pretrained, {"data.share_memory": share_memory})
    data = offline(pretrained, whole).load()
    offline(pretrained, whole).check()
    config = with_settings(whole, {"data.labelled_fraction": "0.3", "data.episodes_fraction": "0.6"})
    train = data.split(config.data.validation_fraction, config.seed)[0].fraction(0.6, config.seed)
    kept = train.fraction(0.3, config.seed)
    assert kept.num_episodes < train.num_episodes < data.num_episodes
    rows = offline(pretrained, config).rows(0)
    assert_same(rows.steps.values, offline(pretrained, config).fill(kept, 0).steps.values)
