"""Inspection of a file to be verified: metadata, manifest, SHA-256 of the file and of its tracks' packets.

Such files are the least trusted of all. They are read in processes of their own (`pipelines.sandbox.child`), and only
JSON comes back, which is checked.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipelines import storage
from pipelines.media.errors import DecodeFailed
from pipelines.mux.presented import check, clocks_of
from pipelines.storage import hashing

INSPECT_MEMORY_MB = 2048
"""Address space of the process that reads. C2PA reads up to 256 MB at a time."""


MOST_MANIFEST = 16 << 20
"""Bytes of the largest manifest beside a file that is read; v2a's own have some ten thousand."""


@dataclass(frozen=True)
class Signed:
    """A manifest, with the failures that C2PA's library reports."""

    facts: dict[str, Any]
    """Content of v2a's assertion, as it was signed; empty if there is none."""
    signer: str
    """Names in the certificate."""
    source_type: str
    """IPTC digital source type of the edit."""
    failures: tuple[str, ...]
    """C2PA's failure codes, without those about trust and about the end of the certificate."""
    trusted: bool
    """True if the certificate leads to one of the given authorities."""
    expired: bool = False
    """True if the certificate is no longer valid."""
    signed_at: str = ""
    """Time of signing that the signer states, ISO 8601; empty if he states none."""
    valid_from: str = ""
    valid_to: str = ""
    """Dates of the certificate, ISO 8601."""
    serial: str = ""
    """Serial number of the certificate."""
    label: str = ""
    """Identifier of the manifest, which no other has."""

    @property
    def intact(self) -> bool:
        """True if signature and manifest are unchanged; the file may have changed."""
        return not [code for code in self.failures if not is_binding(code)]

    @property
    def binds(self) -> bool:
        """True if the file is, in every byte that the signature covers, the one that was signed."""
        return not self.failures

    @property
    def signed_in_time(self) -> bool:
        """True if the stated time of signing lies within the dates of the certificate."""
        try:
            at, begins, ends = map(_moment, (self.signed_at, self.valid_from, self.valid_to))
        except ValueError:
            return False
        return begins <= at <= ends


def _moment(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)


def is_binding(code: str) -> bool:
    """True for a C2PA code which reports that the file's bytes are not the signed ones."""
    return code.startswith(("assertion.dataHash.", "assertion.bmffHash.", "assertion.boxesHash."))


@dataclass(frozen=True)
class Inspection:
    """Facts about a file, as far as it could be read."""

    sha256: str
    tags: dict[str, str]
    """Tags of v2a that the container has, with names in lower case."""
    video: tuple[str, ...]
    """SHA-256 of each video track's packets (`pipelines.mux.packet_hashes`)."""
    sound: tuple[str, ...]
    """SHA-256 of each sound track's packets."""
    signed: Signed | None = None
    manifest_error: str = ""
    """Reason why the manifest cannot be read; empty if it can, or if there is none."""
    titles: tuple[str, ...] = field(default=())
    """Titles of the sound tracks."""
    presented: dict[str, Any] = field(default_factory=dict)
    """Description of what the film presents (`pipelines.mux.presented`); empty if it cannot be read."""
    media_error: str = ""
    """Reason why the file cannot be read as a film."""


def inspect(
    uri: str,
    *,
    manifest: bytes | None = None,
    trust: str = "",
    clocks: Iterable[str] = (),
    stall_s: float = 120.0,
) -> Inspection:
    """Inspect the film at `uri`.

    manifest: a manifest to check the file against, instead of the one in it. trust: certificates of trusted
    authorities, PEM. clocks: steps of time of the description that this one is compared to (`presented.clocks_of`).

    One process reads the manifest and another one the film, so that a film which takes its reader over says nothing
    about the signature. Neither makes the SHA-256 of the file. A manifest that crashes its reader, or takes all of its
    memory, is unreadable; the film is read all the same.

    Raises DecodeFailed if the process that reads the film fails (`ReaderCrashed`, `ReaderTimeout`,
    `ReaderOutOfMemory`), StorageError for storage.
    """
    with storage.reading(uri) as file:
        sha256 = hashing.sha256(file)
    signed, unreadable = _manifest(uri, manifest, trust, stall_s)
    described = clocks_of(signed.facts.get("presented")) if signed is not None else set()
    answer = _conversed(uri, {"reads": "film", "clocks": sorted({*clocks, *described})}, stall_s)
    film = _checked("FilmAnswer", answer)
    return Inspection(
        sha256,
        film["tags"],
        tuple(film["video"]),
        tuple(film["sound"]),
        signed,
        unreadable,
        tuple(film["titles"]),
        film["presented"],
        film["media_error"],
    )


def _manifest(uri: str, manifest: bytes | None, trust: str, stall_s: float) -> tuple[Signed | None, str]:
    """The manifest, and the reason if it cannot be read."""
    if manifest is not None and len(manifest) > MOST_MANIFEST:
        return None, f"larger than {MOST_MANIFEST} bytes"
    order = {"reads": "manifest", "manifest": None if manifest is None else manifest.hex(), "trust": trust}
    try:
        answer = _checked("ManifestAnswer", _conversed(uri, order, stall_s))
    except DecodeFailed as error:
        return None, f"reading it failed: {error.error_class}: {error.message}"
    fields = answer["signed"]
    signed = fields and Signed(**fields | {"failures": tuple(fields["failures"])})
    return signed, answer["manifest_error"]


def _checked(schema: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer of a reader, if it keeps to its schema. Raises DecodeFailed."""
    from pipelines.sandbox import answers

    try:
        fields = answers.checked(getattr(answers, schema), answer).model_dump()
        if fields.get("presented"):
            check(fields["presented"])
        return dict(fields)
    except ValueError as error:
        raise DecodeFailed("ReaderCrashed", f"invalid reply from the reader: {error}", "verify") from None


def _conversed(uri: str, order: dict[str, Any], stall_s: float) -> dict[str, Any]:
    from pipelines.sandbox import child, lent_files

    module = "pipelines.provenance.inspect_child"
    try:
        with lent_files.lend(uri) as file:
            order = order | {"file": file.to_json()}
            answer = child.converse(module, order, INSPECT_MEMORY_MB, stall_s, fds=(file.fd,))
            file.check()
            if "error" in answer:
                raise file.failed(str(answer.get("message"))[:1000])
            return answer
    except child.ChildFailed as error:
        raise DecodeFailed(f"Reader{error.reason}", error.message, "verify") from error
