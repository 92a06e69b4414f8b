"""Lock files: every package with its hashes and no address; whatever installs from them asks for the hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by package and marker."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line)
            parsed = Requirement(requirement)
            [pin] = parsed.specifier
            assert pin.operator == "==", line
            found[f"{parsed.name};{parsed.marker or ''}"] = (pin.version, [one.strip() for one in hashes])
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_its_hashes(name: str) -> None:
    packages = locked(name)
    assert packages
    for package, (_, hashes) in packages.items():
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), package
    # Addresses would tie whoever installs to the index that this was resolved with.
    assert not re.search(
        r"https?:|file:|^\s*-", re.sub(r"--hash=", "", (ROOT / name).read_text()), re.MULTILINE
    )


def test_the_image_has_the_versions_that_are_tested() -> None:
    assert {"requirements-build.lock", "requirements-image.lock", "requirements.lock"} <= set(LOCKS)
    tested = [locked(name) for name in ("requirements.lock", "requirements-cluster.lock")]
    # Some packages have one version for each of several Pythons.
    known = {
        (name.split(";")[0], version, *hashes) for lock in tested for name, (version, hashes) in lock.items()
    }
    for name, (version, hashes) in locked("requirements-image.lock").items():
        assert (name.split(";")[0], version, *hashes) in known, name
    assert "pytest" not in {name.split(";")[0] for name in locked("requirements-image.lock")}


def test_what_builds_is_locked_too() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    built_with = {
        name.split(";")[0]: version for name, (version, _) in locked("requirements-build.lock").items()
    }
    for text in [*project["build-system"]["requires"], *project["dependency-groups"]["build"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(built_with[requirement.name]), text


def installs(text: str) -> list[str]:
    """Commands in a Makefile or Dockerfile that install packages."""
    joined = re.sub(
        r"\\\n\s*", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    )
    parts = re.split(r"\n|;|&&", joined)
    return [part.strip() for part in parts if re.search(r"\bpip (install|sync)\b", part)]


@pytest.mark.parametrize("file", ["Makefile", "infra/Dockerfile"])
def test_nothing_is_installed_without_hashes(file: str) -> None:
    text = (ROOT / file).read_text()
    hashed = re.search(r"^HASHED := (.*?[^\\])$", text, re.MULTILINE | re.DOTALL)
    build = re.search(r'BUILD="(.*?)"', text)
    names = {"$(HASHED)": hashed[1] if hashed else "", "${BUILD}": build[1] if build else ""}
    names["$(filter-out --require-hashes,$(HASHED))"] = names["$(HASHED)"].replace("--require-hashes", "")
    commands = installs(text)
    assert len(commands) >= 3
    for command in commands:
        for name, words in sorted(names.items(), key=lambda item: -len(item[0])):
            command = command.replace(name, words)
        own = command.split()[-1] == "." and "--no-deps" in command  # v2a itself, of this folder
        assert own or "--require-hashes" in command, command
        # What is built from source is built with locked packages only.
        assert "--only-binary :all:" in command or (
            "--require-build-hashes" in command and "--build-constraints requirements-build.lock" in command
        ), command
