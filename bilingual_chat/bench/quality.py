"""The cost of quantization: perplexity, and divergence from the most exact precision."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilingual_chat.bench.speed import Open, Report, Steps, encode, local_engine
from bilingual_chat.engines.protocol import QuantizeName
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model
from bilingual_chat.text.conversation import Utterance

if TYPE_CHECKING:
    from bilingual_chat.bench.divergence import Reference, Window

LEAST_TOKENS, MOST_TOKENS = 64, 4096
WINDOW = 1024  # tokens that a model reads at once, at most; the first is not judged
HISTORY = 4  # utterances before a question, at most


@dataclass(frozen=True)
class Quality:
    """One precision on one text. Divergence, in nats, from the reference; 0 for the reference itself."""

    quantize: QuantizeName
    precision: str
    is_reference: bool
    tokens: int  # judged
    tokens_in_all: int  # of the text
    window: int
    perplexity: float
    kl_mean: float
    kl_p99: float
    agreement: float  # share of positions with the reference's likeliest token


def judge(
    quantize: QuantizeName, open_: Open, text: str | Sequence[Utterance], reference: Reference, report: Report
) -> Quality:
    """Judge one precision by `text`, or by the replies of a conversation. The first one becomes the reference.

    Raises BchatError: as opening does, a text that is too short (DATA), no room for the reference.
    """
    from bilingual_chat.bench import divergence

    steps = Steps(quantize, report, 2)
    is_reference = not reference.is_complete
    steps.start("load")
    model = open_(quantize, steps.prepare)
    engine = local_engine(model)
    length = min(WINDOW, engine.context_length)
    if isinstance(text, str):
        ids = encode(model, text)
        windows = [divergence.Window(window) for window in _windows(ids, length)]
    else:
        windows = _reply_windows(model, text, length)
    tokens = sum(window.judged for window in windows)
    steps.start("judge", tokens=tokens)
    judged = divergence.judge(engine, windows, reference, lambda done: steps.update(done, tokens))
    quality = Quality(
        quantize,
        engine.precision,
        is_reference,
        tokens=tokens,
        tokens_in_all=len(ids) if isinstance(text, str) else tokens,
        window=max(len(window.ids) for window in windows),
        **vars(judged),
    )
    del model, engine
    gc.collect()  # so that two precisions are never in memory together
    return quality


def _reply_windows(model: Model, utterances: Sequence[Utterance], length: int) -> list[Window]:
    """Return each reply after its prompt, as in a chat; leave out those that do not fit."""
    from bilingual_chat.bench.divergence import Window

    windows = []
    for index in range(1, len(utterances), 2):
        prompt = model.encode_prompt(utterances[max(0, index - 1 - HISTORY) : index]).ids
        window = Window([*prompt, *encode(model, utterances[index].text)], len(prompt))
        if window.judged and len(window.ids) <= length:
            windows.append(window)
    _check_length(sum(window.judged for window in windows))
    return windows


def _windows(ids: list[int], length: int) -> list[list[int]]:
    """Return the beginning of a text in windows of `length`, the last of at least two tokens."""
    _check_length(len(ids))
    ids = ids[:MOST_TOKENS]
    windows = [ids[start : start + length] for start in range(0, len(ids), length)]
    return windows if len(windows[-1]) > 1 else windows[:-1]


def _check_length(tokens: int) -> None:
    if tokens < LEAST_TOKENS:
        raise BchatError("bench.text-short", status=ExitStatus.DATA, tokens=tokens, least=LEAST_TOKENS)
