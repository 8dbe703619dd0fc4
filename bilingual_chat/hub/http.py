"""Questions to the hub over HTTP: redirects, the token, deadlines, and what is worth another attempt.

The client is huggingface_hub's (so proxies, certificates and `set_client_factory` mean what they mean
there), and so is the person's token. What to do with an answer is decided here.
The client works in a thread of its own (`_apart`): while it waits for the network it cannot be interrupted.
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
from bilingual_chat.hub.pool import Silent, Stopped
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry

_USUAL_ENDPOINT = "https://huggingface.co"
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 500, 502, 503, 504)
# By name: the HTTP client is another in another version of huggingface_hub.
_NOT_REACHED = ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol")
_LOOK_S = 0.1  # between two looks at whether somebody said "stop"
_AHEAD = 4  # chunks that may come before they are asked for
_T = TypeVar("_T")


@dataclass(frozen=True)
class Timeouts:
    """How long bchat waits; seconds, unless it says otherwise."""

    attempts: int = 6  # in a row that brought next to nothing
    first_attempts: int = 2  # to reach the hub at all; who has no network is told so in seconds
    first_connect: float = 2.0  # at these
    first_total: float = 5.0  # after that long, these are over, too
    first_pause: float = 1.0  # doubled at each
    longest_pause: float = 20.0
    longest_wait: float = 120.0  # that a hub may ask for; one that wants more is told of instead
    # To look a name up. Where the first of two name servers is dead, a look-up that succeeds takes 5 s.
    resolve: float = 8.0
    connect: float = 10.0
    read: float = 15.0  # without a single byte
    window: float = 30.0  # in which at least `slowest` bytes a second must come
    slowest: int = 1024
    silence: float = 300.0  # without anything moving at all


TIMEOUTS = Timeouts()


@dataclass(frozen=True)
class Hub:
    """Where a repository is asked for, and with what. The headers hold the token: never shown."""

    endpoint: str
    repo: str
    revision: str
    headers: Mapping[str, str] = field(repr=False)

    def error(self, key: str, **values: object) -> BchatError:
        """An error about this repository."""
        given = {"repo": self.repo, "endpoint": shown(self.endpoint), "revision": self.revision, **values}
        return BchatError(key, status=ExitStatus.MODEL, **given)


@dataclass(frozen=True)
class Answer:
    """What came: its status, its headers (in any case), and its body, which comes while it is asked for."""

    status_code: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class Broken(Exception):
    """It went wrong, and may go right another time. `error` is what to say when it did not."""

    def __init__(self, error: BchatError, *, wait_s: float = 0.0, was_reached: bool = True) -> None:
        super().__init__(error.key)
        self.error = error
        self.wait_s = wait_s
        self.was_reached = was_reached  # whether anybody answered


def find_hub(entry: ModelEntry) -> Hub:
    """Where the model's repository is to be asked for. Raises BchatError (MODEL)."""
    from huggingface_hub import errors
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # its `utils` mark no exports

    endpoint = (os.environ.get("HF_ENDPOINT") or _USUAL_ENDPOINT).rstrip("/")
    bare = Hub(endpoint, entry.hub_id, entry.revision, {})
    if _origin(endpoint) is None:
        raise bare.error("hub.endpoint")
    try:
        validate_repo_id(entry.hub_id)
    except errors.HFValidationError:
        raise bare.error("hub.unknown") from None
    try:
        token = _find_token()
    except Silent:
        raise bare.error("hub.no-network") from None
    # The HTTP client quotes a header that it refuses, token and all.
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise BchatError("hub.token", status=ExitStatus.MODEL)
    # Not huggingface_hub's `build_hf_headers`: for the name of the agent that may have called us, which nobody
    # needs to know, it asks the hub first, and hangs where the name of that is not found.
    headers = {"user-agent": f"bchat/{bilingual_chat.__version__}"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    return Hub(endpoint, entry.hub_id, entry.revision, headers)


def _find_token() -> str:
    """The person's token, "" for none. Raises Silent: one of `hf auth login` may be renewed over the network."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return ""
    found = _apart((get_token() or "" for _ in range(1)), threading.Event(), first_s=TIMEOUTS.read)
    with closing(found):
        return str(next(found))


def persist(
    act: Callable[[], _T],
    stop: threading.Event,
    has_moved: Callable[[], bool] = lambda: False,
    *,
    is_first: bool = False,
) -> _T:
    """`act` until it does not raise Broken; raises what is to be said when patience is at its end.

    The attempts are counted anew whenever the one before `has_moved` things. `is_first`: nothing was asked
    before, and where nobody can be reached there is no network, for which nobody waits half a minute.
    """
    failures, began = 0, time.monotonic()
    while True:
        try:
            return act()
        except Broken as broken:
            failures = 1 if has_moved() else failures + 1
            is_first = is_first and not broken.was_reached
            attempts = TIMEOUTS.first_attempts if is_first else TIMEOUTS.attempts
            is_long = is_first and time.monotonic() - began > TIMEOUTS.first_total
            if failures >= attempts or is_long or broken.wait_s > TIMEOUTS.longest_wait:
                raise broken.error from None
            pause = min(TIMEOUTS.first_pause * 2 ** (failures - 1), TIMEOUTS.longest_pause)
            if stop.wait(max(pause, broken.wait_s)):
                raise Stopped from None


@contextmanager
def ask(
    hub: Hub, url: str, stop: threading.Event, *, start: int = 0, method: str = "GET", connect_s: float | None = None
) -> Iterator[Answer]:
    """The answer, its body not yet read: status 200, 206, or 416 for a `start` beyond the end.

    Redirects are followed, and the token goes to the endpoint's own scheme, host and port only. The
    answer to a HEAD that already has the ETag is not followed further: behind it is the file itself.
    Raises Broken and BchatError (MODEL), also for what the HTTP client raises while the body is read; and
    Stopped within a tenth of a second, whatever the network does.
    """
    try:
        for _ in range(_MOST_REDIRECTS + 1):
            exchange = _exchange(hub, url, start, method, connect_s or TIMEOUTS.connect)
            with closing(_apart(exchange, stop, first_s=TIMEOUTS.resolve)) as steps:
                next(steps)  # the name is looked up
                response = next(steps)
                is_redirect = response.status_code in _REDIRECTS and "location" in response.headers
                is_enough = method == "HEAD" and "x-linked-etag" in response.headers
                if is_redirect and not is_enough:
                    url = urljoin(url, response.headers["location"])
                    continue
                if not is_redirect and response.status_code not in (200, 206, 416):
                    raise _refusal(hub, response, is_own=_origin(url) == _origin(hub.endpoint))
                yield Answer(response.status_code, response.headers, steps)
                return
    except Silent:
        raise Broken(hub.error("hub.no-network"), was_reached=False) from None
    except Exception as error:
        if not _is_of_client(error):
            raise
        was_reached = type(error).__name__ not in _NOT_REACHED
        raise Broken(hub.error("hub.cut" if was_reached else "hub.no-network"), was_reached=was_reached) from None
    raise hub.error("hub.status", code=310)  # the number that browsers gave to a chain of redirects without an end


def read(hub: Hub, answer: Answer, stop: threading.Event) -> Iterator[bytes]:
    """The body as it comes. Raises Broken for one that only drips, and Stopped."""
    began, came = time.monotonic(), 0
    for chunk in answer.chunks:
        if stop.is_set():
            raise Stopped
        yield chunk
        came += len(chunk)
        elapsed = time.monotonic() - began
        if elapsed > TIMEOUTS.window:
            if came < TIMEOUTS.slowest * elapsed:
                raise Broken(hub.error("hub.slow"))
            began, came = time.monotonic(), 0


def shown(url: str) -> str:
    """A URL without the name and password that may stand in it."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def _apart(steps: Generator[Any, None, None], stop: threading.Event, *, first_s: float) -> Generator[Any, None, None]:
    """What `steps` gives, from a thread of its own, in which it may hang: in a look-up, or on a line gone dead.

    Raises Stopped, and Silent where the first does not come in time. The thread is left behind then; it
    ends with the client's own deadlines, holds no lock and writes nothing.
    """
    given: queue.Queue[tuple[Any, BaseException | None, bool]] = queue.Queue(_AHEAD)
    is_gone = threading.Event()

    def give(step: Any, error: BaseException | None = None, *, is_last: bool = True) -> None:
        while not is_gone.is_set():
            with suppress(queue.Full):
                given.put((step, error, is_last), timeout=_LOOK_S)
                return

    def run() -> None:
        with closing(steps):
            try:
                for step in steps:
                    give(step, is_last=False)
                    if is_gone.is_set():
                        return
            except BaseException as error:
                give(None, error)
            else:
                give(None)

    threading.Thread(target=run, name="bchat asks the hub", daemon=True).start()
    until = time.monotonic() + first_s
    is_first = True
    try:
        while True:
            try:
                step, error, is_last = given.get(timeout=_LOOK_S)
            except queue.Empty:
                if stop.is_set():
                    raise Stopped from None
                if is_first and time.monotonic() > until:
                    raise Silent from None
                continue
            if error is not None:
                raise error
            if is_last:
                return
            is_first = False
            yield step
    finally:
        is_gone.set()


def _exchange(hub: Hub, url: str, start: int, method: str, connect_s: float) -> Generator[Any, None, None]:
    """None when the name is looked up, then the response, then its body. May hang; for `_apart`."""
    _resolve(url)
    yield None
    with _send(hub, url, start, method, connect_s) as response:
        yield response
        yield from response.iter_bytes()


def _resolve(url: str) -> None:
    """Look up who is to be connected to, the proxy if there is one. What is wrong with the name the client says.

    It looks it up again, but has no deadline for that: the system may take minutes to say that there is no network.
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


@contextmanager
def _send(hub: Hub, url: str, start: int, method: str, connect_s: float) -> Iterator[Any]:
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # its `utils` mark no exports

    # Compressed, the bytes would not be those that the digest is of, nor countable.
    headers = {**hub.headers, "accept-encoding": "identity"}
    if _origin(url) != _origin(hub.endpoint):
        headers.pop("authorization", None)
    if start:
        headers["range"] = f"bytes={start}-"
    timeout = (connect_s, TIMEOUTS.read, TIMEOUTS.read, TIMEOUTS.read)
    with get_session().stream(method, url, headers=headers, timeout=timeout, follow_redirects=False) as response:
        yield response


def _refusal(hub: Hub, response: Any, *, is_own: bool) -> Broken | BchatError:
    status, code = response.status_code, response.headers.get("x-error-code", "")
    if status == 429:
        wait_s = _wait_wanted(response)
        return Broken(hub.error("hub.busy", seconds=f"{max(wait_s, 1):.0f}"), wait_s=wait_s)
    refused = hub.error("hub.status", code=status)
    # A CDN refuses when the URL that the hub signed has expired; the hub then signs another.
    if status in _AGAIN or not is_own:
        return Broken(refused, wait_s=_wait_wanted(response))
    if code == "GatedRepo":
        return hub.error("hub.gated")
    if code == "RevisionNotFound":
        return hub.error("hub.revision")
    if status == 403:
        return hub.error("hub.forbidden")
    if code != "EntryNotFound" and status in (401, 404):
        return hub.error("hub.unknown")
    return refused


def _wait_wanted(response: Any) -> float:
    """Seconds that the answer asks to wait (Retry-After: seconds or a date, RFC 9110 §10.2.3), 0 if it does not."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _is_of_client(error: Exception) -> bool:
    from huggingface_hub import errors

    # The base of HfHubHTTPError is the HTTP client's own error; which client that is differs by version.
    return isinstance(error, errors.HfHubHTTPError.__mro__[1])


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an HTTP URL; None for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)
