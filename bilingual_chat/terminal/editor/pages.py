"""Pages that a user flips through with the arrow keys, below the conversation; nothing of them stays on the screen."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from prompt_toolkit.output import Output

from bilingual_chat.terminal.editor.typeahead import signal_keys
from bilingual_chat.terminal.tables import wrap
from bilingual_chat.text.sanitize import outward

CUT = "…"  # for the lines that have no room


class Pages:
    """A reader of pages. State: the page that is shown."""

    def __init__(self, count: int, page: Callable[[int], str], first: int, hint: str) -> None:
        self.index = first
        self._count, self._page, self._hint = count, page, hint

    def application(self, keys: Input | None, screen: Output) -> Application[int | None]:
        """Return the application whose result is the page chosen with Enter; None if the user left."""
        bindings = merge_key_bindings([self._key_bindings(), signal_keys()])
        window = Window(FormattedTextControl(lambda: self._lines(screen), show_cursor=False), wrap_lines=False)
        return Application(Layout(window), key_bindings=bindings, erase_when_done=True, input=keys, output=screen)

    def _lines(self, screen: Output) -> StyleAndTextTuples:
        """Return the page as lines that fit the screen, and the hint below them."""
        size = screen.get_size()
        lines = [part for line in outward(self._page(self.index)).split("\n") for part in wrap(line, size.columns - 1)]
        hint = wrap(self._hint, size.columns - 1)
        room = max(1, size.rows - len(hint) - 1)
        if len(lines) > room:
            lines = [*lines[: room - 1], CUT]
        return [("", "\n".join(lines) + "\n"), ("class:auto-suggestion", "\n".join(hint))]

    def _key_bindings(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add(Keys.Right)
        @keys.add(Keys.Down)
        @keys.add(" ")
        def _(event: KeyPressEvent) -> None:
            self.index = (self.index + 1) % self._count

        @keys.add(Keys.Left)
        @keys.add(Keys.Up)
        def _(event: KeyPressEvent) -> None:
            self.index = (self.index - 1) % self._count

        @keys.add(Keys.Any)
        def _(event: KeyPressEvent) -> None:
            if event.data.isdecimal() and 1 <= int(event.data) <= self._count:
                self.index = int(event.data) - 1

        @keys.add(Keys.Enter)
        def _(event: KeyPressEvent) -> None:
            event.app.exit(result=self.index)

        @keys.add(Keys.Escape, eager=True)
        @keys.add("q")
        @keys.add(Keys.ControlC)
        @keys.add(Keys.ControlD)
        def _(event: KeyPressEvent) -> None:
            event.app.exit(result=None)

        return keys
