"""Keys that were typed before somebody read them, as prompt_toolkit takes them; and keys that are signals."""

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
    """What the keyboard has kept, once. The parser goes on with the keys to come, as in the middle of a paste."""
    parser = getattr(keys, "vt100_parser", None)
    text = KEYBOARD.take()
    if not text or parser is None:
        return []
    parser.feed(text)
    return keys.flush_keys()


def feed_typed_ahead(keys: Input) -> None:
    """The next line begins with what was typed ahead."""
    store_typeahead(keys, typed_ahead_keys(keys))


@contextmanager
def typed_ahead_kept(keys: Input) -> Iterator[None]:
    """What was typed ahead is not for whoever reads now, but for the next."""
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
    """Ctrl-Z and Ctrl-\\: the line editor has the terminal make no signals of keys."""
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
