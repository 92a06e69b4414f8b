"""A short run of the campaign of `make fuzz`, and what the decoding child opens while it reads such files."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.dub import finish
from pipelines.sandbox.decoder import Sandbox
from tests.fuzz import __main__, corpus, line, structured
from tests.support import REPOSITORY, media_files


def test_damaged_and_hostile_films_end_as_one_row_each(tmp_path: Path) -> None:
    """Four dozen films through a whole dub: the unchanged ones of every container, and damaged ones."""
    tally = __main__.campaign(48, seed=7, keep=tmp_path / "kept")
    assert tally.clean, "\n".join(tally.lines())
    assert sum(tally.outcomes.values()) == tally.inputs == 48
    # Neither all refused nor all harmless, or it would show nothing.
    assert tally.outcomes["dubbed"] > 12
    assert tally.outcomes["failed ForbiddenFormat"] > 5
    assert tally.outcomes["failed NotAVideo"] > 2
    said = "\n".join(tally.lines())
    assert "violations: 0;" in said and "slowest: " in said and "largest memory: parent" in said


def test_an_input_is_a_function_of_seed_and_number(tmp_path: Path) -> None:
    seeds = corpus.corpus(tmp_path, "http://127.0.0.1:9/x", "/nowhere")
    again = [corpus.made(number, seeds, 3) for number in range(200)]
    assert again == [corpus.made(number, seeds, 3) for number in range(200)]
    assert again[50:] != [corpus.made(number, seeds, 4) for number in range(50, 200)]
    names = {name for name, _ in again}
    assert names == set(seeds)


def test_edits_of_the_structure_leave_most_of_a_film(tmp_path: Path) -> None:
    seeds = corpus.corpus(tmp_path, "http://127.0.0.1:9/x", "/nowhere")
    for name in corpus.KINDS:
        if (suffix := Path(name).suffix) not in structured.EDITS:
            continue
        made = [structured.edited(seeds[name], suffix, random.Random(f"{k}")) for k in range(40)]
        assert made == [structured.edited(seeds[name], suffix, random.Random(f"{k}")) for k in range(40)]
        changed = [data for data in made if data != seeds[name]]
        assert len(set(changed)) > 20, name
        assert sum(data[:4] == seeds[name][:4] for data in changed) > 10, name
    assert corpus.made(900, seeds, 3, structured=1.0) != corpus.made(900, seeds, 3, structured=0.0)


def test_a_violation_is_counted_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble(*_: object) -> line.End:
        raise KeyError("something nobody thought of")

    monkeypatch.setattr(line.Line, "dub", stumble)
    kept = tmp_path / "kept"
    monkeypatch.setattr(
        sys, "argv", ["fuzz", "--inputs", "2", "--seed", "5", "--first", "3", "--keep", str(kept)]
    )
    assert __main__.main() == 1
    said = capsys.readouterr().out
    assert "violations: 2;" in said and "something nobody thought of" in said
    assert "seed 5, input 3: KeyError" in said
    files = sorted(kept.iterdir())
    assert len(files) == 2 and all(str(path) in said and path.name.startswith("5-") for path in files)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--inputs", "9", "--minutes", "1e-9", "--keep", str(kept)])
    assert __main__.main() == 0 and "to go on: --seed 0 --first 0 --inputs 9" in capsys.readouterr().out


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[line.Line]:
    with Sandbox(threads=1) as sandbox:
        yield line.Line(tmp_path_factory.mktemp("line"), sandbox)


def harm_the_original(job: Any, *_: object) -> None:
    Path(job.out, "..", "archive", "a.mp4").write_bytes(b"harmed")


def leave_a_file(job: Any, *_: object) -> None:
    Path(job.out, ".v2a-tmp-1-00000000-a.mp4").write_bytes(b"left")


children: list[subprocess.Popen[bytes]] = []


def leave_a_child(*_: object) -> None:
    children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))


def stumble_in_a_stage(*_: object) -> None:
    raise KeyError("in a stage")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (harm_the_original, "archive has changed"),
        (leave_a_file, "left behind"),
        (leave_a_child, "children are left"),
        (stumble_in_a_stage, "failed by KeyError: 'in a stage'"),
    ],
)
def test_each_kind_of_violation_is_seen(
    bench: line.Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, harm: Any, words: str
) -> None:
    film = media_files.write_video(tmp_path / "a.mp4", duration_s=0.2).read_bytes()
    assert str(bench.dub("a.mp4", film, 0)) == "dubbed"
    whole = finish.finish_film

    def harmful(task: Any, job: Any) -> Any:
        harm(job)
        return whole(task, job)

    monkeypatch.setattr(finish, "finish_film", harmful)
    with pytest.raises(line.Violation, match=words):
        bench.dub("a.mp4", film, 0)
    for child in children:
        child.kill()
        child.wait()


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
    seeds = corpus.corpus(tmp_path, "http://127.0.0.1:9/stolen.ts", str(secret))
    folder = tmp_path / "inputs"
    folder.mkdir()
    paths = []
    for name in [*sorted(set(seeds) - set(corpus.KINDS)), "a.mp4"]:
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
    assert set(corpus.bait("", "")) <= set(refused) and "a.mp4" not in refused
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
