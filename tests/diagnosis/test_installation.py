from importlib.metadata import PackageNotFoundError

import pytest
import torch

from m3pc_ray.diagnosis.installation import (
    check_installation,
    check_packages,
    check_python,
    read_constraints,
    satisfies,
)

REQUIREMENTS = ["torch>=2.9", "gymnasium[mujoco]<1.3,>=1.1", 'wandb>=0.17; extra == "wandb"']


def installed(**versions: str):
    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    return version


@pytest.mark.parametrize(
    ("version", "bounds", "expected"),
    [
        ("2.13.0+cpu", ">=2.9", True),
        ("2.8", ">=2.9", False),
        ("1.3", "<1.3,>=1.1", False),
        ("1.2.2", "<1.3,>=1.1", True),
        ("3.11.7", ">=3.11", True),
        ("3.10.14", ">=3.11", False),
        ("2.0", "==2.0.0", True),
        ("2.0.1", "!=2.0.1", False),
        ("1.0", "", True),
    ],
)
def test_bounds(version, bounds, expected):
    assert satisfies(version, bounds) is expected


def test_a_bound_that_is_not_understood_is_said():
    with pytest.raises(ValueError, match="'~=1.2' is not understood"):
        satisfies("1.2", "~=1.2")


def test_this_installation_passes():
    assert {row.name: row.status for row in check_installation()} == {"python": "ok", "packages": "ok", "torch": "ok"}


def test_an_old_python_fails():
    row = check_python("3.10.2", ">=3.11")
    assert row.status == "failure"
    assert "Python 3.10.2" in row.found
    assert ">=3.11" in row.advice


def test_packages_as_tested_pass_and_extras_do_not_count():
    row = check_packages(REQUIREMENTS, {"torch": "2.13.0"}, installed(torch="2.13.0+cpu", gymnasium="1.2.2"))
    assert (row.status, row.found) == ("ok", "2 required packages as in constraints.txt")


def test_a_version_that_was_not_tested_is_a_warning():
    row = check_packages(REQUIREMENTS, {"torch": "2.12.0"}, installed(torch="2.13.0", gymnasium="1.2.2"))
    assert (row.status, row.found) == ("warning", "torch 2.13.0 (tested with 2.12.0)")


def test_a_missing_package_and_one_out_of_bounds_fail():
    row = check_packages(REQUIREMENTS, {}, installed(gymnasium="1.4.0"))
    assert row.status == "failure"
    assert "torch is missing (needs >=2.9)" in row.found
    assert "gymnasium 1.4.0 (needs <1.3,>=1.1)" in row.found


def test_more_threads_than_cores_is_a_warning(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    (row,) = [row for row in check_installation() if row.name == "torch"]
    assert row.status == "warning"
    assert "OMP_NUM_THREADS" in row.advice


def test_constraints_are_read_with_canonical_names(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# pinned\ntypes-PyYAML==6.0.12  # types\n\nray==2.60.0\n")
    assert read_constraints(file) == {"types-pyyaml": "6.0.12", "ray": "2.60.0"}
    assert read_constraints(tmp_path / "none.txt") == {}
