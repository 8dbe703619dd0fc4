"""Settings in layers: TOML files, environment, options, session; and the origin of each value.

Layers, weakest first: defaults, the model's preset, the user's TOML, the project's TOML, the environment, options,
`/set` in the session.

One preset is in force: the one that the strongest layer names. It ranks with that layer: a file's [decoding] overrides
the preset named in that file; a preset from the command line or /preset overrides [decoding] of every file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from bilingual_chat.messages import LANGUAGES, Phrase, did_you_mean
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding, toml_tables, words
from bilingual_chat.settings.catalogue import ModelEntry, load_catalogue
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.settings.presets import PARAMETERS, Preset, find_preset, load_presets, no_preset, read_values
from bilingual_chat.settings.servers import Server, load_servers
from bilingual_chat.settings.toml_tables import KeyPath, WrongValue
from bilingual_chat.storage import paths, safe_stat

DEFAULT, ENVIRONMENT, OPTION, SESSION = "default", "environment", "option", "session"
RESET = "default"  # as a value: undo /set
PRESET = "preset "  # the label of a value from a preset: this and its name
_PREFIX = "BCHAT_"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Layer:
    """The values of one source: a file, the environment, the options, the session."""

    label: str
    values: Mapping[str, Any] = field(default_factory=dict)  # checked decoding parameters by name
    preset: str = ""


@dataclass(frozen=True)
class Config:
    """The content of the files and the environment. `layers`: weakest first."""

    layers: tuple[Layer, ...]
    presets: Mapping[str, Preset]
    catalogue: Mapping[str, ModelEntry]
    servers: Mapping[str, Server] = field(default_factory=lambda: MappingProxyType({}))
    notices: tuple[Phrase, ...] = ()  # problems to report once, such as a skipped file
    # As the strongest source names them; "" if none does.
    model: str = ""
    lang: str = ""
    persona: str = ""
    quantize: str = ""

    def with_source(self, label: str, values: Mapping[str, Any], top: Mapping[str, str]) -> Config:
        """Return the configuration with a stronger source. top: the values of its keys that are no tables."""
        others: dict[str, Any] = {key: text for key, text in top.items() if key != "preset"}
        return replace(self, layers=(*self.layers, Layer(label, values, top.get("preset", ""))), **others)


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
    """The decoding parameters in force, and the label of the layer that each came from.

    `preset`: the chosen one, or the model's own.
    """

    parameters: DecodingParameters = field(default_factory=DecodingParameters)
    provenance: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(dict.fromkeys(PARAMETERS, DEFAULT)))
    preset: str = ""
    layers: tuple[Layer, ...] = (Layer(DEFAULT),)  # the first is the model's
    presets: Mapping[str, Preset] = field(default_factory=lambda: MappingProxyType({}))

    def changed(self, name: str, value: Any, layer: str = SESSION) -> Settings:
        """Return settings with one value set, as by /set. BchatError (USAGE): unknown name, wrong type or range."""
        parameter, checked = decoding.checked_by_name(name, value)
        before = self._layer(layer)
        return self._with_layer(replace(before, values={**before.values, parameter: checked}))

    def with_change(self, change: SettingsChange) -> Settings:
        """Return these settings with `change` applied. Raises BchatError as `changed` and `with_preset` do."""
        settings = self.with_preset(change.preset) if change.preset else self
        for name, value in change.values.items():
            settings = settings.reset(name) if value == RESET else settings.changed(name, value)
        return settings

    def reset(self, name: str) -> Settings:
        """Return settings without the session's value of one name. Raises BchatError (USAGE): unknown name."""
        before = self._layer(SESSION)
        kept = {key: value for key, value in before.values.items() if key != decoding.resolve_name(name)}
        return self._with_layer(replace(before, values=kept))

    def with_preset(self, name: str, layer: str = SESSION) -> Settings:
        """Return settings with a preset chosen, as /preset does. Raises BchatError (USAGE) for an unknown one.

        The preset overrides earlier values, those of the session too.
        """
        preset = find_preset(self.presets, name)
        before = self._layer(layer)
        kept = {key: value for key, value in before.values.items() if key not in preset.values}
        return self._with_layer(replace(before, values=kept, preset=preset.name))

    def for_model(self, entry: ModelEntry) -> Settings:
        """Return settings over another model's preset, as /model does; choices stay."""
        return _settle(replace(self, layers=(_model_layer(entry, self.presets), *self.layers[1:])))

    def _layer(self, label: str) -> Layer:
        return next((layer for layer in self.layers if layer.label == label), Layer(label))

    def _with_layer(self, layer: Layer) -> Settings:
        """Return settings with `layer` replaced, or added below the session's."""
        layers = {each.label: each for each in self.layers} | {layer.label: layer}
        session = layers.pop(SESSION, None)
        return _settle(replace(self, layers=(*layers.values(), *([session] if session else []))))


def settings_for(
    config: Config, entry: ModelEntry, preset: str | None = None, options: Mapping[str, Any] = _NOTHING
) -> Settings:
    """Return the settings for a model, with `preset` and `options` (value by name) as the command line gives them.

    Raises BchatError (USAGE): unknown preset or name, wrong type or range.
    """
    values = dict(decoding.checked_by_name(name, value) for name, value in options.items())
    chosen = find_preset(config.presets, preset).name if preset else ""
    layers = (_model_layer(entry, config.presets), *config.layers, Layer(OPTION, values, chosen))
    return _settle(Settings(layers=layers, presets=config.presets))


def _model_layer(entry: ModelEntry, presets: Mapping[str, Preset]) -> Layer:
    return Layer(DEFAULT, preset=entry.preset if entry.preset in presets else "")


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Return the values of `--set NAME=VALUE,… …` by parameter, unchecked. Raises BchatError (USAGE).

    A list of texts goes on to the next NAME=: `stop="\\n","。",top_k=0`.
    """
    values: dict[str, Any] = {}
    listed = ""
    for text in (each for joined in texts for each in words.split_parts(joined)):
        name, sign, value = text.partition("=")
        if listed and not (sign and words.is_setting(name)):
            values[listed] += words.texts_of(words.split_words(text))
            continue
        if not sign:
            raise BchatError("config.assignment", status=ExitStatus.USAGE, text=text)
        name = decoding.resolve_name(name)
        listed = name if name in decoding.TEXTS else ""
        values[name] = typed_value(name, value)
    return values


def typed_value(name: str, text: str) -> Any:
    """Return the value that `text` means for parameter `name`, unchecked: of a list of texts, the texts."""
    return words.texts_of(words.split_words(text)) if name in decoding.TEXTS else text


def load_config(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Read the shipped tables, the user's and the project's file (or `file` in place of both), and BCHAT_*.

    An unreadable file that the user did not name is skipped with a notice.
    Raises BchatError: DATA for a file, with its line; USAGE for the environment.
    """
    shipped_presets = toml_tables.explained(paths.shipped_config("presets.toml"), load_presets)
    shipped_models = toml_tables.explained(paths.shipped_config("models.toml"), load_catalogue)
    config = Config((), shipped_presets, shipped_models)
    for path in [paths.config_file(), paths.project_config_file()] if file is None else [file]:
        config = _with_path(config, path, is_named=file is not None)
    return _with_environment(config, os.environ if environment is None else environment)


def _settle(settings: Settings) -> Settings:
    """Return `settings` with parameters, provenance and preset computed from its layers."""
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
        toml_tables.check_key((), key, (*_TOP_LEVEL, "decoding", "presets", "models", "servers"))
    top = {key: read((key,), content[key]) for key, read in _TOP_LEVEL.items() if key in content}
    values = read_values(("decoding",), content.get("decoding", {}))
    presets = _laid_over(config.presets, "presets", content, partial(load_presets, source=label))
    models = _laid_over(config.catalogue, "models", content, load_catalogue)
    servers = _laid_over(config.servers, "servers", content, load_servers)
    for path, name in _presets_named(content):
        if name not in presets:
            raise WrongValue(path, no_preset(name, presets))
    config = config.with_source(label, values, top)
    return replace(config, presets=presets, catalogue=models, servers=servers)


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


def _with_environment(config: Config, environment: Mapping[str, str]) -> Config:
    """Return `config` with BCHAT_TEMPERATURE and so on, BCHAT_MODEL, _PRESET, _LANG, _PERSONA and _QUANTIZE.

    A near miss of one of these names is refused; other names may belong to other programs.
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
            values[name] = _from_variable(variable, partial(decoding.checked, name, typed_value(name, text)))
    if top.get("preset", "") and top["preset"] not in config.presets:
        raise _wrong_variable(f"{_PREFIX}PRESET", no_preset(top["preset"], config.presets))
    return config.with_source(ENVIRONMENT, values, top)


def _from_variable(variable: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except WrongValue as wrong:
        raise _wrong_variable(variable, wrong.problem) from None
    except BchatError as error:
        raise _wrong_variable(variable, error.phrase) from None


def _wrong_variable(variable: str, problem: Phrase) -> BchatError:
    return BchatError("config.environment", status=ExitStatus.USAGE, name=variable, problem=problem)


def _refuse_slip(variable: str, known: Iterable[str]) -> None:
    suggestion = did_you_mean(variable.removeprefix(_PREFIX), [name.removeprefix(_PREFIX) for name in known])
    if "name" in suggestion.values:
        meant = Phrase("suggestion", name=f"{_PREFIX}{suggestion.values['name']}")
        raise BchatError("config.variable", status=ExitStatus.USAGE, name=variable, suggestion=meant)
