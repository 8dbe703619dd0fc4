"""Commands for the current conversation."""

from __future__ import annotations

from collections.abc import Iterable

from bilingual_chat.commands.app import Action, App, Edit, Leave, Retry
from bilingual_chat.commands.arguments import parse_change, parse_number, shortened, word
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.persona import persona, remark_on_persona
from bilingual_chat.text.conversation import FinishReason


def change_persona(app: App, argument: str) -> Action:
    """/persona: set or remove the persona; without an argument, show it."""
    session = app.session
    if not argument:
        if session.conversation.opening:
            app.show("\n".join(utterance.text for utterance in session.conversation.opening))
        else:
            app.say(Phrase("persona.none"))
        return None
    opening = () if word(argument) in ("none", "off", "なし") else persona(argument)
    if opening and session.format.kind == "plain":
        raise BchatError("persona.base", status=ExitStatus.USAGE, name=session.entry.name)
    session.open_with(opening)
    app.say(Phrase("persona.set" if opening else "persona.removed"))
    if remark := remark_on_persona(session.entry, opening):
        app.say(remark)
    return None


def undo(app: App, argument: str) -> Action:
    """/undo: undo the last /retry or choice, else the last turn; with a number, that many turns."""
    turns = len(app.session.conversation.turns)
    if not argument and app.session.step_back():
        app.say(Phrase("undo.reply", number=(app.session.chosen or 0) + 1, of=len(app.session.replies)))
        return None
    count = _count(argument, turns) if argument else 1
    for _ in range(count):
        turn = app.session.undo()
        whole = turn.user + turn.reply if app.session.is_completing else turn.user
        app.say(Phrase("undo.done", text=shortened(whole)))
    return None


def _count(argument: str, turns: int) -> int:
    if (count := parse_number(argument, turns)) is not None:
        return count
    if not turns:
        raise BchatError("session.nothing-to-undo", status=ExitStatus.USAGE)
    raise BchatError("undo.count", status=ExitStatus.USAGE, value=shortened(argument), turns=turns)


def retry(app: App, argument: str) -> Action:
    """/retry: answer the last message again."""
    change = parse_change(argument, app.session.settings.presets)
    app.session.last_message  # noqa: B018  # raises if there is no message
    return Retry(change)


def edit(app: App, argument: str) -> Action:
    """/edit: edit the last message."""
    last = app.session.last_message
    if not app.reader.has_editor:
        app.say(Phrase("edit.next-line"))
    return Edit(last, replaces_last=app.session.pending is None)


def clear(app: App, argument: str) -> Action:
    """/clear: start a new conversation."""
    app.session.clear()
    app.say(Phrase("clear.done"))
    return None


def show_history(app: App, argument: str) -> Action:
    """/history: show the conversation."""
    conversation = app.session.conversation
    if not conversation.utterances():
        app.say(Phrase("history.empty"))
        return None
    if app.session.is_completing:
        app.show(app.session.text)
        return None
    format = app.session.format
    lines = [f"{format.label(utterance.speaker)}: {utterance.text}" for utterance in conversation.opening]
    for number, turn in enumerate(conversation.turns, start=1):
        user, reply = turn.utterances()
        notes = [] if turn.finish is FinishReason.STOP else [app.text(Phrase(f"finish.{turn.finish.value}"))]
        if turn.others:
            notes.append(app.text(Phrase("history.reply", number=turn.index + 1, of=len(turn.replies))))
        mark = "".join(f"  [{note}]" for note in notes)
        lines.append(f"[{number}] {format.label(user.speaker)}: {user.text}")
        lines.append(f"{format.label(reply.speaker)}: {reply.text}{mark}")
    app.show("\n".join(lines))
    return None


def show_prompt(app: App, argument: str) -> Action:
    """/prompt: show the exact prompt, or with `ids` its token ids."""
    first, *rest = argument.split(maxsplit=1) if argument else ("",)
    wants_ids = word(first) == "ids"
    prompt = app.session.prompt_for("".join(rest) if wants_ids else argument)
    app.show(" ".join(map(str, prompt.ids)) if wants_ids else prompt.text)
    app.say(
        Phrase(
            "prompt.counts",
            tokens=len(prompt.ids),
            context=app.session.model().context_length,
            characters=len(prompt.text),
            dropped=prompt.dropped_turns,
        )
    )
    if prompt.dropped_characters:
        app.say(Phrase("session.cut", count=prompt.dropped_characters))
    return None


def leave(app: App, argument: str) -> Action:
    """/exit: leave the chat."""
    return Leave()


def ids_choice(app: App, typed: str) -> Iterable[tuple[str, str]]:
    return [("ids", app.text(Phrase("prompt.ids")))]
