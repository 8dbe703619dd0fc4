"""Downloads from a hub on loopback: complete, refused, interrupted, missing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import pytest

from bilingual_chat.hub import download, http, pool
from bilingual_chat.hub.download import Progress
from bilingual_chat.hub.http import Timeouts
from bilingual_chat.hub.listing import fetch_listing
from bilingual_chat.hub.pool import Cancelled, FileProgress
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry, locate
from bilingual_chat.storage import lock, paths
from tests.loopback_hub import (
    COMMIT,
    ENTRY,
    FILES,
    HASTY,
    REPO,
    SIZE,
    WANTED,
    WEIGHTS,
    Hub,
    digest_of,
    folder,
    partial,
    pull,
    serve,
)
from tests.runs import posix


def leftovers() -> list[str]:
    """Everything in the cache except whole blobs, links to them and refs."""
    there = (path for path in paths.hub_cache().rglob("*") if path.is_file() or path.is_symlink())
    files = [path for path in there if path.parent.parent.name != ".locks"]  # kept, as huggingface_hub does
    whole = {digest_of(name, data) for name, data in FILES.items()}
    return [path.name for path in files if path.name not in {*whole, *FILES, "main"} or not path.exists()]


def lacking() -> list[str]:
    """The files still to download. (Those beside a failed one may have arrived or not.)"""
    return sorted(name for name in WANTED if not (folder() / "blobs" / digest_of(name, FILES[name])).is_file())


def refused(entry: ModelEntry = ENTRY, *, failed: str = WEIGHTS, keeps: tuple[str, ...] = ()) -> BchatError:
    """The error of a failed download: one line, in both languages; `keeps`: the partial file stays."""
    with pytest.raises(BchatError) as caught:
        pull(entry)
    error = caught.value
    assert error.status is ExitStatus.MODEL
    assert "\n" not in error.sentence("en") + error.sentence("ja")
    assert "\x1b" not in str(error)
    halves = set(leftovers())
    assert {partial(name).name for name in keeps} <= halves
    # What failed leaves nothing; a file beside it may be half here.
    assert halves <= {partial(name).name for name in WANTED if name != failed or name in keeps}
    assert locate(entry) is None
    return error


def test_a_model_is_fetched_into_the_standard_cache_with_what_it_needs_only(served: Hub) -> None:
    steps: list[Progress] = []
    directory = download.download(ENTRY, steps.append)
    assert directory == folder() / "snapshots" / COMMIT == locate(ENTRY)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {name: FILES[name] for name in WANTED}
    assert all(path.is_symlink() and not path.readlink().is_absolute() for path in directory.iterdir())
    assert {step.file for step in steps} == set(WANTED)
    assert steps[-1].done == steps[-1].size == SIZE
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert all(step.size == SIZE and step.file_done <= step.file_size for step in steps)
    assert leftovers() == []
    assert not any("HEAD" in line for line in served.asked)
    assert served.encodings == {"identity"}


def test_huggingface_hub_finds_what_was_fetched(served: Hub, home: Path) -> None:
    """The cache is shared: another program opens the model by its name, without the network."""
    from huggingface_hub import try_to_load_from_cache

    pull()
    found = try_to_load_from_cache(ENTRY.hub_id, "spiece.model", cache_dir=paths.hub_cache())
    assert isinstance(found, str)
    assert Path(found).read_bytes() == FILES["spiece.model"]


def test_a_model_that_is_here_is_opened_without_asking_anyone(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = pull()
    served.asked.clear()
    assert pull() == directory
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert pull() == directory
    assert served.asked == []


def test_what_another_program_has_fetched_is_not_fetched_again(served: Hub) -> None:
    """huggingface_hub has two of the files already; they are verified and kept."""
    from huggingface_hub import hf_hub_download

    for name in ("spiece.model", WEIGHTS):
        hf_hub_download(REPO, name, revision=COMMIT, cache_dir=paths.hub_cache(), endpoint=served.url)
    served.asked.clear()
    pull()
    assert sorted(served.contents_asked()) == ["config.json", "tokenizer_config.json"]


def test_pickled_weights_are_fetched_where_there_are_no_others(served: Hub) -> None:
    del served.files[WEIGHTS]
    assert (pull() / "pytorch_model.bin").is_file()


def test_every_shard_that_the_index_stands_for_is_fetched(served: Hub) -> None:
    """Two of the shards have the same content: one blob with two names."""
    del served.files[WEIGHTS]
    shards = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    index = {"weight_map": dict(zip("abc", shards, strict=True))}
    served.files["model.safetensors.index.json"] = json.dumps(index).encode()
    served.files |= dict(zip(shards, (b"one", b"two", b"two"), strict=True))
    directory = pull()
    assert [(directory / name).read_bytes() for name in shards] == [b"one", b"two", b"two"]
    assert sum(name in shards for name in served.contents_asked()) == 2


def test_a_model_of_another_family_comes_with_its_tokenizer_and_template(served: Hub) -> None:
    """Its tokenizer.json replaces spiece.model."""
    del served.files["spiece.model"]
    others = ("tokenizer.json", "chat_template.jinja", "generation_config.json")
    served.files |= {name: name.encode() for name in others}
    names = {path.name for path in pull().iterdir()}
    assert names == {*others, "config.json", "tokenizer_config.json", WEIGHTS}


def test_files_come_side_by_side(served: Hub) -> None:
    """The small files are complete, and reported, while the large one still waits."""
    served.hold_after[WEIGHTS] = 100_000
    steps: list[Progress] = []

    def look(progress: Progress) -> None:
        steps.append(progress)
        if {step.file for step in steps} == set(WANTED):
            served.go_on.set()

    download.download(ENTRY, look)
    first = next(step for step in steps if step.file == "spiece.model")
    assert first.done < first.size


def test_rate_and_time_left_count_what_came_over_the_network_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 of 1000 bytes were here; then 100 come in two seconds, and 200 in the last ten of a minute."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    meter, steps = FileProgress("a", 1000), list[Progress]()
    reporter = download._Reporter([meter], steps.append)
    for now, done, fetched in ((1.0, 600, 0), (2.0, 700, 100), (52.0, 700, 100), (62.0, 900, 300)):
        clock[0], meter.done, meter.fetched = now, done, fetched
        reporter.report()
    assert [(step.done, step.rate, step.seconds_left) for step in steps] == [
        (600, 0.0, None),
        (700, 50.0, 6.0),
        (900, 20.0, 5.0),
    ]


def test_the_size_is_known_before_anything_is_downloaded(served: Hub) -> None:
    partial().parent.mkdir(parents=True)
    partial().write_bytes(FILES[WEIGHTS][:100_000])

    def stop(size: download.Size) -> None:
        assert size == download.Size(SIZE, SIZE - 100_000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.download(ENTRY, lambda progress: None, on_start=stop)
    assert served.contents_asked() == []


# -- interrupted -------------------------------------------------------------------------------------------

PULL = """
import sys
from bilingual_chat.hub import download
from bilingual_chat.settings.catalogue import ModelEntry
download.download(ModelEntry("tiny", hub_id="someone/tiny"), lambda progress: None)
"""


def start_pull() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PULL], stderr=subprocess.PIPE)


def wait_for(size: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while not (partial().is_file() and partial().stat().st_size == size):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_killed_download_resumes(served: Hub) -> None:
    """SIGKILL at 30 %; then only the rest is served, and no partial file is left."""
    served.hold_after[WEIGHTS] = 90_000
    process = start_pull()
    wait_for(90_000, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    served.hold_after.clear()
    assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert [start for name, start in served.begun if name == WEIGHTS] == [0, 90_000]
    assert served.served[WEIGHTS] == 300_000
    assert leftovers() == []


def test_without_locks_two_downloads_do_not_write_one_file(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may be writing the partial file; a file system without locks cannot tell."""

    def unsupported(fd: int, *, shared: bool) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock, "_lock", unsupported)
    partial().parent.mkdir(parents=True)
    partial().write_bytes(b"theirs")
    assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert served.served[WEIGHTS] == 300_000


@pytest.mark.slow
def test_two_processes_at_once_fetch_each_file_once(served: Hub) -> None:
    served.hold_after[WEIGHTS] = 100_000
    process = start_pull()
    wait_for(100_000, process)
    steps: list[Progress] = []

    def look(progress: Progress) -> None:
        steps.append(progress)
        if progress.file == WEIGHTS:
            served.go_on.set()

    directory = download.download(ENTRY, look)
    assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert next(step for step in steps if step.file == WEIGHTS).file_done == 100_000
    assert served.served[WEIGHTS] == 300_000
    assert (directory / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert leftovers() == []


def test_ctrl_c_leaves_what_has_come_and_no_model(served: Hub) -> None:
    """An exception of the listener ends the download, although a thread is waiting for bytes."""
    served.hold_after[WEIGHTS] = 100_000

    def interrupt(progress: Progress) -> None:
        if progress.file == WEIGHTS and progress.file_done == 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.download(ENTRY, interrupt)
    assert leftovers() == [partial().name]
    assert locate(ENTRY) is None
    served.hold_after.clear()
    served.go_on.set()
    pull()
    assert (WEIGHTS, 100_000) in served.begun


def test_a_broken_connection_keeps_what_came_and_gives_up_in_the_end(served: Hub) -> None:
    """The connection dies at once, every time; afterwards only missing bytes are requested."""
    served.cut_after[WEIGHTS] = 0
    assert refused().key == "hub.cut"
    assert served.contents_asked().count(WEIGHTS) == HASTY.attempts
    served.cut_after.clear()
    served.asked.clear()
    missing = lacking()
    pull()
    assert sorted(served.contents_asked()) == missing


def test_a_connection_that_breaks_now_and_then_is_taken_up_again(served: Hub) -> None:
    """Each response ends after 30 000 bytes, more often than fruitless attempts are allowed; each byte comes once."""
    served.cut_after[WEIGHTS] = 30_000
    assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert served.served[WEIGHTS] == 300_000


def test_a_list_that_breaks_off_is_asked_for_again(served: Hub) -> None:
    served.status["main"], served.times["main"] = 503, 2
    pull()


def test_a_server_that_knows_no_ranges_is_listened_to_from_the_beginning(served: Hub) -> None:
    served.ignores_range = True
    partial().parent.mkdir(parents=True)
    partial().write_bytes(b"x" * 100_000)
    assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert served.served[WEIGHTS] == 300_000


@pytest.mark.parametrize("left", [b"x" * 100_000, b"x" * 300_000, b"x" * 300_001], ids=len)
def test_wrong_bytes_of_an_earlier_run_are_thrown_away(served: Hub, left: bytes) -> None:
    partial().parent.mkdir(parents=True)
    partial().write_bytes(left)
    assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert leftovers() == []


def test_half_files_that_others_left_are_swept_up(served: Hub) -> None:
    """Of an earlier commit; of a killed huggingface_hub. Not one that may still be written."""
    blobs = partial().parent
    blobs.mkdir(parents=True)
    names = ["a" * 64 + ".incomplete", partial().stem + ".1234abcd.incomplete"]
    new = blobs / ("b" * 64 + ".1234abcd.incomplete")
    for name in names:
        (blobs / name).write_bytes(b"half")
        os.utime(blobs / name, (0, 0))
    new.write_bytes(b"half")
    pull()
    assert leftovers() == [new.name]


# -- not what it should be -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_file_of_the_right_size_with_a_wrong_byte_is_deleted_and_reported(served: Hub, name: str) -> None:
    served.corrupt.add(name)
    error = refused(failed=name)
    assert error.key == "hub.wrong-digest"
    assert name in str(error)
    served.corrupt.clear()
    pull()


def test_of_a_file_longer_than_stated_no_more_is_kept_than_stated(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list and the responses differ in content: the disk must not be filled."""

    class Growing(dict[str, bytes]):
        def __getitem__(self, name: str) -> bytes:
            has_begun = any("/resolve/" in line for line in served.asked)
            return super().__getitem__(name) * (5 if has_begun and name == WEIGHTS else 1)

    real, sizes = os.write, []

    def write(fd: int, data: bytes) -> int:
        written = real(fd, data)
        sizes.append(os.fstat(fd).st_size)
        return written

    monkeypatch.setattr(os, "write", write)
    served.files = Growing(served.files)
    assert refused().key == "hub.wrong-digest"
    assert max(sizes) <= 300_000


@pytest.mark.parametrize("times", [1, 100])
def test_a_response_for_another_range_is_refused(served: Hub, times: int) -> None:
    """The connection is cut; the server then resumes somewhat earlier. Repeated, that is no progress."""
    served.cut_after[WEIGHTS], served.times[WEIGHTS], served.shifts_range = 150_000, times, 1000
    if times == 1:
        assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]
        assert [start for name, start in served.begun if name == WEIGHTS] == [0, 150_000, 0]
    else:
        assert refused(keeps=(WEIGHTS,)).key == "hub.cut"


def test_a_line_that_ends_without_a_word_is_a_cut(served: Hub) -> None:
    """Without Content-Length, the HTTP client takes the end of the connection for the end of the file."""
    served.tells_length = False
    served.cut_after[WEIGHTS], served.times[WEIGHTS] = 150_000, 1
    assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert served.served[WEIGHTS] == 300_000


def test_a_damaged_blob_is_fetched_again(served: Hub) -> None:
    """Another program left it there; its size is right. It is deleted first, because it may fill the disk."""
    right = folder() / "blobs" / digest_of(WEIGHTS, FILES[WEIGHTS])
    right.parent.mkdir(parents=True)
    right.write_bytes(b"x" * 300_000)
    served.status[WEIGHTS] = 500
    assert refused().key == "hub.status"
    assert not right.exists()
    served.status.clear()
    assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_digests_that_the_list_lacks_are_asked_for_file_by_file(served: Hub) -> None:
    served.states_nothing = True
    assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert (folder() / "blobs" / digest_of("config.json", b"{}")).is_file()


def test_without_a_digest_nothing_is_fetched(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.states_nothing = True
    monkeypatch.setattr("tests.loopback_hub.digest_of", lambda name, data: "v1")
    assert refused().key == "hub.no-digest"
    assert served.contents_asked() == []


def md5(name: str) -> str:
    return hashlib.md5(FILES[name]).hexdigest()


def pickled(**more: object) -> ModelEntry:
    return ModelEntry("tiny", hub_id=REPO, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [True, False])
def test_weights_are_compared_with_the_md5_of_the_card(served: Hub, known: bool) -> None:
    del served.files[WEIGHTS]
    entry = pickled(weights_md5={"pytorch_model.bin": md5("pytorch_model.bin").upper() if known else "0" * 32})
    if known:
        pull(entry)
    else:
        assert refused(entry).key == "hub.other-weights"


def test_withdrawn_weights_are_refused_unless_they_are_accepted(served: Hub) -> None:
    del served.files[WEIGHTS]
    entry = pickled(withdrawn_md5=(md5("pytorch_model.bin"),), weights_md5={"pytorch_model.bin": "0" * 32})
    assert refused(entry).key == "hub.withdrawn"
    download.download(entry, lambda progress: None, accept_withdrawn=True)


# -- where others may write


@posix
@pytest.mark.parametrize("kind", ["symlink_to", "hardlink_to"])
def test_a_download_is_not_written_through_a_link(served: Hub, tmp_path: Path, kind: str) -> None:
    """Nor is a lock: opening a file as a lock truncates it."""
    other = tmp_path / "precious"
    other.write_text("precious")
    partial().parent.mkdir(parents=True)
    getattr(partial(), kind)(other)
    guard = paths.hub_cache() / ".locks" / folder().name / f"{partial().stem}.lock"
    guard.parent.mkdir(parents=True)
    getattr(guard, kind)(other)
    directory = pull()
    assert other.read_text() == "precious"
    assert (directory / WEIGHTS).read_bytes() == FILES[WEIGHTS]


@posix
def test_the_name_of_a_commit_replaces_a_link(served: Hub, tmp_path: Path) -> None:
    other, ref = tmp_path / "precious", folder() / "refs" / "main"
    other.write_text("precious")
    ref.parent.mkdir(parents=True)
    ref.symlink_to(other)
    pull()
    assert (other.read_text(), ref.read_text(), ref.is_symlink()) == ("precious", COMMIT, False)


# -- the token -----------------------------------------------------------------------------------------------


def test_a_token_from_the_environment_is_sent(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull()
    assert set(served.tokens) == {"Bearer hf_secret"}


def test_a_cdn_is_followed_and_does_not_get_the_token(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same host at another port is another server. A cut download is resumed through the hub."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    served.states_nothing = True
    with serve(Hub(cut_after={WEIGHTS: 100_000})) as cdn:
        served.cdn = cdn.url
        assert (pull() / WEIGHTS).read_bytes() == FILES[WEIGHTS]
        assert set(cdn.tokens) == {None}
        assert cdn.served[WEIGHTS] == 300_000
    assert set(served.tokens) == {"Bearer hf_secret"}


def test_a_cdn_that_refuses_is_asked_again_by_way_of_the_hub(served: Hub) -> None:
    """Signed URLs expire."""
    with serve(Hub(status={WEIGHTS: 403}, times={WEIGHTS: 2})) as cdn:
        served.cdn = cdn.url
        pull()
    assert served.contents_asked().count(WEIGHTS) == 3


def test_a_hub_that_redirects_for_ever_is_left(served: Hub) -> None:
    served.cdn = served.url
    assert refused().key == "hub.status"


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_no_message_holds_the_token(served: Hub, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    served.status["main"] = status
    error = refused()
    assert "hf_secret" not in error.sentence("en") + error.sentence("ja") + repr(error.values)
    cause: BaseException | None = error
    while cause is not None:
        assert "hf_secret" not in repr(cause)
        cause = cause.__cause__


def test_a_token_that_cannot_be_one_is_not_quoted(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sec\x01ret")
    error = refused()
    assert error.key == "hub.token"
    assert "hf_sec" not in str(error)
    assert served.asked == []


def test_a_password_in_the_endpoint_is_not_shown(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.status["main"] = 404
    monkeypatch.setenv("HF_ENDPOINT", served.url.replace("//", "//me:hush@"))
    error = refused()
    assert "hush" not in str(error)
    assert served.url in str(error)


# -- refused -------------------------------------------------------------------------------------------------


def test_an_unknown_repository_is_named(served: Hub) -> None:
    error = refused(ModelEntry("other", hub_id="someone/other"))
    assert error.key == "hub.unknown"
    assert "someone/other" in str(error)


def test_an_impossible_repository_name_is_refused(served: Hub) -> None:
    assert refused(ModelEntry("x", hub_id="../../etc")).key == "hub.unknown"
    assert served.asked == []


@pytest.mark.parametrize(
    ("status", "code", "key"),
    [
        (404, "", "hub.unknown"),
        (404, "RevisionNotFound", "hub.revision"),
        (401, "", "hub.unknown"),
        (401, "GatedRepo", "hub.gated"),
        (403, "GatedRepo", "hub.gated"),
        (403, "", "hub.forbidden"),
        (400, "", "hub.status"),
        (500, "", "hub.status"),
        (429, "", "hub.busy"),
    ],
)
def test_an_http_error_is_one_sentence_for_any_body(served: Hub, status: int, code: str, key: str) -> None:
    served.status["main"], served.headers = status, {"X-Error-Code": code}
    assert refused().key == key
    assert len(served.asked) == (HASTY.attempts if status in (429, 500) else 1)
    assert not paths.hub_cache().exists()


def test_an_error_after_some_files_keeps_those(served: Hub) -> None:
    served.status[WEIGHTS] = 500
    assert refused().key == "hub.status"
    served.status.clear()
    served.asked.clear()
    missing = lacking()
    pull()
    assert sorted(served.contents_asked()) == missing


def test_a_file_that_cannot_be_had_leaves_nothing_behind(served: Hub) -> None:
    served.status |= dict.fromkeys(WANTED, 404)
    assert refused().key == "hub.unknown"
    assert not folder().exists()


class Waits(threading.Event):
    """The test does not wait: it records the pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0)
        return False


@pytest.mark.parametrize("wish", ["9", "date"])
def test_a_hub_that_asks_to_wait_is_waited_for(served: Hub, monkeypatch: pytest.MonkeyPatch, wish: str) -> None:
    monkeypatch.setattr(http, "TIMEOUTS", Timeouts(attempts=3))
    date = formatdate(time.time() + 10, usegmt=True)
    served.status["main"], served.headers = 429, {"Retry-After": date if wish == "date" else wish}
    served.times["main"] = 2
    stop = Waits()
    fetch_listing(http.find_hub(ENTRY), stop)
    assert len(stop.pauses) == 2
    assert all(8 < pause <= 10 for pause in stop.pauses)


def test_the_pauses_grow_and_end(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid Retry-After is ignored."""
    monkeypatch.setattr(http, "TIMEOUTS", Timeouts(attempts=7))
    served.status["main"], served.headers = 503, {"Retry-After": "soon"}
    stop = Waits()
    with pytest.raises(BchatError):
        fetch_listing(http.find_hub(ENTRY), stop)
    assert stop.pauses == [1, 2, 4, 8, 16, 20]


def test_a_hub_that_asks_for_hours_is_not_waited_for(served: Hub) -> None:
    served.status[WEIGHTS], served.headers = 429, {"Retry-After": "7200"}
    error = refused()
    assert error.key == "hub.busy"
    assert "7200" in str(error)
    assert served.contents_asked().count(WEIGHTS) == 1


@pytest.mark.slow
def test_a_line_that_only_drips_is_left(served: Hub) -> None:
    """It would take an hour and a half, and no read would ever time out."""
    served.drips.add(WEIGHTS)
    assert refused(keeps=(WEIGHTS,)).key == "hub.slow"


@pytest.mark.slow
def test_an_answer_that_never_begins_is_given_up(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read needs to time out: a byte of a header now and then is enough."""
    served.hold_after[WEIGHTS] = 0
    monkeypatch.setattr(http, "TIMEOUTS", Timeouts(stall=0.3))
    assert refused().key == "hub.slow"


def test_without_a_network_the_endpoint_is_named(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    error = refused()
    assert error.key == "hub.no-network"
    assert f"127.0.0.1:{port}" in str(error)


def client_error(name: str) -> Exception:
    """An error of the HTTP client, which differs by the version of huggingface_hub."""
    from huggingface_hub import errors

    base = errors.HfHubHTTPError.__mro__[1]
    kind = type(name, (base,), {"__init__": lambda self: None})
    return cast("Exception", kind())


@pytest.mark.parametrize("failure", ["ConnectError", "ConnectTimeout"])
def test_a_missing_network_is_reported_after_one_retry(
    served: Hub, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """No name is resolved, no server listens, or none answers: with the usual timeouts it took half a minute."""
    waited: list[float] = []

    def nobody(hub: object, url: str, start: int, method: str, connect_s: float) -> None:
        waited.append(connect_s)  # at most
        raise client_error(failure)

    class Impatient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            return False

    monkeypatch.setattr(http, "TIMEOUTS", Timeouts())
    monkeypatch.setattr(http, "_exchange", nobody)
    with pytest.raises(BchatError) as caught:
        fetch_listing(http.find_hub(ENTRY), Impatient())
    assert caught.value.key == "hub.no-network"
    assert sum(waited) <= 5


def test_a_hub_that_has_answered_is_waited_for_with_patience(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers 503, and later nothing: the network is not missing."""
    send, asked = http._exchange, []

    def ailing(hub: http.Hub, url: str, *how: Any) -> Any:
        asked.append(url)
        if len(asked) > 1:
            raise client_error("ConnectError")
        return send(hub, url, *how)

    served.status["main"] = 503
    monkeypatch.setattr(http, "_exchange", ailing)
    assert refused().key == "hub.no-network"
    assert len(asked) == HASTY.attempts > HASTY.first_attempts


@pytest.fixture
def no_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A resolver that never answers, as behind a firewall that drops packets; gives the requested names.

    huggingface_hub's list of agents is unset, so that building its headers would fetch it.
    """
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None, raising=False)
    asked, end = list[str](), threading.Event()

    def hang(host: str, *rest: object, **more: object) -> list[Any]:
        asked.append(host)
        end.wait(20)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield asked
    end.set()


@pytest.mark.parametrize(("total", "times"), [(5.0, 2), (0.0, 1)])
def test_a_resolver_that_hangs_is_not_waited_for(
    served: Hub, monkeypatch: pytest.MonkeyPatch, no_resolver: list[str], total: float, times: int
) -> None:
    """The system may take minutes. After a slow attempt there is no other one."""
    monkeypatch.setattr(http, "TIMEOUTS", Timeouts(first_pause=0, first_total=total, resolve=0.05))
    began = time.monotonic()
    assert refused().key == "hub.no-network"
    assert time.monotonic() - began < 2
    assert no_resolver == ["127.0.0.1"] * times
    assert Timeouts().resolve + pool._JOIN_S < 10


def test_a_token_that_has_to_be_renewed_is_not_waited_for_either(
    served: Hub, monkeypatch: pytest.MonkeyPatch, no_resolver: list[str]
) -> None:
    """huggingface_hub renews a token over the network."""
    monkeypatch.setattr("huggingface_hub.get_token", lambda: socket.getaddrinfo("login.example", 443))
    monkeypatch.setattr(http, "TIMEOUTS", Timeouts(read=0.05))
    assert refused().key == "hub.no-network"
    assert no_resolver == ["login.example"]


def test_a_token_is_not_sent_where_that_was_forbidden(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    pull()
    assert set(served.tokens) == {None}


def test_behind_a_proxy_its_name_is_the_one_to_be_found(
    served: Hub, monkeypatch: pytest.MonkeyPatch, no_resolver: list[str]
) -> None:
    """Such a machine may be unable to resolve the hub's name."""
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    monkeypatch.setenv("http_proxy", "gate.example:3128")
    monkeypatch.setattr(http, "TIMEOUTS", Timeouts(first_attempts=1, resolve=0.05))
    assert refused().key == "hub.no-network"
    assert no_resolver == ["gate.example"]


def test_a_hanging_client_can_be_cancelled(
    served: Hub, monkeypatch: pytest.MonkeyPatch, no_resolver: list[str]
) -> None:
    stop = threading.Event()
    monkeypatch.setattr(http, "_resolve", lambda url: stop.set())
    began = time.monotonic()
    with pytest.raises(Cancelled):
        fetch_listing(http.find_hub(ENTRY), stop)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://huggingface.co", "http://[x"])
def test_an_endpoint_that_is_none_is_one_sentence(served: Hub, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert refused().key == "hub.endpoint"


def test_offline_means_offline(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused().key == "hub.offline"
    assert served.asked == []


@pytest.mark.parametrize("missing", ["config.json", "spiece.model", WEIGHTS])
def test_a_repository_without_a_model_is_refused_before_anything_is_fetched(served: Hub, missing: str) -> None:
    del served.files[missing]
    served.files.pop("pytorch_model.bin")
    error = refused()
    assert error.key == "hub.not-a-model"
    assert missing in str(error)
    assert served.contents_asked() == []


@pytest.mark.parametrize("status", [200, 302])
def test_a_page_that_is_no_hub_is_one_sentence(served: Hub, status: int) -> None:
    """The login page of a hotel answers everything with 200."""
    served.status["main"], served.headers = status, {"Location": "/login"} if status == 302 else {}
    served.status["login"] = 200
    assert refused().key == "hub.no-hub"


def test_the_embedded_model_cannot_be_fetched(served: Hub) -> None:
    assert refused(ModelEntry("local", directory="/nowhere")).key == "hub.nothing-to-fetch"


# -- the disk ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", [0, 200_000])
def test_too_small_a_disk_is_seen_before_the_first_byte(
    served: Hub, monkeypatch: pytest.MonkeyPatch, here: int
) -> None:
    """Complete files need no space."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=(64 << 20) + SIZE - 100_000))
    partial().parent.mkdir(parents=True)
    if here:
        partial().write_bytes(FILES[WEIGHTS][:here])
        pull()
    else:
        assert refused().key == "hub.no-space"
        assert served.contents_asked() == []


@pytest.mark.parametrize(("number", "key"), [(errno.ENOSPC, "hub.disk-full"), (errno.EIO, "hub.not-written")])
def test_a_disk_that_fills_up_is_one_sentence(
    served: Hub, monkeypatch: pytest.MonkeyPatch, number: int, key: str
) -> None:
    """The partial file stays, and is resumed when there is space."""
    real, full = os.write, threading.Event()

    def write(fd: int, data: bytes) -> int:
        if os.fstat(fd).st_size >= 100_000 and not full.is_set():
            raise OSError(number, os.strerror(number))
        return real(fd, data[:5000])

    monkeypatch.setattr(os, "write", write)
    assert refused(keeps=(WEIGHTS,)).key == key
    size = partial().stat().st_size
    full.set()
    pull()
    assert (WEIGHTS, size) in served.begun
    assert size >= 100_000


def test_a_cache_that_cannot_be_written_is_one_sentence(served: Hub) -> None:
    """A file is at the path of the cache (that stops even root)."""
    paths.hub_cache().parent.mkdir(parents=True)
    paths.hub_cache().write_text("")
    with pytest.raises(BchatError) as caught:
        pull()
    assert caught.value.key == "hub.not-written"


def test_without_links_the_files_themselves_are_in_the_snapshot(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows without the right to make links. Each byte is kept once, unless two names need it."""

    def no_links(self: Path, target: str) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    served.files["tokenizer_config.json"] = served.files["config.json"]
    directory = pull()
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
        name: served.files[name] for name in WANTED
    }
    assert not any((folder() / "blobs").iterdir())
    (directory / "spiece.model").unlink()
    served.asked.clear()
    pull()
    assert served.contents_asked() == ["spiece.model"]


def test_asking_whether_a_model_is_here_imports_no_hub() -> None:
    script = "import sys, bilingual_chat.hub.verify, bilingual_chat.hub.remove; print('huggingface_hub' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"
