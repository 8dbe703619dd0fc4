"""Scores of replies: the user's own task as one number a reply, higher is better."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bilingual_chat import messages
from bilingual_chat.explore.measures import chrf
from bilingual_chat.explore.prompts import SweepPrompt
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import os_errors

CHOICE = "choice"  # no score of a generated reply: see `sweep.run_choices`
TIMEOUT_S = 60.0  # for one number
_SHOWN = 60  # characters of a wrong answer

Score = Callable[[SweepPrompt, str], float]


def _exact(prompt: SweepPrompt, reply: str) -> float:
    return float(reply.strip() == (prompt.reference or "").strip())


def _contains(prompt: SweepPrompt, reply: str) -> float:
    return float((prompt.reference or "").strip() in reply)


def _regex(prompt: SweepPrompt, reply: str) -> float:
    return float(re.search(prompt.pattern or "", reply) is not None)


def _chrf(prompt: SweepPrompt, reply: str) -> float:
    return chrf(reply, prompt.reference or "")


_SCORES: dict[str, Score] = {"exact": _exact, "contains": _contains, "regex": _regex, "chrf": _chrf}
_NEEDS = {"exact": "reference", "contains": "reference", "chrf": "reference", "regex": "pattern", CHOICE: "choices"}
NAMES = (*_SCORES, CHOICE)


def require_fields(name: str, prompts: Sequence[SweepPrompt]) -> None:
    """Raise BchatError (DATA) for a prompt without the field that the score `name` needs."""
    field = _NEEDS.get(name)
    for prompt in prompts:
        if field and not getattr(prompt, field):
            raise BchatError("sweep.score-field", status=ExitStatus.DATA, line=prompt.line, name=field, score=name)
        if name == CHOICE and prompt.reference is not None and prompt.reference not in prompt.choices:
            raise BchatError("sweep.score-reference", status=ExitStatus.DATA, line=prompt.line)


@contextlib.contextmanager
def open_score(name: str) -> Iterator[Score]:
    """Give the score of that name, or that of a command. Raises BchatError (USAGE): no such score, no such program."""
    if name in _SCORES:
        yield _SCORES[name]
        return
    words = _command(name)
    with contextlib.closing(CommandScore(words)) as command:
        yield command.score


def require_score(name: str) -> None:
    """Raise BchatError (USAGE) unless `name` is a score, or a command whose program is there."""
    if name not in NAMES:
        _command(name)


def _command(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if not words or shutil.which(words[0]) is None:
        suggestion = messages.did_you_mean(text, NAMES)
        known = ", ".join(NAMES)
        raise BchatError("sweep.score", status=ExitStatus.USAGE, name=text, known=known, suggestion=suggestion)
    return words


class CommandScore:
    """A program that reads one JSON object a line and writes one number a line. It is started without a shell.

    State: the process, and a thread that reads its lines.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._name = words[0]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # Python would keep its lines back
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
            )
        except OSError as error:
            reason = os_errors.reason(error)
            raise BchatError("sweep.scorer-start", name=self._name, reason=reason) from None
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def score(self, prompt: SweepPrompt, reply: str) -> float:
        """Return the number for one reply. Raises BchatError: it ended, answers something else, or not at all."""
        self._write(_question(prompt, reply))
        try:
            answer = self._answers.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise BchatError("sweep.scorer-silent", name=self._name, seconds=int(TIMEOUT_S)) from None
        if answer is None:
            raise self._ended()
        return self._number(answer)

    def close(self) -> None:
        """End the program."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=1)  # longer if a program that it started still has its standard output

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    def _write(self, question: Mapping[str, Any]) -> None:
        data = json.dumps(question, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            self._stdin.write(data)
            self._stdin.flush()
        except OSError:
            raise self._ended() from None

    def _read(self) -> None:
        stdout: Any = self._process.stdout
        with stdout, contextlib.suppress(OSError, ValueError):
            while line := stdout.readline(1000):
                self._answers.put(line)
        self._answers.put(None)

    def _number(self, answer: bytes) -> float:
        text = answer.decode("utf-8", "replace").strip()
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise BchatError("sweep.scorer-answer", name=self._name, answer=text[:_SHOWN])
        return number

    def _ended(self) -> BchatError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        return BchatError("sweep.scorer-ended", name=self._name, status_code=self._process.poll())


def _question(prompt: SweepPrompt, reply: str) -> dict[str, Any]:
    fields = {"reference": prompt.reference, "choices": list(prompt.choices) or None, "pattern": prompt.pattern}
    given = {name: value for name, value in fields.items() if value is not None}
    return {"prompt_id": prompt.id, "prompt": prompt.message, "reply": reply, **given}
