"""What is installed: three import packages, the configurations, and versions that the constraints pin."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    entries = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(separator for _, separator, _ in entries)
    return {canonical(name): version for name, _, version in entries}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned():
    requirements = PROJECT["dependencies"] + [
        requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra
    ]
    names = {canonical(re.match(r"[A-Za-z0-9_.-]+", requirement).group()) for requirement in requirements}
    assert names - {"m3pc-ray"} <= set(pins())


def test_pins_fit_every_platform():
    local = {name: version for name, version in pins().items() if "+" in version}
    assert local == {}  # torch's +cpu builds exist on one index only


def test_pins_are_what_is_installed():
    different = {}
    for name, version in pins().items():
        try:
            installed = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue  # another platform's, or an extra that is not installed
        if installed != version:
            different[name] = (installed, version)
    assert different == {}


def test_the_distribution_and_its_command():
    assert metadata.metadata("m3pc-ray")["Requires-Python"] == ">=3.11"
    (script,) = [point for point in metadata.entry_points(group="console_scripts") if point.name == "m3pc"]
    assert script.value == "m3pc_ray.cli:main"


@pytest.mark.slow
def test_the_wheel_carries_packages_configurations_and_data(tmp_path):
    import subprocess
    import sys
    import zipfile

    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("m3pc_ray-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("m3pc_ray", "actors", "tune"):
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert modules <= names
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert f"m3pc_ray/configs/{path.relative_to(ROOT / 'configs')}" in names
    for path in (ROOT / "benchmarks").rglob("*.py"):
        assert f"m3pc_ray/benchmarks/{path.relative_to(ROOT / 'benchmarks')}" in names
    data = {str(path.relative_to(ROOT)) for path in (ROOT / "m3pc_ray" / "data").rglob("*") if path.is_file()}
    assert data <= names
    report = (path for path in (ROOT / "m3pc_ray/report").rglob("*") if path.is_file() and path.suffix != ".pyc")
    page_parts = {str(path.relative_to(ROOT)) for path in report}
    assert {"m3pc_ray/report/page/assets/uPlot.LICENSE", "m3pc_ray/report/plans/plans.js"} <= page_parts <= names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"m3pc_ray", "actors", "tune"}
