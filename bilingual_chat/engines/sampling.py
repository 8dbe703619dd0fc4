"""From logits to the next token, with Hugging Face's semantics and in Hugging Face's order.

The order is that of `GenerationMixin._get_logits_processor` (transformers 5.23): repetition penalty,
min_new_tokens, then, when sampling, temperature, top_k, top_p. The tests hold each distribution
against transformers' own processors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bilingual_chat.decoding import DecodingParameters

# Sorting 65,536 scores takes 5 to 7 ms a token, finding the best of them a fraction. The nucleus nearly always lies
# within the first few, and where a high temperature flattens the distribution mostly within the others.
NUCLEUS_CANDIDATES = (256, 4096)
# Float32 rounding of transformers' softmax and cumulative sum stays well below this; a cut that is
# nearer to top_p is decided by transformers' own arithmetic.
NUCLEUS_MARGIN = 1e-5


def choose(
    logits: Tensor,
    seen: Tensor,
    new_tokens: int,
    parameters: DecodingParameters,
    eos_id: int,
    generator: torch.Generator,
) -> tuple[int, float]:
    """The next token id and its log probability under the distribution that it was chosen from.

    logits: float32 (vocabulary,), finite. seen: bool (vocabulary,), true for ids of prompt and reply.
    new_tokens: how many the reply already has. Temperature 0 is greedy: the best of the penalised
    scores, with its log probability among them.
    """
    scores = penalise(logits, seen, new_tokens, parameters, eos_id)
    if parameters.temperature == 0:
        best = int(scores.argmax())
        return best, float(scores.log_softmax(-1)[best])
    ids, kept = keep_likely(scale(scores, parameters.temperature), parameters.top_k, parameters.top_p)
    logprobs = kept.double().log_softmax(-1)
    place = draw(logprobs.exp(), generator)
    return int(ids[place]), float(logprobs[place])


def penalise(logits: Tensor, seen: Tensor, new_tokens: int, parameters: DecodingParameters, eos_id: int) -> Tensor:
    """A copy of `logits` after RepetitionPenalty and MinNewTokensLength."""
    scores = logits.clone()
    if parameters.repetition_penalty != 1.0:
        penalty = parameters.repetition_penalty
        scores = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
    if new_tokens < parameters.min_new_tokens:
        scores[eos_id] = -math.inf
    return scores


def scale(scores: Tensor, temperature: float) -> Tensor:
    """`scores / temperature`; where that overflows, the same distribution in a range that does not."""
    scaled = scores / temperature
    if bool(scaled.max().isfinite()):
        return scaled
    return ((scores - scores.max()).double() / temperature).float()


def keep_likely(scores: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """The ids that pass top_k (0: all) and then top_p, in ascending order, and their scores.

    As in Hugging Face, top_k keeps every tie of the k-th score, and top_p drops the tokens whose
    cumulative probability, from the least likely up, is at most 1 - top_p, but never the last one.
    """
    if top_k:
        kth = torch.topk(scores, min(top_k, scores.numel())).values[-1]
        # What top_k drops has no probability: top_p may look at the rest alone, and it is few.
        ids = ((scores >= kth) & (scores > -math.inf)).nonzero()[:, 0]
        kept = _nucleus_of_candidates(scores[ids], top_p) if top_p < 1.0 else None
        if kept is not None:
            ids = ids[kept]
        elif top_p < 1.0:
            ids = _nucleus_by_full_sort(scores.masked_fill(scores < kth, -math.inf), top_p)
    elif top_p < 1.0:
        kept = _nucleus_of_candidates(scores, top_p)
        ids = _nucleus_by_full_sort(scores, top_p) if kept is None else kept
    else:
        ids = (scores > -math.inf).nonzero()[:, 0]
    return ids, scores[ids]


def draw(probabilities: Tensor, generator: torch.Generator) -> int:
    """A place in float64 `probabilities` (n,), which sum to 1.

    Takes exactly one number from `generator`, however many candidates there are, so that rounding
    in one token's filter does not shift the chances of all later ones, as `torch.multinomial` would.
    """
    cumulative = probabilities.cumsum(0)
    point = torch.rand(1, generator=generator, dtype=torch.float64) * cumulative[-1]
    place = int(torch.searchsorted(cumulative, point, right=True))
    # The product may round up to the whole sum.
    return place if place < probabilities.numel() else int(probabilities.nonzero()[-1])


def _nucleus_of_candidates(scores: Tensor, top_p: float) -> Tensor | None:
    """The nucleus among the best candidates, or None where only transformers' own sort can tell."""
    total = torch.logsumexp(scores, 0)
    found = (_nucleus_among(scores, min(count, scores.numel()), total, top_p) for count in NUCLEUS_CANDIDATES)
    return next((ids for ids in found if ids is not None), None)


def _nucleus_among(scores: Tensor, count: int, total: Tensor, top_p: float) -> Tensor | None:
    best = torch.topk(scores, count)  # best first
    probabilities = (best.values - total).double().exp()
    likelier = probabilities.cumsum(0) - probabilities  # mass strictly above each
    if bool(((likelier - top_p).abs() < NUCLEUS_MARGIN).any()):
        return None
    kept = max(1, int((likelier < top_p).sum()))
    if kept < count:
        if best.values[kept - 1] == best.values[kept]:
            return None  # the cut is within a tie
    elif count < scores.numel():
        return None  # it may go on beyond the candidates
    ids: Tensor = best.indices[:kept][best.values[:kept] > -math.inf].sort().values
    return ids


def _nucleus_by_full_sort(scores: Tensor, top_p: float) -> Tensor:
    """TopPLogitsWarper, operation by operation: its sort is not stable, so ties depend on each of them."""
    values, indices = torch.sort(scores[None], descending=False)
    drop = values.softmax(dim=-1).cumsum(dim=-1) <= (1 - top_p)
    drop[..., -1:] = False
    drop = drop.scatter(1, indices, drop)[0]
    return (~drop & (scores > -math.inf)).nonzero()[:, 0]
