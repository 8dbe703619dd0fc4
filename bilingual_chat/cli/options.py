"""The options that several commands share, each declared once, and the decorators that give them to a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer import Option

from bilingual_chat.cli.errors import errors_reported

Command = Callable[..., None]
QUANTIZE = "auto|none|int8|w8a8|int4"


@dataclass(frozen=True)
class Options:
    """The shared options as the user gave them; a command that lacks one has its default. `help` names a message."""

    model: Annotated[str | None, Option("--model", "-m", metavar="NAME|PATH", help="option.model")] = None
    preset: Annotated[str | None, Option("--preset", "-p", metavar="NAME", help="option.preset")] = None
    set: Annotated[list[str] | None, Option("--set", "-s", metavar="NAME=VALUE", help="option.set")] = None
    seed: Annotated[str | None, Option("--seed", metavar="N", help="option.seed")] = None
    persona: Annotated[str | None, Option("--persona", metavar="TEXT", help="option.persona")] = None
    begin: Annotated[str | None, Option("--begin", metavar="TEXT", help="option.begin")] = None
    load: Annotated[Path | None, Option("--load", metavar="FILE", help="option.load")] = None
    config: Annotated[Path | None, Option("--config", metavar="FILE", help="option.config")] = None
    lang: Annotated[str | None, Option("--lang", metavar="en|ja", help="option.lang")] = None
    debug: Annotated[bool, Option("--debug", help="option.debug")] = False
    device: Annotated[str | None, Option("--device", metavar="auto|cpu|cuda|mps", help="option.device")] = None
    quantize: Annotated[str | None, Option("--quantize", metavar=QUANTIZE, help="option.quantize")] = None
    accept_withdrawn: Annotated[bool, Option("--accept-withdrawn", help="option.accept-withdrawn")] = False
    server: Annotated[str | None, Option("--server", metavar="URL|NAME,…", help="option.server")] = None
    like: Annotated[str | None, Option("--like", metavar="NAME", help="option.like")] = None
    encoding: Annotated[str | None, Option("--encoding", metavar="NAME", help="option.encoding")] = None

    def over(self, outer: Options | None) -> Options:
        """Return these options; where they are silent, those that stand before the command's name."""
        if outer is None:
            return self
        own = {name: value for name, value in vars(self).items() if value not in (None, [], False)}
        return Options(**{**vars(outer), **own, "set": [*(outer.set or []), *(self.set or [])]})


ALL = tuple(field.name for field in fields(Options))


def command(group: typer.Typer, key: str, *shared: str, name: str | None = None) -> Callable[[Command], Command]:
    """Add a command to `group`. It gets the options in force and a display, then its own parameters.

    key: of its help in `messages`. shared: its shared options. Errors become a sentence and an exit status.
    """

    def decorate(function: Command) -> Command:
        def run(context: typer.Context, options: Options, **own: Any) -> None:
            with errors_reported(options) as display:
                function(options, display, **own)

        group.command(name or function.__name__, help=key)(_with_options(run, _own(function), shared))
        return function

    return decorate


def callback(group: typer.Typer, *shared: str) -> Callable[[Command], Command]:
    """Add what runs before the commands of `group`. It gets the context, the options in force, its own parameters."""

    def decorate(function: Command) -> Command:
        group.callback(invoke_without_command=True)(_with_options(function, _own(function), shared, own_first=False))
        return function

    return decorate


def _own(function: Command) -> list[Parameter]:
    """Return the parameters after the first two."""
    known = {"Display": object}  # which is not imported here, and nobody asks for
    return list(inspect.signature(function, eval_str=True, locals=known).parameters.values())[2:]


def _with_options(
    function: Command, own: list[Parameter], shared: tuple[str, ...], *, own_first: bool = True
) -> Command:
    """Return `function` as typer reads it: with the context, and with the shared options one by one."""

    def run(context: typer.Context, **arguments: Any) -> None:
        given = Options(**{name: arguments.pop(name) for name in shared})
        function(context, given.over(context.obj), **arguments)

    theirs = [each for each in _SHARED if each.name in shared]
    in_order = [*own, *theirs] if own_first else [*theirs, *own]
    context = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    keywords = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in in_order]
    run.__signature__ = Signature([context, *keywords])  # type: ignore[attr-defined]
    return run


def _parameters() -> list[Parameter]:
    hints = get_type_hints(Options, include_extras=True)
    return [
        Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(Options)
    ]


_SHARED = _parameters()
