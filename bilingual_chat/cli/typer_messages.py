"""Says typer's usage errors in English and Japanese; typer has them in English only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from bilingual_chat.messages import Phrase, did_you_mean
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding

# typer gives the cause in a sentence, not in fields, so the sentence is parsed.
_SENTENCES = (
    (re.compile(r"No such command '(?P<name>.*)'\."), "cli.no-command"),
    (re.compile(r"Missing argument '(?P<name>.*)'"), "cli.no-argument"),
    (re.compile(r"Option '(?P<name>.*)' requires (an|\d+) arguments?\."), "cli.no-value"),
    (re.compile(r"Option '(?P<name>.*)' does not take a value\."), "cli.any-value"),
    (re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((?P<name>.*)\)"), "cli.extra"),
)


def usage_error(error: Any, arguments: Sequence[str]) -> BchatError:
    """Return one sentence for an error that typer raised while it parsed the arguments."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "bchat"
    return BchatError(
        "cli.usage", status=ExitStatus.USAGE, problem=_problem(error, context, arguments), command=command
    )


def _problem(error: Any, context: Any, arguments: Sequence[str]) -> object:
    if hasattr(error, "possibilities"):  # no such option
        known = [each for param in context.command.params for each in param.opts] if context else []
        if "--set" in known and (setting := _setting_meant(error.option_name, arguments)):
            return setting
        return Phrase("cli.no-option", name=error.option_name, suggestion=did_you_mean(error.option_name, known))
    sentence = error.format_message()
    for pattern, key in _SENTENCES:
        if found := pattern.match(sentence):
            name = found["name"]
            if key != "cli.no-command":
                return Phrase(key, name=name)
            if name.startswith(("/", "／")):
                return Phrase("cli.slash", name=name)
            return Phrase(key, name=name, suggestion=did_you_mean(name, list(getattr(context.command, "commands", {}))))
    return sentence if sentence.endswith(("?", ".")) else f"{sentence}."


def _setting_meant(option: str, arguments: Sequence[str]) -> Phrase | None:
    """Return advice for a setting given as an option: `--temperature 0.7` is `--set temperature=0.7`."""
    known = {each.replace("_", "-"): each for each in (*decoding.RANGES, *decoding.ALIASES)}
    for typed, value in _written(option, arguments):
        for meant in get_close_matches(typed.lstrip("-").lower().replace("_", "-"), known, n=1, cutoff=0.8):
            setting = decoding.resolve_name(known[meant])
            return Phrase("cli.no-option-setting", name=typed, setting=setting, value=value or "N")
    return None


def _written(option: str, arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each occurrence of `option` as the user typed it, with its value; typer reports `-temp` as "-t"."""
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name == option or (not option.startswith("--") and re.match(f"{re.escape(option)}\\w", name)):
            yield name, value if equals else "" if after.startswith("--") else after
