"""Lists and searches the conversations of a directory, the newest first."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.text.conversation import Speaker
from bilingual_chat.transcript import schema
from bilingual_chat.transcript.files import unreadable
from bilingual_chat.transcript.journal import SUFFIX, is_being_written, read_journal
from bilingual_chat.transcript.loaded import Loaded

_FIRST_WORDS = 60  # characters
_EXCERPT = 40  # characters on either side of a match
_HIRAGANA = {katakana: katakana - 0x60 for katakana in (*range(0x30A1, 0x30F7), 0x30FD, 0x30FE)}
# A character with the marks that belong to it, the half-width voicing marks among them.
_CLUSTER = re.compile("(?s:.)[\u0300-\u036f\u3099\u309a\uff9e\uff9f]*")


Report = Callable[[BchatError], None]


def _ignore(problem: BchatError) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Summary:
    """One conversation in the list. An unreadable one has no turns, and the reason in `problems`."""

    path: Path
    id: str
    created: str  # ISO 8601
    changed: datetime  # with a time zone
    turns: int
    first_words: str
    model: str
    locked: bool  # a process is writing the file now
    problems: tuple[BchatError, ...] = ()


@dataclass(frozen=True)
class Match:
    """A conversation that a search has found. `excerpt` is one line around the first match."""

    summary: Summary
    excerpt: str


def list_conversations(directory: Path, report: Report = _ignore) -> list[Summary]:
    """Return every journal in `directory`, the last changed first; none if the directory does not exist.

    A damaged file is listed with its problem. A file that the system does not let us read is skipped and reported.
    """
    return [summary for summary, _ in _read_all(directory, report)]


def search(directory: Path, words: str, report: Report = _ignore) -> list[Match]:
    """Return the conversations that contain all of `words`, the newest first; [] for no words.

    Width, case and the two kana are folded: `ｶﾞｷﾞｸﾞ` finds 「がぎぐ」. `report`: see `list_conversations`.
    """
    wanted = fold(words).split()
    if not wanted:
        return []
    excerpts = ((summary, _found(wanted, loaded)) for summary, loaded in _read_all(directory, report) if loaded)
    return [Match(summary, excerpt) for summary, excerpt in excerpts if excerpt is not None]


def fold(text: str) -> str:
    """Return `text` for comparison: NFKC, case folded, katakana as hiragana."""
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_HIRAGANA)
    return unicodedata.normalize("NFKC", plain)


def _read_all(directory: Path, report: Report) -> Iterator[tuple[Summary, Loaded | None]]:
    for changed, path in sorted(_dated(directory, report), reverse=True):
        summary, loaded = _summarize(path, schema.local_time(changed))
        if loaded is None and any(problem.key == "transcript.unreadable" for problem in summary.problems):
            report(summary.problems[0])
        else:
            yield summary, loaded


def _dated(directory: Path, report: Report) -> Iterator[tuple[float, Path]]:
    for name in _names(directory, report):
        if name.endswith(SUFFIX) and not name.startswith("."):
            path = directory / name
            try:
                yield path.stat().st_mtime, path
            except FileNotFoundError:  # removed since scandir
                continue
            except (OSError, ValueError) as error:
                report(unreadable(path, error))


def _names(directory: Path, report: Report) -> list[str]:
    """Return the names in a directory, also those before a failure. Raises BchatError if it cannot be opened."""
    names: list[str] = []
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        return names
    except OSError as error:
        raise unreadable(directory, error) from error
    with entries:
        try:
            names.extend(entry.name for entry in entries)
        except OSError as error:
            report(unreadable(directory, error))
    return names


def _found(wanted: list[str], loaded: Loaded) -> str | None:
    """Return an excerpt around the first of the `wanted` words, None unless all are in the conversation."""
    texts = [utterance.text for utterance in schema.all_utterances(loaded.conversation, loaded.pending_user)]
    folded = [fold(text) for text in texts]
    if not all(any(word in text for text in folded) for word in wanted):
        return None
    return next(_excerpt(text, wanted[0]) for text, plain in zip(texts, folded, strict=True) if wanted[0] in plain)


def _summarize(path: Path, changed: datetime) -> tuple[Summary, Loaded | None]:
    locked = is_being_written(path)
    try:
        loaded = read_journal(path)
    except BchatError as error:
        lost = schema.header_of_file(path)
        return Summary(path, lost.id, lost.created, changed, 0, "", "", locked, (error,)), None
    header = loaded.header
    # A record that is half written now is no damage.
    problems = () if locked else loaded.problems
    turns = len(loaded.conversation.turns)
    return (
        Summary(path, header.id, header.created, changed, turns, _first_words(loaded), header.model, locked, problems),
        loaded,
    )


def _first_words(loaded: Loaded) -> str:
    utterances = schema.all_utterances(loaded.conversation, loaded.pending_user)[len(loaded.conversation.opening) :]
    first = next((utterance.text for utterance in utterances if utterance.speaker is Speaker.USER), "")
    line = " ".join(first.split())
    return line if len(line) <= _FIRST_WORDS else line[: _FIRST_WORDS - 1] + "…"


def _excerpt(text: str, word: str) -> str:
    """Return one line of `text` around `word`, which is folded."""
    starts, folded = [], []
    for cluster in _CLUSTER.finditer(text):
        piece = fold(cluster.group())
        starts += [cluster.start()] * len(piece)
        folded.append(piece)
    at = "".join(folded).find(word)
    begin = starts[at] if at >= 0 else 0
    end = starts[at + len(word) - 1] + 1 if at >= 0 else 0
    low, high = max(0, begin - _EXCERPT), min(len(text), end + _EXCERPT)
    line = " ".join(text[low:high].split())
    return f"{'…' if low else ''}{line}{'…' if high < len(text) else ''}"
