"""Text to token ids and back, with sentencepiece; the only importer of sentencepiece.

The tokenizers of transformers 5 silently drop newlines and trailing spaces and prepend a space, so bchat does not use
them for these models. A model file that damages text is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bilingual_chat import messages
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import os_errors, safe_read
from bilingual_chat.text.conversation import Utterance
from bilingual_chat.text.detokenizer import Detokenizer
from bilingual_chat.text.prompt import Prompt, PromptFormat
from bilingual_chat.text.prompt_ids import encode_prompt

if TYPE_CHECKING:
    import sentencepiece

_MOST = 8 << 20  # bytes of a spiece.model; 256,000 pieces take 5 MB, and ten times that in memory
SPACE = "▁"  # U+2581, sentencepiece's spelling of a space

# Each must survive exactly: NFKC does not change it.
_WHITESPACE = ("a", " a", "a ", "a  b", "   ", "システム: ", "はい  いいえ")
_NEWLINES = ("a\nb", "\n", "a\n\nb\n", "a \n b")
_TABS = ("a\tb", "\t", "\t\ta \t")
_RARE = ("鱻𠮷𪚥 龘", "🦄👩\u200d🚀🇯🇵", "жغקאꙮħ")
_SPECIAL = ("</s>", "<s>", "[PAD]", "<0x0A>")
# A normaliser may change these, nothing else may.
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
    """A model's spiece.model. `newline`: see `PromptFormat.newline`.

    Raises BchatError (MODEL) for a file that is missing, broken, or damages text.
    """

    def __init__(self, path: Path, *, newline: str = "\n") -> None:
        self.path, self.newline = path, newline
        self._model, self.fingerprint = _load(path)
        self.eos_id: int = self._model.eos_id()
        self.bos_id: int = self._model.bos_id()  # -1 where the model has none
        self.vocab_size: int = self._model.vocab_size()
        self.reserved_ids = frozenset({self.eos_id, self.bos_id, int(self._model.pad_id())})
        self._byte_ids = [self._model.piece_to_id(f"<0x{value:02X}>") for value in range(256)]
        if (lost := _first_loss(self, newline)) is not None:
            kind = messages.Phrase(f"tokenizer.{lost}")
            raise BchatError("tokenizer.lossy", status=ExitStatus.MODEL, path=path, what=kind)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without bos and eos; special tokens in it are ordinary text.

        Lone surrogates become U+FFFD.
        """
        ids: list[int] = self._model.encode(_whole(text))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, with U+FFFD for invalid bytes. Raises IndexError for ids outside the vocabulary."""
        text: str = self._model.decode(list(ids))
        return text

    def piece(self, token_id: int) -> str | bytes:
        """Return the text of one token, a byte for a byte-fallback piece, "" for a control piece.

        The pieces of any ids, joined and decoded, equal `decode(ids)`.
        """
        if self._model.is_byte(token_id):
            return bytes([int(self._model.id_to_piece(token_id)[1:-1], 16)])
        if self._model.is_control(token_id) or self._model.is_unknown(token_id):
            return self.decode([token_id])
        return str(self._model.id_to_piece(token_id)).replace(SPACE, " ")

    def detokenizer(self, format: PromptFormat) -> Detokenizer:
        """Return a detokenizer for one reply in `format`."""
        return Detokenizer(self.piece, stop_strings=format.stop_strings, newline=format.newline)

    def encode_prompt(
        self, utterances: Sequence[Utterance], format: PromptFormat, *, asks: bool = True, begin: str = ""
    ) -> Prompt:
        """See `prompt_ids.encode_prompt`."""
        return encode_prompt(utterances, format, self, asks=asks, begin=begin)

    def spell(self, text: str) -> list[int]:
        """Return the ids of the bytes of `text`, which bypass the normaliser."""
        return [self._byte_ids[byte] for byte in _whole(text).encode()]

    def normalize(self, text: str) -> str:
        """Return the normalised text, with ordinary spaces."""
        return str(self._model.normalize(_whole(text))).replace(SPACE, " ")

    def becomes_token(self, text: str) -> bool:
        """Return True if the ids of `text` hold a token of that name."""
        token_id = self._model.piece_to_id(text)
        return not self._model.is_unknown(token_id) and token_id in self.encode(text)

    def has_all_bytes(self) -> bool:
        """Return True if the model has all bytes, so that it can encode any character."""
        return all(self._model.is_byte(token_id) for token_id in self._byte_ids)

    def comes_back(self, text: str, expected: str) -> bool:
        """Return True if the ids of `text` decode to `expected`, without the unknown token."""
        ids = self.encode(text)
        return self.decode(ids) == expected and self._model.unk_id() not in ids


def _load(path: Path) -> tuple[sentencepiece.SentencePieceProcessor, str]:
    """Return the model, and the SHA-256 of its file."""
    import sentencepiece  # takes 50 ms, so not at start-up

    model = sentencepiece.SentencePieceProcessor()
    try:
        data = safe_read.read_bytes(path, _MOST)
    except OSError as error:
        reason = os_errors.reason(error)
        raise BchatError("tokenizer.unreadable", status=ExitStatus.MODEL, path=path, reason=reason) from error
    except ValueError as error:
        raise BchatError("tokenizer.broken", status=ExitStatus.MODEL, path=path) from error
    try:
        model.LoadFromSerializedProto(data)
    except (RuntimeError, OSError) as error:
        raise BchatError("tokenizer.broken", status=ExitStatus.MODEL, path=path) from error
    return model, hashlib.sha256(data).hexdigest()


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _first_loss(tokenizer: Tokenizer, newline: str) -> str | None:
    """Return the kind of text that this model damages, or None."""
    samples = {"space": _WHITESPACE, "rare": _RARE, "newline": [each.replace("\n", newline) for each in _NEWLINES]}
    if newline == "\n":  # a model with a symbol for newlines never saw tabs; its normaliser may turn them into spaces
        samples["tab"] = _TABS
    if tokenizer.eos_id < 0:
        return "no-end"
    if not tokenizer.has_all_bytes():
        return "rare"
    for kind, texts in samples.items():
        if not all(_survives(tokenizer, text) for text in texts):
            return kind
    if newline != "\n" and len(tokenizer.encode(newline)) != 1:
        return "newline"
    if any(tokenizer.becomes_token(text) or not _survives(tokenizer, text) for text in _SPECIAL):
        return "special"
    if not all(tokenizer.comes_back(text, tokenizer.normalize(text)) for text in _COMPATIBLE):
        return "other"
    return None


def _survives(tokenizer: Tokenizer, text: str) -> bool:
    # `decode` removes a prepended space, so only the normalised text shows it.
    return tokenizer.normalize(text) == text and tokenizer.comes_back(text, text)
