"""`bchat report`: the statistics of a sweep as an HTML file, as a heat map in the terminal, as a preset."""

from __future__ import annotations

from pathlib import Path

from bilingual_chat.explore.report import marks, text_map
from bilingual_chat.explore.report.analysis import Analysis, analyse
from bilingual_chat.explore.report.layout import arrange
from bilingual_chat.explore.report.page import GENERATOR, write_page
from bilingual_chat.explore.report.preset import MARK, write_preset
from bilingual_chat.explore.report.sections import BETTER
from bilingual_chat.explore.results import read_results
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import atomic, os_errors, paths, safe_read
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal.display import Display

_FILE = "report.html"
_LARGEST = 16 << 20  # bytes of a report or preset of ours


def report(
    display: Display,
    directory: Path,
    output: Path | None,
    preset: Path | None,
    by: str | None,
    baseline: int,
    in_terminal: bool,
) -> None:
    """Report on the sweep in `directory`. Raises BchatError for a directory, option or file that does not fit."""
    directory = paths.expand(str(directory))
    analysis = analyse(read_results(directory), by, baseline)
    results = analysis.results
    if len(results.replies) < results.expected:
        done, expected = f"{len(results.replies):,}", f"{results.expected:,}"
        display.say(Phrase("report.unfinished", done=done, expected=expected))
    if results.damaged:
        display.say(Phrase("report.lines-skipped", count=len(results.damaged), first=results.damaged[0]))
    if analysis.main.is_constant and len(results.cells) > 1:
        measure = Phrase(f"report.measure.{analysis.main.measure.name}")
        display.say(Phrase("report.all-equal", measure=measure))
    if in_terminal:
        _show(analysis, display)
    if output is not None or not in_terminal:
        path = paths.expand(str(output)) if output is not None else directory / _FILE
        page = write_page(analysis, display.lang)
        _write(path, page, GENERATOR.encode())
        display.say(Phrase("report.written", path=path, size=format_bytes(len(page))))
    if preset is not None:
        if analysis.main.is_constant and len(results.cells) > 1:
            raise BchatError("report.no-preset", status=ExitStatus.DATA, path=preset)
        path = paths.expand(str(preset))
        _write(path, write_preset(analysis, path.stem), MARK.encode())
        display.say(Phrase("report.preset-written", path=path, name=path.stem))


def _show(analysis: Analysis, display: Display) -> None:
    """Print the heat map of the main measure."""
    main, results = analysis.main, analysis.results
    better = Phrase(f"report.better.{BETTER[main.measure.is_higher_better]}")
    name = Phrase(f"report.measure.{main.measure.name}")
    display.say(Phrase("report.terminal-title", measure=name, better=better, prompts=len(results.prompts)))
    layout = arrange(results.cells, results.varied)
    for line in text_map.text_lines(main, layout, display.canvas.columns if display.is_terminal else None):
        display.put_styled(line)
    if main.is_constant:  # no cell is marked
        return
    means = [each.mean for each in main.estimates if each.prompts]
    bounds = {"low": marks.number(min(means)), "high": marks.number(max(means))}
    display.say(Phrase("report.terminal-marks", best=text_map.BEST, near=text_map.NEAR, **bounds))


def _write(path: Path, data: bytes, mark: bytes) -> None:
    """Write a file; replace one only if it has our mark, as one that bchat wrote before."""
    try:
        if path.exists() and mark not in safe_read.read_bytes(path, _LARGEST):
            raise BchatError("report.exists", status=ExitStatus.USAGE, path=path)
        atomic.write(path, data, mode=0o644)
    except safe_read.Unfit:
        raise BchatError("report.exists", status=ExitStatus.USAGE, path=path) from None
    except OSError as error:
        raise BchatError("report.not-written", path=path, reason=os_errors.reason(error)) from None
