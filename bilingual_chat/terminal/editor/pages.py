"""Pages that a user flips through with the arrow keys, below the conversation; nothing of them stays on the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from bilingual_chat.commands.app import Page
from bilingual_chat.terminal.editor.typeahead import signal_keys
from bilingual_chat.terminal.tables import format_table, wrap
from bilingual_chat.text.sanitize import outward

# The colours of the terminal, not of a theme.
STYLE = Style.from_dict(
    {"shade-1": "ansicyan", "shade-2": "ansigreen", "shade-3": "ansiyellow", "shade-4": "ansired"}
    | {"here": "reverse", "auto-suggestion": "ansibrightblack"}
)
CUT = "…"  # for the lines that have no room


class Pages:
    """A reader of pages. State: the page that is shown."""

    def __init__(self, count: int, page: Callable[[int], str | Page], first: int, hint: str) -> None:
        self.index = first
        self._count, self._page, self._hint = count, page, hint

    def application(self, keys: Input | None, screen: Output) -> Application[int | None]:
        """Return the application whose result is the page chosen with Enter; None if the user left."""
        bindings = merge_key_bindings([self._key_bindings(), signal_keys()])
        window = Window(FormattedTextControl(lambda: self._lines(screen), show_cursor=False), wrap_lines=False)
        return Application(
            Layout(window), key_bindings=bindings, erase_when_done=True, style=STYLE, input=keys, output=screen
        )

    def _lines(self, screen: Output) -> StyleAndTextTuples:
        """Return the page as lines that fit the screen, and the hint below them."""
        size, page = screen.get_size(), self._page(self.index)
        page = page if isinstance(page, Page) else Page([("", page)])
        width = size.columns - 1
        below = [*wrap(page.heading, width), *format_table(page.rows, width), *wrap(page.note, width)]
        below = ["", *below] if page.heading else []
        hint = wrap(self._hint, width)
        lines = _that_fit(_styled_lines(page.text, width), max(1, size.rows - len(hint) - len(below) - 1))
        text = [part for line in lines for part in (*line, ("", "\n"))]
        return [*text, ("", "".join(f"{line}\n" for line in below)), ("class:auto-suggestion", "\n".join(hint))]

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


def _that_fit(lines: list[StyleAndTextTuples], room: int) -> list[StyleAndTextTuples]:
    """Return the lines that have room: the first ones, or those around the one that is looked at."""
    if len(lines) <= room:
        return lines
    here = next((at for at, line in enumerate(lines) if any("class:here" in part[0] for part in line)), None)
    if here is None:
        return [*lines[: room - 1], [("", CUT)]]
    start = min(max(0, here - room // 2), len(lines) - room)
    return lines[start : start + room]


def _styled_lines(text: Sequence[tuple[str, str]], width: int) -> list[StyleAndTextTuples]:
    """Return text of any origin as lines; `wrap` drops some spaces, and changes no other character."""
    styles = [(char, style) for style, part in text for char in outward(part)]
    found: list[StyleAndTextTuples] = []
    at = 0
    for line in (part for whole in "".join(char for char, _ in styles).split("\n") for part in wrap(whole, width)):
        parts: StyleAndTextTuples = []
        for char in line:
            while styles[at][0] not in (char, "\t"):
                at += 1
            parts.append((" ".join(f"class:{name}" for name in styles[at][1].split()), char))
            at += 1
        found.append(parts)
    return found
