"""The command line: options, exit statuses, and the one place where errors end. The only room that knows typer.

Whatever computes is imported inside the commands: `bchat --help` takes a tenth of a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from bilingual_chat import __version__, messages
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase

if TYPE_CHECKING:
    from bilingual_chat.catalogue import ModelEntry
    from bilingual_chat.commands import Desk
    from bilingual_chat.config import Config, Settings
    from bilingual_chat.conversation import Utterance
    from bilingual_chat.display import Display
    from bilingual_chat.session import Session
    from bilingual_chat.transcript.shelf import Summary

LOCALE = messages.language_of(os.environ)


def _help(key: str) -> str:
    return messages.render(key, LOCALE)


app = typer.Typer(add_completion=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=_help("cli.app"))
transcripts = typer.Typer(rich_markup_mode=None, help=_help("cli.transcripts"))
app.add_typer(transcripts, name="transcripts", invoke_without_command=True)

Model = Annotated[str | None, typer.Option("--model", "-m", metavar="NAME|PATH", help=_help("option.model"))]
Preset = Annotated[str | None, typer.Option("--preset", "-p", metavar="NAME", help=_help("option.preset"))]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help=_help("option.set"))]
Seed = Annotated[str | None, typer.Option("--seed", metavar="N", help=_help("option.seed"))]
Persona = Annotated[str | None, typer.Option("--persona", metavar="TEXT", help=_help("option.persona"))]
Load = Annotated[Path | None, typer.Option("--load", metavar="FILE", help=_help("option.load"))]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help=_help("option.config"))]
Lang = Annotated[str | None, typer.Option("--lang", metavar="en|ja", help=_help("option.lang"))]
Debug = Annotated[bool, typer.Option("--debug", help=_help("option.debug"))]


def main() -> int:
    """Run bchat; the exit status."""
    try:
        return int(app(standalone_mode=False, prog_name="bchat") or 0)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:
        problem = getattr(error, "format_message", None)
        if problem is None:
            raise
        _complain(Phrase("cli.usage", problem=problem(), command="bchat"))
        return ExitStatus.USAGE


# -- commands -----------------------------------------------------------------------------------------


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    model: Model = None,
    preset: Preset = None,
    set_: Set = None,
    seed: Seed = None,
    persona: Persona = None,
    load: Load = None,
    config: ConfigFile = None,
    lang: Lang = None,
    debug: Debug = False,
    version: Annotated[bool, typer.Option("--version", help=_help("option.version"))] = False,
) -> None:
    if version:
        typer.echo(f"bchat {__version__}")
        raise typer.Exit
    options = Options(model, preset, tuple(set_ or ()), seed, persona, load, config, lang, debug)
    if context.invoked_subcommand is None:
        with ending(options):
            _leave(_chat(options))
    context.obj = options


@app.command(help=_help("cli.chat"))
def chat(
    context: typer.Context,
    model: Model = None,
    preset: Preset = None,
    set_: Set = None,
    seed: Seed = None,
    persona: Persona = None,
    load: Load = None,
    config: ConfigFile = None,
    lang: Lang = None,
    debug: Debug = False,
) -> None:
    options = Options(model, preset, tuple(set_ or ()), seed, persona, load, config, lang, debug).over(context.obj)
    with ending(options):
        _leave(_chat(options))


@app.command(help=_help("cli.ask"))
def ask(
    context: typer.Context,
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT|-]", help=_help("option.text"))] = None,
    as_json: Annotated[bool, typer.Option("--json", help=_help("option.json"))] = False,
    model: Model = None,
    preset: Preset = None,
    set_: Set = None,
    seed: Seed = None,
    persona: Persona = None,
    load: Load = None,
    config: ConfigFile = None,
    lang: Lang = None,
    debug: Debug = False,
) -> None:
    options = Options(model, preset, tuple(set_ or ()), seed, persona, load, config, lang, debug).over(context.obj)
    with ending(options):
        _ask(options, _question(text or []), as_json)


@app.command(help=_help("cli.presets"))
def presets(context: typer.Context, config: ConfigFile = None, lang: Lang = None, debug: Debug = False) -> None:
    options = Options(config=config, lang=lang, debug=debug).over(context.obj)
    with ending(options) as display:
        from bilingual_chat.commands import preset_rows
        from bilingual_chat.config import load_config

        display.put_rows(preset_rows(load_config(options.config), display.lang))


@app.command(help=_help("cli.models"))
def models(context: typer.Context, config: ConfigFile = None, lang: Lang = None, debug: Debug = False) -> None:
    options = Options(config=config, lang=lang, debug=debug).over(context.obj)
    with ending(options) as display:
        from bilingual_chat.commands import model_rows
        from bilingual_chat.config import load_config

        display.put_rows(model_rows(load_config(options.config), display.lang))


@app.command(help=_help("cli.pull"))
def pull(context: typer.Context, name: str, config: ConfigFile = None, lang: Lang = None, debug: Debug = False) -> None:
    options = Options(config=config, lang=lang, debug=debug).over(context.obj)
    with ending(options) as display:
        from bilingual_chat import catalogue, hub
        from bilingual_chat.config import load_config

        entry = catalogue.find(load_config(options.config).catalogue, name)
        path = hub.download(entry, display.progress)
        display.say(Phrase("cli.pulled", name=entry.name, path=path))


@app.command(help=_help("cli.where"))
def where(context: typer.Context, lang: Lang = None, debug: Debug = False) -> None:
    options = Options(lang=lang, debug=debug).over(context.obj)
    with ending(options) as display:
        from bilingual_chat import paths

        display.put_rows(
            [(messages.render(f"place.{name}", display.lang), str(path)) for name, path in paths.all_places().items()]
        )


@transcripts.callback()
def transcripts_default(context: typer.Context, lang: Lang = None, debug: Debug = False) -> None:
    options = Options(lang=lang, debug=debug).over(context.obj)
    context.obj = options
    if context.invoked_subcommand is None:
        _list_transcripts(options)


@transcripts.command("list", help=_help("cli.transcripts.list"))
def transcripts_list(context: typer.Context) -> None:
    _list_transcripts(context.obj)


@transcripts.command("show", help=_help("cli.transcripts.show"))
def transcripts_show(context: typer.Context, which: str) -> None:
    with ending(context.obj) as display:
        import json

        from bilingual_chat.transcript import document
        from bilingual_chat.transcript.journal import read_journal

        loaded = read_journal(_find_transcript(which).path)
        for problem in loaded.problems:
            display.say(problem)
        display.put(json.dumps(document.document_of(loaded), ensure_ascii=False, indent=2))


@transcripts.command("search", help=_help("cli.transcripts.search"))
def transcripts_search(context: typer.Context, words: list[str]) -> None:
    with ending(context.obj) as display:
        from bilingual_chat import paths
        from bilingual_chat.transcript import shelf

        found = shelf.search(paths.data_dir(), " ".join(words))
        if not found:
            raise BchatError("cli.nothing-found", status=ExitStatus.DATA, words=" ".join(words))
        display.put_rows([(match.summary.id, f"{match.summary.changed:%Y-%m-%d}", match.excerpt) for match in found])


def _list_transcripts(options: Options) -> None:
    with ending(options) as display:
        from bilingual_chat import paths
        from bilingual_chat.commands import summary_row
        from bilingual_chat.transcript import shelf

        display.put_rows([(each.id, *summary_row(each)) for each in shelf.list_conversations(paths.data_dir())])


def _find_transcript(which: str) -> Summary:
    from bilingual_chat import paths
    from bilingual_chat.transcript import shelf

    listed = shelf.list_conversations(paths.data_dir())
    if which.isdecimal() and 1 <= int(which) <= len(listed):
        return listed[int(which) - 1]
    for summary in listed:
        if summary.id == which:
            return summary
    raise BchatError("cli.which-transcript", status=ExitStatus.DATA, which=which)


# -- what the options mean ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What stands on the command line for a chat or a question."""

    model: str | None = None
    preset: str | None = None
    set: tuple[str, ...] = ()
    seed: str | None = None
    persona: str | None = None
    load: Path | None = None
    config: Path | None = None
    lang: str | None = None
    debug: bool = False

    def over(self, outer: Options | None) -> Options:
        """These, and where they say nothing those before the command's name."""
        if outer is None:
            return self
        own = {name: value for name, value in vars(self).items() if value not in (None, (), False)}
        return Options(**{**vars(outer), **own, "set": (*outer.set, *self.set)})


@dataclass(frozen=True)
class Beginning:
    """A chat as the options, the files and the environment want it to begin."""

    config: Config
    entry: ModelEntry
    settings: Settings
    opening: tuple[Utterance, ...]
    lang: str


def _begin(options: Options) -> Beginning:
    from bilingual_chat import catalogue
    from bilingual_chat.config import load_config, parse_assignments, settings_for
    from bilingual_chat.session import persona

    config = load_config(options.config)
    named = options.model or config.model
    entry = catalogue.find(config.catalogue, named) if named else catalogue.default_entry(config.catalogue)
    if catalogue.locate(entry) is None:
        raise BchatError("model.not-here", status=ExitStatus.MODEL, name=entry.name)
    chosen: dict[str, Any] = parse_assignments(options.set)
    if options.seed is not None:
        chosen |= parse_assignments([f"seed={options.seed}"])
    settings = settings_for(config, entry, options.preset, chosen)
    opening = persona(options.persona if options.persona is not None else config.persona)
    return Beginning(config, entry, settings, opening, _language(options, config))


def _language(options: Options, config: Config | None = None) -> str:
    wanted = options.lang or (config.lang if config else "") or os.environ.get("BCHAT_LANG", "") or LOCALE
    if wanted not in messages.LANGUAGES:
        raise BchatError("lang.unknown", status=ExitStatus.USAGE, name=wanted)
    return wanted


# -- chat and ask -------------------------------------------------------------------------------------


def _chat(options: Options) -> int:
    from bilingual_chat import paths, repl
    from bilingual_chat.display import Display
    from bilingual_chat.session import Session

    beginning = _begin(options)
    display = Display(beginning.lang)
    loader = repl.Loader(beginning.entry)
    session = Session(
        loader.wait,
        beginning.settings,
        entry=beginning.entry,
        directory=paths.data_dir(),
        opening=beginning.opening,
    )
    interactive = sys.stdin is not None and sys.stdin.isatty() and display.is_terminal
    desk = _desk(beginning, session, display)
    chat = repl.Chat(desk, display, loader)
    desk.load, desk.model_ready = chat.load, chat.model_ready
    if options.load is not None:
        _go_on_from(session, options.load, display)
    if not interactive:
        loader.start()
        with repl.signals_end_the_chat(None):
            return chat.run(repl.PlainReader(_standard_input()), interactive=False)
    from bilingual_chat.editor import Editor

    history = paths.state_dir() / "history"
    editor = Editor(desk, history, chat.toolbar, chat.is_loading, when_shown=loader.start)
    desk.ask = editor.ask
    _banner(beginning, display)
    with repl.signals_end_the_chat(editor):
        return chat.run(editor, interactive=True)


def _desk(beginning: Beginning, session: Session, display: Display) -> Desk:
    from bilingual_chat import paths
    from bilingual_chat.commands import Desk

    return Desk(
        session=session,
        config=beginning.config,
        conversations=paths.data_dir(),
        lang=beginning.lang,
        say=display.say,
        show=display.show,
        show_rows=display.show_rows,
    )


def _banner(beginning: Beginning, display: Display) -> None:
    entry = beginning.entry
    display.show(f"bchat {__version__}")
    if entry.embedded:
        display.say(Phrase("banner.demo", name=entry.name, size=f"{entry.parameters / 1e6:.1f}"))
        display.say(Phrase("banner.real"))
    else:
        display.say(Phrase("banner.model", name=entry.name, description=entry.describe(display.lang)))
    if entry.kind == "base":
        display.say(Phrase("banner.base"))
    display.say(Phrase("banner.help"))


def _go_on_from(session: Session, path: Path, display: Display) -> None:
    from bilingual_chat import paths
    from bilingual_chat.transcript import document

    loaded = document.read_document(paths.expand(str(path)))
    for problem in loaded.problems:
        display.say(problem)
    session.continue_from(loaded)
    display.say(Phrase("load.done", turns=len(loaded.conversation.turns)))


def _ask(options: Options, question: str, as_json: bool) -> None:
    from contextlib import closing

    from bilingual_chat import session as sessions
    from bilingual_chat.display import Display
    from bilingual_chat.transcript import document

    beginning = _begin(options)
    display = Display(beginning.lang)
    if not question.strip():
        raise BchatError("cli.nothing-to-ask", status=ExitStatus.USAGE)
    session = sessions.Session(
        lambda: sessions.open_model(beginning.entry),
        beginning.settings,
        entry=beginning.entry,
        directory=None,
        opening=beginning.opening,
    )
    if options.load is not None:
        session.continue_from(document.read_document(options.load))
    display.begin_reply()
    with closing(session.reply(question)) as events:
        try:
            for event in events:
                if not isinstance(event, str):
                    display.say(event)
                elif not as_json:
                    display.piece(event)
        finally:
            if not as_json:
                display.end_reply()
    if as_json and session.last is not None:
        _print_json(session)


def _print_json(session: Session) -> None:
    import json
    from dataclasses import asdict

    last = session.last
    assert last is not None
    result = {
        "reply": last.reply,
        "finish_reason": last.finish.value,
        "prompt": last.prompt.text,
        "prompt_ids": list(last.prompt.ids),
        "reply_ids": list(last.reply_ids),
        "model": session.entry.name,
        "settings": asdict(last.parameters),
        "usage": last.usage,
        "timings": last.timings,
        "dropped_turns": last.prompt.dropped_turns,
    }
    # JSON escapes what could act on a terminal; readable Japanese stays.
    text = json.dumps(result, ensure_ascii=False)
    sys.stdout.write(_escaped(text) + "\n")
    sys.stdout.flush()


def _escaped(text: str) -> str:
    """JSON text in which what `untrusted.outward` would mark is a \\u escape: the same value, and harmless."""
    from bilingual_chat.untrusted import outward

    if outward(text) == text:
        return text
    units = ((c if outward(c) == c else "".join(f"\\u{unit:04x}" for unit in _utf16(c))) for c in text)
    return "".join(units)


def _utf16(character: str) -> list[int]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def _question(words: list[str]) -> str:
    """The words of the command line, or standard input for "-" or for nothing."""
    if words and words != ["-"]:
        return " ".join(words)
    if not words and (sys.stdin is None or sys.stdin.isatty()):
        return ""
    return _standard_input().read().removesuffix("\n")


def _standard_input() -> TextIO:
    from io import StringIO, TextIOWrapper

    if sys.stdin is None:  # closed by the parent
        return StringIO()
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin


# -- how it ends --------------------------------------------------------------------------------------


@contextmanager
def ending(options: Options | None) -> Iterator[Display]:
    """The one place where errors end: a sentence on stderr, and the exit status that fits."""
    from bilingual_chat.display import Display
    from bilingual_chat.repl import Terminated

    options = options or Options()
    with suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        yield Display(_language(options))
    except BchatError as error:
        _complain(error, options)
        _leave(error.status)
    except KeyboardInterrupt:
        _leave(ExitStatus.INTERRUPTED)
    except BrokenPipeError:
        _leave(_closed_pipe())
    except Terminated as signal:
        _leave(signal.status)
    except OSError as error:
        if options.debug:
            raise
        _unforeseen(error, options)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if options.debug:
            raise
        _unforeseen(error, options)


def _leave(status: int) -> NoReturn:
    raise typer.Exit(int(status))


def _complain(said: Phrase | BchatError, options: Options | None = None) -> None:
    from bilingual_chat.display import Display

    lang = options.lang if options and options.lang in messages.LANGUAGES else os.environ.get("BCHAT_LANG", LOCALE)
    with suppress(BrokenPipeError):
        Display(lang or LOCALE).say(said, is_error=True)


def _unforeseen(error: Exception, options: Options) -> NoReturn:
    """Details into a file, one line for the person."""
    import traceback
    from datetime import datetime

    from bilingual_chat import paths

    path = paths.state_dir() / f"error-{datetime.now():%Y%m%d-%H%M%S}.log"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
    _complain(BchatError("cli.unforeseen", kind=type(error).__name__, path=path), options)
    _leave(ExitStatus.FAILED)


def _closed_pipe() -> ExitStatus:
    """Nobody reads any more: say nothing, and keep Python from complaining when it flushes at the end."""
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
    return ExitStatus.CLOSED_PIPE
