"""Journal bytes → the conversation they record, past whatever damage is in them.

A record is one line: a JSON object whose first field is "record". The first one is the header.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bilingual_chat.conversation import Conversation, Turn, Utterance
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.transcript import Header, Loaded, shapes
from bilingual_chat.transcript.jsontext import JsonFault, encode, excess, parse
from bilingual_chat.transcript.shapes import Misshapen

FORMAT = "bchat-journal"
VERSION = 1
_START = b'{"record": '
_MAX_SALVAGES = 10_000
_BLANK = b" \t\r\x00"  # a power failure leaves blocks of NUL


@dataclass(frozen=True)
class Replayed:
    """What a journal holds, and the bytes it should hold: every good record, byte for byte."""

    loaded: Loaded
    repaired: bytes


@dataclass
class _Story:
    """The conversation so far, while the records are gone through."""

    header: Header | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    opening: tuple[Utterance, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    pending: str | None = None
    pending_replies: list[Turn] = field(default_factory=list)
    replacing: bool = False  # the next record, if it is a turn, takes the place of the last one
    events: list[Mapping[str, Any]] = field(default_factory=list)


def is_journal(data: bytes) -> bool:
    """Whether bytes are a journal, however damaged, rather than a document."""
    return data.startswith(_START) or b"\n" + _START in data


def line(record: str, at: str, **fields: object) -> bytes:
    """A record as it stands in the file."""
    return encode({"record": record, "at": at, **fields}) + b"\n"


def header_line(header: Header, details: Mapping[str, Any]) -> bytes:
    names = {"record": "header", "format": FORMAT, "version": VERSION}
    return encode({**names, **shapes.header_fields(header), **shapes.without(details, (*names, "at"))}) + b"\n"


def replay(data: bytes, path: Path) -> Replayed:
    """The conversation in a journal's bytes. Raises BchatError (DATA) for a newer format and for
    bytes without a single good record."""
    if too_many := excess(data):
        raise BchatError("transcript.invalid", status=ExitStatus.DATA, path=path, reason=too_many)
    story = _Story()
    good: list[bytes] = []
    damaged: list[int] = []
    lines = data.split(b"\n")
    for number, raw in enumerate(lines, start=1):
        taken, whole = _take(raw, story, path)
        good.extend(taken)
        if not whole:
            damaged.append(number)
    if not good:
        raise BchatError("transcript.not-a-journal", status=ExitStatus.DATA, path=path)
    problems = _problems(damaged, last=len(lines), path=path)
    header = story.header
    if header is None:
        header = shapes.header_of_file(path)
        good.insert(0, header_line(header, {}).rstrip(b"\n"))
        problems.append(BchatError("transcript.header-lost", status=ExitStatus.DATA, path=path))
    conversation = Conversation(story.opening, tuple(story.turns))
    loaded = Loaded(
        header,
        conversation,
        tuple(problems),
        story.pending,
        story.details,
        events=tuple(story.events),
        pending_replies=tuple(story.pending_replies),
    )
    return Replayed(loaded, b"".join(raw + b"\n" for raw in good))


def _problems(damaged: list[int], *, last: int, path: Path) -> list[BchatError]:
    problems = []
    if damaged and damaged[-1] == last:  # no newline after it: the writer was killed in the middle
        problems.append(BchatError("transcript.torn", status=ExitStatus.DATA, path=path))
        damaged = damaged[:-1]
    if damaged:
        shown = ", ".join(str(number) for number in damaged[:5]) + (", …" if len(damaged) > 5 else "")
        problems.append(
            BchatError("transcript.damaged", status=ExitStatus.DATA, path=path, count=len(damaged), lines=shown)
        )
    return problems


def _take(raw: bytes, story: _Story, path: Path) -> tuple[list[bytes], bool]:
    """Applies the records in one line; those that are good, and whether the line was nothing else."""
    whole = raw.strip(_BLANK)
    if _apply(whole, story, path):
        return [whole], b"\x00" not in raw
    if not whole:
        return [], b"\x00" not in raw
    return [part for part in _salvaged(whole) if _apply(part, story, path)], False


def _salvaged(raw: bytes) -> Iterator[bytes]:
    """What may be records inside a damaged line: between garbage, or run together."""
    _, *rests = raw.split(_START, _MAX_SALVAGES)
    for rest in rests:
        text = (_START + rest).decode("utf-8", "surrogateescape")
        try:
            _, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            continue
        yield text[:end].encode("utf-8", "surrogateescape")


def _apply(raw: bytes, story: _Story, path: Path) -> bool:
    """Whether `raw` is a good record; if so the story goes on with it."""
    try:
        record = parse(raw)
        if not isinstance(record, dict) or "record" not in record:
            return False
        _continue(story, record, path)
    except (JsonFault, Misshapen):
        return False
    return True


def _continue(story: _Story, record: dict[str, Any], path: Path) -> None:
    """The story with one record more; Misshapen before anything is changed, if it is not one.

    A record of an unknown kind is kept in the file and passed over.
    """
    replacing, story.replacing = story.replacing, False
    match record["record"]:
        case "header":
            story.header, story.details = _header(record, path)
        case "opening":
            said = record.get("utterances")
            if not isinstance(said, list):
                raise Misshapen("utterances", "list")
            story.opening = tuple(shapes.utterance_of(value, "utterances")[0] for value in said)
        case "user":
            text = _text(record, "text")
            if text != story.pending:
                story.pending_replies.clear()
            story.pending = text
        case "turn":
            turn = _turn(record)
            is_instead = replacing and story.turns
            earlier = story.turns.pop().replies if is_instead else tuple(story.pending_replies)
            story.turns.append(turn.among(earlier))
            _forget_pending(story)
        case "reply":
            _add_reply(story, _turn(record))
        case "undo" if record.get("replaces") is True:
            # Killed between the two records, the turn stays: what was to replace it is not here.
            story.replacing = True
        case "undo":
            del story.turns[-1:]
            _forget_pending(story)
        case "clear":
            story.turns.clear()
            _forget_pending(story)
        case "event":
            story.events.append(shapes.without(record, ("record",)))


def _turn(record: dict[str, Any]) -> Turn:
    return Turn(
        _text(record, "user"),
        _text(record, "reply"),
        shapes.finish_of(record, "turn"),
        shapes.mapping(record.get("details", {}), "details"),
    )


def _add_reply(story: _Story, reply: Turn) -> None:
    """A reply beside the last turn's, or to words that have none yet."""
    if story.pending is not None:
        story.pending_replies.append(reply)
    elif story.turns:
        story.turns[-1] = story.turns[-1].beside((reply,))


def _forget_pending(story: _Story) -> None:
    story.pending = None
    story.pending_replies.clear()


def _header(record: dict[str, Any], path: Path) -> tuple[Header, Mapping[str, Any]]:
    if record.get("format") != FORMAT:
        raise Misshapen("format", "text")
    version = shapes.whole_number(record, "version", low=1)
    if version > VERSION:
        raise BchatError("transcript.newer", status=ExitStatus.DATA, path=path, version=version, known=VERSION)
    header, details = shapes.header_of(record, shapes.header_of_file(path))
    return header, shapes.without(details, ("record", "format", "version"))


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise Misshapen(name, "text")
    return value
