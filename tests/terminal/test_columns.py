"""Replies side by side: for any order of pieces and any screen size, each column has its text."""

from __future__ import annotations

import io
import random
from collections.abc import Generator, Sequence
from itertools import zip_longest

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilingual_chat.messages import LANGUAGES
from bilingual_chat.session.compare import ReplyEnd, ReplyPiece
from bilingual_chat.terminal import comparison
from bilingual_chat.terminal.columns import GAP, MIN_COLUMN, Columns, column_width, columns_in_row
from bilingual_chat.terminal.comparison import show_comparison, show_differences
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.linebreak import break_lines, count_cells
from bilingual_chat.text.conversation import FinishReason
from bilingual_chat.text.sanitize import outward
from tests.pseudo_terminal import HOSTILE, MIXED, Pty, pty, unspaced

JAPANESE = "「かぎ括弧」や、句読点。一二三四五六七八九十、一二三四五六七八九十。カードとノート。"
ENGLISH = "One two three A-very-long-word-without-any-space-in-it ok.\n\n1. one\n2. two"
LABELS = ["calm", "temperature=1.5 top_k=0 top_p=0.95 seed=123456", "x", "y"]
Event = ReplyPiece | ReplyEnd


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")


def stream(texts: Sequence[str], seed: int = 0, size: int = 2) -> Generator[Event, None, None]:
    """Pieces of the texts in any order, then the end of each."""
    chance = random.Random(seed)
    at = dict.fromkeys(range(len(texts)), 0)
    while at:
        index = chance.choice(list(at))
        piece = texts[index][at[index] : at[index] + size]
        if piece:
            yield ReplyPiece(index, piece)
            at[index] += size
        else:
            del at[index]
            yield ReplyEnd(index, FinishReason.STOP, len(texts[index]), 1.25, None)


class Recording(pyte.Screen):
    """A screen that keeps lines that scroll away, and fails if a line is lost otherwise."""

    def __init__(self, columns: int, lines: int) -> None:
        self.gone: list[str] = []
        super().__init__(columns, lines)

    def index(self) -> None:
        if self.cursor.y == self.lines - 1:
            self.gone.append(self.display[0].rstrip())
        super().index()

    def erase_in_display(self, how: int = 0, *args: object, **kwargs: object) -> None:
        assert how != 2, "nothing is cleared"

    @property
    def everything(self) -> list[str]:
        return [*self.gone, *(line.rstrip() for line in self.display)]


class Drawn:
    """Columns on a recording screen."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = Recording(columns, lines)
        self._stream = pyte.Stream(self.screen)
        self._stream.feed("\x1b[20h")  # a newline is a carriage return, too, as on a terminal

    def begin_line(self) -> None:
        self._stream.feed("\n")

    def draw_above(self, up: int, column: int, text: str, style: str = "") -> None:
        assert up < self.screen.lines, "the line is not on the screen any more"
        assert self.screen.cursor.y - up >= 0
        self._stream.feed((f"\x1b[{up}A" if up else "") + f"\x1b[{column + 1}G{text}" + (f"\x1b[{up}B" if up else ""))


def expected(texts: Sequence[str], cells: int) -> list[str]:
    """The slow way: break each text, then put the lines together."""
    rows = zip_longest(*(break_lines(text, cells) for text in texts), fillvalue="")
    lines = []
    for row in rows:
        line = ""
        for number, part in enumerate(row):
            line += " " * (number * (cells + GAP) - count_cells(line)) + part.rstrip(" ")
        lines.append(line.rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines


def shown(lines: Sequence[str]) -> list[str]:
    """Lines of a pyte screen: the empty cell behind a wide character is not text."""
    kept = list(lines)
    while kept and not kept[-1]:
        kept.pop()
    return kept


@given(
    st.lists(st.text(alphabet="a b日、。「ー\n👩é", max_size=60), min_size=2, max_size=4),
    st.integers(0, 99),
    st.integers(4, 12),
    st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_columns_show_what_breaking_the_whole_texts_shows(texts: list[str], seed: int, lines: int, size: int) -> None:
    """Also on a screen much lower than the texts: each line is right when it scrolls away."""
    cells = 8
    drawn = Drawn(len(texts) * (cells + GAP) + 1, lines)
    columns = Columns(drawn, len(texts), cells, lines)
    for event in stream(texts, seed, size):
        if isinstance(event, ReplyPiece):
            columns.add(event.index, event.text)
        else:
            columns.end(event.index, "", "")
    assert shown(drawn.screen.everything) == expected(texts, cells)


def test_a_column_far_ahead_waits_until_the_slow_one_comes() -> None:
    """A line that has scrolled away can no longer be written."""
    drawn = Drawn(40, 6)
    columns = Columns(drawn, 2, 10, 6)
    columns.add(0, "\n".join(map(str, range(20))))
    columns.add(1, "slow")
    assert drawn.screen.gone == []
    assert shown(drawn.screen.everything) == ["0            slow", "1", "2", "3", "4"]
    columns.add(1, "\n\n\n")
    assert drawn.screen.everything[:8] == ["0            slow", *"1234567"]
    columns.end(1, "end", "")
    columns.end(0, "end", "")
    assert shown(drawn.screen.everything) == [
        *("0            slow", "1", "2", "3            end"),
        *(str(number) for number in range(4, 20)),
        "end",
    ]


@pytest.mark.parametrize(
    ("count", "width", "in_row"),
    [(2, 20, 1), (2, 51, 1), (2, 52, 2), (3, 78, 2), (3, 79, 3), (4, 80, 2), (8, 80, 3), (8, 200, 4), (8, 300, 8)],
)
def test_columns_are_as_many_as_fit_evenly(count: int, width: int, in_row: int) -> None:
    assert columns_in_row(count, width) == in_row
    cells = column_width(in_row, width)
    assert in_row * cells + (in_row - 1) * GAP < width
    assert cells >= MIN_COLUMN or in_row == 1


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("width", [5, 10, 20, 40, 80, 200])
def test_every_reply_is_whole_on_a_screen_of_any_width(width: int, lang: str) -> None:
    texts = [JAPANESE, ENGLISH, MIXED, JAPANESE]
    with pty(width) as terminal:
        display = Display(lang, out=terminal.file, err=terminal.file)
        assert show_comparison(display, stream(texts), LABELS) == texts
        seen = terminal.see()
        assert b"\x1b[2J" not in terminal.raw
    size = columns_in_row(4, width)
    cells = column_width(size, width)
    for index, text in enumerate(texts):
        column = cut(seen, index % size, cells) if size > 1 else seen
        assert unspaced(text) in unspaced(column)
        assert unspaced(f"[{index + 1}] {LABELS[index]}") in unspaced(column)
        assert unspaced({"en": f"{len(text)} tokens", "ja": f"{len(text)} トークン"}[lang]) in unspaced(column)


def cut(seen: str, number: int, cells: int) -> str:
    """The text of one column."""
    left = number * (cells + GAP)
    column = []
    for line in seen.split("\n"):
        taken, at = "", 0
        for character in line:
            taken += character if left <= at < left + cells else ""
            at += count_cells(character)
        column.append(taken)
    return "\n".join(column)


def test_a_whole_screen_of_two_replies() -> None:
    with pty(60) as terminal:
        display = Display("ja", out=terminal.file, err=terminal.file)
        events = [*stream(["短い。", "これは日本語と English の混ざった文章です。「括弧」も。"])]
        events[-1] = ReplyEnd(events[-1].index, FinishReason.LENGTH, 30, 2.0, 0)
        show_comparison(display, (event for event in events), LABELS[:2])
        assert terminal.see().split("\n") == [
            "[1] calm                       [2] temperature=1.5 top_k=0",
            "                               top_p=0.95 seed=123456",
            "短い。                         これは日本語と English の混",
            "完了 · 3 トークン · 1.2 秒     ざった文章です。「括弧」も。",
            "                               max_new_tokens で打ち切り ·",
            "                               30 トークン · 2.0 秒",
            "                               [1] と同じ",
        ]


def test_hostile_text_does_not_act_in_a_column() -> None:
    with pty(80) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        text = "".join(HOSTILE)
        show_comparison(display, stream([text, "ok"], size=1), ["\x1b[2Jevil", "b"])
        show_differences(display, [text, "ok" + text], ["\x1b[2Jevil", "b"])
        for cleaned in (outward(text), "␛[2Jevil"):
            assert unspaced(cleaned) in unspaced(cut(terminal.see(), 0, column_width(2, 80)))
        assert b"\x1b[2J" not in terminal.raw
        assert b"\x1b]" not in terminal.raw


def test_a_resize_draws_the_replies_anew_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the old columns may have moved to unknown rows."""
    monkeypatch.setattr(comparison, "SETTLED_S", 0.0)
    texts = [JAPANESE, ENGLISH]
    with pty(100) as terminal:
        display = Display(out=terminal.file, err=terminal.file)

        def resizing() -> Generator[Event, None, None]:
            for number, event in enumerate(stream(texts)):
                if number in (10, 20):
                    terminal.resize(60 if number == 10 else 30)
                yield event

        assert show_comparison(display, resizing(), LABELS[:2]) == texts
        seen = terminal.see()
    below = seen[seen.rindex("[1] calm") :]
    assert seen.count("[1] calm") == 3
    for text in texts:
        assert unspaced(text) in unspaced(below)


def test_while_the_size_changes_nothing_is_drawn_and_the_end_shows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SETTLED_S", 1e9)
    with pty(100) as terminal:
        display = Display(out=terminal.file, err=terminal.file)

        def resizing() -> Generator[Event, None, None]:
            for number, event in enumerate(stream([JAPANESE, ENGLISH])):
                if number > 10:
                    terminal.resize(100 - number % 7)
                yield event

        show_comparison(display, resizing(), LABELS[:2])
        assert terminal.see().count("[1] calm") == 2
        assert unspaced(ENGLISH) in unspaced(cut(terminal.see(), 1, column_width(2, terminal.screen.columns)))


def test_after_a_suspension_the_replies_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SETTLED_S", 0.0)
    with pty(80) as terminal:
        display = Display(out=terminal.file, err=terminal.file)

        def suspended() -> Generator[Event, None, None]:
            for number, event in enumerate(stream([JAPANESE, ENGLISH])):
                if number == 10:
                    terminal.file.write("\nshell$ fg\n")
                    display.resume()
                yield event

        show_comparison(display, suspended(), LABELS[:2])
        seen = terminal.see()
    assert "shell$ fg\n" in seen
    assert unspaced(ENGLISH) in unspaced(cut(seen[seen.index("fg\n") + 3 :], 1, column_width(2, 80)))


@pytest.mark.parametrize(("error", "wanted"), [(KeyboardInterrupt, "stopped by you"), (RuntimeError, "failed")])
@pytest.mark.parametrize("width", [40, 80])
def test_what_was_said_before_ctrl_c_stays(error: type[BaseException], wanted: str, width: int) -> None:
    def broken() -> Generator[Event, None, None]:
        yield ReplyPiece(1, "zwei")
        yield ReplyPiece(0, "eins ")
        yield ReplyPiece(0, "zwo")
        raise error

    with pty(width) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        with pytest.raises(error):
            show_comparison(display, broken(), LABELS[:2])
        display.put(">")
        seen = terminal.see()
        assert seen.startswith("[1] calm")
        assert "eins zwo" in seen
        assert seen.count(wanted) == (2 if width == 80 else 1)
        assert seen.endswith("\n>")


def test_on_a_pipe_the_replies_follow_each_other_and_the_notes_are_messages() -> None:
    out, err = io.StringIO(), io.StringIO()
    show_comparison(Display(out=out, err=err), stream(["eins", "zwei\n", ""]), ["a", "b", "c"])
    assert out.getvalue() == "eins\nzwei\n"
    assert err.getvalue().split("\n") == [
        *("[1] a", "complete · 4 tokens · 1.2 s", "[2] b", "complete · 5 tokens · 1.2 s"),
        *("[3] c", "complete · 0 tokens · 1.2 s", ""),
    ]


def test_a_dumb_terminal_gets_no_escape_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with pty(200) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        show_comparison(display, stream([JAPANESE, ENGLISH]), LABELS[:2])
        show_differences(display, [JAPANESE, ENGLISH], LABELS[:2])
        terminal.read()
        assert b"\x1b" not in terminal.raw
        assert unspaced(JAPANESE) in unspaced(terminal.see())


def test_a_low_screen_has_no_columns() -> None:
    with Low(200) as terminal:
        display = Display(out=terminal.file, err=terminal.file)
        show_comparison(display, stream(["eins", "zwei"]), ["a", "b"])
        terminal.read()
        assert b"\x1b[A" not in terminal.raw
        assert b"\x1b[1A" not in terminal.raw


class Low(Pty):
    """A terminal of three lines."""

    def __init__(self, columns: int) -> None:
        super().__init__(columns, rows=3)

    def __enter__(self) -> Low:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_differences_are_marked_with_and_without_colour(monkeypatch: pytest.MonkeyPatch, no_colour: str) -> None:
    monkeypatch.setenv("NO_COLOR", no_colour)
    with pty(80) as terminal:
        display = Display("ja", out=terminal.file, err=terminal.file)
        show_differences(display, ["赤いワインが好きです。", "白ワインが大好きです。"], ["a", "b"])
        lines = terminal.see().split("\n")
        assert lines[1] == "赤いワインが好きです。                   [白]ワインが[大]好きです。"
        styled = {cell.fg for cell in terminal.screen.buffer[1].values()} - {"default"}
    assert bool(styled) is not bool(no_colour)
