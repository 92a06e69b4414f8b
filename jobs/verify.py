"""`v2a verify FILE...`: check signature, hashes and metadata of dubbed files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from jobs.cli import DONE, SOME_FAILED
from jobs.common.options import Note, SandboxLevel
from jobs.common.verb import WrongUsage, run_verb

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.provenance.verify import Finding

_SIGNS = {"good": "ok  ", "note": "note", "bad": "BAD "}


@dataclass
class VerifyConfig:
    """Check dubbed files: signature, hashes, sidecar, and whether picture and sound are still the same.

    Every check prints one line: ok, note or BAD. A file passes if nothing is BAD. The checks tell apart a changed
    picture, a changed sound, a manifest of another file, and an edited sidecar. A copy into another container passes
    with a note, as its packets are still the signed ones. The sidecar is taken from the _v2a folder of the output; the
    manifest from the file, from NAME.c2pa beside it, or from that folder.

    A valid signature means that nothing was changed since. Whom you trust as signer is a separate question: see
    --trust. Files are read by child processes with limits, without network access.

    Exit codes: 0 all pass, 1 some do not, 2 wrong usage.
    """

    files: Annotated[Positional[tuple[str, ...]], Note(metavar="[FILE ...]")] = ()
    """Dubbed files, or s3:// objects."""
    source: str | None = None
    """Original of the one FILE, to compare the picture packet by packet."""
    sidecar: str | None = None
    """Sidecar (.json) of the one FILE, if it is elsewhere."""
    manifest: str | None = None
    """Manifest (.c2pa) of the one FILE, if it is elsewhere. OUT/_v2a/provenance keeps a copy of each."""
    trust: str | None = None
    """Certificates (PEM file) of the authorities you trust."""
    json: bool = False
    """Print one JSON object per file instead of lines."""
    sandbox: SandboxLevel = "auto"
    make_test_certificate: str | None = None
    """Create a key and a certificate to try out signing in this folder, and print how to use them. Every signature
    names them as a test. Checks no file."""


def run(config: VerifyConfig) -> int:
    """Verify files. Returns the exit code: 0 all pass, 1 some do not, 2 wrong usage."""
    return run_verb("verify", "v2a verify FILE...", lambda console: _run(config, console), config.sandbox)


def _run(config: VerifyConfig, console: Console) -> int:
    if config.make_test_certificate is not None:
        return make_test_certificate(config, console)
    if not config.files:
        raise WrongUsage("give the files to check, or --make-test-certificate FOLDER; see v2a verify --help")
    one = ("source", "sidecar", "manifest")
    if len(config.files) > 1 and (per_file := [name for name in one if getattr(config, name) is not None]):
        raise WrongUsage(f"--{per_file[0]} applies to one file; check the files one by one")
    trust = _trust(config)
    passed = True
    for name in config.files:
        findings = check(name, config, trust)
        good = all(finding.level != "bad" for finding in findings)
        passed = passed and good
        print_findings(console, name, findings, good, config.json)
    return DONE if passed else SOME_FAILED


def make_test_certificate(config: VerifyConfig, console: Console) -> int:
    """Write a key and a certificate for tests. Returns the exit code; raises WrongUsage."""
    from pipelines.provenance import signing

    assert config.make_test_certificate is not None
    if config.files:
        raise WrongUsage("--make-test-certificate checks no file; drop FILE")
    try:
        credentials = signing.make_test_certificate(config.make_test_certificate)
    except signing.SigningError as error:
        raise WrongUsage(str(error)) from error
    console.print(
        f"Created {credentials.key} and {credentials.certificate}, for tests only: nobody trusts them, and "
        "signatures say so.\n"
        f"Sign with:\n  v2a dub ARCHIVE OUT --sign-key {credentials.key} --sign-cert {credentials.certificate}",
        markup=False,
    )
    return DONE


def check(name: str, config: VerifyConfig, trust: str = "") -> list[Finding]:
    """Findings about one file. Raises WrongUsage for a sidecar, manifest or source that cannot be read."""
    from pipelines import storage
    from pipelines.media.errors import DecodeFailed
    from pipelines.provenance import inspection, signing, verify
    from pipelines.provenance.verify import Finding

    if name.endswith(signing.BESIDE):
        film = name.removesuffix(signing.BESIDE)
        if storage.exists(film):
            return [Finding("note", "manifest", f"the manifest of {film}: checked with that file")]
        return [Finding("bad", "manifest-alone", f"a manifest without its film ({film} was not found)")]
    try:
        side = _sidecar(name, config)
        manifest = _read(config.manifest, "manifest") if config.manifest is not None else None
        if manifest is None and storage.exists(name + signing.BESIDE):
            manifest = storage.read_bytes(name + signing.BESIDE)
        inspected = inspection.inspect(name, manifest=manifest, trust=trust)
        if inspected.signed is None and manifest is None and side is not None and side.manifest_uri:
            # Another program has re-muxed the file and lost its manifest; the records keep a copy.
            manifest = storage.read_bytes(side.manifest_uri)
            inspected = inspection.inspect(name, manifest=manifest, trust=trust)
    except storage.StorageError as error:
        return [Finding("bad", "unreadable", str(error))]
    except DecodeFailed as error:
        return [Finding("bad", "not-a-film", f"cannot be read as a film: {error}")]
    source = None
    if config.source is not None:
        try:
            source = inspection.inspect(config.source)
        except (storage.StorageError, DecodeFailed) as error:
            raise WrongUsage(f"cannot read --source {config.source}: {error}") from error
    return verify.check(inspected, side.facts if side is not None else None, source)


def _sidecar(name: str, config: VerifyConfig) -> Any:
    from pipelines.provenance import verify

    if config.sidecar is None:
        return verify.find_sidecar(name)
    _read(config.sidecar, "sidecar")
    side = verify.read_sidecar(config.sidecar)
    if side is None:
        raise WrongUsage(f"--sidecar {config.sidecar} is not a JSON record written by v2a")
    return side


def _trust(config: VerifyConfig) -> str:
    if config.trust is None:
        return ""
    text = _read(config.trust, "trust").decode("ascii", "replace")
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise WrongUsage(f"--trust {config.trust} holds no certificate in PEM form")
    return text


def _read(place: str, option: str) -> bytes:
    from pipelines import storage

    try:
        return storage.read_bytes(place)
    except storage.StorageError as error:
        raise WrongUsage(f"cannot read --{option} {place}: {error}") from error


def print_findings(console: Console, name: str, findings: list[Finding], good: bool, as_json: bool) -> None:
    """Print the findings about one file."""
    from jobs.common.terminal import printable

    if as_json:
        print(
            json.dumps({"file": name, "passed": good, "findings": [asdict(finding) for finding in findings]})
        )
        return
    console.print(printable(f"{name}: {'passes' if good else 'DOES NOT PASS'}"), markup=False)
    for finding in findings:
        console.print(printable(f"  {_SIGNS[finding.level]} {finding.code}: {finding.text}"), markup=False)


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["verify", *sys.argv[1:]]))
