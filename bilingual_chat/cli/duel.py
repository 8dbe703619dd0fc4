"""`bchat duel`: which of two replies is better, with hidden sides; win rates and preference pairs."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import cast

from bilingual_chat import messages
from bilingual_chat.explore.duel import Choice, DuelLog, Judgement, Pair, make_pairs, preferences, win_rates
from bilingual_chat.explore.report.marks import interval, number
from bilingual_chat.explore.results import Results, read_results
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import atomic, os_errors, paths, safe_read
from bilingual_chat.terminal.columns import column_width, columns_in_row, side_by_side
from bilingual_chat.terminal.display import BOLD, DIM, Display
from bilingual_chat.terminal.standard_input import StandardInput
from bilingual_chat.transcript.safe_json import encode

KEYS = {"l": "left", "r": "right", "t": "tie", "b": "bad"}
_ARROWS = {"left": "left", "right": "right"}
_MOST_CELLS = 6  # that are compared without a choice
_LONGEST_LINE = 10_000
_LARGEST = 256 << 20  # bytes of a file of preferences


def duel(display: Display, directory: Path, cells: Sequence[str], pairs_file: Path | None) -> None:
    """Let the user judge pairs until none is left or the user leaves; then show win rates.

    Raises BchatError for a directory, cells or a file that do not fit.
    """
    directory = paths.expand(str(directory))
    results = read_results(directory)
    chosen = _chosen_cells(results, cells)
    pairs = make_pairs(results, chosen)
    with DuelLog(directory) as log:
        judged = {judgement.key for judgement in log.judgements}
        _judge(display, [pair for pair in pairs if pair.key not in judged], len(pairs), log)
        judgements = log.judgements
    _show_rates(display, results, [each for each in judgements if {each.left[0], each.right[0]} <= set(chosen)])
    if pairs_file is not None:
        _write_preferences(display, paths.expand(str(pairs_file)), preferences(results, judgements))


def _chosen_cells(results: Results, wanted: Sequence[str]) -> list[int]:
    """Return the cells that `--cells` names, for example "0,3"; by default all of a small sweep."""
    count = len(results.cells)
    names = [name.strip() for each in wanted for name in each.split(",") if name.strip()]
    for name in names:
        if not name.isdecimal() or int(name) >= count:
            raise BchatError("duel.cell", status=ExitStatus.USAGE, name=name, last=count - 1)
    found = sorted(set(map(int, names))) if names else list(range(count))
    if len(found) < 2 or (not names and count > _MOST_CELLS):
        raise BchatError("duel.cells", status=ExitStatus.USAGE, cells=count, path=results.directory)
    return found


# -- judging --------------------------------------------------------------------------------------------


def _judge(display: Display, pairs: Sequence[Pair], all_pairs: int, log: DuelLog) -> None:
    """Ask for each pair, and record the answers."""
    display.say(Phrase("duel.begin", left=len(pairs), all=all_pairs) if pairs else Phrase("duel.none-left"))
    if not pairs:
        return
    answers = _answers(display)
    for number_, pair in enumerate(pairs, 1 + all_pairs - len(pairs)):
        _show_pair(display, pair, number_, all_pairs)
        try:
            choice = next(answers, None)
        except KeyboardInterrupt:
            display.say(Phrase("duel.paused", path=log.path.parent))
            raise
        if choice is None:
            display.say(Phrase("duel.paused", path=log.path.parent))
            return
        log.add(pair, choice)


def _show_pair(display: Display, pair: Pair, number_: int, all_pairs: int) -> None:
    display.put("")
    display.put_styled([(display.text(Phrase("duel.prompt", number=number_, all=all_pairs)), DIM)])
    display.put_styled([(pair.prompt, BOLD)])
    display.put("")
    replies = ((Phrase("duel.left"), pair.left.text), (Phrase("duel.right"), pair.right.text))
    texts = [[(f"{display.text(title)}\n", DIM), (text, "")] for title, text in replies]
    width = display.canvas.columns
    if display.is_terminal and columns_in_row(2, width) == 2:
        texts = side_by_side(texts, column_width(2, width))
    for line in texts:
        display.put_styled(line)


def _answers(display: Display) -> Iterator[Choice]:
    """Yield the user's choices until the user leaves: keys on a terminal, otherwise the letters of standard input."""
    if display.is_terminal and sys.stdin.isatty():
        from bilingual_chat.terminal.editor.choice import ask_key

        hint = display.text(Phrase("duel.keys"))
        while True:
            with redirect_stdout(display.out):  # prompt_toolkit looks it up
                choice = ask_key({**KEYS, **_ARROWS}, hint)
            if choice is None:
                return
            yield cast(Choice, choice)
    if display.is_dumb:
        display.say(Phrase("duel.keys"))
    read = StandardInput(sys.stdin.buffer).readline
    for letter in _letters(lambda: read(_LONGEST_LINE)):
        if letter == "q":
            return
        if letter in KEYS:
            yield cast(Choice, KEYS[letter])
        else:
            display.say(Phrase("duel.letter", letter=letter))


def _letters(read_line: Callable[[], str]) -> Iterator[str]:
    """Yield the letters of each line, full width and capitals folded."""
    while line := read_line():
        yield from "".join(unicodedata.normalize("NFKC", line).lower().split())


# -- results --------------------------------------------------------------------------------------------


def _show_rates(display: Display, results: Results, judgements: Sequence[Judgement]) -> None:
    records = win_rates(results, judgements)
    if not records:
        return
    names = ("cell", "rate", "wins", "ties", "losses", "bad")
    rows = [tuple(messages.render(f"duel.column.{name}", display.lang) for name in names)]
    for each in records:
        rate = f"{number(each.rate.mean)} [{interval(each.rate.low, each.rate.high)}]"
        counts = (str(count) for count in (each.wins, each.ties, each.losses, each.bad))
        rows.append((f"#{each.cell} {results.cells[each.cell].label}", rate, *counts))
    display.put("")
    display.put_rows(rows)


def _write_preferences(display: Display, path: Path, pairs: Sequence[dict[str, str]]) -> None:
    """Write the preference pairs; replace a file only if all of it is such pairs."""
    try:
        if path.exists() and not _is_preferences(path):
            raise BchatError("report.exists", status=ExitStatus.USAGE, path=path)
        atomic.write(path, b"".join(encode(pair) + b"\n" for pair in pairs), mode=0o644)
    except OSError as error:
        raise BchatError("report.not-written", path=path, reason=os_errors.reason(error)) from None
    display.say(Phrase("duel.pairs-written", pairs=len(pairs), path=path))


def _is_preferences(path: Path) -> bool:
    try:
        lines = safe_read.read_bytes(path, _LARGEST).split(b"\n")
        return all(set(safe_read.parse_json(line)) == {"prompt", "chosen", "rejected"} for line in lines if line)
    except safe_read.Unfit:
        return False
