"""Answers that a child may give: a schema with bounds for each answer, checked before anything of it is used.

A film may have taken the child over, and then its answers are the film's. An answer outside its schema is an error of
that film. The parser refuses deep nesting, lone surrogates and numbers of thousands of digits.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from pipelines.media.container import MAX_PIXELS
from pipelines.media.length import MAX_DURATION_S
from pipelines.media.video import Probe

MAX_CHANNELS = 64
MAX_RATE = 768_000
"""Samples per second."""

MAX_TRACKS = 1_000

MAX_TAG = 10_000
"""Characters of a tag of v2a; its own are far shorter."""

_MAX_CLOCK_S = 1e11
"""Largest container time; recorders count from 1970, others from 1601."""

_MAX_BYTES = 1 << 53

Text = Annotated[str, Field(max_length=2_000)]
Word = Annotated[str, Field(pattern=r"^[\x20-\x7e]{0,100}$")]
Stamp = Annotated[
    str, Field(pattern=r"^([0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(Z|[+-][0-9]{2}:[0-9]{2})?)?$")
]
"""A time in ISO 8601, or nothing."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Seconds = Annotated[float, Field(ge=-_MAX_CLOCK_S, le=_MAX_CLOCK_S)]


class Answer(BaseModel):
    """Base of the schemas: exact types, no unknown fields, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class ProbeAnswer(Answer):
    """Fields of `video.Probe`."""

    duration_s: float = Field(gt=0, le=MAX_DURATION_S)
    fps: float = Field(gt=0, le=1e9)
    width: int = Field(gt=0, le=MAX_PIXELS)
    height: int = Field(gt=0, le=MAX_PIXELS)
    rotation: Literal[0, 90, 180, 270]
    video_codec: Word
    container: Word
    audio_state: Literal["none", "empty", "silent", "audible"]
    peak_dbfs: float | None = Field(ge=-1000, le=1000)
    video_start_s: _Seconds
    n_audio_tracks: int = Field(ge=0, le=MAX_TRACKS)
    n_frames: int = Field(gt=0, le=_MAX_BYTES)
    note: Text
    recorded_at: Stamp
    sha256: Sha256

    def probe(self) -> Probe:
        return Probe(**self.model_dump())


class SoundAnswer(Answer):
    """The sound of a file: samples at 44.1 kHz, and the format of its track."""

    samples: int = Field(ge=0, le=_MAX_BYTES)
    rate: int = Field(gt=0, le=MAX_RATE)
    channels: int = Field(gt=0, le=MAX_CHANNELS)


class TrackAnswer(Answer):
    """The format of one sound track."""

    rate: int = Field(gt=0, le=MAX_RATE)
    channels: int = Field(gt=0, le=MAX_CHANNELS)


class StretchAnswer(Answer):
    """The times (start, end) in seconds between which pictures are damaged."""

    damage: list[Annotated[list[_Seconds], Field(min_length=2, max_length=2)]] = Field([], max_length=100_000)


class FailedAnswer(Answer):
    """A failure of the file: error class, message and stage."""

    error_class: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,60}$")]
    message: Text
    stage: Annotated[str, Field(pattern=r"^[a-z_]{1,20}$")]


class DigestsAnswer(Answer):
    """Fields of `packet_hashes.Digests`."""

    video: list[Sha256] = Field(max_length=MAX_TRACKS)
    kept: list[Sha256] = Field(max_length=MAX_TRACKS)
    generated: Sha256
    alternatives: list[Sha256] = Field(max_length=MAX_TRACKS)


class MuxAnswer(Answer):
    """Fields of `track.MuxResult`."""

    container: Word
    audio_codec: Word
    n_samples: int = Field(ge=0, le=_MAX_BYTES)
    size: int = Field(ge=0, le=_MAX_BYTES)
    dropped: list[Text] = Field(max_length=MAX_TRACKS)
    beside: int = Field(0, ge=0, le=_MAX_BYTES)
    source_sha256: Sha256
    digests: DigestsAnswer
    presented: dict[str, Any]
    converted: list[Text] = Field([], max_length=MAX_TRACKS)


class SignedCopyAnswer(Answer):
    """The manifest of a signed copy, in hex digits."""

    manifest: Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]


class NoCopyAnswer(Answer):
    """The reason why there is no signed copy."""

    error: Literal["signing", "storage"]
    message: Text


class SignedAnswer(Answer):
    """Fields of `inspection.Signed`."""

    facts: dict[str, Any]
    signer: Text
    source_type: Text
    failures: list[Text] = Field(max_length=MAX_TRACKS)
    trusted: bool
    expired: bool
    signed_at: Text
    valid_from: Text
    valid_to: Text
    serial: Text
    label: Text


class ManifestAnswer(Answer):
    """A manifest, or the reason why there is none that can be read."""

    signed: SignedAnswer | None
    manifest_error: Text


class FilmAnswer(Answer):
    """Facts about a film that is verified; only `media_error` if it cannot be read."""

    tags: dict[Word, Annotated[str, Field(max_length=MAX_TAG)]] = Field({}, max_length=10)
    video: list[Sha256] = Field([], max_length=MAX_TRACKS)
    sound: list[Sha256] = Field([], max_length=MAX_TRACKS)
    titles: list[Text] = Field([], max_length=MAX_TRACKS)
    presented: dict[str, Any] = {}
    media_error: Text = ""


class ReportAnswer(Answer):
    """A film's row of a report, if there is one, or the reason why the report cannot be read."""

    row: dict[Word, str | int | None] | None
    damaged: Text = ""


A = TypeVar("A", bound=Answer)


class ValidationFailed(ValueError):
    """An answer that does not keep to its schema."""


def parse(line: bytes) -> dict[str, Any]:
    """The JSON object in a line of a child. Raises ValueError for anything else."""
    answer = from_json(line)
    if not isinstance(answer, dict):
        raise ValidationFailed(f"{type(answer).__name__} instead of an object")
    return answer


def checked(schema: type[A], fields: Any) -> A:
    """The answer, if it keeps to its schema. Raises ValidationFailed with the first offence."""
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "answer"
        raise ValidationFailed(f"{place}: {first['msg']}") from None
