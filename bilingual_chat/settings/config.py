"""Settings: TOML files, the environment and options laid over each other, and where each value came from.

Layers, weakest first: the fields' defaults, the model's own
preset, the user's TOML, the project's TOML, the environment, options, `/set` in the session.

One preset is chosen at a time: the one that the strongest layer names. Its values stand where it was
named: a preset in a TOML is overridden by that file's own [decoding], a preset chosen later (on the
command line, by /preset) overrides [decoding] of every file. What it leaves out is as without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from bilingual_chat.messages import LANGUAGES, Phrase, did_you_mean
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding, toml_tables
from bilingual_chat.settings.catalogue import ModelEntry, load_catalogue
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.settings.presets import PARAMETERS, Preset, find_preset, load_presets, no_preset, read_values
from bilingual_chat.settings.toml_tables import KeyPath, WrongValue
from bilingual_chat.storage import paths, safe_stat

DEFAULT, ENVIRONMENT, OPTION, SESSION = "default", "environment", "option", "session"
RESET = "default"  # as a value: what is in force without /set
PRESET = "preset "  # before its name, where a value came from one
_PREFIX = "BCHAT_"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Layer:
    """What one place says: a file, the environment, the options, the session."""

    label: str
    values: Mapping[str, Any] = field(default_factory=dict)  # of decoding parameters, checked
    preset: str = ""
    model: str = ""
    lang: str = ""
    persona: str = ""
    quantize: str = ""


@dataclass(frozen=True)
class Config:
    """Everything the files and the environment say. `layers`: weakest first."""

    layers: tuple[Layer, ...]
    presets: Mapping[str, Preset]
    catalogue: Mapping[str, ModelEntry]
    notices: tuple[Phrase, ...] = ()  # what is to be said once of how they were read

    @property
    def model(self) -> str:
        """The model that the strongest layer names, "" if none does."""
        return self._strongest("model")

    @property
    def lang(self) -> str:
        return self._strongest("lang")

    @property
    def persona(self) -> str:
        return self._strongest("persona")

    @property
    def quantize(self) -> str:
        return self._strongest("quantize")

    def _strongest(self, name: str) -> str:
        return next((text for layer in reversed(self.layers) if (text := getattr(layer, name))), "")


@dataclass(frozen=True)
class SettingsChange:
    """A change of settings: a preset ("" for none), then values by parameter name. The value `RESET` undoes /set."""

    preset: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.preset or self.values)


NO_CHANGE = SettingsChange()


@dataclass(frozen=True)
class Settings:
    """The decoding parameters in force, and for each the label of the layer it came from.

    `preset` is the one chosen, or the model's own. A new value or preset makes new Settings.
    """

    parameters: DecodingParameters = field(default_factory=DecodingParameters)
    provenance: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(dict.fromkeys(PARAMETERS, DEFAULT)))
    preset: str = ""
    model: str = ""
    lang: str = ""
    persona: str = ""
    layers: tuple[Layer, ...] = (Layer(DEFAULT),)  # the first is the model's
    presets: Mapping[str, Preset] = field(default_factory=lambda: MappingProxyType({}))

    def changed(self, name: str, value: Any, layer: str = SESSION) -> Settings:
        """These with one value set, as by /set. Raises BchatError (USAGE): no such name, type or range."""
        parameter = decoding.resolve_name(name)
        checked = decoding.checked(parameter, value)
        before = self._layer(layer)
        layers = self._with_layer(replace(before, values={**before.values, parameter: checked}))
        return replace(
            self,
            parameters=replace(self.parameters, **{parameter: checked}),
            provenance=MappingProxyType({**self.provenance, parameter: layer}),
            layers=layers,
        )

    def with_change(self, change: SettingsChange) -> Settings:
        """Return these settings with `change` applied. Raises BchatError as `changed` and `with_preset` do."""
        settings = self.with_preset(change.preset) if change.preset else self
        for name, value in change.values.items():
            settings = settings.reset(name) if value == RESET else settings.changed(name, value)
        return settings

    def reset(self, name: str) -> Settings:
        """These without what the session set for one name. Raises BchatError (USAGE): no such name."""
        before = self._layer(SESSION)
        kept = {key: value for key, value in before.values.items() if key != decoding.resolve_name(name)}
        return _settle(replace(self, layers=self._with_layer(replace(before, values=kept))))

    def with_preset(self, name: str, layer: str = SESSION) -> Settings:
        """These with a preset chosen, as by /preset: it overrides what was set before it.

        Values set in the session stay only where the preset sets none. Raises BchatError (USAGE).
        """
        preset = find_preset(self.presets, name)
        before = self._layer(layer)
        kept = {key: value for key, value in before.values.items() if key not in preset.values}
        return _settle(replace(self, layers=self._with_layer(replace(before, values=kept, preset=preset.name))))

    def for_model(self, entry: ModelEntry) -> Settings:
        """These over another model's own preset, as by /model; what was chosen stays chosen."""
        own = entry.preset if entry.preset in self.presets else ""
        return _settle(replace(self, model=entry.name, layers=(Layer(DEFAULT, preset=own), *self.layers[1:])))

    def differing(self) -> dict[str, Any]:
        """The parameters whose value is not the one that the presets, or else the defaults, give."""
        bare = tuple(replace(layer, values=_NOTHING) for layer in self.layers)
        plain = _settle(replace(self, layers=bare)).parameters
        return {name: value for name, value in vars(self.parameters).items() if value != getattr(plain, name)}

    def _layer(self, label: str) -> Layer:
        return next((layer for layer in self.layers if layer.label == label), Layer(label))

    def _with_layer(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers with this one in its place; a new one is the strongest but for the session's."""
        if any(each.label == layer.label for each in self.layers):
            return tuple(layer if each.label == layer.label else each for each in self.layers)
        session = tuple(each for each in self.layers if each.label == SESSION)
        return (*(each for each in self.layers if each.label != SESSION), layer, *session)


def settings_for(
    config: Config, entry: ModelEntry, preset: str | None = None, options: Mapping[str, Any] = _NOTHING
) -> Settings:
    """What is in force for a model: its own preset, then what the files and the environment say, then
    `preset` and `options` (name to value, as on the command line).

    Raises BchatError (USAGE): no such preset, name, type or range.
    """
    values: dict[str, Any] = {}
    for name, value in options.items():
        parameter = decoding.resolve_name(name)
        values[parameter] = decoding.checked(parameter, value)
    chosen = find_preset(config.presets, preset).name if preset else ""
    own = entry.preset if entry.preset in config.presets else ""
    return _settle(
        Settings(
            model=entry.name,
            lang=config.lang,
            persona=config.persona,
            layers=(Layer(DEFAULT, preset=own), *config.layers, Layer(OPTION, values, chosen)),
            presets=config.presets,
        )
    )


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """The values of `--set NAME=VALUE,… …`, by parameter. Raises BchatError (USAGE)."""
    values: dict[str, Any] = {}
    for text in (each for joined in texts for each in re.split("[,，、]", joined)):
        name, sign, value = text.partition("=")
        if not sign:
            raise BchatError("config.assignment", status=ExitStatus.USAGE, text=text)
        parameter = decoding.resolve_name(name)
        values[parameter] = decoding.checked(parameter, value)
    return values


def load_config(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """The shipped tables, then the user's file and the project's, or `file` in place of both, then BCHAT_*.

    A file that nobody named and that cannot be read is passed over with a notice.
    Raises BchatError: DATA for a file, with its line, USAGE for the environment.
    """
    shipped_presets = toml_tables.explained(paths.shipped_config("presets.toml"), load_presets)
    shipped_models = toml_tables.explained(paths.shipped_config("models.toml"), load_catalogue)
    config = Config((), shipped_presets, shipped_models)
    for path in [paths.config_file(), paths.project_config_file()] if file is None else [file]:
        config = _with_path(config, path, is_named=file is not None)
    layer = _environment_layer(os.environ if environment is None else environment, config.presets)
    return replace(config, layers=(*config.layers, layer))


def _settle(settings: Settings) -> Settings:
    """`settings` with parameters, provenance and preset as its layers say."""
    values: dict[str, Any] = {}
    origin = dict.fromkeys(PARAMETERS, DEFAULT)
    own, *others = settings.layers
    chosen = next((layer for layer in reversed(others) if layer.preset), own)
    for layer in settings.layers:
        if layer is own or layer is chosen:
            preset = settings.presets[layer.preset].values if layer.preset else _NOTHING
            values |= preset
            origin |= dict.fromkeys(preset, f"{PRESET}{layer.preset}")
        values |= layer.values
        origin |= dict.fromkeys(layer.values, layer.label)
    return replace(
        settings,
        parameters=replace(DecodingParameters(), **values),
        provenance=MappingProxyType(origin),
        preset=chosen.preset,
    )


def _with_path(config: Config, path: Path, *, is_named: bool) -> Config:
    if not is_named and (found := safe_stat.find_trouble([path])) is not None:
        return _without(config, path, found[1])
    if not is_named and not os.path.lexists(path):
        return config
    try:
        return toml_tables.explained(path, partial(_with_file, config, paths.shorten(path)))
    except BchatError as error:
        if is_named or error.key != "config.unreadable":
            raise
        return _without(config, path, error.values["reason"])


def _without(config: Config, path: Path, reason: object) -> Config:
    notice = Phrase("config.skipped", path=paths.shorten(path), reason=reason)
    return replace(config, notices=(*config.notices, notice))


# -- one file ---------------------------------------------------------------------------------------


def _with_file(config: Config, label: str, content: Mapping[str, Any]) -> Config:
    for key in content:
        toml_tables.check_key((), key, (*_TOP_LEVEL, "decoding", "presets", "models"))
    top = {key: read((key,), content[key]) for key, read in _TOP_LEVEL.items() if key in content}
    values = read_values(("decoding",), content.get("decoding", {}))
    presets = _laid_over(config.presets, "presets", content, partial(load_presets, source=label))
    models = _laid_over(config.catalogue, "models", content, load_catalogue)
    for path, name in _presets_named(content):
        if name not in presets:
            raise WrongValue(path, no_preset(name, presets))
    return replace(config, layers=(*config.layers, Layer(label, values, **top)), presets=presets, catalogue=models)


def _laid_over(
    known: Mapping[str, Entry],
    key: str,
    content: Mapping[str, Any],
    load: Callable[[Mapping[str, Any], Mapping[str, Entry]], Mapping[str, Entry]],
) -> Mapping[str, Entry]:
    new = toml_tables.table((key,), content.get(key, {}))
    try:
        return load(new, known)
    except WrongValue as wrong:
        raise wrong.below(key) from None


def _presets_named(content: Mapping[str, Any]) -> list[tuple[KeyPath, str]]:
    named: list[tuple[KeyPath, str]] = [(("preset",), content["preset"])] if "preset" in content else []
    for name, table in content.get("models", {}).items():
        if "preset" in table:
            named.append((("models", name, "preset"), table["preset"]))
    return named


_TOP_LEVEL: dict[str, toml_tables.Read] = {
    "model": toml_tables.name,
    "preset": toml_tables.name,
    "lang": toml_tables.choice(*LANGUAGES),
    "persona": toml_tables.name,
    "quantize": toml_tables.choice("auto", "none", "int8", "w8a8", "int4"),
}


# -- the environment --------------------------------------------------------------------------------


def _environment_layer(environment: Mapping[str, str], presets: Mapping[str, Preset]) -> Layer:
    """BCHAT_TEMPERATURE and the other parameters, BCHAT_MODEL, BCHAT_PRESET, BCHAT_LANG, BCHAT_PERSONA,
    BCHAT_QUANTIZE.

    A name that is nearly one of these is refused as a slip; others may be someone else's.
    """
    known = {_PREFIX + name.upper(): name for name in (*_TOP_LEVEL, *PARAMETERS)}
    values: dict[str, Any] = {}
    top: dict[str, str] = {}
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or not text.strip():
            continue
        name = known.get(variable)
        if name is None:
            _refuse_slip(variable, known)
        elif name in _TOP_LEVEL:
            top[name] = _from_variable(variable, partial(_TOP_LEVEL[name], (name,), text))
        else:
            values[name] = _from_variable(variable, partial(decoding.checked, name, text))
    if top.get("preset", "") and top["preset"] not in presets:
        raise _wrong_variable(f"{_PREFIX}PRESET", no_preset(top["preset"], presets))
    return Layer(ENVIRONMENT, values, **top)


def _from_variable(variable: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except WrongValue as wrong:
        raise _wrong_variable(variable, wrong.problem) from None
    except BchatError as error:
        raise _wrong_variable(variable, Phrase(error.key, **error.values)) from None


def _wrong_variable(variable: str, problem: Phrase) -> BchatError:
    return BchatError("config.environment", status=ExitStatus.USAGE, name=variable, problem=problem)


def _refuse_slip(variable: str, known: Iterable[str]) -> None:
    suggestion = did_you_mean(variable.removeprefix(_PREFIX), [name.removeprefix(_PREFIX) for name in known])
    if "name" in suggestion.values:
        meant = Phrase("suggestion", name=f"{_PREFIX}{suggestion.values['name']}")
        raise BchatError("config.variable", status=ExitStatus.USAGE, name=variable, suggestion=meant)
