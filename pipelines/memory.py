"""The most memory that this process has held, from one moment on; and giving back what it no longer needs."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path


def reset_peak(device: str = "cpu") -> None:
    """Begin anew. Where the system cannot forget (not Linux), the peak stays that of the whole process."""
    if device != "cpu":
        import torch  # here: workers that only decode or mux do without

        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib(device: str = "cpu") -> float:
    """MiB held at most since `reset_peak`: resident memory of the process, or on a GPU what torch allocated there."""
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
    """Return to the system what was freed. glibc keeps it, in pieces between what is still in use: a worker that makes
    and drops large arrays grows by 50 MB per hour of film without. Elsewhere it does nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
