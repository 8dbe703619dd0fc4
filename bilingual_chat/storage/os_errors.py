"""Failing system calls: retries after a signal, and the reason of a failure as a phrase."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Any, TypeVar

from bilingual_chat.messages import Phrase

_T = TypeVar("_T")
_MAX_RETRIES = 100
DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_REASONS = {
    **dict.fromkeys(DISK_FULL, "reason.full"),
    errno.EROFS: "reason.read-only",
    errno.EACCES: "reason.denied",
    errno.EPERM: "reason.denied",
    errno.ENOENT: "reason.missing",
    errno.EMFILE: "reason.too-many-open",
    errno.ENFILE: "reason.too-many-open",
}


def retry_interrupted(call: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Return `call(*args)`, retried when a signal interrupts it. Raise InterruptedError after 100 attempts."""
    for _ in range(_MAX_RETRIES):
        with contextlib.suppress(InterruptedError):
            return call(*args, **kwargs)
    raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))


def reason(error: OSError | ValueError) -> Phrase:
    """Return the reason of a failed system call, as a clause in the reader's language where there is one."""
    code = error.errno if isinstance(error, OSError) else None
    if code in _REASONS:
        return Phrase(_REASONS[code])
    text = os.strerror(code) if code else str(error)
    return Phrase("reason.other", text=text or type(error).__name__)
