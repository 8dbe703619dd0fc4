"""What a model does on this machine: its speed beside what the memory allows, from load to the twentieth turn.

The figures come one after another, so that whoever stops a measurement keeps what there is.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from bilingual_chat.engines import memory
from bilingual_chat.engines.protocol import QuantizeName
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model
from bilingual_chat.settings.decoding import DecodingParameters

if TYPE_CHECKING:
    from bilingual_chat.engines.local import LocalEngine

PROMPT, SHORT, LONG = 512, 128, 1500  # tokens of a prompt; positions before what is decoded
TURNS = (1, 5, 10, 20)
QUESTION, REPLY = 20, 60  # tokens a turn, where the context has room for the last of TURNS
MOST_STEPS, ENOUGH_STEPS, ENOUGH_S = 64, 8, 2.0
MOST_TIMES, SHORT_S = 9, 0.5  # what takes less is measured again, and again
STEPS = 6  # that are told of

Progress = Callable[[int, int], None]
Open = Callable[[QuantizeName, Progress], Model]
Tell = Callable[[Phrase], None]


@dataclass(frozen=True)
class Decode:
    """Tokens after tokens, with so many positions before them."""

    positions: int
    tokens_per_s: float
    bandwidth: float  # bytes a second, read from the weights just before
    bytes_per_token: int

    @property
    def limit(self) -> float:
        """Tokens a second that no program can exceed which reads these weights once a token."""
        return self.bandwidth / self.bytes_per_token

    @property
    def share(self) -> float:
        return self.tokens_per_s / self.limit


@dataclass(frozen=True)
class Speed:
    """What was measured so far of one precision; None: not yet, or it cannot be told here."""

    quantize: QuantizeName
    precision: str
    device: str
    threads: int
    bytes_per_token: int
    load_s: float
    bandwidth: float | None = None  # bytes a second
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


def measure(quantize: QuantizeName, open_: Open, text: str, tell: Tell) -> Iterator[Speed]:
    """The figures of one precision; each value has one more than that before it.

    text: what is read as a prompt, over and over if it is short. Raises BchatError as opening does.
    """
    from bilingual_chat.bench.bandwidth import read_bandwidth, threads  # and torch, which is not in the time to load

    said = Steps(quantize, tell, STEPS)
    can_tell_peak = memory.reset_peak()
    said.next("load")
    began = time.perf_counter()
    model = open_(quantize, said.preparing)
    load_s = time.perf_counter() - began
    engine = local_engine(model)
    ids = _endless(encode(model, text), engine.context_length)
    speed = Speed(quantize, engine.precision, engine.device_name, threads(), engine.bytes_per_token, load_s)
    yield speed

    said.next("bandwidth")
    speed = replace(speed, bandwidth=read_bandwidth(engine.weights))
    yield speed

    said.next("prefill")
    room = engine.context_length - 1
    speed = replace(speed, prefill_tokens=min(PROMPT, room))
    seconds = _first_token_s(engine, ids[: speed.prefill_tokens], cached=0)
    speed = replace(speed, prefill_per_s=speed.prefill_tokens / seconds)
    yield speed

    steps = min(MOST_STEPS, engine.context_length // 4)
    short, long = (max(1, min(wanted, room - steps)) for wanted in (SHORT, LONG))
    said.next("decode", positions=short)
    speed = replace(speed, decodes=(_decode(engine, ids, short, steps),))
    yield speed

    said.next("turns")
    new, all_ = _turn_sizes(engine.context_length)
    speed = replace(speed, tokens_per_turn=all_)
    for first in _first_tokens(engine, ids, new, all_):
        speed = replace(speed, first_token_s=(*speed.first_token_s, first))
        yield speed

    said.next("decode", positions=long)
    if long > short:
        speed = replace(speed, decodes=(*speed.decodes, _decode(engine, ids, long, steps)))
    private, peak = memory.used_memory()
    yield replace(speed, private_bytes=private, peak_bytes=peak if can_tell_peak else None)
    del model, engine
    gc.collect()  # so that two precisions are never in memory together


def local_engine(model: Model) -> LocalEngine:
    """What can be measured here: weights in this process. Raises BchatError (MODEL) for anything else."""
    from bilingual_chat.engines.local import LocalEngine

    if not isinstance(model.engine, LocalEngine):
        raise BchatError("bench.foreign", status=ExitStatus.MODEL, name=model.entry.name)
    return model.engine


def encode(model: Model, text: str) -> list[int]:
    """The ids of a text as it stands in this model's prompts."""
    return model.tokenizer.encode(text.replace("\n", model.format.newline))


class Steps:
    """Says which step of a precision is being taken, and how far a long one is."""

    def __init__(self, quantize: QuantizeName, tell: Tell, steps: int) -> None:
        self._quantize, self._tell, self._steps = quantize, tell, steps
        self._step = 0
        self._doing = Phrase("nothing")
        self._tenths = 0

    def next(self, what: str, **values: object) -> None:
        self._step += 1
        self._begin(Phrase(f"bench.doing.{what}", **values))

    def at(self, done: int, total: int) -> None:
        """How far it is; told at each tenth."""
        tenths = 10 * done // max(total, 1)
        if tenths not in (self._tenths, 10):
            self._tenths = tenths
            self._say(Phrase("bench.percent", doing=self._doing, percent=10 * tenths))

    def preparing(self, done: int, total: int) -> None:
        """Weights are verified or converted while they are opened, which happens once."""
        if self._doing.key != "bench.doing.prepare":
            self._begin(Phrase("bench.doing.prepare"))
        self.at(done, total)

    def _begin(self, doing: Phrase) -> None:
        self._doing, self._tenths = doing, 0
        self._say(doing)

    def _say(self, doing: Phrase) -> None:
        self._tell(Phrase("bench.step", name=self._quantize, step=self._step, steps=self._steps, doing=doing))


def _endless(ids: Sequence[int], length: int) -> list[int]:
    return (list(ids) * math.ceil(length / len(ids)))[:length]


def _first_token_s(engine: LocalEngine, ids: Sequence[int], cached: int) -> float:
    """From the prompt to its first token, with so many of its ids in the KV cache: the median of some times."""
    seconds: list[float] = []
    while not seconds or (sum(seconds) < SHORT_S and len(seconds) < MOST_TIMES):
        if cached:
            _run(engine, ids[:cached])  # as the turn before left it, or as this one found it
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
    """Up to `most` tokens after so many of `ids`, fewer where that takes long.

    The text gives the tokens, one at a time, not the model: an engine that guesses ahead where a reply repeats
    itself would be measured by how much that one does.
    """
    from bilingual_chat.bench.bandwidth import read_bandwidth

    bandwidth = read_bandwidth(engine.weights)
    _run(engine, ids[:positions])
    steps, taken = 0, 0.0
    began = time.perf_counter()
    while steps < most and (steps < ENOUGH_STEPS or taken < ENOUGH_S):
        steps += 1
        _run(engine, ids[: positions + steps])
        taken = time.perf_counter() - began
    return Decode(positions, steps / taken, bandwidth, engine.bytes_per_token)


def _turn_sizes(context_length: int) -> tuple[int, int]:
    """New tokens of a turn, and all of it, so that the last of TURNS fits."""
    whole = max(2, min(QUESTION + REPLY, (context_length - 1) // max(TURNS)))
    return max(1, whole * QUESTION // (QUESTION + REPLY)), whole


def _first_tokens(engine: LocalEngine, ids: Sequence[int], new: int, whole: int) -> Iterator[tuple[int, float]]:
    """Turn and seconds to its first token, in a chat whose turns have `new` tokens to read and `whole` in all.

    What was said before is put into the KV cache as a prompt, replies too, instead of being decoded: that
    leaves the same behind in a fraction of the time.
    """
    for turn in TURNS:
        begins = (turn - 1) * whole
        if turn * whole >= engine.context_length:
            return
        yield turn, _first_token_s(engine, ids[: begins + new], cached=begins)
