"""Makes prompt_toolkit edit and draw by grapheme clusters instead of code points.

A family emoji is five code points and two cells, a decomposed が two code points and two cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from re import Pattern

from prompt_toolkit import PromptSession, utils
from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.cache import FastDictCache
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, emacs_insert_mode, has_selection
from prompt_toolkit.formatted_text import StyleAndTextTuples, to_formatted_text
from prompt_toolkit.formatted_text.utils import fragment_list_to_text, fragment_list_width
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.key_processor import KeyProcessor
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.controls import BufferControl, GetLinePrefixCallable, UIContent
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from bilingual_chat.terminal.linebreak import count_grapheme_cells, graphemes
from bilingual_chat.text.sanitize import outward_line

SAVE_CURSOR, RESTORE_CURSOR = "\x1b7", "\x1b8"
DOTTED_CIRCLE = "◌"  # carries a combining mark without a letter
FIRST_EMOJI = "\U0001f000"  # outside the BMP; terminals differ in their widths
NO_ROOM = 10**8  # rows; prompt_toolkit's value for a window that is too narrow
LONG = 64  # code points; longer texts are not cached


class GraphemeDocument(Document):
    """Moves by graphemes; words begin and end at their edges."""

    def get_cursor_left_position(self, count: int = 1) -> int:
        if count < 0:
            return self.get_cursor_right_position(-count)
        passed = graphemes(self.current_line_before_cursor)
        return -sum(map(len, passed[max(0, len(passed) - count) :]))

    def get_cursor_right_position(self, count: int = 1) -> int:
        if count < 0:
            return self.get_cursor_left_position(-count)
        return sum(map(len, graphemes(self.current_line_after_cursor)[:count]))

    def find_next_word_beginning(self, count: int = 1, WORD: bool = False) -> int | None:
        return self._whole(super().find_next_word_beginning(count, WORD))

    def find_next_word_ending(
        self, include_current_position: bool = False, count: int = 1, WORD: bool = False
    ) -> int | None:
        return self._whole(super().find_next_word_ending(include_current_position, count, WORD))

    def find_previous_word_beginning(self, count: int = 1, WORD: bool = False) -> int | None:
        return self._whole(super().find_previous_word_beginning(count, WORD))

    def find_start_of_previous_word(
        self, count: int = 1, WORD: bool = False, pattern: Pattern[str] | None = None
    ) -> int | None:
        return self._whole(super().find_start_of_previous_word(count, WORD, pattern))

    def _whole(self, distance: int | None) -> int | None:
        """Extend `distance` from the cursor to the edge of a grapheme."""
        if distance is None:
            return None
        position = self.cursor_position + distance
        return whole_position(self.text, position, is_forward=distance > 0) - self.cursor_position


def whole_position(text: str, position: int, *, is_forward: bool) -> int:
    """Return `position`, or the next (previous) position in `text` that is not inside a grapheme."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : len(text) if end < 0 else end]
    edges = [start, *accumulate(map(len, graphemes(line)), initial=start)]
    if is_forward:
        return min(edge for edge in edges if edge >= position)
    return max(edge for edge in edges if edge <= position)


# -- keys ---------------------------------------------------------------------------------------------


def grapheme_keys() -> KeyBindings:
    """Return bindings of the keys that delete or exchange characters; keys that move use `GraphemeDocument`."""
    keys = KeyBindings()
    edits = emacs_insert_mode & ~has_selection  # prompt_toolkit's own bindings cut a selection
    has_text = Condition(lambda: bool(get_app().current_buffer.text))

    @keys.add(Keys.Backspace, filter=edits, save_before=_is_first)
    def _(event: KeyPressEvent) -> None:
        _delete(event, -event.arg)

    @keys.add(Keys.Delete, filter=edits, save_before=_is_first)
    @keys.add(Keys.ControlD, filter=edits & has_text)
    def _(event: KeyPressEvent) -> None:
        _delete(event, event.arg)

    @keys.add(Keys.ControlT, filter=edits)
    def _(event: KeyPressEvent) -> None:
        _exchange(event.current_buffer)

    return keys


def _is_first(event: KeyPressEvent) -> bool:
    """Save an undo state before the first of repeated key presses."""
    return not event.is_repeat


def _delete(event: KeyPressEvent, count: int) -> None:
    """Delete `count` graphemes after the cursor; before it if `count` is negative."""
    buffer, deleted = event.current_buffer, ""
    for _ in range(abs(count)):
        if count > 0:
            gone = buffer.delete(buffer.document.get_cursor_right_position() or 1)
        else:
            gone = buffer.delete_before_cursor(-buffer.document.get_cursor_left_position() or 1)
        if not gone:
            break
        deleted += gone
    if not deleted:
        event.app.output.bell()


def _exchange(buffer: Buffer) -> None:
    """Exchange the graphemes around the cursor, at the end of a line the last two; move the cursor behind them."""
    before = graphemes(buffer.document.current_line_before_cursor)
    before += graphemes(buffer.document.current_line_after_cursor)[:1]
    if len(before) < 2 or not buffer.document.current_line_before_cursor:
        return
    *_, first, second = before
    end = buffer.cursor_position + buffer.document.get_cursor_right_position()
    start = end - len(first + second)
    buffer.document = Document(buffer.text[:start] + second + first + buffer.text[end:], end)


class _CursorCorrection:
    """Moves the cursor to the edge of a grapheme when a key (up, down, search) moved it inside.

    After an insertion beside a ZWJ the cursor may stay inside: the next key continues there.
    """

    def __init__(self, buffers: list[Buffer]) -> None:
        self._buffers = buffers
        self._before: list[tuple[str, int]] = []

    def note(self, keys: KeyProcessor) -> None:
        self._before = [(buffer.text, buffer.cursor_position) for buffer in self._buffers]

    def correct(self, keys: KeyProcessor) -> None:
        for buffer, (text, position) in zip(self._buffers, self._before, strict=False):
            now = buffer.cursor_position
            if buffer.text == text and now != position:
                buffer.cursor_position = whole_position(text, now, is_forward=now > position)


# -- cells --------------------------------------------------------------------------------------------


class Grapheme(str):
    """A grapheme that prompt_toolkit iterates over as one character."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        yield self


class GraphemeProcessor(Processor):
    """Gives prompt_toolkit one character for each grapheme, and maps the cursor's column."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        fragments = transformation_input.fragments
        text = fragment_list_to_text(fragments)
        if text.isascii():
            return Transformation(fragments)
        styles = [style for style, part, *_ in fragments for _ in range(len(part))]
        laid_out: StyleAndTextTuples = []
        columns: list[int] = []  # of each code point; inside a grapheme, that of the next one
        starts: list[int] = []
        for column, grapheme in enumerate(graphemes(text)):
            laid_out.append((styles[len(columns)], Grapheme(_visible(grapheme))))
            starts.append(len(columns))
            columns += [column, *[column + 1] * (len(grapheme) - 1)]
        return Transformation(laid_out, _extended(columns, len(starts)), _extended(starts, len(columns)))


def _extended(table: list[int], end: int) -> Callable[[int], int]:
    """Return `table` as a function, which continues past its end in steps of one."""
    return lambda at: table[at] if at < len(table) else end + at - len(table)


def _visible(grapheme: str) -> str:
    if len(grapheme) > 1:
        grapheme = outward_line(grapheme)
    return grapheme if count_grapheme_cells(outward_line(grapheme)) else DOTTED_CIRCLE + grapheme


class _CellCounts(utils._CharSizesCache):
    """Counts the cells of a text by graphemes, with control characters as the marks that show them."""

    def __missing__(self, string: str) -> int:
        cells = count_grapheme_cells(outward_line(string))
        if len(string) <= LONG:
            self[string] = cells
        return cells


def _height_for_line(
    content: UIContent,
    lineno: int,
    width: int,
    get_line_prefix: GetLinePrefixCallable | None,
    slice_stop: int | None = None,
) -> int:
    """Return the rows of line `lineno`, or of its part up to `slice_stop`, the cursor.

    prompt_toolkit divides the cells by the width; but kanji leave one cell of a row of odd width empty, so that a
    long line takes more rows than it reserves.
    """
    key = get_app().render_counter, lineno, width, slice_stop
    if key not in content._line_heights_cache:
        end = None if slice_stop is None else slice_stop + 1
        line = [grapheme for _, text, *_ in content.get_line(lineno) for grapheme in text][:end]
        prefix = get_line_prefix or (lambda lineno, row: "")
        content._line_heights_cache[key] = _count_rows(
            line, width, lambda row: fragment_list_width(to_formatted_text(prefix(lineno, row)))
        )
    return content._line_heights_cache[key]


def _count_rows(line: list[str], width: int, prefix_cells: Callable[[int], int]) -> int:
    row, column = 0, prefix_cells(0)
    for grapheme in line:
        cells = utils.get_cwidth(outward_line(grapheme))
        if column + cells > width:
            row += 1
            column = prefix_cells(row)
            if column >= width:
                return NO_ROOM
        column += cells
    return row + 1


class GraphemeOutput(Vt100_Output):
    """Keeps the cursor where bchat counts it, although terminals differ in the width of emoji sequences.

    It blanks the cells, draws the grapheme, returns to its first cell, and moves right by the counted cells.
    """

    def write(self, data: str) -> None:
        if data.isascii() or (len(data) == 1 and data < FIRST_EMOJI):
            super().write(data)
            return
        cells = count_grapheme_cells(data)
        self.write_raw(SAVE_CURSOR + " " * cells + RESTORE_CURSOR + SAVE_CURSOR)  # some terminals restore only once
        super().write(data)
        self.write_raw(RESTORE_CURSOR)
        self.cursor_forward(cells)


def grapheme_output() -> Output:
    """Return the terminal's output with `GraphemeOutput`; on Windows prompt_toolkit's own."""
    found = create_output()
    if type(found) is not Vt100_Output:
        return found
    depth, bell = found.default_color_depth, found.enable_bell
    return GraphemeOutput.from_pty(found.stdout, term=found.term, default_color_depth=depth, enable_bell=bell)


def use_graphemes(session: PromptSession[str]) -> None:
    """Make `session` edit by graphemes; its key bindings must include `grapheme_keys`."""
    utils._CHAR_SIZES_CACHE = _CellCounts()
    UIContent.get_height_for_line = _height_for_line  # type: ignore[method-assign, assignment]
    found = session.layout.find_all_controls()  # some of them twice
    controls = list({id(each): each for each in found if isinstance(each, BufferControl)}.values())
    for control in controls:
        control.buffer._document_cache = FastDictCache(GraphemeDocument, size=10)
        control.input_processors = [*(control.input_processors or []), GraphemeProcessor()]
    moves = _CursorCorrection([control.buffer for control in controls])
    session.app.key_processor.before_key_press += moves.note
    session.app.key_processor.after_key_press += moves.correct
