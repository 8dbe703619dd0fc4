"""Commands that compare settings: /compare, and /take to keep a reply."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import asdict, replace

from bilingual_chat.commands.app import Action, App, Compare, Retry
from bilingual_chat.commands.arguments import parse_change, parse_number, shortened, split_variants
from bilingual_chat.commands.replies import choose
from bilingual_chat.commands.settings import preset_choices, setting_choices
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.compare import MOST, Variant
from bilingual_chat.settings import decoding
from bilingual_chat.settings.config import Settings, SettingsChange

USUAL = ("calm", "balanced", "creative")


def compare(app: App, argument: str) -> Action:
    """/compare: each word is a preset, or settings joined by commas. Variants without a seed share one."""
    message = app.session.last_message
    words = split_variants(argument) or list(USUAL)
    if not 2 <= len(words) <= MOST:
        raise BchatError("compare.count", status=ExitStatus.USAGE, count=len(words), most=MOST)
    settings = app.session.settings
    seed = settings.parameters.seed if settings.parameters.seed is not None else secrets.randbelow(2**32)
    app.compared = tuple(_variant(settings, each, seed) for each in words)
    app.compared_words = message
    return Compare(app.compared)


def _variant(settings: Settings, text: str, seed: int) -> Variant:
    change = parse_change(text, settings.presets)
    parameters = settings.with_change(change).parameters
    return Variant(text, parameters if parameters.seed is not None else replace(parameters, seed=seed), change.preset)


def take(app: App, argument: str) -> Action:
    """/take: keep a compared reply. One that was generated in part only is generated again."""
    if not app.compared or app.session.last_message != app.compared_words:
        raise BchatError("take.nothing", status=ExitStatus.USAGE)
    number = parse_number(argument, len(app.compared))
    if number is None:
        raise BchatError("take.number", status=ExitStatus.USAGE, value=shortened(argument), most=len(app.compared))
    taken = app.compared[number - 1]
    settings = asdict(taken.parameters)
    for index, reply in enumerate(app.session.replies):
        if reply.is_whole and reply.details.get("settings") == settings:
            choose(app, index)
            return None
    app.say(Phrase("take.anew"))
    return Retry(SettingsChange(taken.preset, settings))


def compare_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    names = [(f"{name}=", said) for name, said in setting_choices(app, typed) if name in decoding.RANGES]
    return [*preset_choices(app, typed), *names]


def take_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    return [(str(number), each.label) for number, each in enumerate(app.compared, start=1)]
