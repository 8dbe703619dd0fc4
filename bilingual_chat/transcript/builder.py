"""Builds a conversation from the records of a journal, in bounded memory."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.text.conversation import Conversation, FinishReason, Turn, Utterance
from bilingual_chat.transcript import schema
from bilingual_chat.transcript.details import RecordedDetails, RecordedEvent, invalid_names
from bilingual_chat.transcript.files import MAX_BYTES
from bilingual_chat.transcript.loaded import Header
from bilingual_chat.transcript.schema import SchemaError

FORMAT = "bchat-journal"
VERSION = 1
_MAX_EVENTS = 10_000
_MAX_REPLIES = 100  # to one message; the others stay in the file
# Bytes. The journal and its repaired copy take one MAX_BYTES each: four in all.
MAX_MEMORY = MAX_BYTES * 15 // 8
_PER_TURN = 400  # bytes, without its text
_NO_DETAILS: Mapping[str, Any] = MappingProxyType({})


class ConversationBuilder:
    """The conversation so far. State: the values of the records, and the bytes that its turns take in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.details: Mapping[str, Any] = {}  # fields of the header that this version does not know
        self.events: deque[Mapping[str, Any]] = deque(maxlen=_MAX_EVENTS)
        self.invalid_names: list[str] = []  # names of the first details that were left out
        self.forgotten = 0  # oldest turns that did not fit in memory
        self.pending: str | None = None
        self._pending_replies = _Replies()
        self._opening: tuple[Utterance, ...] = ()
        self._turns: deque[Turn | _Replies] = deque()
        self._memory = 0
        self._is_replacing = False  # the next record, if it is a turn, replaces the last one

    @cached_property
    def file_header(self) -> Header:
        """The header made of the file's name and time."""
        return schema.header_of_file(self.path)

    @property
    def conversation(self) -> Conversation:
        turns = (each.turn() if isinstance(each, _Replies) else each for each in self._turns)
        return Conversation(self._opening, tuple(turns))

    @property
    def pending_replies(self) -> tuple[Turn, ...]:
        return tuple(self._pending_replies)

    @property
    def is_empty(self) -> bool:
        return not self._turns and self.pending is None

    def add(self, record: dict[str, Any], journal: bytes, offset: int) -> None:
        """Add the record at `offset` of `journal`. Raises SchemaError, before any change, for an invalid record.

        A record of an unknown kind changes nothing.
        """
        is_replacing, self._is_replacing = self._is_replacing, False
        match record["record"]:
            case "header":
                self.header, self.details = self._header_of(record)
            case "opening":
                self._opening = _opening_of(record)
            case "user":
                text = schema.text_of(record, "text")
                if text != self.pending:
                    self._forget_pending()
                self.pending = text
            case "turn":
                self._add_turn(
                    self._turn_of(record, journal, offset), is_replacing, extends=record.get("extends") is True
                )
            case "reply":
                self._add_reply(self._turn_of(record, journal, offset))
            case "undo" if record.get("replaces") is True:
                # Without the turn that follows (bchat was killed between the two), the last one stays.
                self._is_replacing = True
            case "undo":
                if self._turns:
                    self._memory -= _memory(self._turns.pop())
                self._forget_pending()
            case "clear":
                self._turns.clear()
                self._memory = 0
                self._forget_pending()
            case "event":
                self.events.append(RecordedEvent(journal, offset))

    def make_room(self, limit: int) -> bool:
        """Forget the oldest turns until the conversation takes `limit` bytes. Return False if it takes more."""
        texts = (self.pending, *(utterance.text for utterance in self._opening))
        limit -= sum(map(sys.getsizeof, texts)) + self._pending_replies.memory
        while self._turns and self._memory > limit:
            self._memory -= _memory(self._turns.popleft())
            self.forgotten += 1
        return limit >= 0

    def _add_turn(self, turn: Turn, is_replacing: bool, *, extends: bool) -> None:
        if is_replacing and self._turns:
            self._change_last(turn, is_chosen=True, extends=extends)
        elif self._pending_replies:
            self._pending_replies.choose(turn)
            self._append(self._pending_replies)
        else:
            self._append(turn)
        self._forget_pending()

    def _add_reply(self, reply: Turn) -> None:
        if self.pending is not None:
            self._pending_replies.add(reply)
        elif self._turns:
            self._change_last(reply, is_chosen=False)

    def _change_last(self, reply: Turn, *, is_chosen: bool, extends: bool = False) -> None:
        """Add a reply to the last message, which has a turn; `extends`: instead of the chosen one."""
        last = self._turns.pop()
        self._memory -= _memory(last)
        replies = last if isinstance(last, _Replies) else _Replies(last)
        if extends:
            replies.forget_chosen()
        if is_chosen:
            replies.choose(reply)
        else:
            replies.add(reply)
        self._append(replies)

    def _append(self, last: Turn | _Replies) -> None:
        self._turns.append(last)
        self._memory += _memory(last)
        if self._memory > MAX_MEMORY:
            self.make_room(MAX_MEMORY)

    def _forget_pending(self) -> None:
        self.pending = None
        if self._pending_replies:
            self._pending_replies = _Replies()

    def _header_of(self, record: dict[str, Any]) -> tuple[Header, Mapping[str, Any]]:
        if record.get("format") != FORMAT:
            raise SchemaError("format", "text")
        version = schema.whole_number(record, "version", low=1)
        if version > VERSION:
            raise BchatError("transcript.newer", status=ExitStatus.DATA, path=self.path, version=version, known=VERSION)
        header, details = schema.header_of(record, self.file_header)
        return header, schema.without(details, ("record", "format", "version"))

    def _turn_of(self, record: dict[str, Any], journal: bytes, offset: int) -> Turn:
        user, reply = schema.text_of(record, "user"), schema.text_of(record, "reply")
        details, finish = record.get("details", _NO_DETAILS), record.get("finish_reason", FinishReason.STOP.value)
        bad = invalid_names(details) if isinstance(details, Mapping) else ["details"]
        if not isinstance(finish, str) or finish not in schema.FINISHES:
            finish = FinishReason.STOP.value
            bad.append("finish_reason")
        if bad:
            self.invalid_names = list(dict.fromkeys(self.invalid_names + bad))[: schema.MAX_NAMED + 1]
            fit = schema.without(details, bad) if isinstance(details, Mapping) else _NO_DETAILS
            return Turn(user, reply, schema.FINISHES[finish], fit or _NO_DETAILS)
        return Turn(user, reply, schema.FINISHES[finish], RecordedDetails(journal, offset) if details else _NO_DETAILS)


def _opening_of(record: dict[str, Any]) -> tuple[Utterance, ...]:
    values = record.get("utterances")
    if not isinstance(values, list):
        raise SchemaError("utterances", "list")
    return tuple(schema.utterance_of(value, "utterances")[0] for value in values)


class _Replies:
    """The replies to one message, the oldest first. State: the chosen one, if any.

    Adding one takes constant time. Beyond _MAX_REPLIES, or MAX_MEMORY / 4 bytes, the oldest is forgotten.
    """

    def __init__(self, chosen: Turn | None = None) -> None:
        self._replies: dict[int, Turn] = {}
        self._chosen: int | None = None
        self.memory = 0
        if chosen is not None:
            self.choose(chosen)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self._replies.values())

    def __bool__(self) -> bool:
        return bool(self._replies)

    def add(self, reply: Turn) -> int:
        """Add `reply`, unless it is known. Return its key."""
        # Equal for all records of one reply: the text of the details counts, not their bytes in the file.
        number = hash((reply.user, reply.reply, reply.finish, repr(dict(reply.details))))
        if number not in self._replies:
            self._replies[number] = reply
            self.memory += _memory(reply)
            while len(self._replies) > _MAX_REPLIES or self.memory > MAX_MEMORY // 4:
                if not self._forget_oldest():
                    break
        return number

    def choose(self, reply: Turn) -> None:
        self._chosen = self.add(reply)

    def forget_chosen(self) -> None:
        if self._chosen is not None:
            self.memory -= _memory(self._replies.pop(self._chosen))
            self._chosen = None

    def _forget_oldest(self) -> bool:
        """Forget the oldest reply that is not chosen. Return False if there is none."""
        oldest = next((number for number in self._replies if number != self._chosen), None)
        if oldest is not None:
            self.memory -= _memory(self._replies.pop(oldest))
        return oldest is not None

    def turn(self) -> Turn:
        """Return the chosen reply with the others beside it."""
        assert self._chosen is not None
        index = list(self._replies).index(self._chosen)
        return self._replies[self._chosen].among(tuple(self), index)


def _memory(turn: Turn | _Replies) -> int:
    if isinstance(turn, _Replies):
        return turn.memory
    return _PER_TURN + sys.getsizeof(turn.user) + sys.getsizeof(turn.reply)
