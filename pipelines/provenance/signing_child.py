"""Child process that makes a signed copy of one file, which is untrusted.

It follows the protocol of `pipelines.sandbox.child` (`python -P -m pipelines.provenance.signing_child`). It reads and
writes the boxes of the file and never has the key: the parent makes the one signature, over bytes that come through a
socket (order `signer`, `pipelines.sandbox.lent_files.Service`).
"""

from __future__ import annotations

import os
import socket
from typing import IO, Any

import c2pa

from pipelines.provenance import signing
from pipelines.sandbox.child import BeatingFile, serve
from pipelines.sandbox.lent_files import ask, borrowed


def _sign_answer(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """The manifest in hex digits, or the error."""
    try:
        return {"manifest": _sign(order).hex()}
    except c2pa.C2paError as error:
        return {"error": "signing", "message": str(error)[:1000]}
    except OSError as error:
        return {"error": "storage", "message": error.strerror or str(error)}


def _sign(order: dict[str, Any]) -> bytes:
    service = socket.socket(fileno=order["signer"])
    with borrowed(order["file"]) as source, open(order["signed"], "w+b") as destination:
        manifest = signing.sign_stream(
            order["algorithm"],
            order["chain"].encode(),
            lambda claim: ask(service, claim),
            order["definition"],
            order["mime"],
            BeatingFile(source),
            BeatingFile(destination),
        )
        destination.flush()
        os.fsync(destination.fileno())
    return manifest


if __name__ == "__main__":
    serve(_sign_answer, signing.warm_up)
