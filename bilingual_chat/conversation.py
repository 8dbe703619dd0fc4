"""What is said: utterances, turns, conversations. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Speaker(StrEnum):
    """Who speaks. The labels of a prompt format are not here but in `prompt.PromptFormat`."""

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
    """One speaker's text, as it was said (before anything is done to it for a prompt)."""

    speaker: Speaker
    text: str


@dataclass(frozen=True)
class Turn:
    """A user utterance and its reply, however the reply ended.

    `details` is what a transcript keeps beside the text: settings, seed, counts, model, timings
    (JSON values only).
    """

    user: str
    reply: str
    finish: FinishReason
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

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
