"""Baselines learn from the steps whose values are known, and from no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from m3pc_ray.baselines.behaviour_cloning import fit_behaviour_cloning
from m3pc_ray.baselines.dynamics import fit_dynamics
from m3pc_ray.baselines.inverse_dynamics import fit_inverse_dynamics
from m3pc_ray.baselines.logged_actions import logged_actions
from m3pc_ray.model.mlp import Training
from tests.training.test_pretraining import make_trajectories


def test_missing_actions_and_rewards_are_left_out() -> None:
    whole = make_trajectories()
    known = np.random.default_rng(0).random(whole.num_steps) < 0.6
    partly = replace(whole, actions_known=known)
    np.testing.assert_array_equal(np.isnan(logged_actions(partly)).all(axis=1), ~known)
    np.testing.assert_array_equal(logged_actions(partly)[known], logged_actions(whole)[known])
    training = Training(2, 8, 0, "cpu")
    assert fit_behaviour_cloning(partly, training).rows == known.sum()
    followed = np.isfinite(whole.next_observations()).all(axis=1)
    assert fit_inverse_dynamics(partly, training).rows == (known & followed).sum()
    rewarded = np.random.default_rng(1).random(whole.num_steps) < 0.7
    both = replace(partly, rewards_known=rewarded)
    assert fit_dynamics(both, training).rows == (known & followed & rewarded).sum()
