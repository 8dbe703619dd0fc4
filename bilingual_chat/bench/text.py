"""The texts of measurements: the user's own, or those that ship with bchat."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

from bilingual_chat import messages
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import safe_read
from bilingual_chat.storage.os_errors import reason
from bilingual_chat.text import encodings
from bilingual_chat.text.conversation import Speaker, Utterance

MOST_BYTES = 64 << 20


def own_sentences() -> str:
    """Return all messages of bchat, each in English and then in Japanese."""
    return "\n".join(f"{each.en}\n{each.ja}" for each in messages.TABLE.values() if each.en)


def own_conversation() -> list[Utterance]:
    """Return a conversation in both languages."""
    lines = Path(__file__).with_name("talk.txt").read_text(encoding="utf-8").splitlines()
    return [Utterance(speaker, line) for speaker, line in zip(cycle((Speaker.USER, Speaker.SYSTEM)), lines)]


def read(path: Path, encoding: str | None = None) -> str:
    """Return a text file: in `encoding`, else as its BOM says, else in UTF-8.

    Raises BchatError (DATA): missing, not an ordinary file, empty, too large, not text in that encoding.
    """
    try:
        data = safe_read.read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        raise _refused("bench.text-missing", path) from None
    except safe_read.NotAFile:
        raise _refused("bench.text-not-a-file", path) from None
    except safe_read.TooLarge:
        raise _refused("bench.text-large", path, limit=MOST_BYTES >> 20) from None
    except (OSError, ValueError) as error:
        raise _refused("bench.text-unreadable", path, reason=reason(error)) from None
    try:
        text = encodings.decode(data, encoding)
    except BchatError as error:
        if error.status == ExitStatus.USAGE:
            raise
        raise _refused("bench.text-not-text", path, reason=error.phrase) from None
    if "\0" in text:
        raise _refused("bench.text-binary", path)
    if not text.strip():
        raise _refused("bench.text-empty", path)
    return text


def _refused(key: str, path: Path, **values: object) -> BchatError:
    return BchatError(key, status=ExitStatus.DATA, path=path, **values)
