"""Utterances, turns and conversations. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Speaker(StrEnum):
    """The speaker of an utterance. A prompt format has the labels, not this enum."""

    USER = "user"
    SYSTEM = "system"


class FinishReason(StrEnum):
    """Why a reply ended."""

    STOP = "stop"  # the end-of-sequence token, or a stop string
    LENGTH = "length"  # max_new_tokens, or no position left
    INTERRUPTED = "interrupted"  # Ctrl-C
    REPETITION = "repetition"  # an endless loop, cut
    FAILED = "failed"  # an error while replying


@dataclass(frozen=True)
class Utterance:
    """One speaker's text, unchanged: prompts neutralise and normalise copies."""

    speaker: Speaker
    text: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A user utterance and its reply, complete or not.

    `details` holds what a transcript records beside the text, as JSON values: settings, seed, token counts, model,
    timings. `others` are the other replies to the same message (`/retry`, `/edit`, `/compare`), the oldest first;
    they have no `others`. `index` of them are older than this reply.
    """

    user: str
    reply: str
    finish: FinishReason
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    others: tuple[Turn, ...] = ()
    index: int = 0

    @property
    def is_whole(self) -> bool:
        """Return True unless the user stopped the reply, or an error cut it off."""
        return self.finish not in (FinishReason.INTERRUPTED, FinishReason.FAILED)

    @property
    def replies(self) -> tuple[Turn, ...]:
        """Every reply to the message, this one included, the oldest first."""
        return (*self.others[: self.index], self.alone(), *self.others[self.index :])

    def among(self, replies: tuple[Turn, ...], index: int) -> Turn:
        """Return this reply as the chosen one of `replies`, in which it is number `index`."""
        return replace(self, others=replies[:index] + replies[index + 1 :], index=index)

    def after(self, earlier: tuple[Turn, ...]) -> Turn:
        """Return this reply as the chosen one, newer than the `earlier` replies to the same message."""
        return replace(self, others=earlier, index=len(earlier))

    def beside(self, replies: tuple[Turn, ...]) -> Turn:
        """Return this turn with newer `replies` that are not chosen."""
        return replace(self, others=self.others + replies)

    def alone(self) -> Turn:
        """Return this reply without the others."""
        return replace(self, others=(), index=0) if self.others else self

    def utterances(self) -> tuple[Utterance, Utterance]:
        return Utterance(Speaker.USER, self.user), Utterance(Speaker.SYSTEM, self.reply)


@dataclass(frozen=True)
class Conversation:
    """An opening that is never trimmed, then turns."""

    opening: tuple[Utterance, ...] = ()
    turns: tuple[Turn, ...] = ()

    def with_opening(self, opening: tuple[Utterance, ...]) -> Conversation:
        return replace(self, opening=opening)

    def with_turn(self, turn: Turn) -> Conversation:
        return replace(self, turns=(*self.turns, turn))

    def without_last_turn(self) -> Conversation:
        return replace(self, turns=self.turns[:-1])

    def utterances(self) -> tuple[Utterance, ...]:
        return self.opening + tuple(u for turn in self.turns for u in turn.utterances())
