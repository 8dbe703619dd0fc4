"""The cells of a sweep: which settings are compared."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding, toml_tables
from bilingual_chat.settings.config import Settings, typed_value
from bilingual_chat.settings.decoding import TEXTS, DecodingParameters, as_record
from bilingual_chat.settings.presets import read_values

MAX_CELLS = 10_000

Axis = tuple[str, tuple[Any, ...]]  # a setting and its values


@dataclass(frozen=True)
class Cell:
    """Settings under the label that the report shows; their seed is each reply's own."""

    label: str
    settings: Settings

    @property
    def values(self) -> dict[str, Any]:
        """The value of every setting but the seed, as JSON has them."""
        return settings_of(self.settings.parameters)

    @property
    def is_greedy(self) -> bool:
        """Return True if every seed gives the same reply."""
        return self.settings.parameters.temperature == 0


def settings_of(parameters: DecodingParameters) -> dict[str, Any]:
    """Return the value of every setting but the seed, as JSON has them."""
    return {name: value for name, value in as_record(parameters).items() if name != "seed"}


def parse_axis(text: str) -> Axis:
    """Parse `temperature=0.1:0.9:0.2,1.2`: values, and ranges `first:last:step`, both ends included.

    Full-width characters are accepted. A list, as `stop`, has one text. Raises BchatError (USAGE).
    """
    folded = re.sub("[、，]", ",", unicodedata.normalize("NFKC", text))
    typed, sign, values = folded.partition("=")
    if not sign or not values.strip():
        raise _refused("sweep.axis", text=text)
    name = decoding.resolve_name(typed)
    if name == "seed":
        raise _refused("sweep.axis-seed")
    if name in TEXTS:
        raw = re.split("[=＝]", text, maxsplit=1)[1]
        texts = decoding.checked(name, typed_value(name, raw))
        if len(texts) > 1:
            raise _refused("sweep.axis-list", name=name)
        return name, (texts,)
    parts = [each for part in values.split(",") for each in _expanded(text, part.strip())]
    return name, tuple(dict.fromkeys(decoding.checked(name, each) for each in parts))


def _expanded(text: str, part: str) -> list[str]:
    """Return the values of `first:last:step`, in exact decimals; of a single value, itself."""
    if ":" not in part:
        return [part]
    try:
        first, last, step = (Decimal(each.strip().replace("\N{MINUS SIGN}", "-")) for each in part.split(":"))
        steps = (last - first) / step if step else Decimal(-1)
        is_range = steps.is_finite()
    except (ArithmeticError, ValueError):
        is_range = False
    if not is_range:
        raise _refused("sweep.axis-range", text=text, part=part)
    if steps < 0:
        raise _refused("sweep.axis-steps", part=part, first=first, last=last, step=step)
    if steps >= MAX_CELLS:
        count = f"{steps + 1:,.0f}" if steps < 1e12 else f"{steps:.3g}"
        raise _refused("sweep.cells", count=count, limit=f"{MAX_CELLS:,}")
    return [f"{first + step * index:f}" for index in range(math.floor(steps) + 1)]


def read_settings(path: Path) -> dict[str, dict[str, Any]]:
    """Return the settings in a TOML file by name: its tables, those of `presets` too, or the file as one.

    Raises BchatError (DATA), with file and line.
    """

    def load(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        if not all(isinstance(each, Mapping) for each in content.values()):
            return {path.stem: _read_table((), content)}
        named = toml_tables.table(("presets",), content.get("presets", {}))
        found = {name: _read_table((name,), each) for name, each in content.items() if name != "presets"}
        return found | {name: _read_table(("presets", name), each) for name, each in named.items()}

    return toml_tables.explained(path, load)


def _read_table(key: tuple[str, ...], table: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in toml_tables.table(key, table).items() if name != "description"}
    return read_values(key, values, also=("description",))


def make_cells(
    settings: Settings,
    axes: Sequence[Axis],
    presets: Iterable[str] = (),
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    one_at_a_time: bool = False,
) -> tuple[Cell, ...]:
    """Return the cells: every base under every combination of the axes, each once.

    The bases are `presets` and `tables` (settings by name); without either, `settings` alone. With `one_at_a_time`,
    each base as it is, then with one value of one axis changed. Raises BchatError (USAGE): more than MAX_CELLS,
    the same axis twice, an unknown preset.
    """
    names = [name for name, _ in axes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _refused("sweep.axis-twice", name=twice)
    bases = [Cell(name, settings.with_preset(name)) for name in presets]
    bases += [Cell(name, _changed(settings, values)) for name, values in (tables or {}).items()]
    bases = bases or [Cell("", settings)]
    sizes = [len(values) for _, values in axes]
    count = len(bases) * (1 + sum(sizes) if one_at_a_time else math.prod(sizes))
    if count > MAX_CELLS:
        raise _refused("sweep.cells", count=f"{count:,}", limit=f"{MAX_CELLS:,}")
    changes = _one_at_a_time(axes) if one_at_a_time else _combinations(axes)
    cells = [_cell(base, change) for base in bases for change in changes]
    by_values: dict[str, Cell] = {}
    for cell in cells:
        by_values.setdefault(str(cell.values), cell)
    return tuple(by_values.values())


def varied_names(cells: Sequence[Cell]) -> list[str]:
    """Return the settings that differ between cells."""
    first = cells[0].values
    return [name for name in first if any(cell.values[name] != first[name] for cell in cells)]


def _combinations(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    names = [name for name, _ in axes]
    return [dict(zip(names, each, strict=True)) for each in itertools.product(*(values for _, values in axes))]


def _one_at_a_time(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    return [{}, *({name: value} for name, values in axes for value in values)]


def _cell(base: Cell, change: Mapping[str, Any]) -> Cell:
    words = [base.label, *(f"{name}={decoding.format_value(value)}" for name, value in change.items())]
    return Cell(" ".join(filter(None, words)) or "baseline", _changed(base.settings, change))


def _changed(settings: Settings, values: Mapping[str, Any]) -> Settings:
    for name, value in values.items():
        settings = settings.changed(name, value)
    return settings


def _refused(key: str, **values: object) -> BchatError:
    return BchatError(key, status=ExitStatus.USAGE, **values)
