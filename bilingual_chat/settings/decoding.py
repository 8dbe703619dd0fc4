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
    The defaults from `min_p` on are the values that switch a setting off. docs/decoding.md has formulas and sources.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    max_new_tokens: int = 512
    seed: int | None = None
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    top_h: float = 0.0
    top_n_sigma: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    no_repeat_ngram_size: int = 0
    penalty_scope: str = "all"
    logit_bias: tuple[str, ...] = ()  # "TEXT=NUMBER" or "id:N=NUMBER"
    bad_words: tuple[str, ...] = ()  # texts, or "id:N"
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParameterRange:
    """The values of a parameter: numbers from `low` to `high`, one of `choices`, or a tuple of at most `high` texts."""

    kind: type[int] | type[float] | type[str] | type[tuple[str, ...]]
    low: float = 0
    high: float = 0
    optional: bool = False
    choices: tuple[str, ...] = ()
    example: str = ""  # a useful value, as /set reads it


MOST_TEXTS = 256  # of one setting
LONGEST_TEXT = 200  # characters
MOST_BIAS = 100.0  # either way: enough to force or to exclude a token

RANGES: dict[str, ParameterRange] = {
    "temperature": ParameterRange(float, 0.0, 10.0, example="0.7"),
    "top_k": ParameterRange(int, 0, 100_000, example="40"),
    "top_p": ParameterRange(float, 0.0001, 1.0, example="0.85"),
    "repetition_penalty": ParameterRange(float, 0.1, 10.0, example="1.1"),
    "min_new_tokens": ParameterRange(int, 0, 8192, example="20"),
    "max_new_tokens": ParameterRange(int, 1, 8192, example="200"),
    "seed": ParameterRange(int, 0, 2**63 - 1, optional=True, example="42"),
    "min_p": ParameterRange(float, 0.0, 1.0, example="0.05"),
    "typical_p": ParameterRange(float, 0.0001, 1.0, example="0.9"),
    "epsilon_cutoff": ParameterRange(float, 0.0, 0.9999, example="0.0006"),
    "eta_cutoff": ParameterRange(float, 0.0, 0.9999, example="0.0006"),
    "top_h": ParameterRange(float, 0.0, 1.0, example="0.4"),
    "top_n_sigma": ParameterRange(float, 0.0, 100.0, example="1"),
    "presence_penalty": ParameterRange(float, -10.0, 10.0, example="0.5"),
    "frequency_penalty": ParameterRange(float, -10.0, 10.0, example="0.3"),
    "dry_multiplier": ParameterRange(float, 0.0, 100.0, example="0.8"),
    "dry_base": ParameterRange(float, 1.0, 10.0, example="1.75"),
    "dry_allowed_length": ParameterRange(int, 1, 8192, example="2"),
    "no_repeat_ngram_size": ParameterRange(int, 0, 100, example="4"),
    "penalty_scope": ParameterRange(str, choices=("all", "reply"), example="reply"),
    "logit_bias": ParameterRange(tuple, high=MOST_TEXTS, example='"猫"=5 id:1234=-2'),
    "bad_words": ParameterRange(tuple, high=MOST_TEXTS, example='"猫" "犬"'),
    "stop": ParameterRange(tuple, high=MOST_TEXTS, example=r'"\n" "。"'),
}
TEXTS = tuple(name for name, spec in RANGES.items() if spec.kind is tuple)
_RARE = tuple(RANGES)[tuple(RANGES).index("min_p") :]  # /settings shows these only where they act

# The order in which the filters act: transformers' own (`GenerationMixin._get_logits_processor`), with those that it
# lacks beside their kin, in llama.cpp's order. At temperature 0 only the penalties act.
_PENALTIES = (
    *("logit_bias", "repetition_penalty", "frequency_penalty", "presence_penalty", "dry_multiplier"),
    *("no_repeat_ngram_size", "bad_words", "min_new_tokens"),
)
_OF_SAMPLES = (
    *("top_n_sigma", "temperature", "top_h", "top_k", "top_p"),
    *("min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
)
FILTERS = (*_PENALTIES, *_OF_SAMPLES)
_OFF = {"top_k": 0}  # where the default is not the value that switches a filter off

ALIASES = {"temp": "temperature", "penalty": "repetition_penalty", "max_tokens": "max_new_tokens"}
_ID = re.compile(r"id:([0-9]{1,9})")
_BIAS = re.compile(r"(.+)[=＝](.*)", re.DOTALL)
_SHOWN = 60  # characters of a wrong value
_LONG = 10**20
_NONE_WORDS = ("none", "random", "null", "off", "")


def filter_order(parameters: DecodingParameters) -> tuple[str, ...]:
    """Return the names of the filters that act under `parameters`, in their order.

    Greedy decoding (temperature 0) ends with "temperature".
    """
    names = _PENALTIES if parameters.temperature == 0 else FILTERS
    acting = tuple(name for name in names if is_acting(name, getattr(parameters, name)))
    return (*acting, "temperature") if parameters.temperature == 0 else acting


def as_record(parameters: DecodingParameters) -> dict[str, Any]:
    """Return the values by name as JSON has them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(parameters).items()}


def is_acting(name: str, value: object) -> bool:
    """Return True unless `value` switches the setting `name` off."""
    return bool(value != _OFF.get(name, getattr(_DEFAULTS, name)))


def is_shown(name: str, value: object) -> bool:
    """Return False for a rare setting with its default, which a list of settings leaves out."""
    default = getattr(_DEFAULTS, name)
    return name not in _RARE or (tuple(value) if isinstance(value, list) else value) != default


_DEFAULTS = DecodingParameters()


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

    Text is parsed, an int becomes a float; bool and NaN are refused. Of a list of texts, a single str is the only one.
    """
    spec = RANGES[name]
    if spec.kind is tuple:
        return _checked_texts(name, value)
    if spec.choices:
        return _checked_choice(name, value, spec.choices)
    return _checked_number(name, value, spec)


def _checked_number(name: str, value: Any, spec: ParameterRange) -> int | float | None:
    if spec.optional and (value is None or (isinstance(value, str) and value.strip().lower() in _NONE_WORDS)):
        return None
    try:
        number = _number(value, is_whole=spec.kind is int)
    except (ValueError, OverflowError):
        raise _wrong_type(name, value) from None
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


def _number(value: Any, *, is_whole: bool) -> int | float:
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, str):
        return int(_as_meant(value)) if is_whole else float(_as_meant(value))
    if is_whole and isinstance(value, int):
        return value
    if not is_whole and isinstance(value, int | float):
        return float(value)
    raise ValueError


def _wrong_type(name: str, value: object) -> BchatError:
    kind = messages.Phrase(f"kind.{kind_name(name)}")
    return BchatError("setting.type", status=ExitStatus.USAGE, name=name, kind=kind, value=_shown(value))


def kind_name(name: str) -> str:
    """Return the kind of parameter `name` as a message key has it: int, float, str or texts."""
    kind = RANGES[name].kind
    return "texts" if kind is tuple else kind.__name__


def _checked_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise _wrong_type(name, value)
    if (choice := folded(value).lower()) in choices:
        return choice
    raise BchatError(
        "setting.choice", status=ExitStatus.USAGE, name=name, known=", ".join(choices), value=_shown(value)
    )


def _checked_texts(name: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else () if value is None else value
    wrong = [each for each in texts if not isinstance(each, str)] if isinstance(texts, list | tuple) else [value]
    if wrong:
        raise _wrong_type(name, wrong[0])
    if len(texts) > MOST_TEXTS:
        raise BchatError("setting.texts", status=ExitStatus.USAGE, name=name, limit=MOST_TEXTS)
    return tuple(dict.fromkeys(_checked_text(name, each) for each in texts))


def _checked_text(name: str, text: str) -> str:
    """Return one entry as it is recorded."""
    if not 0 < len(text) <= LONGEST_TEXT:
        raise BchatError("setting.text", status=ExitStatus.USAGE, name=name, limit=LONGEST_TEXT, value=_shown(text))
    if name == "logit_bias":
        token, bias = bias_of(text)
        return f"{_as_entry(token)}={bias:.15g}"
    return _as_entry(token_of(text)) if name == "bad_words" else text


def bias_of(entry: str) -> tuple[int | str, float]:
    """Return the token id or the text of an entry of logit_bias, and its bias. Raises BchatError (USAGE)."""
    found = _BIAS.fullmatch(entry)
    try:
        bias = float(_as_meant(found[2])) if found else math.nan
    except (ValueError, OverflowError):
        bias = math.nan
    if not found or not abs(bias) <= MOST_BIAS:  # NaN is not
        raise BchatError("setting.bias", status=ExitStatus.USAGE, limit=_plain(MOST_BIAS), value=_shown(entry))
    return token_of(found[1]), bias


def token_of(text: str) -> int | str:
    """Return the token id that "id:N" names; any other text as it is."""
    found = _ID.fullmatch(folded(text).lower())
    return int(found[1]) if found else text


def require_tokens(parameters: DecodingParameters, vocab_size: int) -> None:
    """Raise BchatError (USAGE) if a setting names a token id that a vocabulary of `vocab_size` does not have."""
    named = [bias_of(entry)[0] for entry in parameters.logit_bias] + [token_of(entry) for entry in parameters.bad_words]
    for token in named:
        if isinstance(token, int) and token >= vocab_size:
            raise BchatError("engine.no-such-token", status=ExitStatus.USAGE, token=token, last=vocab_size - 1)


def _as_entry(token: int | str) -> str:
    return f"id:{token}" if isinstance(token, int) else token


def format_value(value: object) -> str:
    """Return a value as /set reads it: all digits of a number, each text in quotes, "none" for no text and no seed."""
    if isinstance(value, list | tuple):
        return " ".join(map(quoted, map(str, value))) or "none"
    if value is None:
        return "none"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def quoted(text: str) -> str:
    """Return `text` in double quotes, with its newlines, tabs, quotes and backslashes escaped."""
    for character, escaped in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\t", r"\t")):
        text = text.replace(character, escaped)
    return f'"{text}"'


def checked_by_name(name: str, value: Any) -> tuple[str, Any]:
    """Return the parameter that `name` means and the checked value. Raises BchatError as both do."""
    parameter = resolve_name(name)
    return parameter, checked(parameter, value)


def _as_meant(text: str) -> str:
    """Return a number of an input method (`０．９`, `0。9`, `−1`) as Python writes it. ValueError for `1_0`."""
    if "_" in text:  # Python's digit separator; here a typing error
        raise ValueError
    return re.sub(r"(?<=\d)。(?=\d)", ".", folded(text).replace("\N{MINUS SIGN}", "-"))


def folded(text: str) -> str:
    """Return `text` in NFKC and stripped: full-width letters, digits and signs become ASCII."""
    return unicodedata.normalize("NFKC", text).strip()


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
