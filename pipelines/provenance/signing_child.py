"""Child process that signs: `python -m pipelines.provenance.signing_child`. It parses untrusted files.

One line of JSON on standard input, the key in it; a `.` now and then while it advances, and one line of JSON at the
end (`pipelines.sandbox.child.converse`).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

from pipelines.provenance import signing
from pipelines.sandbox.child import Beating
from pipelines.sandbox.limits import limit_this_process


def main() -> None:
    """Sign one file, answer on standard output."""
    order = json.loads(sys.stdin.buffer.readline())
    limit_this_process(order["memory_mb"], order["parent"], may_write=True)
    import c2pa

    try:
        answer = {"manifest": _sign(order).hex()}
    except c2pa.C2paError as error:
        answer = {"error": "signing", "message": str(error)}
    except OSError as error:
        answer = {"error": "storage", "message": error.strerror or str(error)}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


def _sign(order: dict[str, Any]) -> bytes:
    never = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    loaded = signing.Loaded(order["key"].encode(), order["chain"].encode(), order["algorithm"], "", never)
    embeds = order["mime"] in signing.MIME.values()
    with contextlib.ExitStack() as files:
        source = files.enter_context(Path(order["path"]).open("rb"))
        where = order["signed"] if embeds else os.devnull
        destination = files.enter_context(Path(where).open("w+b"))
        made = signing.sign_stream(
            loaded, order["definition"], order["mime"], Beating(source), Beating(destination)
        )
        destination.flush()
        if embeds:
            os.fsync(destination.fileno())
    return made


if __name__ == "__main__":
    main()
