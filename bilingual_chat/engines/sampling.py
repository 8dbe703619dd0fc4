"""From logits to the next token, with Hugging Face's semantics and in Hugging Face's order.

The order is that of `GenerationMixin._get_logits_processor` (transformers 5.23): repetition penalty,
min_new_tokens, then, when sampling, temperature, top_k, top_p. The tests hold each distribution
against transformers' own processors.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bilingual_chat.settings.decoding import DecodingParameters


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
    least = torch.topk(scores, min(top_k, scores.numel())).values[-1] if top_k else scores.new_tensor(-math.inf)
    ids = _places((scores >= least) & (scores > -math.inf))
    kept = scores[ids]
    if top_p < 1.0:
        places = _nucleus(kept, scores.numel(), top_p)
        # Which of several equal scores are kept, where not all are, depends on the sort of the whole vocabulary.
        ids = _nucleus_by_full_sort(scores, ids, top_p) if places is None else ids[places]
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


def _nucleus(scores: Tensor, size: int, top_p: float) -> Tensor | None:
    """Where TopPLogitsWarper keeps `scores`, all that is finite in a vocabulary of `size`; None if it splits a tie.

    numpy sorts 65,536 scores in 0.1 ms; torch takes 4 to 8 ms, since it sorts their ids along with them.
    """
    values = torch.from_numpy(np.sort(scores.numpy()))
    whole = torch.nn.functional.pad(values, (size - len(values), 0), value=-math.inf)
    drop = _dropped(whole, top_p)[-len(values) :]
    first = int(np.count_nonzero(drop.numpy()))  # cumulative sums never fall: all that is dropped comes first
    least = values[first]
    return None if first and values[first - 1] == least else _places(scores >= least)


def _nucleus_by_full_sort(scores: Tensor, ids: Tensor, top_p: float) -> Tensor:
    """Those of `ids` that TopPLogitsWarper keeps, operation by operation.

    Its sort is not stable: the order of equal scores depends on all others.
    """
    masked = torch.full_like(scores, -math.inf).index_copy(0, ids, scores[ids])
    values, indices = torch.sort(masked[None], descending=False)
    kept = torch.zeros_like(masked, dtype=torch.bool).scatter(0, indices[0], ~_dropped(values[0], top_p))
    return ids[_places(kept[ids])]


def _dropped(values: Tensor, top_p: float) -> Tensor:
    """Which of a vocabulary's scores `values`, in ascending order, top_p drops: transformers' arithmetic."""
    drop = values[None].softmax(dim=-1).cumsum(dim=-1)[0] <= (1 - top_p)
    drop[-1] = False
    return drop


def _places(chosen: Tensor) -> Tensor:
    """Where `chosen` is true, in ascending order; numpy finds it in a fifth of torch's time."""
    return torch.from_numpy(np.flatnonzero(chosen.numpy()))
