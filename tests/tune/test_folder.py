"""A sweep's folder: the same on a path and on another file system; writes are whole, errors name the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from m3pc_ray.errors import UserError
from tune.folder import SweepFolder, is_sweep


@pytest.fixture(params=["path", "address", "file system"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> SweepFolder:
    if request.param == "path":
        return SweepFolder(tmp_path / "sweep")
    if request.param == "address":
        return SweepFolder(f"file://{tmp_path}/sweep")
    return SweepFolder("sweep", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))


def test_what_is_written_is_read(folder: SweepFolder, tmp_path: Path) -> None:
    assert not folder.exists()
    assert not folder.is_folder()
    folder.write("sub/file.txt", b"one")
    folder.write("sub/file.txt", b"two")
    assert folder.exists()
    assert folder.is_folder()
    assert folder.exists("sub/file.txt")
    assert not folder.exists("sub/other.txt")
    assert folder.read("sub/file.txt") == b"two"
    assert [path.name for path in (tmp_path / "sweep/sub").iterdir()] == ["file.txt"]  # nothing half written is left
    folder.fetch("sub", tmp_path / "fetched")
    assert (tmp_path / "fetched/file.txt").read_bytes() == b"two"


def test_only_a_path_has_one(folder: SweepFolder, tmp_path: Path) -> None:
    on_path = isinstance(folder.filesystem, fs.LocalFileSystem)
    assert folder.path == (tmp_path / "sweep" if on_path else None)
    assert not on_path or folder.address == str(tmp_path / "sweep")


def test_errors_name_the_file(folder: SweepFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sweep/results.parquet: cannot be read"):
        folder.read("results.parquet")
    (tmp_path / "sweep").write_text("a file is in the way")
    with pytest.raises(UserError, match=r"sweep/table.md: cannot be written|sweep/table.md: cannot write into"):
        folder.write("table.md", b"")


def test_unknown_addresses() -> None:
    with pytest.raises(UserError, match="pyarrow.fs cannot use this address"):
        SweepFolder("ftp://host/sweep")


def test_a_sweep_is_known_by_its_definition(tmp_path: Path) -> None:
    assert not is_sweep(tmp_path)
    (tmp_path / "sweep.yaml").write_text("kind: evaluate")
    assert is_sweep(tmp_path)
