"""What quantising costs: how much less a model expects a text, and how far it is from its most exact form."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilingual_chat.bench.speed import Open, Steps, Tell, encode, local_engine
from bilingual_chat.engines.protocol import QuantizeName
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model
from bilingual_chat.text.conversation import Utterance

if TYPE_CHECKING:
    from bilingual_chat.bench.divergence import Reference, Window

LEAST_TOKENS, MOST_TOKENS = 64, 4096
WINDOW = 1024  # tokens that a model reads at once, at most; the first of them is not judged
REMEMBERED = 4  # utterances of a conversation before a question, at most


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


def judge(
    quantize: QuantizeName, open_: Open, text: str | Sequence[Utterance], reference: Reference, tell: Tell
) -> Quality:
    """How well this precision expects `text`, of a conversation its replies; the first one becomes the reference.

    Raises BchatError: what opening does, a text that is too short (DATA), no room to keep the reference.
    """
    from bilingual_chat.bench import divergence

    said = Steps(quantize, tell, 2)
    is_reference = not reference.is_whole
    said.next("load")
    model = open_(quantize, said.preparing)
    engine = local_engine(model)
    length = min(WINDOW, engine.context_length)
    if isinstance(text, str):
        ids = encode(model, text)
        windows = [divergence.Window(window) for window in _windows(ids, length)]
    else:
        windows = _replies(model, text, length)
    all_ = sum(window.judged for window in windows)
    said.next("judge", tokens=all_)
    judged = divergence.judge(engine, windows, reference, lambda done: said.at(done, all_))
    quality = Quality(
        quantize,
        engine.precision,
        is_reference,
        tokens=all_,
        tokens_in_all=len(ids) if isinstance(text, str) else all_,
        window=max(len(window.ids) for window in windows),
        perplexity=judged.perplexity,
        kl_mean=judged.kl_mean,
        kl_p99=judged.kl_p99,
        agreement=judged.agreement,
    )
    del model, engine
    gc.collect()  # so that two precisions are never in memory together
    return quality


def _replies(model: Model, said: Sequence[Utterance], length: int) -> list[Window]:
    """Each reply after the prompt that asks for it, as in a chat; one that does not fit is left out."""
    from bilingual_chat.bench.divergence import Window

    windows = []
    for at in range(1, len(said), 2):
        prompt = model.tell(said[max(0, at - 1 - REMEMBERED) : at]).ids
        window = Window([*prompt, *encode(model, said[at].text)], len(prompt))
        if window.judged and len(window.ids) <= length:
            windows.append(window)
    if (judged := sum(window.judged for window in windows)) < LEAST_TOKENS:
        raise BchatError("bench.text-short", status=ExitStatus.DATA, tokens=judged, least=LEAST_TOKENS)
    return windows


def _windows(ids: list[int], length: int) -> list[list[int]]:
    """The beginning of a text in windows of `length`. A last one of a single token would judge nothing."""
    if len(ids) < LEAST_TOKENS:
        raise BchatError("bench.text-short", status=ExitStatus.DATA, tokens=len(ids), least=LEAST_TOKENS)
    kept = ids[:MOST_TOKENS]
    windows = [kept[at : at + length] for at in range(0, len(kept), length)]
    return windows if len(windows[-1]) > 1 else windows[:-1]
