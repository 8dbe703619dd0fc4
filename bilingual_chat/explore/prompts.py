"""The prompts of a sweep: a text with one a line, JSON lines, or a transcript."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import os_errors, safe_read
from bilingual_chat.text import encodings
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn
from bilingual_chat.transcript import document, replay

MAX_BYTES = 64 << 20
MAX_PROMPTS = 100_000
_SPEAKERS = {
    "user": Speaker.USER,
    "ユーザー": Speaker.USER,
    "system": Speaker.SYSTEM,
    "システム": Speaker.SYSTEM,
    "assistant": Speaker.SYSTEM,
}


@dataclass(frozen=True)
class SweepPrompt:
    """A message, the conversation before it, and what its reply is scored by. `line`: its line in the file."""

    id: str
    line: int
    message: str
    before: Conversation = field(default_factory=Conversation)
    reference: str | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None


@dataclass(frozen=True)
class PromptFile:
    """The prompts of a file; `sha256` of its bytes."""

    path: Path
    sha256: str
    prompts: tuple[SweepPrompt, ...]


def read_prompts(path: Path, encoding: str | None = None, limit: int | None = None) -> PromptFile:
    """Read the first `limit` prompts of a file. Raises BchatError (DATA), with the line number of what is wrong.

    JSON lines: "prompt", or "utterances" of which the last is the user's; optionally "id", "reference", "choices",
    "pattern". Without an id, a prompt is called by its line. Each message of a transcript is a prompt.
    """
    data = _read(path)
    prompts = tuple(_prompts(path, data, encoding))
    if not prompts:
        raise _refused("sweep.prompts-empty", path)
    if len(prompts) > MAX_PROMPTS:
        raise _refused("sweep.prompts-many", path, count=len(prompts), limit=MAX_PROMPTS)
    return PromptFile(path, hashlib.sha256(data).hexdigest(), prompts[:limit])


def _read(path: Path) -> bytes:
    try:
        return safe_read.read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise _refused("sweep.prompts-unreadable", path, reason=os_errors.reason(error)) from None
    except safe_read.TooLarge:
        raise _refused("sweep.prompts-large", path, limit=MAX_BYTES >> 20) from None
    except safe_read.NotAFile:
        raise _refused("sweep.prompts-not-a-file", path) from None


def _prompts(path: Path, data: bytes, encoding: str | None) -> Iterator[SweepPrompt]:
    if _is_transcript(data):
        return _of_transcript(path)
    try:
        text = encodings.decode(data, encoding)
    except BchatError as error:
        reason = Phrase(error.key, **error.values)
        raise _refused("sweep.prompts-unreadable", path, reason=reason) from None
    lines = [(number, line.strip()) for number, line in enumerate(re.split("\r\n|\r|\n", text), start=1)]
    filled = [(number, line) for number, line in lines if line]
    is_json = path.suffix != ".txt" and filled and filled[0][1].startswith("{")
    return _of_json_lines(path, filled) if is_json else (SweepPrompt(str(n), n, line) for n, line in filled)


def _is_transcript(data: bytes) -> bool:
    return replay.is_journal(data) or data.lstrip()[:1] == b"[" or b'"bchat-transcript"' in data[:1000]


def _of_transcript(path: Path) -> Iterator[SweepPrompt]:
    loaded = document.read_document(path)
    turns, opening = loaded.conversation.turns, loaded.conversation.opening
    messages = [*(turn.user for turn in turns), *([loaded.pending_user] if loaded.pending_user else [])]
    for index, message in enumerate(messages):
        yield SweepPrompt(str(index + 1), index + 1, message, Conversation(opening, turns[:index]))


def _of_json_lines(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[SweepPrompt]:
    used: dict[str, int] = {}
    for number, line in lines:
        try:
            prompt = _of_object(number, safe_read.parse_json(line.encode("utf-8", "surrogatepass")))
        except safe_read.Unfit:
            raise _refused("sweep.line", path, line=number, problem=Phrase("sweep.line.json")) from None
        except _WrongLineError as wrong:
            raise _refused("sweep.line", path, line=number, problem=wrong.problem) from None
        if (first := used.setdefault(prompt.id, number)) != number:
            problem = Phrase("sweep.line.same-id", id=prompt.id, first=first)
            raise _refused("sweep.line", path, line=number, problem=problem)
        yield prompt


class _WrongLineError(Exception):
    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.problem = Phrase(f"sweep.line.{key}", **values)


def _of_object(number: int, fields: Mapping[str, Any]) -> SweepPrompt:
    if ("prompt" in fields) == ("utterances" in fields):
        raise _WrongLineError("no-prompt")
    message, before = _conversation(fields)
    if not message.strip():
        raise _WrongLineError("no-text", name="prompt")
    return SweepPrompt(
        _id(fields.get("id", number)),
        number,
        message,
        before,
        _text(fields, "reference"),
        _choices(fields.get("choices", [])),
        _pattern(fields),
    )


def _conversation(fields: Mapping[str, Any]) -> tuple[str, Conversation]:
    if "prompt" in fields:
        return _text(fields, "prompt") or "", Conversation()
    said = fields["utterances"]
    if not isinstance(said, list) or not said:
        raise _WrongLineError("utterances")
    speakers, texts = zip(*map(_utterance, said), strict=True)
    if any(speaker != (Speaker.SYSTEM if at % 2 else Speaker.USER) for at, speaker in enumerate(speakers)):
        raise _WrongLineError("utterances")
    if speakers[-1] is not Speaker.USER:
        raise _WrongLineError("utterances")
    turns = zip(texts[:-1:2], texts[1::2], strict=True)
    return texts[-1], Conversation((), tuple(Turn(user, reply, FinishReason.STOP) for user, reply in turns))


def _utterance(value: object) -> tuple[Speaker, str]:
    fields = value if isinstance(value, dict) else {}
    speaker, text = fields.get("speaker"), fields.get("text")
    if not isinstance(speaker, str) or speaker not in _SPEAKERS or not isinstance(text, str):
        raise _WrongLineError("utterances")
    return _SPEAKERS[speaker], text


def _id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise _WrongLineError("id")
    return str(value)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise _WrongLineError("not-text", name=name)
    return value


def _choices(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise _WrongLineError("choices")
    if value and len(set(value)) < max(2, len(value)):
        raise _WrongLineError("choices")
    return tuple(value)


def _pattern(fields: Mapping[str, Any]) -> str | None:
    pattern = _text(fields, "pattern")
    try:
        re.compile(pattern or "")
    except (re.error, RecursionError, OverflowError) as error:
        raise _WrongLineError("pattern", reason=str(error)) from None
    return pattern


def _refused(key: str, path: Path, **values: object) -> BchatError:
    return BchatError(key, status=ExitStatus.DATA, path=path, **values)
