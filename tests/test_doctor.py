"""The command: a table, rows as JSON, and an exit code that tells whether something fails."""

import json

import pytest

from m3pc_ray.cli import main
from m3pc_ray.diagnosis import simulator
from tests.online.factory import make_pretrained_run


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """Drawing takes seconds and has tests of its own."""
    monkeypatch.setattr(simulator, "_draw", lambda *_: ("1 x 1", ""))


def rows(path) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


def test_a_sound_installation_passes(tmp_path, capsys):
    assert main(["doctor", "--no-ray", "--working-dir", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 0
    found = rows(tmp_path / "out.json")
    assert {name: row["status"] for name, row in found.items()} == {
        "python": "ok",
        "packages": "ok",
        "torch": "ok",
        "gpu": "ok",
        "ray": "not checked",
        "data bundled/hopper": "ok",
        "drift bundled/hopper": "ok",
        "simulator Hopper-v4": "ok",
        "rendering Hopper-v4": "ok",
        "upload": "ok",
        "cores": "ok",
        "memory": "ok",
        "object store": "ok",
    }
    output = capsys.readouterr().out
    assert all(name in output for name in ("python", "upload", "object store"))


def test_a_wrong_environment_fails_the_command(tmp_path):
    out = tmp_path / "out.json"
    words = [
        "doctor",
        "--no-ray",
        "--data.environment",
        "Hopper-v5",
        "--working-dir",
        str(tmp_path),
        "--json",
        str(out),
    ]
    assert main(words) == 1
    drift = [row for row in json.loads(out.read_text())["rows"] if row["name"].startswith("drift")]
    assert [row["status"] for row in drift] == ["failure"]


def test_settings_that_do_not_fit_fail_the_command(tmp_path):
    out = tmp_path / "out.json"
    words = ["doctor", "--no-ray", "--working-dir", str(tmp_path), "--json", str(out)]
    assert main([*words, "--online.replay_capacity", "100000000000", "--online.steps", "100000000000"]) == 1
    assert rows(out)["memory"]["status"] == "failure"


def test_a_missing_data_set_is_a_row_and_the_other_checks_go_on(tmp_path):
    out = tmp_path / "out.json"
    missing = str(tmp_path / "none.hdf5")
    assert main(["doctor", "--no-ray", "--dataset", missing, "--working-dir", str(tmp_path), "--json", str(out)]) == 1
    found = rows(out)
    assert found[f"data {missing}"]["status"] == "failure"
    assert found["resources"]["status"] == "not checked"
    assert found["data bundled/hopper"]["status"] == "ok"


def test_a_run_is_checked_and_not_touched(tmp_path):
    run = make_pretrained_run(tmp_path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    out = tmp_path / "out.json"
    words = ["doctor", "--no-ray", "--run", str(run.path), "--working-dir", str(run.path), "--json", str(out)]
    assert main(words) == 0
    found = rows(out)
    assert found["checkpoint pretrained"]["status"] == "ok"
    assert found["versions pretrained"]["status"] == "ok"
    assert found["drift random-pendulum"]["status"] == "ok"
    assert found["simulator InvertedPendulum-v4"]["status"] == "ok"
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    run.config_path.unlink()
    assert main(words) == 1
    assert "config.yaml: missing" in rows(out)["configuration"]["found"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "nowhere"], "nowhere: no such run folder"),
        (["--config", "nothing.yaml"], "nothing.yaml: no such configuration file"),
        (["--online.stepz", "3"], "did you mean --online.steps?"),
    ],
)
def test_a_mistake_of_the_user_is_one_line(words, message, capsys):
    assert main(["doctor", "--no-ray", *words]) == 2
    assert message in capsys.readouterr().err
