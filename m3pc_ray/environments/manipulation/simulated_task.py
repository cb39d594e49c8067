"""A manipulation task in robosuite, behind Gymnasium's interface; needs the environment of `make manipulation-env`."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.manipulation import observation
from m3pc_ray.environments.manipulation.controller import composite
from m3pc_ray.environments.manipulation.tasks import ACTION_DIM, CONTROL_FREQUENCY, SUCCESS_REWARD, TASKS
from m3pc_ray.errors import UserError

FloatArray = npt.NDArray[np.float32]
HINT = "run `make manipulation-env` in a clone and use .venv-manipulation/bin/m3pc (docs/manipulation.md)"


class SimulatedTask(gymnasium.Env[FloatArray, FloatArray]):
    """Observation as in `observation`, sparse reward: 1 and termination with success, 0 before.

    `info["success"]` says whether the task is solved. Without cameras and without a screen.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, task: str) -> None:
        self.task = TASKS[task]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self.task.observation_dim,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)
        robosuite, self._mujoco = _import_simulator(task)
        self.simulation: Any = robosuite.make(
            self.task.robosuite_name,
            robots="Panda",
            controller_configs=composite(),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            # robosuite 1.5.2 makes relative observations from the object's place one step before: ours are made here
            use_object_obs=False,
            reward_shaping=False,
            control_freq=CONTROL_FREQUENCY,
            ignore_done=True,  # Gymnasium's TimeLimit ends episodes
            hard_reset=True,  # the size of Lift's cube is drawn when the model is made
        )
        self._last: FloatArray | None = None
        self.dt = 1.0 / CONTROL_FREQUENCY

    @property
    def model(self) -> Any:
        """MuJoCo's model; another one after every reset, for the objects' sizes are drawn with it."""
        return self.simulation.sim.model._model

    @property
    def data(self) -> Any:
        """MuJoCo's state of the model."""
        return self.simulation.sim.data._data

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """A fresh episode. With a seed, everything that is drawn follows from it."""
        super().reset(seed=seed)
        if seed is not None:
            # In place: samplers inside the simulation hold the same generator.
            self.simulation.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self.simulation.reset()
        self._last = None
        return self._observe(), {"success": self._solved()}

    def step(self, action: FloatArray) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """A twentieth of a second with one action (7,)."""
        self.simulation.step(np.asarray(action, dtype=np.float64))
        seen = self._observe()
        solved = self._solved()
        return seen, SUCCESS_REWARD if solved else 0.0, solved, False, {"success": solved}

    def close(self) -> None:
        """Free the simulator."""
        self.simulation.close()

    def _observe(self) -> FloatArray:
        """The observation of now: positions lag a simulator step behind the joints until kinematics are computed.

        Nothing of the simulation's own course changes by that.
        """
        simulator = self.simulation.sim
        self._mujoco.mj_kinematics(self.model, self.data)
        robot = self.simulation.robots[0]
        (arm,) = robot.arms
        data = simulator.data
        hand = data.body_xquat[simulator.model.body_name2id(robot.robot_model.eef_name[arm])]
        fingers = data.qpos[robot._ref_gripper_joint_pos_indexes[arm]]
        body = self._object_body()
        joined = np.concatenate([data.site_xpos[robot.eef_site_id[arm]], _scalar_last(hand), fingers])
        pose = np.concatenate([data.body_xpos[body], _scalar_last(data.body_xquat[body])])
        seen = observation.assemble(self.task, joined[None], pose[None])[0].astype(np.float32)
        self._last = observation.following(self.task, seen, self._last)
        return self._last.copy()

    def _object_body(self) -> int:
        if hasattr(self.simulation, "obj_body_id"):
            return int(self.simulation.obj_body_id[self.task.object_name])
        return int(self.simulation.cube_body_id)

    def _solved(self) -> bool:
        return bool(self.simulation._check_success())


def _scalar_last(quaternion: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """MuJoCo's (w, x, y, z) as (x, y, z, w)."""
    return np.roll(quaternion, -1)


def _import_simulator(environment_id: str) -> tuple[Any, Any]:
    """(robosuite, mujoco), without robosuite's advice about its parts that are not used here."""
    backend = os.environ.get("MUJOCO_GL")
    try:
        logging.getLogger("robosuite_logs").addFilter(_is_error)
        robosuite, mujoco = importlib.import_module("robosuite"), importlib.import_module("mujoco")
    except ImportError as error:
        missing = getattr(error, "name", None) or error
        raise UserError(
            f"environment {environment_id} needs robosuite ({missing} cannot be imported); {HINT}"
        ) from error
    finally:
        # robosuite chooses a graphics backend for the whole process; what is drawn here chooses its own
        os.environ.pop("MUJOCO_GL", None)
        if backend is not None:
            os.environ["MUJOCO_GL"] = backend
    if mujoco.mjtJoint.mjJNT_HINGE != int(mujoco.mjtJoint.mjJNT_HINGE):  # robosuite 1.5.2 compares the two
        raise UserError(
            f"environment {environment_id}: robosuite needs MuJoCo 3.3, here is {mujoco.__version__}; {HINT}"
        )
    return robosuite, mujoco


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
