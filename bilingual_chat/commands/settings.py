"""Commands for settings, presets and the language of the messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from bilingual_chat import messages
from bilingual_chat.commands.app import Action, App, Rows
from bilingual_chat.commands.arguments import folded, parse_settings, word
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import config, decoding
from bilingual_chat.settings.config import Config, Settings, SettingsChange
from bilingual_chat.settings.decoding import RANGES, DecodingParameters, format_value
from bilingual_chat.settings.presets import Preset

_ABBREVIATED = {
    "temperature": "temp",
    "repetition_penalty": "penalty",
    "max_new_tokens": "max",
    "min_new_tokens": "min",
}
_LANGUAGES = {"english": "en", "英語": "en", "japanese": "ja", "日本語": "ja"}


def show_settings(app: App, argument: str) -> Action:
    """/settings: list every setting."""
    head = tuple(app.text(Phrase(f"heading.{key}")) for key in ("setting", "value", "range", "layer"))
    values = vars(app.session.settings.parameters)
    shown = [name for name in RANGES if decoding.is_shown(name, values[name])]
    app.show_rows([head, *(_setting_row(app, name) for name in shown)])
    if hidden := [name for name in RANGES if name not in shown]:
        app.say(Phrase("settings.rare", names=", ".join(hidden)))
    return None


def change_settings(app: App, argument: str) -> Action:
    """/set: change settings; without an argument, list them."""
    changes = parse_settings(argument)
    if not changes:
        return show_settings(app, "")
    app.session.change(app.session.settings.with_change(SettingsChange(values=changes)))
    app.show_rows([_setting_row(app, name) for name in changes])
    return None


def setting_command(name: str) -> Callable[[App, str], Action]:
    """/temperature and the like: change one setting; without a value, explain it."""

    def run(app: App, argument: str) -> Action:
        if not argument:
            return explain_setting(app, name)
        return change_settings(app, f"{name} {folded(argument).lstrip().removeprefix('=')}")

    return run


def explain_setting(app: App, name: str) -> Action:
    """Show the value and range of a setting, its effect and an example."""
    app.show_rows([_setting_row(app, name)])
    app.say(Phrase(f"parameter.{name}"))
    app.say(Phrase("settings.example", name=name, value=RANGES[name].example))
    return None


def _setting_row(app: App, name: str) -> tuple[str, ...]:
    settings = app.session.settings
    value = _value_text(app, getattr(settings.parameters, name))
    return name, value, _range_text(app, name), _origin(app, settings, name)


def _range_text(app: App, name: str) -> str:
    span = RANGES[name]
    if name in decoding.TEXTS:
        return app.text(Phrase("range.texts", limit=int(span.high)))
    if span.choices:
        return " | ".join(span.choices)
    high = "2^63-1" if span.high == 2**63 - 1 else format_value(span.high)
    return f"{format_value(span.low)} – {high}"


def _value_text(app: App, value: object) -> str:
    if value is None:
        return app.text(Phrase("value.fresh"))
    return app.text(Phrase("value.off")) if value == () else format_value(value)


def _origin(app: App, settings: Settings, name: str) -> str:
    """Return the layer that a value comes from: translated, or the name of a file or preset."""
    label = settings.provenance[name]
    if label in (config.DEFAULT, config.ENVIRONMENT, config.OPTION, config.SESSION):
        return app.text(Phrase(f"layer.{label}"))
    preset = settings.presets.get(label.removeprefix(config.PRESET))
    if label.startswith(config.PRESET) and preset and (source := preset.sources.get(name)):
        return f"{label} ({source})"
    return label


def changes_to_restore(parameters: DecodingParameters, recorded: object) -> str:
    """Return the argument of /set that restores the settings recorded with a reply; "" if none differs.

    `recorded` may come from a file. Invalid values are ignored, and the seed, which belongs to one reply.
    """
    differing: list[str] = []
    values = recorded if isinstance(recorded, Mapping) else {}
    for name in [name for name in RANGES if name != "seed" and name in values]:
        with suppress(BchatError):
            value = decoding.checked(name, values[name])
            if value != getattr(parameters, name):
                differing.append(f"{name}={format_value(value)}")
    return " ".join(differing)


def choose_preset(app: App, argument: str) -> Action:
    """/preset: choose a preset; without an argument, list them."""
    if not argument:
        app.show_rows(preset_rows(app.config, app.lang, chosen=app.session.settings.preset))
        return None
    before = app.session.settings
    after = before.with_preset(word(argument))
    app.session.change(after)
    replaced = ", ".join(_replaced(app, before, after))
    app.say(Phrase("preset.replaced" if replaced else "preset.chosen", name=after.preset, values=replaced))
    return None


def _replaced(app: App, before: Settings, after: Settings) -> list[str]:
    """Return the values that the user had set and the preset replaced."""
    return [
        f"{name} {_value_text(app, value)} ({_origin(app, before, name)})"
        for name, value in vars(before.parameters).items()
        if value != getattr(after.parameters, name)
        and before.provenance[name] != config.DEFAULT
        and not before.provenance[name].startswith(config.PRESET)
    ]


def preset_rows(config: Config, lang: str, chosen: str = "") -> Rows:
    """Return name, values and description of every preset."""

    def values(preset: Preset) -> str:
        shown = {name: "random" if value is None else format_value(value) for name, value in preset.values.items()}
        return " ".join(f"{_ABBREVIATED.get(name, name)}={value}" for name, value in shown.items())

    return [
        (f"{'*' if preset.name == chosen else ' '} {preset.name}", values(preset), preset.describe(lang))
        for preset in config.presets.values()
    ]


def choose_language(app: App, argument: str) -> Action:
    """/lang: switch the language of bchat's messages; without an argument, say which it is."""
    if argument:
        wanted = _LANGUAGES.get(word(argument), word(argument))
        if wanted not in messages.LANGUAGES:
            raise BchatError("lang.unknown", status=ExitStatus.USAGE, name=argument)
        app.screen.lang = wanted
    app.show(app.text(Phrase("lang.chosen")))
    return None


def setting_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    return [(name, app.text(Phrase(f"parameter.{name}"))) for name in RANGES]


def preset_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    return [(preset.name, preset.describe(app.lang)) for preset in app.config.presets.values()]


def language_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    return [("en", "English"), ("ja", "日本語")]
