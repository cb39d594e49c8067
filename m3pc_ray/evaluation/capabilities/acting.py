"""Episodes played by one mask of the model, or by an MLP: what each role earns, and whether it does what is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from m3pc_ray.agent import Agent
from m3pc_ray.baselines.feedforward_agent import FeedforwardAgent
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.evaluation.diagnostics import rank_correlations
from m3pc_ray.evaluation.evaluate import Acting, Progress, check_environment, earned, run_episodes
from m3pc_ray.evaluation.statistics import describe
from m3pc_ray.model.masks import behaviour_cloning
from m3pc_ray.planning.engine import FastInference
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.planning.prompts import ReturnPrompt
from m3pc_ray.trajectories.returns import from_sum, no_return_known
from m3pc_ray.trajectories.scores import normalised_score

if TYPE_CHECKING:
    from m3pc_ray.model.distribution import SquashedGaussian
    from m3pc_ray.model.mlp import MLP
    from m3pc_ray.planning.inference import Window
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.trajectories.episodes import Trajectories


class CloningInference(FastInference):
    """Proposes by the behaviour-cloning mask: the states so far and past actions, and no return is asked for."""

    @torch.inference_mode()
    def propose(self, window: Window, steps: int) -> SquashedGaussian:
        """The distribution of the action at step t, mean and log_std (B, 1, action_dim); `steps` must be 1.

        Raises ValueError for more: without returns the mask is asked for one action only.
        """
        if steps != 1:
            raise ValueError(f"the behaviour-cloning mask is asked for 1 action, not {steps}")
        length, t = self._segment_length, window.position
        tokens = {
            "states": window.states.new_zeros(len(window.states), length, window.states.shape[2]),
            "actions": window.actions.new_zeros(len(window.actions), length, window.actions.shape[2]),
        }
        tokens["states"][:, : t + 1] = window.states
        tokens["actions"][:, :t] = window.actions
        return self.action_behind(tokens, behaviour_cloning(length, t), t).map(lambda values: values.unsqueeze(1))


def cloning_agent(models: Models) -> Agent:
    """An agent without planning that acts by the behaviour-cloning mask."""
    agent = Agent.from_models(models, "none")
    planner = agent.planner
    settings = dataclasses.replace(models.config.planner, guide="none", engine="fast")
    agent.planner = ForwardPlanner(
        models.model,
        None,
        settings,
        float(planner.discount),
        models.prompt,
        planner.device,
        CloningInference(models.model, planner.dtype, planner.device),
    )
    return agent


def even_prompt(asked: float, scale: Any, time_limit: int) -> ReturnPrompt:
    """Asks for a return of `asked` in a whole episode, evenly over the time limit, whatever was earned so far."""
    steps = np.arange(time_limit)
    still_asked = (asked * (time_limit - steps) / time_limit).astype(np.float32)
    return ReturnPrompt(from_sum(still_asked, steps, scale, time_limit), asked, scale, time_limit)


def asking_agent(models: Models, asked: float) -> Agent:
    """An agent without planning that asks for a return of `asked` by the return-conditioned mask, without any cap."""
    prompt = even_prompt(asked, models.prompt.scale, models.prompt.time_limit)
    settings = dataclasses.replace(
        models.config.planner, guide="none", return_prompt="best_at_step", return_ratio=1.0, return_limit=0.0
    )
    return Agent.from_models(dataclasses.replace(models, prompt=prompt), "none", config=settings)


def asked_returns(returns: npt.NDArray[np.float64], points: int) -> list[float]:
    """`points` returns from the worst of the data to a fifth of the data's range above the best, evenly."""
    lowest, best = float(returns.min()), float(returns.max())
    return np.linspace(lowest, best + 0.2 * (best - lowest), points).tolist()


def known_returns(trajectories: Trajectories) -> npt.NDArray[np.float64]:
    """Returns of the episodes that were seen to their end and lack no reward, (episodes,).

    Raises UserError where there is none.
    """
    known = trajectories.returns_known()
    if not known.any():
        raise no_return_known(trajectories)
    return trajectories.returns[known]


def play(
    models: Models, agent: Acting, config: EvaluationConfig, progress: Progress | None = None
) -> npt.NDArray[np.float64]:
    """Returns (episodes,) of the agent's episodes; raises UserError where the environment is not the run's."""
    count = max(1, min(config.parallel_environments, config.episodes))
    with EnvironmentGroup(models.environment_id, count, time_limit=models.time_limit) as group:
        check_environment(Agent.from_models(models, "none"), group)
        return run_episodes(agent, group, config, progress).returns


def played_row(models: Models, returns: npt.NDArray[np.float64], config: EvaluationConfig) -> dict[str, Any]:
    """return_* and score_* of played episodes, as `m3pc evaluate` names them."""
    return earned(returns, models.metadata) | {"seed": config.seed, "deterministic": config.deterministic}


def cloned_row(models: Models, network: MLP, config: EvaluationConfig, progress: Progress | None) -> dict[str, Any]:
    """return_* and score_* of the MLP's episodes, names beginning with `mlp_`."""
    agent = FeedforwardAgent(network.predict, models.metadata, models.time_limit)
    return {
        f"mlp_{name}": value for name, value in earned(play(models, agent, config, progress), models.metadata).items()
    }


def sweep_rows(
    models: Models,
    trajectories: Trajectories,
    asked: Sequence[float],
    config: EvaluationConfig,
    progress: Callable[[int], Progress | None],
) -> list[dict[str, Any]]:
    """A row for every return asked for of the return-conditioned mask, and one about all of them.

    The same episodes for each. `achieved_return` is the mean, `error` the mean over episodes of |achieved - asked|,
    both in the environment's rewards. The last row, `return_conditioned_sweep_summary`, has Spearman's rank correlation
    of achieved with asked over all episodes (and over those asked for no more than the data's best return), and as
    `error` the mean of the rows inside the range of the data.
    """
    data = known_returns(trajectories)
    facts = {"data_return_min": data.min(), "data_return_mean": data.mean(), "data_return_max": data.max()}
    shared: dict[str, Any] = {name: float(value) for name, value in facts.items()}
    shared |= {"unit": "sum of rewards", "episodes": config.episodes, "seed": config.seed}
    spread = float(data.std())
    rows, achieved = [], []
    for index, wanted in enumerate(asked):
        returns = play(models, asking_agent(models, wanted), config, progress(index))
        achieved.append(returns)
        misses = describe("error", np.abs(returns - wanted))
        row: dict[str, Any] = {"capability": "return_conditioned_sweep", "mask": "return_conditioned"}
        row |= {"asked_return": wanted, "asked_score": normalised_score(wanted, models.metadata)}
        row |= {"asked_standard_deviations": (wanted - float(data.mean())) / spread if spread > 0 else None}
        row |= {f"achieved_{name}": value for name, value in describe("return", returns).items()}
        row |= {"achieved_return": float(returns.mean()), "achieved_returns": returns.tolist()}
        rows.append(row | {"error": misses["error_mean"], "error_sem": misses["error_sem"]} | shared)
    inside = [row["asked_return"] <= data.max() for row in rows]
    summary: dict[str, Any] = {"capability": "return_conditioned_sweep_summary"}
    summary["error"] = float(np.mean([row["error"] for row, near in zip(rows, inside, strict=True) if near]))
    summary["rank_correlation"] = _rank_correlation(asked, achieved)
    summary["rank_correlation_inside_data"] = _rank_correlation(
        [wanted for wanted, near in zip(asked, inside, strict=True) if near],
        [returns for returns, near in zip(achieved, inside, strict=True) if near],
    )
    return [*rows, summary | shared]


def _rank_correlation(asked: Sequence[float], achieved: Sequence[npt.NDArray[np.float64]]) -> float | None:
    """Spearman's, of single episodes; None where all were asked for, or earned, the same."""
    wanted = np.repeat(np.asarray(asked), [len(returns) for returns in achieved])
    value = float(rank_correlations(wanted[None], np.concatenate(list(achieved))[None])[0])
    return value if np.isfinite(value) else None
