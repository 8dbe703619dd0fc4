"""From logits to the next token: the semantics and the order of Hugging Face.

The order is that of `GenerationMixin._get_logits_processor` (transformers 5.23): repetition penalty, min_new_tokens,
then, when sampling, temperature, top_k, top_p. The tests compare each distribution with transformers' own processors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bilingual_chat.settings.decoding import DecodingParameters


def choose(
    logits: Tensor,
    seen: Tensor,
    new_tokens: int,
    parameters: DecodingParameters,
    eos_ids: Sequence[int],
    generator: torch.Generator,
) -> tuple[int, float]:
    """Return the next token id, and its log probability in the distribution that it was drawn from.

    logits: float32 (vocabulary,), finite. seen: bool (vocabulary,), True for ids of prompt and reply. new_tokens: of
    the reply so far. Temperature 0 is greedy: the best of the penalized scores.
    """
    scores = penalize(logits, seen, new_tokens, parameters, eos_ids)
    if parameters.temperature == 0:
        best = int(scores.argmax())
        return best, float(scores.log_softmax(-1)[best])
    ids, kept = keep_likely(scale(scores, parameters.temperature), parameters.top_k, parameters.top_p)
    logprobs = kept.double().log_softmax(-1)
    index = draw(logprobs.exp(), generator)
    return int(ids[index]), float(logprobs[index])


def penalize(
    logits: Tensor, seen: Tensor, new_tokens: int, parameters: DecodingParameters, eos_ids: Sequence[int]
) -> Tensor:
    """Return a copy of `logits` after RepetitionPenalty and MinNewTokensLength."""
    scores = logits.clone()
    if parameters.repetition_penalty != 1.0:
        penalty = parameters.repetition_penalty
        scores = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
    if new_tokens < parameters.min_new_tokens:
        scores[list(eos_ids)] = -math.inf
    return scores


def scale(scores: Tensor, temperature: float) -> Tensor:
    """Return `scores / temperature`; if that overflows, shifted scores of the same distribution."""
    scaled = scores / temperature
    if bool(scaled.max().isfinite()):
        return scaled
    return ((scores - scores.max()).double() / temperature).float()


def keep_likely(scores: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the ids that pass top_k (0: all) and then top_p, in ascending order, and their scores.

    As in Hugging Face, top_k keeps every tie of the k-th score, and top_p drops the tokens whose cumulative
    probability, from the least likely up, is at most 1 - top_p, but never the last one.
    """
    least = torch.topk(scores, min(top_k, scores.numel())).values[-1] if top_k else scores.new_tensor(-math.inf)
    ids = _true_indices((scores >= least) & (scores > -math.inf))
    kept = scores[ids]
    if top_p < 1.0:
        nucleus = _nucleus(kept, scores.numel(), top_p)
        # Of equal scores at the border, the sort of the whole vocabulary decides which are kept.
        ids = _nucleus_by_full_sort(scores, ids, top_p) if nucleus is None else ids[nucleus]
    return ids, scores[ids]


def draw(probabilities: Tensor, generator: torch.Generator) -> int:
    """Draw an index into float64 `probabilities` (n,), which sum to 1.

    Takes exactly one number from `generator`, however many candidates there are: a rounding difference in one filter
    then does not shift the random numbers of later tokens, as `torch.multinomial` would.
    """
    cumulative = probabilities.cumsum(0)
    point = torch.rand(1, generator=generator, dtype=torch.float64) * cumulative[-1]
    index = int(torch.searchsorted(cumulative, point, right=True))
    # The product may round up to the whole sum.
    return index if index < probabilities.numel() else int(probabilities.nonzero()[-1])


def _nucleus(scores: Tensor, size: int, top_p: float) -> Tensor | None:
    """Return the indices that TopPLogitsWarper keeps; None if the border splits equal scores.

    scores: all finite scores of a vocabulary of `size`. numpy sorts 65,536 scores in 0.1 ms; torch, which sorts the
    indices too, takes 4 to 8 ms.
    """
    values = torch.from_numpy(np.sort(scores.numpy()))
    padded = torch.nn.functional.pad(values, (size - len(values), 0), value=-math.inf)
    drop = _dropped(padded, top_p)[-len(values) :]
    first = int(np.count_nonzero(drop.numpy()))  # cumulative sums never fall, so the dropped scores come first
    least = values[first]
    return None if first and values[first - 1] == least else _true_indices(scores >= least)


def _nucleus_by_full_sort(scores: Tensor, ids: Tensor, top_p: float) -> Tensor:
    """Return those of `ids` that TopPLogitsWarper keeps, operation by operation.

    Its sort is not stable: the order of equal scores depends on all others.
    """
    masked = torch.full_like(scores, -math.inf).index_copy(0, ids, scores[ids])
    values, indices = torch.sort(masked[None], descending=False)
    kept = torch.zeros_like(masked, dtype=torch.bool).scatter(0, indices[0], ~_dropped(values[0], top_p))
    return ids[_true_indices(kept[ids])]


def _dropped(values: Tensor, top_p: float) -> Tensor:
    """Return a mask of the scores that top_p drops, by transformers' arithmetic; values: ascending."""
    drop = values[None].softmax(dim=-1).cumsum(dim=-1)[0] <= (1 - top_p)
    drop[-1] = False
    return drop


def _true_indices(mask: Tensor) -> Tensor:
    """Return the ascending indices of True; numpy needs a fifth of torch's time."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))
