"""What a local cluster is reachable from, and how a process joins one."""

from m3pc_ray.diagnosis.sockets import descendants, listening


def test_a_local_cluster_listens_on_loopback_only(cluster):
    sockets = listening(descendants())
    assert any("raylet" in socket.process for socket in sockets)
    assert {socket.address for socket in sockets} <= {"127.0.0.1", "::1"}
