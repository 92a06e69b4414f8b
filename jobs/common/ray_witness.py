"""A small process that outlives the job for a moment, and says why it ended if Ray ended it.

When the raylet of its machine dies, Ray's C++ side may end a driver at once, without a word and before any Python runs.
`jobs.common.ray_processes` starts this file as a script: it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys

OVER = b"over"
"""Bytes that the job writes when it ends by itself."""


def main() -> None:
    """Wait for the end of standard input, which is the job's; print the text of `sys.argv[2]` unless it was `OVER`.

    `sys.argv[1]`: JSON of what to watch, name -> [host, port, process id or 0].
    """
    watched: dict[str, tuple[str, int, int]] = json.loads(sys.argv[1])
    poll, names, dead = select.poll(), dict[int, str](), list[str]()
    poll.register(0, select.POLLIN | select.POLLHUP)
    for name, (_, _, pid) in watched.items():
        if pid:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                dead.append(name)
            except (OSError, AttributeError):  # none but Linux has it
                continue
            else:
                names[handle] = name
                poll.register(handle, select.POLLIN)
    # The first that ends: where Ray runs on this machine alone, it ends with the job as well.
    dead += [names[fd] for fd, _ in poll.poll() if fd in names]
    # No more bytes than these: a child that the job has forked may hold the pipe open after the job has ended.
    if sys.stdin.buffer.read(len(OVER)) == OVER:
        return
    dead += [name for name, (host, port, pid) in watched.items() if not pid and refuses(host, port)]
    if dead:
        print(sys.argv[2].replace("WHAT", " and ".join(dead)), file=sys.stderr, flush=True)


def refuses(host: str, port: int) -> bool:
    """True if nobody listens there."""
    try:
        socket.create_connection((host, port), timeout=5.0).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


if __name__ == "__main__":
    main()
