"""Standard input as text, by lines or whole. Bytes that are not text in its encoding are refused, never replaced."""

from __future__ import annotations

import codecs
import io
from typing import BinaryIO

from bilingual_chat.text import encodings

_CHUNK = 8192  # bytes of one read


class StandardInput:
    """The text of a byte stream: in `encoding`, else as its BOM says, else UTF-8. Line ends become "\\n".

    Raises BchatError: USAGE for an unknown encoding, DATA for a line that is not text; reading may continue after it.
    """

    def __init__(self, file: BinaryIO, encoding: str | None = None) -> None:
        self._file = file
        self._encoding = encoding
        self._codec, _ = encodings.choose_codec(b"", encoding)
        self._decoder: io.IncrementalNewlineDecoder | None = None
        self._ahead = ""  # decoded, not returned yet

    def read(self, limit: int) -> str:
        """Return everything, at most `limit` characters."""
        pieces, self._ahead = [self._ahead], ""
        while sum(map(len, pieces)) <= limit and (text := self._decode_chunk()):
            pieces.append(text)
        return self._decoded("".join(pieces)[:limit])

    def readline(self, limit: int) -> str:
        """Return the next line with its newline, at most `limit` characters, and skip its rest; "" at the end."""
        pieces, length = [], 0
        while True:
            text = self._ahead or self._decode_chunk()
            end = text.find("\n") + 1
            if length < limit:
                pieces.append(text[: end or None])
            length += len(text)
            self._ahead = text[end:] if end else ""
            if end or not text:
                break
        return self._decoded(("".join(pieces) + self._rest_of_newline(pieces))[:limit])

    def _rest_of_newline(self, pieces: list[str]) -> str:
        """Take the bytes 0 that follow a newline in UTF-16LE and UTF-32LE: they show what the line really is."""
        if self._codec != encodings.UTF8 or not self._ahead.startswith("\0"):
            return ""
        if len("".join(pieces).encode("utf-8", "surrogateescape")) % 2 == 0:  # big-endian, and the next line's
            return ""
        rest = "\0\0\0" if self._ahead.startswith("\0\0\0") else "\0"
        self._ahead = self._ahead.removeprefix(rest)
        return rest

    def _decoded(self, text: str) -> str:
        encodings.require_decoded(text, self._codec)
        return text

    def _decode_chunk(self) -> str:
        """Return the text of at least one more byte, "" at the end."""
        text = ""
        while not text:
            chunk = self._file.read1(_CHUNK)  # type: ignore[attr-defined]  # BufferedReader and BytesIO have it
            if self._decoder is None:
                self._codec, errors = encodings.choose_codec(chunk, self._encoding)
                decoder = codecs.getincrementaldecoder(self._codec)(errors)
                self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
            text = self._decoder.decode(chunk, final=not chunk)
            if not chunk:
                break
        return text
