"""Commands for the replies to the last message: /replies and /last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bilingual_chat.commands.app import Action, App
from bilingual_chat.commands.arguments import parse_number, shortened
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding
from bilingual_chat.text.conversation import FinishReason, Turn

_SHOWN = 60  # characters of a reply in the list


def replies(app: App, argument: str) -> Action:
    """/replies: choose a reply to the last message; without a number, list them and flip through them."""
    known = app.session.replies
    app.session.last_message  # noqa: B018  # raises if there is no message
    if not known:
        raise BchatError("replies.none", status=ExitStatus.USAGE)
    if not argument:
        app.show_rows([_row(app, known, index) for index in range(len(known))])
        if len(known) > 1 and app.reader.has_editor:
            index = app.reader.flip(
                len(known), lambda at: _page(app, known, at), app.session.chosen or 0, app.text(Phrase("replies.keys"))
            )
            if index is not None and index != app.session.chosen:
                choose(app, index)
        else:
            app.say(Phrase("replies.choose" if len(known) > 1 else "replies.only"))
        return None
    number = parse_number(argument, len(known))
    if number is None:
        raise BchatError("replies.number", status=ExitStatus.USAGE, value=shortened(argument), most=len(known))
    choose(app, number - 1)
    return None


def choose(app: App, index: int) -> None:
    """Make a reply to the last message the current one, and show it."""
    turn = app.session.choose(index)
    if turn.reply:
        app.show(turn.reply)
    app.say(Phrase("replies.chosen", number=index + 1, of=len(app.session.replies)))


def _page(app: App, known: tuple[Turn, ...], index: int) -> str:
    """Return a whole reply below its row of the list."""
    number, settings, _ = _row(app, known, index)
    heading = app.text(Phrase("replies.page", number=number.strip(), of=len(known), settings=settings))
    return f"{heading}\n{known[index].reply}"


def _row(app: App, known: tuple[Turn, ...], index: int) -> tuple[str, ...]:
    turn = known[index]
    mark = "*" if index == app.session.chosen else " "
    settings = " ".join(filter(None, [_text(turn.details.get("preset")), *_varied(known, turn)]))
    notes = [] if turn.finish is FinishReason.STOP else [app.text(Phrase(f"finish.{turn.finish.value}"))]
    same = next((n for n, other in enumerate(known[:index], start=1) if other.reply == turn.reply), None)
    if same is not None:
        notes.append(app.text(Phrase("replies.same", number=same)))
    message = f"{shortened(turn.user, _SHOWN // 2)} → " if len({each.user for each in known}) > 1 else ""
    reply = shortened(turn.reply, _SHOWN) + "".join(f"  [{note}]" for note in notes)
    return f"{mark} {index + 1}", settings, message + reply


def _varied(known: tuple[Turn, ...], turn: Turn) -> Iterable[str]:
    """Yield the settings in which replies under one preset differ, and the seed."""
    alike = [each.details for each in known if each.details.get("preset") == turn.details.get("preset")]
    own = _mapping(turn.details, "settings")
    for name in decoding.RANGES:
        values = {_text(_mapping(each, "settings").get(name)) for each in alike}
        if name != "seed" and name in own and len(values) > 1:
            yield f"{name}={decoding.format_value(own[name])}"
    if turn.details.get("seed") is not None:
        yield f"seed={turn.details['seed']}"


def last(app: App, argument: str) -> Action:
    """/last: show how the last reply was generated."""
    turns = app.session.conversation.turns
    if not turns:
        raise BchatError("session.nothing-to-undo", status=ExitStatus.USAGE)
    app.show_rows([(app.text(Phrase(f"last.{name}")), value) for name, value in _facts(app, turns[-1]) if value])
    return None


def _facts(app: App, turn: Turn) -> Iterable[tuple[str, str]]:
    """Yield the recorded facts of a reply. They may come from a file, so any value may be there."""
    details, usage, timings = turn.details, _mapping(turn.details, "usage"), _mapping(turn.details, "timings")
    settings = _mapping(details, "settings")
    if len(turn.replies) > 1:
        yield "number", f"{turn.index + 1}/{len(turn.replies)}"
    yield "model", " · ".join(filter(None, (_text(details.get(key)) for key in ("model", "precision", "device"))))
    yield "preset", _text(details.get("preset"))
    yield (
        "settings",
        " ".join(
            f"{name}={decoding.format_value(settings[name])}"
            for name in decoding.RANGES
            if name != "seed" and name in settings and decoding.is_shown(name, settings[name])
        ),
    )
    filters = details.get("filters")
    yield "filters", " > ".join(map(str, filters)) if isinstance(filters, list) else ""
    yield "seed", _text(details.get("seed", settings.get("seed")))
    if "prompt_tokens" in usage:
        values = {"tokens": _text(usage["prompt_tokens"]), "cached": _text(usage.get("cached_tokens", 0))}
        yield "prompt", app.text(Phrase("last.prompt-tokens", **values))
    generated = details.get("reply_ids")  # also those before /continue
    tokens = len(generated) if isinstance(generated, Sequence) else usage.get("completion_tokens")
    if tokens is not None:
        yield "reply", app.text(Phrase("last.reply-tokens", tokens=_text(tokens)))
    yield "begin", shortened(_text(details.get("begin")), _SHOWN)
    if isinstance(parts := details.get("parts"), Sequence):
        yield "parts", app.text(Phrase("last.continued", count=len(parts)))
    yield "first", _number(timings.get("first_token_s"), "s")
    yield "speed", _number(timings.get("tokens_per_second"), "tok/s")
    yield "finish", app.text(Phrase(f"finish.{turn.finish.value}"))


def _mapping(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return "" if value is None else f"{value:.15g}" if isinstance(value, float) else str(value)


def _number(value: object, unit: str) -> str:
    return f"{value:.3g} {unit}" if isinstance(value, int | float) else ""


def reply_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    return [(str(number), shortened(turn.reply)) for number, turn in enumerate(app.session.replies, start=1)]
