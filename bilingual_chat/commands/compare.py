"""Commands that hold settings side by side: /compare, and /take for the reply that pleased."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import asdict, replace

from bilingual_chat import decoding
from bilingual_chat.commands.desk import Action, Compare, Desk, Retry, folded, shortened, word
from bilingual_chat.commands.settings import preset_choices, setting_choices, settings_in
from bilingual_chat.config import Settings
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.explore import MOST, Variant
from bilingual_chat.messages import Phrase

USUAL = ("calm", "balanced", "creative")


def compare(desk: Desk, argument: str) -> Action:
    """/compare: each word is a preset, or settings joined by commas. One seed for all that name none."""
    answered = desk.session.last_words
    words = folded(argument).split() or list(USUAL)
    if not 2 <= len(words) <= MOST:
        raise BchatError("compare.count", status=ExitStatus.USAGE, count=len(words), most=MOST)
    settings = desk.session.settings
    seed = settings.parameters.seed if settings.parameters.seed is not None else secrets.randbelow(2**32)
    desk.compared = tuple(_variant(settings, each, seed) for each in words)
    desk.compared_whole = []
    desk.compared_words = answered
    return Compare(desk.compared)


def _variant(settings: Settings, text: str, seed: int) -> Variant:
    preset = ""
    if "=" not in text:
        settings = settings.with_preset(text)
        preset = settings.preset
    else:
        for name, value in settings_in(text.replace(",", " ")).items():
            settings = settings.changed(name, value)
    parameters = settings.parameters
    return Variant(text, parameters if parameters.seed is not None else replace(parameters, seed=seed), preset)


def take(desk: Desk, argument: str) -> Action:
    """/take: the reply of that number becomes the conversation's, made again from its settings and seed."""
    typed = word(argument)
    if not desk.compared or desk.session.last_words != desk.compared_words:
        raise BchatError("take.nothing", status=ExitStatus.USAGE)
    if not (typed.isascii() and typed.isdecimal() and 1 <= int(typed[:9]) <= len(desk.compared)):
        raise BchatError("take.number", status=ExitStatus.USAGE, value=shortened(argument), most=len(desk.compared))
    taken = desk.compared[int(typed) - 1]
    if taken not in desk.compared_whole:  # Ctrl-C: what follows is longer than what was seen
        desk.say(Phrase("take.anew"))
    return Retry(asdict(taken.parameters) | ({"preset": taken.preset} if taken.preset else {}))


def compare_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    names = [(f"{name}=", said) for name, said in setting_choices(desk, typed) if name in decoding.RANGES]
    return [*preset_choices(desk, typed), *names]


def take_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [(str(number), each.label) for number, each in enumerate(desk.compared, start=1)]
