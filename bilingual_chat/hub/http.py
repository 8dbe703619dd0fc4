"""HTTP requests to the hub: redirects, the token, timeouts and retries.

The client is huggingface_hub's, so that proxies, certificates and `set_client_factory` work as they do there, and so is
the user's token. It runs in an abandonable thread, because it cannot be interrupted while it waits for the network.
"""

from __future__ import annotations

import os
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import bilingual_chat
from bilingual_chat.hub.pool import POLL_S, Cancelled, TimedOut, raise_if_cancelled
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry

_DEFAULT_ENDPOINT = "https://huggingface.co"
_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_RETRYABLE = (408, 500, 502, 503, 504)
_REFUSALS: Mapping[str | int, str] = {
    **{"GatedRepo": "hub.gated", "RevisionNotFound": "hub.revision", "EntryNotFound": "hub.status"},
    **{401: "hub.unknown", 403: "hub.forbidden", 404: "hub.unknown"},
}
# By name: another version of huggingface_hub has another HTTP client.
_UNREACHED = ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol")
_READ_AHEAD = 4  # chunks
_T = TypeVar("_T")


@dataclass(frozen=True)
class Timeouts:
    """Timeouts and retries; in seconds, unless stated otherwise."""

    attempts: int = 6  # in a row without progress
    # The first request: without a network, the user is told within seconds.
    first_attempts: int = 2
    first_connect: float = 2.0
    first_total: float = 5.0
    first_pause: float = 1.0  # doubled at each retry
    max_pause: float = 20.0
    max_wait: float = 120.0  # that a hub may ask for; for more, the download fails
    # A name lookup takes 5 s where the first of two name servers is dead.
    resolve: float = 8.0
    connect: float = 10.0
    read: float = 15.0  # without a single byte
    window: float = 30.0  # in which `min_rate` must be reached
    min_rate: int = 1024  # bytes a second
    stall: float = 300.0  # without any progress at all


TIMEOUTS = Timeouts()


@dataclass(frozen=True)
class Hub:
    """A repository and its endpoint. The headers hold the token and are never shown."""

    endpoint: str
    repo: str
    revision: str
    headers: Mapping[str, str] = field(repr=False)

    def error(self, key: str, **values: object) -> BchatError:
        """Return an error about this repository."""
        given = {"repo": self.repo, "endpoint": without_credentials(self.endpoint), "revision": self.revision, **values}
        return BchatError(key, status=ExitStatus.MODEL, **given)


@dataclass(frozen=True)
class Response:
    """A response whose body is downloaded while `chunks` is consumed. The headers ignore case."""

    status_code: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class Retryable(Exception):
    """A failure that a retry may cure. `error` is for the user when no retry did."""

    def __init__(self, error: BchatError, *, wait_s: float = 0.0, was_reached: bool = True) -> None:
        super().__init__(error.key)
        self.error = error
        self.wait_s = wait_s
        self.was_reached = was_reached  # a server answered


def find_hub(entry: ModelEntry) -> Hub:
    """Return the repository of a model. Raise BchatError (MODEL)."""
    from huggingface_hub import errors
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # its `utils` mark no exports

    endpoint = (os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")
    bare = Hub(endpoint, entry.hub_id, entry.revision, {})
    if _origin(endpoint) is None:
        raise bare.error("hub.endpoint")
    try:
        validate_repo_id(entry.hub_id)
    except errors.HFValidationError:
        raise bare.error("hub.unknown") from None
    try:
        token = _find_token()
    except TimedOut:
        raise bare.error("hub.no-network") from None
    # The HTTP client quotes a header that it refuses, with the token in it.
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise BchatError("hub.token", status=ExitStatus.MODEL)
    # Not huggingface_hub's `build_hf_headers`, which asks the hub first for the name of a calling agent.
    headers = {"user-agent": f"bchat/{bilingual_chat.__version__}"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    return Hub(endpoint, entry.hub_id, entry.revision, headers)


def reach_hub(entry: ModelEntry) -> str:
    """Return the endpoint of a model's hub, if it answers. Raise BchatError (MODEL)."""
    hub = find_hub(entry)
    try:
        with request(hub, hub.endpoint, threading.Event(), method="HEAD", connect_s=TIMEOUTS.first_connect):
            return without_credentials(hub.endpoint)
    except Retryable as failure:
        raise failure.error from None


def _find_token() -> str:
    """Return the user's token, or "". Raise TimedOut: a token of `hf auth login` may be renewed over the network."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return ""
    steps = (get_token() or "" for _ in range(1))
    with closing(in_abandonable_thread(steps, threading.Event(), timeout_s=TIMEOUTS.read)) as found:
        return str(next(found))


def retry(
    attempt: Callable[[], _T],
    cancel: threading.Event,
    has_progressed: Callable[[], bool] = lambda: False,
    *,
    is_first: bool = False,
) -> _T:
    """Return `attempt()`, retried with growing pauses while it raises Retryable; at last raise its `error`.

    The count starts again after an attempt that `has_progressed`. `is_first`: there was no request before; if no server
    can be reached then, there is no network, and the retries end within seconds.
    """
    failures, start = 0, time.monotonic()
    while True:
        try:
            return attempt()
        except Retryable as failure:
            failures = 1 if has_progressed() else failures + 1
            is_first = is_first and not failure.was_reached
            attempts = TIMEOUTS.first_attempts if is_first else TIMEOUTS.attempts
            is_late = is_first and time.monotonic() - start > TIMEOUTS.first_total
            if failures >= attempts or is_late or failure.wait_s > TIMEOUTS.max_wait:
                raise failure.error from None
            pause = min(TIMEOUTS.first_pause * 2 ** (failures - 1), TIMEOUTS.max_pause)
            if cancel.wait(max(pause, failure.wait_s)):
                raise Cancelled from None


@contextmanager
def request(
    hub: Hub, url: str, cancel: threading.Event, *, start: int = 0, method: str = "GET", connect_s: float | None = None
) -> Iterator[Response]:
    """Send a request and give its response, before the body: status 200, 206, or 416 for a `start` beyond the end.

    Redirects are followed, except those of a HEAD response that has the ETag (they lead to the file itself). The token
    is sent only to the scheme, host and port of the endpoint. Raise Retryable and BchatError (MODEL), also for errors
    of the HTTP client while the body is read; Cancelled within a tenth of a second.
    """
    try:
        for _ in range(_MAX_REDIRECTS + 1):
            exchange = _exchange(hub, url, start, method, connect_s or TIMEOUTS.connect)
            with closing(in_abandonable_thread(exchange, cancel, timeout_s=TIMEOUTS.resolve)) as steps:
                next(steps)  # the name lookup
                response = next(steps)
                is_redirect = response.status_code in _REDIRECTS and "location" in response.headers
                if is_redirect and not (method == "HEAD" and "x-linked-etag" in response.headers):
                    url = urljoin(url, response.headers["location"])
                    continue
                if not is_redirect and response.status_code not in (200, 206, 416):
                    raise _refusal(hub, response, is_endpoint=_origin(url) == _origin(hub.endpoint))
                yield Response(response.status_code, response.headers, steps)
                return
    except TimedOut:
        raise Retryable(hub.error("hub.no-network"), was_reached=False) from None
    except Exception as error:
        from huggingface_hub.errors import HfHubHTTPError

        # Its base is the HTTP client's own error; which client that is differs by version.
        if not isinstance(error, HfHubHTTPError.__mro__[1]):
            raise
        was_reached = type(error).__name__ not in _UNREACHED
        raise Retryable(hub.error("hub.cut" if was_reached else "hub.no-network"), was_reached=was_reached) from None
    raise hub.error("hub.status", code=310)  # the number that browsers gave to an endless chain of redirects


def read_body(hub: Hub, response: Response, cancel: threading.Event) -> Iterator[bytes]:
    """Give the chunks of the body. Raise Retryable if it is slower than `min_rate`, and Cancelled."""
    start, received = time.monotonic(), 0
    for chunk in response.chunks:
        raise_if_cancelled(cancel)
        yield chunk
        received += len(chunk)
        elapsed = time.monotonic() - start
        if elapsed > TIMEOUTS.window:
            if received < TIMEOUTS.min_rate * elapsed:
                raise Retryable(hub.error("hub.slow"))
            start, received = time.monotonic(), 0


def without_credentials(url: str) -> str:
    """Return a URL without the user name and password that it may hold."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def in_abandonable_thread(
    steps: Generator[Any, None, None], cancel: threading.Event, *, timeout_s: float
) -> Generator[Any, None, None]:
    """Yield the values of `steps`, run in another thread, where it may hang in a lookup or on a dead line.

    Raise Cancelled, and TimedOut if the first step takes longer than `timeout_s`. The thread is then abandoned: it ends
    with the client's own timeouts, holds no lock and writes nothing.
    """
    results: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(_READ_AHEAD)
    is_abandoned = threading.Event()

    def put(step: Any, error: BaseException | None = None) -> None:
        while not is_abandoned.is_set():
            with suppress(queue.Full):
                results.put((step, error), timeout=POLL_S)
                return

    def run() -> None:
        with closing(steps):
            try:
                for step in steps:
                    put(step)
                    if is_abandoned.is_set():
                        return
                put(None, StopIteration())
            except BaseException as error:
                put(None, error)

    threading.Thread(target=run, name="bchat HTTP request", daemon=True).start()
    until = time.monotonic() + timeout_s
    try:
        while True:
            try:
                step, error = results.get(timeout=POLL_S)
            except queue.Empty:
                raise_if_cancelled(cancel)
                if time.monotonic() > until:
                    raise TimedOut from None
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            until = float("inf")
            yield step
    finally:
        is_abandoned.set()


def _exchange(hub: Hub, url: str, start: int, method: str, connect_s: float) -> Generator[Any, None, None]:
    """Yield None after the name lookup, then the response, then its body. May hang."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # its `utils` mark no exports

    _resolve(url)
    yield None
    # Compressed bytes would match neither the checksum nor the size.
    headers = {**hub.headers, "accept-encoding": "identity"}
    if _origin(url) != _origin(hub.endpoint):
        headers.pop("authorization", None)
    if start:
        headers["range"] = f"bytes={start}-"
    timeout = (connect_s, TIMEOUTS.read, TIMEOUTS.read, TIMEOUTS.read)
    with get_session().stream(method, url, headers=headers, timeout=timeout, follow_redirects=False) as response:
        yield response
        yield from response.iter_bytes()


def _resolve(url: str) -> None:
    """Look up the name of the server, or of the proxy. Errors are left to the client.

    The client looks it up again, but has no timeout for that: the system may take minutes if there is no network.
    """
    from urllib.request import getproxies, proxy_bypass  # 20 ms, which a list of models need not wait for

    origin = _origin(url)
    proxies = getproxies()
    proxy = proxies.get(urlsplit(url).scheme) or proxies.get("all")
    if origin is not None and proxy and not proxy_bypass(origin[1]):
        origin = _origin(proxy if "://" in proxy else f"http://{proxy}")
    if origin is not None:
        with suppress(OSError, UnicodeError):
            socket.getaddrinfo(*origin[1:])


def _refusal(hub: Hub, response: Any, *, is_endpoint: bool) -> Retryable | BchatError:
    status, code, wait_s = response.status_code, response.headers.get("x-error-code", ""), _retry_after(response)
    if status == 429:
        return Retryable(hub.error("hub.busy", seconds=f"{max(wait_s, 1):.0f}"), wait_s=wait_s)
    # A CDN refuses when the URL that the hub signed has expired; the hub then signs another.
    if status in _RETRYABLE or not is_endpoint:
        return Retryable(hub.error("hub.status", code=status), wait_s=wait_s)
    return hub.error(_REFUSALS.get(code) or _REFUSALS.get(status, "hub.status"), code=status)


def _retry_after(response: Any) -> float:
    """Return the seconds of Retry-After (a number or a date, RFC 9110 §10.2.3); 0 without it."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    with suppress(ValueError, TypeError, OverflowError):
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    return 0.0


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an HTTP URL; None for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)
