"""Feeds keys typed ahead to prompt_toolkit; binds the keys that send signals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.keys import Keys

from bilingual_chat.terminal import signals
from bilingual_chat.terminal.keyboard import KEYBOARD


def typed_ahead_keys(keys: Input) -> list[KeyPress]:
    """Return the keys typed ahead, once. The parser keeps its state, such as the middle of a paste."""
    parser = getattr(keys, "vt100_parser", None)
    text = KEYBOARD.take()
    if not text or parser is None:
        return []
    parser.feed(text)
    return keys.flush_keys()


def feed_typed_ahead(keys: Input) -> None:
    """Start the next line with the keys typed ahead."""
    store_typeahead(keys, typed_ahead_keys(keys))


@contextmanager
def typed_ahead_kept(keys: Input) -> Iterator[None]:
    """Hide keys typed ahead from the present reader, and keep them for the next."""
    if not KEYBOARD.is_held:
        yield
        return
    feed_typed_ahead(keys)
    kept = get_typeahead(keys)
    try:
        yield
    finally:
        store_typeahead(keys, [*kept, *get_typeahead(keys)])


def signal_keys() -> KeyBindings:
    """Bind Ctrl-Z and Ctrl-\\: in raw mode the terminal sends no signals for keys."""
    bindings = KeyBindings()

    @bindings.add(Keys.ControlZ)
    def _(event: KeyPressEvent) -> None:
        if KEYBOARD.is_held:
            signals.stop_group()

    @bindings.add(Keys.ControlBackslash)
    def _(event: KeyPressEvent) -> None:
        if KEYBOARD.is_held:
            signals.end_group()

    return bindings
