"""The process that draws: `python -P draw_positions.py FOLDER WIDTH HEIGHT`, run by `rendering` and by nobody else.

MuJoCo chooses its OpenGL backend when it is first imported, and a driver that fails may take its process with it; so
pictures are drawn in a process of their own, under the MUJOCO_GL that the parent has set. It needs MuJoCo and NumPy
only.

FOLDER holds `model.mjb` and `positions.npy` (steps, nq), or nothing of either for a trial picture of one ball, and may
hold `wanted.npy` (steps, nq): a second, pale figure, left out at steps whose row is NaN. Frames go to standard output,
one after another, as height x width x 3 bytes.
"""

import os
import sys
from pathlib import Path

import mujoco
import numpy as np

_TRIAL = """
<mujoco><worldbody>
  <light pos="0 0 3"/><geom type="sphere" size="1" rgba="1 0 0 1"/>
</worldbody></mujoco>
"""
_PALE = (0.35, 0.65, 1.0, 0.45)
_BEHIND = 0.12  # metres: the pale figure stands farther from the camera than the body it belongs to
_FRONT = "frontview"
"""Camera of robosuite's models: collision shapes (group 0) and marks (sites) would be drawn over what is to be seen."""
_LEFT_OUT = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)
"""Without a graphics card, shadows double a frame's time; a mirrored body beside a pale one confuses."""


def main(folder: Path, width: int, height: int, descriptor: int) -> None:
    """Draw all positions of the folder into the open file `descriptor`."""
    if (folder / "model.mjb").exists():
        model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))
        positions = np.load(folder / "positions.npy")
    else:
        model = mujoco.MjModel.from_xml_string(_TRIAL)
        positions = np.zeros((1, model.nq))
    wanted = np.load(folder / "wanted.npy") if (folder / "wanted.npy").exists() else None
    model.vis.global_.offwidth = max(width, model.vis.global_.offwidth)
    model.vis.global_.offheight = max(height, model.vis.global_.offheight)
    data = mujoco.MjData(model)
    pale = mujoco.MjData(model)
    options = mujoco.MjvOption()
    if _named_camera(model) == _FRONT:
        options.geomgroup[0] = 0
        options.sitegroup[:] = 0
    renderer = mujoco.Renderer(model, height, width)
    for flag in _LEFT_OUT:
        renderer.scene.flags[flag] = 0
    with os.fdopen(descriptor, "wb") as output:
        for step, position in enumerate(positions):
            data.qpos[:] = position
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera=_camera(model, data), scene_option=options)
            if wanted is not None and np.isfinite(wanted[step]).all():
                pale.qpos[:] = wanted[step]
                mujoco.mj_forward(model, pale)
                _add_pale_figure(model, pale, renderer.scene)
            output.write(np.ascontiguousarray(renderer.render()).tobytes())
            output.flush()
    renderer.close()


def _named_camera(model: mujoco.MjModel) -> str:
    """The first of the cameras it is drawn with by choice that the model has; empty: none of them."""
    known = (name for name in ("track", _FRONT) if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name) >= 0)
    return next(known, "")


def _camera(model: mujoco.MjModel, data: mujoco.MjData) -> "str | mujoco.MjvCamera":
    """The model's own camera; where it has none of those, one from the side that moves along with the figure."""
    name = _named_camera(model)
    if name:
        return name
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    if model.nbody > 1:
        camera.lookat[0] = data.subtree_com[1][0]
    camera.azimuth, camera.elevation = 90.0, -20.0
    return camera


def _add_pale_figure(model: mujoco.MjModel, data: mujoco.MjData, scene: mujoco.MjvScene) -> None:
    """Add the moving bodies of `data` to a scene, see-through."""
    first = scene.ngeom
    moving = mujoco.mjtCatBit.mjCAT_DYNAMIC
    mujoco.mjv_addGeoms(model, data, mujoco.MjvOption(), mujoco.MjvPerturb(), moving, scene)
    for geom in scene.geoms[first : scene.ngeom]:
        geom.rgba[:] = _PALE
        geom.pos[1] += _BEHIND
        geom.matid = -1
        geom.transparent = 1


if __name__ == "__main__":
    # Drivers may print; frames go where only this script writes.
    frames = os.dup(1)
    os.dup2(2, 1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), frames)
