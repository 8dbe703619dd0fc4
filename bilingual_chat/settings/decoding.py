"""Decoding parameters: names, ranges, and checked values."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from bilingual_chat import messages
from bilingual_chat.messages.errors import BchatError, ExitStatus


@dataclass(frozen=True)
class DecodingParameters:
    """How the next token is chosen. Names, meaning and defaults are those of transformers' `GenerationConfig`.

    So a model card's code and bchat agree: top_k = 50 applies there too. `seed` None: a fresh seed for each reply.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    max_new_tokens: int = 512
    seed: int | None = None


@dataclass(frozen=True)
class ParameterRange:
    """The values of a parameter, both ends included."""

    kind: type[int] | type[float]
    low: float
    high: float
    optional: bool = False


RANGES: dict[str, ParameterRange] = {
    "temperature": ParameterRange(float, 0.0, 10.0),
    "top_k": ParameterRange(int, 0, 100_000),
    "top_p": ParameterRange(float, 0.0001, 1.0),
    "repetition_penalty": ParameterRange(float, 0.1, 10.0),
    "min_new_tokens": ParameterRange(int, 0, 8192),
    "max_new_tokens": ParameterRange(int, 1, 8192),
    "seed": ParameterRange(int, 0, 2**63 - 1, optional=True),
}

ALIASES = {"temp": "temperature", "penalty": "repetition_penalty", "max_tokens": "max_new_tokens"}
_SHOWN = 60  # characters of a wrong value
_LONG = 10**20
_NONE_WORDS = ("none", "random", "null", "off", "")


def resolve_name(name: str) -> str:
    """Return the parameter that `name` means, for example "Top-P" or an alias. Raises BchatError (USAGE)."""
    folded = name.strip().lower().replace("-", "_")
    folded = ALIASES.get(folded, folded)
    if folded not in RANGES:
        raise BchatError(
            "setting.unknown",
            status=ExitStatus.USAGE,
            name=_shown(name),
            suggestion=messages.did_you_mean(folded, [*RANGES, *ALIASES]),
            known=", ".join(RANGES),
        )
    return folded


def checked(name: str, value: Any) -> Any:
    """Return `value` as the type of parameter `name`. Raises BchatError (USAGE) for a wrong type or range.

    Text is parsed, an int becomes a float; bool and NaN are refused.
    """
    spec = RANGES[name]
    if spec.optional and (value is None or (isinstance(value, str) and value.strip().lower() in _NONE_WORDS)):
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, str):
            number: int | float = spec.kind(_as_meant(value))
        elif spec.kind is int:
            if not isinstance(value, int):
                raise ValueError
            number = value
        elif isinstance(value, int | float):
            number = float(value)
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise BchatError(
            "setting.type",
            status=ExitStatus.USAGE,
            name=name,
            kind=messages.Phrase(f"kind.{spec.kind.__name__}"),
            value=_shown(value),
        ) from None
    if not spec.low <= number <= spec.high:  # NaN is in no range
        raise BchatError(
            "setting.range",
            status=ExitStatus.USAGE,
            name=name,
            low=_plain(spec.low),
            high=_plain(spec.high),
            value=_shown(value),
        )
    return number


def checked_by_name(name: str, value: Any) -> tuple[str, Any]:
    """Return the parameter that `name` means and the checked value. Raises BchatError as both do."""
    parameter = resolve_name(name)
    return parameter, checked(parameter, value)


def _as_meant(text: str) -> str:
    """Return a number of an input method (`０．９`, `0。9`, `−1`) as Python writes it. ValueError for `1_0`."""
    if "_" in text:  # Python's digit separator; here a typing error
        raise ValueError
    folded = unicodedata.normalize("NFKC", text).replace("\N{MINUS SIGN}", "-")
    return re.sub(r"(?<=\d)。(?=\d)", ".", folded).strip()


def _shown(value: object) -> object:
    """Return a wrong value for a sentence, shortened; Python refuses to write out very long ints."""
    if isinstance(value, int) and abs(value) >= _LONG:
        return f"{'-' if value < 0 else ''}1e{int(value.bit_length() * math.log10(2))}"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | dict):
        return type(value).__name__
    text = str(value).strip()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _plain(number: float) -> str:
    return f"{number:g}" if number < 1e6 else str(int(number))
