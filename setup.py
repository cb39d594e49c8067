"""Package list. Everything else is in pyproject.toml, which cannot say that `configs/` is installed inside m3pc_ray."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["m3pc_ray", "m3pc_ray.*", "actors", "actors.*", "tune", "tune.*"]),
        "m3pc_ray.configs",
    ],
    package_dir={"m3pc_ray.configs": "configs"},
)
