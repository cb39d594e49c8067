"""Every setting of the product, with its default, in one place.

A run's configuration is one `RunConfig`. YAML files in `configs/` and command-line options such as `--model.width 256`
name the same fields by their dotted path; `m3pc_ray.configuration` reads and checks them. Strings under fields: help.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Precision = Literal["auto", "float32", "bfloat16"]
Guide = Literal["none", "return", "critic"]
ActionLoss = Literal["nll", "squared_error"]
ActionNoise = Literal["model", "fixed"]
PatternDefinitions = dict[str, Any]
"""Mask patterns as YAML gives them, by name; `m3pc_ray.mask_patterns` reads them."""


@dataclass(frozen=True)
class DataConfig:
    dataset: str = ""
    """Data set to learn from: a name (`d4rl/hopper-medium-v2`, `bundled/hopper`), a Minari id or a path."""
    environment: str = ""
    """Gymnasium environment id; empty: the one the data set names."""
    folder: str = ""
    """Folder searched for D4RL files; empty: `~/.d4rl/datasets`."""
    validation_fraction: float = 0.05
    """Fraction of the episodes held out for validation errors, one at least, by a seeded shuffle of episodes."""
    episodes_fraction: float = 1.0
    """Fraction of the training episodes that is learnt from, one at least, by a seeded shuffle; with less than 1,
    statistics and asked returns come from these episodes alone."""
    labelled_fraction: float = 1.0
    """Fraction of those episodes that keep their actions, one at least, the first of the same shuffle; of the others
    only states, rewards and returns are learnt from, and the critic and a replay leave them out."""
    labelled_share: float | None = None
    """Share of every pretraining batch drawn from segments that hold all their actions, where the data lacks some;
    none: all segments alike, however few hold them."""
    split_seed: int | None = None
    """Seed of the shuffles that hold episodes out and choose the fractions; none: `seed`. A finetuned run keeps that of
    the run it starts from, whatever its own `seed`."""
    return_scale: Literal["average", "sum"] = "average"
    """What a returns-to-go token holds: reward per remaining step of the time limit, or the plain sum."""
    smallest_state_std: float = 0.1
    """A state's standard deviation below this counts as 1: a nearly constant one is not blown up to noise. In metres
    that would be most positions, so manipulation needs 0.001 (configs/manipulation.yaml)."""
    time_limit: int = 0
    """Steps after which an episode is cut off; 0: the environment's own limit."""
    share_memory: bool = False
    """Finetuning on Linux: a machine's learners map one file of offline rows, no copy each (docs/operations.md)."""


@dataclass(frozen=True)
class ModelConfig:
    segment_length: int = 8
    """Steps T in a segment; one segment holds 4 T tokens."""
    width: int = 128
    """Embedding width d; cost grows with its square (512 in the paper)."""
    encoder_layers: int = 2
    """Transformer layers over the visible tokens."""
    decoder_layers: int = 1
    """Transformer layers over all tokens."""
    heads: int = 4
    """Attention heads; must divide the width."""
    feedforward_multiple: int = 4
    """Hidden width of a feed-forward block, in widths."""
    dropout: float = 0.0
    """Dropout probability inside the transformer while training (0.1 in the paper)."""
    log_std_min: float = -5.0
    """Lower bound of the action distribution's log standard deviation."""
    log_std_max: float = 0.0
    """Upper bound of it (2 in the paper, where the entropy term can drive it to the bound and ruin the policy)."""
    action_clip: float = 1e-3
    """Actions are clamped to 1 - action_clip before the inverse tanh of the log-likelihood."""
    encoder_attention: Literal["full", "causal"] = "full"
    """What the encoder's tokens attend to: all visible ones (the paper), or none of later steps. With causal the past
    does not depend on the candidates of a plan and is encoded once for all of them."""
    state_prediction: Literal["absolute", "change"] = "absolute"
    """What the state head outputs: the state itself (authors' code), or the change since the last visible state."""


@dataclass(frozen=True)
class MaskConfig:
    groups: int = 2
    """Mask groups a batch: every group has a mask of its own (1 in the authors' code)."""
    test_mask_fraction: float = 0.5
    """Fraction of the groups trained with a test-time mask instead of a random one (0 in the authors' code)."""
    rcbc_weight: float = 0.4
    """Share of the return-conditioned behaviour-cloning mask among test-time masks."""
    forward_dynamics_weight: float = 0.3
    """Share of the forward-dynamics mask."""
    reward_prediction_weight: float = 0.1
    """Share of the reward-and-return-prediction mask."""
    inverse_dynamics_weight: float = 0.1
    """Share of the inverse-dynamics mask."""
    path_inpainting_weight: float = 0.0
    """Share of the path-inpainting mask (backward planning; configs/masks/goals.yaml)."""
    goal_weight: float = 0.0
    """Share of the single goal mask, with the history or without it (the baseline of backward planning)."""
    behaviour_cloning_weight: float = 0.1
    """Share of the behaviour-cloning mask."""
    patterns: PatternDefinitions = field(default_factory=dict)
    """Your own mask patterns, with shares (docs/masks.md): a YAML file, whose content a run keeps, or the patterns."""


@dataclass(frozen=True)
class PretrainConfig:
    components: Literal["both", "btm", "critic"] = "both"
    """What to train: the trajectory model and the critic, or one of them."""
    steps: int = 20_000
    """Gradient steps of the trajectory model; with max_minutes, the count that fits the time replaces it."""
    batch_size: int = 256
    """Segments a gradient step (2048 offline in the paper)."""
    max_minutes: float = 0.0
    """Wall-clock budget of everything trained, in minutes; 0: no limit, `steps` and `critic.updates` rule."""
    order: Literal["auto", "side_by_side", "in_turn"] = "auto"
    """Train critic and model side by side, each for all of max_minutes, or in turn; auto: side by side on two cores."""
    critic_fraction: float = 0.35
    """Share of max_minutes given to the critic when both are trained in turn."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon on the hidden matrices with AdamW on the rest, or AdamW alone (the paper)."""
    learning_rate: float = 2e-3
    """Peak learning rate of both optimizers (AdamW alone in the paper: 1e-4)."""
    beta1: float = 0.9
    """Decay of the first moment (Muon: momentum uses 0.95)."""
    beta2: float = 0.99
    """Decay of AdamW's second moment (0.999 in the paper)."""
    weight_decay: float = 5e-3
    """Decoupled weight decay, on matrices only."""
    warmup_steps: int = 200
    """Steps of linear learning-rate warm-up (40,000 in the paper)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after warm-up: cosine to 0 at the last step, or constant."""
    gradient_clip: float = 1.0
    """Largest global gradient norm; 0: no clipping."""
    action_loss: ActionLoss = "nll"
    """How asked actions are learnt: by likelihood (eq. 1), or by squared error, with planner.action_noise fixed."""
    nll_over: Literal["masked", "all"] = "masked"
    """Action tokens in that loss: masked ones (authors' code) or all (eq. 1)."""
    entropy_target: float | None = None
    """Target beta of the entropy constraint, nats per step; none: minus the action dimension."""
    entropy_constraint: bool = True
    """Whether the Lagrangian entropy term (eqs. 2, 5-8) is part of the loss."""
    entropy_multiplier_init: float = 0.1
    """First value of the Lagrange multiplier."""
    entropy_multiplier_learning_rate: float = 1e-4
    """Adam's learning rate for the logarithm of the multiplier."""
    precision: Precision = "auto"
    """Matrix products of training; auto: bfloat16 where it is measured faster, with float32 master weights."""
    utility_unit_power: float = 0.33
    """planner.utility_unit_* become the utilities' mean spread on states of the data to this power, measured at the
    end. 0: plain utilities (the paper), 1: standardised ones; docs/results.md shows why neither fits every data set."""
    log_every: int = 50
    """Gradient steps between metric rows."""
    validate_every: int = 1000
    """Gradient steps between validations per test-time mask; 0: only at the end."""
    checkpoint_minutes: float = 2.0
    """Minutes between checkpoints."""
    threads: int = 1
    """CPU threads of each part's training; 0: all cores, which pays for wide models only (docs/results.md)."""


@dataclass(frozen=True)
class CriticConfig:
    updates: int = 200_000
    """IQL updates offline; with pretrain.max_minutes, the count that fits the time replaces it."""
    batch_size: int = 256
    """Transitions an update."""
    hidden_width: int = 256
    """Units of both hidden layers of the Qs and V."""
    ensemble_size: int = 2
    """Q networks; with more than two, targets take the minimum of two drawn anew for every update (REDQ)."""
    layer_norm: bool = False
    """LayerNorm before both ReLUs of the Qs and V (RLPD): bounds how far values are extrapolated beyond the data."""
    dynamics: bool = True
    """Learn a one-step network of the dynamics from the same batches, for planner.states_from."""
    expectile: float = 0.7
    """Expectile of the value loss (0.9 for manipulation)."""
    discount: float = 0.99
    """Discount gamma, of the critic and of planning."""
    learning_rate: float = 3e-4
    """Adam's learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate offline: cosine to 0 at the last update, or constant (the authors); online see online.schedule."""
    standardise_values: bool = True
    """Predict values in units of the data's discounted returns, so that nothing has to climb from 0 to their level."""
    scoring: Literal["target", "online"] = "target"
    """Q networks that score plans: the Polyak averages, or the newest ones (the authors)."""
    polyak: float = 5e-3
    """Rate at which the target Q networks follow."""
    bootstrap_through_terminations: bool = False
    """True: ignore terminations as the authors' code does."""


@dataclass(frozen=True)
class PlannerConfig:
    guide: Guide = "critic"
    """Which planner acts: `none` (one RCBC pass), `return` (M³PC-M) or `critic` (M³PC-Q)."""
    num_candidates: int = 128
    """Candidate action sequences N a decision (625 in the paper); cost is proportional to it."""
    context_length: int = 3
    """Past steps visible to the planner; the current step then sits at this index of the window (4 in the paper)."""
    horizon: int = 4
    """Most planned steps h scored; early in an episode the window would allow more (0: no cap, as the authors)."""
    td_lambda: float | None = None
    """lambda of the utility (eq. 3); none: 0.9 where the critic's network looks ahead, 0.6 where the mask does."""
    utility_sharpness_return: float = 0.02
    """xi of the softmax over utilities (eq. 4) with guide `return`, for utilities divided by utility_unit_return."""
    utility_sharpness_critic: float = 0.72
    """xi of the softmax over utilities (eq. 4) with guide `critic`, for utilities divided by utility_unit_critic."""
    utility_unit_return: float = 1.0
    """Unit of those utilities; pretraining measures it, see pretrain.utility_unit_power (the paper: 1)."""
    utility_unit_critic: float = 1.0
    """The same for guide `critic`."""
    action_noise: ActionNoise = "model"
    """What actions are drawn with: the model's spread in every situation, or planner.noise_std around its mean."""
    noise_std: float | None = None
    """Standard deviation of fixed noise, before the tanh; none: measured when a run is made that uses it, so that its
    mean entropy on the data is the model's own (with squared error pretrain.entropy_target)."""
    average: Literal["around_mode", "around_mean", "plain"] = "around_mode"
    """Deterministic action: P-weighted mean of the candidates' first actions (plain: the paper); around_mean: the same
    without the error of the draw; around_mode: the single mask's action, moved by the P-weighted mean of the noise."""
    ensemble_value: Literal["minimum", "mean"] = "minimum"
    """What the critic's Qs say together: the smallest of them (the paper), or their mean, for larger ensembles."""
    pessimism: float = 0.0
    """Standard deviations of the Qs among themselves taken off that value (below 0: added); guide `critic` alone."""
    refinement_steps: int = 0
    """Times the candidates are replaced by new ones around the best (MPPI); each costs nearly as much as the first."""
    elite_fraction: float = 0.1
    """Share of the candidates that a refinement keeps, and fits the others to."""
    refinement_noise: float = 0.05
    """Least standard deviation of refined actions."""
    warm_start: bool = False
    """One candidate more: what the plan of the step before has left, its missing last step by the single mask."""
    asked_returns: str = ""
    """Candidates from several asked returns, as `0.5,1`: shares of the way from the data's mean to the return asked."""
    rewards_from: Literal["fd", "rp"] = "fd"
    """Where rewards and returns come from: the forward-dynamics pass (cheap) or a pass of their own (the paper)."""
    states_from: Literal["auto", "fd", "network"] = "auto"
    """Guide `critic` looks ahead with the forward-dynamics mask (the paper) or the critic's one-step network; auto:
    the network, but for runs without one and where rewards_from or current_state ask for the mask."""
    current_state: Literal["true", "reconstructed"] = "true"
    """State the critic scores first: the observed one, or its reconstruction (authors' code)."""
    return_prompt: Literal["best_at_step", "best"] = "best_at_step"
    """Return asked for: the best return-to-go seen at that time step, or the best return of the data."""
    return_ratio: float = 1.0
    """Factor on the return asked for."""
    return_limit: float = 3.0
    """Most that is asked for, in standard deviations above the mean of the data's returns; 0: no limit (the paper)."""
    precision: Precision = "auto"
    """Matrix products of planning; auto: bfloat16 where it is measured faster."""
    engine: Literal["fast", "plain"] = "fast"
    """`plain` decodes every token in float32: the oracle, slow."""


@dataclass(frozen=True)
class BackwardConfig:
    context_length: int = 3
    """Past steps visible to the planner; the current step then sits at this index of the window (4 in the paper)."""
    goal_slot: Literal["due", "last"] = "due"
    """Where a goal stands in the window: at the step it is due, all that are due inside it at once (the next one in the
    last step where none is), or only the next one, in the last step until its time has come (the paper)."""
    completion_rounds: int = 3
    """Times the model refines the free dimensions of goals that fix only some."""
    goal_mask_sees: Literal["state", "history"] = "state"
    """What the single goal mask sees beside the goal: the current state (the paper) or the past too (the authors)."""
    missed: Literal["move_on", "wait"] = "move_on"
    """A goal not reached when its time has come: go on to the next, or ask for it further and delay those after it."""
    wait_steps: int = 20
    """Most steps one goal is waited for."""
    tolerance: float = 0.5
    """Distance at which a goal counts as reached: root mean square over its fixed dimensions, in the data's standard
    deviations."""
    precision: Precision = "float32"
    """Matrix products of backward planning, which has no candidates to make bfloat16 pay on a CPU."""


@dataclass(frozen=True)
class EvaluationConfig:
    episodes: int = 20
    """Episodes a planner."""
    seed: int = 1000
    """Seed of the first evaluation episode; episode i resets with seed + i, the same for every planner."""
    deterministic: bool = True
    """Act by the distribution's mode, or as planner.average says, instead of sampling."""
    parallel_environments: int = 20
    """Environments stepped together."""


@dataclass(frozen=True)
class OnlineConfig:
    steps: int = 20_000
    """Environment steps to take, met exactly."""
    rollout_workers: int = 2
    """Rollout worker actors."""
    environments_per_worker: int = 2
    """Environments each worker steps together with one planning request."""
    overlap: Literal["auto", "always", "never"] = "auto"
    """Step half of a worker's environments while the other is planned for; auto: where that takes over a tenth."""
    worker_cpus: float = 0.0
    """CPU cores a rollout worker reserves, fractions allowed; 0: one, or less where the roles outnumber the cores."""
    planners: int = 0
    """Planner replicas, over which the workers are spread; 0: one for every GPU beside the learner's, one at least."""
    btm_updates_per_step: float = 0.2
    """Trajectory-model updates per environment step (the paper's 200 per episode of up to 1000 steps)."""
    critic_updates_per_step: float = 2.0
    """Critic updates per environment step (2000 per episode)."""
    start_steps: int = 1000
    """Environment steps collected before the first update."""
    rate_tolerance_steps: int = 400
    """Environment steps by which updates may run ahead of, or behind, the promised ratio."""
    btm_batch_size: int = 256
    """Segments a trajectory-model update (512 in the paper)."""
    btm_learning_rate: float = 2e-4
    """Peak learning rate of the trajectory model online."""
    critic_learning_rate: float = 1e-4
    """Peak learning rate of the critic online (3e-4 in the authors' code)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Both learning rates online: cosine to 0 at the last owed update, or constant (the paper)."""
    trained_losses: Literal["all", "states_and_masked_actions"] = "all"
    """Losses of online updates: all, or without rewards, returns and visible actions as in the authors' code."""
    offline_episodes: int = 1000
    """Best episodes of the data set that stay in the replay (the paper's 1000)."""
    replay_capacity: int = 1_000_000
    """Online steps kept, first in, first out."""
    log_file_megabytes: int = 64
    """Size (MiB) from which a file of the replay log is closed and a new one begun."""
    offline_fraction: float = 0.5
    """Share of every critic batch drawn from the data set once balanced_after online steps exist."""
    balanced_after: int = 5000
    """Online steps from which offline_fraction holds; before, batches are drawn from all data alike."""
    guide: Guide = "critic"
    """Guide of the exploring planner."""
    num_candidates: int = 64
    """Candidates of the exploring planner."""
    action_noise: ActionNoise = "model"
    """planner.action_noise of the exploring planner."""
    sharpness_factor: float = 1.0
    """Factor on planner.utility_sharpness_*, applied once, when the finetuned run is made, to exploring and evaluation
    alike. Where the mask looks ahead (planner.states_from fd) 0.5 was safer (docs/results.md, docs/better.md)."""
    fragment_steps: int = 50
    """Most steps of one episode a worker holds back before it sends them."""
    publish_every: int = 50
    """Trajectory-model updates between published weights."""
    max_weight_lag: int = 0
    """Most updates by which weights that choose an action may be behind the learner's at that moment: it publishes as
    often and waits until every planner has them. 0: no cap, the learner never waits for a planner."""
    evaluate_every: int = 5000
    """Environment steps between evaluations."""
    evaluation_episodes: int = 5
    """Episodes of each evaluation during finetuning."""
    planner_batch_wait_ms: float = 2.0
    """Longest wait of a planning request for company, where another worker's is expected within it."""
    checkpoint_minutes: float = 2.0
    """Minutes between checkpoints."""
    checkpoint_updates: int = 100
    """Trajectory-model updates between checkpoints, where that comes sooner: most of them that a crash costs."""
    keep_checkpoints: int = 2
    """Newest complete checkpoints kept."""
    watchdog_minutes: float = 10.0
    """Minutes without any progress after which a run on Ray prints what every role does and ends; 0: never."""
    max_restarts: int = 5
    """Times in a row that one role may die without any progress of the run in between, before the run ends."""
    record_decisions: bool = False
    """Keep in log and checkpoints, for `m3pc explain`, what every decision depended on."""
    threads: int = 0
    """CPU threads of the learner; 0: half the cores, at most 8. With --serial of everything; 0: all cores."""

    def promised_updates(self) -> dict[str, int]:
        """Updates of each kind that belong to all steps of the run."""
        ratios = {"btm": self.btm_updates_per_step, "critic": self.critic_updates_per_step}
        return {kind: round(ratio * self.steps) for kind, ratio in ratios.items()}


@dataclass(frozen=True)
class LoggingConfig:
    tensorboard: bool = True
    """Write TensorBoard event files into the run folder."""
    wandb: Literal["off", "offline", "online"] = "off"
    """Weights & Biases: off, offline (no account needed) or online."""
    wandb_project: str = "m3pc"
    """Project name there."""


@dataclass(frozen=True)
class RunConfig:
    seed: int = 0
    """Seed of everything random in the run."""
    device: str = "auto"
    """torch device: auto (cuda when there is one), cpu, cuda or cuda:N."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    backward: BackwardConfig = field(default_factory=BackwardConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
