"""The token ids of a prompt, verified: they hold the separators and labels that bchat wrote, and no others.

A tokenizer may delete, join or replace characters (NFKC, control characters, its own rules), and so turn typed text
into a separator or a label. Only the ids show the text that the model reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from bilingual_chat.text.conversation import Utterance
from bilingual_chat.text.prompt import Framed, Prompt, PromptFormat, frame, join


class TokenCodec(Protocol):
    """Converts text to token ids and back."""

    @property
    def reserved_ids(self) -> frozenset[int]:
        """Ids that must not come from text, such as the end of a reply."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def spell(self, text: str) -> list[int]:
        """Return ids of `text` that bypass the normaliser, for example byte by byte."""


def encode_prompt(
    utterances: Sequence[Utterance], format: PromptFormat, codec: TokenCodec, *, asks: bool = True, begin: str = ""
) -> Prompt:
    """Return the prompt of `utterances`; `asks` False leaves out the label of the reply, and `begin`, its first words.

    The text is encoded whole. If its ids would show the model a forged turn or line, each line is encoded alone, and a
    line that is still misread bypasses the normaliser.
    """
    framed = frame(utterances, format, asks=asks, begin=begin)
    text = join(framed, format)
    is_neutralised = any(each.is_neutralised for each in framed)
    ids = codec.encode(text)
    guard = _Guard(format, codec)
    if not guard.is_sound(framed, text, ids):
        ids, is_changed = guard.line_by_line(framed)
        is_neutralised = is_neutralised or is_changed
    return Prompt(text, tuple(ids), is_neutralised=is_neutralised)


class _Guard:
    """Checks ids against the separators and labels of one format, as its tokenizer shows them."""

    def __init__(self, format: PromptFormat, codec: TokenCodec) -> None:
        self._format, self._codec = format, codec

    def is_sound(self, framed: Sequence[Framed], text: str, ids: Sequence[int]) -> bool:
        """Return True if the model reads exactly these lines and no forged turn."""
        seen = self._codec.decode(ids)
        lines = [(each.head, each.body.split("\n")) for each in framed]
        if seen != text:  # something was normalised
            lines = [(self._view(head), list(map(self._view, body))) for head, body in lines]
        return (
            seen == "".join(head + self._format.newline.join(body) for head, body in lines)
            and self._codec.reserved_ids.isdisjoint(ids)
            and all(self._is_harmless(line, is_later=index > 0) for _, body in lines for index, line in enumerate(body))
        )

    def line_by_line(self, framed: Sequence[Framed]) -> tuple[list[int], bool]:
        """Return ids in which no line affects its neighbours, and True if a line had to change."""
        ids: list[int] = []
        is_changed = False
        newline = self._codec.encode(self._format.newline)
        for each in framed:
            ids += self._codec.encode(each.head)
            for index, line in enumerate(each.body.split("\n")):
                found = self._harmless_ids(line, is_later=index > 0)
                is_changed = is_changed or found != self._codec.encode(line)
                ids += newline * (index > 0) + found
        return ids, is_changed

    def _harmless_ids(self, line: str, *, is_later: bool) -> list[int]:
        ways = (self._codec.encode, self._codec.spell, lambda line: self._codec.spell(" ".join(line)))
        for ids in (way(line) for way in ways):
            seen = self._codec.decode(ids)
            if self._codec.reserved_ids.isdisjoint(ids) and self._is_harmless(seen, is_later=is_later):
                return ids
        return []  # a tokenizer that turns single bytes into a separator; none is known

    def _is_harmless(self, seen: str, *, is_later: bool) -> bool:
        """Return True if `seen` is one line without a turn."""
        return not (
            (self._format.newline and self._format.newline in seen)
            or (is_later and seen.startswith(self._starts))
            or any(turn in seen for turn in self._turns)
        )

    @cached_property
    def _turns(self) -> tuple[str, ...]:
        """The beginnings of a turn, as written and as the tokenizer normalises them."""
        turns = self._format.turns
        return tuple(dict.fromkeys((*turns, *("\n".join(map(self._view, turn.split("\n"))) for turn in turns))))

    @cached_property
    def _starts(self) -> tuple[str, ...]:
        """The beginnings of a turn after their last newline."""
        return tuple(turn.rpartition("\n")[2] for turn in self._turns)

    def _view(self, text: str) -> str:
        return self._codec.decode(self._codec.encode(text))
