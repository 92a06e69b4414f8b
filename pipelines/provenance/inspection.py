"""What a file says of itself and what it is: metadata, manifest, sha256 of the file and of its tracks' packets.

Files to be checked are untrusted more than others. They are read in a process of their own, with the limits of the
muxing one, and only JSON comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipelines import storage
from pipelines.media.errors import DecodeFailed

MEMORY_MB = 2048
"""Address space of the process that reads. C2PA reads up to 256 MB at a time."""


@dataclass(frozen=True)
class Signed:
    """A manifest as it was read, with what C2PA's library finds wrong with it."""

    facts: dict[str, Any]
    """Our own assertion, as it was signed; empty if there is none."""
    signer: str
    """Names in the certificate."""
    source_type: str
    """Digital source type of what was done."""
    failures: tuple[str, ...]
    """C2PA's codes, without those about trust."""
    trusted: bool
    """Whether the certificate leads to one of the authorities that were given."""

    @property
    def intact(self) -> bool:
        """Whether signature and manifest are as they were signed, whatever has become of the file."""
        return not [code for code in self.failures if not is_binding(code)]

    @property
    def binds(self) -> bool:
        """Whether the file is, byte for byte, the one that was signed."""
        return not self.failures


def is_binding(code: str) -> bool:
    """Whether one of C2PA's codes says that the file's bytes are not those that were signed."""
    return code.startswith(("assertion.dataHash.", "assertion.bmffHash.", "assertion.boxesHash."))


@dataclass(frozen=True)
class Inspection:
    """What was found in a file."""

    sha256: str
    tags: dict[str, str]
    """Container metadata, names in lower case, of those that v2a writes."""
    video: tuple[str, ...]
    """sha256 of each picture track's packets (`pipelines.mux.packet_hashes`)."""
    sound: tuple[str, ...]
    """The same of each sound track."""
    signed: Signed | None = None
    manifest_error: str = ""
    """Why the manifest cannot be read; empty if it can, or if there is none."""
    titles: tuple[str, ...] = field(default=())
    """Of the sound tracks."""


def inspect(
    uri: str, *, manifest: bytes | None = None, trust: str = "", stall_s: float = 120.0
) -> Inspection:
    """Look at the film at `uri`.

    manifest: a manifest from elsewhere, to be held against the file instead of the one in it; trust: certificates
    of authorities, PEM, that a signer's must lead to.

    Raises DecodeFailed for a file that cannot be read as a film, StorageError for storage.
    """
    from pipelines.sandbox import child

    order = {
        "uri": uri if storage.is_remote(uri) else storage.local_path(uri),
        "manifest": None if manifest is None else manifest.hex(),
        "trust": trust,
    }
    try:
        answer = child.converse("pipelines.provenance.inspect_child", order, MEMORY_MB, stall_s)
    except child.ChildFailed as error:
        raise DecodeFailed(f"Reader{error.reason}", error.message, "verify") from error
    if answer.get("error") == "storage":
        raise storage.StorageError(str(answer.get("message")))
    if "error" in answer:
        raise DecodeFailed(*(str(answer.get(name, "")) for name in ("error_class", "message", "stage")))
    try:
        return _parsed(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeFailed("ReaderCrashed", f"the reader answered nonsense: {error}", "verify") from None


def _parsed(answer: dict[str, Any]) -> Inspection:
    found = answer["signed"]
    signed = found and Signed(
        dict(found["facts"]),
        str(found["signer"]),
        str(found["source_type"]),
        tuple(map(str, found["failures"])),
        bool(found["trusted"]),
    )
    tags = {str(name): str(value) for name, value in answer["tags"].items()}
    video, sound, titles = (tuple(map(str, answer[name])) for name in ("video", "sound", "titles"))
    return Inspection(
        str(answer["sha256"]), tags, video, sound, signed or None, str(answer["manifest_error"]), titles
    )
