"""A prompt's token ids, verified: separators and labels are those that bchat put there, and no others.

A tokenizer may delete, join or replace characters (NFKC, control characters, rules of its own), and so
make a separator or a label of what somebody typed. Therefore the ids say what the model reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from bilingual_chat.text.conversation import Utterance
from bilingual_chat.text.prompt import Framed, Prompt, PromptFormat, frame, join


class Codec(Protocol):
    """Text to ids and back."""

    @property
    def reserved_ids(self) -> frozenset[int]:
        """Ids that no text may become, such as the end of a reply."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def spell(self, text: str) -> list[int]:
        """The ids of `text` without the normaliser, for example byte by byte."""


def encode_prompt(utterances: Sequence[Utterance], format: PromptFormat, codec: Codec, *, asks: bool = True) -> Prompt:
    """The prompt of `utterances`; `asks` False leaves out the label that asks for a reply.

    The ids are those of the whole text. If the model would read a turn or a line in them that nobody said,
    every line is encoded alone, and a line that would still be misread bypasses the normaliser.
    """
    framed = frame(utterances, format, asks=asks)
    text = join(framed, format)
    is_neutralised = any(each.is_neutralised for each in framed)
    ids = codec.encode(text)
    guard = _Guard(format, codec)
    if not guard.is_sound(framed, text, ids):
        ids, is_changed = guard.line_by_line(framed)
        is_neutralised = is_neutralised or is_changed
    return Prompt(text, tuple(ids), is_neutralised=is_neutralised)


class _Guard:
    """What a model may read in one format: its separators and labels, as its tokenizer shows them."""

    def __init__(self, format: PromptFormat, codec: Codec) -> None:
        self._format, self._codec = format, codec

    def is_sound(self, framed: Sequence[Framed], text: str, ids: Sequence[int]) -> bool:
        """Whether the model reads each line in its place and no turn besides."""
        seen = self._codec.decode(ids)
        lines = [(each.head, each.body.split("\n")) for each in framed]
        if seen != text:  # something was normalised
            lines = [(self._view(head), list(map(self._view, body))) for head, body in lines]
        return (
            seen == "".join(head + self._format.newline.join(body) for head, body in lines)
            and self._codec.reserved_ids.isdisjoint(ids)
            and all(self._is_harmless(line, is_later=at > 0) for _, body in lines for at, line in enumerate(body))
        )

    def line_by_line(self, framed: Sequence[Framed]) -> tuple[list[int], bool]:
        """Ids in which no line can change what stands beside it, and whether any line had to be spelt otherwise."""
        ids: list[int] = []
        is_changed = False
        newline = self._codec.encode(self._format.newline)
        for each in framed:
            ids += self._codec.encode(each.head)
            for at, line in enumerate(each.body.split("\n")):
                found = self._harmless_ids(line, is_later=at > 0)
                is_changed = is_changed or found != self._codec.encode(line)
                ids += newline * (at > 0) + found
        return ids, is_changed

    def _harmless_ids(self, line: str, *, is_later: bool) -> list[int]:
        ways = (self._codec.encode, self._codec.spell, lambda line: self._codec.spell(" ".join(line)))
        for ids in (way(line) for way in ways):
            seen = self._codec.decode(ids)
            if self._codec.reserved_ids.isdisjoint(ids) and self._is_harmless(seen, is_later=is_later):
                return ids
        return []  # a tokenizer that makes a separator of single bytes: none is known

    def _is_harmless(self, seen: str, *, is_later: bool) -> bool:
        """Whether a line that the model reads as `seen` is one line, with no turn in it."""
        return not (
            (self._format.newline and self._format.newline in seen)
            or (is_later and seen.startswith(self._starts))
            or any(turn in seen for turn in self._turns)
        )

    @cached_property
    def _turns(self) -> tuple[str, ...]:
        """How a turn begins, as it is written and as the tokenizer normalises it."""
        return tuple(dict.fromkeys(each for turn in self._format.turns for each in (turn, self._view_lines(turn))))

    @cached_property
    def _starts(self) -> tuple[str, ...]:
        """How a turn begins behind its last newline."""
        return tuple(turn.rpartition("\n")[2] for turn in self._turns)

    def _view_lines(self, text: str) -> str:
        return "\n".join(map(self._view, text.split("\n")))

    def _view(self, text: str) -> str:
        return self._codec.decode(self._codec.encode(text))
