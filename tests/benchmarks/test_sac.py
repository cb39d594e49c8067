"""The minimal loop that SAC is compared with computes the same targets."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from m3pc_ray.benchmarks.plain.sac import PlainSAC
from m3pc_ray.sac.settings import SacSettings
from m3pc_ray.sac.trainer import SacTrainer


@pytest.mark.parametrize("layer_norm", [True, False])
def test_the_plain_loop_has_the_same_targets(layer_norm):
    rng = np.random.default_rng(0)
    sizes = {"observations": 11, "actions": 3, "next_observations": 11}
    data = {name: rng.normal(size=(64, size)).astype(np.float32) for name, size in sizes.items()}
    data["rewards"] = rng.normal(size=64).astype(np.float32)
    data["terminated"] = rng.integers(0, 2, size=64).astype(np.float32)
    settings = SacSettings.rlpd(critics=3, hidden_width=16, layer_norm=layer_norm, buffer_size=100)
    model = SacTrainer("Hopper-v4", 0, settings).model
    plain = PlainSAC(data, 3, 2, layer_norm, hidden_width=16, batch_size=32)
    with torch.no_grad():
        for network, theirs in zip(plain.targets, model.critic_target.q_networks, strict=True):
            network.load_state_dict(theirs.state_dict())
        last = plain.actor[-1]
        for layer, own in zip((0, 2), (0, 2), strict=True):
            plain.actor[layer].load_state_dict(model.actor.latent_pi[own].state_dict())
        last.weight.copy_(torch.cat([model.actor.mu.weight, model.actor.log_std.weight]))
        last.bias.copy_(torch.cat([model.actor.mu.bias, model.actor.log_std.bias]))
    batch = plain.sample()
    drawn = ReplayBufferSamples(
        batch["observations"],
        batch["actions"],
        batch["next_observations"],
        batch["terminated"][:, None],
        batch["rewards"][:, None],
    )
    torch.manual_seed(1)
    expected = model.critic_goal(drawn, [2, 0])
    torch.manual_seed(1)
    torch.testing.assert_close(plain.goal(batch, [2, 0]), expected, rtol=1e-3, atol=1e-3)
    before = [parameter.clone() for parameter in plain.critics.parameters()]
    plain.update_actor(plain.update_critics(), mean_of_critics=True)
    assert all(not torch.equal(one, other) for one, other in zip(before, plain.critics.parameters(), strict=True))
