"""A dubbed, signed film with its records, as `v2a dub` leaves it, made in a second without Ray; and ways to copy films.

The film has a picture with B frames, a track of its own, a generated one, subtitles, chapters and a title.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dub.output import Proof
from pipelines.mux import remux
from pipelines.mux.packets import repair_times
from pipelines.mux.track import MuxResult, Track
from pipelines.provenance import inspect_child, inspection, records, report_child, sidecar, signing
from pipelines.provenance.sidecar import FileFacts, GeneratorFacts, TrackFacts
from pipelines.provenance.signing import Signer
from pipelines.reports.dub_rows import REPORT_SCHEMA, report_row
from pipelines.sandbox import lent_files
from pipelines.storage import hashing
from tests.support import media_files

RATE = 44_100
VIDEO_ID = "00000000000000aa"
GENERATOR = GeneratorFacts("mini", "ab" * 32, "4f2e", seed=7, version="0.1.0")
CUES = ((0.2, 0.5, "a bell"), (0.6, 0.9, "a second bell"))
CHAPTERS = ((0, 500, "Opening"), (500, 1000, "Ending"))


@dataclass
class Film:
    """A folder OUT with one film."""

    out: Path
    name: str

    @property
    def path(self) -> Path:
        return self.out / self.name

    @property
    def beside(self) -> Path:
        """The manifest beside a film that cannot carry it."""
        return self.out / f"{self.name}{signing.BESIDE}"

    def record(self, *parts: str) -> Path:
        return self.out.joinpath("_v2a", *parts)

    @property
    def side(self) -> Path:
        return self.record("provenance", f"{VIDEO_ID}.json")

    @property
    def copy_of_manifest(self) -> Path:
        return self.record("provenance", f"{VIDEO_ID}.c2pa")

    @property
    def report(self) -> Path:
        return self.record("report.parquet")

    @property
    def row(self) -> Path:
        return self.record("rows", f"{VIDEO_ID}.json")

    def copied(self, folder: Path) -> Film:
        """A copy of all, to be spoilt."""
        shutil.copytree(self.out, folder)
        return Film(folder, self.name)

    def edit_json(self, path: Path, change: Callable[[dict[str, Any]], None]) -> None:
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    def edit_report(self, **values: Any) -> None:
        """Change the film's row in report.parquet."""
        [row] = pq.read_table(self.report).to_pylist()
        pq.write_table(pa.Table.from_pylist([row | values], REPORT_SCHEMA), self.report)


def source(path: Path, number: int = 0) -> Path:
    """A film with sound and chapters."""
    plain = media_files.write_video(
        path.with_name(f"plain-{path.name}"),
        sound="audible",
        bframes=2,
        title="The reel",
        picture=lambda k, w, h: media_files.numbered(k + number, w, h),
    )

    def chaptered(copy: Any) -> None:
        copy.set_chapters(
            [
                {"id": k, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for k, (a, b, title) in enumerate(CHAPTERS, 1)
            ]
        )

    def named(stream: Any, kept: Any) -> None:
        if kept.type == "audio":
            stream.metadata.update({"title": "Original", "language": "deu", "handler_name": "Original"})

    return copy_film(plain, path, header=chaptered, stream=named)


def signed_film(
    folder: Path,
    name: str,
    signer: Signer | Callable[[], Signer] | None,
    number: int = 0,
    old: bool = False,
    made_from: Path | None = None,
    **track: Any,
) -> Film:
    """OUT/name with its records.

    signer: may be a function, which is called when everything else is done. old: as an earlier version of v2a signed
    it, without the description. made_from: another source than `source`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_from = made_from or source(folder / f"source-{name}", number)
    film, proof = Film(folder / "out", name), Proof()
    for part in ("provenance", "rows"):
        film.record(part).mkdir(parents=True)
    spec = Track(
        n_samples=RATE, video_start_s=0.0, default=False, tags=sidecar.tags(GENERATOR), captions=CUES, **track
    )
    sound = np.random.default_rng(number).integers(-9000, 9000, (1, RATE)).astype(np.int16)
    made = remux.mux(str(made_from), [sound], film.path, spec)
    _sign(film, proof, made, signer() if callable(signer) else signer, old)
    film.side.write_text(json.dumps(proof.record(name)))
    _write_rows(film, proof, made)
    return film


def _sign(film: Film, proof: Proof, made: MuxResult, signer: Signer | None, old: bool) -> None:
    described = {} if old else made.presented
    facts = FileFacts(film.name, film.name, VIDEO_ID, made.source_sha256, made.digests.to_json(), described)
    proof.source_sha256 = made.source_sha256
    proof.facts = sidecar.sidecar(GENERATOR, TrackFacts(remux.TITLE, 1.0, 1, "00"), facts)
    if signer is not None:
        loaded = signing.load(signer)
        proof.signer, proof.signer_serial = loaded.name, loaded.serial
        proof.manifest = sign_in_place(film.path, signer, proof.facts)
        film.copy_of_manifest.write_bytes(proof.manifest)
        if not signing.embeds(film.name):
            film.beside.write_bytes(proof.manifest)
    with film.path.open("rb") as file:
        proof.output_sha256 = hashing.sha256(file)


def sign_in_place(path: Path, signer: Signer, facts: dict[str, Any]) -> bytes:
    """Sign a film in this process; the manifest."""
    mime = signing.MIME.get(path.suffix, "application/octet-stream")
    definition = signing.manifest(facts, path.name, str(facts["sourceSha256"]), "0.1.0")
    signed = io.BytesIO()
    with path.open("rb") as file:
        loaded = signing.load(signer)
        manifest = signing.sign_stream(
            loaded.algorithm, loaded.chain, loaded.sign, definition, mime, file, signed
        )
    if signing.embeds(path.name):
        path.write_bytes(signed.getvalue())
    return manifest


def _write_rows(film: Film, proof: Proof, made: MuxResult) -> None:
    row = report_row(
        {"video_id": VIDEO_ID, "path": film.name, "sha256": made.source_sha256},
        "dubbed",
        output=film.name,
        model=GENERATOR.model,
        seed=GENERATOR.seed,
        source_sha256_after=proof.source_sha256,
        output_sha256=proof.output_sha256,
        signer=proof.signer,
    )
    film.row.write_text(json.dumps(row))
    pq.write_table(pa.Table.from_pylist([row], REPORT_SCHEMA), film.report)


def copy_film(
    old: Path,
    new: Path,
    *,
    packets: Callable[[list[Any]], list[Any]] = lambda packets: packets,
    stream: Callable[[Any, Any], None] = lambda stream, kept: None,
    header: Callable[[Any], None] = lambda container: None,
    keep: Callable[[Any], bool] = lambda stream: True,
    order: Callable[[list[Any]], list[Any]] = lambda streams: streams,
    extra: Callable[[Any], Callable[[], list[Any]]] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Copy a film packet by packet, as `ffmpeg -c copy -map 0` does, with changes.

    packets: changes the list of all packets; stream: changes a stream of the copy; header: changes the container; keep
    and order: choose streams; extra: adds a stream, and returns what makes its packets.
    """
    muxer = {"movflags": "+use_metadata_tags"} if new.suffix in (".mp4", ".mov") else {}
    last: dict[int, int] = {}
    with av.open(str(old)) as film, av.open(str(new), "w", container_options=muxer | (options or {})) as copy:
        copy.metadata.update(film.metadata)
        if chapters := film.chapters():
            copy.set_chapters(chapters)
        header(copy)
        streams = {}
        wanted = [s for s in film.streams if s.type in ("video", "audio", "subtitle") and keep(s)]
        for kept in order(wanted):
            streams[kept] = _copied_stream(copy, kept)
            stream(streams[kept], kept)
        more = extra(copy) if extra is not None else lambda: []
        found = [p for p in film.demux(list(streams)) if p.size]
        for packet in packets(found):
            repair_times(packet, last, 0)
            made, target = _as_text(packet, streams[packet.stream]), streams[packet.stream]
            if made is not None:
                made.stream = target
                copy.mux(made)
        copy.mux(more())
    return new


def _copied_stream(copy: Any, kept: Any) -> Any:
    if kept.type == "subtitle":
        # Text subtitles have another form in each container.
        from pipelines.mux import subtitles

        made = subtitles.add_stream(copy, "mov_text" if copy.format.name in ("mp4", "mov") else "subrip")
    else:
        made = copy.add_stream_from_template(kept, opaque=True)
    made.metadata.clear()
    made.metadata.update({k: v for k, v in kept.metadata.items() if k.upper() != "DURATION"})
    made.disposition = kept.disposition
    if kept.type == "video" and kept.sample_aspect_ratio:
        made.codec_context.sample_aspect_ratio = kept.sample_aspect_ratio
    return made


def _as_text(packet: Any, stream: Any) -> Any:
    """A subtitle in the form of the copy's container, None for the empty ones of mp4; other packets as they are."""
    before, after = packet.stream.codec_context.name, stream.codec_context.name
    if stream.type != "subtitle" or (before == "mov_text") == (after == "mov_text"):
        return packet
    data = bytes(packet)
    if before == "mov_text" and not any(data[:2]):
        return None
    data = data[2:] if before == "mov_text" else len(data).to_bytes(2, "big") + data
    made: Any = av.Packet(data)
    made.pts, made.dts, made.duration, made.time_base = (
        packet.pts, packet.dts, packet.duration, packet.time_base,
    )  # fmt: skip
    return made


@contextmanager
def inspected_here(monkeypatch: pytest.MonkeyPatch | None = None) -> Iterator[None]:
    """Inspect films in this process, which takes a tenth of the time of a child."""
    patch = monkeypatch or pytest.MonkeyPatch()

    def conversed(uri: str, order: dict[str, Any], stall_s: float) -> dict[str, Any]:
        with lent_files.lend(uri) as file:
            order = order | {"file": file.to_json(os.dup(file.fd))}
            answer: dict[str, Any] = json.loads(json.dumps(inspect_child._answer(order, io.BytesIO())))
        return answer

    def asked(uri: str, order: dict[str, Any]) -> dict[str, Any]:
        with lent_files.lend(uri) as file:
            order = order | {"file": file.to_json(os.dup(file.fd))}
            return report_child._find(order, io.BytesIO())

    patch.setattr(inspection, "_conversed", conversed)
    patch.setattr(records, "_asked", asked)
    patch.setattr(inspect_child, "BeatingFile", lambda file: file)
    try:
        yield
    finally:
        patch.undo()
