"""A live status with everything in it, for the tests of what watches a run."""

from m3pc_ray.online.watching.live import LiveStatus, RoleStatus


def role(name: str, kind: str, **changes: object) -> RoleStatus:
    values = {"actor_id": "ab12", "pid": 77, "host": "here", "state": "running", "restarts": 0, "memory_bytes": 1 << 28}
    return RoleStatus(name=name, kind=kind, **{**values, **changes})  # type: ignore[arg-type]


def status(**changes: object) -> LiveStatus:
    values = {
        "time": 1700000000.25,
        "pid": 5,
        "host": "here",
        "ray_address": "127.0.0.1:6379",
        "state": "running",
        "notice": "running",
        "steps": 120,
        "total_steps": 1000,
        "updates": {"btm": 24, "critic": 240},
        "promised_updates": {"btm": 200, "critic": 2000},
        "seconds": 12.5,
        "roles": [
            role("planner-0", "planner", values={"batch_1": 3.0}),
            role("learner", "learner", state="restarting"),
        ],
        "metrics": {"steps_per_second": 9.75},
    }
    return LiveStatus(**{**values, **changes})  # type: ignore[arg-type]
