"""What a forward planner's settings must keep to, for callers that made them without `m3pc_ray.configuration`."""

from __future__ import annotations

from m3pc_ray.config import PlannerConfig
from m3pc_ray.configuration_ranges import asked_shares
from m3pc_ray.critic.dynamics import DynamicsNetwork
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.errors import UserError

MASK_LAMBDA = 0.6
"""lambda of eq. 3 where candidates are followed with the forward-dynamics mask."""
NETWORK_LAMBDA = 0.9
"""The same with the critic's network, whose later steps can be trusted more (docs/better.md has the measurements)."""


def check_planner(config: PlannerConfig, segment_length: int) -> None:
    """Raises UserError for a setting out of its range."""
    if not 0 <= config.context_length < segment_length:
        raise UserError(
            f"planner.context_length is {config.context_length}; segments of {segment_length} steps allow 0 to "
            f"{segment_length - 1}"
        )
    if config.num_candidates < 1:
        raise UserError(f"planner.num_candidates is {config.num_candidates}; it must be at least 1")
    if config.horizon < 0:
        raise UserError(f"planner.horizon is {config.horizon}; it must be 0 (no cap) or a number of steps")
    if config.td_lambda is not None and not 0.0 <= config.td_lambda <= 1.0:
        raise UserError(f"planner.td_lambda is {config.td_lambda}; it must lie in [0, 1]")
    if config.refinement_steps < 0:
        raise UserError(f"planner.refinement_steps is {config.refinement_steps}; it must be 0 (off) or a number")
    if config.refinement_steps and config.num_candidates < 2:
        raise UserError("planner.num_candidates is 1; refining needs at least 2: elites, and others to replace")
    try:
        shares = asked_shares(config.asked_returns)
    except ValueError as error:
        raise UserError(f"planner.asked_returns: {error}") from error
    if len(shares) > config.num_candidates:
        raise UserError(
            f"planner.asked_returns names {len(shares)} returns for planner.num_candidates = {config.num_candidates}"
        )


def lambda_of(config: PlannerConfig, dynamics: DynamicsNetwork | None) -> float:
    """lambda of eq. 3: `planner.td_lambda`, or what suits `dynamics`, which candidates are followed with."""
    if config.td_lambda is not None:
        return config.td_lambda
    return MASK_LAMBDA if dynamics is None else NETWORK_LAMBDA


def dynamics_of(critic: IQLCritic | None, config: PlannerConfig) -> DynamicsNetwork | None:
    """What guide `critic` looks ahead with by `planner.states_from`; None: the forward-dynamics mask.

    Raises UserError where the network is asked for and there is none, or together with settings of the mask's.
    """
    network = getattr(critic, "dynamics", None)  # what scores in its place need not have one
    masked = config.rewards_from == "rp" or config.current_state == "reconstructed"
    if config.states_from != "network":
        return None if config.states_from == "fd" or masked else network
    if masked:
        raise UserError(
            "planner.states_from is network, but planner.rewards_from rp and planner.current_state reconstructed are "
            "the forward-dynamics mask's; leave them out, or use states_from fd"
        )
    if critic is not None and network is None:
        raise UserError(
            "planner.states_from is network, but this run's critic has learnt no dynamics; pretrain with "
            "critic.dynamics true, or use states_from fd"
        )
    return network
