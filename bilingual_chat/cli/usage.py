"""What typer says of the arguments, in the person's language. typer's own words are English only."""

from __future__ import annotations

import re
from typing import Any

from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase, did_you_mean

# Its errors tell what is wrong in a sentence, not in fields: the sentence is read.
_SAID = (
    (re.compile(r"No such command '(?P<name>.*)'\."), "cli.no-command"),
    (re.compile(r"Missing argument '(?P<name>.*)'"), "cli.no-argument"),
    (re.compile(r"Option '(?P<name>.*)' requires (an|\d+) arguments?\."), "cli.no-value"),
    (re.compile(r"Option '(?P<name>.*)' does not take a value\."), "cli.any-value"),
    (re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((?P<name>.*)\)"), "cli.extra"),
)


def usage_error(error: Any) -> BchatError:
    """One sentence for an error that typer raised while it read the arguments."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "bchat"
    return BchatError("cli.usage", status=ExitStatus.USAGE, problem=_problem(error, context), command=command)


def _problem(error: Any, context: Any) -> object:
    if hasattr(error, "possibilities"):  # no such option
        known = [each for param in context.command.params for each in param.opts] if context else []
        return Phrase("cli.no-option", name=error.option_name, suggestion=did_you_mean(error.option_name, known))
    said = error.format_message()
    for pattern, key in _SAID:
        if found := pattern.match(said):
            name = found["name"]
            if key != "cli.no-command":
                return Phrase(key, name=name)
            return Phrase(key, name=name, suggestion=did_you_mean(name, list(getattr(context.command, "commands", {}))))
    return said if said.endswith(("?", ".")) else f"{said}."
