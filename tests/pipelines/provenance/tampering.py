"""Table of things that can be done to a dubbed film and its records, with the three answers that `v2a verify` gives.

`python -m tests.pipelines.provenance.tampering` prints it, with the answers as they are.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import c2pa
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition

from jobs.verify import Checked, VerifyConfig, check
from pipelines.provenance import signing
from pipelines.provenance.signing import Signer
from tests.support import media_files
from tests.support.signed_films import Film, copy_film, inspected_here, sign_in_place, signed_film


@dataclass
class World:
    """Films and signers that the rows start from."""

    films: dict[str, Film]
    signers: dict[str, Signer]

    @classmethod
    def make(cls, folder: Path) -> World:
        """Films by name, signed but for the unsigned ones; `old` as an earlier version signed it."""
        signers = {name: signing.make_test_certificate(folder / name) for name in ("usual", "other")}
        usual = signers["usual"]
        brief, signers["brief"], expires = brief_film(folder)
        films = {
            "brief": brief,
            "mp4": signed_film(folder / "mp4", "a.mp4", usual),
            "mkv": signed_film(folder / "mkv", "a.mkv", usual),
            "another": signed_film(folder / "another", "a.mp4", usual, number=20),
            "another-mkv": signed_film(folder / "another-mkv", "a.mkv", usual, number=20),
            "unsigned": signed_film(folder / "unsigned", "a.mp4", None),
            "unsigned-mkv": signed_film(folder / "unsigned-mkv", "a.mkv", None),
            "old": signed_film(folder / "old", "a.mp4", usual, old=True),
        }
        time.sleep(max(0.0, expires - time.time()))
        return cls(films, signers)


def brief_film(folder: Path) -> tuple[Film, Signer, float]:
    """A film whose certificate expires within seconds of its signing, that certificate, and the time when it has."""
    for seconds in (2, 8, 32):  # a busy machine may need more than the first
        made: list[Signer] = []

        def signer(seconds: int = seconds, made: list[Signer] = made) -> Signer:
            made.append(signing.make_test_certificate(folder / f"brief-{seconds}", days=seconds / 86_400))
            return made[0]

        try:
            film = signed_film(folder / f"brief-film-{seconds}", "a.mp4", signer)
        except (signing.SigningError, c2pa.C2paError):
            continue
        return film, made[0], time.time() + seconds + 1
    raise AssertionError("a certificate of 32 s expired before it could sign")


@dataclass
class Case:
    """A copy of a film with its records, to be spoilt, and the options of the command."""

    film: Film
    world: World
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.film.path

    def bytes(self, change: Callable[[bytearray], Any]) -> None:
        """Change the bytes of the film in place, so that it keeps its manifest."""
        data = bytearray(self.path.read_bytes())
        changed = change(data)
        self.path.write_bytes(data if changed is None else changed)

    def copy(self, suffix: str = "", **how: Any) -> None:
        """Copy the film packet by packet with changes, and give the command the copy of its manifest."""
        new = self.path.with_name(f"new{suffix or self.path.suffix}")
        copy_film(self.path, new, **how)
        new.replace(self.path)
        self.options["manifest"] = str(self.film.copy_of_manifest)


Tamper = Callable[[Case], Any]


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    name: str
    tamper: Tamper
    film: str = "changed"
    signature: str = "unknown-signer"
    records: str = "agree"
    exit: int = 1
    says: str = ""
    """Words in the answer about the film, or about the records if that is unchanged."""
    base: str = "mp4"
    options: dict[str, Any] = field(default_factory=dict)

    def checked(self, world: World, folder: Path) -> tuple[Checked, int]:
        """The verdict on the film after it was spoilt, and the exit code."""
        case = Case(world.films[self.base].copied(folder / "out"), world, dict(self.options))
        self.tamper(case)
        if case.options.get("trust") in world.signers:
            case.options["trust"] = world.signers[case.options["trust"]].certificate
        config = VerifyConfig((str(case.path),), **case.options)
        found = check(str(case.path), config)
        return found, 0 if found.verdict.passed else 1


# ---- bytes of an mp4 film


def place(data: bytes, kind: bytes, number: int = 0) -> int:
    """Position of the content of the box of a kind, from the index on."""
    at = data.index(b"moov")
    for _ in range(number + 1):
        at = data.index(kind, at) + 4
    return at


def packet_place(data: bytes, path: Path, kind: str, number: int, track: int = 0) -> tuple[int, int]:
    """Position and size of a packet, by its order."""
    with av.open(str(path)) as film:
        packets = [bytes(p) for p in film.demux(getattr(film.streams, kind)[track]) if p.size > 2]
    return data.index(packets[number]), len(packets[number])


def flip(kind: str, track: int = 0) -> Tamper:
    """Change a byte in the middle of a packet."""

    def tamper(case: Case) -> None:
        def change(data: bytearray) -> None:
            at, size = packet_place(bytes(data), case.path, kind, 12 if kind != "subtitles" else 0, track)
            data[at + size // 2] ^= 0x55

        case.bytes(change)

    return tamper


def at_box(kind: bytes, offset: int, value: bytes, number: int = 0) -> Tamper:
    """Overwrite bytes in the content of a box."""

    def tamper(case: Case) -> None:
        def change(data: bytearray) -> None:
            at = place(data, kind, number) + offset
            data[at : at + len(value)] = value

        case.bytes(change)

    return tamper


def move_nal_boundary(case: Case) -> None:
    """Move the boundary between two NAL units of a packet, which keeps the sequence of all their bytes."""

    def change(data: bytearray) -> None:
        at, size = packet_place(bytes(data), case.path, "video", 0)
        first = int.from_bytes(data[at : at + 4], "big")
        assert 4 + first < size  # several units
        units = data[at + 4 : at + 4 + first], data[at + 8 + first : at + size]
        data[at : at + size] = (
            (first + 1).to_bytes(4, "big") + units[0] + units[1][:1]
            + (len(units[1]) - 1).to_bytes(4, "big") + units[1][1:]
        )  # fmt: skip

    case.bytes(change)


def flip_parameter_set(case: Case) -> None:
    """Flip one bit of the PPS."""

    def change(data: bytearray) -> None:
        at = place(data, b"avcC")
        size = int.from_bytes(data[at + 6 : at + 8], "big")
        data[at + 8 + size + 3 + 1] ^= 0x08

    case.bytes(change)


def swap_names(case: Case) -> None:
    """Exchange two names of equal length in the index."""

    def change(data: bytearray) -> Any:
        at = data.index(b"moov")
        return data[:at] + data[at:].replace(b"Original", b"v2a (gen")

    case.bytes(change)


def set_language(case: Case) -> None:
    """Change the language of the track of its own from German to French."""

    def change(data: bytearray) -> None:
        packed = [
            sum((ord(c) - 0x60) << s for c, s in zip(code, (10, 5, 0), strict=True))
            for code in ("deu", "fra")
        ]
        at = data.index(b"mdhd", data.index(b"mdhd", data.index(b"moov")) + 4)
        assert struct.unpack(">H", data[at + 24 : at + 26])[0] == packed[0]
        data[at + 24 : at + 26] = struct.pack(">H", packed[1])

    case.bytes(change)


def edit_list(value: bytes, offset: int) -> Tamper:
    """Overwrite bytes of the first entry of the picture's edit list."""
    return at_box(b"elst", 8 + offset, value)


def swap_times(case: Case) -> None:
    """Exchange the times of two pictures, so that they are shown in another order."""

    def change(data: bytearray) -> None:
        at = place(data, b"ctts") + 8
        first, second = (data[at + k * 8 + 4 : at + k * 8 + 8] for k in (1, 2))
        assert first != second
        data[at + 12 : at + 16], data[at + 20 : at + 24] = second, first

    case.bytes(change)


def without_manifest(data: bytearray) -> bytearray:
    """The film with a free box in place of its manifest."""
    at = manifest_box(data)
    data[at.start + 4 : at.start + 8] = b"free"
    return data


def manifest_box(data: bytes) -> slice:
    at = 0
    while data[at + 4 : at + 8] != b"uuid":
        at += int.from_bytes(data[at : at + 4], "big")
    return slice(at, at + int.from_bytes(data[at : at + 4], "big"))


def other_manifest(case: Case) -> None:
    theirs = case.world.films["another"].path.read_bytes()

    def change(data: bytearray) -> bytearray:
        mine, other = manifest_box(data), manifest_box(theirs)
        size = mine.stop - mine.start
        taken = theirs[other][:size].ljust(size, b"\0")
        assert other.stop - other.start == size
        data[mine] = taken
        return data

    case.bytes(change)


def flip_manifest(offset: int) -> Tamper:
    def tamper(case: Case) -> None:
        def change(data: bytearray) -> None:
            at = manifest_box(data)
            place = data.index(b"generated by a machine", at.start) if offset == 0 else at.start + offset
            data[place] ^= 0x20

        case.bytes(change)

    return tamper


def sign_again(signer: str, follow: bool = False) -> Tamper:
    """Sign the film anew, after a change, with another certificate. follow: change the sidecar's signer as well."""

    def tamper(case: Case) -> None:
        case.bytes(without_manifest)
        facts = json.loads(case.film.side.read_text())
        for name in ("outputSha256", "manifest", "signer", "signerSerial"):
            facts.pop(name)
        sign_in_place(case.path, case.world.signers[signer], facts)

    return tamper


def foreign_manifest(follow: bool) -> Tamper:
    """A manifest of the usual signer without v2a's facts, such as a camera writes: of another film, or of this one."""

    def tamper(case: Case) -> None:
        definition = signing.manifest({}, "clip.mp4", "0", "0.1.0")
        definition["assertions"] = definition["assertions"][:1]
        loaded = signing.load(case.world.signers["usual"])
        mime = "application/octet-stream" if follow else "video/mp4"
        film = case.path if follow else case.world.films["another"].path
        with film.open("rb") as file:
            manifest = signing.sign_stream(
                loaded.algorithm, loaded.chain, loaded.sign, definition, mime, file, io.BytesIO()
            )
        case.film.beside.write_bytes(manifest)

    return tamper


def one_chapter(case: Case) -> None:
    """Rename a chapter in one of the two lists of chapters that mp4 has."""

    def change(data: bytearray) -> None:
        at = data.index(b"Opening", data.index(b"chpl"))
        data[at : at + 7] = b"Closing"

    case.bytes(change)


# ---- copies of the film


def pictures(change: Callable[[list[Any]], list[Any]]) -> Tamper:
    """Change the list of the picture's packets."""

    def changed(packets: list[Any]) -> list[Any]:
        moving = [p for p in packets if p.stream.type == "video"]
        return change(moving) + [p for p in packets if p.stream.type != "video"]

    return lambda case: case.copy(packets=changed)


def dropped(packets: list[Any]) -> list[Any]:
    return packets[:20] + packets[21:]


def doubled(packets: list[Any]) -> list[Any]:
    twice: Any = av.Packet(bytes(packets[20]))
    twice.stream, twice.time_base = packets[20].stream, packets[20].time_base
    twice.pts = twice.dts = (packets[-1].pts or 0) + 20 * 3600
    return [*packets, twice]


def slower(case: Case) -> None:
    def changed(packets: list[Any]) -> list[Any]:
        for packet in packets:
            packet.pts, packet.dts = 2 * packet.pts, 2 * packet.dts
        return packets

    case.copy(packets=changed)


def delayed(kind: str, seconds: float) -> Tamper:
    def changed(packets: list[Any]) -> list[Any]:
        for packet in packets:
            if packet.stream.type == kind:
                ticks = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return packets

    return lambda case: case.copy(packets=changed)


def other_subtitles(case: Case) -> None:
    def changed(packets: list[Any]) -> list[Any]:
        made = []
        for packet in packets:
            if packet.stream.type == "subtitle" and packet.size > 2:
                text = b"a shot"
                new: Any = av.Packet(len(text).to_bytes(2, "big") + text)
                new.stream, new.time_base = packet.stream, packet.time_base
                new.pts, new.dts, new.duration = packet.pts, packet.dts, packet.duration
                packet = new
            made.append(packet)
        return made

    case.copy(packets=changed)


def tracks(change: Callable[[Any, Any], None]) -> Tamper:
    """Change the streams of the copy."""
    return lambda case: case.copy(stream=change)


def flagged(flag: Disposition, kind: str = "audio") -> Tamper:
    def change(stream: Any, kept: Any) -> None:
        if kept.type == kind:
            stream.disposition = kept.disposition ^ flag

    return tracks(change)


def other_default(stream: Any, kept: Any) -> None:
    if kept.type == "audio":
        stream.disposition = kept.disposition ^ Disposition.default


def one_without_language(stream: Any, kept: Any) -> None:
    if kept.metadata.get("language") == "deu":
        stream.metadata["language"] = "und"


def titled(title: str) -> Tamper:
    def change(stream: Any, kept: Any) -> None:
        if kept.metadata.get("language") == "zxx":
            for name in [
                name for name in stream.metadata if name.lower() in ("title", "handler_name", "name")
            ]:
                stream.metadata[name] = title

    return tracks(change)


def without(kind: str, number: int = 0) -> Tamper:
    def keep(stream: Any) -> bool:
        same = [s.index for s in stream.container.streams if s.type == kind]
        return stream.index != same[number]

    return lambda case: case.copy(keep=keep)


def reordered(streams: list[Any]) -> list[Any]:
    sound = [s for s in streams if s.type == "audio"]
    return [s for s in streams if s.type != "audio"] + sound[::-1]


def more_sound(case: Case) -> None:
    def extra(container: Any) -> Callable[[], list[Any]]:
        stream = container.add_stream("aac", rate=44_100)
        stream.disposition = 0
        return lambda: media_files._tone(stream, 1.0, 0.5, 44_100, 1, 0.0)

    case.copy(extra=extra)


def hidden_picture(case: Case) -> None:
    def extra(container: Any) -> Callable[[], list[Any]]:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.disposition = 32, 32, "yuv420p", 0

        def packets() -> list[Any]:
            frame = av.VideoFrame.from_ndarray(media_files.numbered(1, 32, 32), format="rgb24")
            return [*stream.encode(frame.reformat(format="yuv420p")), *stream.encode(None)]

        return packets

    case.copy(extra=extra)


def louder(case: Case) -> None:
    """Replace the generated track by itself, ten times as loud or as quiet."""
    with av.open(str(case.path)) as film:
        frames = list(film.decode(film.streams.audio[1]))
    sound = np.concatenate([frame.to_ndarray() for frame in frames], axis=1) * 0.1

    def keep(stream: Any) -> bool:
        return stream.metadata.get("language") != "zxx"

    def extra(container: Any) -> Callable[[], list[Any]]:
        stream = container.add_stream("aac", rate=44_100)
        stream.codec_context.layout = "mono"
        stream.metadata.update(
            {"title": "v2a (generated)", "language": "zxx", "handler_name": "v2a (generated)"}
        )
        stream.disposition = 0

        def packets() -> list[Any]:
            made = []
            for at in range(0, sound.shape[1] - 1023, 1024):
                block = np.ascontiguousarray(sound[:, at : at + 1024].astype(np.float32))
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 44_100, at, Fraction(1, 44_100)
                made += stream.encode(frame)
            return made + stream.encode(None)

        return packets

    case.copy(keep=keep, extra=extra)


def cropped(case: Case) -> None:
    """Crop the picture by its parameter set."""
    new = case.path.with_name("new.mp4")
    with av.open(str(case.path)) as film, av.open(str(new), "w") as out:
        out.metadata.update(film.metadata)
        streams = {
            s: out.add_stream_from_template(s, opaque=True)
            for s in (*film.streams.video, *film.streams.audio)
        }
        video = film.streams.video[0]
        bsf = BitStreamFilterContext("h264_metadata=crop_right=32", video, streams[video])
        for packet in film.demux(list(streams)):
            if packet.dts is not None:
                target = streams[packet.stream]
                for made in bsf.filter(packet) if packet.stream is video else [packet]:
                    made.stream = target
                    out.mux(made)
    new.replace(case.path)
    case.options["manifest"] = str(case.film.copy_of_manifest)


def aspect(stream: Any, kept: Any) -> None:
    if kept.type == "video":
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)


def coloured(stream: Any, kept: Any) -> None:
    if kept.type == "video":
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, 16
        stream.codec_context.colorspace = 9


def chapter_named(title: str) -> Tamper:
    def header(container: Any) -> None:
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": title}},
             {"id": 2, "start": 500, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "Ending"}}]
        )  # fmt: skip

    return lambda case: case.copy(header=header)


def tagged(name: str, value: str) -> Tamper:
    return lambda case: case.copy(header=lambda container: container.metadata.update({name: value}))


def there_and_back(case: Case) -> None:
    case.copy(".mkv")
    case.copy(".mp4")


def clap(case: Case, size: int = 40, frames: bytes = b"\0\1") -> None:
    """Crop the picture by the container: a `clap` box in the entry of the picture.

    size: of the box, as it says itself. frames: number of pictures in a sample, as the entry says.
    """

    def change(data: bytearray) -> bytearray:
        box = struct.pack(">I4sIIIIiIiI", size, b"clap", 48, 1, 32, 1, 0, 1, 0, 1)
        sample = data.index(b"avc1", data.index(b"stsd", data.index(b"moov")))
        data[sample + 44 : sample + 46] = frames
        end = sample - 4 + int.from_bytes(data[sample - 4 : sample], "big")
        data[end:end] = box
        at = data.index(b"moov")
        for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
            at = data.index(kind, at)
            grown = int.from_bytes(data[at - 4 : at], "big") + 40
            data[at - 4 : at] = grown.to_bytes(4, "big")
        return data

    case.bytes(change)


def head_last(data: bytearray) -> None:
    """Move the head of the first track (tkhd) to the end of the track."""
    track = data.index(b"trak", data.index(b"moov")) - 4
    end = track + int.from_bytes(data[track : track + 4], "big")
    head = data[track + 8 : track + 100]
    assert head[:8] == b"\0\0\0\x5ctkhd"
    data[track + 8 : end] = data[track + 100 : end] + head


def compressed_index(case: Case) -> None:
    """A cropped picture, whose index is compressed as QuickTime once did."""
    clap(case)

    def change(data: bytearray) -> bytearray:
        at = data.index(b"moov") - 4
        end = at + int.from_bytes(data[at : at + 4], "big")
        index = bytes(data[at:end])
        packed = struct.pack(">I", len(index)) + zlib.compress(index)
        inner = box(b"dcom", b"zlib") + box(b"cmvd", packed)
        data[at:end] = box(b"moov", box(b"cmov", inner))
        return data

    case.bytes(change)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def cropped_element(before: bytes = b"") -> Tamper:
    """Crop a picture by Matroska. before: bytes in front of the list of tracks."""

    def tamper(case: Case) -> None:
        def change(data: bytearray) -> bytearray:
            crop, path, at, stop = b"\x54\xdd\x81\x20", [], 0, len(data)
            for name in (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"):  # Segment ... Video
                begins, at, stop = element(data, name, at, stop)
                path.append((begins, begins + len(name)))
            data[stop:stop] = crop
            for number, (_, size_at) in enumerate(path):
                width = 9 - data[size_at].bit_length()
                size = int.from_bytes(data[size_at : size_at + width], "big") + len(crop)
                size += len(before) if number == 0 else 0
                data[size_at : size_at + width] = size.to_bytes(width, "big")
            data[path[1][0] : path[1][0]] = before
            return data

        case.bytes(change)

    return tamper


def element(data: bytes, name: bytes, at: int, stop: int) -> tuple[int, int, int]:
    """Place of the first Matroska element of a name between two places: its start, and those of its content."""
    while at < stop:
        size_at = at + 9 - data[at].bit_length()
        content = size_at + 9 - data[size_at].bit_length()
        size = int.from_bytes(data[size_at:content], "big") - (1 << 7 * (content - size_at))
        if data[at:size_at] == name:
            return at, content, content + size
        at = content + size
    raise ValueError(name)


# ---- records


def edited_side(**values: Any) -> Tamper:
    return lambda case: case.film.edit_json(case.film.side, lambda side: side.update(values))


def edited_seed(case: Case) -> None:
    case.film.edit_json(case.film.side, lambda side: side["generator"].update(seed=8))


def edited_row(**values: Any) -> Tamper:
    return lambda case: case.film.edit_json(case.film.row, lambda row: row.update(values))


def edited_report(**values: Any) -> Tamper:
    return lambda case: case.film.edit_report(**values)


def no_records(case: Case) -> None:
    shutil.rmtree(case.film.out / "_v2a")


def written(which: str, data: bytes) -> Tamper:
    return lambda case: getattr(case.film, which).write_bytes(data)


def other_side(case: Case) -> None:
    shutil.copy(case.world.films["another"].side, case.film.side)


def nothing(case: Case) -> None:
    pass


DEEP = b'{"output": "a.mp4", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NONSENSE = json.dumps(
    {"output": "a.mp4", "generator": [1], "packets": 7, "edits": "x", "track": None}
).encode()

UNCHANGED: dict[str, Any] = {"film": "unchanged"}
REMUXED: dict[str, Any] = {"film": "re-muxed", "exit": 0}
DIFFER: dict[str, Any] = {"film": "unchanged", "records": "differ"}

ROWS = [
    Row("nothing", nothing, **UNCHANGED, exit=0),
    Row("nothing, --trust", nothing, "unchanged", "trusted", exit=0, options={"trust": "usual"}),
    Row("nothing, --strict --trust", nothing, "unchanged", "trusted", exit=0,
        options={"trust": "usual", "strict": True}),
    Row("nothing, --strict", nothing, **UNCHANGED, options={"strict": True}),
    Row("nothing, mkv", nothing, **UNCHANGED, exit=0, base="mkv"),
    Row("nothing, unsigned", nothing, "unchanged", "none", "agree-unsigned", 0, base="unsigned"),
    Row("unsigned, --require-signature", nothing, "unchanged", "none", "agree-unsigned",
        base="unsigned", options={"require_signature": True}),
    Row("unsigned, --trust", nothing, "unchanged", "none", "agree-unsigned",
        base="unsigned", options={"trust": "usual"}),
    Row("signed by an older version", nothing, **UNCHANGED, exit=0, base="old"),
    # signature
    Row("another signer trusted", nothing, **UNCHANGED, options={"trust": "other"}),
    Row("certificate expired since", nothing, "unchanged", "expired", exit=0, base="brief"),
    Row("expired since, --strict", nothing, "unchanged", "expired", base="brief", options={"strict": True}),
    Row("expired since, --trust", nothing, "unchanged", "expired", base="brief", options={"trust": "brief"}),
    Row("signed again by another of that name", sign_again("other"), "re-muxed", records="differ", says="signerSerial"),
    Row("... and that, --trust", sign_again("other"), "re-muxed", records="differ", options={"trust": "usual"}),
    Row("manifest box made a free box", lambda case: case.bytes(without_manifest), "re-muxed", "missing"),
    Row("... and no records", lambda case: (case.bytes(without_manifest), no_records(case)),
        "no-record", "none", "none"),
    Row("manifest of another film", other_manifest, records="differ", says="another film"),
    Row("byte of the signed facts flipped", flip_manifest(0), "re-muxed", "invalid", "agree-unsigned"),
    Row("byte of the manifest's head flipped", flip_manifest(30), "re-muxed", "invalid", "agree-unsigned"),
    Row("mkv: manifest beside it removed", lambda case: case.film.beside.unlink(), "unchanged", "missing", base="mkv"),
    Row("mkv: manifest of another beside it", lambda case: shutil.copy(case.world.films["another-mkv"].beside,
        case.film.beside), records="differ", base="mkv"),
    Row("mkv: noise beside it", written("beside", bytes(range(256)) * 40), "unchanged", "invalid", "agree-unsigned",
        base="mkv"),
    Row("mkv: 20 MB beside it", written("beside", bytes(20 << 20)), "unchanged", "invalid", "agree-unsigned",
        base="mkv"),
    Row("camera's manifest of another film beside it", foreign_manifest(False), "no-record", "trusted",
        "agree-unsigned", base="unsigned", options={"trust": "usual"}),
    Row("camera's manifest of this film beside it", foreign_manifest(True), "unchanged", "trusted", "agree-unsigned", 0,
        base="unsigned-mkv", options={"trust": "usual"}),
    Row("... --strict", foreign_manifest(True), "unchanged", "trusted", "agree-unsigned",
        base="unsigned-mkv", options={"trust": "usual", "strict": True}),
    # bytes
    Row("byte of the picture flipped", flip("video"), says="picture: content"),
    Row("byte of the generated sound flipped", flip("audio", 1), says="'v2a (generated)': content"),
    Row("byte of the other sound flipped", flip("audio"), says="'Original': content"),
    Row("byte of a subtitle flipped", flip("subtitles"), says="subtitle track"),
    Row("boundary of NAL units moved", move_nal_boundary, says="picture: content"),
    Row("bit of the PPS flipped", flip_parameter_set, says="configuration"),
    Row("profile in avcC changed", at_box(b"avcC", 1, b"\x42"), says="configuration"),
    Row("brand changed (ftyp)", lambda case: case.bytes(lambda d: d.__setitem__(slice(8, 12), b"iso2")), **REMUXED),
    Row("box appended", lambda case: case.bytes(lambda d: d + b"\0\0\0\x10free 1234567"), **REMUXED),
    Row("noise appended", lambda case: case.bytes(lambda d: d + bytes(range(255, 0, -1))), "re-muxed", "invalid",
        "agree-unsigned"),
    Row("second index appended", lambda case: case.bytes(lambda d: d + b"\0\0\0\x10moov\0\0\0\x08free"),
        says="2 indexes"),
    Row("last 40 % cut off", lambda case: case.bytes(lambda d: d[: len(d) * 6 // 10]), "unreadable"),
    Row("mkv: last 20 % cut off", lambda case: case.bytes(lambda d: d[: len(d) * 8 // 10]), base="mkv"),
    Row("emptied", lambda case: case.bytes(lambda d: b""), "unreadable", "missing"),
    # headers of the container
    Row("speed: timescale of the picture", at_box(b"mdhd", 12, struct.pack(">I", 45_000)), says="times"),
    Row("speed: timescale of the sound", at_box(b"mdhd", 12, struct.pack(">I", 22_050), number=1), says="times"),
    Row("order of two pictures exchanged", swap_times, says="times"),
    Row("edit list: begins later", edit_list(struct.pack(">i", 7200 + 36_000), 4)),
    Row("edit list: ends earlier", edit_list(struct.pack(">I", 22_050), 0)),
    Row("edit list: at half speed", edit_list(struct.pack(">i", 0x8000), 8), says="rate"),
    Row("preferred rate doubled (mvhd)", at_box(b"mvhd", 20, struct.pack(">I", 0x20000)), says="preferred rate"),
    Row("volume of a track (tkhd)", at_box(b"tkhd", 36, struct.pack(">H", 0x10), number=2), says="volume"),
    Row("sound on the left only (smhd)", at_box(b"smhd", 4, b"\xff\0"), says="balance"),
    Row("picture behind others (tkhd)", at_box(b"tkhd", 32, b"\0\5"), says="layer"),
    Row("picture transparent (vmhd)", at_box(b"vmhd", 4, b"\0\x24"), says="covers"),
    Row("rotated", lambda case: media_files.set_matrix(case.path, media_files.matrix(90)), says="rotation"),
    Row("mirrored", lambda case: media_files.set_matrix(case.path, media_files.matrix(0, True)), says="mirroring"),
    Row("width for display (tkhd)", at_box(b"tkhd", 76, struct.pack(">I", 192 << 16)), says="shape of the pixels"),
    Row("width announced (stsd)", at_box(b"avc1", 24, struct.pack(">H", 32)), says="size"),
    Row("cropped by the container (clap)", clap, says="cropping by the container"),
    Row("... by a box too large for its place", lambda case: clap(case, 41), says="cropping by the container"),
    Row("... in an entry of several pictures", lambda case: clap(case, frames=b"\0\0"), says="cropping by"),
    Row("... before the head of its track", lambda case: (clap(case), case.bytes(head_last)), says="cropping by"),
    Row("... in a compressed index", compressed_index, says="unusual"),
    Row("mkv: cropped by the container", cropped_element(), base="mkv", says="cropping by the container"),
    Row("... behind noise", cropped_element(b"\0\0\0"), base="mkv", says="unusual"),
    Row("... behind many elements", cropped_element(b"\xec\x80" * 100_000), base="mkv", says="unusual"),
    Row("track switched off (tkhd)", at_box(b"tkhd", 3, b"\2", number=1), says="switched off"),
    Row("track renamed", swap_names, says="name"),
    Row("language of a track", set_language, says="language: deu signed, fra now"),
    Row("chapter renamed in one of its lists", one_chapter, says="chapter"),
    # copies
    Row("copied to mkv", lambda case: case.copy(".mkv"), **REMUXED),
    Row("copied to mkv and back", there_and_back, **REMUXED),
    Row("copied to mov", lambda case: case.copy(".mov"), **REMUXED),
    Row("index moved to the front", lambda case: case.copy(options={"movflags": "+faststart+use_metadata_tags"}),
        **REMUXED),
    Row("fragmented, which moves subtitles", lambda case: case.copy(options={
        "movflags": "frag_keyframe+delay_moov+use_metadata_tags"}), says="subtitle track: times"),
    Row("language of the tracks lost", lambda case: case.copy(stream=lambda stream, kept: stream.metadata.update(
        {"language": "und"})), **REMUXED),
    Row("language of one track lost", tracks(one_without_language), says="language"),
    Row("copied without names and languages", lambda case: case.copy(
        stream=lambda stream, kept: stream.metadata.clear()), **REMUXED, says="lost"),
    Row("mkv: copied to mp4", lambda case: case.copy(".mp4"), **REMUXED, base="mkv"),
    Row("mkv: copied to mkv", lambda case: case.copy(), **REMUXED, base="mkv"),
    Row("copied, --strict", lambda case: case.copy(), "re-muxed", options={"strict": True}),
    Row("copied without the manifest", lambda case: (case.copy(), case.options.clear()), "re-muxed", "missing"),
    Row("older version: copied to mkv", lambda case: case.copy(".mkv"), "cannot-tell", base="old"),
    Row("older version: picture flipped", flip("video"), base="old", says="the picture"),
    Row("older version: NAL boundary moved", move_nal_boundary, "cannot-tell", base="old"),
    Row("picture dropped", pictures(dropped), says="25 pictures signed, 24 now"),
    Row("picture shown twice", pictures(doubled), says="25 pictures signed, 26 now"),
    Row("half as fast", slower, says="times"),
    Row("picture 0.2 s later", delayed("video", 0.2), says="start"),
    Row("sound 20 ms later", delayed("audio", 0.02), says="start"),
    Row("subtitles 0.1 s later", delayed("subtitle", 0.1), says="subtitle track: start"),
    Row("subtitles replaced", other_subtitles, says="subtitle track: content"),
    Row("generated track removed", without("audio", 1), says="sound tracks: 2 signed, 1 now"),
    Row("track of its own removed", without("audio"), says="'Original': removed"),
    Row("subtitles removed", without("subtitle"), says="subtitle tracks: 1 signed, 0 now"),
    Row("picture removed", without("video"), says="pictures: 1 signed, 0 now"),
    Row("sound track added", more_sound, says="sound tracks: 2 signed, 3 now"),
    Row("hidden picture added", hidden_picture, says="pictures: 1 signed, 2 now"),
    Row("sound tracks reordered", lambda case: case.copy(order=reordered), says="order of the sound tracks"),
    Row("generated sound made quieter", louder, says="'v2a (generated)': content"),
    Row("other track made the default", tracks(other_default), says="default sound track"),
    Row("mkv: track flagged as commentary", flagged(Disposition.comment), base="mkv", says="flags"),
    Row("mkv: subtitles forced", flagged(Disposition.forced, "subtitle"), base="mkv", says="flags"),
    Row("generated track renamed", titled("Location sound"), says="Location sound"),
    Row("mkv: generated track renamed", titled("Location sound"), base="mkv", says="Location sound"),
    Row("mkv: byte of the picture flipped", flip("video"), base="mkv", says="picture: content"),
    Row("cropped by the parameter set", cropped, says="configuration"),
    Row("shape of the pixels", tracks(aspect), says="shape of the pixels"),
    Row("colours", tracks(coloured), says="colour"),
    Row("chapter renamed", chapter_named("Closing"), says="'Opening' signed, 'Closing' now"),
    Row("title changed", tagged("title", "Another reel"), says="tag of the film: title"),
    Row("mkv: mark in another language", tagged("comment-fra", "recorded on location"), base="mkv", says="comment-fr"),
    Row("tag added", tagged("copyright", "somebody"), says="copyright"),
    Row("mark of synthetic sound changed", tagged("comment", "recorded on location"), says="comment"),
    Row("another film under its name", lambda case: shutil.copy(case.world.films["another"].path, case.path),
        "re-muxed", records="differ", says="sourceSha256"),
    # records
    Row("sidecar: another seed", edited_seed, **DIFFER, says="generator.seed"),
    Row("sidecar: another source", edited_side(sourceSha256="0" * 64), **DIFFER, says="sourceSha256"),
    Row("sidecar: another output", edited_side(outputSha256="0" * 64), **DIFFER, says="outputSha256"),
    Row("sidecar: another signer", edited_side(signer="CN=Somebody", signerSerial=""), **DIFFER, says="signer"),
    Row("sidecar: nothing of a signature", lambda case: case.film.edit_json(case.film.side, lambda side: [
        side.pop(name) for name in ("manifest", "signer", "signerSerial")]), **DIFFER, says="signer"),
    Row("sidecar deleted", lambda case: case.film.side.unlink(), **DIFFER, says="sidecar is missing"),
    Row("sidecar of another film", other_side, **DIFFER, says="packets"),
    Row("sidecar nested without end", written("side", DEEP), **DIFFER, says="too large"),
    Row("sidecar of wrong types", written("side", NONSENSE), **DIFFER, says="generator"),
    Row("sidecar: description of wrong types", edited_side(presented={"start": 5, "video": "x"}), **DIFFER,
        says="presented"),
    Row("unsigned: sidecar of wrong types", written("side", NONSENSE), "cannot-tell", "none", "differ",
        base="unsigned"),
    Row("unsigned: another seed", edited_seed, "unchanged", "none", "differ", base="unsigned", says="generator"),
    Row("unsigned: byte of the picture flipped", flip("video"), "changed", "none", "agree-unsigned", base="unsigned"),
    Row("unsigned: copied to mkv", lambda case: (case.copy(".mkv"), case.options.clear()), "re-muxed", "none",
        "agree-unsigned", 0, base="unsigned"),
    Row("report: another seed", edited_report(seed=9), **DIFFER, says="seed: report"),
    Row("report: another output hash", edited_report(output_sha256="0" * 64), **DIFFER, says="output_sha256: report"),
    Row("report: no signer", edited_report(signer=""), **DIFFER, says="signer: report"),
    Row("report: not a table", written("report", b"PAR1 nonsense"), **DIFFER, says="report.parquet"),
    Row("row: another model", edited_row(model="maxi"), **DIFFER, says="model: row"),
    Row("row: nested without end", written("row", DEEP), **DIFFER, says="rows/"),
    Row("copy of the manifest replaced", lambda case: shutil.copy(case.world.films["another"].copy_of_manifest,
        case.film.copy_of_manifest), **DIFFER, says="manifest"),
    Row("no records at all", no_records, "unchanged", records="none", exit=0),
]  # fmt: skip


def main() -> int:
    """Print the table with the answers as they are. Returns 1 if one is not as it should be."""
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch, inspected_here():
        world = World.make(Path(scratch, "world"))
        print(f"{'tampering':<44} {'signature':<15} {'film':<12} {'records':<15} exit")
        for number, row in enumerate(ROWS):
            found, code = row.checked(world, Path(scratch, str(number)))
            states = found.verdict.states
            answers = (states.get("signature", ""), states["film"], states.get("records", ""), code)
            good = answers == (row.signature, row.film, row.records, row.exit) and row.says in words(found)
            wrong += not good
            print(
                f"{row.name:<44} {answers[0]:<15} {answers[1]:<12} {answers[2]:<15} {code}{'' if good else '  WRONG'}"
            )
            if not good or "-v" in sys.argv:
                print("    " + words(found).replace("\n", "\n    "))
    print(f"{len(ROWS)} rows, {wrong} wrong")
    return int(wrong > 0)


def words(found: Checked) -> str:
    """The text of all answers, with their details."""
    return "\n".join(f"{a.question}: {a.text} {a.details}" for a in found.verdict.answers)


if __name__ == "__main__":
    sys.exit(main())
