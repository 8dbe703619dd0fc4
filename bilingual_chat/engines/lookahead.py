"""Prompt lookup decoding: several tokens per pass where a reply repeats earlier text, without changing it.

If the last few tokens occurred before, the tokens that followed them are tried in the next pass. The logits after a
tried token count only if that token is then chosen, with its own random number: greedy or sampled, the reply stays the
same. Only for row-invariant models, whose passes over a few rows cost little more than over one.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

NGRAM = 3  # tokens that must have occurred before
LONGEST_PAUSE = 32  # tokens without a try, after failed tries

# (ids, tried) → logits (1 + tokens tried, vocabulary): after `ids`, and after each of `tried`.
Run = Callable[[list[int], list[int]], Tensor]


class Lookahead:
    """State: the last position of each n-gram, the tokens tried, and the success of recent tries."""

    def __init__(self, run: Run, most_tried: int) -> None:
        """most_tried: tokens tried per pass."""
        self._run = run
        self._most_tried = most_tried
        self._tried: list[tuple[int, Tensor]] = []
        self._ends: dict[tuple[int, ...], int] = {}  # n-gram → the index behind its last occurrence
        self._indexed = NGRAM
        self._pause = self._waiting = 0
        self._has_failed = True  # no tried token has been chosen since the last pass
        self._is_first = True

    def logits_after(self, ids: list[int], remaining: int) -> Tensor:
        """Return float32 logits (vocabulary,) after `ids`, which may have grown by one since the last call.

        remaining: the number of tokens that may follow, at least one.
        """
        if self._tried:
            guess, logits = self._tried.pop(0)
            if guess == ids[-1]:
                self._has_failed = False
                return logits
            self._tried = []
            self._pause = min(2 * self._pause + 1, LONGEST_PAUSE) if self._has_failed else 0
            self._waiting = self._pause
        # Beside the many rows of a prompt, each tried row would delay the first token.
        tried = [] if self._is_first else self._guess(ids)[: remaining - 1]
        self._is_first = False
        rows = self._run(ids, tried)
        self._tried = list(zip(tried, rows[1:], strict=True))
        self._has_failed = True
        return rows[0]

    def _guess(self, ids: list[int]) -> list[int]:
        """Return the tokens that followed the last n-gram of `ids` before, if it occurred."""
        for end in range(self._indexed, len(ids)):
            self._ends[tuple(ids[end - NGRAM : end])] = end
        self._indexed = max(len(ids), NGRAM)
        if self._waiting:
            self._waiting -= 1
            return []
        end_before = self._ends.get(tuple(ids[-NGRAM:]))
        return [] if end_before is None else ids[end_before : end_before + self._most_tried]
