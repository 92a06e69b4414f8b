"""Hash and sign a finished file before it gets its name, and keep its sidecar."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines import storage
from pipelines.dub.state import State
from pipelines.mux import remux
from pipelines.provenance import signing
from pipelines.storage import hashing


@dataclass
class Proof:
    """Hashes, facts and signature of one output file, collected while it is written."""

    source_sha256: str = ""
    output_sha256: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """Content of the sidecar and of the signed manifest."""
    manifest: bytes = b""
    """Signed C2PA manifest; empty if nothing is signed."""
    signer: str = ""

    def record(self, output: str) -> dict[str, Any]:
        """The sidecar of the file that is written as OUT/`output`."""
        facts = self.facts | {"outputSha256": self.output_sha256}
        if self.manifest:
            where = "embedded" if signing.embeds(output) else output + signing.BESIDE
            facts |= {"manifest": where, "signer": self.signer}
        return facts


@dataclass(frozen=True)
class Sealer:
    """Signs files with the key at `sign_key`, if there is one, and writes their records into OUT."""

    out: str
    version: str
    sign_key: str = ""
    sign_cert: str = ""

    def seal(self, path: Path, output: str, proof: Proof) -> None:
        """Sign the finished file `path`, which will be OUT/`output`, if there is a key, and hash it.

        Raises MuxFailed for a signature that cannot be made.
        """
        name = output.rpartition("/")[2]
        if self.sign_key:
            signer = signing.Signer(self.sign_key, self.sign_cert)
            definition = signing.manifest(proof.facts, name, proof.source_sha256, self.version)
            try:
                proof.signer = signing.load(signer).name
                proof.manifest = signing.sign_file(signer, definition, path, name)
            except signing.SigningError as error:
                raise remux.MuxFailed("SigningFailed", str(error), "sign") from error
            if not signing.embeds(output):  # before the film gets its name: no output is ever unsigned
                storage.write_atomic(storage.join(self.out, output + signing.BESIDE), proof.manifest)
        with path.open("rb") as file:
            proof.output_sha256 = hashing.sha256(file)

    def write_record(self, name: str, output: str, proof: Proof) -> None:
        """Write the sidecar and the signed manifest of a file into the state folder, as `name` (its video_id)."""
        state = State(self.out)
        if proof.manifest:
            state.write_manifest(name, proof.manifest)
        state.write_provenance(name, proof.record(output))
