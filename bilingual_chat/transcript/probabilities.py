"""The probabilities beside a reply, packed for a transcript.

One text: base64 of zlib of JSON, an array for each token of the reply, the end token included:

    [id, logprob, raw logprob, entropy, rank, [id, logprob, …], [id, logprob, …], [id, filter, …]]

The three lists are `Chunk.top`, `kept` and `removed`. Log probabilities and the entropy are whole thousandths of a nat;
where an engine does not know the unmodified distribution, they and the rank are null. The end token has a 1 behind.
"""

from __future__ import annotations

import binascii
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.settings.decoding import RANGES
from bilingual_chat.text.conversation import FinishReason

NAME = "probabilities"  # of the detail
MOST_CHARACTERS = 2_000_000
_MOST_BYTES = 8 << 20  # unpacked
_MOST_TOKENS = 8193
_LARGEST = 2**31
_SETTINGS = frozenset(RANGES)


def pack(chunks: Sequence[Chunk]) -> dict[str, str]:
    """Return the detail with the probabilities of a reply; nothing if an engine knows none, or they are too large."""
    if not any(each.top for each in chunks) or len(chunks) > _MOST_TOKENS:
        return {}
    data = json.dumps([_record(each) for each in chunks], separators=(",", ":")).encode()
    text = b64encode(zlib.compress(data, 6)).decode()
    return {NAME: text} if len(text) <= MOST_CHARACTERS and len(data) <= _MOST_BYTES else {}


def unpack(details: Mapping[str, Any]) -> tuple[Chunk, ...]:
    """Return the tokens of a reply with their probabilities; none if they were not recorded, or are damaged."""
    text = details.get(NAME)
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        return ()
    try:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(b64decode(text, validate=True), _MOST_BYTES)
        if unpacking.unconsumed_tail:
            return ()
        records = json.loads(data)
        if not isinstance(records, list) or len(records) > _MOST_TOKENS:
            return ()
        return tuple(map(_chunk, records))
    except (ValueError, TypeError, IndexError, RecursionError, OverflowError, binascii.Error, zlib.error):
        return ()


def continued(earlier: Sequence[Chunk], ids: Sequence[int], chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Return the tokens of a reply that began with `ids`, of an earlier one, and went on with `chunks`.

    The last of `ids` may be another candidate of the earlier reply. If they are none of its, only `chunks` are known.
    """
    begun = tuple(each for each in earlier if each.finish is not FinishReason.STOP)[: len(ids)]
    if len(begun) < len(ids) and len(earlier) == len(ids):  # another token in place of the end
        begun = tuple(earlier)
    if ids and len(begun) == len(ids) and begun[-1].token_id != ids[-1]:
        begun = (*begun[:-1], *_candidate(begun[-1], ids[-1]))
    is_known = [each.token_id for each in begun] == list(ids)
    return (*begun, *chunks) if is_known else tuple(chunks)


def _candidate(chunk: Chunk, token_id: int) -> tuple[Chunk, ...]:
    """Return the chunk as if the candidate `token_id` had been taken."""
    for rank, (each, logprob) in enumerate(chunk.top, start=1):
        if each == token_id:
            kept = dict(chunk.kept).get(token_id, -1e6)  # a filter had excluded it
            return (replace(chunk, token_id=token_id, logprob=kept, raw_logprob=logprob, rank=rank, finish=None),)
    return ()


def _record(chunk: Chunk) -> list[Any]:
    top, kept = (
        [part for each, value in listed for part in (each, _milli(value))] for listed in (chunk.top, chunk.kept)
    )
    removed = [part for pair in chunk.removed for part in pair]
    values = (chunk.logprob, chunk.raw_logprob, chunk.entropy)
    measures = [None if value is None else _milli(value) for value in values]
    end = [1] if chunk.finish is FinishReason.STOP else []
    return [chunk.token_id, *measures, chunk.rank, top, kept, removed, *end]


def _milli(value: float) -> int:
    return round(max(value, -1e6) * 1000)


def _chunk(record: Sequence[Any]) -> Chunk:
    token, logprob, raw, entropy, rank, top, kept, removed, *end = record
    return Chunk(
        _count(token),
        None if logprob is None else _nats(logprob),
        0,
        FinishReason.STOP if end else None,
        raw_logprob=None if raw is None else _nats(raw),
        entropy=None if entropy is None else _nats(entropy),
        rank=None if rank is None else _count(rank),
        top=_pairs(top),
        kept=_pairs(kept),
        removed=tuple((_count(each), _filter(name)) for each, name in _twos(removed)),
    )


def _twos(values: Any) -> list[tuple[Any, Any]]:
    if not isinstance(values, list) or len(values) > 32:
        raise ValueError
    return list(zip(values[::2], values[1::2], strict=True))


def _pairs(values: Any) -> tuple[tuple[int, float], ...]:
    return tuple((_count(each), _nats(logprob)) for each, logprob in _twos(values))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise ValueError
    return value


def _nats(value: Any) -> float:
    if type(value) is not int or abs(value) >= _LARGEST:
        raise ValueError
    return value / 1000


def _filter(value: Any) -> str:
    if value not in _SETTINGS:
        raise ValueError
    return str(value)
