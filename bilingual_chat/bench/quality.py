"""What quantising costs: how much less a model expects a text, and how far it is from its most exact form."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilingual_chat.bench import Open, Steps, Tell, encode, local_engine
from bilingual_chat.engines import QuantizeName
from bilingual_chat.errors import BchatError, ExitStatus

if TYPE_CHECKING:
    from bilingual_chat.engines.divergence import Reference

LEAST_TOKENS, MOST_TOKENS = 64, 4096
WINDOW = 1024  # tokens that a model reads at once, at most; the first of them is not judged


@dataclass(frozen=True)
class Quality:
    """One precision on one text. Divergence, in nats, from the reference: nothing for the reference itself."""

    quantize: QuantizeName
    precision: str
    is_reference: bool
    tokens: int  # that were judged
    tokens_in_all: int  # of the text
    window: int
    perplexity: float
    kl_mean: float
    kl_p99: float
    agreement: float  # share of positions with the reference's likeliest token


def judge(quantize: QuantizeName, open_: Open, text: str, reference: Reference, tell: Tell) -> Quality:
    """How well this precision expects `text`; the first one that is judged becomes the reference.

    Raises BchatError: what opening does, a text that is too short (DATA), no room to keep the reference.
    """
    from bilingual_chat.engines import divergence

    said = Steps(quantize, tell, 2)
    is_reference = not reference.is_whole
    said.next("load")
    model = open_(quantize, said.preparing)
    engine = local_engine(model)
    ids = encode(model, text)
    windows = _windows(ids, min(WINDOW, engine.context_length))
    all_ = sum(len(window) - 1 for window in windows)
    said.next("judge", tokens=all_)
    judged = divergence.judge(engine, windows, reference, lambda done: said.at(done, all_))
    quality = Quality(
        quantize,
        engine.precision,
        is_reference,
        tokens=all_,
        tokens_in_all=len(ids),
        window=len(windows[0]),
        perplexity=judged.perplexity,
        kl_mean=judged.kl_mean,
        kl_p99=judged.kl_p99,
        agreement=judged.agreement,
    )
    del model, engine
    gc.collect()  # so that two precisions are never in memory together
    return quality


def _windows(ids: list[int], length: int) -> list[list[int]]:
    """The beginning of a text in windows of `length`. A last one of a single token would judge nothing."""
    if len(ids) < LEAST_TOKENS:
        raise BchatError("bench.text-short", status=ExitStatus.DATA, tokens=len(ids), least=LEAST_TOKENS)
    kept = ids[:MOST_TOKENS]
    windows = [kept[at : at + length] for at in range(0, len(kept), length)]
    return windows if len(windows[-1]) > 1 else windows[:-1]
