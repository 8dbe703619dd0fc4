"""Input history: a file that several processes share, and unsent drafts in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.history import History

from bilingual_chat.storage import lock, own_files
from bilingual_chat.text.sanitize import inward

HISTORY_LIMIT = 2_000_000  # bytes of the history file that are read


class SharedHistory(History):
    """Input history in a file of mode 0600 that several processes may write: each entry is one locked append.

    The format is that of prompt_toolkit's `FileHistory`: a comment, then "+" before each line of an entry. Drafts are
    kept in memory only. Without a path nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self._path = path
        self._drafts: set[str] = set()
        self._guard = threading.Lock()

    def load_history_strings(self) -> Iterable[str]:
        try:
            if self._path is None:
                return []
            with os.fdopen(own_files.open_existing(self._path), "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - HISTORY_LIMIT))
                is_cut = file.tell() > 0
                data = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        if is_cut:  # start with a whole entry
            data = data.partition("\n#")[2]
        entries: list[str] = []
        lines: list[str] = []
        for line in [*data.split("\n"), ""]:
            if line.startswith("+"):
                lines.append(line[1:])
            elif lines:
                entries.append("\n".join(lines))
                lines = []
        return reversed(entries)

    def store_string(self, string: str) -> None:
        if self._path is None:
            return
        lines = "".join(f"+{line}\n" for line in inward(string).split("\n"))
        entry = f"\n# {datetime.now()}\n{lines}".encode()
        # The history is a convenience: if it cannot be written, the chat continues silently.
        with self._guard, suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with lock.best_effort(self._path.with_name("history.lock")):
                fd = own_files.open_own(self._path, any_owner=True, flags=os.O_APPEND)
                try:
                    os.write(fd, entry)
                finally:
                    os.close(fd)

    def keep_drafts(self, buffer: Buffer, *, sent: str | None = None) -> None:
        """Keep each line of `buffer` that was typed or changed and is not `sent`; Up recalls it.

        A draft that is sent becomes an entry, also in the file.
        """
        if not self._loaded:
            self._loaded_strings, self._loaded = list(self.load_history_strings()), True
        if sent in self._drafts:
            self._drafts.remove(sent)
            self._loaded_strings.remove(sent)
        known = {*self._loaded_strings, sent}
        lines = [line for line in buffer._working_lines if line != buffer.text]
        for line in (*lines, buffer.text):  # Up recalls the line on the screen first
            if line.strip() and line not in known:
                known.add(line)
                self._drafts.add(line)
                self._loaded_strings.insert(0, line)

    def begin_line(self, buffer: Buffer, app: Application[str]) -> None:
        """Begin an empty line with the history loaded already: the next key may be Up."""
        buffer.reset()
        buffer._working_lines.extendleft(self._loaded_strings)
        if app.loop is not None:
            buffer._load_history_task = app.loop.create_future()  # the history is loaded
        buffer.working_index = len(buffer._working_lines) - 1
