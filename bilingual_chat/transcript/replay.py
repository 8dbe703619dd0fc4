"""Journal bytes → the conversation they record, past whatever damage is in them.

A record is one line: a JSON object whose first field is "record". The first one is the header. What is
between records is searched at the speed of `bytes.find`, so that 64 MiB of anything take seconds.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.text.conversation import Conversation, FinishReason, Turn, Utterance
from bilingual_chat.text.encodings import likely_encoding
from bilingual_chat.transcript import schema
from bilingual_chat.transcript.details import RecordedDetails, RecordedEvent, unfit
from bilingual_chat.transcript.gaps import Gaps
from bilingual_chat.transcript.loaded import Header, Loaded
from bilingual_chat.transcript.safe_json import JsonFault, encode, excess, parse_prefix
from bilingual_chat.transcript.schema import Misshapen

FORMAT = "bchat-journal"
VERSION = 1
_START = b'{"record": '
# As much of a record as tells it from nearly all garbage before it is parsed.
_RECORD = re.compile(rb'\{[ \t]*"record"[ \t]*:[ \t]*"[^"\\\n]{0,100}"[ \t]*(?:\}|,[ \t]*")')
_MOST_EVENTS = 10_000
_MOST_REPLIES = 100  # to one message; what is beyond stays in the file
_NO_DETAILS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Replayed:
    """What a journal holds, and the bytes it should hold: every good record, byte for byte."""

    loaded: Loaded
    _header: bytes  # in place of one that was lost
    _gaps: Gaps

    @property
    def repaired(self) -> bytes:
        return self._header + self._gaps.without()


@dataclass
class _Story:
    """The conversation so far, while the records are gone through."""

    path: Path
    header: Header | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    opening: tuple[Utterance, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    pending: str | None = None
    pending_replies: list[Turn] = field(default_factory=list)
    replacing: bool = False  # the next record, if it is a turn, takes the place of the last one
    events: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=_MOST_EVENTS))
    unfit: list[str] = field(default_factory=list)  # the first details that were left out


def is_journal(data: bytes) -> bool:
    """Whether bytes are a journal, however damaged, rather than a document."""
    return data.startswith(_START) or b"\n" + _START in data


def line(record: str, at: str, **fields: object) -> bytes:
    """A record as it stands in the file."""
    return encode({"record": record, "at": at, **fields}) + b"\n"


def header_line(header: Header, details: Mapping[str, Any]) -> bytes:
    names = {"record": "header", "format": FORMAT, "version": VERSION}
    return encode({**names, **schema.header_fields(header), **schema.without(details, (*names, "at"))}) + b"\n"


def replay(data: bytes, path: Path) -> Replayed:
    """The conversation in a journal's bytes. Raises BchatError (DATA) for a newer format and for
    bytes without a single good record."""
    story, gaps = _Story(path), Gaps(data)
    _read_records(data, story, gaps)
    if gaps.hide_everything:
        raise _no_journal(data, path)
    if gaps.damaged and not story.turns and story.pending is None and (name := likely_encoding(gaps.startup())):
        raise BchatError("transcript.invalid", status=ExitStatus.DATA, path=path, reason=_encoding(name))
    problems = _problems(gaps, story)
    header, restored = story.header, b""
    if header is None:
        header = schema.header_of_file(path)
        restored = header_line(header, {})
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
    return Replayed(loaded, restored, gaps)


def _read_records(data: bytes, story: _Story, gaps: Gaps) -> None:
    """Every record of `data` into the story, and what is between them into the gaps; in linear time.

    A record is looked for where a line begins or after damage. In a line with damage, it reaches at
    most to where the next one may begin.
    """
    end = line_end = 0
    found = _RECORD.search(data)
    while found:
        at = found.start()
        if at >= line_end:
            line_end = data.find(b"\n", at)
            stop = line_end = len(data) if line_end < 0 else line_end
        else:  # not the first in its line: that one was tried up to the end
            other = _RECORD.search(data, at + 1, line_end)
            stop = other.start() if other else line_end
        if length := _take(data, at, stop, story):
            if at > end and data[end:at] != b"\n":
                gaps.note(end, at)
            end = at + length
        found = _RECORD.search(data, end if length else at + 1)
    if data[end:] != b"\n":
        gaps.note(end, len(data))


def _no_journal(data: bytes, path: Path) -> BchatError:
    if name := likely_encoding(data):
        return BchatError("transcript.invalid", status=ExitStatus.DATA, path=path, reason=_encoding(name))
    return BchatError("transcript.not-a-journal", status=ExitStatus.DATA, path=path)


def _encoding(name: str) -> Phrase:
    return Phrase("json.encoding", name=name)


def _problems(gaps: Gaps, story: _Story) -> list[BchatError]:
    problems = []
    if gaps.is_torn:  # no newline after it: the writer was killed in the middle
        problems.append(BchatError("transcript.torn", status=ExitStatus.DATA, path=story.path))
    if gaps.damaged:
        shown = ", ".join(map(str, gaps.first_lines)) + (", …" if gaps.damaged > len(gaps.first_lines) else "")
        problems.append(
            BchatError("transcript.damaged", status=ExitStatus.DATA, path=story.path, count=gaps.damaged, lines=shown)
        )
    if story.unfit:
        problems.append(schema.details_left_out(story.path, story.unfit))
    return problems


def _take(data: bytes, at: int, stop: int, story: _Story) -> int:
    """How many bytes there are a good record, with which the story goes on; 0 for none."""
    raw = data[at:stop]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "surrogateescape")
    if excess(raw):
        return 0
    try:
        record, end = parse_prefix(text)
        # A byte that is not UTF-8 cannot be encoded again: UnicodeEncodeError, a ValueError.
        length = len(raw) if end == len(text) and text.isascii() else len(text[:end].encode("utf-8"))
        _continue(story, record, data, at)
    except (JsonFault, Misshapen, ValueError):
        return 0
    return length


def _continue(story: _Story, record: dict[str, Any], data: bytes, at: int) -> None:
    """The story with one record more; Misshapen before anything is changed, if it is not one.

    A record of an unknown kind is kept in the file and passed over.
    """
    replacing, story.replacing = story.replacing, False
    match record["record"]:
        case "header":
            story.header, story.details = _header(record, story.path)
        case "opening":
            said = record.get("utterances")
            if not isinstance(said, list):
                raise Misshapen("utterances", "list")
            story.opening = tuple(schema.utterance_of(value, "utterances")[0] for value in said)
        case "user":
            text = _text(record, "text")
            if text != story.pending:
                story.pending_replies.clear()
            story.pending = text
        case "turn":
            turn = _turn(story, record, data, at)
            is_instead = replacing and story.turns
            earlier = story.turns.pop().replies[-_MOST_REPLIES:] if is_instead else tuple(story.pending_replies)
            story.turns.append(turn.among(earlier) if earlier else turn)
            _forget_pending(story)
        case "reply":
            _add_reply(story, _turn(story, record, data, at))
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
            story.events.append(RecordedEvent(data, at))


def _turn(story: _Story, record: dict[str, Any], data: bytes, at: int) -> Turn:
    user, reply = _text(record, "user"), _text(record, "reply")
    details, finish = record.get("details", _NO_DETAILS), record.get("finish_reason", FinishReason.STOP.value)
    bad = unfit(details) if isinstance(details, Mapping) else ["details"]
    if not isinstance(finish, str) or finish not in schema.FINISHES:
        finish = ""
        bad.append("finish_reason")
    if bad:
        story.unfit = list(dict.fromkeys(story.unfit + bad))[: schema.MOST_NAMED + 1]
        fit = schema.without(details, bad) if isinstance(details, Mapping) else {}
        return Turn(user, reply, schema.FINISHES.get(finish, FinishReason.STOP), fit)
    return Turn(user, reply, schema.FINISHES[finish], RecordedDetails(data, at) if details else _NO_DETAILS)


def _add_reply(story: _Story, reply: Turn) -> None:
    """A reply beside the last turn's, or to words that have none yet."""
    if story.pending is not None:
        story.pending_replies = [*story.pending_replies[1 - _MOST_REPLIES :], reply]
    elif story.turns and len(story.turns[-1].others) < _MOST_REPLIES:
        story.turns[-1] = story.turns[-1].beside((reply,))


def _forget_pending(story: _Story) -> None:
    story.pending = None
    story.pending_replies.clear()


def _header(record: dict[str, Any], path: Path) -> tuple[Header, Mapping[str, Any]]:
    if record.get("format") != FORMAT:
        raise Misshapen("format", "text")
    version = schema.whole_number(record, "version", low=1)
    if version > VERSION:
        raise BchatError("transcript.newer", status=ExitStatus.DATA, path=path, version=version, known=VERSION)
    header, details = schema.header_of(record, schema.header_of_file(path))
    return header, schema.without(details, ("record", "format", "version"))


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise Misshapen(name, "text")
    return value
