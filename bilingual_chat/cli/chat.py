"""`bchat chat` and `bchat ask`: a session, and what it speaks through."""

from __future__ import annotations

import sys
from contextlib import closing, redirect_stdout
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from bilingual_chat import __version__
from bilingual_chat.cli.startup import Options, Startup, begin
from bilingual_chat.commands.app import App
from bilingual_chat.commands.files import say_resumed
from bilingual_chat.commands.first_run import SHOWN, Offer, find_offer, remember
from bilingual_chat.commands.models import offer_phrase
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Completion, open_model
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import DEFAULT_MODEL
from bilingual_chat.storage import paths
from bilingual_chat.terminal import repl, signals
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.keyboard import quiet_keys
from bilingual_chat.terminal.reader import DumbReader, PlainReader
from bilingual_chat.transcript import document

MAX_QUESTION = 10_000_000  # characters from standard input


def chat(options: Options, display: Display) -> int:
    """Until the person leaves; the exit status."""
    startup = begin(options, display)
    display.place = "chat"
    loader = repl.ModelLoader(startup.entry, opening=startup.how)
    session = Session(
        lambda: talk.obtain_model(),
        startup.settings,
        entry=startup.entry,
        directory=paths.data_dir(),
        opening=startup.opening,
    )
    app = App(
        session=session,
        config=startup.config,
        conversations=paths.data_dir(),
        lang=display.lang,
        say=display.say,
        show=display.show,
        show_rows=display.show_rows,
    )
    talk = repl.Chat(app, display, loader)
    app.load, app.model_ready = talk.load, talk.model_ready
    app.downloads.foreground = display.progress
    app.has_line = _has_editor(display)
    if options.load is not None:
        _go_on_from(session, options.load, display)
        if edit := say_resumed(app):
            talk.begin_line(edit)
    try:
        if app.has_line or (display.is_dumb and sys.stdin.isatty()):
            if not startup.is_chosen and options.load is None:
                app.downloads.offer = find_offer(startup.config.catalogue)
            if display.is_dumb:
                return _on_a_dumb_terminal(startup, app, talk, loader, display)
            return _on_a_terminal(startup, app, talk, loader, display)
        loader.start()
        with signals.signals_handled(None):
            return talk.run(PlainReader(_standard_input()), interactive=False)
    except signals.Terminated as ended:
        return ended.status


def _has_editor(display: Display) -> bool:
    return display.is_terminal and sys.stdin.isatty()


def _on_a_terminal(startup: Startup, app: App, talk: repl.Chat, loader: repl.ModelLoader, display: Display) -> int:
    from bilingual_chat.terminal.editor import Editor

    history = paths.state_dir() / "history"
    with redirect_stdout(display.out):  # prompt_toolkit looks it up here
        editor = Editor(app, history, talk.toolbar, talk.is_busy, when_shown=loader.start, typed=talk.ahead.typed)
    app.ask = editor.ask
    talk.ahead.when_further = editor.refresh
    app.downloads.foreground = None
    app.downloads.on_finished = lambda: editor.put_aside(talk.tell_news)
    with signals.signals_handled(editor, display.begin_reply), quiet_keys():
        _banner(startup, display, app.downloads.offer)
        return talk.run(editor, interactive=True)


def _on_a_dumb_terminal(startup: Startup, app: App, talk: repl.Chat, loader: repl.ModelLoader, display: Display) -> int:
    """Without a bottom line: a download is waited for, as on a pipe."""
    reader = DumbReader(_standard_input(), display)
    app.ask = reader.ask
    with signals.signals_handled(None):
        _banner(startup, display, app.downloads.offer)
        loader.start()
        return talk.run(reader, interactive=True)


def _banner(startup: Startup, display: Display, offer: Offer | None) -> None:
    entry = startup.entry

    def tell(said: Phrase) -> None:
        display.show(display.text(said))

    display.show(f"bchat {__version__}")
    if entry.embedded:
        tell(Phrase("banner.demo", name=entry.name, size=entry.parameters))
        real = startup.config.catalogue[DEFAULT_MODEL]
        size = f"{real.stored_bytes / 1e9:.1f}"
        tell(offer_phrase(offer) if offer else Phrase("banner.real", size=size))
    else:
        tell(Phrase("banner.model", name=entry.name, description=entry.describe(display.lang)))
    if entry.kind == "base":
        tell(Phrase("banner.base"))
    tell(Phrase("banner.help"))
    if offer:
        remember(SHOWN)


def _go_on_from(session: Session, path: Path, display: Display) -> None:
    loaded = document.read_document(paths.expand(str(path)))
    for problem in loaded.problems:
        display.say(problem)
    session.continue_from(loaded)


def ask(options: Options, display: Display, words: list[str], as_json: bool) -> None:
    """One reply on stdout, as it comes or, with `as_json`, as one object."""
    startup = begin(options, display)
    question = _question(words)
    if words and words != ["-"] and _holds_something(sys.stdin):
        display.say(Phrase("cli.not-read"))
    if "\ufffd" in question:
        display.say(Phrase("cli.not-utf8"))
    session = Session(
        lambda: open_model(startup.entry, startup.how),
        startup.settings,
        entry=startup.entry,
        directory=None,
        opening=startup.opening,
    )
    if options.load is not None:
        _go_on_from(session, options.load, display)
    if session.pending is not None:
        if question.strip():
            display.say(Phrase("load.left-out"))
        elif not words:
            question = session.pending
    if not question.strip():
        raise BchatError("cli.nothing-to-ask", status=ExitStatus.USAGE)
    session.tell_reading = display.reading
    try:
        with closing(session.reply(question)) as events:
            for event in events:
                display.doing(None)
                if not isinstance(event, str):
                    display.end_reply()
                    display.say(event)
                elif not as_json:
                    display.piece(event)
    finally:
        display.doing(None)
        display.end_reply()
    if as_json and session.last is not None:
        display.put_json(_as_json(session.last))


def _as_json(last: Completion) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "reply": last.reply,
        "finish_reason": last.finish.value,
        "prompt": last.prompt.text,
        "prompt_ids": list(last.prompt.ids),
        "reply_ids": list(last.reply_ids),
        **last.model,
        "settings": asdict(last.parameters),
        "usage": last.usage,
        "timings": last.timings,
        "dropped_turns": last.prompt.dropped_turns,
        "dropped_characters": last.prompt.dropped_characters,
    }


def _question(words: list[str]) -> str:
    """The words of the command line, or standard input for "-" or for nothing."""
    if words and words != ["-"]:
        return " ".join(words)
    if not words and sys.stdin.isatty():
        return ""
    return _standard_input().read(MAX_QUESTION).removesuffix("\n")


def _holds_something(file: TextIO | None) -> bool:
    """Whether bytes wait there, found out without waiting or taking any; False where that cannot be known.

    `select` would not do: a pipe that is empty and closed is "readable" too.
    """
    if file is None:
        return False
    try:
        import fcntl
        import termios

        waiting = fcntl.ioctl(file.fileno(), termios.FIONREAD, bytes(4))
    except (ImportError, OSError, ValueError):  # Windows; /dev/null; closed
        return False
    return not file.isatty() and any(waiting)


def _standard_input() -> TextIO:
    """As UTF-8, whatever the locale says; editors of Windows begin it with a byte-order mark."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")
    return sys.stdin
