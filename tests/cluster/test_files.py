"""The files of configs/cluster, as far as they can be checked without a cloud: by Ray's own schemas and our lists."""

import copy
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

from actors.upload import uploaded_files
from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import load_config
from m3pc_ray.diagnosis.resources import Machine, place
from m3pc_ray.online.exploration import lease_size
from m3pc_ray.online.resources import divide_resources
from tests.cluster.kubernetes_fields import RAY_JOB, VOLUME_CLAIM, mistakes

ROOT = Path(__file__).parents[2]
FILES = ROOT / "configs" / "cluster"
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
)
GIBIBYTE = 2.0**30


def launcher(name: str) -> dict:
    return yaml.safe_load((FILES / f"{name}.yaml").read_text(encoding="utf-8"))


def manifests() -> list[dict]:
    return list(yaml.safe_load_all((FILES / "rayjob.yaml").read_text(encoding="utf-8")))


# --- cluster launcher -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aws", "local"])
def test_launcher_files_pass_rays_own_checks(name):
    validate_config(prepare_config(launcher(name)))


@pytest.mark.parametrize("name", ["aws", "local"])
def test_a_misspelt_field_of_a_launcher_file_would_be_found(name):
    config = launcher(name)
    config["setup_comands"] = config.pop("setup_commands")
    with pytest.raises(Exception, match="setup_comands"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", ["aws", "local"])
def test_every_node_has_the_token_and_asks_for_it(name):
    config = launcher(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for role in ("head", "worker"):
        (start,) = [command for command in config[f"{role}_start_ray_commands"] if "ray start" in command]
        assert start.index("RAY_AUTH_MODE=token") < start.index("ray start")
    assert any("RAY_AUTH_MODE=token" in command and ".bashrc" in command for command in config["setup_commands"])


@pytest.mark.parametrize("name", ["aws", "local"])
def test_every_node_gets_this_package_with_the_pinned_versions(name):
    config = launcher(name)
    assert config["file_mounts"]["~/m3pc"] == "."
    (install,) = [command for command in config["setup_commands"] if "pip install" in command]
    assert "-c ~/m3pc/constraints.txt" in install
    assert install.endswith('"$HOME/m3pc[cluster]"')


def test_rays_images_have_the_version_that_the_constraints_pin():
    config = launcher("aws")
    images = [config["docker"]["image"], config["available_node_types"]["simulators"]["docker"]["worker_image"]]
    images.append(re.search(r"^FROM (\S+)$", (FILES / "Dockerfile").read_text(encoding="utf-8"), re.M).group(1))
    python = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    tag = "py" + python.removeprefix(">=").replace(".", "")
    assert {image.removesuffix("-gpu") for image in images} == {f"rayproject/ray:{PINS['ray']}-{tag}"}


def test_the_submit_script_is_one_file_that_needs_the_package_alone():
    source = (FILES / "submit.py").read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:from|import) ([\w.]+)", source, re.M)) == {"os", "sys", "m3pc_ray.cli"}


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def test_the_manifest_has_known_fields_only():
    claim, job = manifests()
    assert mistakes(claim, VOLUME_CLAIM) == []
    assert mistakes(job, RAY_JOB) == []


def test_mistakes_in_a_manifest_would_be_found():
    _, good = manifests()
    job = copy.deepcopy(good)
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    group["replica"] = group.pop("replicas")
    group["minReplicas"] = "4"
    del job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    job["spec"]["rayClusterSpec"]["authOptions"]["mode"] = "on"
    group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = "16 GB"
    found = "\n".join(mistakes(job, RAY_JOB))
    assert found.count("\n") == 4
    assert "workerGroupSpecs[0].replica: no such field" in found
    assert "headGroupSpec.template: is missing" in found
    for place_ in ("minReplicas", "authOptions.mode", "limits.memory"):
        assert f"{place_}: " in found


def pods(job: dict) -> list[dict]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"]["template"]["spec"], *[g["template"]["spec"] for g in cluster["workerGroupSpecs"]]]


def test_every_pod_mounts_the_storage_where_the_run_is():
    claim, job = manifests()
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    paths = [word for word in job["spec"]["entrypoint"].split() if word.startswith("/")]
    assert len(paths) == 2
    for pod in pods(job):
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert set(mounts) == set(volumes)
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert all(path.startswith(mounts["runs"] + "/") for path in paths)
        assert container["resources"]["requests"] == container["resources"]["limits"]  # Ray counts the limits


def test_versions_of_the_manifest_are_those_of_the_constraints():
    _, job = manifests()
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == PINS["ray"]
    assert len({pod["containers"][0]["image"] for pod in pods(job)}) == 1


# --- 64 rollout workers -----------------------------------------------------------------------------------------------


def workers_64() -> RunConfig:
    config = load_config("online/workers_64")
    assert (config.online.rollout_workers, config.online.steps) == (64, 1_000_000)
    return config


def aws_machine() -> Machine:
    """The cluster of aws.yaml as Ray will see it: cores and GPUs of the instance types named there."""
    instances = {"g5.2xlarge": (8.0, 1.0, 32.0), "c6i.4xlarge": (16.0, 0.0, 32.0)}
    config = launcher("aws")
    nodes = []
    for name, kind in config["available_node_types"].items():
        count = 1 if name == config["head_node_type"] else kind["min_workers"]
        nodes += [instances[kind["node_config"]["InstanceType"]]] * count
    cores, gpus, gibibytes = (tuple(column) for column in zip(*nodes, strict=True))
    return Machine(cores, gpus, tuple(g * GIBIBYTE for g in gibibytes), (GIBIBYTE,) * len(nodes), "aws", False)


def kubernetes_machine() -> Machine:
    _, job = manifests()
    counts = [1, *[group["replicas"] for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]]
    limits = [
        pod["containers"][0]["resources"]["limits"]
        for pod, count in zip(pods(job), counts, strict=True)
        for _ in range(count)
    ]
    cores = tuple(float(limit["cpu"]) for limit in limits)
    gpus = tuple(float(limit.get("nvidia.com/gpu", 0)) for limit in limits)
    memory = tuple(float(limit["memory"].removesuffix("Gi")) * GIBIBYTE for limit in limits)
    return Machine(cores, gpus, memory, (GIBIBYTE,) * len(limits), "kubernetes", False)


@pytest.mark.parametrize("machine", [aws_machine(), kubernetes_machine()], ids=lambda machine: machine.name)
def test_64_workers_fit_the_clusters_of_the_files_with_the_models_on_the_gpu(machine):
    online = workers_64().online
    gpu_nodes = [cores for cores, gpus in zip(machine.cores, machine.gpus, strict=True) if gpus]
    shares = divide_resources(sum(machine.cores), max(machine.cores), int(sum(machine.gpus)), online, gpu_nodes)
    assert shares.cores_wished <= sum(machine.cores)
    placed = place(shares, online.rollout_workers, machine)
    assert placed is not None
    assert {"planner", "learner", "evaluator"} <= set(placed[0])
    assert all(set(roles) <= {"rollout_worker", "replay"} for roles in placed[1:])


def test_leases_of_64_workers_give_every_environment_several_steps():
    config = workers_64()
    assert lease_size(config) == 12 * config.online.environments_per_worker


# --- the upload of a job ----------------------------------------------------------------------------------------------


def runtime_environment(name: str) -> dict:
    return yaml.safe_load((FILES / f"{name}.yaml").read_text(encoding="utf-8"))


def test_the_runtime_environments_are_ones_that_ray_takes():
    fields = runtime_environment("runtime_env")
    runtime_env = RuntimeEnv(**fields)
    for line in runtime_env["pip"]["packages"]:
        _, _, name = line.partition("${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}")
        assert (ROOT / name.lstrip("/")).exists()
    with pytest.raises(TypeError):
        RuntimeEnv(**{**fields, "pip": 3})
    RuntimeEnv(**runtime_environment("runtime_env_installed"))


def test_a_job_ends_in_order_however_it_was_submitted():
    _, job = manifests()
    environments = [runtime_environment("runtime_env"), runtime_environment("runtime_env_installed")]
    environments.append(yaml.safe_load(job["spec"]["runtimeEnvYAML"]))
    ends = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "90"}  # an orderly stop takes 60 s at most
    assert [environment["env_vars"] for environment in environments] == [ends] * 3


def test_data_and_runs_stay_out_of_the_upload_and_the_package_does_not(tmp_path):
    for name in (".gitignore", ".rayignore"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    kept = ["pyproject.toml", "constraints.txt", "m3pc_ray/data/hopper/part.parquet", "configs/online/workers_64.yaml"]
    left = ["data/a.parquet", "runs/hopper/config.yaml", "sweeps/lambda/sweep.yaml", ".venv/lib/torch.so", "x.hdf5"]
    for name in kept + left:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0")
    names = {str(path.relative_to(tmp_path)) for path in uploaded_files(tmp_path)}
    assert names == {*kept, ".gitignore", ".rayignore"}


def test_this_folder_is_a_small_upload_with_all_that_the_package_is_made_of():
    files = {str(path.relative_to(ROOT)): size for path, size in uploaded_files(ROOT).items()}
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "constraints.txt"} <= set(files)
    for folder in ("m3pc_ray", "actors", "tune", "configs", "benchmarks"):
        tracked = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")}
        assert {name for name in tracked if "m3pc_ray/benchmarks/" not in name} <= set(files)
    assert not {name for name in files if name.startswith((".venv/", ".git/", "runs/", "data/"))}
