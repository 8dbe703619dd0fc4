"""JSON values to utterances and back: the names of all fields of a transcript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.transcript.loaded import Header

# The model card's own spelling.
SPELLING = {Speaker.USER: "ユーザー", Speaker.SYSTEM: "システム"}
_SPEAKERS = {spelling: speaker for speaker, spelling in SPELLING.items()}
_HEADER_FIELDS = ("id", "created", "model", "bchat", "versions")
_UTTERANCE_FIELDS = ("speaker", "text", "finish_reason")
# The name in a turn's details of the fields that a document has beside the message.
USER_FIELDS = "user_fields"
FINISHES = {reason.value: reason for reason in FinishReason}
MAX_NAMED = 3  # names of details in one sentence

# The other replies to a message, and the number of them that are older than the chosen one.
ALTERNATIVES, INDEX = "alternatives", "place"

Fields = Mapping[str, Any]


class SchemaError(ValueError):
    """A JSON value that a transcript does not have at `where`; `wanted` describes the right one."""

    def __init__(self, where: str, wanted: str, **values: object) -> None:
        super().__init__(where)
        self.where = where
        self.wanted = Phrase(f"shape.{wanted}", **values)


def header_fields(header: Header) -> dict[str, Any]:
    return {
        "id": header.id,
        "created": header.created,
        "model": header.model,
        "bchat": header.bchat,
        "versions": dict(header.versions),
    }


def header_of(fields: Fields, fallback: Header) -> tuple[Header, Fields]:
    """Return the header in `fields`, with missing fields from `fallback`, and the other fields.

    Raises SchemaError for a field of another type.
    """
    texts = {name: text_of(fields, name, default=getattr(fallback, name)) for name in _HEADER_FIELDS[:-1]}
    versions = fields.get("versions", {})
    if not isinstance(versions, dict) or not all(isinstance(version, str) for version in versions.values()):
        raise SchemaError("versions", "versions")
    return Header(**texts, versions=versions), without(fields, _HEADER_FIELDS)


def header_of_file(path: Path) -> Header:
    """Return a header made of the file's name and time, for a file without one."""
    try:
        changed = local_time(path.stat().st_mtime)
    except (OSError, ValueError):
        changed = datetime.now().astimezone()
    return Header(path.stem, changed.isoformat(timespec="seconds"), model="", bchat="")


def local_time(seconds: float) -> datetime:
    """Return a file's time in the local zone; a year at the limit of the calendar for a time beyond it."""
    try:
        return datetime.fromtimestamp(seconds).astimezone()
    except (OverflowError, ValueError, OSError):
        return datetime(1971 if seconds < 0 else 9998, 1, 1, tzinfo=UTC)


def utterance_fields(utterance: Utterance) -> dict[str, Any]:
    return {"speaker": SPELLING[utterance.speaker], "text": utterance.text}


def utterance_of(value: object, where: str) -> tuple[Utterance, Fields]:
    """Return an utterance and the fields beside it. Raises SchemaError."""
    fields = mapping(value, where)
    spelling = text_of(fields, "speaker", where)
    if spelling not in _SPEAKERS:
        raise SchemaError(f"{where}.speaker", "speaker")
    return Utterance(_SPEAKERS[spelling], text_of(fields, "text", where)), without(fields, _UTTERANCE_FIELDS[:2])


def reply_fields(turn: Turn) -> dict[str, Any]:
    """Return a turn's reply as an utterance with its details, which cannot replace its text."""
    _, reply = turn.utterances()
    kept = without(turn.details, (*_UTTERANCE_FIELDS, USER_FIELDS))
    others = {**alternatives_fields(turn.others, turn.user), INDEX: turn.index} if turn.others else {}
    return {**utterance_fields(reply), "finish_reason": turn.finish.value, **kept, **others}


def alternatives_fields(replies: Sequence[Turn], user: str) -> dict[str, Any]:
    """Return the field of the other replies to `user`; a reply to an edited message names that message."""
    return {ALTERNATIVES: [_alternative(each, user) for each in replies]} if replies else {}


def _alternative(reply: Turn, user: str) -> dict[str, Any]:
    edited = {} if reply.user == user else {"user": reply.user}
    kept = without(reply.details, ("user", *_UTTERANCE_FIELDS, USER_FIELDS))
    return {**edited, "text": reply.reply, "finish_reason": reply.finish.value, **kept}


def alternatives_of(fields: Fields, user: str) -> tuple[tuple[Turn, ...], int]:
    """Return the other replies in `fields`, and the number of them that are older than the chosen one.

    () if the field is another program's; it is kept as it is.
    """
    values, index = fields.get(ALTERNATIVES), fields.get(INDEX)
    try:
        replies = tuple(_alternative_of(value, user) for value in values) if isinstance(values, list) else ()
    except SchemaError:
        return (), 0
    return replies, index if type(index) is int and 0 <= index <= len(replies) else 0


def _alternative_of(value: object, user: str) -> Turn:
    fields = mapping(value, ALTERNATIVES)
    message, text = text_of(fields, "user", ALTERNATIVES, user), text_of(fields, "text", ALTERNATIVES)
    return Turn(message, text, finish_of(fields, ALTERNATIVES), without(fields, ("user", *_UTTERANCE_FIELDS)))


def user_fields(turn: Turn) -> dict[str, Any]:
    user, _ = turn.utterances()
    beside = turn.details.get(USER_FIELDS)
    kept = without(beside, _UTTERANCE_FIELDS[:2]) if isinstance(beside, Mapping) else {}
    return {**utterance_fields(user), **kept}


def finish_of(fields: Fields, where: str) -> FinishReason:
    """Return the finish reason; STOP if there is none, as on a model card. Raises SchemaError."""
    try:
        return FinishReason(fields.get("finish_reason", FinishReason.STOP.value))
    except ValueError:
        raise SchemaError(f"{where}.finish_reason", "finish") from None


def turns_of(values: Sequence[object], first: int) -> tuple[list[Turn], tuple[str, Fields] | None]:
    """Return the turns of utterances that alternate, and the last message with its fields if it has no reply.

    `first` is the index of the first one in the file. Raises SchemaError for two utterances in a row by one speaker.
    """
    turns = []
    pending: tuple[str, Fields] | None = None
    for number, value in enumerate(values, start=first):
        where = f"utterances[{number}]"
        utterance, beside = utterance_of(value, where)
        if utterance.speaker is not (Speaker.USER if pending is None else Speaker.SYSTEM):
            expected = Speaker.USER if pending is None else Speaker.SYSTEM
            raise SchemaError(f"{where}.speaker", "turn", speaker=SPELLING[expected])
        if pending is None:
            pending = utterance.text, beside
        else:
            turns.append(_turn_of(pending, utterance.text, beside, where))
            pending = None
    return turns, pending


def _turn_of(user: tuple[str, Fields], reply: str, beside: Fields, where: str) -> Turn:
    others, index = alternatives_of(beside, user[0])
    details = without(beside, ("finish_reason", *((ALTERNATIVES, INDEX) if others else ())))
    if user[1]:
        details[USER_FIELDS] = user[1]
    return Turn(user[0], reply, finish_of(beside, where), details, others, index)


def all_utterances(conversation: Conversation, pending_user: str | None) -> list[Utterance]:
    """Return every utterance, also a last message without a reply."""
    last = [] if pending_user is None else [user_utterance(pending_user)]
    return [*conversation.utterances(), *last]


def user_utterance(text: str) -> Utterance:
    return Utterance(Speaker.USER, text)


def details_left_out(path: Path, names: Sequence[str]) -> BchatError:
    """Return the problem to report for invalid details."""
    names = list(dict.fromkeys(names))
    shown = ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
    return BchatError("transcript.details", status=ExitStatus.DATA, path=path, names=shown)


def whole_number(fields: Fields, name: str, *, low: int, default: int | None = None) -> int:
    """Return a field that is a count. Raises SchemaError."""
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise SchemaError(name, "number", low=low)
    return value


def mapping(value: object, where: str) -> Fields:
    if not isinstance(value, Mapping):
        raise SchemaError(where, "object")
    return value


def without(fields: Fields, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def text_of(fields: Fields, name: str, where: str = "", default: str | None = None) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise SchemaError(f"{where}.{name}" if where else name, "text")
    return value
