"""`v2a redub`: another sound for one part, every other sample as it was, and nothing lost by a kill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import cli, redub, verify
from pipelines import storage
from pipelines.dub import track_plan
from pipelines.dub.state import State
from pipelines.mux import remux
from pipelines.provenance import signing
from pipelines.redub import dubbed
from tests.support import REPOSITORY
from tests.support.dubbing import RATE, film, noise, only_track, quickly, report, titles, track
from tests.support.toy_generators import NOISE, NoiseGenerator, reference

pytestmark = pytest.mark.timeout(600)


def v2a_redub(*arguments: str | Path) -> int:
    words = [str(word) for word in arguments]
    words += ["--model", NOISE] * ("--model" not in words)
    return redub.run(cli.parse(redub.RedubConfig, words, "v2a redub"))


def verified(out: Path, name: str, source: Path) -> dict[str, str]:
    """State by question, of a film that passes."""
    config = verify.VerifyConfig((str(out / name),), source=str(source))
    found = verify.check(str(out / name), config).verdict
    assert found.passed, found
    return found.states


def samples_of(out: Path, name: str, title: str = remux.TITLE) -> np.ndarray:
    """The samples that were encoded."""
    kept = out / "_v2a" / "sound" / f"{report(out)[name]['video_id']}.flac"
    return only_track(kept) if kept.exists() else track(out / name, title)


CASES: dict[str, list[str]] = {
    "a.mkv": [],
    "a.mp4": [],
    "a.webm": ["--loudness", "-30"],
    "a.avi": ["--channels", "stereo"],
    "b.mp4": ["--audio-codec", "flac", "--loudness", "-14"],
}


@pytest.mark.parametrize("name", CASES)
def test_only_that_part_changes(tmp_path: Path, name: str) -> None:
    from tests.support.media_files import write_video

    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    codec = {".webm": "libvpx", ".avi": "mpeg4"}.get(Path(name).suffix, "libx264")
    source = write_video(archive / name, duration_s=5.0, codec=codec, sound="silent")
    quickly(archive, out, *CASES[name])
    before, row = samples_of(out, name), report(out)[name]
    assert v2a_redub(out, name, "--start", "2.1", "--end", "3.4", "--seed", "8") == 0
    after = samples_of(out, name)
    first, last = round(2.1 * RATE), round(3.4 * RATE)
    assert before.shape == after.shape
    assert np.array_equal(before[:, :first], after[:, :first])
    assert np.array_equal(before[:, last:], after[:, last:])
    middle = slice(first + RATE // 10, last - RATE // 10)
    assert np.mean(before[:, middle] != after[:, middle]) > 0.9
    assert verified(out, name, source) == {
        "signature": "none",
        "film": "unchanged",
        "records": "agree-unsigned",
        "picture": "of-source",
        "source": "unchanged",
    }
    assert sorted(titles(out / name)) == sorted(["", remux.TITLE]) or name == "a.avi" or name.endswith("mp4")
    new = report(out)[name]
    assert (
        new["output_sha256"] != row["output_sha256"]
        and "2.1 to 3.4 s regenerated (seed 8)" in new["treatment"]
    )
    side = json.loads((out / "_v2a" / "provenance" / f"{row['video_id']}.json").read_text())
    [edit] = side["edits"]
    assert (edit["start_s"], edit["end_s"], edit["seed"]) == (2.1, 3.4, 8)
    assert not list((out / "_v2a").glob("redub/*")) and not list(out.rglob(".v2a-tmp-*"))

    # Back to the first seed: the very samples of the first time, but for the ramps, where old and new are one.
    assert v2a_redub(out, out / name, "--start", "2.1", "--end", "3.4", "--seed", "0") == 0
    again = samples_of(out, name)
    if "--loudness" not in CASES[name]:  # a limiter hears what came before the part
        assert np.array_equal(again[:, middle], before[:, middle])
    assert np.array_equal(again[:, :first], before[:, :first])
    # A dub of the same archive keeps what was made.
    kept = (out / name).read_bytes()
    quickly(archive, out, *CASES[name])
    assert (out / name).read_bytes() == kept


def test_with_the_film_s_own_sound_and_alternatives_and_a_signature(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    own = noise(5.0, 0.4)
    own[:, RATE : 4 * RATE] = 0
    source = film(archive / "gap.mkv", own, 5.0, "flac")
    signer = signing.make_test_certificate(tmp_path / "keys")
    keys = ["--sign-key", signer.key, "--sign-cert", signer.certificate]
    quickly(archive, out, "--existing", "replace-silent-parts", *keys)
    title = track_plan.TITLES["replace-silent-parts"]
    before = track(out / "gap.mkv", title)
    span = ["--start", "0.5", "--end", "2.5", "--seed", "3"]
    assert v2a_redub(out, "gap.mkv", *span) == 2  # it would lose its signature
    assert v2a_redub(out, "gap.mkv", *span, *keys) == 0
    after = track(out / "gap.mkv", title)
    assert np.array_equal(after[:, :RATE], own[:, :RATE])
    assert np.array_equal(after[:, round(2.5 * RATE) :], before[:, round(2.5 * RATE) :])
    assert not np.array_equal(after[:, : round(2.5 * RATE)], before[:, : round(2.5 * RATE)])
    assert verified(out, "gap.mkv", source)["signature"] == "unknown-signer"
    assert v2a_redub(out, "gap.mkv", "--start", "4.2", "--end", "4.8", "--seed", "3", *keys) == 2


def test_a_sound_file(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    source = film(archive / "reel.mov", None, 3.0)
    quickly(archive, out, "--sidecar", "wav")
    before = only_track(out / "reel.mov.wav")
    assert v2a_redub(out, "reel.mov.wav", "--start", "1", "--end", "2", "--seed", "8") == 0
    after = only_track(out / "reel.mov.wav")
    assert np.array_equal(before[:, :RATE], after[:, :RATE])
    assert np.array_equal(before[:, 2 * RATE :], after[:, 2 * RATE :])
    assert not np.array_equal(before, after)
    assert verified(out, "reel.mov.wav", source)["film"] == "unchanged"


class Other(NoiseGenerator):
    sha256 = "1" * 64


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    film(archive / "reel.mp4", None, 2.0)
    film(archive / "lossy.mp4", None, 2.0)
    quickly(archive, out, "--no-keep-sound")
    whole = {path: path.read_bytes() for path in out.glob("*.mp4")}

    def says(words: str, *arguments: str | Path, code: int = 2) -> None:
        assert v2a_redub(*arguments) == code
        assert words in capsys.readouterr().err

    def span(start: float, end: float) -> list[str]:
        return ["--start", str(start), "--end", str(end), "--seed", "1"]

    says("is not an output folder of v2a dub", archive, "reel.mp4", *span(0, 1))
    says("is not a dubbed file", out, "real.mp4", *span(0, 1))
    says("within the film (2.000 s)", out, "reel.mp4", *span(1, 2.2))
    says("within the film (2.000 s)", out, "reel.mp4", *span(1, 0.5))
    says("1111", out, "reel.mp4", *span(0, 1), "--model", reference(Other))
    # A file names an object: its code is run only if the command names it too.
    for model in (None, ""):
        redubbed = redub.RedubConfig(str(out), "reel.mp4", 0.0, 1.0, seed=1, model=model)
        assert redub.run(redubbed) == 2
        assert f"add --model {NOISE}" in " ".join(capsys.readouterr().err.split())
    says("samples were not kept", out, "reel.mp4", *span(0, 1), code=1)
    assert {path: path.read_bytes() for path in out.glob("*.mp4")} == whole
    with (out / "lossy.mp4").open("ab") as file:
        file.write(b"\0\0\0\x10free somebody")
    says("has changed since it was dubbed", out, "lossy.mp4", *span(0, 1), code=1)
    with (archive / "reel.mp4").open("ab") as file:
        file.write(b"\0\0\0\x10free somebody")
    says("has changed since it was dubbed", out, "reel.mp4", *span(0, 1))
    shutil.rmtree(archive)
    says("give its location with --archive", out, "reel.mp4", *span(0, 1))


@pytest.mark.parametrize("named", [False, True])
def test_a_kill_between_name_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """Killed after all was written down: the next command takes it over if the film has its name, forgets it if not."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    source = film(archive / "reel.mp4", None, 2.0)
    quickly(archive, out)
    before, old = samples_of(out, "reel.mp4"), (out / "reel.mp4").read_bytes()

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(dubbed, "commit", kill)
        with pytest.raises(Killed):
            v2a_redub(out, "reel.mp4", "--start", "0.5", "--end", "1.5", "--seed", "1")
    if not named:
        (out / "reel.mp4").write_bytes(old)
    state = State(str(out))
    video_id = report(out)["reel.mp4"]["video_id"]
    dubbed.resume(state, video_id)
    assert not list((out / "_v2a").glob("redub/*"))
    changed = not np.array_equal(samples_of(out, "reel.mp4"), before)
    assert changed == named
    assert v2a_redub(out, "reel.mp4", "--start", "0.5", "--end", "1.5", "--seed", "1") == 0
    # Until then the report, which is written at a command's end, told of the film before.
    assert verified(out, "reel.mp4", source)["film"] == "unchanged"
    assert storage.size(str(out / "reel.mp4")) == state.read_row(video_id)["output_size"]  # type: ignore[index]


def test_a_part_of_a_painted_film_and_back_again(tmp_path: Path) -> None:
    from tests.support.media_files import write_video
    from tests.support.toy_generators import toy_checkpoint
    from v2a_models.checkpoint import load_generator

    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    write_video(archive / "a.mkv", duration_s=5.0, codec="libx264")
    toy = toy_checkpoint(tmp_path / "toy")
    drawn: list[int] = []

    def load() -> Any:
        generator: Any = load_generator(toy)
        draw = generator.draw

        def counted(batch: Any, *, seeds: Any, **options: Any) -> Any:
            drawn.append(len(seeds))
            return draw(batch, seeds=seeds, **options)

        generator.draw = counted
        return generator

    model = reference(load)
    quickly(archive, out, "--model", model, "--segment-s", "2")
    whole, before = len(drawn), samples_of(out, "a.mkv")
    assert before.any()
    for seed in ("8", "0"):
        drawn.clear()
        span = ["--start", "2.1", "--end", "2.6"]
        assert v2a_redub(out, "a.mkv", *span, "--seed", seed, "--model", model) == 0
        assert 0 < len(drawn) < whole / 2  # only the windows that reach into the part, and their neighbours
        after = samples_of(out, "a.mkv")
        first, last = round(2.1 * RATE), round(2.6 * RATE)
        assert np.array_equal(before[:, :first], after[:, :first])
        assert np.array_equal(before[:, last:], after[:, last:])
        middle = slice(first + RATE // 10, last - RATE // 10)
        assert np.array_equal(before[:, middle], after[:, middle]) == (seed == "0")


IN_A_STORE = """
import sys
from pathlib import Path
from tests.support.dubbing import quickly
from tests.support.toy_generators import NOISE
from jobs import cli, redub
from pipelines import storage

archive, out, folder = Path(sys.argv[1]), "s3://redubbed/out", Path(sys.argv[2])
quickly(archive, out)
(folder / "before.mkv").write_bytes(storage.read_bytes(out + "/a.mkv"))
words = [out, "a.mkv", "--start", "1", "--end", "2", "--seed", "8", "--model", NOISE]
assert redub.run(cli.parse(redub.RedubConfig, words, "v2a redub")) == 0
(folder / "after.mkv").write_bytes(storage.read_bytes(out + "/a.mkv"))
assert not [info.path for info in storage.list_tree(out + "/_v2a") if "redub" in info.path]
"""


def test_in_an_object_store(tmp_path: Path, s3_port: int) -> None:
    from tests.support import servers
    from tests.support.media_files import write_video

    archive = tmp_path / "archive"
    archive.mkdir()
    write_video(archive / "a.mkv", duration_s=3.0, codec="libx264")
    servers.client(s3_port).create_bucket(Bucket="redubbed")
    # A process of its own: S3 clients keep the settings they were made with.
    paths = os.pathsep.join([*sys.path, str(REPOSITORY)])
    environment = {**os.environ, **servers.environment(s3_port), "PYTHONPATH": paths}
    command = [sys.executable, "-c", IN_A_STORE, str(archive), str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=200)
    old, new = (track(tmp_path / name, remux.TITLE) for name in ("before.mkv", "after.mkv"))
    assert np.array_equal(old[:, :RATE], new[:, :RATE])
    assert np.array_equal(old[:, 2 * RATE :], new[:, 2 * RATE :])
    assert not np.array_equal(old, new)


def test_records_of_another_form_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dict.fromkeys(("model", "model_sha256", "recipe", "precision"), "") | {
        "seed": 0,
        "batch_size": 1,
    }
    (tmp_path / "_v2a").mkdir()
    (tmp_path / "_v2a" / "config.json").write_text(json.dumps(settings))
    odd = dubbed.Dubbed({"video_id": "1"}, {"track": {}})
    monkeypatch.setattr(redub, "report_rows", lambda out: [])
    monkeypatch.setattr(dubbed, "find", lambda *_: odd)
    assert redub.run(redub.RedubConfig(str(tmp_path), "a.mp4", 0.0, 1.0, 1)) == 2
    assert "--restart" in capsys.readouterr().err
