"""Blind comparison of cells: pairs of replies to one prompt, judgements on disk, win rates, preference pairs."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from bilingual_chat.explore.results import Reply, Results
from bilingual_chat.explore.statistics import Estimate, estimate
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import atomic, lock, os_errors, own_files, safe_read
from bilingual_chat.transcript.safe_json import JsonError, encode, parse

Choice = Literal["left", "right", "tie", "bad"]
FILE = "duels.jsonl"
_LOCK = ".duels.lock"
_MOST_MIB = 64
_POINTS: Mapping[Choice, tuple[float, float]] = {"left": (1, 0), "right": (0, 1), "tie": (0.5, 0.5)}

Side = tuple[int, int]  # cell, replicate
Key = tuple[str, frozenset[Side]]  # prompt id, both sides


@dataclass(frozen=True)
class Pair:
    """Two replies to one prompt, on the sides where the user sees them."""

    prompt_id: str
    prompt: str
    left: Reply
    right: Reply

    @property
    def key(self) -> Key:
        return self.prompt_id, frozenset({_side(self.left), _side(self.right)})


@dataclass(frozen=True)
class Judgement:
    """A choice between two sides."""

    prompt_id: str
    left: Side
    right: Side
    choice: Choice

    @property
    def key(self) -> Key:
        return self.prompt_id, frozenset({self.left, self.right})


@dataclass(frozen=True)
class Record:
    """The judgements of one cell. `rate`: wins, ties counted as half, without pairs that are both bad."""

    cell: int
    rate: Estimate
    wins: int
    ties: int
    losses: int
    bad: int


def _side(reply: Reply) -> Side:
    return reply.cell, reply.replicate


# -- pairs ----------------------------------------------------------------------------------------------


def make_pairs(results: Results, cells: Sequence[int]) -> list[Pair]:
    """Return the pairs of different replies, in a random order that goes round the prompts.

    Sides are random too. Both depend on nothing but the sweep, so that a resumed duel is the same. A greedy cell,
    which has one reply, meets each seed of the others with it.
    """
    replies = {(reply.prompt, reply.cell, reply.replicate): reply for reply in results.replies}
    pairs: dict[Key, Pair] = {}
    each = itertools.product(enumerate(results.prompts), itertools.combinations(cells, 2), results.replicates)
    for (at, (id_, text)), two, replicate in each:
        first, second = (replies.get((at, cell, _replicate(results, cell, replicate))) for cell in two)
        if first and second and first.text != second.text:
            pair = Pair(id_, text, *_shuffled(id_, first, second))
            pairs.setdefault(pair.key, pair)
    shuffled = list(pairs.values())
    random.Random(0).shuffle(shuffled)
    rounds: Counter[str] = Counter()
    turns = []
    for number, pair in enumerate(shuffled):
        turns.append((rounds[pair.prompt_id], number))
        rounds[pair.prompt_id] += 1
    return [shuffled[number] for _, number in sorted(turns)]


def _replicate(results: Results, cell: int, replicate: int) -> int:
    return 0 if results.cells[cell].is_greedy else replicate


def _shuffled(prompt_id: str, first: Reply, second: Reply) -> tuple[Reply, Reply]:
    chance = random.Random(f"{prompt_id} {_side(first)} {_side(second)}").random()
    return (first, second) if chance < 0.5 else (second, first)


# -- judgements -----------------------------------------------------------------------------------------


class DuelLog:
    """The judgements of a sweep, one line each, on disk before the next. State: the open file, what it holds."""

    def __init__(self, directory: Path) -> None:
        """Open `duels.jsonl` in `directory` exclusively. Raises BchatError: in use, not writable."""
        self.path = directory / FILE
        with _explained(self.path):
            found = lock.acquire(directory / _LOCK)
            if found is None:
                raise BchatError("duel.in-use", status=ExitStatus.DATA, path=directory)
            self._lock = found
            self.judgements = read_judgements(directory)
            self._fd = own_files.open_own(self.path, 0o644)
            atomic.sync_directory(directory)
            self._length = _whole_lines(self.path)

    def __enter__(self) -> DuelLog:
        return self

    def __exit__(self, *raised: object) -> None:
        atomic.close(self._fd)
        self._lock.release()

    def add(self, pair: Pair, choice: Choice) -> None:
        """Record a choice; it is on disk on return. Raises BchatError."""
        judgement = Judgement(pair.prompt_id, _side(pair.left), _side(pair.right), choice)
        time = datetime.now(UTC).isoformat(timespec="seconds")
        data = encode({"time": time, "prompt_id": judgement.prompt_id, **_sides(judgement), "choice": choice}) + b"\n"
        with _explained(self.path):
            atomic.truncate(self._fd, self._length)
            atomic.write_at(self._fd, self._length, data)
        self._length += len(data)
        self.judgements.append(judgement)


def _sides(judgement: Judgement) -> dict[str, dict[str, int]]:
    sides = {"left": judgement.left, "right": judgement.right}
    return {name: {"cell": cell, "replicate": replicate} for name, (cell, replicate) in sides.items()}


def _whole_lines(path: Path) -> int:
    """Return the bytes up to the last newline; a crash may have cut the line after it."""
    return safe_read.read_bytes(path, _MOST_MIB << 20).rfind(b"\n") + 1


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BchatError("duel.not-written", path=path, reason=os_errors.reason(error)) from None


def read_judgements(directory: Path) -> list[Judgement]:
    """Return the judgements in `directory`, the last one of each pair; none if there is no file.

    Damaged lines are left out. Raises BchatError for a file that cannot be read.
    """
    path = directory / FILE
    try:
        data = safe_read.read_bytes(path, _MOST_MIB << 20)
    except FileNotFoundError:
        return []
    except (OSError, safe_read.Unfit) as error:
        reason = os_errors.reason(error) if isinstance(error, OSError) else type(error).__name__
        raise BchatError("report.unreadable", status=ExitStatus.DATA, path=path, reason=reason) from None
    found = filter(None, map(_parse, data.split(b"\n")[:-1]))
    return list({judgement.key: judgement for judgement in found}.values())


def _parse(line: bytes) -> Judgement | None:
    try:
        row = parse(line)
        sides = [(row[name]["cell"], row[name]["replicate"]) for name in ("left", "right")]
        prompt_id, choice = row["prompt_id"], row["choice"]
    except (JsonError, KeyError, TypeError):
        return None
    if not isinstance(prompt_id, str) or choice not in get_args(Choice) or sides[0] == sides[1]:
        return None
    if not all(type(number) is int for side in sides for number in side):
        return None
    return Judgement(prompt_id, sides[0], sides[1], choice)


# -- what they say --------------------------------------------------------------------------------------


def win_rates(results: Results, judgements: Iterable[Judgement]) -> list[Record]:
    """Return the record of each judged cell, the best first. Intervals are over prompts."""
    points: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    bad: Counter[int] = Counter()
    for judgement in judgements:
        cells = judgement.left[0], judgement.right[0]
        if not all(0 <= cell < len(results.cells) for cell in cells):
            continue
        if judgement.choice == "bad":
            bad.update(cells)
        for cell, point in zip(cells, _POINTS.get(judgement.choice, ()), strict=False):
            points[cell][judgement.prompt_id].append(point)
    records = [_record(cell, points[cell], bad[cell]) for cell in sorted({*points, *bad})]
    return sorted(records, key=lambda record: -math.inf if math.isnan(record.rate.mean) else -record.rate.mean)


def _record(cell: int, by_prompt: Mapping[str, Sequence[float]], bad: int) -> Record:
    means = np.array([[sum(points) / len(points)] for points in by_prompt.values()]).reshape(-1, 1)
    counts = Counter(point for points in by_prompt.values() for point in points)
    return Record(cell, estimate(means, (0.0, 1.0))[0], counts[1], counts[0.5], counts[0], bad)


def preferences(results: Results, judgements: Iterable[Judgement]) -> list[dict[str, str]]:
    """Return the decided pairs as `prompt`, `chosen` and `rejected`, as DPO trainers read them."""
    texts = dict(results.prompts)
    replies = {(results.prompts[reply.prompt][0], _side(reply)): reply.text for reply in results.replies}
    found = []
    for each in judgements:
        sides = {"left": (each.left, each.right), "right": (each.right, each.left)}.get(each.choice)
        chosen, rejected = (replies.get((each.prompt_id, side)) for side in sides) if sides else (None, None)
        if chosen is not None and rejected is not None:
            found.append({"prompt": texts[each.prompt_id], "chosen": chosen, "rejected": rejected})
    return found
