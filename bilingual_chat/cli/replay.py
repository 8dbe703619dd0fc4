"""`bchat replay`: generates recorded replies again, and says whether they are the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, groupby
from typing import Any, get_args

from bilingual_chat.cli.options import Options
from bilingual_chat.cli.startup import Startup, prepare
from bilingual_chat.engines.protocol import DtypeName, OpenOptions, QuantizeName
from bilingual_chat.explore.recorded import Recorded, read_recorded
from bilingual_chat.explore.replay import Token, Verdict, replay
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import open_model
from bilingual_chat.storage import paths
from bilingual_chat.terminal.display import Display


def run(options: Options, display: Display, path: str, *, is_check: bool) -> int:
    """Replay what `path` records; with `is_check`, print only what differs. Return the exit status."""
    damaged: list[int] = []
    replies = read_recorded(paths.expand(path), damaged.append)
    if damaged:
        display.say(Phrase("replay.skipped", count=len(damaged), path=path, first=damaged[0]))
    verdicts: list[Verdict] = []
    for _, group in groupby(replies, key=lambda each: (each.model, each.facts.get("precision"))):
        verdicts += _replay(list(group), options, display)
    for verdict in verdicts:
        if not (is_check and verdict.is_identical):
            display.put(display.text(_sentence(verdict)))
            for line in _facts(verdict):
                display.put("  " + display.text(line))
    same = sum(verdict.is_identical for verdict in verdicts)
    display.say(Phrase("replay.summary", same=same, count=len(verdicts)))
    return ExitStatus.OK if same == len(verdicts) and not damaged else ExitStatus.DATA


def _replay(replies: list[Recorded], options: Options, display: Display) -> list[Verdict]:
    """Replay the replies of one model."""
    startup = _startup(replies[0].model, options, display)
    precision = "" if options.quantize else replies[0].facts.get("precision", "")
    model = open_model(startup.entry, _with_precision(startup.open_options, precision))
    numbers = count(1)

    def report() -> None:
        display.doing(Phrase("replay.progress", done=next(numbers), size=len(replies)))

    try:
        return replay(replies, model, report if display.is_terminal else lambda: None)
    finally:
        if display.is_terminal:
            display.doing(None)


def _startup(name: str, options: Options, display: Display) -> Startup:
    """Resolve the options, with the recorded model unless another is named."""
    try:
        return prepare(replace(options, model=options.model or name or None), display)
    except BchatError as error:
        if options.model or error.key != "model.unknown":
            raise
        raise BchatError("replay.model", status=ExitStatus.MODEL, name=name) from None


def _with_precision(options: OpenOptions, precision: str) -> OpenOptions:
    """Return the options that open a model in the recorded precision; an unknown one changes nothing."""
    known: Any = precision  # a member of one of these
    if known in get_args(DtypeName):
        return replace(options, quantize="none", dtype=known)
    return replace(options, quantize=known) if known in get_args(QuantizeName) else options


def _sentence(verdict: Verdict) -> Phrase:
    where, difference = verdict.reply.where, verdict.difference
    if difference is not None:
        sides = {"recorded": _token(difference.recorded), "now": _token(difference.now)}
        return Phrase("replay.differs", where=where, number=difference.number, **sides)
    if verdict.problem is not None:
        return Phrase("replay.problem", where=where, problem=verdict.problem)
    has_ids = all(each.ids is not None for each in verdict.reply.segments)
    return Phrase("replay.identical" if has_ids else "replay.same-text", where=where, tokens=verdict.tokens)


def _token(token: Token) -> Phrase:
    if token.text is None:
        return Phrase("replay.end")
    known = {
        name: f"{100 * value:.3g}" if value >= 0.00001 else "< 0.001"
        for name, value in (("then", token.then), ("now", token.now))
        if value is not None
    }
    keys = {("then", "now"): "replay.token-both", ("then",): "replay.token-then", ("now",): "replay.token-now"}
    return Phrase(keys.get(tuple(known), "replay.token"), text=token.text, **known)


def _facts(verdict: Verdict) -> list[Phrase]:
    """Return what else is not as it was recorded."""
    if verdict.is_identical:
        return []
    facts = [Phrase("replay.fact", name=name, recorded=old, now=new) for name, old, new in verdict.facts]
    if verdict.difference is not None and not facts:
        is_alone = verdict.reply.width == 1 or verdict.reply.facts.get("kernel") == "native"
        return [Phrase("replay.no-fact") if is_alone else Phrase("replay.batch", width=verdict.reply.width)]
    return facts
