"""Several tokens a pass where a reply repeats what was said before (prompt lookup), exactly.

What followed the last few tokens when they stood there before is tried along with them. The logits
after each tried token are used only if that token is then chosen, with its own random number: the
reply, greedy or sampled, is the one that it would have been. For models whose rows do not depend on
each other, and whose passes over a few rows cost little more than over one.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

GRAM = 3  # tokens that must have stood there before
LONGEST_PAUSE = 32  # tokens without a try, after tries that failed one after the other

# (ids, tried) → logits (1 + tokens tried, vocabulary): after `ids`, and after each of `tried`.
Run = Callable[[list[int], list[int]], Tensor]


class Lookahead:
    """State: where each few tokens stood last, what was tried, and how well that goes."""

    def __init__(self, run: Run, most: int) -> None:
        """most: tokens tried in one pass."""
        self._run = run
        self._most = most
        self._tried: list[tuple[int, Tensor]] = []
        self._places: dict[tuple[int, ...], int] = {}  # the last GRAM ids → the place behind them
        self._indexed = GRAM
        self._pause = self._waiting = 0
        self._is_lost = True  # whether nothing of what was tried last came true (yet)
        self._is_first = True

    def logits_after(self, ids: list[int], room: int) -> Tensor:
        """float32 logits (vocabulary,) for what follows `ids`, which may have grown by one since the last call.

        room: how many tokens may follow, at least one.
        """
        if self._tried:
            guess, logits = self._tried.pop(0)
            if guess == ids[-1]:
                self._is_lost = False
                return logits
            self._tried = []
            # Each try that gained nothing makes the next wait longer.
            self._pause = min(2 * self._pause + 1, LONGEST_PAUSE) if self._is_lost else 0
            self._waiting = self._pause
        # Nothing is tried with a prompt: beside many rows each further one costs its full time, before the first token.
        tried = [] if self._is_first else self._guess(ids)[: room - 1]
        self._is_first = False
        found = self._run(ids, tried)
        self._tried = list(zip(tried, found[1:], strict=True))
        self._is_lost = True
        return found[0]

    def _guess(self, ids: list[int]) -> list[int]:
        """What followed the last few of `ids` before, if anything did."""
        for end in range(self._indexed, len(ids)):
            self._places[tuple(ids[end - GRAM : end])] = end
        self._indexed = max(len(ids), GRAM)
        if self._waiting:
            self._waiting -= 1
            return []
        place = self._places.get(tuple(ids[-GRAM:]))
        return [] if place is None else ids[place : place + self._most]
