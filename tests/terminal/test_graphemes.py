"""Keys and cells by characters as readers count them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO, cast

import pyte
import pytest
from prompt_toolkit import PromptSession
from prompt_toolkit.data_structures import Point, Size
from prompt_toolkit.input import DummyInput, PipeInput, create_pipe_input
from prompt_toolkit.layout.screen import Char, Screen
from prompt_toolkit.output import DummyOutput, Output
from prompt_toolkit.renderer import Renderer
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from bilingual_chat.commands.app import App
from bilingual_chat.terminal.editor import Editor
from bilingual_chat.terminal.editor.graphemes import Grapheme, GraphemeOutput, _count_rows, use_graphemes
from bilingual_chat.terminal.editor.rewrap import _find_cursor, count_rows, rewraps
from bilingual_chat.terminal.linebreak import count_grapheme_cells
from tests.scripted import make_app, make_session

ENTER, BACKSPACE, DELETE, LEFT, RIGHT, HOME, CTRL_T = "\r", "\x7f", "\x1b[3~", "\x1b[D", "\x1b[C", "\x1b[H", "\x14"
CTRL_B, CTRL_F, CTRL_D, CTRL_W, ALT_B, ALT_D, UP = "\x02", "\x06", "\x04", "\x17", "\x1bb", "\x1bd", "\x1b[A"

GRAPHEMES = {
    "family": "👨\u200d👩\u200d👧",
    "flag": "🇯🇵",
    "skin tone": "👍🏽",
    "keycap": "1\ufe0f\u20e3",
    "dakuten": "か\u3099",
    "ivs": "葛\U000e0100",
    "jamo": "\u1112\u1161\u11ab",
    "devanagari": "क्षि",
    "selector": "❤\ufe0f",
    "accent": "e\u0301",
}


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe:
        yield pipe


@pytest.fixture
def app(tmp_path: Path) -> App:
    return make_app(make_session(None)[0], tmp_path)[0]


@pytest.fixture
def editor(keys: PipeInput) -> Editor:
    return Editor(None, keys=keys, screen=DummyOutput())


@pytest.mark.parametrize("one", GRAPHEMES.values(), ids=GRAPHEMES)
@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a{}" + BACKSPACE, "a"),
        ("a{}b" + LEFT + BACKSPACE, "ab"),
        ("a{}b" + HOME + RIGHT + DELETE, "ab"),
        ("a{}b" + HOME + CTRL_F + CTRL_D, "ab"),
        ("a{}" + LEFT + "x", "ax{}"),
        ("a{}" + CTRL_B + "x", "ax{}"),
        ("a{}" + HOME + RIGHT + RIGHT + "x", "a{}x"),
        ("a{}" + CTRL_T, "{}a"),
        ("a{}" + LEFT + CTRL_T + "x", "{}ax"),
        (" {}" + CTRL_W, " "),
        (" {}" + ALT_B + "x", " x{}"),
        ("{} b" + HOME + ALT_D, " b"),
        ("{}\nab" + LEFT + UP + "x", "x{}\nab"),
        ("{}{}" + "\x1b2" + BACKSPACE, ""),
    ],
)
def test_keys_take_whole_graphemes(app: App, editor: Editor, keys: PipeInput, one: str, typed: str, read: str) -> None:
    keys.send_text(typed.format(one, one) + ENTER)
    assert editor.read(app) == read.format(one, one)


def test_a_row_that_has_a_cell_to_spare_is_counted() -> None:
    """312 kanji, 39 a row, fill eight rows of 81 cells and leave one each; the cursor stands on the ninth."""
    assert _count_rows(["あ"] * 312 + ["x", " "], 81, lambda row: 2) == 9
    assert _count_rows(["あ"] * 312, 81, lambda row: 2) == 8


def test_a_row_drawn_on_a_wider_screen_is_counted_as_the_terminal_wraps_it() -> None:
    row = dict(enumerate(Char(each) for each in "abcdefgh  "))
    assert [count_rows(row, columns) for columns in (10, 8, 7, 4, 3)] == [1, 1, 2, 2, 3]
    wide = {0: Char("あ"), 1: Char(""), 2: Char("い"), 3: Char(""), 4: Char("う"), 5: Char("")}
    assert [count_rows(wide, columns) for columns in (6, 5, 4, 3, 2)] == [1, 2, 2, 3, 3]


def test_only_terminals_known_to_wrap_anew_are_taken_for_such() -> None:
    assert rewraps({"TMUX": "/tmp/tmux"})
    assert rewraps({"VTE_VERSION": "7600"})
    assert rewraps({"TERM": "tmux-256color"})
    assert not rewraps({"TERM": "xterm-256color", "VTE_VERSION": ""})


class Paper:
    """The terminal of a `GraphemeOutput`: pyte counts a ZWJ sequence by its parts, like many terminals."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.screen = pyte.Screen(40, 10)
        self._stream = pyte.Stream(self.screen)

    def write(self, text: str) -> None:
        self._stream.feed(text)

    def flush(self) -> None: ...


@pytest.mark.parametrize("one", GRAPHEMES.values(), ids=GRAPHEMES)
def test_the_cursor_goes_on_by_the_cells_that_bchat_counts(one: str) -> None:
    paper = Paper()
    out = GraphemeOutput(cast("TextIO", paper), lambda: Size(rows=10, columns=40), term="xterm")
    for text in ("a", one, "b"):
        out.write(text)
    out.flush()
    column = 1 + count_grapheme_cells(one)
    assert paper.screen.cursor.x == column + 1
    assert paper.screen.buffer[0][column].data == "b"


def test_a_grapheme_is_one_place_and_its_cells_are_counted_whole() -> None:
    use_graphemes(PromptSession(input=DummyInput(), output=DummyOutput()))
    assert get_cwidth("👨\u200d👩\u200d👧") == 2
    assert list(Grapheme("👨\u200d👩\u200d👧")) == ["👨\u200d👩\u200d👧"]


@pytest.mark.parametrize(("columns", "rows_up"), [(60, 2), (80, 1), (90, 1), (30, 4)])
def test_a_draft_is_erased_from_where_a_narrower_terminal_has_put_its_beginning(columns: int, rows_up: int) -> None:
    """Two rows drawn at 80 cells, the cursor behind cell 45 of the second."""
    renderer = Renderer(Style([]), DummyOutput())
    renderer.output = cast("Output", SimpleNamespace(get_size=lambda: Size(rows=24, columns=columns)))
    renderer._last_screen, renderer._last_size = Screen(), Size(rows=24, columns=80)
    for row, cells in enumerate((80, 45)):
        renderer._last_screen.data_buffer[row].update(dict.fromkeys(range(cells), Char("x")))
    renderer._cursor_pos = Point(x=45, y=1)
    _find_cursor(renderer)
    assert renderer._cursor_pos.y == rows_up
