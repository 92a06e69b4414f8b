"""infra/Dockerfile and infra/compose: a linter, the schema of compose files, and the commands that containers run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "infra" / "Dockerfile"
COMPOSE = ROOT / "infra" / "compose"


def stages() -> list[list[str]]:
    """Instructions of the Dockerfile by stage, one string each."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("FROM "):
            found.append([])
        if found:
            found[-1].append(line)
    return found


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("hadolint")
    return subprocess.run([str(tool), "--no-color", str(file)], capture_output=True, text=True, timeout=60)


def test_the_dockerfile_passes_its_linter(tmp_path: Path) -> None:
    answer = hadolint(DOCKERFILE)
    assert answer.returncode == 0, answer.stdout
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text().replace("USER 1000:100", "USER 1000:100\nRUNN ls"))
    assert hadolint(wrong).returncode != 0


def test_what_it_copies_is_there_and_sent_to_the_builder() -> None:
    sent = [
        line[1:]
        for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
        if line[:1] == "!"
    ]
    copied = [
        word
        for stage in stages()
        for line in stage
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert {"requirements*.lock", "v2a_models", "pipelines", "jobs"} <= set(copied)
    for name in copied:
        assert list(ROOT.glob(name)) and any(fnmatch(name, pattern) for pattern in sent), name


def test_images_are_not_of_root() -> None:
    # The last stage is what is built by default; it and MLflow's are made of the one that names the user.
    ends = {stage[0].split()[1] for stage in stages() if stage[0].split()[-1] == "mlflow"} | {
        stages()[-1][0].split()[1]
    }
    assert ends == {"runtime"}
    runtime = next(stage for stage in stages() if stage[0].endswith("AS runtime"))
    assert [line for line in runtime if line.startswith("USER ")] == ["USER 1000:100"]
    assert any("RAY_AUTH_MODE=token" in line for line in runtime)


@pytest.mark.parametrize(
    "accelerator, locks, said",
    [
        ("cuda", ["requirements-image.lock"], "requirements-image.lock"),
        (
            "cpu",
            ["requirements-image.lock", "requirements-image-cpu.lock"],
            "requirements-image-cpu.lock cpu",
        ),
        ("cpu", ["requirements-image.lock"], "`make lock-cpu` writes it"),
        ("cdua", ["requirements-image.lock"], "ACCELERATOR is cpu or cuda, not 'cdua'"),
    ],
)
def test_the_accelerator_chooses_the_lock(
    accelerator: str, locks: list[str], said: str, tmp_path: Path
) -> None:
    """The step's own shell, up to where it installs."""
    for lock in locks:
        (tmp_path / lock).touch()
    [install] = [line for stage in stages() for line in stage if "case" in line]
    script = install[install.index("case") :].partition("uv pip install")[0]
    command = ["bash", "-euo", "pipefail", "-c", f"{script} echo ${{lock}} ${{UV_TORCH_BACKEND:-}}"]
    ran = subprocess.run(
        command, capture_output=True, text=True, env={"ACCELERATOR": accelerator}, cwd=tmp_path, check=False
    )
    assert said in ran.stdout.strip() + ran.stderr
    assert (ran.returncode == 0) == said.startswith("requirements")


def test_everything_an_image_needs_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(x for e in ("cluster", "server") for x in project["optional-dependencies"][e]),
    ]
    text = (ROOT / "requirements-image.lock").read_text()
    locked = re.findall(r"^([\w.-]+)==([^ ;]+)", text, re.MULTILINE)
    for requirement in map(Requirement, asked):
        versions = [version for name, version in locked if name == canonicalize_name(requirement.name)]
        assert versions and all(map(requirement.specifier.contains, versions)), requirement


OWN = {"v2a:0.1.0": "built by compose", "v2a:0.1.0-mlflow": "built by compose"}
"""Images without a digest: why."""


def test_foreign_images_are_pinned_by_digest() -> None:
    """A tag can be moved to another image; a digest is the image."""
    text = DOCKERFILE.read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    stage_names = {stage[0].split()[-1] for stage in stages() if " AS " in stage[0]}
    used = [re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], stage[0].split()[1]) for stage in stages()]
    used = [image for image in used if image not in stage_names]
    used += re.findall(r"^# syntax=(\S+)", text)
    used += [service["image"] for service in compose()["services"].values()]
    foreign = [image for image in used if image not in OWN]
    assert len(set(foreign)) >= 4
    for image in foreign:
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image
    assert set(OWN) <= set(used), "an exception that is not needed"


def compose() -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())


def test_compose_takes_the_file() -> None:
    folder = resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads(folder.joinpath("compose-spec.json").read_text())
    jsonschema.validate(compose(), schema)
    wrong = compose()
    wrong["services"]["s3"]["port"] = wrong["services"]["s3"].pop("ports")
    with pytest.raises(jsonschema.ValidationError, match="port"):
        jsonschema.validate(wrong, schema)


def test_services_wait_for_services_that_can_be_waited_for() -> None:
    services = compose()["services"]
    for service in services.values():
        for name, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in services[name], name
            else:
                assert services[name]["restart"] == "no", name


def test_nothing_is_open_and_no_secret_is_in_the_file() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for key, value in service["environment"].items() if "environment" in service else []:
            if re.search("TOKEN|PASSWORD|SECRET", key):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), f"{name}: {key} is written down"
    for name in ("ray-head", "ray-worker"):
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
    asked = set(re.findall(r"\$\{(\w+)", (COMPOSE / "compose.yaml").read_text()))
    offered = dict(
        line.split("=") for line in (COMPOSE / "example.env").read_text().splitlines() if "=" in line
    )
    assert asked == set(offered) and not any(offered.values())


def test_services_have_no_more_rights_than_they_need() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service and "network_mode" not in service, name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in ("/tmp", "/home/ray", "postgres", "s3") or volume.endswith(
                ":ro"
            ), name
        if "published" in service["networks"]:
            assert service["ports"], f"{name} reaches the world for nothing"
    assert compose()["networks"]["inside"]["internal"] is True
    assert services["ray-worker"]["networks"] == services["postgres"]["networks"] == ["inside"]


def test_secrets_go_to_those_who_need_them() -> None:
    """The root of MinIO and the administrator of MLflow are nobody's but the set-up's."""
    users = {}
    for name, service in compose()["services"].items():
        for key, value in service.get("environment", {}).items():
            if found := re.fullmatch(r"\$\{(\w+):.*\}", str(value)):
                users.setdefault(found[1], set()).add(name)
            if key in ("AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_USERNAME"):
                users.setdefault(value, set()).add(name)
    ray = {"ray-head", "ray-worker"}
    assert users["S3_ROOT_PASSWORD"] == {"s3", "buckets"}
    assert users["MLFLOW_ADMIN_PASSWORD"] == {"mlflow", "login"}
    assert users["S3_JOBS_PASSWORD"] == {"buckets", *ray} and users["v2a-jobs"] == ray
    assert users["MLFLOW_JOBS_PASSWORD"] == {"login", *ray} and users["v2a"] == ray
    assert users["v2a-mlflow"] == {"mlflow"} and users["MLFLOW_SESSION_KEY"] == {"mlflow"}


def test_the_set_up_of_minio_is_a_script_that_makes_these_users() -> None:
    script = (COMPOSE / "buckets.sh").read_text()
    subprocess.run(["sh", "-n", str(COMPOSE / "buckets.sh")], check=True)
    for name in ("jobs", "mlflow"):
        assert f"mc admin user add s3 v2a-{name} " in script
        assert (COMPOSE / f"{name}-policy.json").is_file()
        mounts = compose()["services"]["buckets"]["volumes"]
        assert f"./{name}-policy.json:/policies/{name}-policy.json:ro" in mounts
    made = set(re.search(r"for bucket in (.*); do", script)[1].split())  # type: ignore[index]
    assert made == {"films", "dubbed", "mlflow"}


def test_its_commands_are_real() -> None:
    from mlflow.cli import cli as mlflow
    from ray.scripts.scripts import cli as ray

    programs: dict[tuple[str, str], Any] = {
        ("ray", "start"): ray.commands["start"],
        ("mlflow", "server"): mlflow.commands["server"],
    }
    seen = set()
    for service in compose()["services"].values():
        words = tuple(shlex.split(service.get("command", "")))
        if words[:2] in programs:
            programs[words[:2]].make_context(words[1], list(words[2:]))  # raises for what it does not know
            seen.add(words[:2])
        elif words[:1] == ("python",):
            assert (COMPOSE / Path(words[1]).name).is_file()
            seen.add(words[:1])
    assert seen == {*programs, ("python",)}
