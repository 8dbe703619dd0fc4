"""Commands about the conversation in force."""

from __future__ import annotations

from collections.abc import Iterable

from bilingual_chat.commands.desk import Action, Desk, Edit, Leave, Retry, number_in, shortened, word
from bilingual_chat.commands.settings import changes_in
from bilingual_chat.conversation import FinishReason
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase
from bilingual_chat.session import persona, remark_on_persona


def change_persona(desk: Desk, argument: str) -> Action:
    """/persona"""
    session = desk.session
    if not argument:
        if session.conversation.opening:
            desk.show("\n".join(utterance.text for utterance in session.conversation.opening))
        else:
            desk.say(Phrase("persona.none"))
        return None
    opening = () if word(argument) in ("none", "off", "なし") else persona(argument)
    if opening and session.format.kind == "plain":
        raise BchatError("persona.base", status=ExitStatus.USAGE, name=session.entry.name)
    session.open_with(opening)
    desk.say(Phrase("persona.set" if opening else "persona.removed"))
    if remark := remark_on_persona(session.entry, opening):
        desk.say(remark)
    return None


def undo(desk: Desk, argument: str) -> Action:
    """/undo: a number takes back that many turns; without one, a reply that was asked for again goes first."""
    turns = len(desk.session.conversation.turns)
    if not argument and desk.session.step_back():
        desk.say(Phrase("undo.reply", number=(desk.session.chosen or 0) + 1, of=len(desk.session.replies)))
        return None
    count = _count(argument, turns) if argument else 1
    for _ in range(count):
        turn = desk.session.undo()
        whole = turn.user + turn.reply if desk.session.is_completing else turn.user
        desk.say(Phrase("undo.done", text=shortened(whole)))
    return None


def _count(argument: str, turns: int) -> int:
    if (count := number_in(argument, turns)) is not None:
        return count
    if not turns:
        raise BchatError("session.nothing-to-undo", status=ExitStatus.USAGE)
    raise BchatError("undo.count", status=ExitStatus.USAGE, value=shortened(argument), turns=turns)


def retry(desk: Desk, argument: str) -> Action:
    """/retry"""
    changes = changes_in(argument, desk.session.settings.presets)
    desk.session.last_words  # noqa: B018  # refuses where there are none
    return Retry(changes)


def edit(desk: Desk, argument: str) -> Action:
    """/edit"""
    last = desk.session.last_words
    if not desk.has_line:
        desk.say(Phrase("edit.next-line"))
    return Edit(last, replaces_last=desk.session.pending is None)


def clear(desk: Desk, argument: str) -> Action:
    """/clear"""
    desk.session.clear()
    desk.say(Phrase("clear.done"))
    return None


def show_history(desk: Desk, argument: str) -> Action:
    """/history"""
    conversation = desk.session.conversation
    if not conversation.utterances():
        desk.say(Phrase("history.empty"))
        return None
    if desk.session.is_completing:
        desk.show(desk.session.text)
        return None
    format = desk.session.format
    lines = [f"{format.label(utterance.speaker)}: {utterance.text}" for utterance in conversation.opening]
    for number, turn in enumerate(conversation.turns, start=1):
        user, reply = turn.utterances()
        whole = turn.finish is FinishReason.STOP
        mark = "" if whole else f"  [{desk.text(Phrase(f'finish.{turn.finish.value}'))}]"
        lines.append(f"[{number}] {format.label(user.speaker)}: {user.text}")
        lines.append(f"{format.label(reply.speaker)}: {reply.text}{mark}")
    desk.show("\n".join(lines))
    return None


def show_prompt(desk: Desk, argument: str) -> Action:
    """/prompt"""
    first, *rest = argument.split(maxsplit=1) if argument else ("",)
    wants_ids = word(first) == "ids"
    shown = desk.session.prompt_for("".join(rest) if wants_ids else argument)
    desk.show(" ".join(map(str, shown.ids)) if wants_ids else shown.text)
    desk.say(
        Phrase(
            "prompt.counts",
            tokens=len(shown.ids),
            context=desk.session.model().context_length,
            characters=len(shown.text),
            dropped=shown.dropped_turns,
        )
    )
    if shown.dropped_characters:
        desk.say(Phrase("session.cut", count=shown.dropped_characters))
    return None


def leave(desk: Desk, argument: str) -> Action:
    """/exit"""
    return Leave()


def ids_choice(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [("ids", desk.text(Phrase("prompt.ids")))]
