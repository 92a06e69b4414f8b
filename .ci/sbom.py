"""Bill of materials in CycloneDX 1.6: `python .ci/sbom.py --out FILE`.

cyclonedx-py lists the packages of this environment. To each, this adds the native libraries inside its wheel, which no
package manager knows of: shared libraries by the names of their files, and what is linked in by the package's own word.
Packages that are not in requirements-image.lock (tests, linters) have the scope `excluded`.
"""

from __future__ import annotations

import argparse
import base64
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RELEASE, ABI, UNKNOWN = "release", "ABI, from the file name", "unknown"
_SHARED = re.compile(r"(?:^|.*/)lib[^/]*\.so(?:\.[\w.]+)?$")
# libx264-d6533a8d.so.165, libcudart.faf08d9a.so.13, libopenblasp-r0-59ffcd50.3.15.so: repaired wheels put a hash in.
_NAME = re.compile(
    r"(?P<name>lib.+?)(?:[-.][0-9a-f]{8})*(?:\.(?P<inner>\d[\d.]*))?\.so(?:\.(?P<version>[\w.]+))?$"
)

Versions = dict[str, str]
"""Release of a native library by its name."""


def main() -> int:
    """Write the bill of materials, held against the schema."""
    parser = argparse.ArgumentParser(
        description="Write a bill of materials of this environment (CycloneDX, JSON)."
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    out = parser.parse_args().out
    bill = packages()
    shipped = locked(ROOT / "requirements-image.lock")
    count = 0
    for component in bill["components"]:
        if canonical(component["name"]) not in shipped:
            component["scope"] = "excluded"
        if inside := native_libraries(component["name"]):
            component["components"] = inside
            count += len(inside)
    text = json.dumps(bill, indent=1, sort_keys=True) + "\n"
    check(text)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(f"{out}: {len(bill['components'])} packages, {count} native libraries inside them")
    return 0


def packages() -> dict[str, Any]:
    """Packages of this environment, by cyclonedx-py."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable, "--pyproject"]
    command += [
        str(ROOT / "pyproject.toml"),
        "--output-reproducible",
        "--no-validate",
        "--sv",
        "1.6",
        "--of",
        "JSON",
        "-o",
        "-",
    ]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def canonical(name: str) -> str:
    """Name of a package as an index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: Path) -> set[str]:
    """Names in a lock file."""
    return {canonical(name) for name in re.findall(r"^([\w.-]+)==", lock.read_text(), re.MULTILINE)}


def native_libraries(package: str) -> list[dict[str, Any]]:
    """Native libraries inside the installed wheel of a package, as components."""
    found: dict[str, dict[str, Any]] = {}
    for file in importlib.metadata.files(package) or ():
        if not _SHARED.match(str(file)) or ".cpython-" in file.name or ".abi3." in file.name:
            continue
        parts = _NAME.match(file.name)
        if parts is not None and parts["name"] not in found:
            version = parts["version"] or parts["inner"] or ""
            found[parts["name"]] = library(package, parts["name"], version, ABI if version else UNKNOWN)
            found[parts["name"]]["properties"].append({"name": "v2a:file", "value": str(file)})
            if file.hash is not None and file.hash.mode == "sha256":  # of the wheel's own list
                content = base64.urlsafe_b64decode(file.hash.value + "=").hex()
                found[parts["name"]]["hashes"] = [{"alg": "SHA-256", "content": content}]
    for name, version in reported(package).items():
        known = found.setdefault(name, library(package, name, version, RELEASE))
        known.update(version=version)
        known["properties"][0]["value"] = RELEASE
        if name == "ffmpeg":  # by this name lists of vulnerabilities know it
            known["cpe"] = f"cpe:2.3:a:ffmpeg:ffmpeg:{version}:*:*:*:*:*:*:*"
    return [found[name] for name in sorted(found)]


def library(package: str, name: str, version: str, kind: str) -> dict[str, Any]:
    """A component; kind: what its version is."""
    component = {"type": "library", "name": name, "bom-ref": f"{package}/{name}"}
    known = {"version": version} if version else {}
    return component | known | {"properties": [{"name": "v2a:version-is", "value": kind}]}


def reported(package: str) -> Versions:
    """Releases of native libraries by the package's own word; empty where it gives none."""
    ask = REPORTS.get(canonical(package))
    return {name: version for name, version in ask().items() if version} if ask else {}


def _av() -> Versions:
    import av

    parts = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"ffmpeg": av.ffmpeg_version_info, **parts}


def _opencv() -> Versions:
    import cv2

    return opencv_versions(cv2.getBuildInformation())


def opencv_versions(text: str) -> Versions:
    """Libraries that OpenCV's build information names with a version."""
    found: Versions = {}
    media = text.partition("Media I/O:")[2].partition("Python 3:")[0]
    for name, version in re.findall(r"^ +([\w /-]+?): +.*?\((?:ver )?(\d[\w.-]*)\)", media, re.MULTILINE):
        if name in ("Custom HAL", "Trace"):
            continue
        ffmpeg = name in ("avcodec", "avformat", "avutil", "swscale")
        found[f"lib{name}" if ffmpeg else name] = version
    return found


def _pillow() -> Versions:
    from PIL import features

    return {
        name: features.version(name) for name in features.get_supported() if name not in ("pil", "tkinter")
    }


def _pyarrow() -> Versions:
    import pyarrow

    return {"libarrow": pyarrow.cpp_build_info.version}


def _cryptography() -> Versions:
    from cryptography.hazmat.backends.openssl import backend

    return {"openssl": backend.openssl_version_text().split()[1]}


def _torch() -> Versions:
    import torch

    text = torch.__config__.show()
    found = dict(re.findall(r"(Math Kernel Library|MKL-DNN)\S* (?:Version |v)([\w.]+)", text))
    return {"mkl": found.get("Math Kernel Library", ""), "onednn": found.get("MKL-DNN", "")}


def _openblas(name: str) -> Callable[[], Versions]:
    def ask() -> Versions:
        module = __import__(name)
        return {"openblas": module.show_config("dicts")["Build Dependencies"]["blas"]["version"]}

    return ask


def _psycopg2() -> Versions:
    from psycopg2 import extensions

    major, minor = divmod(extensions.libpq_version(), 10_000)
    return {"libpq": f"{major}.{minor}"}


def _c2pa() -> Versions:
    import c2pa

    return {"libc2pa_c": c2pa.sdk_version()}


REPORTS: dict[str, Callable[[], Versions]] = {
    "av": _av,
    "c2pa-python": _c2pa,
    "cryptography": _cryptography,
    "numpy": _openblas("numpy"),
    "opencv-python-headless": _opencv,
    "pillow": _pillow,
    "psycopg2-binary": _psycopg2,
    "pyarrow": _pyarrow,
    "scipy": _openblas("scipy"),
    "torch": _torch,
}
"""Packages that tell the versions of what is linked into them."""


def check(text: str) -> None:
    """Raises ValueError if the text is not CycloneDX 1.6."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if (fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ValueError(f"not CycloneDX 1.6: {fault}")


if __name__ == "__main__":
    sys.exit(main())
