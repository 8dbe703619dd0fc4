"""Commands for files: /save, /export, /load and /resume."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bilingual_chat import messages
from bilingual_chat.commands.app import Action, App, Edit
from bilingual_chat.commands.arguments import agrees, unquoted, word
from bilingual_chat.commands.conversation import show_history
from bilingual_chat.commands.settings import changes_to_restore
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.persona import remark_on_persona
from bilingual_chat.storage import paths
from bilingual_chat.transcript import document, export, history
from bilingual_chat.transcript.journal import Journal, read_journal

RECENT = 15  # conversations that /resume offers


def save(app: App, argument: str) -> Action:
    """/save: write JSON. The default name is that of the conversation, so that saving again replaces the file."""
    path = _path(argument or ".")
    if path.suffix.lower() in export.FORMATS:
        raise BchatError("save.export", status=ExitStatus.USAGE, path=argument)
    if _is_directory(path):
        path /= f"bchat-{app.session.snapshot().header.id}.json"
    if _holds_another(path, app.session.ids) and not _agrees(app.ask(Phrase("save.replace", path=path))):
        raise BchatError("save.another", status=ExitStatus.USAGE, path=path)
    _write(app, path, lambda overwrite: document.write_document(path, app.session.snapshot(), overwrite=overwrite))
    return None


def _holds_another(path: Path, ids: frozenset[str]) -> bool:
    """Return True if `path` is a transcript by bchat of a conversation not in `ids`."""
    try:
        header = document.read_document(path).header if path.is_file() else None
    except (BchatError, OSError):
        return False
    return header is not None and bool(header.bchat) and header.id not in ids


def export_to(app: App, argument: str) -> Action:
    """/export: write Markdown, HTML or JSONL."""
    path = _path(argument)
    _write(app, path, lambda overwrite: export.export(path, app.session.snapshot(), overwrite=overwrite))
    return None


def _write(app: App, path: Path, write: Callable[[bool], Path]) -> None:
    if not app.session.conversation.utterances() and app.session.pending is None:
        raise BchatError("history.nothing-to-save", status=ExitStatus.USAGE)
    try:
        written = write(False)
    except BchatError as error:
        if error.key not in ("transcript.not-ours", "transcript.exists"):
            raise
        question = "save.overwrite" if error.key == "transcript.not-ours" else "save.exists"
        if not _agrees(app.ask(Phrase(question, path=path))):
            raise
        written = write(True)
    app.say(Phrase("save.done", path=paths.shorten(written), turns=len(app.session.conversation.turns)))


def load(app: App, argument: str) -> Action:
    """/load: continue a saved conversation."""
    loaded = document.read_document(_path(argument))
    app.session.continue_from(loaded)
    return _report_loaded(app, loaded.problems)


def choose_conversation(app: App, argument: str) -> Action:
    """/resume: continue a recent conversation; without an argument, ask which."""
    recent = _recent(app, app.say)
    if not recent:
        raise BchatError("resume.none", status=ExitStatus.USAGE)
    which = word(argument)
    if not which:
        rows = enumerate((summary_row(summary, app.lang) for summary in recent), start=1)
        app.show_rows([(str(number), *row) for number, row in rows])
        answer = word(app.ask(Phrase("resume.which", last=len(recent))))
        which = answer.rpartition(" ")[2]  # "/resume 1" is an answer too
        if not which:
            return None
    chosen = {str(number): summary for number, summary in enumerate(recent, start=1)}
    chosen |= {summary.id.lower(): summary for summary in recent}
    if which not in chosen:
        raise BchatError("resume.unknown", status=ExitStatus.USAGE, which=which, last=len(recent))
    return resume(app, chosen[which].path)


def resume(app: App, path: Path) -> Action:
    """Continue the conversation in this journal, or in a copy if another process has it open."""
    try:
        journal, loaded = Journal.resume(path)
    except BchatError as error:
        if error.key not in ("transcript.locked", "transcript.not-saved"):
            raise
        loaded = read_journal(path)
        app.session.continue_from(loaded)
        app.say(error)
    else:
        try:
            app.session.continue_from(loaded, journal)
        except BaseException:
            journal.close()
            raise
    return _report_loaded(app, loaded.problems)


def _report_loaded(app: App, problems: tuple[BchatError, ...]) -> Action:
    for problem in problems:
        app.say(problem)
    show_history(app, "")
    return say_resumed(app)


def say_resumed(app: App) -> Edit | None:
    """Report that a conversation was loaded. A message without a reply comes back into the input line."""
    app.say(Phrase("load.done", turns=len(app.session.conversation.turns)))
    if earlier := app.session.snapshot().continues:
        app.say(Phrase("load.continues", id=earlier))
    _report_difference(app)
    if remark := remark_on_persona(app.session.entry, app.session.conversation.opening):
        app.say(remark)
    if app.session.pending is None:
        return None
    app.say(Phrase("load.pending" if app.reader.has_editor else "load.pending-piped"))
    return Edit(app.session.pending, replaces_last=False)


def _report_difference(app: App) -> None:
    """Say how to restore the model or the settings of the last reply; bchat does not change them unasked."""
    session = app.session
    recorded = session.conversation.turns[-1].details if session.conversation.turns else {}
    name = recorded.get("model")  # from a file: may be any value
    if isinstance(name, str) and name in app.config.catalogue and name != session.entry.name:
        app.say(Phrase("load.other-model", name=name))
    elif changes := changes_to_restore(session.settings.parameters, recorded.get("settings")):
        app.say(Phrase("load.other-settings", changes=changes))


def _recent(app: App, report: history.Report) -> list[history.Summary]:
    current = app.session.journal_path
    listed = history.list_conversations(app.conversations, report)
    return [summary for summary in listed if summary.path != current][:RECENT]


def summary_row(summary: history.Summary, lang: str) -> tuple[str, ...]:
    """Return date, turns, model and first words of a conversation, and whether it is damaged or open."""
    mark = "damaged" if summary.problems else "open" if summary.locked else ""
    words = f"{summary.first_words}  {messages.render(f'resume.{mark}', lang)}" if mark else summary.first_words
    return f"{summary.changed:%Y-%m-%d %H:%M}", str(summary.turns), summary.model, words


def _path(argument: str) -> Path:
    """Return the path that the user typed, without quotes, with "~" and variables expanded."""
    return paths.expand(unquoted(argument))


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _agrees(answer: str) -> bool:
    return agrees(answer) or word(answer) in ("overwrite", "上書き")


def resume_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    return [(summary.id, "  ".join(summary_row(summary, app.lang))) for summary in _recent(app, lambda problem: None)]
