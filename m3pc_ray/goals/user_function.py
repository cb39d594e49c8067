"""Waypoints made by a Python function of the user's.

    import numpy as np

    def crouch(environment_id, observation_dim):
        states = np.full((40, observation_dim), np.nan)     # NaN: free
        states[:, 0] = np.linspace(1.25, 0.9, 40)           # torso height
        return states

The function returns one of

- an array (K, observation_dim): waypoint k, counted from 1, is due at step k * every;
- a pair (a tuple of two): steps (K,) and such an array;
- `Waypoints` (m3pc_ray.goals.waypoints): the only way to goals that drift, by their `moving`. Their `source` becomes
  the reference of the function.

Arrays are anything that NumPy can make one of; a tuple of two is always taken for a pair.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.errors import UserError
from m3pc_ray.goals.waypoints import Waypoints, describe


def read_function(path: Path, function_name: str, environment_id: str, names: Sequence[str], every: int) -> Waypoints:
    """The waypoints of `path`'s function, called as `function(environment_id, observation_dim)`.

    Args:
        path: a Python file; it is run.
        function_name: the name of a function in it.
        environment_id: Gymnasium id, handed to the function.
        names: (observation_dim,) names of the observation's entries, for messages.
        every: steps between waypoints where the function gives none.

    Raises:
        UserError: no such file or function, an error inside it (with its type and message), or a result that does not
            fit.
    """
    source = f"{path}:{function_name}"
    function = _load(path, function_name)
    try:
        made = function(environment_id, len(names))
    except (Exception, SystemExit) as error:
        raise UserError(f"{source}: the function failed ({describe(error)})") from error
    return _waypoints(made, source, names, every)


def _load(path: Path, function_name: str) -> Callable[..., Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    # Not entered into sys.modules: two files may share a name, and a function of an unknown module is pickled whole,
    # as a process that cannot import the file needs it.
    specification = importlib.util.spec_from_file_location(f"waypoints_of_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path}: running the file failed ({describe(error)})") from error
    function = getattr(module, function_name, None)
    if callable(function):
        return function
    known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
    close = difflib.get_close_matches(function_name, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else f"functions there: {', '.join(known) or 'none'}"
    raise UserError(f"{path}: no function {function_name!r}; {hint}")


def _waypoints(made: Any, source: str, names: Sequence[str], every: int) -> Waypoints:
    if isinstance(made, Waypoints):
        steps, states, moving = made.steps, made.states, made.moving
    elif isinstance(made, tuple) and len(made) == 2:
        (steps, states), moving = made, None
    else:
        steps, states, moving = None, made, None
    try:
        with np.errstate(over="ignore"):  # too large a number becomes infinite, which Waypoints reports
            states = np.asarray(states, dtype=np.float32)
    except (TypeError, ValueError) as error:
        needed = "Waypoints, an array (waypoints, observation_dim), or a pair (steps, array)"
        raise UserError(
            f"{source}: returned a {type(made).__name__} ({describe(error)}); {needed} is needed"
        ) from error
    if states.ndim != 2:
        raise UserError(
            f"{source}: made waypoints of shape {states.shape}; (waypoints, {len(names)}) is needed, one column for "
            f"each of {', '.join(names)}"
        )
    if states.shape[1] != len(names):
        raise UserError(
            f"{source}: made waypoints of {states.shape[1]} dimensions; {len(names)} are needed: {', '.join(names)}"
        )
    if steps is None:
        steps = np.arange(1, len(states) + 1) * every
    try:
        exact = np.asarray(steps, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: its steps are no numbers ({describe(error)})") from error
    whole = (np.abs(exact) < 2**53) & (exact == np.round(exact))
    if not whole.all():
        raise UserError(f"{source}: its steps hold {exact[~whole][0]}; whole numbers are needed")
    return Waypoints(steps=exact.astype(np.int64), states=states, source=source, moving=moving)
