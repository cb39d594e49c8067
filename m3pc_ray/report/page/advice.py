"""What to do when a number looks bad: the words of docs/metrics.md.

That page is not installed with the package; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence

from m3pc_ray.report.page.charts import marked_up

ADVICE = {
    "btm": {
        "loss": "not falling after the warm-up: lower `pretrain.learning_rate`; it may well become negative",
        "states_error": "stays near 1: nothing is learnt from the data, look at `m3pc data info`; far below its "
        "validation value: raise `model.dropout` or take more data",
        "entropy": "stays below `pretrain.entropy_target`: raise `pretrain.entropy_multiplier_learning_rate`",
        "negative_log_likelihood": "rises while `entropy` falls: the distribution collapses, raise `model.log_std_min`",
        "sequences_per_second": "falls during the run: something else wants the cores; see `pretrain.threads`, "
        "`docs/performance.md`",
        "validation/action_error/<mask>": "rises while `loss` falls: overfitting, fewer `pretrain.steps` or more "
        "`model.dropout`",
        "validation/states_error/<steps>_ahead": "above 0.5 some steps ahead: planning that far is guessing, lower "
        "`planner.horizon`",
        "validation/returns_error": "large: guide with the critic instead of returns",
        "validation/pattern_error/<pattern>/<modality>": "near 1 for states: it cannot be answered from what the "
        "pattern shows, or its `weight` is too small",
    },
    "critic": {
        "value_loss": "grows steadily: values diverge; `critic.layer_norm true`, a lower `critic.learning_rate` or "
        "a smaller `critic.expectile`",
        "updates_per_second": "falls: see `sequences_per_second`",
    },
    "online": {
        "steps_per_second": "`m3pc top` says what limits it",
        "return_mean": "falls for long: finetuning does harm; lower `online.btm_learning_rate`, "
        "`online.sharpness_factor`",
        "waiting_steps": "above 0.15: the learner is the limit: fewer `online.btm_updates_per_step`, a smaller "
        "`online.btm_batch_size`, more `online.threads`",
        "simulation_share": "above 0.5: more `online.rollout_workers`, one a free core",
        "planner_busy": "above 0.8: planning is the limit: fewer `online.num_candidates`, or a GPU with more "
        "`online.environments_per_worker`",
        "planner_wait_ms": "above `planner_batch_ms` while the planner is idle: lower `online.planner_batch_wait_ms`",
        "weight_lag_min": "mean above 400: actions come from old weights; lower `online.publish_every`, "
        "`online.fragment_steps` or `online.rate_tolerance_steps`, whichever `m3pc top` names",
    },
    "evaluation": {
        "<planner>/return_mean": "falls over the run: finetuning does harm, see `return_mean`",
        "<planner>/return_low": "wide: more `online.evaluation_episodes`",
    },
    "live.json": {
        "memory_bytes": "grows for minutes: for the learner until the replay is full (`online.replay_capacity`), for "
        "the replay when the learner is too slow; else a defect",
    },
}
"""By section of docs/metrics.md and name there."""


def advice(*names: Sequence[str]) -> str:
    """HTML: what docs/metrics.md says of these (section, name), one sentence each."""
    said = [marked_up(ADVICE[section][name]) for section, name in names]
    return " ".join(f"{text[0].upper()}{text[1:]}." if not text.startswith("<") else f"{text}." for text in said)
