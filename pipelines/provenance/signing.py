"""Signing dubbed files by C2PA: the certificate, the manifest, and the signature.

Formats that C2PA knows (mp4, mov, avi) carry their manifest; others get it as a file beside them, `NAME.c2pa`,
bound by the sha256 of all their bytes. The manifest also holds sha256 of the packets of every track: those survive
a copy into another container, which the binding to bytes does not.

Nothing here uses the network: no time stamp authority is asked, no manifest is fetched. A private key is read
where it is used and goes to the signing process through a pipe.
"""

from __future__ import annotations

import datetime
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import storage
from pipelines.provenance import sidecar

ASSERTION = "org.v2a.provenance"
"""Label of our own assertion in the manifest: the facts of the sidecar."""

TEST_MARK = "v2a TEST certificate"
"""In the names of certificates made by `make_test_certificate`."""

MIME = {".mp4": "video/mp4", ".m4v": "video/x-m4v", ".mov": "video/quicktime", ".qt": "video/quicktime"} | {
    ".avi": "video/x-msvideo",
    ".wav": "audio/wav",
}
"""What carries its manifest inside, by suffix."""

BESIDE = ".c2pa"
"""Added to a file's name: the manifest of a file that cannot carry it."""

SETTINGS: dict[str, Any] = {
    # Checked by `v2a verify`; checking at once would read every file once more.
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}

MEMORY_MB = 2048
"""Address space of the process that signs."""

STALL_S = 120.0
"""Seconds without progress after which that process is killed."""

_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


class SigningError(Exception):
    """The key or the certificate cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Signer:
    """Where key and certificate are. Holds no secret itself, so that it can travel and be shown."""

    key: str
    """PEM file of the private key, not encrypted, on every machine that signs."""
    certificate: str
    """PEM file: the signer's certificate first, then those that lead to its authority."""


@dataclass(frozen=True)
class Loaded:
    """Key and certificate in memory. Not for printing: `key` is the secret."""

    key: bytes
    chain: bytes
    algorithm: str
    """C2PA's name: es256, es384, es512, ps256 or ed25519."""
    name: str
    expires: datetime.datetime

    def __repr__(self) -> str:
        return f"Loaded({self.name!r})"


def embeds(name: str) -> bool:
    """Whether a file of that name carries its manifest inside."""
    return Path(name).suffix.lower() in MIME


def load(signer: Signer, now: datetime.datetime | None = None) -> Loaded:
    """Key and certificate, checked against each other and the time (default: now). Raises SigningError."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    now = now or datetime.datetime.now(datetime.UTC)
    chain, key = _read(signer.certificate, "certificate"), _read(signer.key, "key")
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError) as error:
        raise SigningError(f"{signer.certificate} holds no certificate in PEM form") from error
    try:
        private: Any = serialization.load_pem_private_key(key, None)
    except TypeError as error:
        raise SigningError(f"{signer.key} is encrypted; give a key without a password") from error
    except ValueError as error:
        raise SigningError(f"{signer.key} holds no private key in PEM form") from error
    if private.public_key() != leaf.public_key():
        raise SigningError(
            f"{signer.key} is not the key of {signer.certificate}; give the pair that was issued together "
            "(the signer's certificate must come first in its file)"
        )
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now > ends:
        raise SigningError(
            f"the certificate {signer.certificate} expired on {ends:%Y-%m-%d}; renew it, or leave "
            "--sign-key and --sign-cert out to write unsigned files"
        )
    if now < begins:
        raise SigningError(
            f"the certificate {signer.certificate} is not valid before {begins:%Y-%m-%d %H:%M} UTC; "
            "check this machine's clock, or take another certificate"
        )
    return Loaded(key, chain, _algorithm(private, signer.key), leaf.subject.rfc4514_string(), ends)


def _read(path: str, what: str) -> bytes:
    if path.lstrip().startswith("-----BEGIN"):  # never show it
        raise SigningError(f"give the path of the file with the {what}, not its content")
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise SigningError(
            f"cannot read the {what} {path}: {error.strerror} (check path and rights)"
        ) from error


def _algorithm(private: Any, path: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return _CURVES[private.curve.name]
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "ps256"
    raise SigningError(f"{path}: C2PA takes keys on P-256, P-384, P-521, Ed25519 and RSA from 2048 bits on")


def check(signer: Signer) -> Loaded:
    """`load`, and a trial: a small picture is signed and read. Raises SigningError."""
    import c2pa
    from PIL import Image

    loaded = load(signer)
    blank = io.BytesIO()
    Image.new("RGB", (8, 8)).save(blank, "jpeg")
    try:
        signed = io.BytesIO()
        blank.seek(0)
        sign_stream(loaded, manifest({}, "trial", "", "0"), "image/jpeg", blank, signed)
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
    """The C2PA manifest of a dubbed file: what was done, with what, to which source. No signature yet.

    facts: those of the sidecar (`provenance.sidecar`); title: name of the file.
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
    loaded: Loaded, definition: dict[str, Any], mime: str, source: Any, destination: Any
) -> bytes:
    """Sign the open file `source` by `definition` (of `manifest`); the manifest's bytes.

    destination: gets the signed copy where `mime` is in MIME, or image/jpeg; otherwise the manifest is made to lie
    beside the file. Raises c2pa.C2paError.
    """
    import c2pa

    builder = c2pa.Builder.from_json(definition, context=c2pa.Context.from_dict(SETTINGS))
    if mime not in (*MIME.values(), "image/jpeg"):
        builder.set_no_embed()
    info = c2pa.C2paSignerInfo(loaded.algorithm.encode(), loaded.chain, loaded.key, None)
    return bytes(builder.sign(c2pa.Signer.from_info(info), mime, source, destination))


def sign_file(signer: Signer, definition: dict[str, Any], path: Path, name: str) -> bytes:
    """Sign the local file `path`, which will be called `name`, in a process of its own; the manifest's bytes.

    Where C2PA knows the format the file is replaced by one that carries the manifest, in one step; otherwise it
    stays as it is. Raises SigningError, storage.StorageError for the disk.
    """
    from pipelines.sandbox import child

    loaded = load(signer)
    mime = MIME.get(Path(name).suffix.lower(), "application/octet-stream")
    signed = path.with_name(path.name + ".signed" + path.suffix)
    order = {
        "path": str(path.absolute()),
        "signed": str(signed.absolute()),
        "mime": mime,
        "definition": definition,
        "key": loaded.key.decode(),
        "chain": loaded.chain.decode(),
        "algorithm": loaded.algorithm,
    }
    try:
        answer = child.converse("pipelines.provenance.signing_child", order, MEMORY_MB, STALL_S)
        if "error" in answer:
            words = f"cannot sign {name}: {answer.get('message')}"
            raise storage.StorageError(words) if answer["error"] == "storage" else SigningError(words)
        if mime in MIME.values():
            signed.replace(path)
        return bytes.fromhex(answer["manifest"])
    except child.ChildFailed as error:
        raise SigningError(f"cannot sign {name}: {error.message}") from error
    except OSError as error:
        raise storage.kind_of(error)(f"cannot write in {path.parent}: {error.strerror or error}") from error
    finally:
        signed.unlink(missing_ok=True)


def make_test_certificate(
    folder: str | Path, days: int = 365, now: datetime.datetime | None = None
) -> Signer:
    """Write `test-key.pem` and `test-cert.pem` into `folder`: for trying out, trusted by nobody, and named so.

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
        raise SigningError(f"{folder} holds a test certificate already; choose another folder") from error
    except OSError as error:
        raise SigningError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error
    return signer


def _test_chain(now: datetime.datetime, days: int) -> tuple[bytes, Any]:
    """A certificate with its authority's, PEM, and the private key of the first."""
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
