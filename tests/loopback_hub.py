"""A hub on loopback, with a switch for each failure of real ones."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from bilingual_chat.hub import download
from bilingual_chat.hub.http import Timeouts
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.storage import paths

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny"
WEIGHTS = "model.safetensors"
FILES = {
    "config.json": b"{}",
    "spiece.model": b"pieces" * 100,
    "tokenizer_config.json": b'{"a": 1}',
    WEIGHTS: random.Random(0).randbytes(300_000),
    "pytorch_model.bin": random.Random(1).randbytes(250_000),
    "README.md": b"# not wanted",
}
WANTED = ("config.json", "spiece.model", "tokenizer_config.json", WEIGHTS)
ENTRY = ModelEntry("tiny", hub_id=REPO)
SIZE = sum(len(FILES[name]) for name in WANTED)
HASTY = Timeouts(attempts=3, first_pause=0.001, max_pause=0.01, max_wait=1.0, read=2.0, window=0.2, stall=10)
BIN = "pytorch_model.bin"
MD5 = hashlib.md5(FILES[BIN]).hexdigest()


@dataclass
class Hub:
    """The files of the server, and its requests. Names are the last parts of paths."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    commit: str = COMMIT
    status: dict[str, int] = field(default_factory=dict)  # an answer other than 200
    times: dict[str, int] = field(default_factory=dict)  # how often that, or a cut, is given; for ever if not here
    headers: dict[str, str] = field(default_factory=dict)  # beside such an answer
    cut_after: dict[str, int] = field(default_factory=dict)  # bytes of an answer, then the line goes dead
    hold_after: dict[str, int] = field(default_factory=dict)  # bytes of an answer, then it waits for `go_on`
    drips: set[str] = field(default_factory=set)  # these come byte by byte
    corrupt: set[str] = field(default_factory=set)  # these come with one byte flipped
    states_nothing: bool = False  # the list has no sizes and no digests
    ignores_range: bool = False
    shifts_range: int = 0  # bytes before the one that was asked for, where answers begin
    tells_length: bool = True  # else the end of an answer is where the line ends
    encodings: set[str | None] = field(default_factory=set)  # that were asked for
    cdn: str = ""  # where the content really is: the hub redirects there
    asked: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    served: Counter[str] = field(default_factory=Counter)  # bytes of content
    begun: list[tuple[str, int]] = field(default_factory=list)  # contents, and from which byte
    go_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def contents_asked(self) -> list[str]:
        return [line.rpartition("/")[2] for line in self.asked if line.startswith("GET /someone")]


def digest_of(name: str, data: bytes) -> str:
    """Like the hub: SHA-256 for files in LFS, git's SHA-1 for small text."""
    if name.endswith((".safetensors", ".bin", ".model")):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Answerer(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        name = path.rpartition("/")[2]
        self.hub.asked.append(f"{self.command} {path}")
        self.hub.tokens.append(self.headers.get("Authorization"))
        self.hub.encodings.add(self.headers.get("Accept-Encoding"))
        if name in self.hub.status and self.hub.times.get(name, 1) > 0:
            if name in self.hub.times:
                self.hub.times[name] -= 1
            self.answer(self.hub.status[name], b"<html>\x1b[31mno\nway</html>", self.hub.headers)
        elif path == f"/api/models/{REPO}/revision/main":
            siblings = [self.describe(name) for name in self.hub.files]
            self.answer(200, json.dumps({"id": REPO, "sha": self.hub.commit, "siblings": siblings}).encode())
        elif path == f"/{REPO}/resolve/{self.hub.commit}/{name}" and name in self.hub.files:
            self.send_file(name)
        else:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def describe(self, name: str) -> dict[str, object]:
        data = self.hub.files[name]
        if self.hub.states_nothing:
            return {"rfilename": name}
        digest = digest_of(name, data)
        lfs = {"lfs": {"sha256": digest, "size": len(data), "pointerSize": 134}} if len(digest) == 64 else {}
        return {"rfilename": name, "size": len(data), "blobId": digest[:40], **lfs}

    def send_file(self, name: str) -> None:
        data = self.hub.files[name]
        headers = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{digest_of(name, data)}"'}
        if self.hub.cdn:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data)), "ETag": '"x"'}
            self.answer(302, b"", {**headers, "Location": f"{self.hub.cdn}{self.path}"})
            return
        if name in self.hub.corrupt:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        wanted = self.headers.get("Range")
        start = int(wanted[len("bytes=") :].split("-")[0]) if wanted and not self.hub.ignores_range else 0
        self.hub.begun.append((name, start))
        start = max(start - self.hub.shifts_range, 0)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.answer(206 if start else 200, data[start:], headers, name=name)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, name: str = "") -> None:
        self.send_response(status)
        length = {"Content-Length": str(len(body))} if self.hub.tells_length else {}
        for key, value in {**(headers or {}), **length}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(body)
        if name in self.hub.cut_after and self.hub.times.get(name, 1) > 0:
            end = self.hub.cut_after[name]
            if name in self.hub.times:
                self.hub.times[name] -= 1
        held = min(self.hub.hold_after.get(name, end), end)
        try:
            if name in self.hub.drips:
                for place in range(len(body)):
                    self.wfile.write(body[place : place + 1])
                    time.sleep(0.02)
            self.hub.served[name] += len(body[:held])
            self.wfile.write(body[:held])
            if held < end:
                self.wfile.flush()
                self.hub.go_on.wait(20)
                self.hub.served[name] += len(body[held:end])
                self.wfile.write(body[held:end])
        except OSError:  # whoever asked has gone
            pass


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Answerer,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def pull(entry: ModelEntry = ENTRY) -> Path:
    return download.download(entry, lambda progress: None)


def folder() -> Path:
    return paths.hub_cache() / "models--someone--tiny"


def partial(name: str = WEIGHTS) -> Path:
    return folder() / "blobs" / f"{digest_of(name, FILES[name])}.incomplete"


def put_directory(path: Path, *names: str) -> ModelEntry:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(FILES[name])
    return ModelEntry("own", directory=str(path))
