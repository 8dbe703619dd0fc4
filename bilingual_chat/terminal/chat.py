"""The chat loop: read a line, handle it, show what comes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, nullcontext

from bilingual_chat.commands import models, table
from bilingual_chat.commands.app import Action, App, Branch, Compare, Continue, Differences, Edit, Leave, Retry
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.compare import compare
from bilingual_chat.session.session import Event
from bilingual_chat.terminal.comparison import show_comparison, show_differences
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.signals import interrupted_once

EMPTY = Edit("", replaces_last=False)


class Chat:
    """The loop. State: `first`, with which the next line starts, and whether that line replaces the last turn."""

    def __init__(self, app: App, display: Display, first: Edit | None = None) -> None:
        self._app = app
        self._display = display
        self._prefill = ""
        self._replaces_last = False
        self._status = int(ExitStatus.OK)
        self._begin_line(first or EMPTY)

    def run(self) -> int:
        """Run until the user leaves. Return the exit status: without a user, that of the first line that failed."""
        is_interactive = self._app.reader.is_interactive
        try:
            while (line := self._read()) is not None:
                try:
                    if not self.handle(line):
                        break
                except BchatError as error:
                    self._report(error)
                except KeyboardInterrupt:
                    if not is_interactive:
                        raise
                    self._display.say(self._stopped())
            return self._status
        except KeyboardInterrupt:
            return ExitStatus.INTERRUPTED
        finally:
            self._display.interface = "shell"
            self._close()

    def _read(self) -> str | None:
        """Return the next line, None after the last. KeyboardInterrupt for a second Ctrl-C on an empty line."""
        app, is_interactive, is_warned = self._app, self._app.reader.is_interactive, False
        while True:
            models.report_download(app)
            prefill, self._prefill = self._prefill, ""
            prefilling = app.prefetch.reading(prefill, replaces_last=self._replaces_last)
            try:
                with prefilling if is_interactive else nullcontext():
                    return app.reader.read(app, prefill)
            except EOFError:
                return None
            except BchatError as error:  # a line that is not text
                self._report(error)
            except KeyboardInterrupt:
                self._replaces_last = False
                if prefill:  # the user gave up an edit
                    continue
                if is_warned or not is_interactive:
                    raise
                is_warned = True
                self._display.say(Phrase("chat.how-to-leave"))

    def _report(self, error: BchatError) -> None:
        self._display.say(error)
        if not self._app.reader.is_interactive:
            self._status = self._status or int(error.status)

    def handle(self, line: str) -> bool:
        """Handle one line. Return False when it ends the chat. Raises BchatError, after which the chat continues."""
        replaces_last, self._replaces_last = self._replaces_last, False
        if table.is_command(line):
            return self._act(table.execute(line, self._app))
        if line.strip() and not models.answer_offer(self._app, line):
            self._send(table.message_of(line), replaces_last)
        return True

    def _act(self, action: Action) -> bool:
        """Do what a command asks for. Return False when that is to leave."""
        session = self._app.session
        if isinstance(action, Edit):
            self._begin_line(action)
        elif isinstance(action, Retry):
            self._show(session.retry(action.change))
        elif isinstance(action, Continue):
            self._show(session.extend(action.change))
        elif isinstance(action, Branch):
            self._show(session.branch(action.number, action.rank))
        elif isinstance(action, Compare):
            self._compare(action)
        elif isinstance(action, Differences):
            show_differences(self._display, action.texts, action.labels)
        return not isinstance(action, Leave)

    def _compare(self, action: Compare) -> None:
        labels = [each.label for each in action.variants]
        texts = show_comparison(self._display, compare(self._app.session, action.variants), labels)
        if action.marks_differences:
            show_differences(self._display, texts, labels)
        self._display.say(Phrase("compare.done"))

    def _begin_line(self, edit: Edit) -> None:
        self._prefill, self._replaces_last = edit.text, edit.replaces_last

    def _send(self, text: str, replaces_last: bool) -> None:
        session = self._app.session
        # The text of a base model continues the user's: the screen shows both as one.
        shown_before = text if session.is_completing else ""
        try:
            self._show(session.revise(text) if replaces_last else session.reply(text), shown_before)
        except BchatError as error:
            if error.key != "prompt.too-long":
                raise
            if self._display.has_room_for(text):  # the user can shorten it
                self._begin_line(Edit(text, replaces_last))
            elif self._app.reader.has_editor:  # the text would push the error off the screen
                raise BchatError("chat.too-long", status=error.status, reason=error) from error
            raise

    def _show(self, events: Generator[Event, None, None], shown_before: str = "") -> None:
        """Show a reply as it comes. Ctrl-C stops it within a token; the session keeps what was said."""
        self._display.begin_reply()
        try:
            with interrupted_once(), closing(events):
                for event in events:
                    self._display.doing(None)
                    if isinstance(event, str):
                        self._display.piece(shown_before + event)
                        shown_before = ""
                    else:
                        self._display.end_reply()
                        self._display.say(event)
        finally:
            self._display.doing(None)
            self._display.end_reply()

    def _stopped(self) -> Phrase:
        """Say what becomes of a stopped reply: it joins the conversation unless an earlier reply stays chosen."""
        session = self._app.session
        if session.pending is not None:
            return Phrase("chat.stopped-unanswered")
        is_beside = session.chosen is not None and session.chosen + 1 < len(session.replies)
        return Phrase("chat.stopped-beside" if is_beside else "chat.stopped")

    def _close(self) -> None:
        try:
            self._app.session.close()
        except BchatError as error:
            self._display.say(error)
        finally:
            models.end_download(self._app)
