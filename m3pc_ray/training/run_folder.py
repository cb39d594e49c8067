"""A run: the folder with configuration, summary, metrics and checkpoints that every command reads or writes.

RUN/config.yaml            the complete RunConfig
RUN/summary.json           kind, status, counts, scores, seconds, versions
RUN/metrics.jsonl          every measured value (`m3pc_ray.training.metrics`)
RUN/tensorboard/           the same for TensorBoard
RUN/checkpoints/step-N/    `m3pc_ray.training.checkpoints`
RUN/.lock                  held by the process that trains, see `RunFolder.exclusive`
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from m3pc_ray import __version__
from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import load_config, to_yaml
from m3pc_ray.errors import UserError

RunKind = Literal["pretrain", "finetune"]
RunStatus = Literal["running", "interrupted", "finished", "failed"]
_LOGGER = logging.getLogger(__name__)
JOB_COPIES = "/runtime_resources/working_dir_files/"
"""Part of the paths of Ray's copies of jobs' working folders."""
STATUSES: tuple[str, ...] = ("running", "interrupted", "finished", "failed")


class Locked(UserError):
    """Another process is doing this."""


@contextlib.contextmanager
def lock_file(path: Path, busy: str) -> Iterator[None]:
    """Be the only process that holds the lock file; the kernel gives it up with the process, however it ends.

    Raises Locked with `busy` where another holds it, UserError where it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Locked(f"{busy}; let it end, or end it first") from None
    except OSError as error:  # some network file systems have no locks
        _LOGGER.warning("%s: cannot be locked (%s); let no other process do the same", path, error.strerror)
    try:
        yield
    finally:
        os.close(descriptor)


class RunFolder:
    """One run on disk. Make a new one with `create`, use an existing one with `open`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def summary_path(self) -> Path:
        return self.path / "summary.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @classmethod
    def create(cls, path: str | Path, config: RunConfig, kind: RunKind, overwrite: bool = False) -> RunFolder:
        """A new run with its configuration and a first summary of status `running`.

        Raises UserError where `path` holds something already (`overwrite` replaces it if it is a run, and only then),
        cannot be written, or would be deleted with a job of Ray's (`check_kept`).
        """
        check_kept(path)
        run = cls(path)
        try:
            occupied = run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir()))
            if occupied and run._is_run() and not overwrite:
                raise UserError(f"{path}: a run is there; continue it with `m3pc resume {path}` or give --overwrite")
            if occupied and not run._is_run():
                raise UserError(f"{path}: not empty and not a run of m3pc, so it is not touched; name another folder")
            if occupied:
                shutil.rmtree(run.path.resolve())
            run.checkpoints_path.mkdir(parents=True, exist_ok=True)
            write_atomically(
                run.summary_path,
                _json(
                    {
                        "kind": kind,
                        "status": "running",
                        "environment_steps": 0,
                        "btm_updates": 0,
                        "critic_updates": 0,
                        "scores": {},
                        "seconds": 0.0,
                        "versions": package_versions(),
                    }
                ),
            )
            run.write_config(config)
        except OSError as error:
            raise UserError(f"{error.filename or path}: cannot create the run: {error.strerror}") from error
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run. Raises UserError where there is none."""
        run = cls(path)
        if not run.path.is_dir():
            hint = "; a job sees a copy of the folder it was submitted from, without runs: name an absolute path"
            raise UserError(f"{path}: no such run folder{hint if _in_upload(run.path) else ''}")
        if not run._is_run():
            raise UserError(f"{path}: not a run of m3pc: it has no readable summary.json")
        return run

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Be the only process that trains this run; the kernel gives the lock up with the process, however it ends.

        Raises Locked where another process trains it, UserError where the folder cannot be written.
        """
        with lock_file(self.path / ".lock", f"{self.path}: another process is training this run"):
            yield

    def config(self) -> RunConfig:
        """The run's configuration. Raises UserError where config.yaml is missing or damaged."""
        if not self.config_path.is_file():
            raise UserError(f"{self.config_path}: missing, so the run's settings are unknown")
        return load_config(self.config_path)

    def write_config(self, config: RunConfig) -> None:
        """Replaces config.yaml."""
        write_atomically(self.config_path, to_yaml(config))

    def summary(self) -> dict[str, Any]:
        """What summary.json holds. Raises UserError where it cannot be read."""
        try:
            summary = json.loads(self.summary_path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"{self.path}: not a run of m3pc: it has no summary.json") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{self.summary_path}: cannot be read: {error}") from error
        if not isinstance(summary, dict):
            raise UserError(f"{self.summary_path}: holds no mapping")
        return summary

    def write_summary(self, values: dict[str, Any]) -> dict[str, Any]:
        """Merges `values` into summary.json (top-level keys; `scores` is merged too), atomically; returns the whole.

        Raises UserError where it cannot be written, as on a full disk; it is then what it was.
        """
        status = values.get("status")
        if status is not None and status not in STATUSES:
            raise ValueError(f"status must be one of {STATUSES}, not {status!r}")
        summary = self.summary()
        scores = {**summary.get("scores", {}), **values.get("scores", {})}
        summary = {**summary, **values, "scores": scores}
        try:
            write_atomically(self.summary_path, _json(summary))
        except OSError as error:
            raise UserError(
                f"{self.summary_path}: cannot be written: {error.strerror or error}; free space or repair the disk, "
                f"then `m3pc resume {self.path}`"
            ) from error
        return summary

    def note_failure(self, **values: Any) -> None:
        """Merges `values` into the summary with status `failed`, if the disk takes it.

        Called while an error is on its way to the user: that is what they must read, not that the same full disk takes
        no summary either. A run whose summary still says `running` is resumed like any other.
        """
        with contextlib.suppress(UserError):
            self.write_summary({"status": "failed", **values})

    def kind(self) -> str:
        """`pretrain` or `finetune`."""
        return str(self.summary().get("kind", ""))

    def _is_run(self) -> bool:
        try:
            return "kind" in self.summary()
        except UserError:
            return False


def check_kept(path: str | Path) -> None:
    """Raises UserError where results at `path` would be deleted with a job: inside the copy that Ray made for it."""
    if _in_upload(Path(path).expanduser()):
        raise UserError(
            f"{path}: lies in the copy of your folder that Ray made for this job and deletes after it; name an "
            "absolute path on storage that all nodes share"
        )


def _in_upload(path: Path) -> bool:
    """Whether a path is where Ray unpacks what `ray job submit --working-dir` has uploaded."""
    return JOB_COPIES in "/".join(path.resolve().parts)


def package_versions() -> dict[str, str]:
    """Versions that results depend on: Python's and those of the installed packages."""
    versions = {"m3pc_ray": __version__, "python": platform.python_version()}
    for package in ("torch", "ray", "gymnasium", "mujoco", "numpy", "pyarrow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
