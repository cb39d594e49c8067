"""Pictures of MuJoCo states without a screen: positions in, RGB frames out.

All drawing happens in a process of its own (`draw_positions` says why), so it works whatever this process has imported.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import gymnasium
import numpy as np
import numpy.typing as npt

from m3pc_ray.errors import UserError

Frame = npt.NDArray[np.uint8]
BACKENDS = ("egl", "osmesa")
"""Values of MUJOCO_GL that need no screen, the faster one first."""
TRIAL_SECONDS = 60.0
_SCRIPT = Path(__file__).with_name("draw_positions.py")
_TRIAL_SIZE = 32
_LARGEST_SIDE = 4096
_OFF = ("disable", "disabled", "off", "false", "0")  # MuJoCo's words


def working_backend() -> str | None:
    """The value of MUJOCO_GL under which MuJoCo draws here, found by drawing; None where none does.

    Where the user has set MUJOCO_GL, that one and no other is tried.
    """
    return _search(os.environ.get("MUJOCO_GL", "").strip().lower())[0]


def render_positions(
    environment: gymnasium.Env[Any, Any],
    positions: npt.ArrayLike,
    *,
    width: int = 320,
    height: int = 240,
    wanted: npt.ArrayLike | None = None,
) -> Iterator[Frame]:
    """Frames (height, width, 3) uint8 of a MuJoCo environment's model at positions (steps, nq), drawn as they are read.

    The camera is the model's own `track`, which follows the body, or `frontview`; else one from the side that moves
    with the body's x.
    The environment's own state is not touched.

    Args:
        wanted: (steps, nq) of a second, see-through figure; a row with NaN leaves it out at that step.

    Raises:
        UserError: another simulator, positions of another shape, a size out of range, or no way to draw here: the
            message says what was tried and what to install. While frames are read: the drawing process failed.
    """
    import mujoco

    base: Any = environment.unwrapped
    name = environment.spec.id if environment.spec is not None else type(base).__name__
    if not hasattr(base, "model"):
        raise UserError(f"{name} is not simulated by MuJoCo, so it cannot be rendered")
    values = np.asarray(positions, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != base.model.nq:
        raise UserError(f"positions have shape {values.shape}; {name} needs (steps, {base.model.nq})")
    if not np.isfinite(values).all():
        raise UserError(f"step {int(np.argmin(np.isfinite(values).all(axis=1)))} has positions that are not finite")
    arrays = {"positions": values}
    if wanted is not None:
        arrays["wanted"] = np.asarray(wanted, dtype=np.float64)
        if arrays["wanted"].shape != values.shape:
            raise UserError(f"wanted positions have shape {arrays['wanted'].shape}; {values.shape} is needed")
    for side, pixels in (("width", width), ("height", height)):
        if not 1 <= pixels <= _LARGEST_SIDE:
            raise UserError(f"{side} {pixels} of a video is out of range: 1 to {_LARGEST_SIDE} pixels")
    backend = required_backend()
    size = mujoco.mj_sizeModel(base.model)
    model = np.empty((size, 1), dtype=np.uint8)
    mujoco.mj_saveModel(base.model, None, model)
    return _frames(backend, model, arrays, width, height)


def _frames(
    backend: str, model: npt.NDArray[np.uint8], arrays: dict[str, npt.NDArray[np.float64]], width: int, height: int
) -> Iterator[Frame]:
    with tempfile.TemporaryDirectory(prefix="m3pc-draw-") as name:
        folder = Path(name)
        (folder / "model.mjb").write_bytes(model.tobytes())
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", array)
        with (folder / "said.txt").open("w+b") as said:
            process = _start(backend, folder, width, height, said)
            try:
                assert process.stdout is not None
                for step in range(len(arrays["positions"])):
                    content = process.stdout.read(width * height * 3)
                    if len(content) < width * height * 3:
                        reason = _reason(process.wait(TRIAL_SECONDS), said)
                        raise UserError(f"rendering stopped at frame {step} (MUJOCO_GL={backend}): {reason}")
                    yield np.frombuffer(content, dtype=np.uint8).reshape(height, width, 3)
            finally:
                _end(process)


def required_backend() -> str:
    """The value of MUJOCO_GL under which MuJoCo draws here; UserError, with what was tried, where none does."""
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    backend, reasons = _search(asked)
    if backend is not None:
        return backend
    tried = "; ".join(f"MUJOCO_GL={name}: {reason}" for name, reason in reasons)
    advice = "unset MUJOCO_GL, since no other backend was tried, " if asked else ""
    raise UserError(
        f"MuJoCo cannot draw here ({tried}); {advice}install libegl1 or libosmesa6 (Debian, Ubuntu), or use "
        "--video-style stick, which needs no OpenGL"
    )


@functools.lru_cache
def _search(asked: str) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """(backend or None, why each one tried before failed); once a process, since drivers do not come and go."""
    reasons: list[tuple[str, str]] = []
    for backend in (asked,) if asked else BACKENDS:
        reason = _try(backend)
        if not reason:
            return backend, tuple(reasons)
        reasons.append((backend, reason))
    return None, tuple(reasons)


def _try(backend: str) -> str:
    """Why a backend does not draw, in one short line; empty where it does."""
    if backend in _OFF:
        return "it turns drawing off"
    with tempfile.TemporaryDirectory(prefix="m3pc-draw-") as folder, tempfile.TemporaryFile() as said:
        process = _start(backend, Path(folder), _TRIAL_SIZE, _TRIAL_SIZE, said)
        try:
            content, _ = process.communicate(timeout=TRIAL_SECONDS)
        except subprocess.TimeoutExpired:
            return f"no picture in {TRIAL_SECONDS:.0f} s"
        finally:
            _end(process)
        if process.returncode or len(content) != _TRIAL_SIZE * _TRIAL_SIZE * 3:
            return _reason(process.returncode, said)
        return "" if max(content) > min(content) else "the picture has one colour only"


def _start(backend: str, folder: Path, width: int, height: int, said: IO[bytes]) -> subprocess.Popen[bytes]:
    variables = {**os.environ, "MUJOCO_GL": backend}
    variables.pop("PYOPENGL_PLATFORM", None)  # MuJoCo refuses a backend that contradicts it; the backend sets its own
    return subprocess.Popen(
        # -P: the script's folder holds modules whose names must not hide others
        [sys.executable, "-P", str(_SCRIPT), str(folder), str(width), str(height)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=said,
        cwd=folder,  # MuJoCo writes its log into the working folder
        env=variables,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """The drawing process is gone afterwards, also where frames were left unread."""
    if process.poll() is None:
        process.kill()
    if process.stdout is not None:
        process.stdout.close()
    process.wait()


def _reason(code: int, said: IO[bytes]) -> str:
    """The last line that a drawing process said, without the kind of error; else how it ended."""
    if code < 0:
        return f"the process died of signal {-code}"
    said.seek(0)
    with contextlib.suppress(StopIteration):
        lines = said.read().decode(errors="replace").splitlines()
        line = next(
            line.strip() for line in reversed(lines) if line.strip() and not line.startswith("Exception ignored")
        )
        kind, _, text = line.partition(": ")
        return (text if text and " " not in kind else line)[:120]
    return f"exit code {code}"
