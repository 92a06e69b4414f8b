"""A short run of the campaign of `make fuzz`, and what the decoding child opens while it reads such files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import __main__
from tests.support import REPOSITORY


def test_damaged_and_hostile_files_reach_nobody(tmp_path: Path) -> None:
    tally = __main__.campaign(160, seed=7, keep=tmp_path / "kept")
    assert not tally.escapes and not tally.fetched, "\n".join(tally.lines())
    assert sum(tally.outcomes.values()) == tally.inputs == 160
    # Neither all refused nor all harmless, or it would show nothing.
    assert tally.outcomes["decoded with sound"] > 10
    assert tally.outcomes["scan: failed NotAVideo"] > 5
    assert tally.outcomes["scan: failed ForbiddenFormat"] > 10


def test_an_input_is_a_function_of_seed_and_number(tmp_path: Path) -> None:
    seeds = __main__.corpus(tmp_path, "http://127.0.0.1:9/x", "/nowhere")
    again = [__main__.made(number, seeds, 3) for number in range(200)]
    assert again == [__main__.made(number, seeds, 3) for number in range(200)]
    assert again[50:] != [__main__.made(number, seeds, 4) for number in range(50, 200)]
    names = {name for name, _ in again}
    assert names == set(seeds)


def test_an_escape_is_counted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object) -> str:
        raise KeyError("something nobody thought of")

    monkeypatch.setattr(__main__, "examine", stumble)
    tally = __main__.campaign(2, seed=0, keep=tmp_path / "kept")
    assert len(tally.escapes) == 2 and "something nobody thought of" in tally.escapes[0]
    assert len(list((tmp_path / "kept").iterdir())) == 2


CODE = """
import sys
from pathlib import Path
from pipelines.media.errors import DecodeFailed
from pipelines.sandbox.decoder import Sandbox, View
with Sandbox(threads=1) as sandbox:
    for path in sys.argv[1:]:
        try:
            sandbox.probe(path)
            sandbox.decode_views(path, [View(5, 32, 32)], 0.0, 0.2)
        except DecodeFailed as error:
            print(Path(path).name, error.error_class)
"""


def test_the_kernel_sees_no_other_file_and_no_connection(tmp_path: Path) -> None:
    """By its system calls, a child opens the input and Python's own modules, and nothing else."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    secret = tmp_path / "secret"
    secret.write_text("what nobody may read")
    seeds = __main__.corpus(tmp_path, "http://127.0.0.1:9/stolen.ts", str(secret))
    folder = tmp_path / "inputs"
    folder.mkdir()
    paths = []
    for name in [*sorted(set(seeds) - set(__main__.KINDS)), "a.mp4"]:
        paths.append(folder / name)
        paths[-1].write_bytes(seeds[name])
    log = tmp_path / "calls"
    traced = ["strace", "-f", "-qq", "-e", "trace=open,openat,connect,execve", "-o", str(log)]
    done = subprocess.run(
        [*traced, sys.executable, "-c", CODE, *map(str, paths)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    refused = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert set(__main__.bait("", "")) <= set(refused) and "a.mp4" not in refused
    assert set(refused.values()) == {"ForbiddenFormat", "NotAVideo"}
    calls = log.read_text().splitlines()
    start = next(k for k, call in enumerate(calls) if str(folder) in call and "openat" in call)
    later = [call for call in calls[start:] if "ENOENT" not in call]
    assert sum(str(folder) in call for call in later) >= len(paths)
    assert not [call for call in later if "secret" in call or "execve" in call]
    assert not [call for call in later if re.search(r"connect\(.*AF_INET", call)]
    opened = {found for call in later for found in re.findall(r'open(?:at)?\([^"]*"([^"]+)"', call)}
    allowed = (str(folder), sys.prefix, sys.base_prefix, str(REPOSITORY), "/proc/", "/sys/", "/usr/lib",
               "/lib/", "/etc/ld.so.cache", str(Path(sys.prefix).resolve()))  # fmt: skip
    assert not {path for path in opened if path.startswith("/") and not path.startswith(allowed)}
