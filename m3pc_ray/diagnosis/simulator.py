"""Whether an environment can be made, stepped and drawn here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from m3pc_ray.diagnosis.rows import Row
from m3pc_ray.environments.make import make_environment, specification

STEPS = 20
RENDER_SECONDS = 120.0
BACKENDS = ("egl", "osmesa")
"""Values of MUJOCO_GL that need no screen."""
_DRAW = """
import sys
from m3pc_ray.environments.make import make_environment
environment = make_environment(sys.argv[1], render_mode="rgb_array")
environment.reset(seed=0)
frame = environment.render()
assert frame.ndim == 3 and frame.max() > frame.min(), "the frame is of one colour"
print("frame", *frame.shape[:2])
"""


def check_simulator(environment_id: str) -> list[Row]:
    """Rows: the environment makes steps of finite numbers; it draws a frame."""
    with contextlib.closing(make_environment(environment_id)) as environment:
        spec = specification(environment)
        observation, _ = environment.reset(seed=0)
        environment.action_space.seed(0)
        steps = 0
        for _ in range(STEPS):
            observation, reward, terminated, truncated, _ = environment.step(environment.action_space.sample())
            steps += 1
            if not (np.isfinite(observation).all() and np.isfinite(float(reward))):
                return [
                    Row(f"simulator {environment_id}", "failure", f"step {steps} gives numbers that are not finite")
                ]
            if terminated or truncated:
                break
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("gymnasium", "mujoco"))
    sizes = f"observations {spec.observation_dim}, actions {spec.action_dim}"
    found = f"made and stepped {steps} times; {sizes}; {versions}"
    return [Row(f"simulator {environment_id}", "ok", found), check_rendering(environment_id)]


def check_rendering(environment_id: str, environment: dict[str, str] | None = None) -> Row:
    """One row: a frame drawn in a process of its own, since a wrong driver may end the process that asks it.

    environment: environment variables to draw under; by default this process's. Where that fails, other backends are
    tried in order to name one that works.
    """
    variables = dict(os.environ if environment is None else environment)
    name, set_to = f"rendering {environment_id}", variables.get("MUJOCO_GL", "")
    now = f"MUJOCO_GL={set_to}" if set_to else "MUJOCO_GL is not set"
    size, reason = _draw(environment_id, variables)
    if size:
        return Row(name, "ok", f"a frame of {size} pixels drawn ({now})")
    found = f"no frame could be drawn ({now}): {reason}"
    for backend in BACKENDS:
        if backend != set_to and _draw(environment_id, {**variables, "MUJOCO_GL": backend})[0]:
            return Row(name, "warning", found, f"set MUJOCO_GL={backend}, which works here; only videos need it")
    advice = "only videos need it: install libegl1 or libosmesa6 and set MUJOCO_GL=egl or MUJOCO_GL=osmesa"
    return Row(name, "warning", found, advice)


def _draw(environment_id: str, variables: dict[str, str]) -> tuple[str, str]:
    """(`480 x 480`, "") or ("", why not)."""
    folders = [str(Path(__file__).resolve().parents[2]), variables.get("PYTHONPATH")]
    variables = {**variables, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo writes its log into the working folder
        try:
            answer = subprocess.run(
                [sys.executable, "-c", _DRAW, environment_id],
                capture_output=True,
                text=True,
                cwd=folder,
                env=variables,
                timeout=RENDER_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "", f"no answer in {RENDER_SECONDS:.0f} s"
    lines = answer.stdout.splitlines()
    if answer.returncode == 0 and lines and lines[-1].startswith("frame "):
        return " x ".join(lines[-1].split()[1:]), ""
    said = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    if answer.returncode < 0:
        return "", f"the process died of signal {-answer.returncode}"
    return "", said[-1][:160] if said else f"exit code {answer.returncode}"
