"""The slash commands: one table, from which dispatch, completion, /help and the README are made.

A command is a line that begins with "/" or "／". It changes the session or shows something, and may
give the loop something to do (`Action`). Nothing of it is ever sent to the model.
"""

from __future__ import annotations

import difflib
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from bilingual_chat import catalogue, config, decoding, messages
from bilingual_chat.catalogue import ModelEntry
from bilingual_chat.config import Config
from bilingual_chat.decoding import RANGES, DecodingParameters
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase
from bilingual_chat.session import Model, Session, open_model, persona
from bilingual_chat.transcript import document, export, shelf
from bilingual_chat.transcript.journal import Journal, read_journal

Rows = list[tuple[str, ...]]
_ABBREVIATED = {
    "temperature": "temp",
    "repetition_penalty": "penalty",
    "max_new_tokens": "max",
    "min_new_tokens": "min",
}
RECENT = 15  # conversations that /resume offers


@dataclass
class Desk:
    """What the commands work on: the session, what it was started with, and how to speak to the person."""

    session: Session
    config: Config
    conversations: Path
    lang: str
    say: Callable[[Phrase | BchatError], None]  # a sentence
    show: Callable[[str], None]  # text of any origin
    show_rows: Callable[[Rows], None]  # a table
    ask: Callable[[Phrase], str] = lambda question: ""  # where nobody can answer, the answer is nothing
    load: Callable[[ModelEntry], Callable[[], Model]] = lambda entry: lambda: open_model(entry)
    model_ready: Callable[[], Model | None] = lambda: None

    def text(self, phrase: Phrase) -> str:
        return messages.render(phrase.key, self.lang, **phrase.values)


# -- what the loop is to do after a command -----------------------------------------------------------


@dataclass(frozen=True)
class Say:
    """Send this to the model."""

    text: str


@dataclass(frozen=True)
class Retry:
    """Answer the last message again, with these settings for that reply alone."""

    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Edit:
    """Put this into the line editor; with `replaces_last`, sending it takes the last turn back first."""

    text: str
    replaces_last: bool


@dataclass(frozen=True)
class Leave:
    """Close the conversation and end."""


Action = Say | Retry | Edit | Leave | None


@dataclass(frozen=True)
class Command:
    """One row of the table. `arguments` is how /help and the README write what may follow the name.

    Its description is the message "command.NAME". `choices` offers arguments for completion, each
    with a remark; None where there are none, "file" where it is a path.
    """

    name: str
    run: Callable[[Desk, str], Action]
    arguments: str = ""
    aliases: tuple[str, ...] = ()
    choices: Callable[[Desk, str], Iterable[tuple[str, str]]] | str | None = None

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.arguments}".rstrip()

    @property
    def description(self) -> Phrase:
        return Phrase(f"command.{self.name}")


# -- reading a line -----------------------------------------------------------------------------------


def is_command(line: str) -> bool:
    """Whether a line is for bchat, not for the model. "//" sends a line that begins with "/"."""
    return line[:1] in ("/", "／") and line[:2] not in ("//", "／／")


def message_of(line: str) -> str:
    """The message in a line that is no command."""
    return line[1:] if line[:2] in ("//", "／／") else line


def folded(text: str) -> str:
    """Full-width letters, digits, signs and the ideographic space as ASCII (NFKC)."""
    return unicodedata.normalize("NFKC", text)


def split(line: str) -> tuple[str, str]:
    """(name, argument) of a command line; the name folded and lower case, the argument as typed."""
    parts = line.strip()[1:].split(maxsplit=1)
    return (folded(parts[0]).lower() if parts else ""), (parts[1].strip() if len(parts) > 1 else "")


def find(name: str) -> Command:
    """The command of this name, alias or unmistakable beginning. Raises BchatError with "did you mean"."""
    if command := _BY_NAME.get(name):
        return command
    beginnings = {command.name: command for known, command in _BY_NAME.items() if name and known.startswith(name)}
    if len(beginnings) == 1:
        return next(iter(beginnings.values()))
    close = list(beginnings) or difflib.get_close_matches(name, list(_BY_NAME), n=1, cutoff=0.6)
    suggestion = Phrase("suggestion", name="/" + ", /".join(close)) if close else Phrase("nothing")
    raise BchatError("command.unknown", status=ExitStatus.USAGE, name=name, suggestion=suggestion)


def execute(line: str, desk: Desk) -> Action:
    """Do what a command line says. Raises BchatError when it cannot be done: then nothing has changed."""
    name, argument = split(line)
    if not name:
        return _help(desk, "")
    command = find(name)
    if argument and not command.arguments:
        raise BchatError("command.no-argument", status=ExitStatus.USAGE, usage=command.usage, argument=argument)
    return command.run(desk, argument)


def settings_in(text: str) -> dict[str, Any]:
    """`temperature=0.7 top_p 0.9` as {name: value}, checked. Full-width is accepted."""
    words = folded(text).replace(" =", "=").replace("= ", "=").split()
    changes: dict[str, Any] = {}
    while words:
        name, equals, value = words.pop(0).partition("=")
        name = decoding.resolve_name(name)
        if not equals:
            if not words:
                raise BchatError("command.value-missing", status=ExitStatus.USAGE, name=name)
            value = words.pop(0)
        changes[name] = decoding.checked(name, value)
    return changes


# -- help and settings --------------------------------------------------------------------------------


def _help(desk: Desk, argument: str) -> Action:
    topic = folded(argument).lower().lstrip("/")
    if not topic:
        desk.show_rows([(command.usage, desk.text(command.description)) for command in COMMANDS])
        desk.say(Phrase("help.keys"))
        return None
    try:
        name: str | None = decoding.resolve_name(topic)
    except BchatError:
        name = None
    if name is not None:
        desk.show_rows([_setting_row(desk, name)])
        desk.say(Phrase(f"parameter.{name}"))
        return None
    command = find(topic)
    aliases = ", ".join(f"/{alias}" for alias in command.aliases)
    desk.show_rows([(command.usage, desk.text(command.description), aliases)])
    return None


def _setting_row(desk: Desk, name: str) -> tuple[str, ...]:
    settings = desk.session.settings
    value = getattr(settings.parameters, name)
    low, high = (f"{bound:g}" if bound < 1e6 else "2^63-1" for bound in (RANGES[name].low, RANGES[name].high))
    shown = (
        desk.text(Phrase("value.fresh")) if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    )
    return name, shown, f"{low} – {high}", _layer(desk, settings.provenance[name])


def _layer(desk: Desk, label: str) -> str:
    """Where a value came from: bchat's own layers by their sentence, a file or a preset by its name."""
    named = label in (config.DEFAULT, config.ENVIRONMENT, config.OPTION, config.SESSION)
    return desk.text(Phrase(f"layer.{label}")) if named else label


def _settings(desk: Desk, argument: str) -> Action:
    head = tuple(desk.text(Phrase(f"heading.{key}")) for key in ("setting", "value", "range", "layer"))
    desk.show_rows([head, *(_setting_row(desk, field.name) for field in fields(DecodingParameters))])
    return None


def _set(desk: Desk, argument: str) -> Action:
    changes = settings_in(argument)
    if not changes:
        return _settings(desk, "")
    settings = desk.session.settings
    for name, value in changes.items():
        settings = settings.changed(name, value)
    desk.session.change(settings)
    desk.show_rows([_setting_row(desk, name) for name in changes])
    return None


def _short(name: str) -> Callable[[Desk, str], Action]:
    def run(desk: Desk, argument: str) -> Action:
        if not argument:
            return _help(desk, name)
        value = folded(argument).removeprefix("=").strip()
        return _set(desk, f"{name}={value}") if " " not in value else _set(desk, f"{name} {value}")

    return run


def _preset(desk: Desk, argument: str) -> Action:
    if not argument:
        desk.show_rows(preset_rows(desk.config, desk.lang, chosen=desk.session.settings.preset))
        return None
    desk.session.change(desk.session.settings.with_preset(folded(argument)))
    desk.say(Phrase("preset.chosen", name=desk.session.settings.preset))
    return None


def preset_rows(config: Config, lang: str, chosen: str = "") -> Rows:
    """Every preset: its name, what it sets, what it is for."""
    return [
        (
            f"{'*' if preset.name == chosen else ' '} {preset.name}",
            " ".join(f"{_ABBREVIATED.get(name, name)}={value:g}" for name, value in preset.values.items()),
            preset.describe(lang),
        )
        for preset in config.presets.values()
    ]


def _lang(desk: Desk, argument: str) -> Action:
    wanted = folded(argument).lower()
    if wanted:
        if wanted not in messages.LANGUAGES:
            raise BchatError("lang.unknown", status=ExitStatus.USAGE, name=argument)
        desk.lang = wanted
    desk.say(Phrase("lang.chosen"))
    return None


# -- the conversation ---------------------------------------------------------------------------------


def _persona(desk: Desk, argument: str) -> Action:
    session = desk.session
    if not argument:
        if session.conversation.opening:
            desk.show("\n".join(utterance.text for utterance in session.conversation.opening))
        else:
            desk.say(Phrase("persona.none"))
        return None
    opening = () if folded(argument).lower() in ("none", "off", "なし") else persona(argument)
    session.open_with(opening)
    desk.say(Phrase("persona.set" if opening else "persona.removed"))
    return None


def _undo(desk: Desk, argument: str) -> Action:
    turn = desk.session.undo()
    desk.say(Phrase("undo.done", text=_shortened(turn.user)))
    return None


def _retry(desk: Desk, argument: str) -> Action:
    changes = settings_in(argument)
    if not desk.session.conversation.turns:
        raise BchatError("session.nothing-to-undo", status=ExitStatus.USAGE)
    return Retry(changes)


def _edit(desk: Desk, argument: str) -> Action:
    if not desk.session.conversation.turns:
        raise BchatError("session.nothing-to-undo", status=ExitStatus.USAGE)
    return Edit(desk.session.conversation.turns[-1].user, replaces_last=True)


def _clear(desk: Desk, argument: str) -> Action:
    desk.session.clear()
    desk.say(Phrase("clear.done"))
    return None


def _history(desk: Desk, argument: str) -> Action:
    conversation = desk.session.conversation
    if not conversation.utterances():
        desk.say(Phrase("history.empty"))
        return None
    format = desk.session.format
    lines = [f"{format.label(utterance.speaker)}: {utterance.text}" for utterance in conversation.opening]
    for number, turn in enumerate(conversation.turns, start=1):
        user, reply = turn.utterances()
        mark = "" if turn.finish.value == "stop" else f"  [{desk.text(Phrase(f'finish.{turn.finish.value}'))}]"
        lines.append(f"[{number}] {format.label(user.speaker)}: {user.text}")
        lines.append(f"{format.label(reply.speaker)}: {reply.text}{mark}")
    desk.show("\n".join(lines))
    return None


def _prompt(desk: Desk, argument: str) -> Action:
    wants_ids = folded(argument).lower() == "ids"
    shown = desk.session.prompt_for("" if wants_ids else argument)
    desk.show(" ".join(map(str, shown.ids)) if wants_ids else shown.text)
    model = desk.model_ready()
    context = model.context_length if model else 0
    desk.say(
        Phrase(
            "prompt.counts",
            tokens=len(shown.ids),
            context=context,
            characters=len(shown.text),
            dropped=shown.dropped_turns,
        )
    )
    return None


# -- files --------------------------------------------------------------------------------------------


def _save(desk: Desk, argument: str) -> Action:
    path = _path(argument) if argument else Path(f"bchat-{datetime.now():%Y%m%d-%H%M%S}.json")
    _write(desk, path, lambda overwrite: document.write_document(path, desk.session.snapshot(), overwrite=overwrite))
    return None


def _export(desk: Desk, argument: str) -> Action:
    if not argument:
        raise BchatError("command.file-missing", status=ExitStatus.USAGE, usage="/export FILE.md")
    path = _path(argument)
    _write(desk, path, lambda overwrite: export.export(path, desk.session.snapshot(), overwrite=overwrite))
    return None


def _write(desk: Desk, path: Path, write: Callable[[bool], Path]) -> None:
    if not desk.session.conversation.utterances():
        raise BchatError("history.nothing-to-save", status=ExitStatus.USAGE)
    try:
        written = write(False)
    except BchatError as error:
        if error.key != "transcript.not-ours" or not _agrees(desk.ask(Phrase("save.overwrite", path=path))):
            raise
        written = write(True)
    desk.say(Phrase("save.done", path=written, turns=len(desk.session.conversation.turns)))


def _load(desk: Desk, argument: str) -> Action:
    if not argument:
        raise BchatError("command.file-missing", status=ExitStatus.USAGE, usage="/load FILE")
    loaded = document.read_document(_path(argument))
    desk.session.continue_from(loaded)
    return _tell_loaded(desk, loaded.problems, loaded.pending_user)


def _resume(desk: Desk, argument: str) -> Action:
    current = desk.session.journal_path
    recent = [summary for summary in shelf.list_conversations(desk.conversations) if summary.path != current][:RECENT]
    if not recent:
        raise BchatError("resume.none", status=ExitStatus.USAGE)
    which = folded(argument)
    if not which:
        desk.show_rows([(str(number), *summary_row(summary)) for number, summary in enumerate(recent, start=1)])
        which = folded(desk.ask(Phrase("resume.which", last=len(recent)))).strip()
        if not which:
            return None
    chosen = next((summary for summary in recent if which == summary.id), None)
    if chosen is None:
        if not which.isdecimal() or not 1 <= int(which) <= len(recent):
            raise BchatError("resume.unknown", status=ExitStatus.USAGE, which=which, last=len(recent))
        chosen = recent[int(which) - 1]
    return resume(desk, chosen.path)


def resume(desk: Desk, path: Path) -> Action:
    """Go on with the conversation in this journal, or with a copy of it where another process has it."""
    try:
        journal, loaded = Journal.resume(path)
    except BchatError as error:
        if error.key not in ("transcript.locked", "transcript.not-saved"):
            raise
        desk.say(error)
        loaded = read_journal(path)
        desk.session.continue_from(loaded)
    else:
        desk.session.continue_from(loaded, journal)
    return _tell_loaded(desk, loaded.problems, loaded.pending_user)


def _tell_loaded(desk: Desk, problems: tuple[BchatError, ...], pending: str | None) -> Action:
    for problem in problems:
        desk.say(problem)
    _history(desk, "")
    desk.say(Phrase("load.done", turns=len(desk.session.conversation.turns)))
    if pending is None:
        return None
    desk.say(Phrase("load.pending"))
    return Edit(pending, replaces_last=False)


def summary_row(summary: shelf.Summary) -> tuple[str, ...]:
    """A conversation as one row: when, how long, with which model, its first words."""
    marks = "!" if summary.problems else "*" if summary.locked else ""
    return f"{summary.changed:%Y-%m-%d %H:%M}", str(summary.turns), summary.model, f"{summary.first_words}{marks}"


# -- models -------------------------------------------------------------------------------------------


def _model(desk: Desk, argument: str) -> Action:
    if not argument:
        desk.show_rows(model_rows(desk.config, desk.lang, chosen=desk.session.entry.name))
        return None
    entry = catalogue.find(desk.config.catalogue, argument)
    if catalogue.locate(entry) is None:
        raise BchatError("model.not-here", status=ExitStatus.MODEL, name=entry.name)
    settings = desk.session.settings.for_model(entry)
    desk.session.use_model(desk.load(entry), entry, settings)
    desk.say(Phrase("model.chosen", name=entry.name, preset=settings.preset))
    return None


def model_rows(config: Config, lang: str, chosen: str = "") -> Rows:
    """Every model of the catalogue: its name, whether it is on this machine, what it is for."""
    return [
        (
            f"{'*' if name == chosen else ' '} {name}",
            messages.render("model.here" if catalogue.locate(entry) else "model.absent", lang),
            entry.describe(lang),
        )
        for name, entry in config.catalogue.items()
    ]


def _exit(desk: Desk, argument: str) -> Action:
    return Leave()


# -- arguments ----------------------------------------------------------------------------------------


def _path(argument: str) -> Path:
    """A path as a person types it: "~" is the home, quotes are taken off."""
    text = argument
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        try:
            text = shlex.split(text)[0] if shlex.split(text) else ""
        except ValueError:
            text = text[1:-1]
    if "\0" in text or not text:
        raise BchatError("command.file-missing", status=ExitStatus.USAGE, usage="/save FILE")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _agrees(answer: str) -> bool:
    return folded(answer).strip().lower() in ("y", "yes", "はい", "ok", "overwrite", "上書き")


def _shortened(text: str, limit: int = 40) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _setting_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [(name, desk.text(Phrase(f"parameter.{name}"))) for name in RANGES]


def _preset_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [(preset.name, preset.describe(desk.lang)) for preset in desk.config.presets.values()]


def _help_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [*((command.name, desk.text(command.description)) for command in COMMANDS), *_setting_choices(desk, typed)]


def _model_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [(name, entry.describe(desk.lang)) for name, entry in desk.config.catalogue.items()]


def _resume_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    recent = shelf.list_conversations(desk.conversations)[:RECENT]
    return [(summary.id, "  ".join(summary_row(summary))) for summary in recent]


def _ids_choice(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [("ids", desk.text(Phrase("prompt.ids")))]


def _lang_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    return [("en", "English"), ("ja", "日本語")]


COMMANDS: tuple[Command, ...] = (
    Command("help", _help, "[COMMAND | SETTING]", ("?", "h"), _help_choices),
    Command("settings", _settings),
    Command("set", _set, "NAME VALUE", (), _setting_choices),
    Command("temperature", _short("temperature"), "[VALUE]", ("temp",)),
    Command("top_p", _short("top_p"), "[VALUE]"),
    Command("top_k", _short("top_k"), "[VALUE]"),
    Command("repetition_penalty", _short("repetition_penalty"), "[VALUE]", ("penalty",)),
    Command("max_new_tokens", _short("max_new_tokens"), "[VALUE]", ("max_tokens",)),
    Command("seed", _short("seed"), "[VALUE | none]"),
    Command("preset", _preset, "[NAME]", ("presets",), _preset_choices),
    Command("persona", _persona, "[TEXT | none]"),
    Command("undo", _undo),
    Command("retry", _retry, "[NAME=VALUE …]", ("again",), _setting_choices),
    Command("edit", _edit),
    Command("clear", _clear, "", ("new",)),
    Command("history", _history),
    Command("prompt", _prompt, "[ids | TEXT]", (), _ids_choice),
    Command("save", _save, "[FILE]", (), "file"),
    Command("load", _load, "FILE", (), "file"),
    Command("resume", _resume, "[WHICH]", (), _resume_choices),
    Command("export", _export, "FILE.md | FILE.html | FILE.jsonl", (), "file"),
    Command("model", _model, "[NAME | PATH]", ("models",), _model_choices),
    Command("lang", _lang, "[en | ja]", (), _lang_choices),
    Command("exit", _exit, "", ("quit", "q", "bye")),
)
_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}
