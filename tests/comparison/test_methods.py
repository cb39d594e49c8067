"""M³PC and TD3+BC as methods: what they record, and that an interruption changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m3pc_ray.agent import Agent
from m3pc_ray.comparison.exported_policy import ExportedPolicy
from m3pc_ray.comparison.method import OFFLINE, Assignment
from m3pc_ray.comparison.methods import m3pc, td3_bc
from m3pc_ray.errors import UserError
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.trajectories.store import write_store
from tests.tiny_run import random_hopper_episodes

SMALL = {
    "model.width": 16,
    "model.heads": 2,
    "pretrain.batch_size": 8,
    "pretrain.precision": "float32",
    "pretrain.warmup_steps": 1,
    "critic.hidden_width": 16,
    "critic.batch_size": 8,
    "planner.num_candidates": 4,
    "planner.precision": "float32",
    "online.num_candidates": 4,
    "online.start_steps": 20,
    "online.btm_batch_size": 8,
    "online.rollout_workers": 1,
    "online.environments_per_worker": 2,
    "online.rate_tolerance_steps": 40,
    "logging.tensorboard": False,
}


@pytest.fixture
def assigned(tmp_path):
    def make(folder, points=(), **budget):
        data = random_hopper_episodes()
        if not (tmp_path / "data").exists():
            write_store(data, tmp_path / "data")
        (tmp_path / folder).mkdir(exist_ok=True)
        return Assignment("random", str(tmp_path / "data"), data, 3, tmp_path / folder, budget, points, 1, SMALL)

    return make


def nothing(_phase, _done, _total):
    pass


class Recorder:
    """Keeps what a method records; interrupts once at `break_at`, a (point, row)."""

    def __init__(self, break_at=None):
        self.calls, self.break_at, self.policies = [], break_at, []

    def __call__(self, point, updates, policy, row="", environment_steps=None):
        if (point, row) == self.break_at:
            self.break_at = None
            raise KeyboardInterrupt
        self.calls.append((point, row, updates, environment_steps))
        self.policies.append(policy)
        return {"score_mean": 1.0, "return_mean": 10.0}


def test_td3_bc_goes_on_bit_for_bit(assigned, monkeypatch):
    monkeypatch.setattr(td3_bc, "LOOK_UPDATES", 10)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    whole, cut = Recorder(), Recorder()
    td3_bc.train(assigned("whole", updates=40), whole, nothing)
    assert [call[:3] for call in whole.calls] == [(OFFLINE, "", 40)]

    def stop_at_20(_phase, done, _total):
        if done == 20:
            stops[-1].requested = True

    stops = []
    entered = StopRequest.__enter__
    monkeypatch.setattr(StopRequest, "__enter__", lambda self: stops.append(self) or entered(self))
    with pytest.raises(KeyboardInterrupt):
        td3_bc.train(assigned("cut", updates=40), cut, stop_at_20)
    assert cut.calls == []
    td3_bc.train(assigned("cut", updates=40), cut, nothing)
    observations = np.random.default_rng().normal(size=(50, 11)).astype(np.float32)
    actions = whole.policies[0](observations)
    assert actions.std() > 0
    np.testing.assert_array_equal(actions, cut.policies[0](observations))


def test_m3pc_records_every_planner_and_goes_on_after_an_interruption(assigned):
    given = assigned("m3pc", points=(40, 80), btm=3, critic=4)
    recorder = Recorder(break_at=(40, "m3pc-q"))
    with pytest.raises(KeyboardInterrupt):
        m3pc.train(given, recorder, nothing)
    assert [(call[0], call[1]) for call in recorder.calls] == [(0, "btm"), (0, "m3pc-m"), (0, "m3pc-q"), (40, "btm")]
    assert {call[2] for call in recorder.calls[:3]} == {7}
    assert all(isinstance(policy, Agent) for policy in recorder.policies)
    del recorder.calls[:]
    m3pc.train(given, recorder, nothing)
    # It offers again what it had recorded before, then what was missing, and the rest.
    assert [(call[0], call[1]) for call in recorder.calls] == [
        *((0, row) for row in ("btm", "m3pc-m", "m3pc-q")),
        *((40, row) for row in ("btm", "m3pc-q")),
        *((80, row) for row in ("btm", "m3pc-q")),
    ]
    assert recorder.calls[-1][3] == 80
    assert 40 <= recorder.calls[3][3] < 80
    # 60 of the 80 steps came after start_steps; 0.2 and 2 updates belong to each of all 80
    assert recorder.calls[-1][2] == 7 + 16 + 160


def test_an_exported_policy_is_the_perceptron_it_was_made_of(tmp_path):
    generator = torch.Generator().manual_seed(int(np.random.default_rng().integers(1 << 30)))
    sizes = [(6, 4), (5, 6), (2, 5)]
    layers = [(torch.randn(size, generator=generator), torch.randn(size[0], generator=generator)) for size in sizes]
    observations = torch.randn(20, 4, generator=generator)
    hidden = torch.relu(torch.relu(observations @ layers[0][0].T + layers[0][1]) @ layers[1][0].T + layers[1][1])
    means = hidden @ layers[2][0].T + layers[2][1]
    for output, expected in (("tanh", means.tanh()), ("clip", means.clamp(-1, 1))):
        path = tmp_path / f"{output}.safetensors"
        ExportedPolicy(layers, "relu", output, 12).save(path)
        policy = ExportedPolicy.load(path)
        assert policy.updates == 12
        np.testing.assert_allclose(policy(observations.numpy()), expected.numpy(), atol=1e-6)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(UserError, match=r"clip.safetensors: damaged"):
        ExportedPolicy.load(path)
