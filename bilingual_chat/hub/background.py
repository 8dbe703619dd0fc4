"""A model on its way here, while something else goes on: a download in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from bilingual_chat.hub import download
from bilingual_chat.hub.download import Progress
from bilingual_chat.hub.pool import Stopped
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry

_FAREWELL_S = 2.0  # a thread that hangs longer writes nothing any more, and ends with the process


class BackgroundDownload:
    """One download. Its thread writes `progress` and `error`, others read them; `error` stays None if it came."""

    def __init__(self, entry: ModelEntry, when_over: Callable[[], None] = lambda: None) -> None:
        self.entry = entry
        self.progress: Progress | None = None
        self.error: BchatError | None = None
        self._when_over = when_over
        self._stop = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"bchat fetches {entry.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._is_over.is_set()

    def stop(self) -> None:
        """End it; what has come is kept. `when_over` is not called any more."""
        self._stop.set()
        with suppress(RuntimeError):  # it was never started
            self._thread.join(_FAREWELL_S)

    def _run(self) -> None:
        try:
            download.download(self.entry, self._take, stop=self._stop)
        except Stopped:
            pass
        except BchatError as error:
            self.error = error
        except Exception as error:
            reason = type(error).__name__
            self.error = BchatError("hub.failed", status=ExitStatus.MODEL, repo=self.entry.hub_id, reason=reason)
            self.error.__cause__ = error
        finally:
            self._is_over.set()
        if not self._stop.is_set():
            self._when_over()

    def _take(self, progress: Progress) -> None:
        self.progress = progress
