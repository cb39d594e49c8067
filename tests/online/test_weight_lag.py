"""How often weights are published, and that a cap on their lag makes it often enough."""

import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.online.learner import MOST_UPDATES_AT_ONCE
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.roles import make_learner


@pytest.mark.parametrize(("cap", "expected"), [(0, 6), (100, 6), (4, 3), (2, 1)])
def test_weights_are_published_before_the_next_updates_could_pass_the_cap(pretrained, tmp_path, cap, expected):
    config = finetune_config(pretrained, {"online.publish_every": "6", "online.max_weight_lag": str(cap)})
    learner = make_learner(prepare(pretrained, tmp_path / "run", config))
    assert learner.publication_due  # nobody has any yet
    learner.publish()
    behind = 0
    while not learner.publication_due:
        learner.updates["btm"] += 1
        behind += 1
    assert behind == expected
    if cap:
        # Updates come in twos, so that one more may be done before the learner looks.
        assert behind + MOST_UPDATES_AT_ONCE - 1 <= cap


def test_a_cap_of_one_update_cannot_be_kept(pretrained):
    with pytest.raises(UserError, match="online.max_weight_lag: must be 0"):
        finetune_config(pretrained, {"online.max_weight_lag": "1"})
