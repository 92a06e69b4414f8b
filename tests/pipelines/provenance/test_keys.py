"""Keys: signatures have the form that COSE wants, for every kind of key."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from pipelines.provenance.keys import Loaded

CLAIM = b"a claim"


def loaded(private: Any, algorithm: str) -> Loaded:
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Loaded(pem, b"", algorithm, "somebody")


@pytest.mark.parametrize(
    ("curve", "algorithm", "digest", "width"),
    [
        (ec.SECP256R1(), "es256", hashes.SHA256(), 32),
        (ec.SECP384R1(), "es384", hashes.SHA384(), 48),
        (ec.SECP521R1(), "es512", hashes.SHA512(), 66),
    ],
)
def test_signatures_on_curves(curve: Any, algorithm: str, digest: Any, width: int) -> None:
    private = ec.generate_private_key(curve)
    signature = loaded(private, algorithm).sign(CLAIM)
    assert len(signature) == 2 * width
    numbers = (int.from_bytes(half, "big") for half in (signature[:width], signature[width:]))
    private.public_key().verify(utils.encode_dss_signature(*numbers), CLAIM, ec.ECDSA(digest))


def test_signatures_of_other_kinds() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate()
    edwards.public_key().verify(loaded(edwards, "ed25519").sign(CLAIM), CLAIM)
    prime = rsa.generate_private_key(65537, 2048)
    signature = loaded(prime, "ps256").sign(CLAIM)
    salted = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    prime.public_key().verify(signature, CLAIM, salted, hashes.SHA256())
    with pytest.raises(InvalidSignature):
        prime.public_key().verify(signature, CLAIM + b"!", salted, hashes.SHA256())


def test_a_key_is_never_printed() -> None:
    assert "PRIVATE" not in repr(loaded(ed25519.Ed25519PrivateKey.generate(), "ed25519"))
