import numpy as np
import pytest

from m3pc_ray.environments.make import make_environment
from m3pc_ray.environments.poses import current_positions
from m3pc_ray.environments.stick_figure import capsules
from m3pc_ray.errors import UserError


def some_positions(environment, steps=4):
    rng = np.random.default_rng()
    environment.reset(seed=int(rng.integers(1000)))
    return current_positions(environment) + rng.uniform(-0.5, 0.5, (steps, environment.unwrapped.model.nq))


@pytest.mark.parametrize("environment_id", ["Hopper-v4", "Walker2d-v4", "HalfCheetah-v4"])
def test_capsules_are_where_the_simulator_has_its_geoms(environment_id):
    environment = make_environment(environment_id)
    base = environment.unwrapped
    positions = some_positions(environment)
    before = current_positions(environment)
    found = capsules(environment, positions)
    np.testing.assert_array_equal(current_positions(environment), before)
    assert found.ends.shape == (4, len(found.names), 2, 2)
    assert found.ground == 0.0
    for step, position in enumerate(positions):
        base.set_state(position, np.zeros(base.model.nv))
        for index, name in enumerate(found.names):
            centre, rotation = base.data.geom(name).xpos, base.data.geom(name).xmat.reshape(3, 3)
            size = base.model.geom(name).size
            for side, sign in ((0, -1), (1, 1)):
                end = centre + rotation @ [0, 0, sign * size[1]]
                np.testing.assert_allclose(found.ends[step, index, side], end[[0, 2]], atol=1e-12)
            assert found.radii[index] == size[0]


def test_limbs_are_told_apart():
    figure = capsules(*with_positions("Walker2d-v4"))
    limbs = dict(zip(figure.names, figure.limbs, strict=True))
    assert limbs["torso_geom"] == 0
    assert {limbs[name] for name in ("thigh_geom", "leg_geom", "foot_geom")} == {1}
    assert {limbs[name] for name in ("thigh_left_geom", "leg_left_geom", "foot_left_geom")} == {2}


def test_a_sphere_has_equal_ends_and_what_stands_still_is_left_out():
    ant = capsules(*with_positions("Ant-v4"))
    torso = ant.names.index("torso_geom")
    np.testing.assert_array_equal(ant.ends[:, torso, 0], ant.ends[:, torso, 1])
    assert "floor" not in ant.names
    assert "rail" not in capsules(*with_positions("InvertedPendulum-v4")).names


def test_a_figure_that_lies_flat_is_seen_from_above():
    environment, positions = with_positions("Swimmer-v4")
    figure = capsules(environment, positions)
    assert figure.ground is None
    assert np.ptp(figure.ends[..., 1]) > 0.1  # seen from the side it would be a line


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(UserError, match="Pendulum-v1 is not simulated by MuJoCo"):
        capsules(make_environment("Pendulum-v1"), np.zeros((1, 2)))
    with pytest.raises(UserError, match=r"\(1, 5\); Hopper-v4 needs \(steps, 6\)"):
        capsules(make_environment("Hopper-v4"), np.zeros((1, 5)))


def with_positions(environment_id):
    environment = make_environment(environment_id)
    return environment, some_positions(environment)
