"""The tokenizer and the chat template of other families: transformers' own, from tokenizer.json.

User text never becomes a special token: its spelling is broken before the template is applied, and text is encoded
without special tokens. The resulting ids are checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from logging import ERROR
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from bilingual_chat.engines.weights.files import check_file, read_json, refused
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import safe_stat
from bilingual_chat.text.conversation import Speaker, Utterance
from bilingual_chat.text.detokenizer import Detokenizer, Piece
from bilingual_chat.text.prompt import Prompt, PromptFormat
from bilingual_chat.text.prompt_ids import encode_prompt

TOKENIZER_FILE = "tokenizer.json"
_MOST, _MOST_VALUES = 64 << 20, 4_000_000  # bytes and values; a vocabulary of 262,000 has 34 MB and 1,800,000
_ROLES = {Speaker.USER: "user", Speaker.SYSTEM: "assistant"}
_SPACE = "▁"
_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
# Noncharacters, which no text needs: one breaks the spelling of a special token.
_MARKS = "".join(map(chr, range(0xFDD0, 0xFDF0)))
# Must survive a round trip; compatibility characters need not.
_SAMPLES = {
    "space": ("a b", " a", "a ", "a  b", "はい  いいえ"),
    "newline": ("a\nb", "a\n\nb\n", "\n"),
    "tab": ("a\tb",),
    "rare": ("鱻𠮷 龘", "🦄👩\u200d🚀", "жħ"),
}


class TemplateTokenizer:
    """The tokenizer in tokenizer.json, and the chat template beside it.

    Raises BchatError (MODEL): a missing or damaged file, a tokenizer that loses text, a missing template although
    `format` needs one, a template that fails.
    """

    def __init__(self, directory: Path, format: PromptFormat) -> None:
        self.path, self.newline = directory / TOKENIZER_FILE, format.newline
        self._tokenizer = _open(directory)
        self._decoder = _Decoder(read_json(self.path, _MOST, _MOST_VALUES).get("decoder"))
        added = self._tokenizer.added_tokens_decoder
        self.eos_ids = _end_ids(directory, self._tokenizer)
        self._skipped = frozenset(number for number, token in added.items() if token.special)
        # Also end tokens that the tokenizer does not call special.
        self._reserve(self._skipped | {number for number in self.eos_ids if number in added})
        self.vocab_size: int = max(self._tokenizer.get_vocab().values()) + 1
        self._check(format)

    def _reserve(self, ids: frozenset[int]) -> None:
        """Let no text become one of `ids`."""
        added = self._tokenizer.added_tokens_decoder
        self.reserved_ids = ids
        self._added = {added[number].content: (number, added[number]) for number in ids}
        spellings = sorted(self._added, key=len, reverse=True)
        self._spelling = (
            re.compile("(" + "|".join(map(re.escape, spellings)) + ")") if spellings else re.compile("(?!)()")
        )

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if self.reserved_ids.isdisjoint(ids):
            return ids
        # An added token that tokenizer.json does not call special, or that its normalizer makes.
        ids = [each for character in text for each in self._tokenizer.encode(character, add_special_tokens=False)]
        return ids if self.reserved_ids.isdisjoint(ids) else self.spell(text)

    def spell(self, text: str) -> list[int]:
        """Return the ids of `text` without the normalizer and without added tokens; none is reserved."""
        backend = self._tokenizer.backend_tokenizer
        text = text if backend.pre_tokenizer or not self._decoder.is_spaced else text.replace(" ", _SPACE)
        words = backend.pre_tokenizer.pre_tokenize_str(text) if backend.pre_tokenizer else [(text, None)]
        ids = [int(token.id) for word, _ in words for token in backend.model.tokenize(word)]
        return [each for each in ids if each not in self.reserved_ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids` without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def piece(self, token_id: int) -> Piece:
        """Return the text or the bytes of one token; see `Detokenizer`."""
        token = None if token_id in self._skipped else self._tokenizer.backend_tokenizer.id_to_token(token_id)
        return b"" if token is None else self._decoder.piece(token)

    def detokenizer(self, format: PromptFormat) -> Detokenizer:
        """Return the detokenizer for one reply; its text equals `decode` of the ids."""
        return Detokenizer(
            self.piece,
            stop_strings=format.stop_strings,
            newline=format.newline,
            damaged="part" if self._decoder.is_bytes else "run",
            begin=self._decoder.begin,
        )

    def encode_prompt(
        self, utterances: Sequence[Utterance], format: PromptFormat, *, asks: bool = True, begin: str = ""
    ) -> Prompt:
        """Return a prompt; with `asks` it ends where the reply begins, or after `begin`. Raises BchatError as `_apply`.

        Unless the text contains the spelling of a special token, the ids are those of
        `apply_chat_template(tokenize=True)`, with `continue_final_message=True` for a `begin`.
        """
        if format.kind != "template":
            return encode_prompt(utterances, format, self, asks=asks, begin=begin)
        begun = [Utterance(Speaker.SYSTEM, begin)] * bool(begin)
        mark = _absent_from([utterance.text for utterance in (*utterances, *begun)])
        broken = [
            Utterance(u.speaker, self._spelling.sub(lambda m: m[0][0] + mark + m[0][1:], u.text))
            for u in (*utterances, *begun)
        ]
        rendered = self._begun(broken, mark) if begun else self._apply(broken, asks)
        text = rendered.replace(mark, "")
        parts = self._spelling.split(rendered)
        if mark not in rendered:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
            if self._is_as_rendered(ids, parts):
                return Prompt(text, tuple(ids))
        return Prompt(text, tuple(self._encode_between(parts, mark)))

    def _is_as_rendered(self, ids: Sequence[int], parts: Sequence[str]) -> bool:
        """Return True if `ids` contain the template's special tokens in order, and no others.

        parts: at even indices the template's text, at odd ones the spellings of special tokens. White space is
        ignored: some special tokens absorb it.
        """
        borders = [-1, *(index for index, each in enumerate(ids) if each in self.reserved_ids), len(ids)]
        if [ids[index] for index in borders[1:-1]] != [self._added[spelling][0] for spelling in parts[1::2]]:
            return False
        texts = (self.decode(ids[start + 1 : end]) for start, end in pairwise(borders))
        return all(
            text == part or _squeezed(text) in (_squeezed(part), _squeezed(self.decode(self.encode(part))))
            for text, part in zip(texts, parts[::2], strict=True)
        )

    def _apply(self, utterances: Iterable[Utterance], asks: bool) -> str:
        """Return the template's text (transformers has a jinja2 sandbox). Raises BchatError (MODEL) if it fails."""
        messages = [{"role": _ROLES[u.speaker], "content": u.text} for u in utterances]
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks))
        except Exception as error:  # a template raises anything
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise BchatError(
                "tokenizer.template", status=ExitStatus.MODEL, path=self.path.parent, reason=reason
            ) from None

    def _begun(self, utterances: Sequence[Utterance], mark: str) -> str:
        """Return the template's text up to the end of the last utterance. Raises BchatError if that has no such end."""
        *before, last = utterances
        end = mark * 2  # is in no other text, and keeps the template from removing spaces in front of it
        rendered = self._apply([*before, Utterance(last.speaker, last.text + end)], asks=False)
        text, found, _ = rendered.rpartition(end)
        if not found or not text.endswith(last.text):
            raise BchatError("tokenizer.template-begin", status=ExitStatus.MODEL, path=self.path.parent)
        return text

    def _encode_between(self, parts: Sequence[str], mark: str) -> list[int]:
        """Return the ids of the template's special tokens, and of the text between them."""
        ids: list[int] = []
        for index, part in enumerate(parts):
            if index % 2:
                ids.append(self._added[part][0])
                continue
            if index and self._added[parts[index - 1]][1].rstrip:
                part = part.lstrip()
            if index + 1 < len(parts) and self._added[parts[index + 1]][1].lstrip:
                part = part.rstrip()
            ids += self.encode(part.replace(mark, "")) if part else []
        return ids

    def _check(self, format: PromptFormat) -> None:
        for kind, samples in _SAMPLES.items():
            if not all(self._survives(sample, format) for sample in samples):
                raise _lossy(self.path, kind)
        if not self.eos_ids:
            raise _lossy(self.path, "no-end")
        if format.kind != "template":
            return
        if not self._tokenizer.chat_template:
            raise BchatError("tokenizer.no-template", status=ExitStatus.MODEL, path=self.path.parent)
        sample = [Utterance(Speaker.USER, "一"), Utterance(Speaker.SYSTEM, "二"), Utterance(Speaker.USER, "三")]
        for count in (1, 3):
            text = self._apply(sample[:count], asks=True)
            self._reserve(self.reserved_ids | self._role_tokens(text, sample))
            if any(each.text not in text for each in sample[:count]):
                raise BchatError("tokenizer.template-silent", status=ExitStatus.MODEL, path=self.path.parent)

    def _role_tokens(self, text: str, utterances: Iterable[Utterance]) -> set[int]:
        """Return the added tokens in a template's text; the tokenizer may not call them special."""
        added = self._tokenizer.added_tokens_decoder
        ids = set(self._tokenizer.encode(text, add_special_tokens=False))
        ids -= {each for u in utterances for each in self._tokenizer.encode(u.text, add_special_tokens=False)}
        return {each for each in ids if each in added and not added[each].content.isspace()}

    def _survives(self, text: str, format: PromptFormat) -> bool:
        ids = self.encode(text)
        detokenizer = self.detokenizer(PromptFormat(kind="plain"))
        pieces = [detokenizer.push(each) for each in ids] + [detokenizer.finish()]
        return "".join(pieces) == self.decode(ids) == text


class _Decoder:
    """The decoder of tokenizer.json, token by token."""

    def __init__(self, description: object) -> None:
        kinds = {step.get("type") for step in _steps(description)}
        self.is_bytes = "ByteLevel" in kinds
        self._has_fallback = "ByteFallback" in kinds
        self._is_metaspace = "Metaspace" in kinds
        self._strips = [step for step in _steps(description) if step.get("type") == "Strip"]
        self._drops_first = any(
            step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never"
            for step in _steps(description)
        )
        self.is_spaced = self._is_metaspace or "Replace" in kinds

    def piece(self, token: str) -> Piece:
        if self.is_bytes:
            try:
                return bytes(_BYTES[character] for character in token)
            except KeyError:  # an added token is plain text
                return token.encode()
        if self._has_fallback and (found := _BYTE.fullmatch(token)):
            return bytes([int(found[1], 16)])
        return token.replace(_SPACE, " ") if self.is_spaced else token

    def begin(self, piece: Piece) -> Piece:
        """Return the first piece without the space that the normalizer prepended."""
        if self._drops_first:
            return piece.replace(" ", "") if isinstance(piece, str) else piece
        for step in self._strips:
            content, most = str(step.get("content", " ")), step.get("start", 0)
            for _ in range(most if isinstance(most, int) else 0):
                piece = piece.removeprefix(content) if isinstance(piece, str) else piece.removeprefix(content.encode())
        return piece


def _steps(description: object) -> list[dict[str, object]]:
    if not isinstance(description, dict):
        return []
    steps = description.get("decoders") if description.get("type") == "Sequence" else [description]
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _bytes_of_characters() -> dict[str, int]:
    """Return GPT-2's table: printable Latin-1 characters are their own bytes, U+0100 and later the other bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTES = _bytes_of_characters()


def _open(directory: Path) -> PreTrainedTokenizerFast:
    check_file(directory / TOKENIZER_FILE)
    if (safe_stat.size_of(directory / TOKENIZER_FILE) or 0) > _MOST:
        raise refused("engine.json", directory / TOKENIZER_FILE)
    logging.set_verbosity(ERROR)
    try:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except Exception:  # the parsers raise anything
        raise refused("engine.json", directory / TOKENIZER_FILE) from None
    tokenizer.clean_up_tokenization_spaces = False  # else decode removes the space before a "."
    return tokenizer


def _end_ids(directory: Path, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Return the ids that end a reply: from generation_config.json, config.json and the tokenizer."""
    found: list[object] = []
    for name in ("generation_config.json", "config.json"):
        if (directory / name).is_file():
            ids = read_json(directory / name).get("eos_token_id")
            found += ids if isinstance(ids, list) else [ids]
    ids = [each for each in (*found, tokenizer.eos_token_id) if isinstance(each, int) and each >= 0]
    return tuple(dict.fromkeys(ids))


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _absent_from(texts: Iterable[str]) -> str:
    used = set().union(*texts)
    return next((mark for mark in _MARKS if mark not in used), _MARKS[0])


def _lossy(path: Path, kind: str) -> BchatError:
    return BchatError("tokenizer.lossy", status=ExitStatus.MODEL, path=path, what=Phrase(f"tokenizer.{kind}"))
