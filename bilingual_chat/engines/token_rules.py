"""The settings that name tokens by their text, as token ids.

A text means the ids that the tokenizer gives for it alone, and for it after a space ("cat" and " cat"). The second is
left out where it ends with the first, which then matches after a space, too. Other ways to spell a text are not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from bilingual_chat.settings.decoding import DecodingParameters, bias_of, require_tokens, token_of

BREAKERS = ("\n", ":", '"', "*")  # llama.cpp's default; no repetition reaches over a token that contains one


class TextTokenizer(Protocol):
    """A tokenizer, as far as token rules need one. `newline`: see `PromptFormat.newline`."""

    newline: str
    vocab_size: int

    def encode(self, text: str) -> list[int]: ...

    def piece(self, token_id: int) -> str | bytes: ...


class Vocabulary:
    """The tokens by their text. State: a cache."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self.size = tokenizer.vocab_size

    def spellings(self, text: str) -> tuple[tuple[int, ...], ...]:
        """Return the token ids that mean `text`, at least one sequence."""
        written = text.replace("\n", self._tokenizer.newline)
        alone, spaced = (tuple(self._tokenizer.encode(before + written)) for before in ("", " "))
        found = [alone] if spaced[-len(alone) :] == alone else [alone, spaced]
        return tuple(each for each in found if each)

    @cached_property
    def breakers(self) -> frozenset[int]:
        """The ids of the tokens that contain one of BREAKERS."""
        marks = tuple(mark.replace("\n", self._tokenizer.newline) for mark in BREAKERS)
        return frozenset(each for each in range(self.size) if _contains(self._tokenizer.piece(each), marks))


def _contains(piece: str | bytes, marks: Sequence[str]) -> bool:
    text = piece if isinstance(piece, str) else piece.decode("latin-1")
    return any(mark in text for mark in marks)


@dataclass(frozen=True)
class TokenRules:
    """Token ids by rule. A bias or a ban holds for the last id of a sequence, where the ids before it stand."""

    eos_ids: tuple[int, ...]
    biases: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    bans: tuple[tuple[int, ...], ...] = ()
    breakers: frozenset[int] = frozenset()


def token_rules(parameters: DecodingParameters, eos_ids: Sequence[int], vocabulary: Vocabulary) -> TokenRules:
    """Return the rules of `parameters`. Raises BchatError (USAGE) for an id that the model does not have."""
    require_tokens(parameters, vocabulary.size)
    biases: dict[tuple[int, ...], float] = {}
    for entry in parameters.logit_bias:
        token, bias = bias_of(entry)
        biases |= dict.fromkeys(_sequences(token, vocabulary), bias)
    bans = [ids for entry in parameters.bad_words for ids in _sequences(token_of(entry), vocabulary)]
    kept = tuple(ids for ids in bans if ids not in [(each,) for each in eos_ids])  # as in transformers
    breakers = vocabulary.breakers if parameters.dry_multiplier else frozenset()
    return TokenRules(tuple(eos_ids), biases, kept, breakers)


def _sequences(token: int | str, vocabulary: Vocabulary) -> tuple[tuple[int, ...], ...]:
    return vocabulary.spellings(token) if isinstance(token, str) else ((token,),)
