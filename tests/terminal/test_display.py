"""The output: plain on a pipe, complete on a screen of any width, and without active control characters."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilingual_chat.commands.table import COMMANDS, execute
from bilingual_chat.hub.download import Progress
from bilingual_chat.messages import LANGUAGES, Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.terminal import display as room
from bilingual_chat.terminal.display import Display, sentence
from bilingual_chat.terminal.linebreak import count_cells
from bilingual_chat.terminal.tables import format_columns, format_table
from bilingual_chat.text.sanitize import outward
from tests.pseudo_terminal import HOSTILE, MIXED, pty, unspaced
from tests.scripted import make_app, make_session


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")


def plain(lang: str = "en") -> tuple[Display, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Display(lang, out=out, err=err), out, err


def in_pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


# -- replies ------------------------------------------------------------------------------------------


@given(st.lists(st.text(alphabet=st.sampled_from("ab 日。\n\t\x1b[]:/\\@#\r\x9b\u202e\ud800"), max_size=8), max_size=8))
@settings(max_examples=60, deadline=None)
def test_on_a_pipe_the_pieces_are_the_cleaned_text(pieces: list[str]) -> None:
    """Exactly the text, and one newline at the end unless it is empty."""
    display, out, err = plain()
    display.begin_reply()
    for piece in pieces:
        display.piece(piece)
    display.end_reply()
    text = outward("".join(pieces))
    assert out.getvalue() == text + ("\n" if text and not text.endswith("\n") else "")
    assert err.getvalue() == ""


@pytest.mark.parametrize(("columns", "size"), [*((columns, 1) for columns in range(1, 11)), (40, 1), (40, 7)])
def test_a_screen_of_any_width_shows_every_character(columns: int, size: int) -> None:
    """No terminal can show a wide character in one column: the text is narrow there."""
    text = "".join(c for c in MIXED if c.isascii()) if columns == 1 else MIXED
    with pty(columns) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.begin_reply()
        for piece in in_pieces(text, size):
            display.piece(piece)
            terminal.read()
        display.end_reply()
        assert unspaced(terminal.see()) == unspaced(outward(text))


def test_words_move_down_whole_and_no_line_begins_with_a_full_stop() -> None:
    with pty(16) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.begin_reply()
        for piece in in_pieces("one two three seventeen 日本語の文がここで終わる。次", 1):
            display.piece(piece)
        display.end_reply()
        assert terminal.see().split("\n") == ["one two three", "seventeen 日本語", "の文がここで終わ", "る。次"]


@pytest.mark.parametrize("sizes", [(30, 50, 30), (30, 60, 60), (12, 5, 40), (8, 30, 30)])
def test_a_resize_in_mid_reply_loses_nothing(sizes: tuple[int, int, int]) -> None:
    """Also narrower and wider again: the known column of the line is then outdated."""
    with pty(sizes[0]) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.begin_reply()
        display.piece("aaa ")
        terminal.resize(sizes[1])
        display.piece("bbbbbb")
        terminal.resize(sizes[2])
        for piece in in_pieces("cccccccccccccccccccccc ddddd\neeeeeee fff", 3):
            display.piece(piece)
        display.end_reply()
        assert unspaced(terminal.see()) == "aaabbbbbbccccccccccccccccccccccdddddeeeeeeefff"


def test_after_a_resize_the_next_line_is_broken_for_the_new_width() -> None:
    with pty(40) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.begin_reply()
        display.piece("a line")
        terminal.resize(10)
        display.piece(" goes on\nword another")
        display.end_reply()
        assert terminal.see().split("\n")[-2:] == ["word", "another"]


def test_a_remark_in_mid_reply_stands_on_its_own_line() -> None:
    with pty(20) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.begin_reply()
        display.piece("fifteen columns")
        display.end_reply()
        display.say(Phrase("chat.stopped"))
        display.piece("longword longword")
        display.end_reply()
        assert terminal.see().split("\n") == ["fifteen columns", "(stopped)", "longword longword"]


def test_an_empty_reply_leaves_no_line() -> None:
    display, out, _ = plain()
    display.begin_reply()
    display.piece("")
    display.end_reply()
    display.end_reply()
    assert out.getvalue() == ""


# -- nothing acts -------------------------------------------------------------------------------------


def acts(raw: bytes) -> bytes:
    """The control characters of `raw`, except bchat's own: dim, red, and erasing a word."""
    import re

    own = re.compile(rb"\x1b\[(?:2m|31m|0m|0K|\d+G)|\r\n")
    return bytes(byte for byte in own.sub(b"", raw) if byte < 0x20 or byte == 0x7F)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_from_outside_acts_on_a_terminal(text: str) -> None:
    """In all output: replies, sentences, texts, tables, progress."""
    with pty(60) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.begin_reply()
        for piece in text:
            display.piece(piece)
        display.end_reply()
        shown = terminal.see()
        for said in (Phrase("reason.other", text=text), BchatError("config.unreadable", path=text, reason=text)):
            display.say(said)
        display.say(BchatError("config.wrong", where=text, problem=BchatError("reason.other", text=text)))
        display.show(text)
        display.put(text)
        display.show_rows([(text, text), (text,)])
        display.put_rows([(text, "x", text)])
        display.put_json({"text": text})
        display.progress(Progress(text, 1, 2, 1, 2))
        display.progress(Progress(text, 2, 2, 2, 2))
        display.doing(Phrase("reason.other", text=text))
        terminal.see()
        assert acts(terminal.raw) == b""
        assert not any("\x80" <= c <= "\x9f" or c in "\u202e\u2066\u200b" for c in terminal.raw.decode())
        assert unspaced(shown) == unspaced(outward(text))


@given(st.text(alphabet="[]/\\:@#a{}%<&", max_size=20))
@settings(max_examples=80, deadline=None)
def test_what_looks_like_markup_is_printed_as_it_is(text: str) -> None:
    display, out, err = plain()
    display.say(Phrase("reason.other", text=text))
    display.show(text)
    display.show_rows([(text, "x")])
    display.put(text)
    assert err.getvalue() == f"{text}\n{text}\n{text}\tx\n"
    assert out.getvalue() == f"{text}\n"


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is the judge")
def test_tmux_sees_no_sequence_act(tmp_path: Path) -> None:
    """Clipboard, title, alternate screen, and answers to the program."""
    (tmp_path / "hostile.json").write_text(json.dumps(HOSTILE))
    program = f"""
import json, sys, time, termios, os
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.keyboard import quiet_keys
display = Display()
with quiet_keys():
    for text in json.load(open({str(tmp_path / "hostile.json")!r})):
        display.begin_reply(); display.piece(text); display.end_reply()
        display.show(text); display.show_rows([(text, text)])
    time.sleep(0.2)
    os.set_blocking(0, False)
    try: answered = os.read(0, 100)
    except BlockingIOError: answered = b""
open({str(tmp_path / "answered")!r}, "wb").write(answered)
time.sleep(60)
"""
    (tmp_path / "program.py").write_text(program)

    def tmux(*arguments: str) -> str:
        command = ["tmux", "-f", "/dev/null", "-S", str(tmp_path / "socket"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    tmux("new-session", "-d", "-x", "100", "-y", "60", sys.executable, str(tmp_path / "program.py"))
    tmux("set-option", "-s", "set-clipboard", "on")
    try:
        until = time.monotonic() + 15
        while not (tmp_path / "answered").exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert (tmp_path / "answered").read_bytes() == b""
        assert tmux("display-message", "-p", "#{alternate_on} #{pane_title}").strip().startswith("0 ")
        assert "evil" not in tmux("display-message", "-p", "#{pane_title}")
        assert tmux("show-buffer") == ""
        assert "visible␍hidden" in tmux("capture-pane", "-p")
    finally:
        tmux("kill-server")


# -- where there is no screen, or a poor one ----------------------------------------------------------


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": "unknown"}])
def test_a_dumb_terminal_gets_no_escape_at_all(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pty(12) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.begin_reply()
        for piece in in_pieces(MIXED, 2):
            display.piece(piece)
        display.end_reply()
        display.say(BchatError("session.nothing-to-undo"))
        display.show_rows([("a", "b")])
        display.progress(Progress("f", 1, 2, 1, 2))
        terminal.see()
        assert b"\x1b" not in terminal.raw
        assert not display.is_terminal


def test_no_color_leaves_neither_colour_nor_dimness(monkeypatch: pytest.MonkeyPatch) -> None:
    """https://no-color.org; a word that does not fit may still move down."""
    monkeypatch.setenv("NO_COLOR", "1")
    with pty(60) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.say(BchatError("session.nothing-to-undo"))
        display.say(Phrase("chat.stopped"))
        display.show_rows([("a", "b")])
        terminal.see()
        assert b"\x1b" not in terminal.raw


def test_errors_are_red_and_remarks_dim_on_a_screen() -> None:
    with pty(80) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.say(BchatError("session.nothing-to-undo"))
        display.say(Phrase("chat.stopped"))
        terminal.see()
        assert b"\x1b[31mThere is no turn" in terminal.raw
        assert b"\x1b[2m(stopped)\x1b[0m" in terminal.raw


def test_remarks_fit_the_screen_they_are_on_when_the_reply_goes_to_a_file() -> None:
    """stdout and stderr are asked for their width one by one."""
    with pty(30) as terminal:
        display = Display(out=io.StringIO(), err=terminal.file)
        display.say(BchatError("session.nothing-to-undo"))
        assert terminal.see().split("\n") == ["There is no turn yet. Send a", "message first."]


@pytest.mark.parametrize("encoding", ["ascii", "cp932", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_replaced(encoding: str) -> None:
    """PYTHONIOENCODING, or a console of another country."""
    buffer, errors = io.BytesIO(), io.BytesIO()
    display = Display("ja", out=io.TextIOWrapper(buffer, encoding), err=io.TextIOWrapper(errors, encoding))
    for text in (*HOSTILE, MIXED, "🦄𠮷é"):
        display.begin_reply()
        display.piece(text)
        display.end_reply()
        display.say(BchatError("config.unreadable", path=text, reason=text))
        display.show(text)
        display.put_rows([(text, text)])
    assert "abc" in buffer.getvalue().decode(encoding)
    assert "abc" in errors.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp932", "utf-8"])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_reads_back_in_any_encoding_and_cannot_act(encoding: str, indent: int | None) -> None:
    value = {"texts": [*HOSTILE, MIXED, "🦄"], "n": 1.5}
    buffer = io.BytesIO()
    out = io.TextIOWrapper(buffer, encoding=encoding)
    Display(out=out).put_json(value, indent=indent)
    text = buffer.getvalue().decode(encoding)
    assert json.loads(text) == value
    assert outward(text) == text
    assert ("日本語" in text) == (encoding == "utf-8")


def test_closed_streams_discard_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bchat >&- 2>&-`: Python has None there."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    display = Display()
    display.piece("x")
    display.say(Phrase("chat.stopped"))
    display.put_rows([("a", "b")])
    assert not display.is_terminal


# -- tables and progress ------------------------------------------------------------------------------

ROWS = [("/set NAME VALUE", "設定を変える"), ("/help", "a description that is longer than what is left here"), ("x",)]


def test_a_table_has_its_columns_side_by_side_and_breaks_the_last() -> None:
    assert format_table(ROWS, 40) == [
        "/set NAME VALUE  設定を変える",
        "/help            a description that is",
        "                 longer than what is",
        "                 left here",
        "x",
    ]


@pytest.mark.parametrize("width", [*range(1, 12), 25, 30])
def test_a_table_on_a_narrow_screen_loses_nothing(width: int) -> None:
    lines = format_table(ROWS, width)
    assert unspaced("".join(lines)) == unspaced("".join("".join(row) for row in ROWS))
    assert width < room.MIN_WIDTH or all(count_cells(line) <= width for line in lines)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_help_lists_every_command_on_one_screen(lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 × 24 cells: the typed line, the list, the prompt and the toolbar."""
    monkeypatch.setattr(room, "_is_screen", lambda file: True)
    monkeypatch.setattr(room, "_width", lambda file: 80)
    monkeypatch.setenv("NO_COLOR", "1")
    session, _ = make_session(tmp_path, [])
    app, _ = make_app(session, tmp_path)
    display, _, err = plain(lang)
    app.screen = display
    execute("/help", app)
    lines = re.sub("\x1b\\[[0-9;]*m", "", err.getvalue()).splitlines()
    assert len(lines) <= 24 - 3
    assert all(count_cells(line) < 80 for line in lines)
    assert {name for line in lines for name in re.findall(r"/\w+", line)} >= {f"/{each.name}" for each in COMMANDS}


@pytest.mark.parametrize("width", [*range(1, 12), 25, 40, 60, 80])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_side_by_side_lose_nothing(width: int, count: int) -> None:
    rows = [(f"/{number}", "設定を変える") for number in range(7)]
    lines = format_columns(rows, width, count)
    assert Counter(unspaced("".join(lines))) == Counter(unspaced("".join("".join(row) for row in rows)))
    assert width < room.MIN_WIDTH or all(count_cells(line) <= width for line in lines)
    assert width < 60 or len(lines) == -(-7 // count)


def test_a_table_of_nothing_is_nothing() -> None:
    assert format_table([], 80) == []
    display, out, err = plain()
    display.put_rows([])
    assert out.getvalue() == err.getvalue() == ""


def test_a_sentence_keeps_each_foreign_value_on_its_line() -> None:
    """Otherwise a file name could imitate bchat."""
    said = sentence(BchatError("config.unreadable", path="a\nbchat: all is well\t", reason=Phrase("reason.full")), "en")
    assert said == "Cannot read a␊bchat: all is well␉: the disk is full."


def test_progress_on_a_pipe_is_a_line_for_each_tenth() -> None:
    display, _, err = plain()
    for done in range(0, 101):
        display.progress(Progress("f", done, 100, done, 100))
    assert len(err.getvalue().splitlines()) == 11


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Progress("a.bin", 1_500_000, 3_000_000, 2_000_000, 8_000_000), "a.bin 50 % · all: 25 % of 8.0 MB"),
        (
            Progress("a.bin", 15 * 10**8, 3 * 10**9, 2 * 10**9, 76 * 10**8, 2e6),
            "a.bin 50 % · all: 26 % of 7.6 GB, 2.0 MB/s, 46:40 left",
        ),
    ],
)
def test_progress_is_of_the_file_and_of_all(now: Progress, said: str) -> None:
    """Rate and time left during downloads, not while a disk is read."""
    display, _, err = plain()
    display.progress(now)
    assert err.getvalue() == said + "\n"


@pytest.mark.parametrize(("seconds", "clock"), [(0.2, "0:01"), (59, "0:59"), (533, "8:53"), (3722.5, "1:02:03")])
def test_the_time_left_is_a_clock_that_runs_down(seconds: float, clock: str) -> None:
    """It is 0:00 at the end only."""
    assert Progress("f", 0, 1, 0, 1000, 1000 / seconds).time_left == clock
    assert Progress("f", 0, 1, 0, 1000).time_left == "–"


def test_progress_on_a_screen_stays_on_one_line_and_errors_begin_a_new_one() -> None:
    with pty(30) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        for done in (1, 50):
            display.progress(Progress("a-name-that-is-much-too-long-for-it.safetensors", done, 100, done, 100))
            display._progress_line._shown_at = 0.0
        assert len(terminal.see().split("\n")) == 1
        display.say(Phrase("chat.stopped"))
        assert terminal.see().split("\n")[1:] == ["(stopped)"]


def test_what_is_being_done_is_one_line_on_a_screen_that_goes_when_it_is_done() -> None:
    with pty(30) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        display.doing(Phrase("reason.other", text="a step with a sentence longer than the line"))
        display.doing(Phrase("reason.other", text="the next"))
        assert terminal.see() == "the next"
        display.doing(None)
        display.doing(None)
        display.put("the result")
        assert terminal.see() == "the result"


def test_what_is_being_done_is_a_line_each_on_a_pipe() -> None:
    display, out, err = plain()
    for said in (Phrase("reason.other", text="one"), Phrase("reason.other", text="two"), None):
        display.doing(said)
    assert (out.getvalue(), err.getvalue()) == ("", "one\ntwo\n")


def test_how_far_a_prompt_is_read_is_nothing_for_a_pipe() -> None:
    display, out, err = plain("ja")
    display.reading(1, 2)
    display.doing(None)
    assert (out.getvalue(), err.getvalue()) == ("", "")
    with pty(80) as terminal:
        display = Display("ja", out=terminal.file, err=terminal.file)
        display.reading(1, 3)
        assert terminal.see() == "（モデルが会話を読んでいます：33 %）"


def test_progress_is_not_painted_more_often_than_eyes_can_follow() -> None:
    with pty(80) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        for done in range(1000):
            display.progress(Progress("f", done, 10**6, done, 10**6))
        terminal.see()
        assert terminal.raw.count(b"\r") < 50
