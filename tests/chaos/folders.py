"""Faults that take a folder instead of the S3 server: a full disk, films that decoders do not survive."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence

import psutil
import pyarrow.parquet as pq

from tests.chaos.world import MARKS, World, digests
from tests.support.toy_generators import write_video


def full_disk(world: World) -> None:
    """The disk of the output is full half-way, and is given room."""
    whole = world.undisturbed("films")
    world.summary.rounds += 1
    place = world.folder / f"disk-{world.summary.rounds}"
    place.mkdir()
    size = sum(path.stat().st_size for path in (world.folder / "films").iterdir())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 2048}k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        print("disk-full is left out: it takes root to mount a small disk")
        return
    try:
        films, out = str(world.folder / "films"), place / "out"
        world.summary.injected["disk-full"] += world.run(films, str(out)) != 0
        early = digests(out)
        world.summary.torn += [f"{out}/{name}" for name, tag in early.items() if whole.get(name) != tag]
        subprocess.run(["mount", "-o", "remount,size=256m", str(place)], check=True)
        world.finish(films, str(out))
        world.check("disk-full", digests(out), whole)
        world.summary.left += [str(path) for path in out.rglob(".v2a-tmp-*")]
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def bad_films(world: World, kinds: Sequence[str]) -> None:
    """Films that end, or stop, every decoder that opens them; then they do so no more."""
    films = world.folder / "bad films"
    for name in (*kinds, "good"):
        write_video(films / f"{name}.mp4", 20.0, fps=25, size=(480, 360))
    whole = world.undisturbed("bad films")
    world.summary.rounds += 1
    out = world.folder / f"bad-{world.summary.rounds}"
    over = threading.Event()
    struck: Counter[str] = Counter()

    def hunt() -> None:
        stopped: set[int] = set()
        children: list[psutil.Process] = []
        looked = 0.0
        while not over.wait(0.005):
            if time.monotonic() - looked > 0.5:
                children, looked = world.processes(MARKS["decoder"]), time.monotonic()
            for child in children:
                for kind in kinds:
                    if child.pid not in stopped and _has_open(child.pid, str(films / f"{kind}.mp4")):
                        stopped.add(child.pid)
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child.pid, signal.SIGSEGV if kind == "film-segfault" else signal.SIGSTOP)
                            struck[kind] += 1

    thread = threading.Thread(target=hunt, daemon=True)
    thread.start()
    world.run(str(films), str(out))
    over.set()
    thread.join()
    world.summary.injected += struck
    rows = pq.read_table(out / "_v2a" / "report.parquet").to_pylist()
    states = {row["path"]: (row["status"], row["error_class"]) for row in rows}
    classes = {"film-segfault": "DecoderCrashed", "film-hang": "DecoderTimeout"}
    expected = {f"{kind}.mp4": ("failed", classes[kind]) for kind in kinds if struck[kind]}
    expected["good.mp4"] = ("dubbed", "")
    world.note(f"films that stop decoders: {states}, {dict(struck)}")
    for name, state in expected.items():
        if states.get(name) != state:
            world.summary.lost.append(f"{out.name}/{name}: the report says {states.get(name)}")
    world.finish(str(films), str(out))
    world.check("bad films", digests(out), whole)


def _has_open(pid: int, path: str) -> bool:
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) == path:
                    return True
    return False
