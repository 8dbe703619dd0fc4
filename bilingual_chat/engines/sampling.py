"""From logits to the next token: the semantics and the order of Hugging Face.

`settings.decoding.filter_order` has the order. The tests compare each distribution with transformers' own processors.
Of equal scores at a cut, the lower ids are kept: as many as transformers keeps, but the same ones on every processor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bilingual_chat.engines.penalties import PENALTIES, Filter, Step
from bilingual_chat.settings.decoding import DecodingParameters, filter_order

SHOWN = 5  # tokens of a distribution that are recorded
_TOP_H_TOKENS = 100  # transformers' limit


class Choice(NamedTuple):
    """A token, and the distribution that it was drawn from. See `Chunk`."""

    token: int
    logprob: float
    kept: tuple[tuple[int, float], ...]
    removed: tuple[tuple[int, str], ...]


def choose(logits: Tensor, step: Step, generator: torch.Generator, watched: Sequence[int] = ()) -> Choice:
    """Choose the next token.

    logits: float32 (vocabulary,), finite. watched: ids for which `Choice.removed` tells the filter that excluded them.
    Temperature 0 is greedy: the best of the penalized scores. Raises BchatError if the filters exclude every token.
    """
    removed: dict[int, str] = {}
    scores = filtered(logits, step, watched, removed)
    if step.parameters.temperature == 0:
        best = int(scores.argmax())
        others = ((each, removed.get(each, "temperature")) for each in watched if each != best)
        return Choice(best, float(scores.log_softmax(-1)[best]), ((best, 0.0),), tuple(others))
    ids = _true_indices(scores > -math.inf)
    logprobs = scores[ids].double().log_softmax(-1)
    index = draw(logprobs.exp(), generator)
    kept = ((int(ids[at]), logprob) for at, logprob in best_of(logprobs))
    return Choice(int(ids[index]), float(logprobs[index]), tuple(kept), tuple(removed.items()))


def best_of(values: Tensor, count: int = SHOWN) -> list[tuple[int, float]]:
    """Return (index, value) of the `count` highest; of equal ones, the lower indices first."""
    least = torch.topk(values, min(count, len(values))).values[-1]
    found = _true_indices(values >= least)
    listed = zip(found.tolist(), values[found].tolist(), strict=True)
    return sorted(listed, key=lambda each: (-each[1], each[0]))[:count]


def filtered(logits: Tensor, step: Step, watched: Sequence[int] = (), removed: dict[int, str] | None = None) -> Tensor:
    """Return the scores after all filters, -inf for excluded tokens. Raises as `choose` does.

    removed: gets the name of the filter that excluded each of `watched`, if one did.
    """
    scores = logits.clone()
    for name, apply in _filters(step.parameters):
        scores = apply(scores, step)
        if removed is not None and len(removed) < len(watched):
            for each, score in zip(watched, scores[list(watched)].tolist(), strict=True):
                if score == -math.inf:
                    removed.setdefault(each, name)
    return scores


@lru_cache(maxsize=64)  # rows of a batch
def _filters(parameters: DecodingParameters) -> tuple[tuple[str, Filter], ...]:
    return tuple((name, _FILTERS[name]) for name in filter_order(parameters))


def unmodified(logits: Tensor) -> Unmodified:
    """Return what is recorded of the distribution of `logits`, float32 (vocabulary,)."""
    values = logits.numpy()
    above = values - values.max()
    weights = np.exp(above)
    total = float(weights.sum(dtype=np.float64))
    log_total = math.log(total)
    entropy = max(0.0, log_total - float(np.dot(weights, above)) / total)
    shift = float(values.max()) + log_total
    return Unmodified(shift, entropy, tuple((each, logit - shift) for each, logit in best_of(logits)))


class Unmodified(NamedTuple):
    """The distribution before all filters. `shift`: subtracted from a logit, it gives the log probability."""

    shift: float
    entropy: float
    top: tuple[tuple[int, float], ...]


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


def _top_n_sigma(scores: Tensor, step: Step) -> Tensor:
    """Keep what is within n standard deviations of the best; llama.cpp's formula, in float64."""
    possible = scores[_true_indices(scores > -math.inf)].double()
    least = possible.max() - step.parameters.top_n_sigma * possible.std(correction=0)
    return _keep(scores, scores.double() >= least)


def _temperature(scores: Tensor, step: Step) -> Tensor:
    """Divide by the temperature; if that overflows, return shifted scores of the same distribution."""
    temperature = step.parameters.temperature
    if temperature == 0:
        return scores
    scaled = scores / temperature
    if bool(scaled.max().isfinite()):
        return scaled
    return ((scores - scores.max()).double() / temperature).float()


def _top_h(scores: Tensor, step: Step) -> Tensor:
    """Keep the best tokens up to a share of the entropy of the best 100; as TopHLogitsWarper."""
    best = torch.topk(scores[None], min(_TOP_H_TOKENS, scores.numel())).values
    logits, probabilities = _categorical(best)
    limit = _entropy(logits, probabilities) * step.parameters.top_h
    entropy = torch.cumsum(-probabilities * torch.log(probabilities), dim=-1)
    return _keep_best(scores, best[0], max(1, int((entropy <= limit[:, None]).sum())))


def _top_k(scores: Tensor, step: Step) -> Tensor:
    """Keep the k best, and every tie of the k-th; as TopKLogitsWarper."""
    least = torch.topk(scores, min(step.parameters.top_k, scores.numel())).values[-1]
    return _keep(scores, scores >= least)


def _top_p(scores: Tensor, step: Step) -> Tensor:
    """Drop the tokens whose cumulative probability, from the least likely up, is at most 1 - top_p, but never the best.

    The sums are those of TopPLogitsWarper, over the same numbers in the same order, -inf included. numpy sorts 65,536
    scores without their ids in 0.1 ms; torch, which sorts the ids too, takes 4 to 8 ms.
    """
    possible = np.sort(scores.numpy()[_true_indices(scores > -math.inf).numpy()])
    values = torch.full_like(scores, -math.inf)
    values[len(values) - len(possible) :] = torch.from_numpy(possible)
    drop = values[None].softmax(dim=-1).cumsum(dim=-1)[0] <= (1 - step.parameters.top_p)
    drop[-1] = False
    # Sums never fall, so the dropped scores come first.
    return _keep_best(scores, values.flip(0), int(np.count_nonzero(~drop.numpy())))


def _keep_best(scores: Tensor, best_first: Tensor, count: int) -> Tensor:
    """Keep the `count` best; of those equal to the last, the lower ids. best_first: at least `count` sorted scores."""
    least = float(best_first[count - 1])
    ids = np.flatnonzero(scores.numpy() >= least)
    equal = np.flatnonzero(scores.numpy()[ids] == least)
    return _keep_ids(scores, torch.from_numpy(np.delete(ids, equal[len(equal) - (len(ids) - count) :])))


def _keep(scores: Tensor, mask: Tensor) -> Tensor:
    return _keep_ids(scores, _true_indices(mask & (scores > -math.inf)))


def _keep_ids(scores: Tensor, ids: Tensor) -> Tensor:
    """Return -inf for all others; a `masked_fill` takes 0.1 to 0.2 ms, this a tenth if few are kept."""
    return torch.full_like(scores, -math.inf).index_copy_(0, ids, scores[ids])


def _min_p(scores: Tensor, step: Step) -> Tensor:
    """Keep what is at least as likely as a share of the best; as MinPLogitsWarper."""
    probabilities = scores.softmax(-1)
    return _keep(scores, probabilities >= step.parameters.min_p * probabilities.max())


def _typical_p(scores: Tensor, step: Step) -> Tensor:
    """Keep the tokens whose surprise is nearest to the entropy, up to a total probability; as TypicalLogitsWarper."""
    logprobs = scores[None].log_softmax(-1)
    entropy = -(logprobs * logprobs.exp()).nansum(-1, keepdim=True)
    distance = (-logprobs - entropy).abs()[0]
    order = _ascending_order(distance)
    mass = scores[order][None].softmax(-1).cumsum(-1)
    last = min(int((mass < step.parameters.typical_p).sum()), scores.numel() - 1)
    return _keep(scores, distance <= distance[order[last]])


def _ascending_order(values: Tensor) -> Tensor:
    """Return the stable ascending order of float32 `values`, none negative.

    Their bits, as integers, have their order. numpy sorts these with the indices as low halves in a tenth of the time
    of a stable argsort.
    """
    bits = values.numpy().view(np.uint32).astype(np.uint64) << np.uint64(32)
    return torch.from_numpy((np.sort(bits | np.arange(len(bits), dtype=np.uint64)) & 0xFFFFFFFF).astype(np.int64))


def _epsilon_cutoff(scores: Tensor, step: Step) -> Tensor:
    """Drop what is less likely than a probability, but never the best; as EpsilonLogitsWarper."""
    is_likely = scores[None].softmax(-1)[0] >= step.parameters.epsilon_cutoff
    return _keep(scores, is_likely | (scores == scores.max()))


def _eta_cutoff(scores: Tensor, step: Step) -> Tensor:
    """As `_epsilon_cutoff`, with a bound that falls with the entropy; as EtaLogitsWarper."""
    epsilon = torch.tensor(step.parameters.eta_cutoff)
    logits, probabilities = _categorical(scores[None])
    eta = torch.min(epsilon, epsilon.sqrt() * torch.exp(-_entropy(logits, probabilities)))
    is_likely = scores[None].softmax(-1)[0] >= eta
    return _keep(scores, is_likely | (scores == scores.max()))


def _categorical(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return normalised logits and probabilities, with the arithmetic of `torch.distributions.Categorical`."""
    logits = scores - scores.logsumexp(dim=-1, keepdim=True)
    return logits, logits.softmax(-1)


def _entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    return -(logits.clamp(min=torch.finfo(logits.dtype).min) * probabilities).sum(-1)


def _true_indices(mask: Tensor) -> Tensor:
    """Return the ascending indices of True; numpy needs a fifth of torch's time."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


_FILTERS: dict[str, Filter] = {
    **PENALTIES,
    "top_n_sigma": _top_n_sigma,
    "temperature": _temperature,
    "top_h": _top_h,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
    "typical_p": _typical_p,
    "epsilon_cutoff": _epsilon_cutoff,
    "eta_cutoff": _eta_cutoff,
}
