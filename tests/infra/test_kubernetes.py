"""infra/kubernetes, rendered by the real kustomize (that of kubectl) and held against the real schemas.

Pods and all other standard kinds are checked, strictly, against the schemas of Kubernetes itself. KubeRay's own
definitions are in no package registry: the levels that are KubeRay's are checked against the tables below, written by
hand from its API reference (ray.io/v1 of KubeRay 1.6), and a cluster also goes through the reader by which Ray
understands a RayCluster when it scales it.
"""

from __future__ import annotations

import copy
import ipaddress
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from jobs import cli

KUBERNETES = Path(__file__).resolve().parents[2] / "infra" / "kubernetes"
OVERLAYS = ("cpu", "one-gpu", "many-gpus", "spot")
VERBS = ("compare", "dub", "extract", "train", "tune")
VERSION = "1.33"

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """The schema of an object that has these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


WORKERS = fields(
    ("groupName", "template", "minReplicas", "maxReplicas"),
    groupName={"type": "string", "maxLength": 63},
    suspend={"type": "boolean"},
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=COUNT,
    idleTimeoutSeconds=COUNT,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template={"type": "object"},
    scaleStrategy=fields(workersToDelete={"type": "array", "items": {"type": "string"}}),
)
HEAD = fields(
    ("template",),
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]},
    headService={"type": "object"},
    enableIngress={"type": "boolean"},
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template={"type": "object"},
)
CLUSTER = fields(
    ("headGroupSpec",),
    suspend={"type": "boolean"},
    managedBy={"enum": ["ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"]},
    authOptions=fields(("mode",), mode={"enum": ["disabled", "token"]}, secretName={"type": "string"}),
    autoscalerOptions={"type": "object"},
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling={"type": "boolean"},
    gcsFaultToleranceOptions={"type": "object"},
    headGroupSpec=HEAD,
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
JOB = fields(
    ("entrypoint", "rayClusterSpec"),
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate={"type": "object"},
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=fields(backoffLimit=COUNT),
    managedBy={"type": "string"},
    entrypoint={"type": "string", "minLength": 1},
    runtimeEnvYAML={"type": "string"},
    jobId={"type": "string"},
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    entrypointResources={"type": "string"},
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    ttlSecondsAfterFinished=COUNT,
    shutdownAfterJobFinishes={"type": "boolean"},
    suspend={"type": "boolean"},
)
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB}


@cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    """Resources that `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, for its kustomize")
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    assert not made.stderr, "kustomize warns"
    return list(yaml.safe_load_all(made.stdout))


def of_kind(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [document for document in rendered(overlay) if document["kind"] == kind]


def clusters(document: dict[str, Any]) -> dict[str, Any]:
    """The specification of the cluster that a RayCluster is or a RayJob makes."""
    spec: dict[str, Any] = document["spec"]
    return spec if document["kind"] == "RayCluster" else spec["rayClusterSpec"]


def templates(document: dict[str, Any]) -> list[dict[str, Any]]:
    spec = clusters(document)
    return [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]


def check(document: dict[str, Any]) -> None:
    """Raises a ValidationError where a document is not what Kubernetes or KubeRay takes."""
    if document["kind"] not in SPECS:
        kubernetes_validate.validate(document, VERSION, strict=True)
        return
    assert document["apiVersion"] == "ray.io/v1"
    envelope = fields(
        ("metadata", "spec"),
        apiVersion={"type": "string"},
        kind={"type": "string"},
        metadata={"type": "object"},
        spec=SPECS[document["kind"]],
    )
    jsonschema.validate(document, envelope)
    for template in templates(document):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        kubernetes_validate.validate(pod, VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_every_document(overlay: str) -> None:
    for document in rendered(overlay):
        check(document)
    assert sorted(d["metadata"]["name"] for d in of_kind(overlay, "RayJob")) == [f"v2a-{v}" for v in VERBS]
    assert len(of_kind(overlay, "RayCluster")) == 1
    assert {d["metadata"].get("namespace") for d in rendered(overlay)} == {None, "v2a"}
    assert [d["kind"] for d in rendered(overlay) if "namespace" not in d["metadata"]] == ["Namespace"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda job: job["spec"].update(backofLimit=3),
        lambda job: clusters(job)["workerGroupSpecs"][0].update(minReplicas="4"),
        lambda job: templates(job)[1]["spec"]["containers"][0].update(volumemounts=[]),
        lambda job: templates(job)[0]["spec"]["containers"][0]["resources"].update(limit={}),
        lambda job: clusters(job)["authOptions"].update(mode="tokens"),
    ],
)
def test_mistakes_do_not_pass(wrong: Any) -> None:
    job = copy.deepcopy(of_kind("cpu", "RayJob")[0])
    check(job)
    wrong(job)
    with pytest.raises(jsonschema.ValidationError):
        check(job)


@pytest.mark.parametrize(
    "overlay, workers, gpus", [("cpu", 4, None), ("one-gpu", 1, 1), ("many-gpus", 8, 1), ("spot", 8, 1)]
)
def test_ray_reads_the_size_that_is_meant(overlay: str, workers: int, gpus: int | None) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    for document in of_kind(overlay, "RayCluster") + of_kind(overlay, "RayJob"):
        cluster = {"metadata": document["metadata"], "spec": clusters(document)}
        read = _derive_autoscaling_config_from_ray_cr(cluster)
        assert read["max_workers"] == workers
        kinds = read["available_node_types"]
        assert kinds["headgroup"]["resources"]["CPU"] == 0, "the head is for commands only"
        assert kinds["workers"]["min_workers"] == kinds["workers"]["max_workers"] == workers
        assert kinds["workers"]["resources"]["CPU"] == 8
        assert kinds["workers"]["resources"].get("GPU") == gpus


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_entrypoints_are_real_commands(overlay: str) -> None:
    import importlib

    for job in of_kind(overlay, "RayJob"):
        program, verb, *rest = shlex.split(job["spec"]["entrypoint"])
        assert program == "v2a" and job["metadata"]["labels"]["app.kubernetes.io/component"] == verb
        found = cli.VERBS[verb]
        config = cli.parse(getattr(importlib.import_module(found.module), found.config), rest, f"v2a {verb}")
        assert not [word for word in rest if word.isupper()], "a word is not filled in"
        assert config.precision == ("float32" if overlay == "cpu" else "bfloat16")
        assert not getattr(config, "restart", False), "KubeRay runs it again: it has to resume"


def test_settings_reach_the_entrypoints() -> None:
    settings = yaml.safe_load((KUBERNETES / "base" / "settings.yaml").read_text())["data"]
    words = {word for job in of_kind("cpu", "RayJob") for word in shlex.split(job["spec"]["entrypoint"])}
    assert settings.pop("storage-addresses") not in words  # for the network policy
    assert set(settings.values()) <= words


@pytest.mark.parametrize("verb", VERBS)
def test_the_verb_answers(verb: str) -> None:
    """The console script that the entrypoints name, run for its help."""
    script = Path(sys.executable).with_name("v2a")
    answer = subprocess.run([str(script), verb, "--help"], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0 and f"usage: v2a {verb}" in answer.stdout


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_no_more_rights_than_they_need(overlay: str) -> None:
    for document in of_kind(overlay, "RayCluster") + of_kind(overlay, "RayJob"):
        assert clusters(document)["authOptions"] == {"mode": "token"}
        assert clusters(document)["headGroupSpec"]["serviceType"] == "ClusterIP", (
            "no dashboard on the internet"
        )
        for template in templates(document):
            pod = template["spec"]
            assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            written = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
            mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
            assert {mounts["/tmp"], mounts["/home/ray"], mounts["/dev/shm"]} <= written
            for container in pod["containers"]:
                rights = container["securityContext"]
                assert (
                    rights["allowPrivilegeEscalation"] is False and rights["readOnlyRootFilesystem"] is True
                )
                assert rights["capabilities"]["drop"] == ["ALL"]
                assert not container["image"].endswith(":latest") and ":" in container["image"]
                assert container["resources"]["requests"] == container["resources"]["limits"]


def test_accounts_are_apart_and_have_no_token() -> None:
    accounts = {each["metadata"]["name"]: each for each in of_kind("cpu", "ServiceAccount")}
    assert set(accounts) == {"default", "v2a-head", "v2a-worker"}
    assert all(each["automountServiceAccountToken"] is False for each in accounts.values())
    for document in of_kind("cpu", "RayCluster") + of_kind("cpu", "RayJob"):
        assert [t["spec"]["serviceAccountName"] for t in templates(document)] == ["v2a-head", "v2a-worker"]
    roles = {name: each["metadata"].get("annotations") for name, each in accounts.items()}
    assert roles["default"] is None and roles["v2a-head"] != roles["v2a-worker"]


def reached(policies: list[dict[str, Any]], labels: dict[str, str]) -> list[tuple[str, int | None]]:
    """Places and ports that a pod with these labels may go to, by the union of the policies that choose it."""
    places: list[tuple[str, int | None]] = []
    for policy in policies:
        if policy["podSelector"].get("matchLabels", {}).items() <= labels.items():
            assert "Egress" in policy["policyTypes"]
            for rule in policy.get("egress", []):
                assert rule.get("to"), "a rule without `to` is for everywhere"
                for peer in rule["to"]:
                    chosen = peer.get("namespaceSelector", peer.get("podSelector", {})).get("matchLabels", {})
                    place = peer["ipBlock"]["cidr"] if "ipBlock" in peer else ",".join(chosen.values())
                    assert place, "an empty selector is for everybody"
                    places += [(place, port["port"]) for port in rule.get("ports", [{"port": None}])]
    return places


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_reach_what_they_need_and_nothing_else(overlay: str) -> None:
    policies = [each["spec"] for each in of_kind(overlay, "NetworkPolicy")]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies, "nothing by default"
    addresses = yaml.safe_load((KUBERNETES / "base" / "settings.yaml").read_text())["data"][
        "storage-addresses"
    ]
    assert ipaddress.ip_network(addresses).is_private
    expected = [("v2a", None), ("kube-system", 53), ("kube-system", 53), ("mlflow", 5000), (addresses, 443)]
    for document in of_kind(overlay, "RayCluster") + of_kind(overlay, "RayJob"):
        for template in templates(document):
            assert reached(policies, template["metadata"]["labels"]) == expected
    assert reached(policies, {"app": "other"}) == []
    [ours] = [each for each in policies if each["podSelector"]]
    [dashboard] = [rule for rule in ours["ingress"] if "ports" in rule]
    assert dashboard["ports"] == [{"protocol": "TCP", "port": 8265}]


def test_the_login_at_mlflow_is_a_secret() -> None:
    for template in templates(of_kind("cpu", "RayJob")[0]):
        sources = template["spec"]["containers"][0]["envFrom"]
        assert {"secretRef": {"name": "v2a-mlflow"}} in sources
    assert not of_kind("cpu", "Secret"), "no secret is in the files"


def test_spot_nodes_are_for_workers_only() -> None:
    for job in of_kind("spot", "RayJob"):
        head, worker = templates(job)
        assert head["spec"]["nodeSelector"] == {"eks.amazonaws.com/capacityType": "ON_DEMAND"}
        assert worker["spec"]["nodeSelector"] == {"eks.amazonaws.com/capacityType": "SPOT"}
        assert job["spec"]["backoffLimit"] > of_kind("cpu", "RayJob")[0]["spec"]["backoffLimit"]


def test_the_image_is_of_the_ray_that_is_locked() -> None:
    import ray

    assert {clusters(job)["rayVersion"] for job in of_kind("cpu", "RayJob")} == {ray.__version__}


def test_a_label_chooses_what_is_started() -> None:
    """`kubectl apply -l app.kubernetes.io/component=dub` starts that job and nothing else."""
    parts: dict[str | None, list[str]] = {}
    for document in rendered("cpu"):
        part = document["metadata"].get("labels", {}).get("app.kubernetes.io/component")
        parts.setdefault(part, []).append(document["kind"])
    assert not {"RayJob", "RayCluster"} & set(parts.pop(None))
    assert parts == {"cluster": ["RayCluster"], **{verb: ["RayJob"] for verb in VERBS}}
