"""Inspection of a file to be verified: metadata, manifest, SHA-256 of the file and of its tracks' packets.

Such files are the least trusted of all. They are read in a process of their own (`pipelines.sandbox.child`), and only
JSON comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipelines.media.errors import DecodeFailed

INSPECT_MEMORY_MB = 2048
"""Address space of the process that reads. C2PA reads up to 256 MB at a time."""


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
    """C2PA's failure codes, without those about trust."""
    trusted: bool
    """True if the certificate leads to one of the given authorities."""

    @property
    def intact(self) -> bool:
        """True if signature and manifest are unchanged; the file may have changed."""
        return not [code for code in self.failures if not is_binding(code)]

    @property
    def binds(self) -> bool:
        """True if the file is, byte for byte, the one that was signed."""
        return not self.failures


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


def inspect(
    uri: str, *, manifest: bytes | None = None, trust: str = "", stall_s: float = 120.0
) -> Inspection:
    """Inspect the film at `uri`.

    manifest: a manifest to check the file against, instead of the one in it. trust: certificates of trusted
    authorities, PEM.

    Raises DecodeFailed for a file that cannot be read as a film (`ReaderCrashed`, `ReaderTimeout`, `ReaderOutOfMemory`
    for its process), StorageError for storage.
    """
    from pipelines.sandbox import child, lent_files

    order = {"manifest": None if manifest is None else manifest.hex(), "trust": trust}
    try:
        with lent_files.lend(uri) as file:
            answer = child.converse(
                "pipelines.provenance.inspect_child",
                order | {"file": file.to_json()},
                INSPECT_MEMORY_MB,
                stall_s,
                fds=(file.fd,),
            )
            if "error" in answer:
                file.check()
            if answer.get("error") == "storage":
                raise file.failed(str(answer.get("message"))[:1000])
    except child.ChildFailed as error:
        raise DecodeFailed(f"Reader{error.reason}", error.message, "verify") from error
    if "error" in answer:
        raise DecodeFailed(*(str(answer.get(name, "")) for name in ("error_class", "message", "stage")))
    try:
        return _parsed(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeFailed("ReaderCrashed", f"invalid reply from the reader: {error}", "verify") from None


def _parsed(answer: dict[str, Any]) -> Inspection:
    manifest = answer["signed"]
    signed = manifest and Signed(
        dict(manifest["facts"]),
        str(manifest["signer"]),
        str(manifest["source_type"]),
        tuple(map(str, manifest["failures"])),
        bool(manifest["trusted"]),
    )
    tags = {str(name): str(value) for name, value in answer["tags"].items()}
    video, sound, titles = (tuple(map(str, answer[name])) for name in ("video", "sound", "titles"))
    return Inspection(
        str(answer["sha256"]), tags, video, sound, signed or None, str(answer["manifest_error"]), titles
    )
