"""Commands that read and write: transcripts, and models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bilingual_chat import catalogue, messages, paths
from bilingual_chat.commands.desk import Action, Desk, Edit, Rows, agrees, unquoted, word
from bilingual_chat.commands.pull import coming, named, percent_of
from bilingual_chat.commands.settings import recorded_otherwise
from bilingual_chat.commands.talk import show_history
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase
from bilingual_chat.session import remark_on_persona
from bilingual_chat.transcript import document, export, shelf
from bilingual_chat.transcript.journal import Journal, read_journal

RECENT = 15  # conversations that /resume offers


def save(desk: Desk, argument: str) -> Action:
    """/save: without a name, a file named after the conversation, so that saving it again replaces it."""
    path = _path(argument or ".")
    if path.suffix.lower() in export.FORMATS:
        raise BchatError("save.export", status=ExitStatus.USAGE, path=argument)
    if _is_directory(path):
        path /= f"bchat-{desk.session.snapshot().header.id}.json"
    if _holds_another(path, desk.session.ids) and not _agrees(desk.ask(Phrase("save.replace", path=path))):
        raise BchatError("save.another", status=ExitStatus.USAGE, path=path)
    _write(desk, path, lambda overwrite: document.write_document(path, desk.session.snapshot(), overwrite=overwrite))
    return None


def _holds_another(path: Path, ids: frozenset[str]) -> bool:
    """Whether a file of bchat's has a conversation that is neither this one nor the one this one was loaded from."""
    try:
        header = document.read_document(path).header if path.is_file() else None
    except (BchatError, OSError):
        return False
    return header is not None and bool(header.bchat) and header.id not in ids


def export_to(desk: Desk, argument: str) -> Action:
    """/export"""
    path = _path(argument)
    _write(desk, path, lambda overwrite: export.export(path, desk.session.snapshot(), overwrite=overwrite))
    return None


def _write(desk: Desk, path: Path, write: Callable[[bool], Path]) -> None:
    if not desk.session.conversation.utterances() and desk.session.pending is None:
        raise BchatError("history.nothing-to-save", status=ExitStatus.USAGE)
    try:
        written = write(False)
    except BchatError as error:
        if error.key not in ("transcript.not-ours", "transcript.exists"):
            raise
        question = "save.overwrite" if error.key == "transcript.not-ours" else "save.exists"
        if not _agrees(desk.ask(Phrase(question, path=path))):
            raise
        written = write(True)
    desk.say(Phrase("save.done", path=paths.shorten(written), turns=len(desk.session.conversation.turns)))


def load(desk: Desk, argument: str) -> Action:
    """/load"""
    loaded = document.read_document(_path(argument))
    desk.session.continue_from(loaded)
    return _tell_loaded(desk, loaded.problems)


def choose_conversation(desk: Desk, argument: str) -> Action:
    """/resume"""
    recent = _recent(desk, desk.say)
    if not recent:
        raise BchatError("resume.none", status=ExitStatus.USAGE)
    which = word(argument)
    if not which:
        rows = enumerate((summary_row(summary, desk.lang) for summary in recent), start=1)
        desk.show_rows([(str(number), *row) for number, row in rows])
        answer = word(desk.ask(Phrase("resume.which", last=len(recent))))
        which = answer.rpartition(" ")[2]  # "/resume 1" is an answer too
        if not which:
            return None
    chosen = {str(number): summary for number, summary in enumerate(recent, start=1)}
    chosen |= {summary.id.lower(): summary for summary in recent}
    if which not in chosen:
        raise BchatError("resume.unknown", status=ExitStatus.USAGE, which=which, last=len(recent))
    return resume(desk, chosen[which].path)


def resume(desk: Desk, path: Path) -> Action:
    """Go on with the conversation in this journal, or with a copy of it where another process has it."""
    try:
        journal, loaded = Journal.resume(path)
    except BchatError as error:
        if error.key not in ("transcript.locked", "transcript.not-saved"):
            raise
        loaded = read_journal(path)
        desk.session.continue_from(loaded)
        desk.say(error)
    else:
        try:
            desk.session.continue_from(loaded, journal)
        except BaseException:
            journal.close()
            raise
    return _tell_loaded(desk, loaded.problems)


def _tell_loaded(desk: Desk, problems: tuple[BchatError, ...]) -> Action:
    for problem in problems:
        desk.say(problem)
    show_history(desk, "")
    return tell_going_on(desk)


def tell_going_on(desk: Desk) -> Edit | None:
    """Say where the conversation that was read goes on; a message without a reply comes back into the line."""
    desk.say(Phrase("load.done", turns=len(desk.session.conversation.turns)))
    _tell_difference(desk)
    if remark := remark_on_persona(desk.session.entry, desk.session.conversation.opening):
        desk.say(remark)
    if desk.session.pending is None:
        return None
    desk.say(Phrase("load.pending" if desk.has_line else "load.pending-piped"))
    return Edit(desk.session.pending, replaces_last=False)


def _tell_difference(desk: Desk) -> None:
    """Settings are never changed behind a person's back; but a reply that sounds different should be no riddle."""
    session = desk.session
    recorded = session.conversation.turns[-1].details if session.conversation.turns else {}
    name = recorded.get("model")  # anything that a file may hold
    if isinstance(name, str) and name in desk.config.catalogue and name != session.entry.name:
        desk.say(Phrase("load.other-model", name=name))
    elif changes := recorded_otherwise(session.settings.parameters, recorded.get("settings")):
        desk.say(Phrase("load.other-settings", changes=changes))


def _recent(desk: Desk, report: shelf.Report) -> list[shelf.Summary]:
    current = desk.session.journal_path
    listed = shelf.list_conversations(desk.conversations, report)
    return [summary for summary in listed if summary.path != current][:RECENT]


def summary_row(summary: shelf.Summary, lang: str) -> tuple[str, ...]:
    """A conversation as one row: when, how long, with which model, its first words, and what is the matter with it."""
    mark = "damaged" if summary.problems else "open" if summary.locked else ""
    words = f"{summary.first_words}  {messages.render(f'resume.{mark}', lang)}" if mark else summary.first_words
    return f"{summary.changed:%Y-%m-%d %H:%M}", str(summary.turns), summary.model, words


def choose_model(desk: Desk, argument: str) -> Action:
    """/model"""
    session = desk.session
    if not argument:
        desk.show_rows(model_rows(desk))
        return None
    entry = named(desk, argument)
    is_whole = bool(entry.directory) and catalogue.locate(entry) is not None  # there, files are only compared
    if (percent := percent_of(desk, entry)) is not None and not is_whole:
        raise BchatError("pull.not-yet", status=ExitStatus.MODEL, name=entry.name, percent=percent)
    catalogue.require_here(entry)
    if entry != session.entry or desk.model_ready() is None:
        session.use_model(desk.load(entry), entry, session.settings.for_model(entry))
    desk.say(Phrase("model.chosen", name=entry.name, preset=session.settings.preset))
    if remark := remark_on_persona(entry, session.conversation.opening):
        desk.say(remark)
    return None


def model_rows(desk: Desk) -> Rows:
    """Every model of the catalogue: its name, whether it is on this machine or how far it is, what it is for."""
    return [
        (
            f"{'*' if name == desk.session.entry.name else ' '} {name}",
            coming(desk, entry) or desk.text(_where(entry)),
            entry.describe(desk.lang),
        )
        for name, entry in desk.config.catalogue.items()
    ]


def _where(entry: catalogue.ModelEntry) -> Phrase:
    """Whether a model is on this machine, as far as that can be seen."""
    if catalogue.locate(entry) is not None:
        return Phrase("model.here")
    return Phrase("model.absent" if catalogue.trouble(entry) is None else "model.unreadable-state")


def _path(argument: str) -> Path:
    """A path as a person types it: "~" and variables mean what they mean in a shell, quotes are taken off."""
    return paths.expand(unquoted(argument))


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _agrees(answer: str) -> bool:
    return agrees(answer) or word(answer) in ("overwrite", "上書き")


def model_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [(name, entry.describe(desk.lang)) for name, entry in desk.config.catalogue.items()]


def resume_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [(summary.id, "  ".join(summary_row(summary, desk.lang))) for summary in _recent(desk, lambda problem: None)]
