"""Presets: named sets of decoding parameters, from configs/presets.toml and the user's TOML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from bilingual_chat.messages import LANGUAGES, Phrase, did_you_mean
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding, toml_tables
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.settings.toml_tables import KeyPath, WrongValue, fold_name

PARAMETERS = tuple(each.name for each in fields(DecodingParameters))
_DESCRIPTION = toml_tables.mapping(toml_tables.text, *LANGUAGES)


@dataclass(frozen=True)
class Preset:
    """A named set of values. `sources`: the file of each value, "" for bchat's own."""

    name: str
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    description: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # by language
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def describe(self, lang: str) -> str:
        """Return the description in `lang`, else in English, else ""."""
        return self.description.get(lang) or self.description.get("en", "")


def load_presets(
    new: Mapping[str, Any], known: Mapping[str, Preset] = MappingProxyType({}), source: str = ""
) -> dict[str, Preset]:
    """Return `known` presets by name, updated key by key with the tables of the file `source`. Raises WrongValue."""
    toml_tables.check_size((), new)
    presets = dict(known)
    for name, table in new.items():
        toml_tables.name((name,), name)
        before = presets.get(name, Preset(name))
        values = dict(toml_tables.table((name,), table))
        description = _DESCRIPTION((name, "description"), values.pop("description", {}))
        values = read_values((name,), values, also=("description",))
        presets[name] = Preset(
            name,
            MappingProxyType({**before.values, **values}),
            MappingProxyType({**before.description, **description}),
            MappingProxyType({**before.sources, **dict.fromkeys(values, source)}),
        )
    return presets


def find_preset(presets: Mapping[str, Preset], name: str) -> Preset:
    """Return the preset called `name`, case and width folded. Raises BchatError (USAGE) with the nearest name."""
    for preset in presets.values():
        if fold_name(preset.name) == fold_name(name):
            return preset
    problem = no_preset(name, presets)
    raise BchatError(problem.key, status=ExitStatus.USAGE, **problem.values)


def no_preset(name: str, presets: Iterable[str]) -> Phrase:
    """Return the clause that there is no preset `name`, with the nearest name."""
    known = list(presets)
    return Phrase("preset.unknown", name=name, suggestion=did_you_mean(name, known), known=", ".join(known))


def read_values(path: KeyPath, table: Any, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read decoding parameters from a table: with exact names and types, unlike those typed at the prompt."""
    values = {}
    for key, value in toml_tables.table(path, table).items():
        if key in decoding.ALIASES:
            known = ", ".join((*PARAMETERS, *also))
            suggestion = Phrase("suggestion", name=decoding.ALIASES[key])
            raise WrongValue((*path, key), Phrase("config.key", field=key, suggestion=suggestion, known=known))
        toml_tables.check_key(path, key, (*PARAMETERS, *also))
        values[key] = _checked((*path, key), value)
    return values


def _checked(path: KeyPath, value: Any) -> Any:
    name = path[-1]
    spec = decoding.RANGES[name]
    try:
        # A number in quotes is a mistake; only "random", for a fresh seed each time, is a word.
        if isinstance(value, str) and spec.kind in (int, float) and not (spec.optional and value == "random"):
            raise WrongValue(path, Phrase("config.type", field=name, kind=Phrase(f"kind.{decoding.kind_name(name)}")))
        return decoding.checked(name, value)
    except BchatError as error:
        raise WrongValue(path, error.phrase) from None
