"""infra/aws: the cluster launcher's file goes through Ray's own checks, policies and rules through an AWS of moto's."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

AWS = Path(__file__).resolve().parents[2] / "infra" / "aws"

moto = pytest.importorskip("moto")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """boto3 that talks to moto."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto.mock_aws():
        yield boto3


def launcher() -> dict[str, Any]:
    return yaml.safe_load((AWS / "cluster.yaml").read_text())


def test_ray_takes_the_launchers_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(launcher())
    validate_config(config)
    assert config["available_node_types"]["worker"]["min_workers"] == config["max_workers"] == 4
    wrong = launcher() | {"max_worker": 3}
    with pytest.raises(Exception, match="max_worker"):
        validate_config(wrong)


def test_aws_would_start_its_machines(aws: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The work of `ray up` before the first machine runs: subnets, security group and keys, then the request itself."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.util import prepare_config

    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps the key that it makes in ~/.ssh
    (tmp_path / ".ssh").mkdir()
    given = launcher()
    iam = aws.client("iam")
    for name in ("v2a-head", "v2a-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    config = bootstrap_aws(prepare_config(copy.deepcopy(given)))
    ec2 = aws.client("ec2", region_name=given["provider"]["region"])
    for kind, node in config["available_node_types"].items():
        request = dict(node["node_config"])
        subnet = request.pop("SubnetIds")[0]
        groups = request.pop("SecurityGroupIds")
        network = [{"DeviceIndex": 0, "SubnetId": subnet, "Groups": groups}]
        assert request["InstanceType"] in INSTANCE_TYPES
        made = ec2.run_instances(**request, NetworkInterfaces=network, MinCount=1, MaxCount=1)
        assert made["Instances"][0].get("InstanceLifecycle") == {"head": None, "worker": "spot"}[kind]


def test_its_ray_commands_are_rays_own_and_guarded() -> None:
    from ray.scripts.scripts import cli

    config = launcher()
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        words = shlex.split(commands[-1].split(";")[-1].replace("$RAY_HEAD_IP", "10.0.0.1"))
        assert words[:2] == ["ray", "start"]
        context = cli.commands["start"].make_context("start", words[2:])
        assert context.params["dashboard_host"] in (None, "127.0.0.1", "localhost")


@pytest.mark.parametrize("name", ["s3-policy", "head-policy"])
def test_policies_are_ones_that_iam_takes(aws: Any, name: str) -> None:
    iam = aws.client("iam")
    document = (AWS / f"{name}.json").read_text()
    assert iam.create_policy(PolicyName=name, PolicyDocument=document)["Policy"]["Arn"]
    with pytest.raises(iam.exceptions.MalformedPolicyDocumentException):
        iam.create_policy(PolicyName="wrong", PolicyDocument=document.replace('"Effect"', '"Efect"'))


def test_lifecycle_rules_are_ones_that_s3_takes(aws: Any) -> None:
    s3 = aws.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="dubbed")
    rules = json.loads((AWS / "s3-lifecycle.json").read_text())
    s3.put_bucket_lifecycle_configuration(Bucket="dubbed", LifecycleConfiguration=rules)
    kept = s3.get_bucket_lifecycle_configuration(Bucket="dubbed")["Rules"]
    assert [rule["ID"] for rule in kept] == [rule["ID"] for rule in rules["Rules"]]
    # Nothing may expire but what a film that is done no longer needs.
    assert [rule["Filter"]["Prefix"] for rule in kept if "Expiration" in rule] == ["films/_v2a/parts/"]


def test_the_head_marks_its_machines_as_its_policy_asks() -> None:
    from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME

    text = (AWS / "head-policy.json").read_text()
    for key in ("aws:ResourceTag", "aws:RequestTag"):
        assert text.count(f'"{key}/{TAG_RAY_CLUSTER_NAME}": "{launcher()["cluster_name"]}"') == 2


def test_keys_of_a_machine_stay_on_it() -> None:
    """Metadata asks for a session (IMDSv2), and its answers end on the machine, whose network containers use."""
    from ray.autoscaler._private import docker

    for node in launcher()["available_node_types"].values():
        options = node["node_config"]["MetadataOptions"]
        assert options == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        assert node["node_config"]["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert "--net=host" in Path(docker.__file__).read_text()
    assert {"--cap-drop ALL", "--security-opt no-new-privileges:true"} <= set(
        launcher()["docker"]["run_options"]
    )
    assert "MLFLOW_TRACKING_URI=https:" in " ".join(launcher()["docker"]["run_options"])
