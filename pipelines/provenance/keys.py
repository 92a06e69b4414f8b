"""Keys and certificates to sign with. A private key stays in the process that loads it, which parses no film."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


class SigningError(Exception):
    """The key or the certificate cannot be used; the message tells the fix."""


@dataclass(frozen=True)
class Signer:
    """Paths of key and certificate. Holds no secret itself, so it can be sent and printed."""

    key: str
    """PEM file of the private key, unencrypted, on every machine that signs."""
    certificate: str
    """PEM file: the signer's certificate, then the chain to its authority."""


@dataclass(frozen=True)
class Loaded:
    """Key and certificate in memory. Never print `key`, the secret."""

    key: bytes
    chain: bytes
    algorithm: str
    """C2PA's name: es256, es384, es512, ps256 or ed25519."""
    name: str = ""
    serial: str = ""
    """Serial number of the certificate, in decimal."""

    def __repr__(self) -> str:
        return f"Loaded({self.name!r})"

    def sign(self, claim: bytes) -> bytes:
        """Signature of `claim` in the form that COSE wants (RFC 9053)."""
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

        private: Any = serialization.load_pem_private_key(self.key, None)
        if self.algorithm == "ed25519":
            return bytes(private.sign(claim))
        if self.algorithm == "ps256":
            salted = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
            return bytes(private.sign(claim, salted, hashes.SHA256()))
        kinds: dict[str, Any] = {"es256": hashes.SHA256, "es384": hashes.SHA384, "es512": hashes.SHA512}
        width = (private.curve.key_size + 7) // 8
        numbers = utils.decode_dss_signature(private.sign(claim, ec.ECDSA(kinds[self.algorithm]())))
        return b"".join(number.to_bytes(width, "big") for number in numbers)


def load(signer: Signer, now: datetime.datetime | None = None) -> Loaded:
    """Key and certificate, checked against each other and against the time `now`. Raises SigningError."""
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
            f"the certificate {signer.certificate} expired on {ends:%Y-%m-%d}; renew it, or drop "
            "--sign-key and --sign-cert to write unsigned files"
        )
    if now < begins:
        raise SigningError(
            f"the certificate {signer.certificate} is not valid before {begins:%Y-%m-%d %H:%M} UTC; "
            "check this machine's clock, or use another certificate"
        )
    name, serial = leaf.subject.rfc4514_string(), str(leaf.serial_number)
    return Loaded(key, chain, _algorithm(private, signer.key), name, serial)


def _read(path: str, kind: str) -> bytes:
    if path.lstrip().startswith("-----BEGIN"):  # never print it
        raise SigningError(f"give the path of the file with the {kind}, not its content")
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise SigningError(
            f"cannot read the {kind} {path}: {error.strerror} (check path and rights)"
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
