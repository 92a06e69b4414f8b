"""Child process that signs one file, which is untrusted: `python -P -m pipelines.provenance.signing_child`.

It follows the protocol of `pipelines.sandbox.child`; the order holds the private key.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, Any

from pipelines.provenance import signing
from pipelines.sandbox.child import BeatingFile, serve


def _sign_answer(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """The manifest in hex digits, or the error."""
    import c2pa  # after the limits are set

    try:
        return {"manifest": _sign(order).hex()}
    except c2pa.C2paError as error:
        return {"error": "signing", "message": str(error)}
    except OSError as error:
        return {"error": "storage", "message": error.strerror or str(error)}


def _sign(order: dict[str, Any]) -> bytes:
    loaded = signing.Loaded(order["key"].encode(), order["chain"].encode(), order["algorithm"])
    embeds = order["mime"] in signing.MIME.values()
    with contextlib.ExitStack() as files:
        source = files.enter_context(Path(order["path"]).open("rb"))
        destination = files.enter_context(Path(order["signed"] if embeds else os.devnull).open("w+b"))
        manifest = signing.sign_stream(
            loaded, order["definition"], order["mime"], BeatingFile(source), BeatingFile(destination)
        )
        destination.flush()
        if embeds:
            os.fsync(destination.fileno())
    return manifest


if __name__ == "__main__":
    serve(_sign_answer, may_write=True)
