"""Token ids to text as it streams: whole characters only, nothing of a stop string.

The text returned is, joined, what the tokenizer's own `decode(ids)` gives, each character in the
step that completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

REPLACEMENT = "\ufffd"
Piece = bytes | str
# What becomes one U+FFFD where bytes form no character: each byte (sentencepiece), the longest part that
# could have begun one (Unicode's advice; byte-level BPE), each byte of the whole run of byte pieces, good
# characters included (the byte fallback of Hugging Face's tokenizers; a run is returned when it ends).
Damaged = Literal["byte", "part", "run"]


class Detokenizer:
    """The text of one reply, token by token, with constant work for each.

    `piece(id)` is the text of an ordinary piece ("▁" already a space; "" for a control piece) or,
    for a byte-fallback piece, that one byte. `stop_strings` and `newline` are spelt as the model
    writes them; `newline` is returned as "\\n". A stop string also matches with real newlines in it.
    `begin` is what becomes of the first piece that is not empty: some tokenizers take a space from it.
    """

    def __init__(
        self,
        piece: Callable[[int], Piece],
        *,
        stop_strings: Iterable[str] = (),
        newline: str = "\n",
        damaged: Damaged = "byte",
        begin: Callable[[Piece], Piece] | None = None,
    ) -> None:
        self._piece = piece
        self._damaged = damaged
        self._begin = begin
        self._newline = newline
        self._stop_strings = tuple(stop.replace(newline, "\n") for stop in stop_strings if stop)
        self._bytes = b""  # the beginning of a character, at most 3 bytes; or a run of byte pieces
        self._held = ""  # complete characters that may still become a newline symbol …
        self._held_stop = ""  # … or a stop string
        self._returned: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """Everything returned so far."""
        return "".join(self._returned)

    def push(self, token_id: int) -> str:
        """The text that becomes printable with this token; "" once `stopped`."""
        if self.stopped:
            return ""
        piece = self._piece(token_id)
        if piece and self._begin is not None:
            piece, self._begin = self._begin(piece), None
        if isinstance(piece, str):  # even an empty piece ends a run of bytes, as in sentencepiece
            return self._release(self._end_bytes() + piece)
        if self._damaged == "run":
            self._bytes += piece
            return ""
        characters, self._bytes = _decode(self._bytes + piece, each_byte=self._damaged == "byte")
        return self._release(characters)

    def finish(self) -> str:
        """What was held back: half a stop string is text, half a character is U+FFFD."""
        if self.stopped:
            return ""
        rest = self._until_stop(self._with_newlines(self._end_bytes()) + self._held)
        if not self.stopped:
            rest += self._held_stop
        self._held = self._held_stop = ""
        return self._keep(rest)

    def _end_bytes(self) -> str:
        unfinished, self._bytes = self._bytes, b""
        if self._damaged == "part":
            return REPLACEMENT * bool(unfinished)
        try:
            return unfinished.decode()
        except UnicodeDecodeError:
            return REPLACEMENT * len(unfinished)

    def _release(self, characters: str) -> str:
        return self._keep(self._until_stop(self._with_newlines(characters)))

    def _keep(self, text: str) -> str:
        if text:
            self._returned.append(text)
        return text

    def _with_newlines(self, characters: str) -> str:
        if self._newline == "\n":
            return characters
        text = (self._held + characters).replace(self._newline, "\n")
        text, self._held = _split_partial(text, (self._newline,))
        return text

    def _until_stop(self, characters: str) -> str:
        text = self._held_stop + characters
        # The one that ends first, so that the reply does not depend on how it was cut into tokens.
        found = [(start + len(stop), start) for stop in self._stop_strings if (start := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            return text[: min(found)[1]]
        text, self._held_stop = _split_partial(text, self._stop_strings)
        return text


def _decode(data: bytes, *, each_byte: bool) -> tuple[str, bytes]:
    """The characters of `data`, U+FFFD for what cannot be part of one, and the unfinished rest."""
    text = ""
    while data:
        try:
            return text + data.decode(), b""
        except UnicodeDecodeError as error:
            text += data[: error.start].decode()
            data = data[error.start :]
            if error.reason == "unexpected end of data":
                return text, data
            text += REPLACEMENT
            data = data[1 if each_byte else error.end - error.start :]
    return text, data


def _split_partial(text: str, wholes: tuple[str, ...]) -> tuple[str, str]:
    """`text` in two: the second is its longest end that one of `wholes` begins with, but does not equal."""
    longest = max((len(whole) for whole in wholes), default=0) - 1
    for start in range(max(0, len(text) - longest), len(text)):
        if any(whole.startswith(text[start:]) for whole in wholes):
            return text[:start], text[start:]
    return text, ""
