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
    assert {"requirements.lock", "v2a_models", "pipelines", "jobs"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists() and any(fnmatch(name, pattern) for pattern in sent), name


def test_images_are_of_the_lock_and_not_of_root() -> None:
    installs = [line for stage in stages() for line in stage if "uv pip install" in line]
    assert installs and all("--constraints requirements.lock" in x or "--no-deps ." in x for x in installs)
    # The last stage is what is built by default; it and MLflow's are made of the one that names the user.
    ends = {stage[0].split()[1] for stage in stages() if stage[0].split()[-1] == "mlflow"} | {
        stages()[-1][0].split()[1]
    }
    assert ends == {"runtime"}
    runtime = next(stage for stage in stages() if stage[0].endswith("AS runtime"))
    assert [line for line in runtime if line.startswith("USER ")] == ["USER 1000:100"]
    assert any("RAY_AUTH_MODE=token" in line for line in runtime)


@pytest.mark.parametrize("accelerator, fails", [("cpu", False), ("cuda", False), ("cdua", True)])
def test_a_mistyped_accelerator_stops_the_build(accelerator: str, fails: bool) -> None:
    [install] = [line for stage in stages() for line in stage if "case" in line]
    script = (
        install[install.index("case") :].partition("uv pip install")[0] + 'echo "${UV_TORCH_BACKEND:-lock}"'
    )
    command = ["bash", "-euo", "pipefail", "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, env={"ACCELERATOR": accelerator})
    assert bool(ran.returncode) == fails
    assert ran.stdout.strip() == {"cpu": "cpu", "cuda": "lock", "cdua": ""}[accelerator]


def test_everything_an_image_needs_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(x for e in ("cluster", "server") for x in project["optional-dependencies"][e]),
    ]
    locks = [ROOT / "requirements.lock", ROOT / "requirements-cluster.lock"]
    lines = [line for lock in locks for line in lock.read_text().splitlines()]
    locked = dict(
        line.split(" ;")[0].split("==") for line in lines if "==" in line and not line.startswith(" ")
    )
    for requirement in map(Requirement, asked):
        version = locked[canonicalize_name(requirement.name)].strip()
        assert requirement.specifier.contains(version), requirement


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
            compile(words[2], "command", "exec")
            seen.add(words[:1])
    assert seen == {*programs, ("python",)}
