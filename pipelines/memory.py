"""Peak memory of this process, and the return of free memory to the system."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path


def reset_peak(device: str = "cpu") -> None:
    """Start a new measurement. Only Linux can: elsewhere the peak stays that of the whole process."""
    if device != "cpu":
        import torch  # here: workers that only decode or mux do not need it

        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib(device: str = "cpu") -> float:
    """Peak in MiB since `reset_peak`: resident memory of the process, or memory that torch allocated on a GPU."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def give_back() -> None:
    """Return freed memory to the system; only with glibc, which keeps it in pieces between blocks in use.

    Without this, a worker that makes and drops large arrays grows by 50 MB per hour of film.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
