"""The bill of materials: native libraries inside wheels, with their versions, and the whole as CycloneDX."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / ".ci" / "sbom.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inside(sbom: ModuleType, package: str) -> dict[str, dict[str, Any]]:
    return {library["name"]: library for library in sbom.native_libraries(package)}


def test_ffmpeg_is_named_with_its_release(sbom: ModuleType) -> None:
    import av

    found = inside(sbom, "av")
    assert found["ffmpeg"]["version"] == av.ffmpeg_version_info
    assert f":{av.ffmpeg_version_info}:" in found["ffmpeg"]["cpe"]
    for name, version in av.library_versions.items():
        assert found[name]["version"] == ".".join(map(str, version)), name
        assert found[name]["properties"][0]["value"] == sbom.RELEASE
    # What FFmpeg itself is linked to has only the number in its file's name, and says so.
    x264 = found["libx264"]
    assert x264["version"].isdigit() and x264["properties"][0]["value"] == sbom.ABI
    assert len(x264["hashes"][0]["content"]) == 64


def test_the_other_ffmpeg_is_not_forgotten(sbom: ModuleType) -> None:
    import cv2

    found = inside(sbom, "opencv-python-headless")
    if "FFMPEG:                      YES" in cv2.getBuildInformation():
        assert found["libavcodec"]["version"].count(".") == 2
    assert {"PNG", "JPEG"} <= set(found)
    media = "  Media I/O: \n    JPEG:     build-libjpeg-turbo (ver 3.1.2-70)\n"
    text = media + "  Video I/O:\n      avcodec:   YES (62.28.101)\n"
    assert sbom.opencv_versions(text) == {"JPEG": "3.1.2-70", "libavcodec": "62.28.101"}


@pytest.mark.parametrize(
    "package, library", [("cryptography", "openssl"), ("pillow", "webp"), ("c2pa-python", "libc2pa_c")]
)
def test_what_is_linked_in_is_told_by_the_package(sbom: ModuleType, package: str, library: str) -> None:
    assert inside(sbom, package)[library]["version"][0].isdigit()


@pytest.mark.parametrize(
    "file, name, version",
    [
        ("libx264-d6533a8d.so.165", "libx264", "165"),
        ("libcudart.faf08d9a.so.13", "libcudart", "13"),
        ("libopenblasp-r0-59ffcd50.3.15.so", "libopenblasp-r0", None),
        ("libgfortran-040039e1-0352e75f.so.5.0.0", "libgfortran", "5.0.0"),
        ("libc10.so", "libc10", None),
    ],
)
def test_names_of_files_are_read(sbom: ModuleType, file: str, name: str, version: str | None) -> None:
    parts = sbom._NAME.match(file)
    assert (parts["name"], parts["version"]) == (name, version)


def test_the_schema_is_asked(sbom: ModuleType) -> None:
    bill = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
    bill["components"] = [{"type": "library", "name": "av", "components": sbom.native_libraries("av")}]
    sbom.check(json.dumps(bill))
    bill["components"][0]["components"][0]["kind"] = "unheard of"
    with pytest.raises(ValueError, match="not CycloneDX"):
        sbom.check(json.dumps(bill))


@pytest.mark.slow
def test_make_sbom(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / ".ci" / "sbom.py"), "--out", str(tmp_path / "bill.json")]
    assert "native libraries" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = (tmp_path / "bill.json").read_text()
    components = {component["name"]: component for component in json.loads(text)["components"]}
    assert components["pytest"]["scope"] == "excluded" and "scope" not in components["torch"]
    assert "file:" not in text and str(ROOT) not in text
