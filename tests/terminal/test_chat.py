"""The loop: a line is a message or a command; errors return to the prompt; no text is lost."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyte
import pytest

from bilingual_chat.commands.app import App, build_app
from bilingual_chat.engines.protocol import Chunk, Progress
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session import model_loader
from bilingual_chat.session.model import Model
from bilingual_chat.session.model_loader import ModelLoader
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import load_config
from bilingual_chat.terminal import reader
from bilingual_chat.terminal.chat import Chat
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.linebreak import count_cells
from bilingual_chat.terminal.reader import PlainReader
from bilingual_chat.terminal.signals import Terminated, signals_handled
from bilingual_chat.terminal.standard_input import StandardInput
from bilingual_chat.terminal.toolbar import Toolbar
from bilingual_chat.text.conversation import FinishReason
from bilingual_chat.transcript.journal import read_journal
from tests.scripted import ENTRY, Line, Person, Script, ScriptedEngine, settings, tokenizer


@dataclass
class Talk:
    """A chat over a scripted model, and its output."""

    app: App
    display: Display
    out: io.StringIO
    err: io.StringIO
    directory: Path
    engine: ScriptedEngine
    person: Person

    @cached_property
    def chat(self) -> Chat:
        return Chat(self.app, self.display)

    @property
    def session(self) -> Session:
        return self.app.session

    def run(self, *lines: Line, interactive: bool = True) -> int:
        self.person.lines = iter(lines)
        self.person.has_editor = self.person.is_interactive = interactive
        return self.chat.run()

    def toolbar(self, width: int | None = None) -> str:
        return Toolbar(self.app).text(width)

    @property
    def said(self) -> list[str]:
        return self.err.getvalue().splitlines()

    @property
    def turns(self) -> list[tuple[str, str, str]]:
        """The turns in the journal: (user, reply, finish)."""
        (file,) = self.directory.glob("*.jsonl")
        return [(turn.user, turn.reply, turn.finish.value) for turn in read_journal(file).conversation.turns]


def make_talk(
    tmp_path: Path,
    *replies: str | Script,
    open_it: Callable[[ModelEntry, Progress], Model] | None = None,
    on_step: Callable[[], None] = lambda: None,
    context_length: int = 2048,
    screen: io.StringIO | None = None,
) -> Talk:
    engine = ScriptedEngine(replies, on_step=on_step, context_length=context_length)
    out, err = screen or io.StringIO(), screen or io.StringIO()
    display, person = Display(out=out, err=err), Person()
    app = build_app(
        load_config(environment={}),
        ENTRY,
        settings(),
        open_model=open_it or (lambda entry, progress: Model(entry, tokenizer(), engine)),
        conversations=tmp_path / "data",
        screen=display,
        reader=person,
    )
    if open_it is None:
        app.loader.obtain()
    return Talk(app, display, out, err, tmp_path / "data", engine, person)


def interrupt_at(step: int) -> Callable[[], None]:
    """Act like Ctrl-C during that token."""
    steps = iter(range(1, 10_000))

    def on_step() -> None:
        if next(steps) == step:
            signal.raise_signal(signal.SIGINT)

    return on_step


# -- plainly, from a pipe -----------------------------------------------------------------------------


def test_replies_go_to_stdout_and_everything_else_to_stderr(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, "Hello.", "はい。")
    assert talk.run("Hi", "", "/undo", "やあ", "/history", interactive=False) == ExitStatus.OK
    assert talk.out.getvalue() == "Hello.\nはい。\n"
    assert "Undone: Hi" in talk.said
    assert talk.turns == [("やあ", "はい。", "stop")]


def test_the_exit_status_is_that_of_the_first_line_that_failed(tmp_path: Path) -> None:
    talk = make_talk(tmp_path)
    assert talk.run("/nosuch", "/load /no/such/file", "hi", interactive=False) == ExitStatus.USAGE
    assert talk.out.getvalue() == "はい。\n"


def test_a_person_who_made_mistakes_leaves_with_0(tmp_path: Path) -> None:
    assert make_talk(tmp_path).run("/nosuch", "/exit", "never read") == ExitStatus.OK


def test_a_double_slash_sends_a_slash(tmp_path: Path) -> None:
    talk = make_talk(tmp_path)
    talk.run("//etc is a directory")
    assert talk.turns[0][0] == "/etc is a directory"


def test_lines_of_a_pipe(tmp_path: Path) -> None:
    app, lines = make_talk(tmp_path).app, PlainReader(StandardInput(io.BytesIO("one\r\ntwo\n\n最後".encode())))
    assert [lines.read(app) for _ in range(4)] == ["one", "two", "", "最後"]
    with pytest.raises(EOFError):
        lines.read(app)


def test_a_line_without_end_is_one_message_not_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_LINE", 10)
    app, lines = (
        make_talk(tmp_path).app,
        PlainReader(StandardInput(io.BytesIO(b"x" * 35 + b"\nnext\n" + b"y" * 10 + b"\n"))),
    )
    assert [lines.read(app), lines.read(app), lines.read(app)] == ["x" * 10, "next", "y" * 10]


# -- what is being typed ------------------------------------------------------------------------------


class PromptPrefetch(ScriptedEngine):
    """Prefills as long as the test allows, and records interleaved replies."""

    can_prefill = True
    is_prefilling = False
    was_disturbed = False

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        self.is_prefilling = True
        try:
            while True:
                time.sleep(0.02)
                yield 1
        finally:
            self.is_prefilling = False

    def complete(self, *given: Any) -> Generator[Chunk, None, None]:
        self.was_disturbed = self.was_disturbed or self.is_prefilling
        yield from super().complete(*given)


@pytest.mark.parametrize("command", ["", "/retry", "/compare calm creative"])
def test_a_reply_waits_for_the_engine_that_reads_ahead(tmp_path: Path, command: str) -> None:
    engine = PromptPrefetch()
    talk = make_talk(tmp_path, open_it=lambda entry, progress: Model(ENTRY, tokenizer(), engine))
    talk.app.loader.obtain()

    def typed(line: str) -> str:
        talk.app.prefetch.typed("Tell me something about cats")
        until = time.monotonic() + 5
        while not engine.is_prefilling and time.monotonic() < until:
            time.sleep(0.001)
        assert engine.is_prefilling
        return line

    assert talk.run(lambda: typed("Tell me something about cats."), lambda: typed(command)) == ExitStatus.OK
    assert engine.prompts
    assert not engine.was_disturbed


def test_ctrl_c_while_the_engine_gets_free_keeps_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = make_talk(tmp_path, "Yes.")

    def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(talk.app.session, "_obtain_model", interrupted)
    talk.run("Hello?", "/retry")
    assert talk.turns == [("Hello?", "Yes.", "stop")]


# -- Ctrl-C -------------------------------------------------------------------------------------------


def test_ctrl_c_stops_a_reply_within_a_token_and_keeps_the_partial_text(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, "one two three four five six", "Yes.", on_step=interrupt_at(3))
    assert talk.run("count", "go on") == ExitStatus.OK
    text = tokenizer().decode(tokenizer().encode("one two three four five six")[:2])
    assert talk.turns == [("count", text, "interrupted"), ("go on", "Yes.", "stop")]
    assert talk.out.getvalue() == f"{text}\nYes.\n"
    assert talk.said == ["(stopped)"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_hammered_does_not_disturb_the_keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes while the turn is written."""
    from bilingual_chat.transcript.journal import Journal

    record = Journal.record_turn

    def interrupted(self: Journal, *arguments: Any, **named: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        record(self, *arguments, **named)

    monkeypatch.setattr(Journal, "record_turn", interrupted)
    talk = make_talk(tmp_path, "one two three four", on_step=interrupt_at(2))
    assert talk.run("count") == ExitStatus.OK
    assert [finish for _, _, finish in talk.turns] == ["interrupted"]


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path) -> None:
    """Like a shell does for its background jobs."""
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        talk = make_talk(tmp_path, "one two three four", on_step=interrupt_at(2))
        talk.run("count")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, usual)
    assert talk.turns == [("count", "one two three four", "stop")]


def test_ctrl_c_ends_what_is_fed_from_a_pipe(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, "one two three", on_step=interrupt_at(2))
    assert talk.run("count", "never read", interactive=False) == ExitStatus.INTERRUPTED
    assert [finish for _, _, finish in talk.turns] == ["interrupted"]


def test_ctrl_c_twice_on_an_empty_line_leaves_and_all_is_saved(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, "Hello.")
    assert talk.run("Hi", KeyboardInterrupt(), KeyboardInterrupt(), "never") == ExitStatus.INTERRUPTED
    assert talk.said == ["Press Ctrl-C again to exit (or Ctrl-D, or /exit)."]
    assert talk.turns == [("Hi", "Hello.", "stop")]


def test_ctrl_c_once_and_again_later_does_not_leave(tmp_path: Path) -> None:
    assert make_talk(tmp_path).run(KeyboardInterrupt(), "Hi", KeyboardInterrupt(), "/exit") == ExitStatus.OK


def test_ctrl_c_in_a_command_returns_to_the_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example /resume of a long list."""
    talk = make_talk(tmp_path)
    monkeypatch.setattr(talk.display, "show_rows", lambda *rows: signal.raise_signal(signal.SIGINT))
    assert talk.run("/settings", "Hi") == ExitStatus.OK
    assert talk.said == ["(stopped)"]
    assert len(talk.turns) == 1


# -- loading ------------------------------------------------------------------------------------------


def test_a_message_sent_early_waits_for_the_model(tmp_path: Path) -> None:
    ready = threading.Event()

    def open_it(entry: ModelEntry, progress: Progress) -> Model:
        ready.wait(10)
        return Model(entry, tokenizer(), ScriptedEngine(["Here."]))

    talk = make_talk(tmp_path, open_it=open_it)
    assert talk.toolbar().startswith("scripted · loading …")
    threading.Timer(0.05, ready.set).start()
    assert talk.run("Hi") == ExitStatus.OK
    assert talk.out.getvalue() == "Here.\n"
    assert talk.said == ["(the model is loading; your message waits)"]
    assert "loading" not in talk.toolbar()


def test_on_a_screen_the_waiting_line_says_how_far_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = type("Screen", (io.StringIO,), {"isatty": lambda self: True})()

    def open_it(entry: ModelEntry, progress: Progress) -> Model:
        progress(4, 10)
        until = time.monotonic() + 10
        while "40 %" not in screen.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
        return Model(entry, tokenizer(), ScriptedEngine(["Here."]))

    talk = make_talk(tmp_path, open_it=open_it, screen=screen)
    talk.run("Hi")
    assert "(the model is loading, 40 %; your message waits)" in screen.getvalue()
    seen = pyte.Screen(80, 5)
    pyte.Stream(seen).feed(screen.getvalue().replace("\n", "\r\n"))
    assert [line.rstrip() for line in seen.display] == ["Here.", "", "", "", ""]


def test_ctrl_c_while_waiting_for_the_model_keeps_the_words_and_returns_to_the_prompt(tmp_path: Path) -> None:
    """The model continues to load, and /retry sends the text."""
    end = threading.Event()

    def open_it(entry: ModelEntry, progress: Progress) -> Model:
        end.wait(10)
        return Model(entry, tokenizer(), ScriptedEngine(["Here."]))

    def again() -> str:
        (file,) = talk.directory.glob("*.jsonl")
        assert read_journal(file).pending_user == "Hi"
        assert talk.app.loader.is_loading
        end.set()
        return "/retry"

    talk = make_talk(tmp_path, open_it=open_it)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert talk.run("Hi", again) == ExitStatus.OK
    assert talk.said[1] == "(stopped; your message is kept, /retry sends it again)"
    assert talk.turns == [("Hi", "Here.", "stop")]


def test_ctrl_c_at_once_after_enter_keeps_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first event: the first write to the screen takes long."""
    talk = make_talk(tmp_path, "Yes.")
    monkeypatch.setattr(talk.display, "begin_reply", lambda: signal.raise_signal(signal.SIGINT))
    talk.run("Hello?")
    (file,) = talk.directory.glob("*.jsonl")
    assert read_journal(file).pending_user == "Hello?"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (BchatError("model.not-here", status=ExitStatus.MODEL, name="x"), "The model x is not on this machine"),
        (ImportError("no torch\n\x1b[2J"), "(ImportError: no torch␊␛[2J). /model chooses another."),
        (MemoryError(), "(MemoryError: ). /model"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_sentence_and_the_prompt_comes_back(
    tmp_path: Path, error: Exception, sentence: str
) -> None:
    engine = ScriptedEngine(["From another."])

    def open_it(entry: ModelEntry, progress: Progress) -> Model:
        if entry is ENTRY:
            raise error
        return Model(entry, tokenizer(), engine)

    talk = make_talk(tmp_path, open_it=open_it)
    assert talk.run("Hi", "/model demo", "Hi again") == ExitStatus.OK
    assert len([line for line in talk.said if sentence in line]) == 1
    assert talk.out.getvalue() == "From another.\n"
    assert talk.toolbar().startswith("demo · ")


def test_the_toolbar_shows_a_missing_model(tmp_path: Path) -> None:
    def fail(entry: ModelEntry, progress: Progress) -> Model:
        raise BchatError("model.not-here", name="x")

    talk = make_talk(tmp_path, open_it=fail)
    with pytest.raises(BchatError):
        talk.app.loader.obtain()
    assert talk.toolbar().startswith("scripted · not loaded")


def test_loading_lets_the_keys_go_first_and_puts_everything_back(tmp_path: Path) -> None:
    import gc
    import sys

    usual = sys.getswitchinterval()
    seen: list[tuple[float, bool]] = []

    def open_it(entry: ModelEntry, progress: Progress) -> Model:
        seen.append((sys.getswitchinterval(), gc.isenabled()))
        return Model(entry, tokenizer(), ScriptedEngine())

    ModelLoader(ENTRY, open_it).obtain()
    time.sleep(0.01)
    assert seen == [(pytest.approx(model_loader.SWITCH_S), False)]
    assert (sys.getswitchinterval(), gc.isenabled()) == (pytest.approx(usual), True)
    assert not model_loader.is_a_model_loading()


# -- errors -------------------------------------------------------------------------------------------


def test_an_engine_that_fails_keeps_the_turn_and_the_prompt_comes_back(tmp_path: Path) -> None:
    failing = Script("half of ", BchatError("reason.other", text="out of memory"))
    talk = make_talk(tmp_path, failing, "Better.")
    assert talk.run("Hi", "again") == ExitStatus.OK
    assert talk.turns == [("Hi", "half of ", "failed"), ("again", "Better.", "stop")]
    assert talk.said[-1] == "out of memory"


def test_a_message_that_is_too_long_comes_back_to_be_shortened(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, "Fine.", context_length=64)
    assert talk.run("word " * 100, "short") == ExitStatus.OK
    assert talk.person.prefills == ["", "word " * 100, ""]
    assert talk.turns == [("short", "Fine.", "stop")]


@pytest.mark.parametrize("text", ["word\n" * 3000, "word " * 3000, "語\n" * 20])
def test_a_message_that_would_push_the_reason_off_the_screen_stays_in_the_history(tmp_path: Path, text: str) -> None:
    talk = make_talk(tmp_path, "Fine.", context_length=32)
    assert talk.run(text, "short") == ExitStatus.OK
    assert talk.person.prefills == ["", "", ""]
    assert "The message is too long" in talk.said[0]
    assert "Press Up to get it back" in talk.said[0]
    assert make_talk(tmp_path, context_length=32).run(text, interactive=False) == ExitStatus.USAGE


# -- /edit --------------------------------------------------------------------------------------------


def test_edit_puts_the_message_into_the_line_and_replaces_the_turn_when_it_is_sent(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, "First.", "Second.")
    during: list[int] = []

    def send() -> str:
        during.append(len(talk.session.conversation.turns))
        return "better words"

    talk.run("words", "/edit", send)
    assert talk.person.prefills == ["", "", "words", ""]
    assert during == [1]
    assert talk.turns == [("better words", "Second.", "stop")]


@pytest.mark.parametrize("given_up", [KeyboardInterrupt(), "", "  ", "/history"])
def test_an_edit_that_is_given_up_takes_nothing_back(tmp_path: Path, given_up: str | BaseException) -> None:
    """By Ctrl-C, by an empty line, by a command; the next message is separate."""
    talk = make_talk(tmp_path, "First.", "Second.")
    assert talk.run("words", "/edit", given_up, "other words") == ExitStatus.OK
    assert talk.turns == [("words", "First.", "stop"), ("other words", "Second.", "stop")]
    assert "Press Ctrl-C again" not in talk.err.getvalue()


def test_an_edit_that_is_too_long_takes_nothing_back_and_can_be_mended(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, "First.", "Second.", context_length=64)
    talk.run("words", "/edit", "word " * 100, "short")
    assert talk.person.prefills[3] == "word " * 100
    assert talk.turns == [("short", "Second.", "stop")]


# -- the toolbar --------------------------------------------------------------------------------------


def test_the_toolbar_shows_model_preset_what_differs_context_and_speed(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, "one two three four five six", on_step=lambda: time.sleep(0.001))
    talk.run("Hi", "/temp 0.5", "/seed 7")
    parts = talk.toolbar().split(" · ")
    model = talk.app.loader.model
    assert model
    assert parts[0] == "scripted"
    assert parts[1].split() == ["temperature=0.5", "seed=7"]
    assert parts[2] == f"{model.count(talk.session.conversation.utterances())}/2048"
    assert parts[3].endswith(" tok/s")


def test_the_toolbar_shows_the_seed_that_was_used_where_it_is_not_the_one_in_force(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, "one", "two", "three", "four")
    talk.run("Hi")
    assert session_seed(talk) in talk.toolbar(200)
    talk.run("/seed 7", "/retry")
    assert "last seed" not in talk.toolbar(200)
    talk.run("/retry seed=9")
    assert "last seed 9" in talk.toolbar(200)
    assert "last seed" not in talk.toolbar(30)
    talk.run("/retry temp=0,seed=11")
    assert "last seed" not in talk.toolbar(200), "which no seed changes"


def session_seed(talk: Talk) -> str:
    return f"last seed {talk.session.conversation.turns[-1].details['seed']}"


@pytest.mark.parametrize("width", [80, 60, 40, 30, 22])
def test_a_narrow_toolbar_shortens_settings_and_keeps_context_and_warnings(
    tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In cells: a download of a model with a Japanese name takes twice its characters."""
    talk = make_talk(tmp_path, "one two three four five six", on_step=lambda: time.sleep(0.001))
    talk.run("Hi", "/set min_new_tokens 900 max_new_tokens 900 temperature 1.4 seed 3")
    monkeypatch.setattr(Session, "is_saved", False)
    progress = SimpleNamespace(percent=12, rate=3.4e6, time_left="5:00")
    entry = SimpleNamespace(name="日本語の模型")
    talk.app.downloads.current = SimpleNamespace(is_finished=False, progress=progress, entry=entry)  # type: ignore[assignment]
    line = talk.toolbar(width)
    assert count_cells(line) <= width
    assert "/2048" in line
    assert "NOT SAVED" in line
    assert ("12 %" in line) == (width >= 30)
    assert (" tok/s" in line) == (width >= 40)
    assert ("+4" in line) == (width >= 60)
    assert "seed=3" in talk.toolbar(200)


def test_the_toolbar_shows_the_prefill(tmp_path: Path) -> None:
    talk = make_talk(tmp_path)
    talk.app.prefetch.percent = 35
    assert talk.toolbar().endswith("/2048 · prefilling 35 %")
    assert "reading" not in talk.toolbar(30)
    talk.app.prefetch.percent = None
    assert "reading" not in talk.toolbar()


def test_the_toolbar_cannot_act(tmp_path: Path) -> None:
    talk = make_talk(tmp_path)
    talk.session.entry = ModelEntry("evil\x1b[2J\n", directory="/nowhere")
    assert talk.toolbar().startswith("evil␛[2J␊")


def test_the_context_is_counted_once_for_each_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toolbar is drawn at every key."""
    talk = make_talk(tmp_path, "Hello.")
    talk.chat.handle("Hi")
    counted: list[int] = []
    monkeypatch.setattr(Session, "context_used", lambda self, model: counted.append(1) or 5)
    toolbar = Toolbar(talk.app)
    for _ in range(3):
        assert " 5/2048" in toolbar.text()
    talk.chat.handle("/undo")
    toolbar.text()
    assert len(counted) == 2


def test_more_than_all_of_the_context_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The label of the next turn and the reply before it together exceed the limit."""
    talk = make_talk(tmp_path, "Hello.")
    talk.chat.handle("Hi")
    monkeypatch.setattr(Session, "context_used", lambda self, model: 2060)
    assert " 2048/2048" in talk.toolbar()


# -- signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_in_a_reply_closes_the_conversation(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    usual = signal.getsignal(number)
    steps = iter(range(100))
    talk = make_talk(
        tmp_path, "one two three four", on_step=lambda: signal.raise_signal(number) if next(steps) == 2 else None
    )
    with pytest.raises(Terminated) as ended, signals_handled(None):
        talk.run("count")
    assert ended.value.status == 128 + number
    assert [finish for _, _, finish in talk.turns] == ["interrupted"]
    assert signal.getsignal(number) is usual


def test_a_second_signal_does_not_disturb_the_closing() -> None:
    def closing() -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated) as ended, signals_handled(None):
        closing()
    assert ended.value.status == 129


def test_a_terminal_that_is_gone_is_no_error_of_its_own() -> None:
    def closing() -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            raise OSError(5, "Input/output error")

    with pytest.raises(Terminated), signals_handled(None):
        closing()


def test_nohup_is_obeyed() -> None:
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_handled(None):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, usual)


def test_the_journal_is_released_after_every_end(tmp_path: Path) -> None:
    talk = make_talk(tmp_path, Script("x", RuntimeError("unforeseen")))
    with pytest.raises(RuntimeError):
        talk.run("Hi")
    (file,) = talk.directory.glob("*.jsonl")
    assert [json.loads(line) for line in file.read_bytes().splitlines()]
    assert talk.session.journal_path is None
    assert read_journal(file).conversation.turns[-1].finish is FinishReason.FAILED
