"""Streams text from token ids: complete characters only, and nothing of a stop string.

The pieces, joined, equal the tokenizer's own `decode(ids)`; each character comes with the token that completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

REPLACEMENT = "\ufffd"
Piece = bytes | str
# Invalid UTF-8 gives one U+FFFD for: each byte (sentencepiece); each maximal part of a character (Unicode's advice,
# byte-level BPE); each byte of a whole run of byte pieces, valid characters included (Hugging Face's byte fallback,
# which returns a run at its end).
Damaged = Literal["byte", "part", "run"]


class Detokenizer:
    """Decodes one reply token by token, with constant work per token.

    piece: returns the text of a piece ("▁" as a space, "" for a control piece), or the byte of a byte-fallback piece.
    stop_strings, newline: as the model writes them. `newline` is returned as "\\n"; stop strings match with either.
    begin: changes the first piece that is not empty; some tokenizers remove a space from it.
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
        self._bytes = b""  # an incomplete character, at most 3 bytes; or a run of byte pieces
        self._held = ""  # the possible beginning of a newline symbol …
        self._held_stop = ""  # … or of a stop string
        self._shown_of_held = 0  # characters of `_held_stop` that are already returned
        self._returned: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """All text returned so far."""
        return "".join(self._returned)

    def start_with(self, text: str) -> None:
        """Begin the reply with `text`, which no token of this reply spells. It counts as returned.

        A stop string may begin in it; the text stays whole all the same.
        """
        if text:
            self._begin = None
            self._returned.append(text)
            _, self._held_stop = _split_partial(text, self._stop_strings)
            self._shown_of_held = len(self._held_stop)

    def also_stop_at(self, texts: Iterable[str]) -> None:
        """Stop before each of `texts`, too. One may begin in the text so far, which stays whole."""
        self._stop_strings += tuple(texts)
        unshown = self._held_stop[self._shown_of_held :]
        _, self._held_stop = _split_partial(self.text + unshown, self._stop_strings)
        self._shown_of_held = len(self._held_stop) - len(unshown)

    def push(self, token_id: int) -> str:
        """Return the text that this token completes; "" once `stopped`."""
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
        """Return the text held back: half a stop string as text, half a character as U+FFFD."""
        if self.stopped:
            return ""
        rest = self._until_stop(self._with_newlines(self._end_bytes()) + self._held)
        if not self.stopped:
            rest += self._held_stop[self._shown_of_held :]
        self._held = self._held_stop = ""
        self._returned.append(rest)
        return rest

    def _end_bytes(self) -> str:
        unfinished, self._bytes = self._bytes, b""
        if self._damaged == "part":
            return REPLACEMENT * bool(unfinished)
        try:
            return unfinished.decode()
        except UnicodeDecodeError:
            return REPLACEMENT * len(unfinished)

    def _release(self, characters: str) -> str:
        text = self._until_stop(self._with_newlines(characters))
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
        # The stop string that ends first; so the reply does not depend on its tokenization.
        found = [(start + len(stop), start) for stop in self._stop_strings if (start := text.find(stop)) >= 0]
        shown = self._shown_of_held
        if found:
            self.stopped = True
            return text[shown : min(found)[1]]
        text, self._held_stop = _split_partial(text, self._stop_strings)
        self._shown_of_held = max(0, shown - len(text))
        return text[shown:]


def _decode(data: bytes, *, each_byte: bool) -> tuple[str, bytes]:
    """Return the characters of `data`, with U+FFFD for invalid bytes, and the incomplete rest."""
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
    """Split off the longest end of `text` that is a proper beginning of one of `wholes`."""
    longest = max((len(whole) for whole in wholes), default=0) - 1
    for start in range(max(0, len(text) - longest), len(text)):
        if any(len(whole) > len(text) - start and whole.startswith(text[start:]) for whole in wholes):
            return text[:start], text[start:]
    return text, ""
