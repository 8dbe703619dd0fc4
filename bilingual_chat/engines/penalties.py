"""The filters that depend on the tokens before, or that raise, lower or exclude named tokens.

Each takes float32 scores (vocabulary,) that it may overwrite, and returns the new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bilingual_chat.engines.token_rules import TokenRules
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.decoding import DecodingParameters

_LARGEST_LOG = 88.7228391  # of a float32, as in llama.cpp: larger penalties would overflow


@dataclass
class Step:
    """The input of the filters for one token, beside the logits. State: `ids` and `counts` grow with the reply."""

    parameters: DecodingParameters
    rules: TokenRules
    ids: list[int]  # of prompt and reply
    prompt_length: int
    counts: Tensor  # float32 (vocabulary,): how often each id was used, within penalty_scope

    @property
    def used(self) -> list[int]:
        """The ids within penalty_scope."""
        return self.ids if self.parameters.penalty_scope == "all" else self.ids[self.prompt_length :]

    @property
    def used_ids(self) -> Tensor:
        """The different ids within penalty_scope."""
        return torch.from_numpy(np.flatnonzero(self.counts.numpy()))

    def add(self, token: int) -> None:
        """Append a token of the reply."""
        self.ids.append(token)
        self.counts[token] += 1


def first_step(ids: Sequence[int], parameters: DecodingParameters, rules: TokenRules, vocab_size: int) -> Step:
    """Return the step after the prompt `ids`."""
    step = Step(parameters, rules, list(ids), len(ids), torch.zeros(vocab_size))
    step.counts += torch.bincount(torch.tensor(step.used, dtype=torch.int64), minlength=vocab_size)
    return step


Filter = Callable[[Tensor, Step], Tensor]


def logit_bias(scores: Tensor, step: Step) -> Tensor:
    """Add the biases; as SequenceBiasLogitsProcessor."""
    totals: dict[int, float] = {}
    for ids, bias in step.rules.biases.items():
        if _stands_before(step.ids, ids):
            totals[ids[-1]] = totals.get(ids[-1], 0.0) + bias
    if totals:
        scores[list(totals)] += torch.tensor(list(totals.values()))
    return scores


def repetition_penalty(scores: Tensor, step: Step) -> Tensor:
    """Divide the positive scores of used tokens, multiply the negative ones; as RepetitionPenaltyLogitsProcessor."""
    used, penalty = step.used_ids, step.parameters.repetition_penalty
    before = scores[used]
    return scores.index_copy_(0, used, torch.where(before < 0, before * penalty, before / penalty))


def frequency_penalty(scores: Tensor, step: Step) -> Tensor:
    """Subtract the penalty once for each use; OpenAI's formula."""
    return scores.sub_(step.counts * step.parameters.frequency_penalty)


def presence_penalty(scores: Tensor, step: Step) -> Tensor:
    """Subtract the penalty from each used token; OpenAI's formula."""
    scores[step.used_ids] -= step.parameters.presence_penalty
    return scores


def dry(scores: Tensor, step: Step) -> Tensor:
    """Subtract a penalty from tokens that would extend a repetition; llama.cpp's formula (`llama_sampler_dry`)."""
    parameters = step.parameters
    lengths = repetitions(np.array(step.used), parameters.dry_allowed_length, step.rules.breakers, _longest(parameters))
    for token, length in lengths.items():
        power = float(parameters.dry_base) ** (length - parameters.dry_allowed_length)
        scores[token] -= parameters.dry_multiplier * power
    return scores


def _longest(parameters: DecodingParameters) -> int:
    """Return the length from which the penalty grows no more."""
    growth = math.log(parameters.dry_base)
    return parameters.dry_allowed_length + (int(_LARGEST_LOG / growth) if growth > 1e-6 else 0)


def repetitions(ids: np.ndarray, least: int, breakers: frozenset[int], most: int) -> dict[int, int]:
    """Return the tokens that would extend a repetition of at least `least` tokens, and its length, at most `most`.

    A repetition is the longest end of `ids` that also stands earlier, directly before the token. None reaches over
    one of `breakers`.
    """
    size = len(ids)
    reach = next((back for back in range(min(size, most)) if int(ids[-1 - back]) in breakers), min(size, most))
    ends = np.arange(size - 1)  # where the earlier occurrence may end
    found: dict[int, int] = {}
    for length in range(1, reach + 1):
        ends = ends[ends >= length - 1]
        ends = ends[ids[ends - (length - 1)] == ids[size - length]]
        if not len(ends):
            break
        if length >= least:
            found |= dict.fromkeys(ids[ends + 1].tolist(), length)
    return {token: length for token, length in found.items() if token not in breakers}


def no_repeat_ngram(scores: Tensor, step: Step) -> Tensor:
    """Exclude tokens that would complete an n-gram that occurred; as NoRepeatNGramLogitsProcessor."""
    ids, size = step.used, step.parameters.no_repeat_ngram_size
    if len(ids) < size:
        return scores
    windows = np.lib.stride_tricks.sliding_window_view(np.array(ids), size)
    matches = (windows[:, :-1] == np.array(ids[len(ids) + 1 - size :])).all(axis=1)
    return _excluding(scores, windows[matches, -1].tolist())


def bad_words(scores: Tensor, step: Step) -> Tensor:
    """Exclude the last token of each banned sequence; as NoBadWordsLogitsProcessor."""
    return _excluding(scores, [ids[-1] for ids in step.rules.bans if _stands_before(step.ids, ids)])


def min_new_tokens(scores: Tensor, step: Step) -> Tensor:
    """Exclude the end of the reply; as MinNewTokensLengthLogitsProcessor."""
    is_short = len(step.ids) - step.prompt_length < step.parameters.min_new_tokens
    return _excluding(scores, step.rules.eos_ids) if is_short else scores


def _excluding(scores: Tensor, ids: Sequence[int]) -> Tensor:
    """Exclude `ids`. Raises BchatError if no token is left."""
    if ids:
        scores[list(ids)] = -math.inf
        if float(scores.max()) == -math.inf:
            raise BchatError("engine.no-token-left", status=ExitStatus.USAGE)
    return scores


def _stands_before(ids: list[int], sequence: tuple[int, ...]) -> bool:
    """Return True if `ids` end with all of `sequence` but its last."""
    before = sequence[:-1]
    return not before or tuple(ids[-len(before) :]) == before


PENALTIES: dict[str, Filter] = {
    "logit_bias": logit_bias,
    "repetition_penalty": repetition_penalty,
    "frequency_penalty": frequency_penalty,
    "presence_penalty": presence_penalty,
    "dry_multiplier": dry,
    "no_repeat_ngram_size": no_repeat_ngram,
    "bad_words": bad_words,
    "min_new_tokens": min_new_tokens,
}
