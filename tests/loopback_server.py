"""A vLLM that a test serves on loopback: it replays streams, with a switch for each thing that goes wrong."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DONE = b"data: [DONE]\n\n"
# Recorded from vLLM 0.32.0 (`--skip-tokenizer-init`), prompt 5 to 10, `max_tokens` 3.
RECORDED = (
    b'data: {"id":"cmpl-8693c9e3c5bf7368","object":"text_completion","created":1795455749,"model":"tiny","choices":'
    b'[{"index":0,"text":"","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":'
    b'[5,6,7,8,9,10],"token_ids":[58]}]}\n\n',
    b'data: {"id":"cmpl-8693c9e3c5bf7368","object":"text_completion","created":1795455749,"model":"tiny","choices":'
    b'[{"index":0,"text":"","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,'
    b'"token_ids":[150]}]}\n\n',
    b'data: {"id":"cmpl-8693c9e3c5bf7368","object":"text_completion","created":1795455749,"model":"tiny","choices":'
    b'[{"index":0,"text":"","logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_token_ids":null,'
    b'"token_ids":[289]}],"system_fingerprint":"vllm-0.32.0-b8e5fb16"}\n\n',
    DONE,
)
RECORDED_IDS = [58, 150, 289]
RECORDED_ERROR = (
    b'data: {"error": {"message": "Unable to get tokenizer because `skip_tokenizer_init=True`", '
    b'"type": "BadRequestError", "param": null, "code": 400}}\n\n',
    DONE,
)
HOLD = "hold"  # as a part: say nothing until the client has gone
RESET = "reset"  # as a part: the connection is reset


def tokens(*ids: object, finish: str | None = None, **more: object) -> bytes:
    """One event with the ids of some tokens."""
    choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": finish, "token_ids": list(ids), **more}
    return event({"id": "cmpl-1", "object": "text_completion", "choices": [choice]})


def event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


@dataclass(frozen=True)
class Answer:
    """A response: its parts (bytes; seconds to wait; HOLD; RESET), each a chunk of its own."""

    parts: Sequence[bytes | float | str] = RECORDED
    status: int = 200
    kind: str = "text/event-stream; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False  # the connection ends without the end of the response


def as_json(data: object, status: int = 200, **headers: str) -> Answer:
    return Answer([json.dumps(data).encode()], status, "application/json", headers)


@dataclass
class Served:
    """What the server answers, and what it was asked for."""

    answers: Iterable[Answer] = ()  # to completions, in the order of the requests; then RECORDED for ever
    models: Sequence[dict[str, Any]] = ({"id": "demo", "object": "model", "root": "/demo", "max_model_len": 1024},)
    reply_to: Any = None  # a function from a body to an Answer, instead of `answers`
    key: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    gone_after_s: list[float] = field(default_factory=list)  # from HOLD to the end of the connection
    gone: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def __post_init__(self) -> None:
        self._answers = iter(self.answers)

    def answer(self, body: dict[str, Any]) -> Answer:
        if self.reply_to is not None:
            answer: Answer = self.reply_to(body)
            return answer
        with self.lock:
            return next(self._answers, Answer())


class _Answerer(BaseHTTPRequestHandler):
    served: Served
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.note()
        if self.served.key and self.headers.get("Authorization") != f"Bearer {self.served.key}":
            self.send(as_json({"error": "Unauthorized"}, 401))
        elif self.path.endswith("/v1/models"):
            self.send(as_json({"object": "list", "data": list(self.served.models)}))
        else:
            self.send(as_json({"detail": "Not Found"}, 404))

    def do_POST(self) -> None:
        self.note()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.served.lock:
            self.served.bodies.append(body)
            self.served.open_now += 1
            self.served.most_open = max(self.served.most_open, self.served.open_now)
        try:
            self.send(self.served.answer(body))
        finally:
            with self.served.lock:
                self.served.open_now -= 1

    def note(self) -> None:
        with self.served.lock:
            self.served.paths.append(self.path)
            self.served.keys.append(self.headers.get("Authorization"))

    def send(self, answer: Answer) -> None:
        self.close_connection = True
        if self.headers.get("Connection") == "close":  # as uvicorn; http.client then gives its socket away
            answer = replace(answer, headers={"Connection": "close", **answer.headers})
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.kind, "Transfer-Encoding": "chunked", **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for part in answer.parts:
                self.send_part(part)
            if not answer.is_cut:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:  # whoever asked has gone
            pass

    def send_part(self, part: bytes | float | str) -> None:
        if isinstance(part, bytes):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        elif part == RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        elif isinstance(part, str):
            began = time.monotonic()
            select.select([self.connection], [], [], 20)
            self.served.gone_after_s.append(time.monotonic() - began)
            self.served.gone.set()
        else:
            time.sleep(part)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@contextmanager
def serve(served: Served) -> Iterator[Served]:
    server = _Server(("127.0.0.1", 0), type("Bound", (_Answerer,), {"served": served}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def replying(*replies: str, pause_s: float = 0.0) -> Any:
    """A `reply_to` that answers with `replies`, one after the other, a token at a time."""
    from tests.scripted import tokenizer

    waiting = iter(replies)

    def reply_to(body: dict[str, Any]) -> Answer:
        if body["max_tokens"] == 1:  # bchat looks if ids go both ways
            return Answer([tokens(9, finish="length", prompt_token_ids=body["prompt"]), DONE])
        parts: list[bytes | float | str] = []
        for each in tokenizer().encode(next(waiting)):
            parts += [tokens(each), pause_s]
        return Answer([*parts, tokens(tokenizer().eos_id, finish="stop"), DONE])

    return reply_to
