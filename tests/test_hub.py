"""Models from a hub that the test itself serves on loopback: complete, refused, cut off, not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bilingual_chat import hub, paths
from bilingual_chat.catalogue import ModelEntry, locate
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.hub import Progress

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ENTRY = ModelEntry("tiny", hub_id="someone/tiny")
FILES = {
    "config.json": b"{}",
    "spiece.model": b"pieces" * 100,
    "tokenizer_config.json": b'{"a": 1}',
    "model.safetensors": os.urandom(300_000),
    "pytorch_model.bin": b"not wanted" * 50_000,
    "README.md": b"# not wanted",
}


@dataclass
class Hub:
    """What the server serves, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    status: dict[str, int] = field(default_factory=dict)  # an answer other than 200, by last part of the path
    cut_after: dict[str, int] = field(default_factory=dict)  # bytes of a file, then the line goes dead
    asked: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
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
        if name in self.hub.status:
            self.answer(self.hub.status[name], b"<html>\x1b[31mno\nway</html>")
        elif path == "/api/models/someone/tiny/revision/main":
            siblings = [{"rfilename": n, "size": len(data)} for n, data in self.hub.files.items()]
            self.answer(200, json.dumps({"id": ENTRY.hub_id, "sha": COMMIT, "siblings": siblings}).encode())
        elif path == f"/someone/tiny/resolve/{COMMIT}/{name}" and name in self.hub.files:
            self.send_file(name)
        else:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def send_file(self, name: str) -> None:
        data = self.hub.files[name]
        etag = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.answer(206 if start else 200, data[start:], headers, cut=self.hub.cut_after.get(name))

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Hub]:
    """A hub on loopback, and a machine that believes it is the hub."""
    import huggingface_hub.constants
    import huggingface_hub.file_download

    it = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": it}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    it.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", it.url)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    # Read at import, which may have been under conftest's environment.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
    yield it
    server.shutdown()
    server.server_close()
    thread.join()


def incomplete() -> list[Path]:
    return [path for path in paths.hub_cache().rglob("*") if "incomplete" in path.name or path.name.endswith(".new")]


def refused(entry: ModelEntry = ENTRY) -> BchatError:
    """The error of a download that fails: one line, for a person, in both languages."""
    with pytest.raises(BchatError) as caught:
        hub.download(entry, lambda progress: None)
    error = caught.value
    assert error.status is ExitStatus.MODEL
    assert "\n" not in error.sentence("en") + error.sentence("ja")
    assert "\x1b" not in str(error)
    assert incomplete() == []
    assert locate(entry) is None
    return error


def test_a_model_is_fetched_into_the_standard_cache_with_what_it_needs_only(served: Hub) -> None:
    steps: list[Progress] = []
    directory = hub.download(ENTRY, steps.append)
    assert directory == paths.hub_cache() / "models--someone--tiny/snapshots" / COMMIT == locate(ENTRY)
    wanted = ("config.json", "spiece.model", "tokenizer_config.json", "model.safetensors")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {name: FILES[name] for name in wanted}
    size = sum(len(FILES[name]) for name in wanted)
    assert steps[-1] == Progress("model.safetensors", 300_000, 300_000, size, size)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert all(step.size == size and step.file_done <= step.file_size for step in steps)
    assert incomplete() == []


def test_huggingface_hub_finds_what_was_fetched(served: Hub, home: Path) -> None:
    """The cache is shared: another program opens the model by its name, without the network."""
    from huggingface_hub import try_to_load_from_cache

    hub.download(ENTRY, lambda progress: None)
    found = try_to_load_from_cache(ENTRY.hub_id, "spiece.model", cache_dir=paths.hub_cache())
    assert isinstance(found, str)
    assert Path(found).read_bytes() == FILES["spiece.model"]


def test_a_model_that_is_here_is_opened_without_asking_anyone(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = hub.download(ENTRY, lambda progress: None)
    asked = len(served.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.download(ENTRY, lambda progress: None) == directory
    assert len(served.asked) == asked


def test_pickled_weights_are_fetched_where_there_are_no_others(served: Hub) -> None:
    del served.files["model.safetensors"]
    assert (hub.download(ENTRY, lambda progress: None) / "pytorch_model.bin").is_file()


def test_every_shard_that_the_index_stands_for_is_fetched(served: Hub) -> None:
    del served.files["model.safetensors"]
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    served.files["model.safetensors.index.json"] = json.dumps(index).encode()
    served.files |= {name: name.encode() for name in shards}
    directory = hub.download(ENTRY, lambda progress: None)
    assert {*shards, "model.safetensors.index.json"} <= {path.name for path in directory.iterdir()}


def test_a_token_from_the_environment_is_sent(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.download(ENTRY, lambda progress: None)
    assert set(served.tokens) == {"Bearer hf_secret"}


def test_an_unknown_repository_is_named(served: Hub) -> None:
    error = refused(ModelEntry("other", hub_id="someone/other"))
    assert error.key == "hub.unknown"
    assert "someone/other" in str(error)


def test_an_impossible_repository_name_is_refused(served: Hub) -> None:
    assert refused(ModelEntry("x", hub_id="../../etc")).key == "hub.unknown"


@pytest.mark.parametrize(("status", "key"), [(404, "hub.unknown"), (401, "hub.unknown"), (400, "hub.status")])
def test_an_http_error_is_one_sentence_whatever_its_body_says(served: Hub, status: int, key: str) -> None:
    served.status["main"] = status
    assert refused().key == key


def test_an_error_after_some_files_keeps_those(served: Hub) -> None:
    served.status["model.safetensors"] = 500
    assert refused().key == "hub.status"
    assert (paths.hub_cache() / "models--someone--tiny/snapshots" / COMMIT / "spiece.model").is_file()


def test_a_broken_connection_keeps_whole_files_and_no_half_one(served: Hub) -> None:
    """The line goes dead at the same byte every time; afterwards only what is missing is asked for."""
    served.cut_after["model.safetensors"] = 0
    assert refused().key == "hub.cut"
    served.cut_after.clear()
    served.asked.clear()
    hub.download(ENTRY, lambda progress: None)
    assert [line.rpartition("/")[2] for line in served.asked if line.startswith("GET /someone")] == [
        "model.safetensors"
    ]


def test_a_connection_that_breaks_now_and_then_is_taken_up_again(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer ends after 100 000 bytes; the download goes on from there."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)
    served.cut_after["model.safetensors"] = 100_000
    directory = hub.download(ENTRY, lambda progress: None)
    assert (directory / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_ctrl_c_leaves_no_half_file_and_no_model(served: Hub) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.file == "model.safetensors":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.download(ENTRY, interrupt)
    assert incomplete() == []
    assert locate(ENTRY) is None
    assert (paths.hub_cache() / "models--someone--tiny/snapshots" / COMMIT / "spiece.model").is_file()


def test_without_a_network_the_endpoint_is_named(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    error = refused()
    assert error.key == "hub.no-network"
    assert f"127.0.0.1:{port}" in str(error)


def test_offline_means_offline(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused().key == "hub.offline"
    assert served.asked == []


def test_too_small_a_disk_is_seen_before_the_first_byte(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage._replace(free=65_000_000))
    error = refused()
    assert error.key == "hub.no-space"
    assert not any(line.startswith("GET /someone") for line in served.asked)


def test_a_disk_that_fills_up_is_one_sentence(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.file_download

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", full)
    assert refused().key == "hub.disk-full"


def test_a_cache_that_cannot_be_written_is_one_sentence(served: Hub) -> None:
    """Where the cache should be lies a file (that stops even root)."""
    paths.hub_cache().parent.mkdir(parents=True)
    paths.hub_cache().write_text("")
    assert refused().key == "hub.not-written"


@pytest.mark.parametrize("missing", ["config.json", "spiece.model", "model.safetensors"])
def test_a_repository_without_a_model_is_refused_before_anything_is_fetched(served: Hub, missing: str) -> None:
    del served.files[missing]
    served.files.pop("pytorch_model.bin")
    error = refused()
    assert error.key == "hub.not-a-model"
    assert missing in str(error)
    assert not any(line.startswith("GET /someone") for line in served.asked)


def test_a_page_that_is_no_hub_is_one_sentence(served: Hub) -> None:
    """The login page of a hotel answers everything with 200."""
    served.status["main"] = 200
    assert refused().key == "hub.failed"


def test_the_embedded_model_cannot_be_fetched(served: Hub) -> None:
    assert refused(ModelEntry("local", directory="/nowhere")).key == "hub.nothing-to-fetch"


def test_asking_whether_a_model_is_here_imports_no_hub() -> None:
    script = "import sys, bilingual_chat.hub; print('huggingface_hub' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"
