"""`bchat models`: all models on two lines each, or all facts about one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bilingual_chat.engines.memory import PRECISIONS, Precision, available_memory, memory_in
from bilingual_chat.hub.state import FileState, Report, State, last_report
from bilingual_chat.messages import Phrase
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.catalogue import CONFIG_FILE, TOKENIZER_FILE, WEIGHT_FILES, ModelEntry, with_withdrawn_of
from bilingual_chat.settings.config import Config
from bilingual_chat.storage import paths
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.tables import Row
from bilingual_chat.text.conversation import Speaker, Utterance
from bilingual_chat.text.prompt import PromptFormat, render

_STATES = {
    State.GOOD: "model.good",
    State.UNKNOWN: "model.unknown-state",
    State.CHANGED: "model.changed",
    State.DAMAGED: "model.damaged",
}


def state_of(file: FileState) -> str:
    """Return the message key of the state of `file`."""
    return "model.withdrawn" if file.withdrawn_md5 else _STATES[file.state]


def show_all(config: Config, display: Display) -> None:
    """Show each model: state, size, and the memory that each precision needs."""
    free, chosen = available_memory(), _chosen(config)
    model, state, size, note = (display.text(Phrase(f"heading.{key}")) for key in ("model", "state", "size", "note"))
    # Each heading has a space behind it, over the closing brackets of numbers.
    headings = (f"  {model}", state, size, *(f"{precision.name} " for precision in PRECISIONS))
    rows: list[tuple[Row, str]] = [(headings, note)]
    for entry in config.catalogue.values():
        mark = "*" if entry.name == chosen.name else " "
        state = display.text(Phrase(_state(with_withdrawn_of(entry, config.catalogue.values()))))
        memory = (_memory(precision, entry, free).rjust(len(precision.name) + 1) for precision in PRECISIONS)
        rows.append(
            ((f"{mark} {entry.name}", state, _stored_size(entry).rjust(6), *memory), _note(entry, display.lang))
        )
    display.put_noted_rows(rows)
    report_unreadable(display, config.catalogue.values())
    known = "models.legend" if free is not None else "models.legend-unknown"
    display.say(Phrase(known, free=format_bytes(free or 0), name=chosen.name))


def show_one(config: Config, display: Display, name: str) -> None:
    """Show all facts about one model, without reading its weights."""
    entry = catalogue.find(config.catalogue, name)
    known = with_withdrawn_of(entry, config.catalogue.values())
    free, report = available_memory(), None if entry.embedded else last_report(known)
    facts: list[tuple[str, str]] = [
        ("name", ", ".join(entry.names)),
        ("description", entry.describe(display.lang)),
        ("hub", f"{entry.hub_id} ({entry.revision})" if entry.hub_id else ""),
        ("state", _where(known, report, display)),
        *(("file", line) for line in _of_files(entry, report, display)),
        ("size", _of_size(entry)),
        *(("memory", line) for line in _of_memory(entry, free, display)),
        ("prompt", _example(entry.prompt, display)),
        ("stop", "  ".join(map(_quoted, entry.prompt.stop_strings))),
        ("context", f"{entry.context_length:,}" if entry.context_length else ""),
        ("preset", _of_preset(config, entry)),
        ("licence", entry.licence),
        ("scores", ", ".join(f"{name} {score:g}" for name, score in entry.scores.items())),
        *(("md5", f"{file}  {md5}") for file, md5 in entry.weights_md5.items()),
        *(("withdrawn", md5) for md5 in entry.withdrawn_md5),
    ]
    report_unreadable(display, [entry])
    display.put_rows(_without_repetition((display.text(Phrase(f"fact.{key}")), text) for key, text in facts if text))


def report_unreadable(display: Display, entries: Iterable[ModelEntry]) -> None:
    """Report each unreadable directory once, even if several models belong there."""
    found = [trouble for entry in entries if (trouble := catalogue.trouble(entry)) is not None]
    for path, reason in dict(found).items():
        display.say(Phrase("models.unreadable", path=paths.shorten(path), reason=reason))


def _chosen(config: Config) -> ModelEntry:
    """Return the model that opens without --model."""
    return catalogue.find(config.catalogue, config.model) if config.model else catalogue.default_entry(config.catalogue)


def _state(entry: ModelEntry) -> str:
    """Return the message key of a model's state, without reading its files."""
    if entry.embedded:
        return "model.embedded"
    report = last_report(entry)
    if report is None:
        return "model.absent" if catalogue.trouble(entry) is None else "model.unreadable-state"
    return "model.withdrawn" if report.withdrawn else _STATES[report.state]


def _memory(precision: Precision, entry: ModelEntry, free: int | None) -> str:
    """Return gigabytes; in brackets if they exceed the free memory."""
    needed = memory_in(precision, entry)
    amount = f"{needed / 1e9:.1f}" if needed else "?"
    return f"({amount})" if free is not None and needed > free else f"{amount} "


def _note(entry: ModelEntry, lang: str) -> str:
    scores = "/".join(f"{score:g}" for score in entry.scores.values())
    return " · ".join(filter(None, [entry.describe(lang), entry.licence, scores]))


def _where(entry: ModelEntry, report: Report | None, display: Display) -> str:
    state = display.text(Phrase(_state(entry)))
    directory: Path | None = report.directory if report else catalogue.locate(entry)
    return f"{state}  {directory}" if directory else state


def _of_files(entry: ModelEntry, report: Report | None, display: Display) -> list[str]:
    """Return the files on this machine with their states, or the files to download."""
    if report:
        files = ((file.name, format_bytes(file.size), display.text(Phrase(state_of(file)))) for file in report.files)
        return list(map("  ".join, files))
    if not entry.hub_id:
        return []
    values = {"small": f"{CONFIG_FILE}, {TOKENIZER_FILE}", "first": WEIGHT_FILES[0], "second": WEIGHT_FILES[2]}
    return [display.text(Phrase("fact.to-fetch", **values))]


def _stored_size(entry: ModelEntry) -> str:
    return format_bytes(entry.stored_bytes) if entry.stored_bytes else "?"


def _of_size(entry: ModelEntry) -> str:
    if not entry.parameters:
        return ""
    return f"{_stored_size(entry)} · {entry.parameters:,} × {entry.dtype or 'float16'}"


def _of_memory(entry: ModelEntry, free: int | None, display: Display) -> Iterable[str]:
    for precision in PRECISIONS:
        needed = memory_in(precision, entry)
        if needed:
            key = "fact.unknown-fit" if free is None else "fact.fits" if needed <= free else "fact.too-large"
            fits = display.text(Phrase(key, free=format_bytes(free or 0)))
            yield f"{precision.name}  {format_bytes(needed)}  {fits}".rstrip()


def _example(format: PromptFormat, display: Display) -> str:
    """Return the prompt of a first message, with visible newlines."""
    if format.kind == "template":
        return display.text(Phrase("fact.template"))
    return _quoted(render([Utterance(Speaker.USER, display.text(Phrase("fact.message")))], format))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace("\n", "\\n") + '"'


def _of_preset(config: Config, entry: ModelEntry) -> str:
    preset = config.presets.get(entry.preset)
    values = preset.values.items() if preset else ()
    return f"{entry.preset}: {', '.join(f'{name} {value:g}' for name, value in values)}".removesuffix(": ")


def _without_repetition(rows: Iterable[tuple[str, str]]) -> list[Row]:
    """Blank a label that repeats the one above."""
    rows = list(rows)
    above = ["", *(label for label, _ in rows)]
    return [("" if label == before else label, text) for before, (label, text) in zip(above, rows, strict=False)]
