"""The table of slash commands: dispatch, completion and /help come from it; a test compares the READMEs.

A line that begins with "/" or "／" is a command and is never sent to the model. A command may return an
`Action`, the loop's next step.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress

from bilingual_chat.commands import compare, continuing, conversation, files, models, replies, settings, tokens
from bilingual_chat.commands.app import Action, App, Command
from bilingual_chat.commands.arguments import shortened, word
from bilingual_chat.messages import TABLE, Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding
from bilingual_chat.text.sanitize import inward

# Commands and options of the shell that are not chat commands.
OF_SHELL = {
    **{name: name for name in ("ask", "bench", "chat", "doctor", "serve", "transcripts", "where")},
    "rm": "rm NAME",
    "replay": "replay FILE|DIR",
    "sweep": "sweep PROMPTS",
    "report": "report DIR",
    "duel": "duel DIR",
    "device": "--device auto|cpu|cuda|mps",
    "quantize": "--quantize auto|none|int8|w8a8|int4",
    "server": "--server URL|NAME",
    "config": "--config FILE",
    "like": "--like NAME",
    "accept_withdrawn": "--accept-withdrawn",
    "encoding": "--encoding NAME",
    "debug": "--debug",
    "version": "--version",
}
HELP_WORDS = ("-h", "--help")  # accepted after a command, as in a shell


def is_command(line: str) -> bool:
    """Return True if the line is a command. "//" starts a message that begins with "/"."""
    line = line.lstrip()
    return line[:1] in ("/", "／") and line[:2] not in ("//", "／／")


def message_of(line: str) -> str:
    """Return the message in a line that is not a command."""
    return line[1:] if line[:2] in ("//", "／／") else line


def execute(line: str, app: App) -> Action:
    """Run a command. If it raises BchatError, nothing has changed."""
    name, argument = split(inward(line))
    if not name:
        return _help(app, "")
    command = find(name)
    if argument in HELP_WORDS:
        return _help(app, command.name)
    if argument and not command.arguments:
        raise BchatError(
            "command.no-argument", status=ExitStatus.USAGE, usage=command.usage, argument=shortened(argument)
        )
    if not argument and command.arguments and not command.arguments.startswith("["):
        raise BchatError("command.argument-missing", status=ExitStatus.USAGE, usage=command.usage)
    return command.run(app, argument)


def split(line: str) -> tuple[str, str]:
    """Return (name, argument): the name folded and in lower case, the argument as typed. "=" counts as a blank."""
    typed, *rest = line.strip()[1:].split(maxsplit=1) or [""]
    name, *value = re.split("[=＝]", typed, maxsplit=1)
    return word(name), " ".join([*value, *rest]).strip()


def find(name: str) -> Command:
    """Return the command with this name, alias or unambiguous beginning. Raises BchatError with a suggestion."""
    wanted = name.replace("-", "_")
    if command := _BY_NAME.get(wanted):
        return command
    beginnings = {command.name: command for known, command in _BY_NAME.items() if wanted and known.startswith(wanted)}
    if len(beginnings) == 1:
        return next(iter(beginnings.values()))
    if form := OF_SHELL.get(wanted):
        raise BchatError("command.of-shell", status=ExitStatus.USAGE, name=shortened(name), form=form)
    with suppress(BchatError):  # every setting is a command, too
        setting = decoding.resolve_name(wanted)
        return Command(setting, settings.setting_command(setting), "[VALUE | default]")
    if beginnings:
        names = ", ".join(f"/{each}" for each in beginnings)
        raise BchatError("command.several", status=ExitStatus.USAGE, name=shortened(name), names=names)
    close = difflib.get_close_matches(wanted, list(_BY_NAME), n=1, cutoff=0.6)
    suggestion = Phrase("suggestion", name=f"/{close[0]}") if close else Phrase("nothing")
    raise BchatError("command.unknown", status=ExitStatus.USAGE, name=shortened(name), suggestion=suggestion)


def _help(app: App, argument: str) -> Action:
    topic = word(argument).lstrip("/")
    if not topic:
        _list_commands(app)
        return None
    if topic == "keys":
        app.say(Phrase("help.keys"))
        return None
    try:
        setting = decoding.resolve_name(topic)
    except BchatError:
        command = find(topic)
    else:
        return settings.explain_setting(app, setting)
    row = (command.usage, app.text(command.description))
    aliases = ", ".join(f"/{alias}" for alias in command.aliases)
    app.show_rows([(*row, app.text(Phrase("help.aliases", names=aliases))) if aliases else row])
    if (examples := f"examples.{command.name}") in TABLE:
        app.show_rows(tuple(line.split(" — ", 1)) for line in app.text(Phrase(examples)).split("\n"))
    return None


def _list_commands(app: App) -> None:
    """Show every command by group: on one screen of 80 × 24 cells."""
    for group, commands in GROUPS.items():
        app.show_heading(Phrase(f"help.{group}"))
        rows = [
            (f"/{command.name}", app.text(Phrase(f"brief.{command.name}")))
            for command in commands
            if command.name not in decoding.RANGES
        ]
        app.show_rows(rows, per_line=2)
        if values := [f"/{command.name}" for command in commands if command.name in decoding.RANGES]:
            app.show_rows([(" ".join(values),)])
    app.say(Phrase("help.more"))


def _help_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    names = [(command.name, app.text(command.description)) for command in COMMANDS]
    return [*names, *(choice for choice in settings.setting_choices(app, typed) if choice[0] not in _BY_NAME)]


# Each group is a paragraph of /help. A command whose arguments are not in brackets requires one.
GROUPS: dict[str, tuple[Command, ...]] = {
    "talk": (
        Command(
            "retry",
            conversation.retry,
            "[PRESET | NAME=VALUE …]",
            ("again",),
            compare.compare_choices,
            takes_several=True,
        ),
        Command(
            "continue",
            continuing.continue_reply,
            "[PRESET | NAME=VALUE …]",
            ("more",),
            compare.compare_choices,
            takes_several=True,
        ),
        Command("edit", conversation.edit),
        Command("undo", conversation.undo, "[COUNT]"),
        Command("replies", replies.replies, "[NUMBER]", (), replies.reply_choices),
        Command("persona", conversation.change_persona, "[TEXT | none]"),
        Command("begin", continuing.begin, "[TEXT | none]"),
        Command("clear", conversation.clear, "", ("new",)),
        Command("history", conversation.show_history),
        Command("prompt", conversation.show_prompt, "[ids] [TEXT]", (), conversation.ids_choice),
    ),
    "explore": (
        Command(
            "compare",
            compare.compare,
            "[PRESET | NAME=VALUE,… | seeds=N | --diff …]",
            (),
            compare.comparison_choices,
            takes_several=True,
        ),
        Command("take", compare.take, "NUMBER", (), compare.take_choices),
        Command("branch", continuing.branch, "TOKEN [CANDIDATE]"),
        Command("probs", tokens.show_probabilities, "[NUMBER]"),
        Command("tokens", tokens.show_tokens, "TEXT"),
        Command("last", replies.last),
    ),
    "settings": (
        Command("settings", settings.show_settings),
        Command("preset", settings.choose_preset, "[NAME]", ("presets",), settings.preset_choices),
        Command("set", settings.change_settings, "[NAME VALUE | NAME default …]", (), settings.setting_choices),
        Command("temperature", settings.setting_command("temperature"), "[VALUE | default]", ("temp",)),
        Command("top_p", settings.setting_command("top_p"), "[VALUE | default]"),
        Command("top_k", settings.setting_command("top_k"), "[VALUE | default]"),
        Command(
            "repetition_penalty", settings.setting_command("repetition_penalty"), "[VALUE | default]", ("penalty",)
        ),
        Command("max_new_tokens", settings.setting_command("max_new_tokens"), "[VALUE | default]", ("max_tokens",)),
        Command("seed", settings.setting_command("seed"), "[VALUE | none | default]"),
    ),
    "files": (
        Command("save", files.save, "[FILE]", (), "file"),
        Command("load", files.load, "FILE", (), "file"),
        Command("resume", files.choose_conversation, "[WHICH]", (), files.resume_choices),
        Command("export", files.export_to, "FILE.md | FILE.html | FILE.jsonl", (), "file"),
        Command("model", models.choose_model, "[NAME | PATH]", ("models",), models.model_choices),
        Command("pull", models.pull, "[NAME | stop]", ("fetch", "download"), models.pull_choices),
        Command("lang", settings.choose_language, "[en | ja]", (), settings.language_choices),
        Command("help", _help, "[COMMAND | SETTING | keys]", ("?", "h"), _help_choices),
        Command("exit", conversation.leave, "", ("quit", "q", "bye")),
    ),
}
COMMANDS: tuple[Command, ...] = tuple(command for group in GROUPS.values() for command in group)
_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}
