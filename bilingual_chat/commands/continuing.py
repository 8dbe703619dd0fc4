"""Commands for the beginning of a reply: /continue and /begin."""

from __future__ import annotations

from bilingual_chat.commands.app import Action, App, Continue
from bilingual_chat.commands.arguments import parse_change, unquoted, word
from bilingual_chat.messages import Phrase


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
