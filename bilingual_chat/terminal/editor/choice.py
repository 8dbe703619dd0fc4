"""One key as an answer; nothing of the question stays on the screen."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from prompt_toolkit.application import Application
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from prompt_toolkit.output import Output

from bilingual_chat.terminal.editor.typeahead import signal_keys

_ARROWS = {Keys.Left: "left", Keys.Right: "right", Keys.Up: "up", Keys.Down: "down"}


def ask_key(
    choices: Mapping[str, str], hint: str, *, keys: Input | None = None, screen: Output | None = None
) -> str | None:
    """Wait for one of the keys in `choices`, and return its value; None for q, Escape or Ctrl-D.

    Keys are letters (full width and capitals count too) and "left", "right", "up", "down".
    Raises KeyboardInterrupt for Ctrl-C.
    """
    window = Window(FormattedTextControl([("class:auto-suggestion", hint)], show_cursor=False), wrap_lines=True)
    bindings = merge_key_bindings([_bindings(choices), signal_keys()])
    asked: Application[str | None] = Application(
        Layout(window), key_bindings=bindings, erase_when_done=True, input=keys, output=screen
    )
    return asked.run()


def _bindings(choices: Mapping[str, str]) -> KeyBindings:
    keys = KeyBindings()

    @keys.add(Keys.Any)
    def _(event: KeyPressEvent) -> None:
        typed = unicodedata.normalize("NFKC", event.data).lower()
        if typed in choices or typed == "q":
            event.app.exit(result=choices.get(typed))

    for arrow, name in _ARROWS.items():

        @keys.add(arrow)
        def _(event: KeyPressEvent, name: str = name) -> None:
            if name in choices:
                event.app.exit(result=choices[name])

    @keys.add(Keys.Escape, eager=True)
    @keys.add(Keys.ControlD)
    def _(event: KeyPressEvent) -> None:
        event.app.exit(result=None)

    @keys.add(Keys.ControlC)
    def _(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt())

    return keys
