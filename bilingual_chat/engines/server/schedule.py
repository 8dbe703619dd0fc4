"""Many replies on one server or several: who computes which reply, and what happens if a server fails."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.engines.server.completions import Reply
from bilingual_chat.engines.server.http import Request, Result, Results, receive
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.decoding import DecodingParameters

# The server is gone or stuck; any other error would come from another server, too.
_DOWN = ("server.unreachable", "server.broke-off", "server.unavailable", "server.late.")


def is_down(error: BchatError) -> bool:
    """Return True if another server may do what this one failed to do."""
    return error.key.startswith(_DOWN)


class Worker(Protocol):
    """A server that computes replies; `engine.ServerEngine` is one."""

    @property
    def weight(self) -> float: ...

    @property
    def most_requests(self) -> int: ...

    def prepare(
        self, number: int, prompt_ids: Sequence[int], parameters: DecodingParameters, results: Results
    ) -> tuple[Request, Reply]: ...


@dataclass
class _Running:
    """A reply that a server computes. `held`: its tokens, if they are given out only when it is whole."""

    index: int
    worker: Worker
    request: Request
    reply: Reply
    held: list[Chunk] = field(default_factory=list)


class Schedule:
    """The replies that wait, and those that run. State: both, and the servers that are up.

    With one server, tokens are given out as they come. With several, a reply is given out when it is whole: if a server
    fails, another one begins its unfinished replies again, and nothing of them was given out.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        prompts: Sequence[Sequence[int]],
        requests: Sequence[DecodingParameters],
        *,
        unwanted: Container[int] = frozenset(),
        width: int,
    ) -> None:
        self._workers, self._prompts, self._requests = list(workers), prompts, requests
        self._unwanted, self._width = unwanted, width
        self._waiting = deque(range(len(requests)))
        self._running: dict[int, _Running] = {}  # by the number of the request
        self._results: Results = queue.SimpleQueue()
        self._started = 0
        self._holds = len(self._workers) > 1

    def run(self) -> Generator[tuple[int, Chunk], None, None]:
        """Yield (index of the request, chunk). Raises what one server raised, or the last one that is up."""
        try:
            self._start_waiting()
            results = receive(lambda: [each.request for each in self._running.values()], self._results)
            while self._running:
                number, result = next(results)
                if number in self._running:
                    yield from self._take(number, result)
                if number not in self._running:
                    self._start_waiting()
        finally:
            for each in self._running.values():
                each.request.close()

    def _take(self, number: int, result: Result) -> Iterator[tuple[int, Chunk]]:
        running = self._running[number]
        try:
            chunks = self._chunks(running, result)
            if not self._holds:
                yield from self._wanted(running, chunks)
            else:
                running.held += chunks
        except BchatError as error:
            self._give_up(running.worker, error)
            return
        if running.reply.is_done or running.index in self._unwanted:
            self._running.pop(number).request.close()
            yield from self._wanted(running, running.held)

    def _chunks(self, running: _Running, result: Result) -> Iterator[Chunk]:
        if isinstance(result, Exception):
            raise result
        for chunk in running.reply.take(result):
            running.request.has_got_token()
            yield chunk

    def _wanted(self, running: _Running, chunks: Iterator[Chunk] | list[Chunk]) -> Iterator[tuple[int, Chunk]]:
        for chunk in chunks:
            yield running.index, chunk
            if running.index in self._unwanted:
                return

    def _start_waiting(self) -> None:
        """Start what waits on the servers that have room, the least busy for its weight first."""
        while self._waiting:
            free = [each for each in self._workers if self._load(each) < self._limit(each)]
            if not free:
                return
            worker = min(free, key=lambda each: (self._load(each) + 1) / each.weight)
            index, self._started = self._waiting.popleft(), self._started + 1
            request, reply = worker.prepare(self._started, self._prompts[index], self._requests[index], self._results)
            self._running[self._started] = _Running(index, worker, request, reply)
            request.start()

    def _load(self, worker: Worker) -> int:
        return sum(each.worker is worker for each in self._running.values())

    def _limit(self, worker: Worker) -> int:
        share = worker.weight / sum(each.weight for each in self._workers)
        return max(min(worker.most_requests, round(self._width * share)), 1)

    def _give_up(self, worker: Worker, error: BchatError) -> None:
        """Leave a server that is down, and let its replies wait again. Raises `error` if no other server is up."""
        if not is_down(error) or len(self._workers) == 1:
            raise error
        self._workers.remove(worker)
        for number, each in sorted(self._running.items(), reverse=True):
            if each.worker is worker:
                each.request.close()
                del self._running[number]
                self._waiting.appendleft(each.index)
