"""What a job uploads, compared with the archive that Ray itself makes."""

import logging
import zipfile

import pytest
from ray._private import ray_constants
from ray._private.runtime_env import packaging

from actors.upload import archive_bytes, check_upload, uploaded_files


@pytest.fixture
def folder(tmp_path):
    """A project with files that are uploaded, and files that are not, for each of Ray's reasons."""
    contents = {
        "code/a.py": 10,
        "code/__pycache__/a.pyc": 1000,
        "data/large.bin": 5000,
        "data/ignored.bin": 6000,
        "data/.gitignore": b"ignored.bin\n",
        "runs/metrics.jsonl": 7000,
        "notes.txt": 3,
        ".gitignore": b"runs/\n",
        ".rayignore": b"notes.txt\n",
        ".git/objects/pack": 8000,
        ".venv/lib.so": 9000,
        "venv/lib.so": 9000,
    }
    for name, content in contents.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else bytes(content))
    return tmp_path / "project"


def test_files_and_size_are_those_of_rays_own_archive(folder, tmp_path):
    target = tmp_path / "package.zip"
    excludes = ray_constants.get_runtime_env_default_excludes()
    silent = logging.getLogger("silent")
    packaging.create_package(str(folder), target, include_gitignore=True, excludes=excludes, logger=silent)
    files = uploaded_files(folder)
    names = {str(path.relative_to(folder)) for path in files}
    assert names == set(zipfile.ZipFile(target).namelist())
    assert names == {"code/a.py", "data/large.bin", "data/.gitignore", ".gitignore", ".rayignore"}
    assert archive_bytes(folder, files) == target.stat().st_size


def test_gitignore_can_be_switched_off_as_ray_does_it(folder, monkeypatch):
    monkeypatch.setenv(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "1")
    names = {path.name for path in uploaded_files(folder)}
    assert {"metrics.jsonl", "ignored.bin"} <= names
    assert "notes.txt" not in names


def test_a_small_folder_passes(folder):
    (row,) = check_upload(folder)
    assert row.status == "ok"
    assert "5 files" in row.found
    assert "512.0 MiB" in row.found


def test_a_large_folder_is_a_warning_that_names_the_largest(folder):
    (row,) = check_upload(folder, warn_from=5000)
    assert row.status == "warning"
    assert "most of it in data/" in row.found
    assert ".rayignore" in row.advice


def test_more_than_ray_takes_fails(folder):
    (row,) = check_upload(folder, limit=5000)
    assert row.status == "failure"
