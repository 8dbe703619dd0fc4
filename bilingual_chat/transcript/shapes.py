"""JSON values ↔ what is said: the one place that knows the names of the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bilingual_chat.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.messages import Phrase
from bilingual_chat.transcript import Header

# The model card's own spelling.
SPELLING = {Speaker.USER: "ユーザー", Speaker.SYSTEM: "システム"}
_SPEAKERS = {spelling: speaker for speaker, spelling in SPELLING.items()}
_HEADER_FIELDS = ("id", "created", "model", "bchat", "versions")
_UTTERANCE_FIELDS = ("speaker", "text", "finish_reason")
# Where a turn's details keep what a document said beside the user's words.
USER_FIELDS = "user_fields"

Fields = Mapping[str, Any]


class Misshapen(ValueError):
    """A JSON value that is not what a transcript has in that place."""

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
    """The header in `fields`, with what is missing taken from `fallback`; and the other fields.

    Raises Misshapen for a field of another type.
    """
    texts = {name: _text(fields, name, default=getattr(fallback, name)) for name in _HEADER_FIELDS[:-1]}
    versions = fields.get("versions", {})
    if not isinstance(versions, dict) or not all(isinstance(version, str) for version in versions.values()):
        raise Misshapen("versions", "versions")
    return Header(**texts, versions=versions), without(fields, _HEADER_FIELDS)


def header_of_file(path: Path) -> Header:
    """What a file's name and time say, when nothing inside it does."""
    try:
        changed = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    except (OSError, ValueError):
        changed = datetime.now().astimezone()
    return Header(path.stem, changed.isoformat(timespec="seconds"), model="", bchat="")


def utterance_fields(utterance: Utterance) -> dict[str, Any]:
    return {"speaker": SPELLING[utterance.speaker], "text": utterance.text}


def utterance_of(value: object, where: str) -> tuple[Utterance, Fields]:
    """An utterance and the fields beside it; raises Misshapen."""
    fields = mapping(value, where)
    spelling = _text(fields, "speaker", where)
    if spelling not in _SPEAKERS:
        raise Misshapen(f"{where}.speaker", "speaker")
    return Utterance(_SPEAKERS[spelling], _text(fields, "text", where)), without(fields, _UTTERANCE_FIELDS[:2])


def reply_fields(turn: Turn) -> dict[str, Any]:
    """A turn's reply as an utterance; whatever the details say, they do not replace what was said."""
    _, reply = turn.utterances()
    kept = without(turn.details, (*_UTTERANCE_FIELDS, USER_FIELDS))
    return {**utterance_fields(reply), "finish_reason": turn.finish.value, **kept}


def user_fields(turn: Turn) -> dict[str, Any]:
    user, _ = turn.utterances()
    beside = turn.details.get(USER_FIELDS)
    kept = without(beside, _UTTERANCE_FIELDS[:2]) if isinstance(beside, Mapping) else {}
    return {**utterance_fields(user), **kept}


def finish_of(fields: Fields, where: str) -> FinishReason:
    """Why a reply ended; a list from a model card does not say, and its replies are whole."""
    try:
        return FinishReason(fields.get("finish_reason", FinishReason.STOP.value))
    except ValueError:
        raise Misshapen(f"{where}.finish_reason", "finish") from None


def turns_of(values: Sequence[object], first: int) -> tuple[list[Turn], str | None]:
    """Turns from utterances that alternate, and the user's last words if no reply follows them.

    Two utterances in a row by one speaker are refused (Misshapen), not joined: what was said stays as
    it was. `first` is the number of the first one in the file, for the error.
    """
    turns = []
    pending: tuple[str, Fields] | None = None
    for number, value in enumerate(values, start=first):
        where = f"utterances[{number}]"
        utterance, beside = utterance_of(value, where)
        if utterance.speaker is not (Speaker.USER if pending is None else Speaker.SYSTEM):
            expected = Speaker.USER if pending is None else Speaker.SYSTEM
            raise Misshapen(f"{where}.speaker", "turn", speaker=SPELLING[expected])
        if pending is None:
            pending = utterance.text, beside
        else:
            details = dict(without(beside, ("finish_reason",)))
            if pending[1]:
                details[USER_FIELDS] = pending[1]
            turns.append(Turn(pending[0], utterance.text, finish_of(beside, where), details))
            pending = None
    return turns, pending[0] if pending else None


def said_in(conversation: Conversation, pending_user: str | None) -> list[Utterance]:
    """Every utterance, the one without a reply included."""
    last = [] if pending_user is None else [user_utterance(pending_user)]
    return [*conversation.utterances(), *last]


def user_utterance(text: str) -> Utterance:
    return Utterance(Speaker.USER, text)


def whole_number(fields: Fields, name: str, *, low: int, default: int | None = None) -> int:
    """A field that counts something; raises Misshapen."""
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise Misshapen(name, "number", low=low)
    return value


def mapping(value: object, where: str) -> Fields:
    if not isinstance(value, Mapping):
        raise Misshapen(where, "object")
    return value


def without(fields: Fields, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _text(fields: Fields, name: str, where: str = "", default: str | None = None) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise Misshapen(f"{where}.{name}" if where else name, "text")
    return value
