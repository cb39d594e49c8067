"""Package list. Everything else is in pyproject.toml, which cannot say that `configs/` and `benchmarks/` are installed
inside m3pc_ray."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["m3pc_ray", "m3pc_ray.*", "actors", "actors.*", "tune", "tune.*"]),
        "m3pc_ray.configs",
        "m3pc_ray.benchmarks",
        "m3pc_ray.benchmarks.plain",
    ],
    package_dir={"m3pc_ray.configs": "configs", "m3pc_ray.benchmarks": "benchmarks"},
)
