"""Reads the conversation in a journal's bytes, past any damage, in bounded time and memory.

A record is one line: a JSON object whose first field is "record". The first record is the header. The bytes between
records are searched at the speed of `bytes.find`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.transcript import schema
from bilingual_chat.transcript.builder import FORMAT, VERSION, ConversationBuilder
from bilingual_chat.transcript.files import MAX_BYTES
from bilingual_chat.transcript.gaps import Gaps
from bilingual_chat.transcript.loaded import Header, Loaded
from bilingual_chat.transcript.safe_json import (
    MAX_PER_BYTE,
    JsonError,
    encode,
    excess,
    memory_needed,
    other_encoding,
    parse_prefix,
)
from bilingual_chat.transcript.schema import SchemaError

_START = b'{"record": '
# The beginning of a record: enough to skip nearly all garbage before parsing.
_ANY_RECORD = re.compile(rb'\{[ \t]*"record"[ \t]*:[ \t]*"[^"\\\n]{0,100}"[ \t]*(?:\}|,[ \t]*")')
# The beginning of a record exactly as bchat writes it: so long that MAX_BYTES holds at most 1.4 million.
_OWN_RECORD = re.compile(
    rb'\{"record": "(?:header", "format": "[^"\n]{1,30}", "version": |[^"\\\n]{1,100}", "at": "[0-9T:.+-]{23,35}")'
)
_MAX_CANDIDATES = 200_000  # tries of _ANY_RECORD; after them only _OWN_RECORD is tried
_SMALL = 2**16  # bytes; the memory of a smaller record is not counted
# Bytes to decode and parse one record: enough for 16 MiB, and bchat writes at most `journal.COPIED`.
_MAX_FOR_RECORD = 2 * MAX_BYTES
_MAX_IN_ALL = MAX_BYTES * 21 // 8  # for the conversation so far and one record


@dataclass(frozen=True)
class Replayed:
    """The conversation in a journal, and the journal's repaired bytes: every good record, unchanged."""

    loaded: Loaded
    _header: bytes  # replaces a lost one
    _gaps: Gaps

    @property
    def repaired(self) -> bytes | bytearray:
        return self._gaps.without(self._header)


def is_journal(data: bytes) -> bool:
    """Return True if bytes are a journal, however damaged, and not a document."""
    return data.startswith(_START) or b"\n" + _START in data


def line(record: str, at: str, **fields: object) -> bytes:
    """Return a record as it is written."""
    return encode({"record": record, "at": at, **fields}) + b"\n"


def header_line(header: Header, details: Mapping[str, Any]) -> bytes:
    """Return a journal's first record. `details` are fields beside those of the header."""
    names = {"record": "header", "format": FORMAT, "version": VERSION}
    return encode({**names, **schema.header_fields(header), **schema.without(details, (*names, "at"))}) + b"\n"


def replay(data: bytes, path: Path) -> Replayed:
    """Return the conversation in a journal's bytes.

    Raises BchatError (DATA) for a newer format, and for bytes without a good record.
    """
    builder, gaps = ConversationBuilder(path), Gaps(data)
    _read_records(data, builder, gaps)
    if gaps.hide_everything:
        raise _no_journal(data, path)
    if gaps.damaged and builder.is_empty and (reason := other_encoding(gaps.startup())):
        raise BchatError("transcript.invalid", status=ExitStatus.DATA, path=path, reason=reason)
    problems = _problems(gaps, builder)
    header, restored = builder.header, b""
    if header is None:
        header = builder.file_header
        restored = header_line(header, {})
        problems.append(BchatError("transcript.header-lost", status=ExitStatus.DATA, path=path))
    loaded = Loaded(
        header,
        builder.conversation,
        tuple(problems),
        builder.pending,
        builder.details,
        events=tuple(builder.events),
        pending_replies=builder.pending_replies,
    )
    return Replayed(loaded, restored, gaps)


def _read_records(data: bytes, builder: ConversationBuilder, gaps: Gaps) -> None:
    """Read every record of `data` into the builder, and the damage between records into the gaps, in linear time.

    A record may begin where a line begins or after damage. The first one in a line may reach to the end of the line,
    each other one to the next that may begin there.
    """
    end = line_end = tried = 0
    pattern = _ANY_RECORD
    found = pattern.search(data)
    while found:
        start, following = found.start(), None
        if start >= line_end:
            line_end = data.find(b"\n", start)
            stop = line_end = len(data) if line_end < 0 else line_end
        else:
            following = pattern.search(data, start + 1, line_end)
            stop = following.start() if following else line_end
        if length := _read_record(data, start, stop, builder):
            if start > end and data[end:start] != b"\n":
                gaps.note(end, start)
            end = start + length
        tried += 1
        if tried == _MAX_CANDIDATES:
            pattern, following = _OWN_RECORD, None
        found = following or pattern.search(data, end if length else start + 1)
    if data[end:] != b"\n":
        gaps.note(end, len(data))


def _read_record(data: bytes, start: int, stop: int, builder: ConversationBuilder) -> int:
    """Add the record at `start` to the builder. Return its length in bytes, 0 if it is no good record."""
    if data.rfind(b"}", start, stop) < 0:
        return 0
    raw = data[start:stop]
    if len(raw) > _SMALL:
        raw = _bounded(raw, builder)
    try:
        text, is_utf8 = raw.decode("utf-8"), True
    except UnicodeDecodeError:
        text, is_utf8 = raw.decode("utf-8", "surrogateescape"), False
    try:
        record, end = parse_prefix(text)
        # A byte that is not UTF-8 cannot be encoded again: UnicodeEncodeError, a ValueError.
        length = len(raw) if is_utf8 and end == len(text) else len(text[:end].encode("utf-8"))
        builder.add(record, data, start)
    except (JsonError, SchemaError, ValueError):
        return 0
    return length


def _bounded(raw: bytes, builder: ConversationBuilder) -> bytes:
    """Return `raw`, or as much of its beginning as memory allows, after the builder has made room for it."""
    if memory_needed(raw) > _MAX_FOR_RECORD:
        raw = raw[: _MAX_FOR_RECORD // (MAX_PER_BYTE + 1)]
    if excess(raw) or not builder.make_room(_MAX_IN_ALL - memory_needed(raw)):
        return b""
    return raw


def _no_journal(data: bytes, path: Path) -> BchatError:
    # A journal begins with a brace in every encoding; a few bytes of a picture can pass for Shift_JIS.
    if b"{" in data[:8] and (reason := other_encoding(data)):
        return BchatError("transcript.invalid", status=ExitStatus.DATA, path=path, reason=reason)
    return BchatError("transcript.not-a-journal", status=ExitStatus.DATA, path=path)


def _problems(gaps: Gaps, builder: ConversationBuilder) -> list[BchatError]:
    problems = []
    if gaps.is_torn:
        problems.append(BchatError("transcript.torn", status=ExitStatus.DATA, path=builder.path))
    if gaps.damaged:
        shown = ", ".join(map(str, gaps.first_lines)) + (", …" if gaps.damaged > len(gaps.first_lines) else "")
        problems.append(
            BchatError("transcript.damaged", status=ExitStatus.DATA, path=builder.path, count=gaps.damaged, lines=shown)
        )
    if builder.invalid_names:
        problems.append(schema.details_left_out(builder.path, builder.invalid_names))
    if builder.forgotten:
        problems.append(
            BchatError(
                "transcript.too-large-to-hold", status=ExitStatus.DATA, path=builder.path, count=builder.forgotten
            )
        )
    return problems
