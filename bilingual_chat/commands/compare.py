"""Commands that compare settings: /compare, and /take to keep a reply."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from math import log10, prod

from bilingual_chat.commands.app import Action, App, Compare, Differences, Retry
from bilingual_chat.commands.arguments import (
    is_number,
    parse_change,
    parse_number,
    shortened,
    split_variants,
)
from bilingual_chat.commands.replies import choose
from bilingual_chat.commands.settings import preset_choices, setting_choices
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.compare import MAX_REPLIES, Variant
from bilingual_chat.settings import decoding
from bilingual_chat.settings.config import Settings, SettingsChange

DEFAULT_VARIANTS = ["calm", "balanced", "creative"]
DIFF = "--diff"
SEEDS = "seeds"
FRESH_SEEDS = 10_000  # few digits, since they are shown in labels


def compare(app: App, argument: str) -> Action:
    """/compare: answer under several settings. Variants without a seed share one.

    A word is a preset, or settings joined by commas. Settings with several values are combined with each other and
    with the other words: `calm creative temperature=0.3,1 seeds=2` asks for 8 replies. `--diff` marks differences;
    alone, those of the last comparison.
    """
    message = app.session.last_message
    words = split_variants(argument)
    marks_differences = DIFF in words
    words = [each for each in words if each != DIFF]
    if marks_differences and not words and (shown := _last_comparison(app)):
        return shown
    settings = app.session.settings
    seed = settings.parameters.seed if settings.parameters.seed is not None else secrets.randbelow(FRESH_SEEDS)
    compared = tuple(_variant(settings, each, seed) for each in _combined(words or DEFAULT_VARIANTS, seed))
    _check_count(len(compared), least=2)  # after the words, whose errors say more
    app.compared = compared
    app.compared_words = message
    return Compare(app.compared, marks_differences)


def _combined(words: list[str], seed: int) -> list[str]:
    """Return the variants that `words` ask for, each as settings joined by commas."""
    alternatives, axes = list[str](), list[list[str]]()
    for word in words:
        values = _values(word, seed)
        _check_count(prod(map(len, values)))
        combinations = [",".join(each) for each in product(*values)]
        if len(combinations) > 1 and not any(_is_preset(each) for each, *_ in values):
            axes.append(combinations)
        else:
            alternatives += combinations
    _check_count(prod([len(alternatives) or 1, *map(len, axes)]))
    return [",".join(each) for each in product(*([alternatives] if alternatives else []), *axes)]


def _is_preset(part: str) -> bool:
    return part.partition("=")[0].lower() in (part.lower(), "preset")


def _check_count(count: int, least: int = 0) -> None:
    if not least <= count <= MAX_REPLIES:
        shown = count if count < 10**6 else f"1e{int(log10(count))}"
        raise BchatError("compare.count", status=ExitStatus.USAGE, count=shown, most=MAX_REPLIES)


def _values(word: str, seed: int) -> list[list[str]]:
    """Return each part of a word with its values: `calm,top_p=0.5,0.9` has `calm`, and `top_p=0.5` or `top_p=0.9`."""
    groups: list[list[str]] = []
    for part in word.split(","):
        is_value = "=" not in part and is_number(part)
        if is_value and groups and "=" in groups[-1][0]:
            groups[-1].append(f"{groups[-1][0].partition('=')[0]}={part}")
        else:
            groups.append([part])
    return [_seeds(group, seed) if group[0].lower().startswith(f"{SEEDS}=") else group for group in groups]


def _seeds(group: list[str], first: int) -> list[str]:
    """Return the seeds of `seeds=4` (the first four from `first` on) or of `seeds=1,7,9`."""
    numbers = [decoding.checked("seed", each.partition("=")[2]) or 0 for each in group]
    if len(numbers) == 1:
        _check_count(numbers[0], least=1)
        numbers = [(first + step) % 2**63 for step in range(numbers[0])]
    return [f"seed={number}" for number in numbers]


def _variant(settings: Settings, text: str, seed: int) -> Variant:
    change = parse_change(text, settings.presets)
    parameters = settings.with_change(change).parameters
    if parameters.seed is None:
        parameters = replace(parameters, seed=seed)
    return Variant(text.replace(",", " "), parameters, change.preset)


def _last_comparison(app: App) -> Differences | None:
    """Return the replies of the last comparison, if all of them are replies to the last message."""
    if not app.compared or app.session.last_message != app.compared_words:
        return None
    indices = [_find_reply(app, each) for each in app.compared]
    texts = [app.session.replies[index].reply for index in indices if index is not None]
    return Differences(tuple(texts), tuple(each.label for each in app.compared)) if len(texts) == len(indices) else None


def _find_reply(app: App, variant: Variant) -> int | None:
    """Return the index of the whole reply to the last message that has the variant's settings."""
    settings = decoding.as_record(variant.parameters)
    found = (i for i, reply in enumerate(app.session.replies) if reply.details.get("settings") == settings)
    return next((index for index in found if app.session.replies[index].is_whole), None)


def take(app: App, argument: str) -> Action:
    """/take: keep a compared reply. One that was generated in part only is generated again."""
    if not app.compared or app.session.last_message != app.compared_words:
        raise BchatError("take.nothing", status=ExitStatus.USAGE)
    number = parse_number(argument, len(app.compared))
    if number is None:
        raise BchatError("take.number", status=ExitStatus.USAGE, value=shortened(argument), most=len(app.compared))
    variant = app.compared[number - 1]
    index = _find_reply(app, variant)
    if index is not None:
        choose(app, index)
        return None
    app.say(Phrase("take.anew"))
    return Retry(SettingsChange(variant.preset, vars(variant.parameters)))


def compare_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    names = [(f"{name}=", said) for name, said in setting_choices(app, typed) if name in decoding.RANGES]
    return [*preset_choices(app, typed), *names]


def comparison_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    own = [(f"{SEEDS}=", app.text(Phrase("compare.seeds"))), (DIFF, app.text(Phrase("compare.diff")))]
    return [*compare_choices(app, typed), *own]


def take_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    return [(str(number), each.label) for number, each in enumerate(app.compared, start=1)]
