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

    from pipelines.provenance.inspection import Inspection
    from pipelines.provenance.records import Records
    from pipelines.provenance.verdict import Verdict

_SIGNS = {"good": "ok  ", "note": "note", "bad": "BAD "}


@dataclass
class VerifyConfig:
    """Check dubbed files: the signature, the film itself, and the records about it.

    Each file gets three separate answers, worst first, each ok, note or BAD. A file passes if none is BAD.

    signature: valid, by a signer you trust (ok); valid, by an unknown signer (note); expired at check, signed in time
    (note); none (note); invalid, or missing though a record says there was one (BAD).

    film: unchanged, byte for byte (ok); re-muxed (note): another container that presents the same pictures, sounds,
    subtitles, times, geometry, colours, names, languages and flags; changed (BAD), with words for what; changed or
    re-muxed (BAD), which cannot be told of films that an older version signed.

    records: sidecar, report and manifest agree (ok); there are none, or they are not signed (note); they differ (BAD),
    with the names of the fields.

    The records are taken from the _v2a folder of the output; the manifest from the file, or from NAME.c2pa beside it.
    Files are read by child processes with limits, without network access.

    Exit codes: 0 all pass, 1 some do not, 2 wrong usage.
    """

    files: Annotated[Positional[tuple[str, ...]], Note(metavar="[FILE ...]")] = ()
    """Dubbed files, or s3:// objects."""
    source: str | None = None
    """Original of the one FILE, to compare the pictures that are shown, and their times."""
    sidecar: str | None = None
    """Sidecar (.json) of the one FILE, if it is elsewhere."""
    manifest: str | None = None
    """Manifest (.c2pa) of the one FILE, if it is elsewhere. OUT/_v2a/provenance keeps a copy of each. Use it for a film
    that lost its own in a re-mux."""
    trust: str | None = None
    """Certificates (PEM file) of the authorities you trust. Demands a signer whose certificate leads to one of them:
    unsigned files, unknown signers and expired certificates are BAD."""
    require_signature: bool = False
    """Demand a valid signature, by anyone: unsigned files are BAD."""
    strict: bool = False
    """Demand the best answer to each question: every note is BAD. A file passes only unchanged, with records that agree
    and a signer trusted by --trust."""
    json: bool = False
    """Print one JSON object per file instead of lines, with all answers and their details."""
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
        checked = check(name, config, trust)
        passed = passed and checked.verdict.passed
        print_verdict(console, checked, config.json)
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


@dataclass(frozen=True)
class Checked:
    """A file, the verdict on it, and what was read of it (None if nothing could be)."""

    name: str
    verdict: Verdict
    inspected: Inspection | None = None


def check(name: str, config: VerifyConfig, trust: str | None = None) -> Checked:
    """Check one file. trust: certificates, PEM; by default those of `config`.

    Raises WrongUsage for a sidecar, manifest or source that cannot be read.
    """
    from pipelines import storage
    from pipelines.media.errors import DecodeFailed
    from pipelines.mux.presented import clocks_of
    from pipelines.mux.streams.beside import SUFFIXES
    from pipelines.provenance import inspection, signing
    from pipelines.provenance.records import read_manifest_file
    from pipelines.provenance.verdict import Answer, Demands, judge, verdict

    trust = _trust(config) if trust is None else trust
    demands = Demands(config.trust is not None, config.require_signature, config.strict)
    if name.endswith(signing.BESIDE):
        return _check_manifest(name, config, trust)
    if beside := next((suffix for suffix in SUFFIXES.values() if name.endswith(suffix)), ""):
        return _check_left_out(name, name.removesuffix(beside), config, trust)
    try:
        records = _records(name, config)
        source = _source(config, records)
        clocks = clocks_of((records.side or {}).get("presented"))
        if source is not None:
            clocks |= clocks_of(source.presented)
        manifest = _read(config.manifest, "manifest") if config.manifest is not None else None
        if manifest is None and storage.exists(name + signing.BESIDE):
            manifest = read_manifest_file(name + signing.BESIDE)
        inspected = inspection.inspect(name, manifest=manifest, trust=trust, clocks=clocks)
        from_copy = inspected.signed is None and manifest is None and records.manifest is not None
        if from_copy and not inspected.manifest_error:
            # The file has no manifest, but the records keep a copy: it tells whether the film was changed.
            inspected = inspection.inspect(name, manifest=records.manifest, trust=trust, clocks=clocks)
        else:
            from_copy = False
    except storage.StorageError as error:
        return Checked(name, verdict([Answer("film", "unreadable", "bad", str(error))]))
    except DecodeFailed as error:
        text = f"cannot be read as a film: {error}"
        return Checked(name, verdict([Answer("film", "unreadable", "bad", text)]))
    return Checked(name, judge(inspected, records, demands, from_copy=from_copy, source=source), inspected)


def _check_manifest(name: str, config: VerifyConfig, trust: str) -> Checked:
    """Check a manifest beside a film, by checking the film, unless that is one of the files to check anyway."""
    from pipelines import storage
    from pipelines.provenance import signing
    from pipelines.provenance.verdict import Answer, verdict

    film = name.removesuffix(signing.BESIDE)
    if not storage.exists(film):
        text = f"a manifest without its film ({film} was not found)"
        return Checked(name, verdict([Answer("film", "manifest-alone", "bad", text)]))
    if film in config.files:
        text = f"the manifest of {film}: checked with that file"
        return Checked(name, verdict([Answer("film", "manifest", "good", text)]))
    found = check(film, config, trust)
    return Checked(name, found.verdict, found.inspected)


def _check_left_out(name: str, film: str, config: VerifyConfig, trust: str) -> Checked:
    """Check a file of streams that a film's copy does not hold: its hash, which the film's records state, and those."""
    from pipelines import storage
    from pipelines.mux.streams import left_out
    from pipelines.provenance.verdict import Answer, verdict
    from pipelines.storage import hashing

    if not storage.exists(film):
        text = f"streams without their film ({film} was not found)"
        return Checked(name, verdict([Answer("film", "streams-alone", "bad", text)]))
    with storage.open_read(name) as file:
        sha256 = hashing.sha256(file)
    entries = (_records(film, config).side or {}).get("leftOut") or []
    if sha256 not in {left_out.sha256_in(str(entry)) for entry in entries}:
        text = f"these are not the streams that the records of {film} name"
        return Checked(name, verdict([Answer("film", "changed", "bad", text)]))
    answer = Answer("film", "streams", "good", f"the streams that {film} does not hold")
    found = check(film, config, trust)
    return Checked(name, verdict([answer, *found.verdict.answers]), found.inspected)


def _records(name: str, config: VerifyConfig) -> Records:
    from pipelines import storage
    from pipelines.provenance import records
    from pipelines.provenance.hostile_json import Hostile

    if config.sidecar is None:
        return records.find(name)
    try:
        return records.read(config.sidecar)
    except Hostile as error:
        raise WrongUsage(
            f"--sidecar {config.sidecar} is not a JSON record written by v2a: {error}"
        ) from error
    except storage.StorageError as error:
        raise WrongUsage(f"cannot read --sidecar {config.sidecar}: {error}") from error


def _source(config: VerifyConfig, records: Records) -> Inspection | None:
    """The film that --source names, read at the rate at which it was dubbed. Raises WrongUsage."""
    from pipelines import storage
    from pipelines.media.errors import DecodeFailed
    from pipelines.provenance import inspection

    if config.source is None:
        return None
    try:
        side = records.side or {}
        place, rate = _with_parts(config.source, side.get("parts")), side.get("sourceRate", "")
        source = inspection.inspect(storage.source_uri(place, rate if isinstance(rate, str) else ""))
    except (storage.StorageError, DecodeFailed, ValueError) as error:
        raise WrongUsage(f"cannot read --source {config.source}: {error}") from error
    if source.media_error:
        raise WrongUsage(f"cannot read --source {config.source}: {source.media_error}")
    return source


def _with_parts(source: str, parts: Any) -> str:
    """URI of a film with the files beside it that are its other parts, by the copy's record; `source` if there are
    none, or if it is not among them."""
    from pipelines import storage

    named = parts if isinstance(parts, list) else []
    names = [storage.raw_name(str(part)).rpartition("/")[2] for part in named]
    if source.rpartition("/")[2] not in names or {"", ".", ".."} & set(names):
        return source
    folder = storage.parent(source)
    return storage.joined_uri([storage.join(folder, name) for name in names])


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


def print_verdict(console: Console, checked: Checked, as_json: bool) -> None:
    """Print the answers about one file."""
    from jobs.common.terminal import printable

    verdict = checked.verdict
    if as_json:
        print(json.dumps(_as_json(checked)))
        return
    console.print(
        printable(f"{checked.name}: {'passes' if verdict.passed else 'DOES NOT PASS'}"), markup=False
    )
    for answer in verdict.answers:
        words = f"{answer.question} {answer.state}: {answer.text}"
        console.print(printable(f"  {_SIGNS[answer.level]} {words}"), markup=False)


def _as_json(checked: Checked) -> dict[str, Any]:
    """JSON values of a verdict: `answers` by question, and what the signature says of itself."""
    values: dict[str, Any] = {"file": checked.name, "passed": checked.verdict.passed}
    values["answers"] = [asdict(answer) for answer in checked.verdict.answers]
    inspected = checked.inspected
    if inspected is None:
        return values
    values["sha256"] = inspected.sha256
    if (signed := inspected.signed) is not None:
        values["manifest"] = {
            "label": signed.label,
            "signer": signed.signer,
            "serial": signed.serial,
            "trusted": signed.trusted,
            "expired": signed.expired,
            "signedAt": signed.signed_at,
            "validFrom": signed.valid_from,
            "validTo": signed.valid_to,
            "failures": list(signed.failures),
        }
    return values


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["verify", *sys.argv[1:]]))
