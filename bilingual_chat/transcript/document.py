"""The JSON file that `/save` writes and `/load` reads, in the format of the model card.

    {"format": "bchat-transcript", "version": 1, "id": …, "opening": 0,
     "utterances": [{"speaker": "ユーザー", "text": …},
                    {"speaker": "システム", "text": …, "finish_reason": "stop", "settings": …}]}

docs/transcript-2.schema.json describes it. `read_document` also reads a journal, and a bare list of utterances as on
the card. The first `opening` utterances are the opening. The others alternate, the user first; the last message may
have no reply.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import atomic, os_errors
from bilingual_chat.text.conversation import Conversation, Turn
from bilingual_chat.transcript import files, replay, schema
from bilingual_chat.transcript.details import invalid_names
from bilingual_chat.transcript.loaded import Loaded
from bilingual_chat.transcript.safe_json import JsonError, encode, excess, parse
from bilingual_chat.transcript.schema import SchemaError

FORMAT = "bchat-transcript"
VERSION = 2  # 1: no texts among the settings, neither filters nor probabilities
_FIELDS = ("format", "version", "opening", "utterances")


def document_of(loaded: Loaded) -> dict[str, Any]:
    """Return the document of a conversation as a JSON value."""
    conversation = loaded.conversation
    known = {
        "format": FORMAT,
        "version": VERSION,
        **schema.header_fields(loaded.header),
        "opening": len(conversation.opening),
        "utterances": _utterances_of(loaded),
    }
    return {**known, **schema.without(loaded.details, tuple(known))}


def write_document(path: Path, loaded: Loaded, *, overwrite: bool = False) -> Path:
    """Save a conversation as one file. Return its path, with links followed.

    Raises BchatError: "transcript.not-ours" if `path` is no bchat transcript, unless `overwrite`;
    "transcript.is-journal"; "transcript.not-a-file"; "transcript.too-large-to-save" if `read_document` would refuse the
    file; "transcript.not-written" if a system call fails, and then the older file is unchanged.
    """
    target = resolve_target(path, overwrite=overwrite, ours=_is_document)
    data = encode(document_of(loaded), indent=2) + b"\n"
    if len(data) > files.MAX_BYTES or excess(data):
        raise BchatError("transcript.too-large-to-save", status=ExitStatus.DATA, path=path)
    save_whole(target, data)
    return target


def read_document(path: Path) -> Loaded:
    """Read the conversation in a document, a bare list of utterances or a journal, in bounded time and memory.

    Raises BchatError (DATA) for anything else.
    """
    data = files.read_file(path)
    if replay.is_journal(data):
        return replay.replay(data, path).loaded
    try:
        value = parse(data)
        if isinstance(value, list):
            value = {"format": FORMAT, "version": VERSION, "opening": 0, "utterances": value}
        return _loaded(value, path)
    except JsonError as fault:
        raise BchatError("transcript.invalid", status=ExitStatus.DATA, path=path, reason=fault.reason) from None
    except SchemaError as fault:
        raise BchatError(
            "transcript.misshapen", status=ExitStatus.DATA, path=path, where=fault.where, wanted=fault.wanted
        ) from None


def resolve_target(path: Path, *, overwrite: bool, ours: Callable[[bytes], bool]) -> Path:
    """Return the path to write to, with links followed. Raises BchatError as `write_document` does.

    `ours` returns True for the bytes of a file that may be replaced without `overwrite`.
    """
    target = Path(os.path.realpath(path))
    try:
        status = os_errors.retry_interrupted(os.stat, target)
    except FileNotFoundError:
        return target
    except (OSError, ValueError) as error:
        raise _not_written(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise BchatError("transcript.not-a-file", status=ExitStatus.DATA, path=path)
    if not os.access(target, os.W_OK):  # a rename would replace it all the same
        raise BchatError("transcript.read-only", status=ExitStatus.DATA, path=path)
    data = _peek(target)
    if data is not None and replay.is_journal(data):
        raise BchatError("transcript.is-journal", status=ExitStatus.DATA, path=path)
    if not overwrite and (data is None or not ours(data)):
        raise BchatError("transcript.not-ours", status=ExitStatus.DATA, path=path)
    return target


def save_whole(path: Path, data: bytes) -> None:
    """Write a whole file atomically. Raise BchatError (FAILED)."""
    try:
        atomic.write(path, data)
    except OSError as error:
        raise _not_written(path, error) from error


def _utterances_of(loaded: Loaded) -> list[dict[str, Any]]:
    kept = dict(enumerate(loaded.opening_details))
    utterances = []
    for number, utterance in enumerate(loaded.conversation.opening):
        same, beside = kept.get(number, (None, {}))
        utterances.append({**schema.utterance_fields(utterance), **(beside if same == utterance else {})})
    for turn in loaded.conversation.turns:
        utterances += [schema.user_fields(turn), schema.reply_fields(turn)]
    if loaded.pending_user is not None:
        message = schema.utterance_fields(schema.user_utterance(loaded.pending_user))
        utterances.append({**message, **schema.alternatives_fields(loaded.pending_replies, loaded.pending_user)})
    return utterances


def _loaded(value: object, path: Path) -> Loaded:
    fields = schema.mapping(value, "$")
    if fields.get("format") != FORMAT:
        raise BchatError("transcript.not-a-transcript", status=ExitStatus.DATA, path=path)
    version = schema.whole_number(fields, "version", low=1)
    if version > VERSION:
        raise BchatError("transcript.newer", status=ExitStatus.DATA, path=path, version=version, known=VERSION)
    header, others = schema.header_of(fields, schema.header_of_file(path))
    values = fields.get("utterances")
    if not isinstance(values, list):
        raise SchemaError("utterances", "list")
    count = schema.whole_number(fields, "opening", low=0, default=0)
    if count > len(values):
        raise SchemaError("opening", "opening", count=len(values))
    opening = tuple(schema.utterance_of(value, f"utterances[{number}]") for number, value in enumerate(values[:count]))
    turns, pending = schema.turns_of(values[count:], first=count)
    turns, left_out = _without_invalid_details(turns)
    return Loaded(
        header,
        Conversation(tuple(utterance for utterance, _ in opening), tuple(turns)),
        problems=(schema.details_left_out(path, left_out),) if left_out else (),
        pending_user=pending[0] if pending else None,
        pending_replies=schema.alternatives_of(pending[1], pending[0])[0] if pending else (),
        details=schema.without(others, _FIELDS),
        opening_details=opening,
    )


def _without_invalid_details(turns: list[Turn]) -> tuple[list[Turn], list[str]]:
    """Return the turns without their invalid details, and the names of those."""
    kept, left_out = [], list[str]()
    for turn in turns:
        bad = invalid_names(turn.details)
        left_out += bad
        kept.append(replace(turn, details=schema.without(turn.details, bad)) if bad else turn)
    return kept, left_out


def _is_document(data: bytes) -> bool:
    try:
        value = parse(data)
    except JsonError:
        return False
    # Not one of a newer version: fields that this version does not know would be lost.
    return isinstance(value, dict) and value.get("format") == FORMAT and value.get("version") in range(1, VERSION + 1)


def _peek(path: Path) -> bytes | None:
    try:
        return files.read_file(path)
    except BchatError:
        return None


def _not_written(path: Path, error: OSError | ValueError) -> BchatError:
    return BchatError("transcript.not-written", status=ExitStatus.FAILED, path=path, reason=os_errors.reason(error))
