"""`bchat chat` and `bchat ask`."""

from __future__ import annotations

import sys
from contextlib import closing, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bilingual_chat import __version__
from bilingual_chat.cli.options import Options
from bilingual_chat.cli.startup import Startup, prepare
from bilingual_chat.commands.app import Reader, build_app
from bilingual_chat.commands.files import say_resumed
from bilingual_chat.commands.first_run import SHOWN, Offer, find_offer, remember
from bilingual_chat.commands.models import offer_phrase
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Completion, Model, open_model
from bilingual_chat.session.model_loader import open_in_background
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import DEFAULT_MODEL
from bilingual_chat.storage import paths
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal import signals
from bilingual_chat.terminal.chat import Chat
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.keyboard import quiet_keys
from bilingual_chat.terminal.reader import DumbReader, PlainReader
from bilingual_chat.terminal.standard_input import StandardInput
from bilingual_chat.text.encodings import decode_argument
from bilingual_chat.transcript import document

if TYPE_CHECKING:
    from bilingual_chat.terminal.editor import Editor

MAX_QUESTION = 10_000_000  # characters from standard input


def chat(options: Options, display: Display) -> int:
    """Chat until the user leaves. Return the exit status."""
    startup = prepare(options, display)
    display.interface = "chat"
    editor = _open_editor(display) if display.is_terminal and sys.stdin.isatty() else None
    app = build_app(
        startup.config,
        startup.entry,
        startup.settings,
        open_model=lambda entry, progress: open_in_background(entry, startup.open_options, progress),
        conversations=paths.data_dir(),
        screen=display,
        reader=editor or _open_reader(display, options.encoding),
        opening=startup.opening,
    )
    app.session.begin_with(startup.begin)
    edit = None
    if options.load is not None:
        _continue_from(app.session, options.load, display)
        edit = say_resumed(app)
    try:
        with signals.signals_handled(editor, display.resume), quiet_keys() if editor else nullcontext():
            if app.reader.is_interactive:
                if not startup.is_chosen and options.load is None:
                    app.downloads.offer = find_offer(startup.config.catalogue)
                _banner(startup, display, app.downloads.offer)
            if editor is None:  # the editor starts it after the first prompt
                app.loader.start()
            return Chat(app, display, edit).run()
    except signals.Terminated as ended:
        return ended.status


def _open_editor(display: Display) -> Editor:
    from bilingual_chat.terminal.editor import Editor

    with redirect_stdout(display.out):  # prompt_toolkit looks it up when it is created
        return Editor(paths.state_dir() / "history")


def _open_reader(display: Display, encoding: str | None) -> Reader:
    lines = StandardInput(sys.stdin.buffer, encoding)
    return DumbReader(lines, display) if display.is_dumb and sys.stdin.isatty() else PlainReader(lines)


def _banner(startup: Startup, display: Display, offer: Offer | None) -> None:
    entry = startup.entry
    phrases = [Phrase("banner.model", name=entry.name, description=entry.describe(display.lang))]
    if entry.server:
        phrases = [Phrase("server.banner", name=entry.name, server=entry.server)]
    elif entry.embedded:
        size = format_bytes(startup.config.catalogue[DEFAULT_MODEL].stored_bytes)
        real = offer_phrase(offer) if offer else Phrase("banner.real", size=size)
        phrases = [Phrase("banner.demo", name=entry.name, size=entry.parameters), real]
    if entry.kind == "base":
        phrases.append(Phrase("banner.base"))
    display.show(f"bchat {__version__}")
    for phrase in (*phrases, Phrase("banner.help")):
        display.show(display.text(phrase))
    if offer:
        remember(SHOWN)


def _continue_from(session: Session, path: Path, display: Display) -> None:
    loaded = document.read_document(paths.expand(str(path)))
    for problem in loaded.problems:
        display.say(problem)
    session.continue_from(loaded)


def ask(options: Options, display: Display, words: list[str], as_json: bool, with_logprobs: bool) -> None:
    """Print one reply to stdout while it is computed, or as one JSON object at the end."""
    if with_logprobs and not as_json:
        raise BchatError("cli.logprobs", status=ExitStatus.USAGE)
    startup = prepare(options, display)
    question = _question(words, options.encoding)
    if words and words != ["-"] and _has_unread_bytes(sys.stdin):
        display.say(Phrase("cli.not-read"))
    session = Session(
        lambda: open_model(startup.entry, startup.open_options),
        startup.settings,
        entry=startup.entry,
        directory=None,
        opening=startup.opening,
        on_prefill=display.reading,
    )
    session.begin_with(startup.begin)
    if options.load is not None:
        _continue_from(session, options.load, display)
    if session.pending is not None:
        if question.strip():
            display.say(Phrase("load.left-out"))
        elif not words:
            question = session.pending
    if not question.strip():
        raise BchatError("cli.nothing-to-ask", status=ExitStatus.USAGE)
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
        tokens = {"tokens": _tokens_of(session.last, session.model())} if with_logprobs else {}
        display.put_json(_as_json(session.last) | tokens)


def _as_json(last: Completion) -> dict[str, object]:
    from bilingual_chat.settings.decoding import as_record, filter_order

    return {
        "reply": last.reply,
        "begin": last.prompt.beginning.given,
        "finish_reason": last.finish.value,
        "prompt": last.prompt.text,
        "prompt_ids": list(last.prompt.ids),
        "reply_ids": list(last.reply_ids),
        **last.model,
        "settings": as_record(last.parameters),
        "filters": list(filter_order(last.parameters)),
        "usage": last.usage,
        "timings": last.timings,
        "dropped_turns": last.prompt.dropped_turns,
        "dropped_characters": last.prompt.dropped_characters,
    }


def _tokens_of(last: Completion, model: Model) -> list[dict[str, object]]:
    """Return the tokens of a reply, the end token included, with their probabilities (natural logs, nats)."""

    def named(token_id: int) -> dict[str, object]:
        piece = model.tokenizer.piece(token_id)
        data = piece.encode() if isinstance(piece, str) else piece
        return {"id": token_id, "token": data.decode(errors="replace"), "bytes": list(data)}

    return [
        {
            **named(each.token_id),
            "logprob_sampled": each.logprob,
            "logprob_model": each.raw_logprob,
            "entropy": each.entropy,
            "rank": each.rank,
            "top": [{**named(token_id), "logprob": logprob} for token_id, logprob in each.top],
            "kept": [{**named(token_id), "logprob": logprob} for token_id, logprob in each.kept],
            "removed": [{**named(token_id), "filter": name} for token_id, name in each.removed],
        }
        for each in last.chunks
    ]


def _question(words: list[str], encoding: str | None) -> str:
    """Return the question: the words of the command line; stdin for "-", and for none unless it is a terminal."""
    if words and words != ["-"]:
        return decode_argument(" ".join(words), encoding)
    if not words and sys.stdin.isatty():
        return ""
    return StandardInput(sys.stdin.buffer, encoding).read(MAX_QUESTION).removesuffix("\n")


def _has_unread_bytes(file: TextIO | None) -> bool:
    """Return True if bytes are waiting in `file`; read none. False if the system does not say.

    `select` would not do: it also reports an empty closed pipe as readable.
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
