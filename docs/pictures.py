"""Draw the pictures of the READMEs from a real session: `python docs/pictures.py` writes docs/chat*.svg.

The session runs in a pseudo-terminal on the embedded model. A test runs it again and compares the text.
"""

from __future__ import annotations

import re
import sys
import tempfile
from html import escape
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.pseudo_terminal import Terminal
from tests.runs import real

DOCS = Path(__file__).parent
COLUMNS, ROWS = 80, 30
CELL, LINE, MARGIN = 8.4, 18.0, 16.0  # pixels: width of a cell, height of a line, border
INK, PAPER = "#d8dee9", "#20242c"
COLOURS = {"default": INK, "brightblack": "#8a93a3", "red": "#e88388", "green": "#a8cc8c", "brown": "#dbab79"}
LINES = {
    "en": ("Hello!", "What is 'cat' in Japanese?", "And water?", "How do I read that?", "/set tempratur 3"),
    "ja": ("こんにちは", "猫は英語で何ですか？", "水は？", "／ｓｅｔ　ｔｅｍｐｒａｔｕｒ　３"),
}
COMPARE = "/compare greedy temperature=1.6,top_k=0,top_p=1"
SEED = "/seed 3"


def draw(language: str) -> str:
    """Run the session in `language`; return its final screen as SVG."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "LANG": "ja_JP.UTF-8" if language == "ja" else "C.UTF-8"}
        terminal = Terminal(real("--lang", language, "--model", "demo"), columns=COLUMNS, rows=ROWS, **environment)
        for line in (SEED, *LINES[language], COMPARE):
            terminal.wait_for(is_ready)
            terminal.type(f"{line}\r")
            settle(terminal)
        picture = svg(terminal)
        terminal.close()
    return picture


def is_ready(text: str) -> bool:
    """Return True if the last line above the toolbar is an empty prompt."""
    above = [line for line in text.splitlines()[:-1] if line.strip()]
    return bool(above) and above[-1] == ">"


def settle(terminal: Terminal) -> None:
    """Wait until the terminal has shown nothing new for half a second."""
    before = None
    while before != terminal.text or not is_ready(terminal.text):
        before = terminal.text
        for _ in range(10):
            terminal.listen(0.05)


def svg(terminal: Terminal) -> str:
    """Return the screen as SVG: one text element for each run of cells of equal colour and width."""
    rows = [row for row, line in enumerate(terminal.lines) if line]
    width, height = COLUMNS * CELL + 2 * MARGIN, len(rows) * LINE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-size="14"'
        ' font-family="ui-monospace, Menlo, Consolas, \'Noto Sans Mono CJK JP\', monospace" xml:space="preserve">',
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
    ]
    for at, row in enumerate(rows):
        parts += _row(terminal, row, MARGIN + (at + 0.75) * LINE)
    return "\n".join([*parts, "</svg>", ""])


def _row(terminal: Terminal, row: int, y: float) -> list[str]:
    cells = terminal.screen.buffer[row]
    shown = [(column, cells[column]) for column in range(COLUMNS) if cells[column].data]

    def kind(item: tuple[int, object]) -> tuple[str, bool, bool]:
        column, cell = item
        is_wide = column + 1 < COLUMNS and not cells[column + 1].data
        return cell.fg, cell.bold, is_wide  # type: ignore[attr-defined]

    parts = []
    for (colour, is_bold, is_wide), run in groupby(shown, key=kind):
        items = list(run)
        text = "".join(cell.data for _, cell in items)
        if not text.strip():
            continue
        x, length = MARGIN + items[0][0] * CELL, len(items) * CELL * (2 if is_wide else 1)
        weight = ' font-weight="bold"' if is_bold else ""
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" textLength="{length:.1f}"'
            f' fill="{COLOURS.get(colour, INK)}"{weight}>{escape(text)}</text>'
        )
    return parts


def text_of(picture: str) -> str:
    """Return the text of a picture without blanks, speed and times, for comparing."""
    return re.sub(r"\d+tok/s|\d+\.\d(s|秒)", "", re.sub(r"\s|<[^>]*>", "", picture))


if __name__ == "__main__":
    for language, name in (("en", "chat.svg"), ("ja", "chat.ja.svg")):
        (DOCS / name).write_text(draw(language), encoding="utf-8")
