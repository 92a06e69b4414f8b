"""Rights of jobs and of the head: enough for what the code asks of S3 and EC2, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import storage
from pipelines.storage import uri as storage_uri
from tests.support import servers
from tests.support.iam import Request, allowed

INFRA = Path(__file__).resolve().parents[2] / "infra"
TLS = {"aws:SecureTransport": "true"}

OURS = {"aws:ResourceTag/ray-cluster-name": "v2a"}
THEIRS: list[dict[str, str]] = [
    {}, {"aws:ResourceTag/ray-cluster-name": "other"}, {"aws:ResourceTag/Name": "v2a"},
]  # fmt: skip
INSTANCE = "arn:aws:ec2:eu-central-1:111122223333:instance/i-1"


def policy(name: str) -> dict[str, Any]:
    return json.loads((INFRA / name).read_text())


def requests_of(operation: str, parameters: dict[str, Any]) -> list[Request]:
    """Rights that S3 asks for an operation of its interface. Raises KeyError for one that nobody has thought of."""
    bucket, key = (f"arn:aws:s3:::{parameters.get('Bucket', '')}", parameters.get("Key", ""))
    source = parameters.get("CopySource", "")
    source = "/".join(source.values()) if isinstance(source, dict) else source
    copied = [("s3:GetObject", f"arn:aws:s3:::{source.split('?')[0]}"), ("s3:PutObject", f"{bucket}/{key}")]
    tagged = [("s3:GetObjectTagging", copied[0][1]), ("s3:PutObjectTagging", copied[1][1])]
    needed = {
        "ListObjectsV2": [("s3:ListBucket", bucket)],
        "HeadBucket": [("s3:ListBucket", bucket)],
        "HeadObject": [("s3:GetObject", f"{bucket}/{key}")],
        "GetObject": [("s3:GetObject", f"{bucket}/{key}")],
        "PutObject": [("s3:PutObject", f"{bucket}/{key}")],
        "CopyObject": copied + tagged,
        "UploadPartCopy": copied,
        "CreateMultipartUpload": [("s3:PutObject", f"{bucket}/{key}")],
        "UploadPart": [("s3:PutObject", f"{bucket}/{key}")],
        "CompleteMultipartUpload": [("s3:PutObject", f"{bucket}/{key}")],
        "AbortMultipartUpload": [("s3:AbortMultipartUpload", f"{bucket}/{key}")],
        "ListParts": [("s3:ListMultipartUploadParts", f"{bucket}/{key}")],
        "DeleteObject": [("s3:DeleteObject", f"{bucket}/{key}")],
        "DeleteObjects": [
            ("s3:DeleteObject", f"{bucket}/{each['Key']}")
            for each in parameters.get("Delete", {}).get("Objects", [])
        ],
    }
    return [Request(action, resource, TLS) for action, resource in needed[operation]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Operations that v2a asks of S3 when it reads `example-archive` and writes `example-dubbed`, by its own code."""
    import aiobotocore.client
    import pyarrow.fs

    from jobs.train import checkpoints

    seen: list[tuple[str, dict[str, Any]]] = []
    real = aiobotocore.client.AioBaseClient._make_api_call

    async def spy(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        seen.append((operation, parameters))
        return await real(self, operation, parameters)

    with pytest.MonkeyPatch.context() as patch, servers.moto() as port:
        for name, value in servers.environment(port).items():
            patch.setenv(name, value)
        s3 = servers.client(port)
        for bucket in ("example-archive", "example-dubbed"):
            s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket="example-archive", Key="films/a.mp4", Body=b"film")
        patch.setattr(aiobotocore.client.AioBaseClient, "_make_api_call", spy)
        storage.s3_filesystem().clear_instance_cache()
        storage_uri._s3_lister.cache_clear()
        archive, out = "s3://example-archive/films", "s3://example-dubbed/films"
        [film] = storage.list_tree(archive)
        assert (
            storage.exists(film.uri) and storage.size(film.uri) == 4 and storage.stat_file(film.uri).size == 4
        )
        assert storage.read_bytes(film.uri) == b"film"
        storage.check_writable(out)
        local = tmp_path_factory.mktemp("large") / "file"
        local.write_bytes(bytes(11 << 20))
        storage.put_atomic(str(local), f"{out}/a.mp4")
        storage.s3_filesystem().put_file(
            str(local), "example-dubbed/films/b.mp4", chunksize=5 << 20
        )  # in parts
        storage.copy(f"{out}/a.mp4", f"{out}/c.mp4")
        assert len(list(storage.list_tree(out))) == 3
        # What Ray writes: a store's parts and a training's checkpoints.
        files, place = checkpoints.checkpoints_place(f"{out}/model")
        files.create_dir(f"{place}/one", recursive=True)
        with files.open_output_stream(f"{place}/one/state") as sink:
            sink.write(bytes(100))
        assert files.get_file_info(pyarrow.fs.FileSelector(place, recursive=True))
        files.delete_dir(f"{place}/one")
        storage.delete(f"{out}/a.mp4")
        storage.s3_filesystem().clear_instance_cache()
        storage_uri._s3_lister.cache_clear()
    yield seen


@pytest.mark.parametrize("name", ["aws/s3-policy.json", "compose/jobs-policy.json"])
def test_jobs_may_do_what_they_do(asked: list[tuple[str, dict[str, Any]]], name: str) -> None:
    text = (INFRA / name).read_text()
    for own, ours in (
        {"films": "example-archive", "dubbed": "example-dubbed"}.items() if "compose" in name else ()
    ):
        text = text.replace(f":::{own}", f":::{ours}")
    rights = [json.loads(text)]
    assert {"ListObjectsV2", "GetObject", "PutObject", "CopyObject", "UploadPart"} <= {
        each for each, _ in asked
    }
    for operation, parameters in asked:
        for request in requests_of(operation, parameters):
            assert allowed(rights, request), f"{operation}: {request}"


def test_jobs_may_do_no_more() -> None:
    rights = [policy("aws/s3-policy.json")]
    # Whatever else the role is given, the archive stays as it is, and nothing is sent in the clear.
    rights_of_all = [*rights, {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}]
    film, dubbed = "arn:aws:s3:::example-archive/films/a.mp4", "arn:aws:s3:::example-dubbed/films/a.mp4"
    for action in ("PutObject", "DeleteObject", "DeleteObjectVersion", "PutObjectAcl", "PutObjectTagging",
                   "AbortMultipartUpload", "RestoreObject", "BypassGovernanceRetention"):  # fmt: skip
        assert not allowed(rights_of_all, Request(f"s3:{action}", film, TLS)), action
    for action in ("PutBucketPolicy", "DeleteBucket", "PutLifecycleConfiguration", "PutBucketVersioning"):
        assert not allowed(rights_of_all, Request(f"s3:{action}", "arn:aws:s3:::example-archive", TLS)), (
            action
        )
        assert not allowed(rights, Request(f"s3:{action}", "arn:aws:s3:::example-dubbed", TLS)), action
    assert allowed(rights, Request("s3:GetObject", dubbed, TLS))
    assert not allowed(rights_of_all, Request("s3:GetObject", dubbed, {"aws:SecureTransport": "false"}))
    assert not allowed(rights, Request("s3:GetObject", "arn:aws:s3:::payroll/a", TLS))
    assert not allowed(rights, Request("s3:DeleteObjectVersion", dubbed, TLS))


def test_users_of_minio_see_their_own_buckets_only() -> None:
    for name, own, others in [
        ("compose/jobs-policy.json", ("films", "dubbed"), ("mlflow",)),
        ("compose/mlflow-policy.json", ("mlflow",), ("films", "dubbed")),
    ]:
        rights = [policy(name)]
        for bucket in own:
            assert allowed(rights, Request("s3:GetObject", f"arn:aws:s3:::{bucket}/a"))
        for bucket in others:
            assert not allowed(rights, Request("s3:GetObject", f"arn:aws:s3:::{bucket}/a"))
            assert not allowed(rights, Request("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
        for action in ("admin:CreateUser", "s3:CreateBucket", "s3:PutBucketPolicy", "s3:DeleteBucket"):
            assert not allowed(rights, Request(action, f"arn:aws:s3:::{own[0]}"))
    assert not allowed(
        [policy("compose/jobs-policy.json")], Request("s3:PutObject", "arn:aws:s3:::films/a.mp4")
    )


def test_the_head_starts_and_ends_its_own_machines() -> None:
    """The requests of Ray's node provider for AWS: RunInstances with tags, then tags again, and their end."""
    rights = [policy("aws/head-policy.json")]
    started = {"aws:RequestTag/ray-cluster-name": "v2a"}
    assert allowed(rights, Request("ec2:RunInstances", INSTANCE, started))
    for kind in ("subnet/s-1", "security-group/sg-1", "network-interface/*", "volume/*", "key-pair/ray"):
        resource = f"arn:aws:ec2:eu-central-1:111122223333:{kind}"
        assert allowed(rights, Request("ec2:RunInstances", resource, started)), kind
    assert allowed(rights, Request("ec2:RunInstances", "arn:aws:ec2:eu-central-1::image/ami-1", started))
    tagged = started | {"ec2:CreateAction": "RunInstances"}
    assert allowed(rights, Request("ec2:CreateTags", INSTANCE, tagged))
    assert allowed(
        rights, Request("ec2:CreateTags", INSTANCE, OURS | {"aws:RequestTag/ray-node-status": "up-to-date"})
    )
    for action in ("TerminateInstances", "StopInstances", "StartInstances"):
        assert allowed(rights, Request(f"ec2:{action}", INSTANCE, OURS)), action
    assert allowed(rights, Request("ec2:DescribeInstances", "*"))
    role = "arn:aws:iam::111122223333:role/v2a-worker"
    assert allowed(rights, Request("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"}))
    assert not allowed(rights, Request("iam:PassRole", role, {"iam:PassedToService": "lambda.amazonaws.com"}))
    assert not allowed(rights, Request("iam:PassRole", role.replace("v2a-worker", "admin"), {}))


@pytest.mark.parametrize("context", THEIRS)
def test_the_head_ends_no_machine_of_others(context: dict[str, str]) -> None:
    rights = [policy("aws/head-policy.json")]
    everything = {"Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]}
    for action in ("TerminateInstances", "StopInstances", "StartInstances"):
        assert not allowed(rights, Request(f"ec2:{action}", INSTANCE, context)), action
        assert not allowed([*rights, everything], Request(f"ec2:{action}", INSTANCE, context)), action
    # Nor does it make them its own, by a tag, to end them then.
    claim = {"aws:RequestTag/ray-cluster-name": "v2a"}
    assert not allowed(rights, Request("ec2:CreateTags", INSTANCE, context | claim))
    assert not allowed(rights, Request("ec2:DeleteTags", INSTANCE, context))
    assert not allowed(rights, Request("ec2:ModifyInstanceAttribute", INSTANCE, context))
    # It starts none without its mark.
    assert not allowed(rights, Request("ec2:RunInstances", INSTANCE, {}))
