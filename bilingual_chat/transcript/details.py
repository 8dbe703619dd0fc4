"""The details of a reply: checks of the known ones, and details that are parsed only when read.

A file may hold anything. An invalid detail is left out and reported; the text beside it stays. An unknown detail is
kept as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings import decoding
from bilingual_chat.transcript.probabilities import MOST_CHARACTERS
from bilingual_chat.transcript.safe_json import parse_prefix

_LARGEST = 2**63 - 1
_COUNTED = ("prompt_tokens", "cached_tokens", "completion_tokens")


class RecordedDetails(Mapping[str, Any]):
    """The details of the record that begins at `at` of a journal, parsed at each access: a fifth of the memory."""

    __slots__ = ("_at", "_journal")

    def __init__(self, journal: bytes, at: int) -> None:
        self._journal = journal
        self._at = at

    def __getitem__(self, name: str) -> Any:
        return self._details()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._details())

    def __len__(self) -> int:
        return len(self._details())

    def __repr__(self) -> str:
        return repr(self._details())

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = self._record()["details"]
        return details

    def _record(self) -> dict[str, Any]:
        end = self._journal.find(b"\n", self._at)
        line = self._journal[self._at : end if end >= 0 else None]
        record, _ = parse_prefix(line.decode("utf-8", "surrogateescape"))  # damage may follow
        return cast("dict[str, Any]", record)


class RecordedEvent(RecordedDetails):
    """An event's fields: {"at", "kind", "details"}."""

    __slots__ = ()

    def _details(self) -> dict[str, Any]:
        event = self._record()
        del event["record"]
        return event


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def invalid_names(details: Mapping[str, Any]) -> list[str]:
    """Return the names of the invalid details."""
    return [name for name, is_fit in _KNOWN.items() if name in details and not is_fit(details[name])]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_amount(value: object) -> bool:
    """Return True for a measurement; null if nothing was measured."""
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _are_amounts(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_amount, value.values()))


def _are_counts(value: object) -> bool:
    return isinstance(value, Mapping) and all(is_count(value.get(name, 0)) for name in _COUNTED)


def _are_settings(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        _is_setting(name, value[name]) for name in decoding.RANGES if name in value
    )


def _is_setting(name: str, value: object) -> bool:
    try:
        decoding.checked(name, value)
    except BchatError:
        return False
    return decoding.RANGES[name].kind not in (int, float) or not isinstance(value, str)


_KNOWN: dict[str, Callable[[object], bool]] = {
    "model": _is_text,
    "preset": _is_text,
    "precision": _is_text,
    "server": lambda value: isinstance(value, Mapping),
    "withdrawn": lambda value: isinstance(value, bool),
    "seed": is_count,
    "settings": _are_settings,
    "usage": _are_counts,
    "timings": _are_amounts,
    "prompt_digest": _is_text,
    "run": lambda value: isinstance(value, Mapping),
    "dropped_turns": is_count,
    "dropped_characters": is_count,
    "begin": _is_text,
    "kept_tokens": is_count,
    "probabilities": lambda value: isinstance(value, str) and len(value) <= MOST_CHARACTERS,
    "reply_ids": lambda value: isinstance(value, Sequence) and all(map(is_count, value)),
    "parts": lambda value: isinstance(value, Sequence) and all(isinstance(part, Mapping) for part in value),
}
