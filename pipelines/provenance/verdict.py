"""Verdict on a dubbed file: three separate answers, about its signature, the film itself and its records.

`judge` is a pure function of an inspection (`pipelines.provenance.inspection`) and the records
(`pipelines.provenance.records`). An answer is good, a note or bad; a file passes if none is bad.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.mux.packet_hashes import Digests
from pipelines.provenance import sidecar, signing
from pipelines.provenance.comparison import differences, lost_names
from pipelines.provenance.inspection import Inspection, Signed
from pipelines.provenance.records import Records, disagreements
from pipelines.provenance.source_pictures import compare_pictures

Level = Literal["bad", "note", "good"]
_WORST_FIRST = ("bad", "note", "good")


@dataclass(frozen=True)
class Answer:
    """An answer to one question about a file."""

    question: str
    """`signature`, `film`, `records`, or `source`."""
    state: str
    """Short name for programs: `trusted`, `re-muxed`, `differ` ..."""
    level: Level
    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Demands:
    """Demands that a file must meet, besides not being changed."""

    trust: bool = False
    """Demand a signer who leads to a trusted authority."""
    signature: bool = False
    """Demand a valid signature."""
    strict: bool = False
    """Demand the best answer to every question."""


@dataclass(frozen=True)
class Verdict:
    """Answers about a file, worst first."""

    answers: tuple[Answer, ...]

    @property
    def passed(self) -> bool:
        return all(answer.level != "bad" for answer in self.answers)

    def __getitem__(self, question: str) -> Answer:
        return next(answer for answer in self.answers if answer.question == question)

    @property
    def states(self) -> dict[str, str]:
        """State by question."""
        return {answer.question: answer.state for answer in self.answers}


def verdict(answers: list[Answer], demands: Demands | None = None) -> Verdict:
    """The verdict of these answers. With strict demands, a note is as bad as a bad one."""
    if demands is not None and demands.strict:
        answers = [
            a if a.level == "good" else Answer(a.question, a.state, "bad", a.text, a.details) for a in answers
        ]
    return Verdict(tuple(sorted(answers, key=lambda answer: _WORST_FIRST.index(answer.level))))


def judge(
    inspected: Inspection,
    records: Records,
    demands: Demands | None = None,
    *,
    from_copy: bool = False,
    source: Inspection | None = None,
) -> Verdict:
    """Verdict on a file.

    from_copy: True if the manifest is the copy in the records, because the file carries none. source: the film that it
    was made of, to compare the picture.
    """
    demands = demands or Demands()
    signed = inspected.signed if inspected.signed is not None and inspected.signed.intact else None
    film = _film(inspected, records, signed)
    differing = disagreements(records, inspected, signed, film.state == "unchanged")
    answers = [_signature(inspected, records, demands, from_copy), film, _records(records, differing, signed)]
    if source is not None:
        facts = signed.facts if signed is not None else records.side or {}
        answers += _source(inspected, facts, source)
    return verdict(answers, demands)


# ---- signature


def _signature(inspected: Inspection, records: Records, demands: Demands, from_copy: bool) -> Answer:
    question, signed = "signature", inspected.signed
    if inspected.manifest_error and not from_copy:
        text = f"its manifest cannot be read: {inspected.manifest_error}"
        return Answer(question, "invalid", "bad", text)
    if signed is None or from_copy:
        return _no_signature(records, demands, signed)
    if not signed.intact:
        codes = tuple(signed.failures)
        return Answer(question, "invalid", "bad", f"its manifest was edited ({', '.join(codes[:5])})", codes)
    who = f"signed by {signed.signer or 'a certificate without names'}"
    if signed.expired:
        return _expired(signed, who, demands)
    if signed.trusted:
        return Answer(question, "trusted", "good", f"valid, {who}, whom you trust")
    if demands.trust:
        return Answer(question, "unknown-signer", "bad", f"valid, but {who}, who is none of those you trust")
    hint = "list the authorities you trust with --trust"
    if signing.TEST_MARK in signed.signer:
        hint = f"a test certificate, which anybody can make; {hint}"
    return Answer(question, "unknown-signer", "note", f"valid, by an unknown signer: {who}; {hint}")


def _no_signature(records: Records, demands: Demands, copied: Signed | None) -> Answer:
    if said := records.says_signed:
        text = f"missing: the film carries none, but {said} says that it was signed"
        details: tuple[str, ...] = ()
        if copied is not None:
            state = "valid" if copied.intact else "invalid"
            details = (
                f"the copy in the records is {state}, signed by {copied.signer}; take it by --manifest",
            )
        return Answer("signature", "missing", "bad", text, details)
    if demands.signature or demands.trust:
        return Answer("signature", "none", "bad", "not signed, and you demand a signature")
    return Answer("signature", "none", "note", "not signed, and no record says that it was")


def _expired(signed: Signed, who: str, demands: Demands) -> Answer:
    ended = signed.valid_to[:10] or "unknown date"
    if not signed.signed_in_time:
        when = f"on {signed.signed_at}" if signed.signed_at else "at a time that it does not state"
        text = f"expired on {ended} and signed {when}, not while its certificate was valid: {who}"
        return Answer("signature", "expired-late", "bad", text)
    text = f"expired at check (on {ended}), signed in time (on {signed.signed_at}, by its own account): {who}"
    if demands.trust:
        return Answer("signature", "expired", "bad", f"{text}; whether you trust it can no longer be checked")
    return Answer("signature", "expired", "note", text)


# ---- film


def _film(inspected: Inspection, records: Records, signed: Signed | None) -> Answer:
    question = "film"
    if inspected.media_error:
        return Answer(question, "unreadable", "bad", f"cannot be read as a film: {inspected.media_error}")
    # What nobody signed does not describe a signed film: a manifest without v2a's facts may lie beside any film.
    facts = records.side if signed is None else signed.facts or None
    if facts is None and signed is not None and not signed.binds:
        text = "its manifest is that of another film, or of this one before a change, and does not say what it presents"
        return Answer(question, "no-record", "bad", text)
    if facts is None and signed is None:
        marked = sidecar.SOURCE_TYPE in inspected.tags.get("comment", "")
        said = "its metadata says that its sound is synthetic" if marked else "nothing says that v2a made it"
        return Answer(
            question, "no-record", "bad", f"no manifest and no sidecar was found to check it against; {said}"
        )
    verb = "signed" if signed is not None else "recorded"
    same = _same_bytes(inspected, records, signed)
    found, can_tell = _changes(inspected, facts or {}, signed)
    if same and not (found and signed is not None and can_tell == "surely"):
        return Answer(question, "unchanged", "good", f"byte for byte the film that was {verb}")
    if found:
        if _is_other(inspected, facts or {}):
            found = [f"another film: neither picture nor sound are those that were {verb}", *found]
        return Answer(question, "changed", "bad", f"changed: {'; '.join(found[:6])}", tuple(found))
    if not can_tell:
        text = (
            f"changed or re-muxed: cannot be told, as what was {verb} does not describe what the film presents "
            "(older versions of v2a did not)"
        )
        return Answer(question, "cannot-tell", "bad", text)
    text = f"re-muxed, or metadata that is not shown was edited; it presents what was {verb}"
    if lost := lost_names((facts or {})["presented"], inspected.presented):
        text += f", but the {' and '.join(lost)} of its tracks were lost"
    return Answer(question, "re-muxed", "note", text)


def _same_bytes(inspected: Inspection, records: Records, signed: Signed | None) -> bool:
    """True if every byte is the recorded one.

    C2PA leaves out boxes of mp4 that hold no film (ftyp, free), so the records must not contradict it.
    """
    rows = [records.side and records.side.get("outputSha256")]
    rows += [row and row.get("output_sha256") for row in (records.row, records.report)]
    told = [text for text in rows if text]
    if signed is not None:
        return signed.binds and (not told or inspected.sha256 in told)
    return bool(records.side) and rows[0] == inspected.sha256


def _changes(inspected: Inspection, facts: Mapping[str, Any], signed: Signed | None) -> tuple[list[str], str]:
    """Differences between the film and the description in a record, and whether they can be told.

    The latter is `surely` if the record was made by the same version of FFmpeg, `yes` for another one, and empty if the
    record has no description of what the film presents.
    """
    description = facts.get("presented")
    if description is None:
        return list(_packets_differ(inspected, facts)), ""
    try:
        found = differences(description, inspected.presented)
    except ValueError as error:
        return [f"the record's description cannot be compared ({error})"], "yes"
    return found, "surely" if description.get("by") == inspected.presented.get("by") else "yes"


def _packets_differ(inspected: Inspection, facts: Mapping[str, Any]) -> Iterator[str]:
    """Changes that the packet hashes of earlier versions show: they do not see everything."""
    try:
        recorded = Digests.from_json(facts.get("packets") or {})
    except (ValueError, AttributeError):
        return
    if sorted(inspected.video) != sorted(recorded.video):
        yield "the picture"
    rest = list(inspected.sound)
    if recorded.generated in rest:
        rest.remove(recorded.generated)
    else:
        yield "the generated sound"
    others = (*recorded.kept, *recorded.alternatives)
    if Counter(others) - Counter(rest) or len(inspected.sound) != len(others) + 1:
        yield "the other sound tracks"


def _is_other(inspected: Inspection, facts: Mapping[str, Any]) -> bool:
    """True if neither the picture nor the generated sound are those of the record."""
    packets = facts.get("packets")
    if not isinstance(packets, Mapping):
        return False
    video, sound = packets.get("video"), packets.get("generated")
    return (
        isinstance(video, list)
        and sorted(map(str, video)) != sorted(inspected.video)
        and sound not in inspected.sound
    )


# ---- records and source


def _records(records: Records, differing: list[str], signed: Signed | None) -> Answer:
    if differing:
        return Answer(
            "records", "differ", "bad", f"they differ in {'; '.join(differing[:6])}", tuple(differing)
        )
    there = [
        name
        for name, value in (
            ("sidecar", records.side),
            ("report", records.report or records.row),
            ("manifest", signed and signed.facts),
        )
        if value
    ]
    if records.side is None:
        if records.report is not None or records.row is not None:
            return Answer("records", "differ", "bad", "the report lists the film, but its sidecar is missing")
        return Answer("records", "none", "note", "no sidecar was found, so nothing was compared")
    text = f"{', '.join(there)} agree"
    if signed is None or not signed.facts:
        why = "nothing is signed" if signed is None else "the manifest does not hold them"
        text += f", but anyone who can write them can change them: {why}"
        return Answer("records", "agree-unsigned", "note", text)
    return Answer("records", "agree", "good", text)


def _source(inspected: Inspection, facts: Mapping[str, Any], source: Inspection) -> Iterator[Answer]:
    """Answers about the picture's origin, and about the source itself."""
    agreement = compare_pictures(source.presented, inspected.presented)
    if not inspected.video and not inspected.presented.get("video"):
        yield Answer("picture", "sound-only", "note", "a sound file: there is no picture to compare")
    elif agreement == "same":
        yield Answer("picture", "of-source", "good", "the source's, picture for picture and time for time")
    elif agreement == "unclear":
        text = "the source's, picture for picture; its irregular times were rounded, and not compared"
        yield Answer("picture", "of-source", "note", text)
    elif agreement == "other times":
        yield Answer("picture", "other-times", "bad", "the source's pictures at other times")
    else:
        yield Answer("picture", "not-of-source", "bad", "not the source's")
    recorded = facts.get("sourceSha256")
    if recorded and recorded != source.sha256:
        yield Answer("source", "changed", "bad", "it has changed since it was dubbed")
    elif recorded:
        yield Answer("source", "unchanged", "good", "byte for byte the film that was dubbed")
