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


@dataclass(frozen=True, slots=True)
class Turn:
    """A user utterance and its reply, however the reply ended.

    `details` is what a transcript keeps beside the text: settings, seed, counts, model, timings
    (JSON values only). `others` are the replies that the message had beside this one (`/retry`, `/edit`,
    `/compare`), in the order in which they came; they have no `others`. `place` of them came before this one.
    """

    user: str
    reply: str
    finish: FinishReason
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    others: tuple[Turn, ...] = ()
    place: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nobody stopped the reply and nothing broke it off."""
        return self.finish not in (FinishReason.INTERRUPTED, FinishReason.FAILED)

    @property
    def replies(self) -> tuple[Turn, ...]:
        """Every reply, this one included, in the order in which they came."""
        return (*self.others[: self.place], replace(self, others=(), place=0), *self.others[self.place :])

    def among(self, replies: tuple[Turn, ...]) -> Turn:
        """This reply as the chosen one of `replies`: where it is among them already, else as the last."""
        alone = replace(self, others=(), place=0)
        place = replies.index(alone) if alone in replies else len(replies)
        return replace(self, others=replies[:place] + replies[place + 1 :], place=place)

    def beside(self, replies: tuple[Turn, ...]) -> Turn:
        """This turn with `replies` that nobody chose."""
        return replace(self, others=self.others + replies)

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
