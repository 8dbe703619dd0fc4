"""Whether a reply goes round in circles."""

from __future__ import annotations

# An endless loop: a unit of at most LOOP_UNIT tokens, at least LOOP_TIMES in a row, over LOOP_TOKENS or more.
LOOP_UNIT, LOOP_TIMES, LOOP_TOKENS = 64, 4, 128


class LoopDetector:
    """Whether a reply goes round in circles; constant work for each token.

    For each unit length u, `_runs[u]` counts how many last tokens equal the one u before them.
    """

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._runs = [0] * (LOOP_UNIT + 1)

    def push(self, token_id: int) -> bool:
        ids, runs = self._ids, self._runs
        ids.append(token_id)
        looping = False
        for unit in range(1, min(LOOP_UNIT, len(ids) - 1) + 1):
            if ids[-1 - unit] == token_id:
                runs[unit] += 1
                looping = looping or runs[unit] + unit >= max(LOOP_TIMES * unit, LOOP_TOKENS)
            else:
                runs[unit] = 0
        return looping
