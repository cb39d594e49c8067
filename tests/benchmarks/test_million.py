"""`m3pc bench million`: an interrupted and resumed run in one process, and what is concluded from samples."""

import json
from types import SimpleNamespace

import pytest

from m3pc_ray.benchmarks import million
from m3pc_ray.benchmarks.watched_run import WatchedRun
from m3pc_ray.cli import main
from m3pc_ray.errors import UserError


def sample(time: float, steps: int, learner: float = 100.0) -> dict:
    memory = {"driver": 50.0, "learner": learner}
    return {
        "time": time,
        "seconds": time,
        "steps": steps,
        "memory_mb": memory,
        "log_bytes": 40 * steps,
        "checkpoint_seconds": 0.0,
    }


def test_rates_at_the_start_and_at_the_end():
    # 100 steps/s for half of the steps, then 50.
    samples = [sample(t, 100 * t) for t in range(0, 51)] + [sample(50 + t, 5000 + 50 * t) for t in range(1, 101)]
    assert million._rate(samples, 0.0, 0.1) == pytest.approx(100.0)
    assert million._rate(samples, 0.9, 1.0) == pytest.approx(50.0)


def test_growth_of_memory_counts_from_when_it_has_settled():
    flat = [sample(60.0 * minute, minute, 100.0 if minute >= 10 else 10.0 * minute) for minute in range(60)]
    assert million._memory(flat, 0.25)["learner"]["per_hour"] == pytest.approx(0.0, abs=1e-6)
    leaking = [sample(60.0 * minute, minute, 100.0 + minute) for minute in range(60)]
    found = million._memory(leaking, 0.25)["learner"]
    assert found["per_hour"] == pytest.approx(60.0)
    assert (found["start"], found["end"], found["most"]) == (115.0, 159.0, 159.0)


@pytest.mark.slow
def test_a_small_run_in_one_process(tmp_path, capsys):
    command = ["bench", "million", "--serial", "--steps", "60000", "--workers", "1", "--environments", "256"]
    assert main([*command, "--json", str(tmp_path / "m.json"), "--figure", str(tmp_path / "m.png")]) == 0
    rows = json.loads((tmp_path / "m.json").read_text())["rows"]
    result = rows[-1]
    assert (result["steps"], result["updates"]) == (60_000, {"btm": 60, "critic": 300})
    assert 36_000 <= result["resumed_at"] < 60_000
    assert result["resume_seconds"] > 0
    assert result["log_bytes"] > 60_000 * 4 * 5  # observation of three, action, reward
    assert result["start_steps_per_second"] > 0
    assert result["memory"]["driver"]["end"] > 50
    assert (tmp_path / "m.png").stat().st_size > 10_000
    assert "to the first new step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "10"], "--steps: too few"),
        (["--environments", "0"], "--environments: too few"),
        (["--soak", "0"], "--soak must be above 0 minutes"),
    ],
)
def test_mistakes_end_in_one_line(words, message, capsys):
    assert main(["bench", "million", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_driver_that_fails_is_told_with_its_last_words(tmp_path):
    options = SimpleNamespace(workers=1, environments=2, serial=True)
    run = million.make_run(tmp_path, 1000, options, 1000)
    (run.path / "config.yaml").write_text("online: {steps: many}\n")
    driver = WatchedRun(run, tmp_path / "log")
    try:
        with pytest.raises(UserError, match="the run failed: .*online.steps"):
            driver.wait_for(lambda status: True, 120.0)
    finally:
        driver.kill()
