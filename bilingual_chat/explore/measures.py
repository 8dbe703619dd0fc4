"""Measures of one reply, and of the replies that one prompt gets from several seeds. Pure functions.

Papers and their code define some of these differently, so each docstring states the definition used here. Token ids
are those of a reply without the token that ended it. A measure of too little text is None, never a guess.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOOP_COPIES, LOOP_TOKENS = 3, 12  # a loop has at least so many copies of its unit, and so many tokens
CHRF_ORDER, CHRF_BETA = 6, 2
_CODE_BITS = 21  # of a code point

# The letters of Unicode 16 whose script is Hiragana, Katakana or Han; or whose script extensions are (ー, 〆, ﾞ).
_JAPANESE = re.compile(
    "[\u3005\u3006\u3031-\u3035\u303b\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufad9\uff66-\uff9f"
    "\U0001aff0-\U0001affe\U0001b000-\U0001b167\U00020000-\U0003347f]"
)


@dataclass(frozen=True)
class ReplyMeasures:
    """The measures of one reply, named as the columns of `replies.jsonl`."""

    tokens: int
    characters: int  # Unicode code points
    rep4: float | None
    loop: bool
    distinct1: float | None
    distinct2: float | None
    ja_share: float | None
    leak: bool


def measure_reply(reply: str, ids: Sequence[int], labels: Sequence[str]) -> ReplyMeasures:
    """Return all measures of one reply. `labels`: those of the prompt format, for example "ユーザー"."""
    return ReplyMeasures(
        tokens=len(ids),
        characters=len(reply),
        rep4=repetition(ids, 4),
        loop=is_loop(ids),
        distinct1=distinct([ids], 1),
        distinct2=distinct([ids], 2),
        ja_share=japanese_share(reply),
        leak=has_leak(reply, labels),
    )


def repetition(ids: Sequence[int], n: int) -> float | None:
    """Return the share of n-grams that occurred before in the reply: 1 − distinct / all.

    Source: seq-rep-n of Welleck et al. 2020, "Neural text generation with unlikelihood training", section 6.
    """
    share = distinct([ids], n)
    return None if share is None else 1 - share


def distinct(replies: Sequence[Sequence[int]], n: int) -> float | None:
    """Return distinct n-grams / all n-grams, pooled over the replies. No n-gram crosses from one reply to the next.

    Source: distinct-n of Li et al. 2016, "A diversity-promoting objective function", which divides by the number of
    tokens instead of n-grams. The value falls with length: compare replies of similar length.
    """
    grams = [gram for ids in replies for gram in _ngrams(ids, n)]
    return len(set(grams)) / len(grams) if grams else None


def is_loop(ids: Sequence[int]) -> bool:
    """Return True if the reply ends with at least 3 copies of one unit in a row, of 12 tokens or more together.

    The last copy may be cut off after it began. Holtzman et al. 2020 describe such loops; their code
    (`metrics/repetition.py` of ari-holtzman/degen) counts units of 3 tokens or more from 2 copies on, which calls a
    sentence said twice a loop. The loop detector of the chat wants 128 tokens, because it ends a reply.
    """
    return any(_periodic_tail(ids, unit) >= max(LOOP_COPIES * unit, LOOP_TOKENS) for unit in _units(ids))


def _units(ids: Sequence[int]) -> range:
    return range(1, len(ids) // LOOP_COPIES + 1)


def _periodic_tail(ids: Sequence[int], unit: int) -> int:
    """Return the number of last tokens that repeat every `unit` tokens, the first copy included."""
    at = len(ids) - 1
    while at >= unit and ids[at] == ids[at - unit]:
        at -= 1
    return len(ids) - 1 - at + unit


def japanese_share(text: str) -> float | None:
    """Return Japanese letters / letters; letters are Unicode's categories L*, Japanese is told by script.

    Japanese: Hiragana, Katakana (also half width) and Han, as in Unicode's Scripts.txt, and the marks that
    only they use, such as ー. Digits, punctuation and emoji count nowhere.
    Chinese text counts as Japanese, because Han is one script.
    """
    letters = [character for character in text if character.isalpha()]
    return sum(map(bool, map(_JAPANESE.match, letters))) / len(letters) if letters else None


def has_leak(text: str, labels: Sequence[str]) -> bool:
    """Return True if a label of the prompt format stands in the reply, followed by a colon (half or full width).

    The label may stand anywhere except after a letter, so "superuser:" is no leak of "user".
    """
    return any(re.search(rf"(?<![^\W\d_]){re.escape(label)}[ \u3000]*[:：]", text) for label in labels)


# -- across the seeds of one prompt ---------------------------------------------------------------------


def pairwise_chrf(replies: Sequence[str]) -> float | None:
    """Return the mean chrF (0 to 1) over all ordered pairs of replies: 1 for equal replies, near 0 for unrelated ones.

    chrF is not symmetric, so each pair counts in both directions. None for fewer than two replies. The slow form is
    `chrf` for each pair.
    """
    if len(replies) < 2:
        return None
    counts = _ngram_counts(["".join(reply.split()) for reply in replies])
    scores = [score for a, b in combinations(range(len(replies)), 2) for score in _chrf_of_counts(counts, a, b)]
    return sum(scores) / len(scores)


def _ngram_counts(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return the counts of each order, of shape (texts, n-grams that any text has).

    An n-gram is numbered by the number of its first n − 1 characters and its last character.
    """
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    starts, numbers = np.arange(len(codes)), np.zeros(len(codes), np.int64)
    counts = []
    for n in range(1, CHRF_ORDER + 1):
        inside = starts + n - 1 < len(codes)
        starts, numbers = starts[inside], numbers[inside]
        inside = owners[starts] == owners[starts + n - 1]
        starts, numbers = starts[inside], numbers[inside]
        _, numbers = np.unique(numbers << _CODE_BITS | codes[starts + n - 1], return_inverse=True)
        size = int(numbers.max(initial=-1)) + 1
        flat = np.bincount(owners[starts] * size + numbers, minlength=len(texts) * size)
        counts.append(flat.reshape(len(texts), size))
    return counts


def _chrf_of_counts(counts: Sequence[NDArray[np.int64]], a: int, b: int) -> tuple[float, float]:
    """Return chrF of text `a` against text `b`, and the other way round."""
    totals = [(int(each[a].sum()), int(each[b].sum())) for each in counts]
    matches = [int(np.minimum(each[a], each[b]).sum()) for each in counts]
    if all(match == x == y for match, (x, y) in zip(matches, totals, strict=True)):
        return 1.0, 1.0
    return _both_scores([(match, x, y) for match, (x, y) in zip(matches, totals, strict=True) if x and y])


def chrf(hypothesis: str, reference: str) -> float:
    """Return chrF of one text, from 0 to 1: characters without whitespace, orders 1 to 6, beta 2.

    Source: Popović 2015, "chrF: character n-gram F-score", as sacreBLEU 2 computes it for one sentence (there from 0
    to 100): precision and recall are averaged over the orders that both texts have, then combined. Two texts without
    any characters are equal, which sacreBLEU scores 0 and this function 1.
    """
    return _chrf_both_ways(_character_ngrams(hypothesis), _character_ngrams(reference))[0]


def _character_ngrams(text: str) -> list[Counter[str]]:
    """Return the counts of each order; orders longer than the text are left out."""
    text = "".join(text.split())
    orders = range(1, min(CHRF_ORDER, len(text)) + 1)
    return [Counter(text[at : at + n] for at in range(len(text) - n + 1)) for n in orders]


def _chrf_both_ways(a: list[Counter[str]], b: list[Counter[str]]) -> tuple[float, float]:
    """Return chrF of `a` against `b`, and of `b` against `a`."""
    if a == b:
        return 1.0, 1.0
    return _both_scores([(_matches(x, y), x.total(), y.total()) for x, y in zip(a, b, strict=False)])


def _both_scores(shared: Sequence[tuple[int, int, int]]) -> tuple[float, float]:
    """Return both scores from (matches, all of `a`, all of `b`) for each order that both texts have."""
    if not shared:
        return 0.0, 0.0
    of_a = sum(matches / total for matches, total, _ in shared) / len(shared)
    of_b = sum(matches / total for matches, _, total in shared) / len(shared)
    return _f_score(of_a, of_b), _f_score(of_b, of_a)


def _matches(a: Counter[str], b: Counter[str]) -> int:
    return sum(min(a[gram], b[gram]) for gram in a.keys() & b.keys())


def _f_score(precision: float, recall: float) -> float:
    weight = CHRF_BETA**2
    below = weight * precision + recall
    return (1 + weight) * precision * recall / below if below else 0.0


def _ngrams(ids: Sequence[Any], n: int) -> Iterator[tuple[Any, ...]]:
    return (tuple(ids[at : at + n]) for at in range(len(ids) - n + 1))
