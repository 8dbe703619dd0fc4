"""The speed of a model on this machine, from load to the twentieth turn, beside the limit of the memory bandwidth.

The figures come one after another, so that an interrupted measurement keeps those it has.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import median
from typing import TYPE_CHECKING

from bilingual_chat.engines import memory
from bilingual_chat.engines.protocol import Progress, QuantizeName
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model
from bilingual_chat.settings.decoding import DecodingParameters

if TYPE_CHECKING:
    from bilingual_chat.engines.local import LocalEngine

PROMPT, SHORT, LONG = 512, 128, 1500  # tokens of a prompt; positions before the decoded tokens
TURNS = (1, 5, 10, 20)
QUESTION, REPLY = 20, 60  # tokens of a turn, if the context has room for the last of TURNS
MOST_STEPS, ENOUGH_STEPS, ENOUGH_S = 64, 8, 2.0
MOST_TIMES, SHORT_S = 9, 0.5  # a shorter measurement is repeated
STEPS = 6  # reported

Open = Callable[[QuantizeName, Progress], Model]
Report = Callable[[Phrase], None]


@dataclass(frozen=True)
class Decode:
    """Decoding, with so many positions in the KV cache."""

    positions: int
    tokens_per_s: float
    bandwidth: float  # bytes per second, measured just before
    bytes_per_token: int

    @property
    def limit(self) -> float:
        """The most tokens per second of any program that reads these weights once per token."""
        return self.bandwidth / self.bytes_per_token

    @property
    def share(self) -> float:
        return self.tokens_per_s / self.limit


@dataclass(frozen=True)
class Speed:
    """The figures of one precision so far; None: not yet, or not known on this system."""

    quantize: QuantizeName
    precision: str
    device: str
    threads: int
    bytes_per_token: int
    load_s: float
    bandwidth: float | None = None  # bytes per second
    prefill_tokens: int = 0
    prefill_per_s: float | None = None
    decodes: tuple[Decode, ...] = ()
    first_token_s: tuple[tuple[int, float], ...] = ()  # turn, seconds
    tokens_per_turn: int = 0
    private_bytes: int | None = None
    peak_bytes: int | None = None

    @property
    def limit(self) -> float | None:
        return None if self.bandwidth is None else self.bandwidth / self.bytes_per_token


def measure(quantize: QuantizeName, open_: Open, text: str, report: Report) -> Iterator[Speed]:
    """Yield the figures of one precision; each value has one figure more.

    text: the prompt, repeated if it is short. Raises BchatError as opening does.
    """
    from bilingual_chat.bench.bandwidth import read_bandwidth  # imports torch, which does not count as loading

    steps = Steps(quantize, report, STEPS)
    has_peak = memory.reset_peak()
    steps.start("load")
    began = time.perf_counter()
    model = open_(quantize, steps.prepare)
    load_s = time.perf_counter() - began
    engine = local_engine(model)
    ids = list(islice(cycle(encode(model, text)), engine.context_length))
    speed = Speed(quantize, engine.precision, engine.device_name, engine.threads, engine.bytes_per_token, load_s)
    yield speed

    steps.start("bandwidth")
    speed = replace(speed, bandwidth=read_bandwidth(engine.weights))
    yield speed

    steps.start("prefill")
    room = engine.context_length - 1
    speed = replace(speed, prefill_tokens=min(PROMPT, room))
    seconds = _first_token_s(engine, ids[: speed.prefill_tokens], cached=0)
    speed = replace(speed, prefill_per_s=speed.prefill_tokens / seconds)
    yield speed

    most = min(MOST_STEPS, engine.context_length // 4)
    short, long = (max(1, min(positions, room - most)) for positions in (SHORT, LONG))
    steps.start("decode", positions=short)
    speed = replace(speed, decodes=(_decode(engine, ids, short, most),))
    yield speed

    steps.start("turns")
    new, whole = _turn_sizes(engine.context_length)
    speed = replace(speed, tokens_per_turn=whole)
    for first in _first_tokens(engine, ids, new, whole):
        speed = replace(speed, first_token_s=(*speed.first_token_s, first))
        yield speed

    steps.start("decode", positions=long)
    if long > short:
        speed = replace(speed, decodes=(*speed.decodes, _decode(engine, ids, long, most)))
    private, peak = memory.used_memory()
    yield replace(speed, private_bytes=private, peak_bytes=peak if has_peak else None)
    del model, engine
    gc.collect()  # so that two precisions are never in memory together


def local_engine(model: Model) -> LocalEngine:
    """Return the engine of a GPT-NeoX model. Raises BchatError (MODEL) for other families."""
    from bilingual_chat.engines.local import LocalEngine

    if not isinstance(model.engine, LocalEngine):
        raise BchatError("bench.foreign", status=ExitStatus.MODEL, name=model.entry.name)
    return model.engine


def encode(model: Model, text: str) -> list[int]:
    """Return the ids of a text within this model's prompts."""
    return model.tokenizer.encode(text.replace("\n", model.format.newline))


class Steps:
    """Reports the steps of a measurement, and the progress of a long one."""

    def __init__(self, quantize: QuantizeName, report: Report, steps: int) -> None:
        self._quantize, self._report, self._steps = quantize, report, steps
        self._step = 0
        self._doing = Phrase("nothing")
        self._tenths = 0

    def start(self, what: str, **values: object) -> None:
        self._step += 1
        self._begin(Phrase(f"bench.doing.{what}", **values))

    def update(self, done: int, total: int) -> None:
        """Report each tenth."""
        tenths = 10 * done // max(total, 1)
        if tenths not in (self._tenths, 10):
            self._tenths = tenths
            self._say(Phrase("bench.percent", doing=self._doing, percent=10 * tenths))

    def prepare(self, done: int, total: int) -> None:
        """Report that weights are verified or converted, which happens once."""
        if self._doing.key != "bench.doing.prepare":
            self._begin(Phrase("bench.doing.prepare"))
        self.update(done, total)

    def _begin(self, doing: Phrase) -> None:
        self._doing, self._tenths = doing, 0
        self._say(doing)

    def _say(self, doing: Phrase) -> None:
        self._report(Phrase("bench.step", name=self._quantize, step=self._step, steps=self._steps, doing=doing))


def _first_token_s(engine: LocalEngine, ids: Sequence[int], cached: int) -> float:
    """Return the median seconds from a prompt to its first token, with `cached` of its ids in the KV cache."""
    seconds: list[float] = []
    while not seconds or (sum(seconds) < SHORT_S and len(seconds) < MOST_TIMES):
        if cached:
            _run(engine, ids[:cached])  # also drops the ids of the last repetition
        else:
            engine.forget()
        began = time.perf_counter()
        _run(engine, ids)
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def _run(engine: LocalEngine, ids: Sequence[int]) -> None:
    """Bring the KV cache to `ids`, and choose one token."""
    with closing(engine.complete(ids, DecodingParameters(temperature=0.0, max_new_tokens=1))) as chunks:
        next(chunks)


def _decode(engine: LocalEngine, ids: Sequence[int], positions: int, most: int) -> Decode:
    """Measure up to `most` tokens after `positions` of `ids`, fewer if that takes long.

    The text supplies the tokens, not the model: lookahead would make the speed depend on how much a reply repeats.
    """
    from bilingual_chat.bench.bandwidth import read_bandwidth

    bandwidth = read_bandwidth(engine.weights)
    _run(engine, ids[:positions])
    steps, seconds = 0, 0.0
    began = time.perf_counter()
    while steps < most and (steps < ENOUGH_STEPS or seconds < ENOUGH_S):
        steps += 1
        _run(engine, ids[: positions + steps])
        seconds = time.perf_counter() - began
    return Decode(positions, steps / seconds, bandwidth, engine.bytes_per_token)


def _turn_sizes(context_length: int) -> tuple[int, int]:
    """Return the new tokens and all tokens of a turn, so that the last of TURNS fits."""
    whole = max(2, min(QUESTION + REPLY, (context_length - 1) // max(TURNS)))
    return max(1, whole * QUESTION // (QUESTION + REPLY)), whole


def _first_tokens(engine: LocalEngine, ids: Sequence[int], new: int, whole: int) -> Iterator[tuple[int, float]]:
    """Yield turn and seconds to its first token, in a chat whose turns have `new` prompt tokens and `whole` in all.

    Earlier replies are prefilled instead of decoded: the KV cache is the same, in a fraction of the time.
    """
    for turn in TURNS:
        start = (turn - 1) * whole
        if turn * whole >= engine.context_length:
            return
        yield turn, _first_token_s(engine, ids[: start + new], cached=start)
