"""HTTP requests to a server, each in a thread of its own, with a deadline for each stage.

The standard library's client follows no redirect and asks no proxy, and another thread can shut its socket down.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import bilingual_chat
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.servers import Server

KEY_VARIABLE = "BCHAT_API_KEY"
LONGEST_LINE = 1 << 20  # bytes of one event
LONGEST_BODY = 1 << 20  # bytes of a response that is no stream
_SHOWN = 300  # characters of a server's own error message
_RETRYABLE = (429, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
POLL_S = 0.1


@dataclass(frozen=True)
class Deadlines:
    """Seconds, and attempts."""

    connect: float = 10.0  # name lookup, TCP and TLS
    models: float = 30.0  # until the list of models has come
    first: float = 300.0  # until the first token: a busy server lets requests wait
    between: float = 60.0  # from one token to the next
    total: float = 3600.0  # of a request
    attempts: int = 3  # before the first token
    pause: float = 0.5  # doubled at each retry
    most_pause: float = 30.0  # that a server may ask for


DEADLINES = Deadlines()


@dataclass(frozen=True)
class Client:
    """A server, and the user's key for it. Raises BchatError (USAGE) for a key that must not be sent."""

    server: Server
    key: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def error(self, key: str, **values: object) -> BchatError:
        """Return an error about this server."""
        return BchatError(key, status=ExitStatus.MODEL, server=self.server.url, **values)


def make_client(server: Server, environment: Mapping[str, str] = os.environ) -> Client:
    """Return a client with the key of BCHAT_API_KEY. Raises BchatError (USAGE) if the key must not be sent."""
    key = environment.get(KEY_VARIABLE, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", key):  # http.client would quote it
        raise BchatError("server.key-characters", status=ExitStatus.USAGE)
    if key and not server.is_encrypted and not server.is_this_machine:
        raise BchatError("server.key-unencrypted", status=ExitStatus.USAGE, server=server.url)
    return Client(server, key, ssl.create_default_context() if server.is_encrypted else None)


@dataclass(frozen=True)
class Event:
    """One JSON object of a response; `is_end`: the server said [DONE]."""

    data: Mapping[str, Any] = field(default_factory=dict)
    is_end: bool = False


Result = Event | Exception | None  # None: the response has ended
Results = queue.SimpleQueue[tuple[int, Result]]  # with the number of the request


class Request:
    """One request. Its thread puts (number, result) into `results`: events, then None or what went wrong.

    `body` None: a GET. A request is repeated only while nothing of its response has come.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        number: int = 0,
        results: Results | None = None,
    ) -> None:
        self.number = number
        self.results: Results = results or queue.SimpleQueue()
        self._has_events = False
        self._client, self._path = client, client.server.path + path
        self._body = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None  # `_connection` gives its own away with the response
        self._is_closed = threading.Event()
        self._stage, self._due = "connect", float("inf")
        self._end = float("inf")

    def start(self) -> None:
        """Send the request."""
        self._end = time.monotonic() + DEADLINES.total
        self._set_stage("connect")
        threading.Thread(target=self._run, name="bchat request to a server", daemon=True).start()

    def close(self) -> None:
        """Close the connection; the server then stops computing. Any thread may call this."""
        self._is_closed.set()
        if self._socket is not None:
            with suppress(OSError):
                # Not the method of an SSLSocket: another thread reads from it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def has_got_token(self) -> None:
        """Report a token: the next one has its own deadline."""
        self._set_stage("between")

    def find_lateness(self) -> BchatError | None:
        """Return an error (MODEL) if the server is late."""
        now = time.monotonic()
        if now > self._end:
            return self._client.error("server.late.total", seconds=f"{DEADLINES.total:.0f}")
        if now > self._due:
            seconds = f"{getattr(DEADLINES, self._stage):g}"
            return self._client.error(f"server.late.{self._stage}", seconds=seconds)
        return None

    def _set_stage(self, stage: str) -> None:
        self._stage, self._due = stage, time.monotonic() + getattr(DEADLINES, stage)

    def _run(self) -> None:
        pause = DEADLINES.pause
        for attempt in range(1, DEADLINES.attempts + 1):
            try:
                self._put_events()
                return
            except _Retryable as failure:
                is_last = attempt == DEADLINES.attempts or failure.wait_s > DEADLINES.most_pause
                if self._has_events or is_last:
                    self._put(failure.error)
                    return
                self._due = float("inf")
                if self._is_closed.wait(max(failure.wait_s, pause)):
                    return
                pause *= 2
                self._set_stage("connect")
            except Exception as error:
                self._put(error)
                return
            finally:
                if self._connection is not None:
                    self._connection.close()

    def _put_events(self) -> None:
        for event in self._exchange():
            self._has_events = True
            self._put(event)
        if not self._has_events:
            raise _Retryable(self._client.error("server.broke-off"))
        self._put(None)

    def _put(self, result: Result) -> None:
        if not isinstance(result, Event):
            self._due = self._end = float("inf")
        if not self._is_closed.is_set():
            self.results.put((self.number, result))

    def _exchange(self) -> Iterator[Event]:
        """Send the request and yield the events of its response. Raises BchatError and _Retryable."""
        client = self._client
        try:
            self._connect()
            self._set_stage("models" if self._body is None else "first")
            with self._respond() as response:
                if response.status != 200:
                    raise _refusal(client, response)
                if "event-stream" in response.headers.get("content-type", ""):
                    yield from _read_events(client, response)
                else:
                    yield Event(_read_object(client, response))
        except ssl.SSLCertVerificationError:
            raise client.error("server.certificate") from None
        except (OSError, http.client.HTTPException) as error:
            if self._stage == "connect":
                reason = "" if isinstance(error, http.client.HTTPException) else _reason(error)
                raise _Retryable(client.error("server.unreachable", reason=reason)) from None
            raise _Retryable(client.error("server.broke-off")) from None

    def _connect(self) -> None:
        server, timeout = self._client.server, DEADLINES.connect
        connection = (
            http.client.HTTPSConnection(server.host, server.port, timeout=timeout, context=self._client.tls)
            if server.is_encrypted
            else http.client.HTTPConnection(server.host, server.port, timeout=timeout)
        )
        self._connection = connection  # which is closed however this ends
        connection.connect()
        self._socket = connection.sock
        connection.sock.settimeout(DEADLINES.total)  # the receiver shuts the socket down much earlier
        if self._is_closed.is_set():
            raise OSError

    def _respond(self) -> http.client.HTTPResponse:
        assert self._connection is not None
        headers = {
            "accept": "text/event-stream, application/json",
            "accept-encoding": "identity",
            "connection": "close",
            "user-agent": f"bchat/{bilingual_chat.__version__}",
        }
        if self._body is not None:
            headers["content-type"] = "application/json"
        if self._client.key:
            headers["authorization"] = f"Bearer {self._client.key}"
        self._connection.request("GET" if self._body is None else "POST", self._path, self._body, headers)
        return self._connection.getresponse()


def fetch_object(client: Client, path: str) -> Mapping[str, Any]:
    """Return the JSON object at `path`. Raises BchatError (MODEL). Ctrl-C works."""
    return next(events_of(Request(client, path))).data


def receive(requests: Callable[[], Iterable[Request]], results: Results) -> Iterator[tuple[int, Result]]:
    """Yield (number of a request, result) until the caller stops; an error for each of `requests` that is late."""
    checked = time.monotonic()
    while True:
        with suppress(queue.Empty):
            yield results.get(timeout=POLL_S)
        if time.monotonic() - checked > POLL_S:
            checked = time.monotonic()
            for request in requests():
                if (error := request.find_lateness()) is not None:
                    yield request.number, error


def events_of(request: Request) -> Generator[Event, None, None]:
    """Send a request and yield the events of its response. Raises BchatError (MODEL). Ctrl-C works."""
    request.start()
    with closing(request):
        for _, result in receive(lambda: [request], request.results):
            if isinstance(result, Exception):
                raise result
            if result is None:
                return
            yield result


class _Retryable(Exception):
    """A failure that another attempt may cure, before the first token."""

    def __init__(self, error: BchatError, wait_s: float = 0.0) -> None:
        super().__init__(error.key)
        self.error, self.wait_s = error, wait_s


def _reason(error: OSError) -> str:
    """Return the system's words, or the kind of error."""
    return error.strerror or type(error).__name__


def _read_events(client: Client, response: http.client.HTTPResponse) -> Iterator[Event]:
    """Yield the events of a stream (server-sent events; other fields than data are ignored)."""
    data: list[bytes] = []
    size = 0
    while line := response.readline(LONGEST_LINE + 1):
        size += len(line)
        if size > LONGEST_LINE:
            raise client.error("server.too-much")
        line = line.rstrip(b"\r\n")
        if line.startswith(b"data:"):
            data.append(line.removeprefix(b"data:"))
        elif not line and data:
            yield _event(client, b"\n".join(data))
            data, size = [], 0
        elif not line:
            size = 0
    if data:
        yield _event(client, b"\n".join(data))


def _event(client: Client, data: bytes) -> Event:
    if data.strip() == b"[DONE]":
        return Event(is_end=True)
    return Event(_parse(client, data))


def _read_object(client: Client, response: http.client.HTTPResponse) -> Mapping[str, Any]:
    data = response.read(LONGEST_BODY + 1)
    if len(data) > LONGEST_BODY:
        raise client.error("server.too-much")
    return _parse(client, data)


def _parse(client: Client, data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise client.error("server.not-understood")
    if found.get("error") or found.get("object") == "error":  # also in a response of status 200
        raise client.error("server.error", reason=error_text(found))
    return found


def _refusal(client: Client, response: http.client.HTTPResponse) -> _Retryable | BchatError:
    status = response.status
    if status in _REDIRECTS:
        return client.error("server.redirect", to=(response.headers.get("location") or "")[:_SHOWN])
    text = _body_text(response)
    if status in (401, 403):
        return client.error("server.key-refused" if client.key else "server.key-missing", variable=KEY_VARIABLE)
    key = "server.unavailable" if status >= 500 else "server.status"
    error = client.error(key, code=status, reason=text or response.reason[:_SHOWN])
    if status in _RETRYABLE:
        wait = response.headers.get("retry-after", "").strip()
        return _Retryable(error, float(wait) if re.fullmatch(r"\d{1,6}", wait) else 0.0)
    return error


def _body_text(response: http.client.HTTPResponse) -> str:
    """Return the message of an error's body, "" for none."""
    with suppress(OSError, http.client.HTTPException, ValueError, RecursionError):
        return error_text(json.loads(response.read(LONGEST_BODY)))
    return ""


def error_text(body: object) -> str:
    """Return the message of a server's error in one line; servers wrap it in several ways. Untrusted."""
    for _ in range(4):
        if not isinstance(body, Mapping):
            break
        body = next((body[key] for key in ("error", "message", "detail") if body.get(key)), "")
    return " ".join(str(body).split())[:_SHOWN]
