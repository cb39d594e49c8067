"""Names and types of the fields of Kubernetes and KubeRay that our manifests may use, and a check against them.

Written after the types of KubeRay's custom resources (`ray.io/v1`, 1.5.1) and of Kubernetes' pods and volume claims:
what a run may need of them. A field that is not listed counts as a mistake, as one that they do not know does for the
API server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Text:
    """A string; one of `choices` or as `pattern` says, where given."""

    choices: tuple[str, ...] = ()
    pattern: str = ""


@dataclass(frozen=True)
class Whole:
    """An integer of at least `least`."""

    least: int = 0


@dataclass(frozen=True)
class Truth:
    """true or false."""


@dataclass(frozen=True)
class Quantity:
    """An amount such as 2, "500m" or 16Gi."""


@dataclass(frozen=True)
class ListOf:
    of: Any


@dataclass(frozen=True)
class MapOf:
    """Any keys."""

    of: Any


@dataclass(frozen=True)
class Fields:
    known: dict[str, Any]
    required: tuple[str, ...] = field(default=())


NAME = Text(pattern=r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]i?)?")
METADATA = Fields({"name": NAME, "namespace": NAME, "labels": MapOf(Text()), "annotations": MapOf(Text())}, ("name",))
RESOURCES = Fields({"requests": MapOf(Quantity()), "limits": MapOf(Quantity())})

ENVIRONMENT = Fields(
    {"name": Text(), "value": Text(), "valueFrom": Fields({"secretKeyRef": Fields({"name": NAME, "key": Text()})})},
    ("name",),
)
CONTAINER = Fields(
    {
        "name": NAME,
        "image": Text(pattern=r"[a-z0-9.:/_-]+"),
        "imagePullPolicy": Text(("Always", "IfNotPresent", "Never")),
        "command": ListOf(Text()),
        "args": ListOf(Text()),
        "env": ListOf(ENVIRONMENT),
        "ports": ListOf(
            Fields({"containerPort": Whole(1), "name": Text(pattern=r"[a-z0-9-]{1,15}")}, ("containerPort",))
        ),
        "resources": RESOURCES,
        "volumeMounts": ListOf(
            Fields({"name": NAME, "mountPath": Text(pattern="/.*"), "readOnly": Truth()}, ("name", "mountPath"))
        ),
    },
    ("name", "image"),
)
VOLUME = Fields(
    {
        "name": NAME,
        "persistentVolumeClaim": Fields({"claimName": NAME, "readOnly": Truth()}, ("claimName",)),
        "emptyDir": Fields({"medium": Text(("", "Memory")), "sizeLimit": Quantity()}),
    },
    ("name",),
)
POD_TEMPLATE = Fields(
    {
        "metadata": Fields({"labels": MapOf(Text()), "annotations": MapOf(Text())}),
        "spec": Fields(
            {
                "containers": ListOf(CONTAINER),
                "volumes": ListOf(VOLUME),
                "nodeSelector": MapOf(Text()),
                "tolerations": ListOf(Fields({"key": Text(), "operator": Text(), "value": Text(), "effect": Text()})),
                "restartPolicy": Text(("Always", "OnFailure", "Never")),
                "serviceAccountName": NAME,
                "securityContext": Fields({"fsGroup": Whole(), "runAsUser": Whole(), "runAsGroup": Whole()}),
            },
            ("containers",),
        ),
    },
    ("spec",),
)
RAY_CLUSTER = Fields(
    {
        "rayVersion": Text(pattern=r"\d+\.\d+\.\d+"),
        "authOptions": Fields({"mode": Text(("disabled", "token")), "secretName": NAME}),
        "enableInTreeAutoscaling": Truth(),
        "autoscalerOptions": Fields({"idleTimeoutSeconds": Whole(), "version": Text(("v1", "v2"))}),
        "headServiceAnnotations": MapOf(Text()),
        "suspend": Truth(),
        "headGroupSpec": Fields(
            {
                "serviceType": Text(("ClusterIP", "NodePort", "LoadBalancer")),
                "enableIngress": Truth(),
                "rayStartParams": MapOf(Text()),
                "template": POD_TEMPLATE,
            },
            ("template",),
        ),
        "workerGroupSpecs": ListOf(
            Fields(
                {
                    "groupName": NAME,
                    "replicas": Whole(),
                    "minReplicas": Whole(),
                    "maxReplicas": Whole(),
                    "numOfHosts": Whole(1),
                    "rayStartParams": MapOf(Text()),
                    "template": POD_TEMPLATE,
                },
                ("groupName", "minReplicas", "maxReplicas", "template"),
            )
        ),
    },
    ("headGroupSpec",),
)
RAY_JOB = Fields(
    {
        "apiVersion": Text(("ray.io/v1",)),
        "kind": Text(("RayJob",)),
        "metadata": METADATA,
        "spec": Fields(
            {
                "entrypoint": Text(),
                "runtimeEnvYAML": Text(),
                "jobId": Text(),
                "metadata": MapOf(Text()),
                "submissionMode": Text(("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")),
                "submitterConfig": Fields({"backoffLimit": Whole()}),
                "submitterPodTemplate": POD_TEMPLATE,
                "entrypointNumCpus": Whole(),
                "entrypointNumGpus": Whole(),
                "entrypointResources": Text(),
                "activeDeadlineSeconds": Whole(1),
                "backoffLimit": Whole(),
                "shutdownAfterJobFinishes": Truth(),
                "ttlSecondsAfterFinished": Whole(),
                "clusterSelector": MapOf(Text()),
                "suspend": Truth(),
                "rayClusterSpec": RAY_CLUSTER,
            },
        ),
    },
    ("apiVersion", "kind", "metadata", "spec"),
)
VOLUME_CLAIM = Fields(
    {
        "apiVersion": Text(("v1",)),
        "kind": Text(("PersistentVolumeClaim",)),
        "metadata": METADATA,
        "spec": Fields(
            {
                "accessModes": ListOf(Text(("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"))),
                "storageClassName": NAME,
                "resources": RESOURCES,
            },
            ("accessModes", "resources"),
        ),
    },
    ("apiVersion", "kind", "metadata", "spec"),
)


def mistakes(value: Any, kind: Any, where: str = "") -> list[str]:
    """What is wrong with a manifest's value, each with the path to it; empty where nothing is."""
    match kind:
        case Fields(known, required) if isinstance(value, dict):
            found = [f"{where}.{name}: no such field" for name in value if name not in known]
            found += [f"{where}.{name}: is missing" for name in required if name not in value]
            for name in value:
                found += mistakes(value[name], known[name], f"{where}.{name}") if name in known else []
            return found
        case MapOf(of) if isinstance(value, dict):
            return [text for name, one in value.items() for text in mistakes(one, of, f"{where}.{name}")]
        case ListOf(of) if isinstance(value, list):
            return [text for index, one in enumerate(value) for text in mistakes(one, of, f"{where}[{index}]")]
        case Text(choices, pattern) if isinstance(value, str):
            good = value in choices if choices else re.fullmatch(pattern or r"(?s:.*)", value) is not None
        case Whole(least) if isinstance(value, int) and not isinstance(value, bool):
            good = value >= least
        case Truth() if isinstance(value, bool):
            good = True
        case Quantity() if isinstance(value, str | int) and not isinstance(value, bool):
            good = QUANTITY.fullmatch(str(value)) is not None
        case _:
            good = False
    return [] if good else [f"{where}: {value!r} is no {kind}"]
