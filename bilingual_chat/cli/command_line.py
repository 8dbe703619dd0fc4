"""The command line: its commands and options. The only room that knows typer.

Commands import what they need themselves, so that `bchat --help` takes 0.2 s.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bilingual_chat import __version__, messages
from bilingual_chat.cli.errors import (
    discard_output,
    errors_reported,
    exit_with,
    replace_closed_streams,
    report_lost_output,
    report_unexpected,
)
from bilingual_chat.cli.options import ALL, Options, callback, command
from bilingual_chat.cli.startup import initial_language, load_configuration, require_known
from bilingual_chat.messages.errors import BchatError, ExitStatus

if TYPE_CHECKING:
    from bilingual_chat.terminal.display import Display
    from bilingual_chat.transcript.history import Summary

# Every `help` here is a key of `messages`; `_translate` renders it.
app = typer.Typer(add_completion=True, rich_markup_mode=None, pretty_exceptions_enable=False, help="cli.app")
transcripts = typer.Typer(rich_markup_mode=None, help="cli.transcripts")
app.add_typer(transcripts, name="transcripts")

DISPLAY = ("lang", "debug")  # the options of every command
CONFIG = ("config", *DISPLAY)
_TYPER_HELP = {
    "help": "option.help",
    "install_completion": "option.install-completion",
    "show_completion": "option.show-completion",
}


def main() -> int:
    """Run bchat. Return the exit status."""
    replace_closed_streams()
    status = _run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _after_lost_output(error, status)
    try:
        sys.stderr.flush()
    except OSError:  # the terminal is gone: Python would fail again at exit, with status 120
        discard_output(sys.stderr)
    loader = sys.modules.get("bilingual_chat.session.model_loader")
    if loader is not None and loader.is_a_model_loading():
        # A normal exit while a thread is inside torch's libraries aborts with status 134.
        os._exit(status)
    return status


def _after_lost_output(error: OSError, status: int) -> int:
    """Return the exit status after typer or Python could not write to stdout."""
    from bilingual_chat.terminal.display import Display

    discard_output()  # first, because a Display flushes the stream
    if isinstance(error, BrokenPipeError):
        return ExitStatus.CLOSED_PIPE
    report_lost_output(error, Display(_initial_language()))
    return status or ExitStatus.FAILED


def _run(arguments: list[str]) -> int:
    lang = _initial_language()
    command = typer.main.get_command(app)
    _translate(command, lang)
    with suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # the help is not ASCII
    try:
        return int(command(arguments, standalone_mode=False, prog_name="bchat") or 0)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # while typer printed the help
            discard_output()
            return ExitStatus.CLOSED_PIPE
        raise
    except typer.Abort:
        return ExitStatus.INTERRUPTED
    except Exception as error:
        is_usage = hasattr(error, "format_message")  # typer's classes for usage errors are private
        if isinstance(error, OSError) and error.filename is None:  # of a standard stream; commands report their own
            return _after_lost_output(error, ExitStatus.OK)
        if not is_usage and "--debug" in arguments:
            raise
        from bilingual_chat.terminal.display import Display

        if is_usage:
            from bilingual_chat.cli.typer_messages import usage_error

            with suppress(OSError):
                Display(lang).say(usage_error(error, arguments))
            return ExitStatus.USAGE
        report_unexpected(error, Display(lang))
        return ExitStatus.FAILED


def _initial_language() -> str:
    """Return the language of --lang before typer parses the arguments: the help must be in that language."""
    given = re.search(r"(?:^|\0)--lang[=\0]([^\0]*)", "\0".join(sys.argv[1:]))
    return initial_language(given[1] if given else None)


def _translate(command: Any, lang: str) -> None:
    """Replace the keys of messages by their sentences, in `command` and its subcommands."""
    command.help = messages.render(command.help, lang) if command.help in messages.TABLE else command.help
    command.context_settings.setdefault("help_option_names", ["-h", "--help"])
    help_option = command.get_help_option(typer.Context(command, **command.context_settings))
    for param in [*command.params, *filter(None, [help_option])]:
        key = _TYPER_HELP.get(param.name, getattr(param, "help", None))
        if key in messages.TABLE:
            param.help = messages.render(key, lang)
    for each in getattr(command, "commands", {}).values():
        _translate(each, lang)


# -- commands -----------------------------------------------------------------------------------------


@callback(app, *ALL)
def start(
    context: typer.Context,
    options: Options,
    version: Annotated[bool, typer.Option("--version", help="option.version")] = False,
) -> None:
    if version:
        typer.echo(f"bchat {__version__}")
        raise typer.Exit
    context.obj = options
    if context.invoked_subcommand is None:
        with errors_reported(options) as display:
            chat(options, display)


@command(app, "cli.chat", *ALL)
def chat(options: Options, display: Display) -> None:
    from bilingual_chat.cli import chat

    exit_with(chat.chat(options, display))


@command(app, "cli.ask", *ALL)
def ask(
    options: Options,
    display: Display,
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT|-]", help="option.text")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="option.json")] = False,
    logprobs: Annotated[bool, typer.Option("--logprobs", help="option.logprobs")] = False,
) -> None:
    from bilingual_chat.cli import chat

    chat.ask(options, display, text or [], as_json, logprobs)


@command(app, "cli.replay", "model", "server", *CONFIG, "device", "quantize", "accept_withdrawn", "like")
def replay(
    options: Options,
    display: Display,
    path: Annotated[str, typer.Argument(metavar="FILE|DIR")],
    check: Annotated[bool, typer.Option("--check", help="option.check")] = False,
) -> None:
    from bilingual_chat.cli import replay

    exit_with(replay.run(options, display, path, is_check=check))


@command(app, "cli.presets", *CONFIG)
def presets(options: Options, display: Display) -> None:
    from bilingual_chat.commands.settings import preset_rows

    known = load_configuration(options, display)
    display.put_rows(preset_rows(known, display.lang))


@command(app, "cli.models", *CONFIG)
def models(
    options: Options,
    display: Display,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="option.name")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="option.verify")] = False,
) -> None:
    from bilingual_chat.cli import models, models_table

    known = load_configuration(options, display)
    if verify:
        models.verify_models(known, display, name)
    elif name:
        models_table.show_one(known, display, name)
    else:
        models_table.show_all(known, display)


@command(app, "cli.pull", *CONFIG, "accept_withdrawn")
def pull(
    options: Options,
    display: Display,
    name: str,
    tokenizer: Annotated[bool, typer.Option("--tokenizer", help="option.tokenizer")] = False,
) -> None:
    from bilingual_chat.cli import models

    known, accept = load_configuration(options, display), options.accept_withdrawn
    models.pull(known, display, name, accept_withdrawn=accept, only_tokenizer=tokenizer)


@command(app, "cli.serve", *CONFIG, "accept_withdrawn")
def serve(
    options: Options,
    display: Display,
    name: str,
    only_print: Annotated[bool, typer.Option("--print", help="option.print")] = False,
    gpus: Annotated[int, typer.Option("--gpus", metavar="N", min=1, max=64, help="option.gpus")] = 1,
    machines: Annotated[int, typer.Option("--machines", metavar="N", min=1, max=1000, help="option.machines")] = 1,
    memory: Annotated[float, typer.Option("--gpu-memory", metavar="GB", min=1, max=1000, help="option.memory")] = 24,
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="option.host")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=1, max=65535, help="option.port")] = 8000,
    more: Annotated[list[str] | None, typer.Argument(metavar="[-- OPTION…]", help="option.more")] = None,
) -> None:
    from bilingual_chat.cli import serve

    known, accept = load_configuration(options, display), options.accept_withdrawn
    plan = serve.Plan(gpus=gpus, machines=machines, memory=memory * 1e9, host=host, port=port, more=tuple(more or ()))
    (serve.print_command if only_print else serve.run)(known, display, name, plan, accept_withdrawn=accept)


@command(app, "cli.rm", *CONFIG, name="rm")
def remove(options: Options, display: Display, name: str) -> None:
    from bilingual_chat.cli import models

    models.remove(load_configuration(options, display), display, name)


@command(app, "cli.bench", "model", *CONFIG, "device", "accept_withdrawn", "encoding")
def bench(
    options: Options,
    display: Display,
    name: Annotated[str | None, typer.Argument(metavar="[MODEL|FILE]", help="option.bench-name")] = None,
    quantize: Annotated[list[str] | None, typer.Option("--quantize", metavar="NAME|all", help="option.bench")] = None,
    quality: Annotated[bool, typer.Option("--quality", help="option.quality")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="option.json")] = False,
) -> None:
    from bilingual_chat.cli import bench

    (bench.measure_quality if quality else bench.measure_speed)(options, display, name, quantize or [], as_json)


@command(app, "cli.sweep", *(each for each in ALL if each != "load"))
def sweep(
    options: Options,
    display: Display,
    words: Annotated[list[str], typer.Argument(metavar="PROMPTS", help="option.sweep-words")],
    grid: Annotated[list[str] | None, typer.Option("--grid", metavar="NAME=VALUES…", help="option.grid")] = None,
    presets: Annotated[str | None, typer.Option("--presets", metavar="A,B", help="option.sweep-presets")] = None,
    settings: Annotated[Path | None, typer.Option("--settings", metavar="FILE", help="option.sweep-settings")] = None,
    one_at_a_time: Annotated[bool, typer.Option("--one-at-a-time", help="option.one-at-a-time")] = False,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", help="option.seeds", show_default=False)] = 1,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="option.limit")] = None,
    score: Annotated[str | None, typer.Option("--score", metavar="NAME|CMD", help="option.score")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="option.output")] = None,
    width: Annotated[int | None, typer.Option("--width", metavar="N", help="option.width")] = None,
) -> None:
    from bilingual_chat.cli import sweep

    own = sweep.SweepOptions(words, grid or [], presets, settings, one_at_a_time, seeds, limit, score, output, width)
    sweep.sweep(options, display, own)


@command(app, "cli.report", *DISPLAY)
def report(
    options: Options,
    display: Display,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="option.report-directory")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="option.report-output")] = None,
    in_terminal: Annotated[bool, typer.Option("--terminal", help="option.report-terminal")] = False,
    preset: Annotated[Path | None, typer.Option("--preset-out", metavar="FILE", help="option.report-preset")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="MEASURE", help="option.report-by")] = None,
    baseline: Annotated[int, typer.Option("--baseline", metavar="CELL", help="option.report-baseline")] = 0,
) -> None:
    from bilingual_chat.cli import report

    report.report(display, directory, output, preset, by, baseline, in_terminal)


@command(app, "cli.duel", *DISPLAY)
def duel(
    options: Options,
    display: Display,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="option.report-directory")],
    cells: Annotated[list[str] | None, typer.Option("--cells", metavar="N,M", help="option.duel-cells")] = None,
    pairs: Annotated[Path | None, typer.Option("--pairs", metavar="FILE", help="option.duel-pairs")] = None,
) -> None:
    from bilingual_chat.cli import duel

    duel.duel(display, directory, cells or [], pairs)


@command(app, "cli.where", *DISPLAY)
def where(options: Options, display: Display) -> None:
    from bilingual_chat.storage import paths

    known = paths.all_paths().items()
    display.put_rows([(messages.render(f"path.{name}", display.lang), str(path)) for name, path in known])


@command(app, "cli.doctor", *CONFIG)
def doctor(
    options: Options,
    display: Display,
    as_json: Annotated[bool, typer.Option("--json", help="option.json")] = False,
) -> None:
    from bilingual_chat.cli import doctor

    doctor.examine(load_configuration(options, display), display, as_json)


# -- transcripts --------------------------------------------------------------------------------------


@callback(transcripts, *DISPLAY)
def transcripts_default(context: typer.Context, options: Options) -> None:
    context.obj = options
    if context.invoked_subcommand is None:
        with errors_reported(options) as display:
            transcripts_list(options, display)


@command(transcripts, "cli.transcripts.list", *DISPLAY, name="list")
def transcripts_list(options: Options, display: Display) -> None:
    from bilingual_chat.commands.files import summary_row
    from bilingual_chat.storage import paths
    from bilingual_chat.transcript import history

    listed = history.list_conversations(paths.data_dir(), display.say)
    display.put_rows([(each.id, *summary_row(each, display.lang)) for each in listed])


@command(transcripts, "cli.transcripts.show", *DISPLAY, name="show")
def transcripts_show(
    options: Options,
    display: Display,
    which: str,
    as_: Annotated[str, typer.Option("--as", metavar="json|md|html|jsonl", help="option.as")] = "json",
) -> None:
    from bilingual_chat.transcript import document, export
    from bilingual_chat.transcript.journal import read_journal

    require_known("cli.as", as_, ("json", *(suffix.removeprefix(".") for suffix in export.FORMATS)))
    loaded = read_journal(_find_transcript(which).path)
    for problem in loaded.problems:
        display.say(problem)
    if as_ == "json":
        display.put_json(document.document_of(loaded), indent=2)
    elif as_ == "jsonl":  # JSON escapes what could act; visible marks would not read back
        display.put_json(export.messages_of(loaded))
    else:
        display.put(export.FORMATS[f".{as_}"](loaded).decode().removesuffix("\n"))


@command(transcripts, "cli.transcripts.search", *DISPLAY, name="search")
def transcripts_search(options: Options, display: Display, words: list[str]) -> None:
    from bilingual_chat.storage import paths
    from bilingual_chat.transcript import history

    found = history.search(paths.data_dir(), " ".join(words), display.say)
    if not found:
        raise BchatError("cli.nothing-found", status=ExitStatus.DATA, words=" ".join(words))
    display.put_rows([(match.summary.id, f"{match.summary.changed:%Y-%m-%d}", match.excerpt) for match in found])


def _find_transcript(which: str) -> Summary:
    """Find a transcript by its id, or by its number in the list."""
    from bilingual_chat.storage import paths
    from bilingual_chat.transcript import history

    listed = history.list_conversations(paths.data_dir())
    if which.isdecimal() and len(which) < 10 and 1 <= int(which) <= len(listed):
        return listed[int(which) - 1]
    for summary in listed:
        if summary.id == which:
            return summary
    raise BchatError("cli.which-transcript", status=ExitStatus.DATA, which=which)
