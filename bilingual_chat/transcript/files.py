"""Reads the bytes of a transcript: a regular file of at most 64 MiB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import os_errors, safe_read

MAX_BYTES = 64 * 1024 * 1024


def require_file(path: Path) -> None:
    """Raise BchatError (DATA) unless `path` is a regular file, or a link to one."""
    with _explained(path):
        safe_read.require_file(path)


def read_file(path: Path) -> bytes:
    """Return the bytes of a regular file. Raise BchatError (DATA) for anything else, and for more than MAX_BYTES."""
    with _explained(path):
        return safe_read.read_bytes(path, MAX_BYTES)


def unreadable(path: Path, error: OSError | ValueError) -> BchatError:
    """Return the error for a file that the system does not let us read."""
    return BchatError("transcript.unreadable", status=ExitStatus.DATA, path=path, reason=os_errors.reason(error))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except safe_read.NotAFile:
        raise BchatError("transcript.not-a-file", status=ExitStatus.DATA, path=path) from None
    except safe_read.TooLarge:
        raise BchatError("transcript.too-large", status=ExitStatus.DATA, path=path, limit=MAX_BYTES // 2**20) from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
