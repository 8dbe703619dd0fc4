"""Text to token ids and back, by sentencepiece itself: the only room that imports it.

No tokenizer class of transformers is used for these models: version 5 drops newlines and trailing
spaces and prepends a space, silently. What a model file does to text is checked when it is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bilingual_chat import messages
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import os_errors, safe_read
from bilingual_chat.text.conversation import Utterance
from bilingual_chat.text.detokenizer import Detokenizer
from bilingual_chat.text.encoding import encode_prompt
from bilingual_chat.text.prompt import Prompt, PromptFormat

if TYPE_CHECKING:
    import sentencepiece

_MOST = 8 << 20  # bytes of a spiece.model; one of 256,000 pieces has 5, and takes ten times that in memory
SPACE = "▁"  # U+2581, sentencepiece's spelling of a space

# Each of these must come back exactly: no NFKC normaliser touches them.
_WHITESPACE = ("a", " a", "a ", "a  b", "   ", "システム: ", "はい  いいえ")
_NEWLINES = ("a\nb", "\n", "a\n\nb\n", "a \n b")
_TABS = ("a\tb", "\t", "\t\ta \t")
_RARE = ("鱻𠮷𪚥 龘", "🦄👩\u200d🚀🇯🇵", "жغקאꙮħ")
_SPECIAL = ("</s>", "<s>", "[PAD]", "<0x0A>")
# What a normaliser may change, but nothing else may.
_COMPATIBLE = (
    "ｼｽﾃﾑ：ＡＢＣ",
    "㌔①Ⅳ㍿",
    "か\u3099e\u0301",
    "一\u3000二",
    "神㈱～“…”",
    "\r\n",
    "ABC",
    "\x00\x1b\x7f",
)


class Tokenizer:
    """A model's spiece.model. `newline` is what newlines become before encoding (`PromptFormat.newline`).

    Raises BchatError (MODEL) for a file that is missing, broken, or loses any of the text it is given.
    """

    def __init__(self, path: Path, *, newline: str = "\n") -> None:
        self.path = path
        data = _read(path)
        self.fingerprint = hashlib.sha256(data).hexdigest()
        self._model = _parse(path, data)
        self.eos_id: int = self._model.eos_id()
        self.bos_id: int = self._model.bos_id()  # -1 where the model has none
        self.vocab_size: int = self._model.vocab_size()
        self.reserved_ids = frozenset({self.eos_id, self.bos_id, int(self._model.pad_id())})
        self._byte_ids = [self._model.piece_to_id(f"<0x{value:02X}>") for value in range(256)]
        _refuse_lossy(self, newline)

    def encode(self, text: str) -> list[int]:
        """The ids of `text` as sentencepiece gives them: no bos, no eos, no special spellings.

        Lone surrogates, which sentencepiece cannot take, become U+FFFD.
        """
        ids: list[int] = self._model.encode(_whole(text))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; bytes that form no character become U+FFFD. IndexError for a foreign id."""
        text: str = self._model.decode(list(ids))
        return text

    def piece(self, token_id: int) -> str | bytes:
        """What one token adds to a text: one byte for a byte-fallback piece, "" for a control piece.

        For any ids the pieces, joined and their bytes decoded, are `decode(ids)`.
        """
        if self._model.is_byte(token_id):
            return bytes([int(self._model.id_to_piece(token_id)[1:-1], 16)])
        if self._model.is_control(token_id) or self._model.is_unknown(token_id):
            return self.decode([token_id])
        return str(self._model.id_to_piece(token_id)).replace(SPACE, " ")

    def detokenizer(self, format: PromptFormat) -> Detokenizer:
        """For one reply of a model that reads and writes in `format`."""
        return Detokenizer(self.piece, stop_strings=format.stop_strings, newline=format.newline)

    def tell(self, utterances: Sequence[Utterance], format: PromptFormat, *, asks: bool = True) -> Prompt:
        """A prompt in which no text is a turn; `asks` False leaves out the label that asks for a reply."""
        return encode_prompt(utterances, format, self, asks=asks)

    def spell(self, text: str) -> list[int]:
        """The ids of the bytes of `text`, which no normaliser sees. Every model that opens has all of them."""
        return [self._byte_ids[byte] for byte in _whole(text).encode()]

    def normalize(self, text: str) -> str:
        """`text` as the model sees it before it is cut into pieces, with ordinary spaces."""
        return str(self._model.normalize(_whole(text))).replace(SPACE, " ")

    def spells(self, symbol: str, ids: Iterable[int]) -> bool:
        """Whether `ids` hold the one token that is named `symbol`, if the model has such a token."""
        token_id = self._model.piece_to_id(symbol)
        return not self._model.is_unknown(token_id) and token_id in ids

    def has_all_bytes(self) -> bool:
        """Whether any character at all can be told to the model, byte by byte."""
        return all(self._model.is_byte(token_id) for token_id in self._byte_ids)

    def holds_unknown(self, ids: Iterable[int]) -> bool:
        """Whether `ids` hold the unknown token, in which a character is lost."""
        return self._model.unk_id() in ids


def _read(path: Path) -> bytes:
    try:
        return safe_read.read_bytes(path, _MOST)
    except OSError as error:
        reason = os_errors.reason(error)
        raise BchatError("tokenizer.unreadable", status=ExitStatus.MODEL, path=path, reason=reason) from error
    except ValueError as error:
        raise BchatError("tokenizer.broken", status=ExitStatus.MODEL, path=path) from error


def _parse(path: Path, data: bytes) -> sentencepiece.SentencePieceProcessor:
    import sentencepiece  # 50 ms, which the first prompt does not wait for

    model = sentencepiece.SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(data)
    except (RuntimeError, OSError) as error:
        raise BchatError("tokenizer.broken", status=ExitStatus.MODEL, path=path) from error
    return model


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _refuse_lossy(tokenizer: Tokenizer, newline: str) -> None:
    lost = _first_loss(tokenizer, newline)
    if lost is not None:
        raise BchatError(
            "tokenizer.lossy", status=ExitStatus.MODEL, path=tokenizer.path, what=messages.Phrase(f"tokenizer.{lost}")
        )


def _first_loss(tokenizer: Tokenizer, newline: str) -> str | None:
    """The kind of text that this model damages, None if there is none."""
    own_newline = newline == "\n"
    # A model that was taught a symbol for newlines never saw a tab either: its normaliser may make it a space.
    tabs = _TABS if own_newline else ()
    if tokenizer.eos_id < 0:
        return "no-end"
    if not tokenizer.has_all_bytes():
        return "rare"
    if not all(_survives(tokenizer, text) for text in _WHITESPACE):
        return "space"
    if not all(_survives(tokenizer, text) for text in _RARE):
        return "rare"
    if not all(_survives(tokenizer, text.replace("\n", newline)) for text in _NEWLINES):
        return "newline"
    if not own_newline and len(tokenizer.encode(newline)) != 1:
        return "newline"
    if not all(_survives(tokenizer, text) for text in tabs):
        return "tab"
    if any(tokenizer.spells(text, tokenizer.encode(text)) or not _survives(tokenizer, text) for text in _SPECIAL):
        return "special"
    if not all(_comes_back(tokenizer, text, tokenizer.normalize(text)) for text in _COMPATIBLE):
        return "other"
    return None


def _survives(tokenizer: Tokenizer, text: str) -> bool:
    # `decode` takes a prepended space away again, so that only the normalised text betrays it.
    return tokenizer.normalize(text) == text and _comes_back(tokenizer, text, text)


def _comes_back(tokenizer: Tokenizer, text: str, expected: str) -> bool:
    ids = tokenizer.encode(text)
    return tokenizer.decode(ids) == expected and not tokenizer.holds_unknown(ids)
