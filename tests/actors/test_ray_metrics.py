"""The same numbers as Ray gauges: names, tags, and what Prometheus is given."""

import math
import time
import urllib.request

import pytest
import ray

from actors.ray_metrics import RayMetrics, gauge_name, gauge_values
from tests.online.watching.live_factory import role, status

ROLES = [
    role("planner-0", "planner", restarts=2, values={"queue": 3.0}),
    role("learner", "learner", state="restarting"),
]


def test_every_number_has_a_gauge():
    values = {(name, who): value for name, who, value in gauge_values(status(roles=ROLES, metrics={"btm/loss": 0.5}))}
    assert values == {
        ("m3pc_btm_loss", "run"): 0.5,
        ("m3pc_steps", "run"): 120.0,
        ("m3pc_total_steps", "run"): 1000.0,
        ("m3pc_seconds", "run"): 12.5,
        ("m3pc_updates_btm", "run"): 24.0,
        ("m3pc_updates_critic", "run"): 240.0,
        ("m3pc_promised_updates_btm", "run"): 200.0,
        ("m3pc_promised_updates_critic", "run"): 2000.0,
        ("m3pc_queue", "planner-0"): 3.0,
        ("m3pc_running", "planner-0"): 1.0,
        ("m3pc_restarts", "planner-0"): 2.0,
        ("m3pc_memory_bytes", "planner-0"): float(1 << 28),
        ("m3pc_running", "learner"): 0.0,
        ("m3pc_restarts", "learner"): 0.0,
        ("m3pc_memory_bytes", "learner"): float(1 << 28),
    }


def test_names_are_what_prometheus_allows():
    assert gauge_name("critic/q-mean (1)") == "m3pc_critic_q_mean__1_"
    assert gauge_name("longueur_é") == "m3pc_longueur__"


def test_gauges_take_the_values(cluster, monkeypatch):
    """What each gauge hands to Ray, with its tags; what is not finite is left out."""
    recorded = []
    metrics = RayMetrics("hopper")
    metrics.set(status(roles=ROLES, metrics={"first": 1.0}))  # makes the gauges
    for name, gauge in metrics._gauges.items():
        assert not gauge._discard_metric
        monkeypatch.setattr(gauge, "set", lambda value, tags, name=name: recorded.append((name, tags["role"], value)))
    metrics.set(status(roles=ROLES, metrics={"first": math.nan}, steps=130))
    assert ("m3pc_steps", "run", 130.0) in recorded
    assert ("m3pc_queue", "planner-0", 3.0) in recorded
    assert not [entry for entry in recorded if entry[0] == "m3pc_first"]


@pytest.mark.slow
def test_prometheus_sees_them(cluster):
    """On the port that Ray gives its metrics, within the seconds Ray takes to report."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    if node["MetricsExportPort"] <= 0:
        pytest.skip("Ray exports metrics only with its extra `default`: pip install 'ray[default]'")
    metrics = RayMetrics("seen-by-prometheus")
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    ends, lines = time.monotonic() + 60.0, []
    while time.monotonic() < ends and not lines:
        metrics.set(status(roles=ROLES))
        time.sleep(1.0)
        text = urllib.request.urlopen(address, timeout=10).read().decode()
        lines = [
            line for line in text.splitlines() if "seen-by-prometheus" in line and line.startswith("ray_m3pc_queue")
        ]
    assert lines
    assert 'role="planner-0"' in lines[0]
    assert float(lines[0].split()[-1]) == 3.0
