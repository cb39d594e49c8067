"""Who can reach a local cluster."""

import pytest

from actors import cluster as cluster_module
from m3pc_ray.diagnosis.sockets import descendants, listening
from m3pc_ray.errors import UserError


def test_a_local_cluster_listens_on_loopback_only(cluster):
    sockets = listening(descendants())
    assert any("raylet" in socket.process for socket in sockets)
    assert [socket for socket in sockets if not socket.is_loopback] == []
    assert cluster.startswith("127.0.0.1:")


def test_a_cluster_that_is_not_on_loopback_only_is_told_apart(cluster, monkeypatch):
    assert cluster_module._only_on_loopback(cluster)
    assert not cluster_module._only_on_loopback("192.0.2.7:6379")
    monkeypatch.setattr(cluster_module.services, "node_ip_address_from_perspective", lambda _: "127.0.0.1")
    assert not cluster_module._only_on_loopback(cluster)  # somebody answers on the outward address too


def test_a_missing_token_is_one_clear_line(cluster, monkeypatch, tmp_path):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="asks for its token: set RAY_AUTH_MODE=token"):
        cluster_module.join(cluster)
