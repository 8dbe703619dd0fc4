"""Commands about settings: one by one, as presets; and the language bchat speaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

from bilingual_chat import messages
from bilingual_chat.commands.app import Action, App, Rows, folded, shortened, word
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import config, decoding
from bilingual_chat.settings.config import RESET, Config, Settings, SettingsChange
from bilingual_chat.settings.decoding import RANGES, DecodingParameters
from bilingual_chat.settings.presets import Preset, find_preset

_ABBREVIATED = {
    "temperature": "temp",
    "repetition_penalty": "penalty",
    "max_new_tokens": "max",
    "min_new_tokens": "min",
}
_NUMBER = re.compile(r"[-+.\d\N{MINUS SIGN}]")
_DEFAULT_WORDS = (RESET, "既定", "既定値", "デフォルト")
_LANGUAGES = {"english": "en", "英語": "en", "japanese": "ja", "日本語": "ja"}


def variants_in(text: str) -> list[str]:
    """The words of /compare, each of which `change_in` takes: a blank ends one, a comma or "=" joins."""
    words: list[str] = []
    for typed in re.sub(r"[,、]\s*", ",", re.sub(r"\s*=\s*", "=", folded(text))).split():
        if words and _is_setting(words[-1].rpartition(",")[2]):  # NAME VALUE
            words[-1] += f"={typed}"
        elif words and words[-1].endswith(","):
            words[-1] += typed
        else:
            words.append(typed)
    return [word.strip(",") for word in words if word.strip(",")]


def _is_setting(typed: str) -> bool:
    with suppress(BchatError):
        return bool(decoding.resolve_name(typed))
    return False


def change_in(text: str, presets: Mapping[str, Preset]) -> SettingsChange:
    """Read `creative temperature=0.7`: a preset anywhere among settings as `settings_in` reads them."""
    preset = ""
    settings: list[str] = []
    words = _words_of(text)
    for before, each in pairwise(["", *words]):
        name, _, value = each.rpartition("=")
        is_of_setting = name not in ("", "preset") or _is_setting(each) or _is_setting(before)
        if is_of_setting or (settings and _NUMBER.match(each)):
            settings.append(each)
        elif preset:
            raise BchatError("command.one-value", status=ExitStatus.USAGE, name="preset", value=shortened(each))
        else:
            preset = _preset_of(value, presets)
    return SettingsChange(preset, settings_in(" ".join(settings)))


def _preset_of(typed: str, presets: Mapping[str, Preset]) -> str:
    with suppress(BchatError):
        return find_preset(presets, typed).name
    suggestion = messages.did_you_mean(typed.lower(), [*presets, *RANGES])
    known = ", ".join(presets)
    raise BchatError(
        "command.no-choice", status=ExitStatus.USAGE, name=shortened(typed), suggestion=suggestion, known=known
    )


def _words_of(text: str) -> list[str]:
    return re.sub(r"\s*=\s*", "=", re.sub("[,、]", " ", folded(text))).split()


def settings_in(text: str) -> dict[str, Any]:
    """`temperature=0.7,top_p 0.9` as {name: value}, checked; "default" stands for a reset. Full-width is accepted."""
    words = _words_of(text)
    changes: dict[str, Any] = {}
    name = ""
    while words:
        if name and _NUMBER.match(words[0]):  # no setting begins like a number
            raise BchatError("command.one-value", status=ExitStatus.USAGE, name=name, value=shortened(words[0]))
        name, equals, value = words.pop(0).partition("=")
        name = decoding.resolve_name(name)
        if not equals:
            if not words:
                raise BchatError("command.value-missing", status=ExitStatus.USAGE, name=name)
            value = words.pop(0)
        changes[name] = RESET if value.lower() in _DEFAULT_WORDS else decoding.checked(name, value)
    return changes


def show_all(app: App, argument: str) -> Action:
    """/settings"""
    head = tuple(app.text(Phrase(f"heading.{key}")) for key in ("setting", "value", "range", "layer"))
    app.show_rows([head, *(setting_row(app, name) for name in RANGES)])
    return None


def set_some(app: App, argument: str) -> Action:
    """/set"""
    changes = settings_in(argument)
    if not changes:
        return show_all(app, "")
    app.session.change(app.session.settings.with_change(SettingsChange(values=changes)))
    app.show_rows([setting_row(app, name) for name in changes])
    return None


def one(name: str) -> Callable[[App, str], Action]:
    """/temperature and the others: without a value, what it is and does."""

    def run(app: App, argument: str) -> Action:
        if not argument:
            return explain(app, name)
        return set_some(app, f"{name} {folded(argument).lstrip().removeprefix('=')}")

    return run


def explain(app: App, name: str) -> Action:
    """One setting: its value, its range, and what it does."""
    app.show_rows([setting_row(app, name)])
    app.say(Phrase(f"parameter.{name}"))
    return None


def setting_row(app: App, name: str) -> tuple[str, ...]:
    settings = app.session.settings
    value = getattr(settings.parameters, name)
    span = RANGES[name]
    high = "2^63-1" if span.high == 2**63 - 1 else _number(span.high)
    return name, _shown(app, value), f"{_number(span.low)} – {high}", _layer(app, settings, name)


def _shown(app: App, value: float | None) -> str:
    return app.text(Phrase("value.fresh")) if value is None else _number(value)


def _number(value: float) -> str:
    """All of it: what is shown is what is in force."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _layer(app: App, settings: Settings, name: str) -> str:
    """Where a value came from: bchat's own layers by their sentence, a file or a preset by its name."""
    label = settings.provenance[name]
    if label in (config.DEFAULT, config.ENVIRONMENT, config.OPTION, config.SESSION):
        return app.text(Phrase(f"layer.{label}"))
    preset = settings.presets.get(label.removeprefix(config.PRESET))
    if label.startswith(config.PRESET) and preset and (source := preset.sources.get(name)):
        return f"{label} ({source})"
    return label


def recorded_otherwise(parameters: DecodingParameters, recorded: object) -> str:
    """The settings of a recorded reply that are not those in force, as /set takes them; "" for none.

    The seed is left out, a reply's own; so is what a file may hold and no setting can be.
    """
    differing: list[str] = []
    values = recorded if isinstance(recorded, Mapping) else {}
    for name in RANGES:
        if name == "seed" or name not in values:
            continue
        with suppress(BchatError):
            value = decoding.checked(name, values[name])
            if value != getattr(parameters, name):
                differing.append(f"{name}={_number(value)}")
    return " ".join(differing)


def choose_preset(app: App, argument: str) -> Action:
    """/preset"""
    if not argument:
        app.show_rows(preset_rows(app.config, app.lang, chosen=app.session.settings.preset))
        return None
    before = app.session.settings
    after = before.with_preset(word(argument))
    app.session.change(after)
    if replaced := _replaced(app, before, after):
        app.say(Phrase("preset.replaced", name=after.preset, values=", ".join(replaced)))
    else:
        app.say(Phrase("preset.chosen", name=after.preset))
    return None


def _replaced(app: App, before: Settings, after: Settings) -> list[str]:
    """The values that a preset took the place of and that somebody had set: a preset's or a default was nobody's."""
    return [
        f"{name} {_shown(app, value)} ({_layer(app, before, name)})"
        for name, value in vars(before.parameters).items()
        if value != getattr(after.parameters, name)
        and before.provenance[name] != config.DEFAULT
        and not before.provenance[name].startswith(config.PRESET)
    ]


def preset_rows(config: Config, lang: str, chosen: str = "") -> Rows:
    """Every preset: its name, what it sets, what it is for."""
    return [
        (
            f"{'*' if preset.name == chosen else ' '} {preset.name}",
            " ".join(
                f"{_ABBREVIATED.get(name, name)}={'random' if value is None else _number(value)}"
                for name, value in preset.values.items()
            ),
            preset.describe(lang),
        )
        for preset in config.presets.values()
    ]


def choose_language(app: App, argument: str) -> Action:
    """/lang"""
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
