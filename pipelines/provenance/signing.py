"""C2PA signatures of dubbed files: certificate, manifest and signature.

Formats that C2PA supports (mp4, mov, avi) carry their manifest. Other files get it beside them as `NAME.c2pa`, bound by
the SHA-256 of all their bytes. The manifest also holds the SHA-256 of every track's packets, which a copy in another
container keeps, unlike the bytes.

Nothing here uses the network: no time stamp authority is asked, no manifest is fetched. A private key is read on the
machine that uses it and stays in the process that reads it, which never looks into a film: the process that makes the
signed copy gets one signature, over bytes that it sends.
"""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines import storage
from pipelines.provenance import sidecar
from pipelines.provenance.keys import Loaded, Signer, SigningError, load

__all__ = ["Loaded", "Signer", "SigningError", "load"]

ASSERTION = "org.v2a.provenance"
"""Label of v2a's own assertion in the manifest, which holds the facts of the sidecar."""

TEST_MARK = "v2a TEST certificate"
"""Mark in the names of certificates made by `make_test_certificate`."""

MIME = {".mp4": "video/mp4", ".m4v": "video/x-m4v", ".mov": "video/quicktime", ".qt": "video/quicktime"} | {
    ".avi": "video/x-msvideo",
    ".wav": "audio/wav",
}
"""Media types of the files that carry their manifest inside, by suffix."""

BESIDE = ".c2pa"
"""Suffix of the manifest beside a file that cannot carry it."""

SETTINGS: dict[str, Any] = {
    # `v2a verify` checks; doing it here would read every file once more.
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}

SIGN_MEMORY_MB = 2048
"""Address space of the process that signs."""

MANIFEST_BYTES = 64 << 20
"""Bytes by which a signed copy may exceed its source."""

STALL_S = 120.0
"""Seconds without progress after which that process is killed."""


def embeds(name: str) -> bool:
    """True if a file with this name carries its manifest inside."""
    return Path(name).suffix.lower() in MIME


def check_signer(signer: Signer) -> Loaded:
    """Key and certificate (`load`), tried on a small picture, which is signed and read. Raises SigningError."""
    import c2pa
    from PIL import Image

    loaded = load(signer)
    blank = io.BytesIO()
    Image.new("RGB", (8, 8)).save(blank, "jpeg")
    try:
        signed = io.BytesIO()
        blank.seek(0)
        facts = manifest({}, "trial", "", "0")
        sign_stream(loaded.algorithm, loaded.chain, loaded.sign, facts, "image/jpeg", blank, signed)
        signed.seek(0)
        report = json.loads(
            c2pa.Reader("image/jpeg", signed, context=c2pa.Context.from_dict(SETTINGS)).json()
        )
    except c2pa.C2paError as error:
        raise SigningError(f"{signer.certificate} cannot sign: {error}") from error
    codes = {s["code"] for s in report["validation_results"]["activeManifest"]["failure"]}
    if codes - {"signingCredential.untrusted"}:
        raise SigningError(
            f"{signer.certificate} does not meet C2PA's rules ({', '.join(sorted(codes))}); it needs the key "
            "usage digitalSignature, an extended key usage such as emailProtection, and an issuer other than itself"
        )
    return loaded


def manifest(facts: dict[str, Any], title: str, source_sha256: str, version: str) -> dict[str, Any]:
    """The unsigned C2PA manifest of a dubbed file: the edit, the software and the source.

    facts: the facts of the sidecar (`sidecar.facts_of`). title: name of the file. The manifest states the present time
    as that of the signature; nobody else vouches for it.
    """
    ingredient = {
        "title": facts.get("source", title),
        "relationship": "parentOf",
        "instance_id": f"urn:sha256:{source_sha256}",
        "label": "source",
    }
    linked = {"parameters": {"ingredientIds": ["source"]}}
    edited = {
        "action": "c2pa.edited",
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "digitalSourceType": sidecar.SOURCE_TYPE,
        "description": sidecar.STATEMENT,
        "softwareAgent": {"name": "v2a", "version": version},
    }
    return {
        "claim_generator_info": [{"name": "v2a", "version": version}],
        "title": title,
        "ingredients": [ingredient],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [{"action": "c2pa.opened"} | linked, edited]}},
            {"label": ASSERTION, "data": facts},
        ],
    }


def sign_stream(
    algorithm: str,
    chain: bytes,
    sign: Callable[[bytes], bytes],
    definition: dict[str, Any],
    mime: str,
    source: Any,
    destination: Any,
) -> bytes:
    """Sign the open file `source` by `definition` (from `manifest`). Returns the manifest's bytes.

    sign: makes the signature, with the key of `chain`. destination: gets the signed copy if `mime` is in MIME, or
    image/jpeg; otherwise the manifest is for a file beside the source. Raises c2pa.C2paError.
    """
    import c2pa

    builder = c2pa.Builder.from_json(definition, context=c2pa.Context.from_dict(SETTINGS))
    if mime not in (*MIME.values(), "image/jpeg"):
        builder.set_no_embed()
    signer = c2pa.Signer.from_callback(sign, c2pa.C2paSigningAlg[algorithm.upper()], chain.decode())
    return bytes(builder.sign(signer, mime, source, destination))


def warm_up() -> None:
    """Load what C2PA's library loads when it is first used; a confined process can load nothing."""
    import c2pa

    c2pa.Stream(io.BytesIO()).close()
    c2pa.Context.from_dict(SETTINGS)


def sign_file(signer: Signer, definition: dict[str, Any], path: Path, name: str) -> bytes:
    """Sign the local file `path`, later called `name`. Returns the manifest's bytes.

    A child makes the signed copy, this process the signature. If C2PA supports the format, a file that carries the
    manifest replaces `path` in one step; otherwise the file does not change. Raises SigningError, and
    storage.StorageError for the disk.
    """
    from pipelines.sandbox import child, lent_files

    loaded = load(signer)
    mime = MIME.get(Path(name).suffix.lower(), "application/octet-stream")
    signed = path.with_name(path.name + ".signed" + path.suffix)
    signatures: list[bytes] = []

    def sign_once(claim: bytes) -> bytes:
        if signatures:
            raise SigningError("the child asks for a second signature")
        signatures.append(loaded.sign(claim))
        return signatures[0]

    try:
        with (
            lent_files.lend(str(path)) as file,
            lent_files.Service(sign_once) as service,
            signed.open("xb+", buffering=0) as copy,
        ):
            order = {
                "file": file.to_json(),
                "signed": copy.fileno(),
                "signer": service.fd,
                "mime": mime,
                "definition": definition,
                "chain": loaded.chain.decode(),
                "algorithm": loaded.algorithm,
            }
            answer = child.converse(
                "pipelines.provenance.signing_child",
                order,
                SIGN_MEMORY_MB,
                STALL_S,
                fds=(file.fd, copy.fileno(), service.fd),
                writes=file.size + MANIFEST_BYTES,
            )
            manifest = _copied(answer, name, copy.fileno())
        if mime in MIME.values():
            signed.replace(path)
        return manifest
    except child.ChildFailed as error:
        raise SigningError(f"cannot sign {name}: {error.message}") from error
    except OSError as error:
        raise storage.kind_of(error)(f"cannot write in {path.parent}: {error.strerror or error}") from error
    finally:
        signed.unlink(missing_ok=True)


def _copied(answer: dict[str, Any], name: str, copy: int) -> bytes:
    """The manifest in an answer of the child. Raises SigningError, and OSError if the disk takes no more.

    The child may lie: an error of the disk counts only if this process meets it as well.
    """
    from pipelines.mux.files import check_disk
    from pipelines.sandbox import answers

    try:
        if "error" not in answer:
            return bytes.fromhex(answers.checked(answers.SignedCopyAnswer, answer).manifest)
        failed = answers.checked(answers.NoCopyAnswer, answer)
    except answers.ValidationFailed as error:
        raise SigningError(f"cannot sign {name}: invalid reply from the signer: {error}") from None
    if failed.error == "storage":
        check_disk(copy)
    raise SigningError(f"cannot sign {name}: {failed.message}")


def make_test_certificate(
    folder: str | Path, days: float = 365, now: datetime.datetime | None = None
) -> Signer:
    """Write `test-key.pem` and `test-cert.pem` into `folder`: a certificate that nobody trusts, marked as a test.

    Raises SigningError if the folder cannot be written or holds such files already.
    """
    from cryptography.hazmat.primitives import serialization

    folder = Path(folder).expanduser()
    signer = Signer(str(folder / "test-key.pem"), str(folder / "test-cert.pem"))
    chain, private = _test_chain(now or datetime.datetime.now(datetime.UTC), days)
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, data, mode in ((signer.key, secret, 0o600), (signer.certificate, chain, 0o644)):
            Path(path).touch(mode, exist_ok=False)
            Path(path).write_bytes(data)
    except FileExistsError as error:
        raise SigningError(f"{folder} already holds a test certificate; choose another folder") from error
    except OSError as error:
        raise SigningError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
    return signer


def _test_chain(now: datetime.datetime, days: float) -> tuple[bytes, Any]:
    """A certificate with that of its authority (PEM), and its private key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(role: str) -> x509.Name:
        words = {NameOID.ORGANIZATION_NAME: f"{TEST_MARK} (proves nothing)", NameOID.COMMON_NAME: role}
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in words.items()])

    root, private = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = named(f"{TEST_MARK} authority")

    def certificate(subject: x509.Name, public: Any, is_authority: bool) -> bytes:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        )
        usage |= {
            "digital_signature": not is_authority,
            "key_cert_sign": is_authority,
            "crl_sign": is_authority,
        }
        builder = (
            x509.CertificateBuilder(issuer, subject, public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), True)
            .add_extension(x509.KeyUsage(**usage, encipher_only=False, decipher_only=False), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), False)
        )
        if not is_authority:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False
            )
        return builder.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    leaf = certificate(named(f"{TEST_MARK} signer"), private.public_key(), False)
    return leaf + certificate(issuer, root.public_key(), True), private
