"""Commands for the beginning of a reply: /continue, /begin and /branch."""

from __future__ import annotations

from bilingual_chat.commands.app import Action, App, Branch, Continue
from bilingual_chat.commands.arguments import folded, parse_change, parse_number, shortened, unquoted, word
from bilingual_chat.commands.tokens import percent, token_text
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.beginning import CANDIDATES, Candidate
from bilingual_chat.session.model import Model


def continue_reply(app: App, argument: str) -> Action:
    """/continue: continue the last reply where it ended, with a change of settings for this time."""
    app.session.require_reply()
    return Continue(parse_change(argument, app.session.settings.presets))


def begin(app: App, argument: str) -> Action:
    """/begin: set or remove the first words of each reply; without an argument, show them. Quotes keep spaces."""
    session = app.session
    if not argument:
        app.say(Phrase("begin.set", text=session.begin) if session.begin else Phrase("begin.none"))
        return None
    session.begin_with("" if word(argument) in ("none", "off", "なし") else unquoted(argument))
    app.say(Phrase("begin.set", text=session.begin) if session.begin else Phrase("begin.removed"))
    return None


def branch(app: App, argument: str) -> Action:
    """/branch: continue from another token of the last reply; without a candidate, list those of the token."""
    first, *rest = folded(argument).split()
    number = parse_number(first, 10**6)
    rank = parse_number(rest[0], CANDIDATES) if rest else None
    if number is None or len(rest) > 1 or (rest and rank is None):
        raise BchatError("branch.usage", status=ExitStatus.USAGE, value=shortened(argument), most=CANDIDATES)
    if rank is not None:
        app.session.require_reply()
        return Branch(number, rank)
    candidates, model = app.session.candidates(number), app.session.model()
    app.show_rows([_row(app, rank, each, model) for rank, each in enumerate(candidates, start=1)])
    app.say(Phrase("branch.choose", number=number))
    return None


def _row(app: App, rank: int, candidate: Candidate, model: Model) -> tuple[str, ...]:
    return str(rank), token_text(app, candidate.token_id, model), percent(candidate.probability)
