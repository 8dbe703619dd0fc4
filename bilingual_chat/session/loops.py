"""Detects replies that repeat themselves."""

from __future__ import annotations

# A loop: at most LOOP_UNIT tokens, repeated at least LOOP_TIMES, LOOP_TOKENS or more in all.
LOOP_UNIT, LOOP_TIMES, LOOP_TOKENS = 64, 4, 128


class LoopDetector:
    """Detects a reply that repeats itself, with constant work per token.

    State: `_runs[u]` is the number of last tokens that equal the token u before them.
    """

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._runs = [0] * (LOOP_UNIT + 1)

    def push(self, token_id: int) -> bool:
        """Add a token. Return True if the reply now ends in a loop."""
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
