"""Prompts of `v2a dub`: from the command line through the stages into the sound and the report."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import cli
from jobs.common.verb import WrongUsage
from jobs.dub import DubConfig, command
from jobs.dub.preflight import check_identity, make_job
from pipelines.archive import scan
from pipelines.dub import decode, finish, plan
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.item import Item
from pipelines.dub.state import State
from pipelines.reports import dub_page
from pipelines.sandbox.decoder import Sandbox
from tests.support.language_model import base_folder
from tests.support.toy_generators import reference, write_video
from tests.support.train_store import recipe
from v2a_models.build import new_generator
from v2a_models.checkpoint import load_generator, save_generator


def config(model: str, out: Path, **more: Any) -> DubConfig:
    return DubConfig("archive", str(out), model=model, precision="float32", **{"negative": ""} | more)


def test_a_prompt_changes_the_sound_and_stands_in_the_report_with_the_caption(
    vatt: str, tmp_path: Path
) -> None:
    write_video(tmp_path / "archive" / "short.mp4", 0.5)
    sounds, rows = [], []
    with Sandbox() as sandbox:
        [video] = scan.scan(str(tmp_path / "archive"), sandbox)
        for name, texts in (("plain", {}), ("drum", {"prompt": "a drum"}), ("not", {"negative": "a drum"})):
            job = make_job(config(vatt, tmp_path / name, **texts))
            [task] = plan.plan_file(job, video, "short.mp4", "short.mp4.mkv")
            [item] = Dubber(job).generate([decode.decode_task(task, job, sandbox)])
            assert item.failure is None
            sounds.append(item.arrays["sound"])
            row = finish.finish_item(item, job)
            assert row is not None and row["status"] == "dubbed"
            assert row["prompt"] == texts.get("prompt", "") and row["negative"] == texts.get("negative", "")
            rows.append(row)
    assert not any(np.array_equal(sounds[a], sounds[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    told = rows[1]["caption"]
    assert told and told == rows[0]["caption"]  # says what is seen, whatever is asked for
    dub_page.write(str(tmp_path / "drum"), [rows[1]], {})
    kept = pq.read_table(tmp_path / "drum" / "_v2a" / "report.parquet").to_pylist()[0]
    assert (kept["prompt"], kept["caption"]) == ("a drum", told)
    assert "a drum" in (tmp_path / "drum" / "_v2a" / "report.html").read_text()


@pytest.mark.parametrize("name", ["film.mp4", "film.avi"])
def test_captions_of_every_window_become_subtitles(vatt: str, tmp_path: Path, name: str) -> None:
    write_video(tmp_path / "archive" / name, 12.0)
    out, saying = tmp_path / "out", reference(saying_when(vatt))
    with Sandbox() as sandbox:
        [video] = scan.scan(str(tmp_path / "archive"), sandbox)
        job = make_job(config(vatt, out, captions=True, segment_s=7.0))
        assert job.identity()["captions"] == "subtitles"
        for task in plan.plan_file(job, video, name, name + ".mkv"):
            items = Item.from_table(decode.decode_task(task, job, sandbox).to_table())
            [item] = Dubber(dataclasses.replace(job, model=saying)).generate(items)
            assert item.failure is None
            row = finish.finish_item(*Item.from_table(item.to_table()), job)
    assert task.n_segments > 1 and row is not None and row["status"] == "dubbed"
    texts = [cue["text"] for cue in row["captions"]]
    # Drawn in two waves, told in the order of the film; the window that two segments share is told by both.
    assert sorted(texts) == [f"sound {k}" for k in range(len(texts))] and row["caption"] == "; ".join(texts)
    assert len(texts) >= row["n_windows"]
    ends = [cue["end_s"] for cue in row["captions"]]
    assert [cue["start_s"] for cue in row["captions"]] == pytest.approx([0.0, *ends[:-1]])
    assert ends[-1] == row["duration_s"]
    if name == "film.mp4":
        with av.open(str(out / name)) as film:
            shown = [bytes(packet)[2:].decode() for packet in film.demux(film.streams.subtitles[0])]
        assert [text for text in shown if text] == texts and row["subtitles"] == "track"
    else:
        assert row["subtitles"] == "film.avi.srt"
        assert (out / "film.avi.srt").read_text().split("\n\n")[1].splitlines()[2] == texts[1]
    dub_page.write(str(out), [row], {})
    [kept] = pq.read_table(out / "_v2a" / "report.parquet").to_pylist()
    assert kept["captions"] == row["captions"] and kept["subtitles"] == row["subtitles"]
    assert '"sound 1"' in (out / "_v2a" / "report.html").read_text()


def saying_when(model: str) -> Any:
    """Loads the model with captions that count its calls, one a window."""
    calls = itertools.count()

    def load() -> Any:
        generator: Any = load_generator(model)
        generator.captions = lambda batch: [f"sound {next(calls)}" for _ in range(len(batch))]
        return generator

    return load


def test_the_command_names_the_texts_and_resuming_needs_the_same(vatt: str, tmp_path: Path) -> None:
    wanted = config(vatt, tmp_path, prompt="a drum, no music")
    assert "--prompt 'a drum, no music'" in command(wanted)
    job = make_job(wanted)
    assert job.identity()["prompt"] == "a drum, no music" and "negative" not in job.identity()
    State(str(tmp_path)).write_config(job.identity() | {"archive": str(Path("archive").resolve())})
    check_identity(wanted, job)
    for other in (dataclasses.replace(wanted, prompt="rain"), dataclasses.replace(wanted, prompt="")):
        with pytest.raises(WrongUsage, match="prompt: a drum, no music there"):
            check_identity(other, make_job(other))


def test_what_cannot_be_followed_is_refused_before_anything_starts(vatt: str, tmp_path: Path) -> None:
    for texts in ({"prompt": "a drum"}, {"negative": "music"}):
        with pytest.raises(WrongUsage, match="takes no text prompts"):
            make_job(config("mini", tmp_path, **texts))
    with pytest.raises(WrongUsage, match="writes no captions: drop --captions"):
        make_job(config("mini", tmp_path, captions=True))
    with pytest.raises(WrongUsage, match="tokens, the model reads at most 32"):
        make_job(config(vatt, tmp_path, prompt="a drum and " * 40))
    with pytest.raises(WrongUsage, match="does not know: '☃'"):
        make_job(config(vatt, tmp_path, negative="☃"))


def test_a_prompt_of_nothing_is_none(vatt: str, tmp_path: Path) -> None:
    job = make_job(config(vatt, tmp_path, prompt=" \n", negative="  "))
    assert (job.prompt, job.negative) == ("", "") and job.identity() == make_job(
        config(vatt, tmp_path)
    ).identity()


def test_the_base_of_an_adapter_is_looked_for_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, films = base_folder(tmp_path / "base", "gemma"), tmp_path / "films"
    films.mkdir()
    save_generator(new_generator("vatt-converter", recipe(), base=str(base)), tmp_path / "converter")
    tiny: dict[str, Any] = dict(dim=32, separate=1, shared=1, heads=2)
    made = new_generator("vatt", recipe(), converter=str(tmp_path / "converter"), **tiny)
    save_generator(made, tmp_path / "vatt")
    wanted = config(str(tmp_path / "vatt"), tmp_path / "out")
    assert make_job(wanted).model_name == "vatt"
    caption = ["caption", str(films), "--out", str(tmp_path / "a.parquet"), "--model", wanted.model]
    base.rename(tmp_path / "elsewhere")
    words = f"the language model '{base}' was not found.*licence"
    with pytest.raises(WrongUsage, match=words):
        make_job(wanted)
    assert cli.main(caption) == 2 and re.search(words, " ".join(capsys.readouterr().err.split()))
    base_folder(base, "gemma", seed=1)
    with pytest.raises(WrongUsage, match=r"this adapter belongs to .* get the release it was trained with"):
        make_job(wanted)
    assert cli.main(caption) == 2 and "this adapter belongs to" in capsys.readouterr().err


def test_what_nobody_wants_is_discouraged_where_the_model_knows_the_words(vatt: str, tmp_path: Path) -> None:
    from v2a_models.checkpoint_files import read_config
    from v2a_models.vatt.language import UNWANTED, train_tokenizer, usual_negative

    known = read_config(Path(vatt))
    settings = known["model"]["settings"]
    found = {}
    for name, texts in {"knows": ["a drum, no music", "speech, music, speech"], "not": ["a drum"]}.items():
        converter = {**settings["converter"], "tokenizer": train_tokenizer(texts)}
        found[name] = usual_negative({**known, "model": {"settings": {**settings, "converter": converter}}})
    assert found == {"knows": UNWANTED, "not": ""}
    published = {**settings, "converter": {**settings["converter"], "base": "google/gemma-2b"}}
    assert usual_negative({**known, "model": {"settings": published}}) == UNWANTED
    unguided = {**published, "sampling": {**settings["sampling"], "guidance": 1.0}}
    assert usual_negative({**known, "model": {"settings": unguided}}) == ""
    assert usual_negative(read_config(Path("v2a_models/weights/mini"))) == ""
    assert make_job(config(vatt, tmp_path, negative="")).negative == ""
