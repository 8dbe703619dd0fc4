"""Verification of a model's files, and the removal of a model."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bilingual_chat.engines.weights.withdrawn import check_withdrawn
from bilingual_chat.hub import download, file_download, http
from bilingual_chat.hub.download import Progress
from bilingual_chat.hub.remove import remove
from bilingual_chat.hub.state import State, last_report
from bilingual_chat.hub.verify import verify
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import open_model
from bilingual_chat.settings.catalogue import ModelEntry, locate, open_path, with_withdrawn_of
from bilingual_chat.storage import checksums, paths
from tests.loopback_hub import (
    BIN,
    COMMIT,
    ENTRY,
    FILES,
    MD5,
    REPO,
    SIZE,
    WANTED,
    WEIGHTS,
    Hub,
    digest_of,
    folder,
    pull,
    put_directory,
)


def put_snapshot(*names: str) -> Path:
    """A model in the hub's cache, as another program stores it."""
    directory = folder() / "snapshots" / COMMIT
    directory.mkdir(parents=True)
    for name in names:
        place = folder() / "blobs" / digest_of(name, FILES[name])
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(FILES[name])
        (directory / name).symlink_to(os.path.relpath(place, directory))
    return directory


def flip(path: Path) -> None:
    """Flip one bit of the content; move the time of the file by a second."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    real, was = path.resolve(), path.stat()
    real.write_bytes(data)
    os.utime(real, ns=(was.st_atime_ns, was.st_mtime_ns + 10**9))


@contextmanager
def no_reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the block, reading the content of a model's file fails the test."""

    def refuse(*arguments: object) -> object:
        raise AssertionError("a file was read")

    with monkeypatch.context() as patch:
        patch.setattr(checksums, "Digester", refuse)
        yield


def states(entry: ModelEntry) -> dict[str, State]:
    return {file.name: file.state for file in verify(entry).files}


def key_of(error: pytest.ExceptionInfo[BchatError]) -> str:
    assert error.value.status is ExitStatus.MODEL
    assert "\n" not in error.value.sentence("en") + error.value.sentence("ja")
    return error.value.key


def test_what_was_downloaded_is_verified_and_costs_nothing(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pull()
    with no_reading(monkeypatch):
        report = verify(ENTRY)
        assert last_report(ENTRY) == report
    assert report.state is State.GOOD
    assert {file.name: file.size for file in report.files} == {name: len(FILES[name]) for name in WANTED}


def test_what_another_program_fetched_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files of a snapshot are verified, also those that bchat does not open."""
    directory = put_snapshot(*FILES)
    before = last_report(ENTRY)
    assert before is not None
    assert before.state is State.UNKNOWN
    steps: list[Progress] = []
    report = verify(ENTRY, steps.append)
    assert (report.directory, report.state) == (directory, State.GOOD)
    assert {file.name for file in report.files} == set(FILES)
    assert steps[-1].done == steps[-1].size == sum(map(len, FILES.values()))
    with no_reading(monkeypatch):
        assert verify(ENTRY) == report == last_report(ENTRY)


def test_a_flipped_bit_is_seen_and_fetched_again(served: Hub) -> None:
    directory = pull()
    flip(directory / WEIGHTS)
    looked = last_report(ENTRY)
    assert looked is not None
    assert looked.state is State.CHANGED
    report = verify(ENTRY)
    assert [file.name for file in report.files if file.state is State.DAMAGED] == [WEIGHTS]
    assert report.state is State.DAMAGED
    assert last_report(ENTRY) == report
    served.asked.clear()
    assert pull() == directory
    assert served.contents_asked() == [WEIGHTS]
    assert verify(ENTRY).state is State.GOOD


def test_a_file_that_was_only_touched_is_still_good() -> None:
    directory = put_snapshot(*WANTED)
    verify(ENTRY)
    os.utime(directory / WEIGHTS, (1, 1))
    looked = last_report(ENTRY)
    assert looked is not None
    assert looked.state is State.CHANGED
    assert verify(ENTRY).state is State.GOOD


def test_another_inode_is_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the same size and time replaced it."""
    directory = put_snapshot(*WANTED)
    verify(ENTRY)
    real = (directory / WEIGHTS).resolve()
    other = real.with_name("other")
    other.write_bytes(b"x" * real.stat().st_size)
    os.utime(other, ns=(0, real.stat().st_mtime_ns))
    other.replace(real)
    assert states(ENTRY)[WEIGHTS] is State.DAMAGED


def test_a_link_to_nothing_is_damage() -> None:
    directory = put_snapshot(*WANTED)
    (directory / "tokenizer_config.json").resolve().unlink()
    assert states(ENTRY)["tokenizer_config.json"] is State.DAMAGED


def test_files_without_a_published_checksum_are_unknown_and_changes_are_seen(tmp_path: Path) -> None:
    entry = put_directory(tmp_path / "own", *WANTED, BIN)
    first = verify(entry)
    assert {file.name for file in first.files} == set(WANTED)
    assert first.state is State.UNKNOWN
    assert verify(entry) == first
    flip(tmp_path / "own" / WEIGHTS)
    assert states(entry)[WEIGHTS] is State.CHANGED


@pytest.mark.parametrize(("md5", "state"), [(MD5, State.GOOD), ("0" * 32, State.DAMAGED)])
def test_the_md5_of_the_card_is_compared(tmp_path: Path, md5: str, state: State) -> None:
    put_directory(tmp_path / "own", "config.json", "spiece.model", BIN)
    entry = ModelEntry("own", directory=str(tmp_path / "own"), weights_md5={BIN: md5})
    assert states(entry)[BIN] is state


def test_copies_without_links_are_verified_against_what_the_hub_stated(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(self: Path, target: str) -> None:
        raise OSError

    monkeypatch.setattr(Path, "symlink_to", no_links)
    directory = pull()
    assert verify(ENTRY).state is State.GOOD
    flip(directory / WEIGHTS)
    assert states(ENTRY)[WEIGHTS] is State.DAMAGED


def test_a_model_that_is_not_here_cannot_be_verified() -> None:
    assert last_report(ENTRY) is None
    with pytest.raises(BchatError) as error:
        verify(ENTRY)
    assert key_of(error) == "model.not-here"


# -- a directory of one's own that is also on the hub


def own(path: Path) -> ModelEntry:
    return replace(ENTRY, name="own", directory=str(path))


def test_what_is_missing_in_a_directory_of_ones_own_is_fetched_into_it(served: Hub, tmp_path: Path) -> None:
    """`directory` in the model's table is its location; the hub's cache stays empty."""
    entry = own(tmp_path / "models" / "tiny")
    assert download.download(entry, lambda progress: None) == tmp_path / "models" / "tiny"
    there = {path.name: path.read_bytes() for path in (tmp_path / "models" / "tiny").iterdir()}
    assert there == {name: FILES[name] for name in WANTED}
    assert not folder().exists()
    found = last_report(entry)
    assert found is not None
    assert found.state is State.GOOD


def test_what_is_there_is_compared_with_the_hubs_and_marked(served: Hub, tmp_path: Path) -> None:
    """Copied there by hand: a pull verifies it and downloads nothing."""
    put_directory(tmp_path / "own", *WANTED)
    entry = own(tmp_path / "own")
    before = last_report(entry)
    assert before is not None
    assert before.state is State.UNKNOWN
    download.download(entry, lambda progress: None)
    after = last_report(entry)
    assert after is not None
    assert after.state is State.GOOD
    assert states(entry) == dict.fromkeys(WANTED, State.GOOD)
    assert served.contents_asked() == []
    served.asked.clear()
    download.download(entry, lambda progress: None)
    assert served.asked == []
    flip(tmp_path / "own" / WEIGHTS)
    assert states(entry)[WEIGHTS] is State.DAMAGED


@pytest.mark.parametrize("change", [flip, lambda path: path.write_bytes(b"mine")])
def test_a_file_of_ones_own_that_differs_is_left_alone(
    served: Hub, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    """It may be the result of a week of training."""
    put_directory(tmp_path / "own", *WANTED)
    weights = tmp_path / "own" / WEIGHTS
    change(weights)
    mine = weights.read_bytes()
    with pytest.raises(BchatError) as caught:
        download.download(own(tmp_path / "own"), lambda progress: None)
    assert key_of(caught) == "hub.own-file"
    assert WEIGHTS in str(caught.value)
    assert weights.read_bytes() == mine
    assert sorted(path.name for path in weights.parent.iterdir()) == sorted(WANTED)


def test_an_interrupted_download_into_the_users_directory_resumes(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = own(tmp_path / "own")
    served.cut_after[WEIGHTS] = 100_000
    monkeypatch.setattr(http, "TIMEOUTS", replace(http.TIMEOUTS, attempts=1))
    with pytest.raises(BchatError) as caught:
        download.download(entry, lambda progress: None)
    assert key_of(caught) == "hub.cut"
    assert locate(entry) is None
    served.cut_after.clear()
    served.begun.clear()
    download.download(entry, lambda progress: None)
    assert (WEIGHTS, 100_000) in served.begun
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == sorted(WANTED)


def test_a_failed_download_into_a_directory_leaves_none_behind(served: Hub, tmp_path: Path) -> None:
    served.status["main"] = 404
    with pytest.raises(BchatError):
        download.download(own(tmp_path / "own"), lambda progress: None)
    assert not (tmp_path / "own").exists()


def test_a_whole_directory_needs_no_network(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_directory(tmp_path / "own", *WANTED)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download.download(own(tmp_path / "own"), lambda progress: None) == tmp_path / "own"
    assert served.asked == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "nonsense" * 10])
def test_a_ledger_that_is_none_costs_a_reading_only(text: str) -> None:
    put_snapshot(*WANTED)
    verify(ENTRY)
    ledger_path = paths.cache_dir() / "checked.json"
    real = next(iter(json.loads(ledger_path.read_text())))
    ledger_path.write_text(text or json.dumps({real: {"size": "x", "digests": 3}}))
    assert verify(ENTRY).state is State.GOOD


def test_a_ledger_that_cannot_be_written_is_no_error() -> None:
    paths.cache_dir().parent.mkdir(parents=True)
    paths.cache_dir().write_text("in the way")
    put_snapshot(*WANTED)
    assert verify(ENTRY).state is State.GOOD


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"one")

    def came(count: int) -> None:
        with path.open("ab") as file:
            file.write(b"two" if path.stat().st_size < 6 else b"")

    checksums.compute_digests(path, [checksums.SHA256], came)
    assert checksums.find_record(path) is None


# -- withdrawn -----------------------------------------------------------------------------------------------


def withdrawn(path: Path) -> ModelEntry:
    put_directory(path, "config.json", "spiece.model", BIN)
    return ModelEntry("own", directory=str(path), withdrawn_md5=(MD5.upper(),), weights_md5={BIN: "0" * 32})


def test_withdrawn_and_damaged_weights_are_distinguished(tmp_path: Path) -> None:
    """Whole and known, although not the catalogue's choice; with one bit flipped they are neither."""
    entry = withdrawn(tmp_path / "own")
    report = verify(entry)
    assert report.state is State.UNKNOWN
    assert report.withdrawn is not None
    assert (report.withdrawn.name, report.withdrawn.withdrawn_md5) == (BIN, MD5)
    assert {file.name: file.state for file in report.files}[BIN] is State.GOOD
    flip(tmp_path / "own" / BIN)
    assert verify(entry).withdrawn is None


# -- opened


def opening(entry: ModelEntry, progress: Callable[[int, int], None] | None = None) -> str:
    """The error on opening; these files are not real: without a check their tokenizer is refused."""
    with pytest.raises(BchatError) as error:
        open_model(entry, progress=progress)
    return key_of(error)


def test_what_was_fetched_and_has_changed_is_not_opened(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flipped bit among the weights makes an ordinary number. It is read once; unchanged files are not."""
    directory = pull()
    with no_reading(monkeypatch):
        assert opening(ENTRY) == "tokenizer.broken"
    os.utime(directory / WEIGHTS, (1, 1))
    assert opening(ENTRY) == "tokenizer.broken"
    flip(directory / WEIGHTS)
    reports: list[tuple[int, int]] = []
    assert opening(ENTRY, lambda done, size: reports.append((done, size))) == "model.file-damaged"
    assert reports[-1] == (SIZE, SIZE)
    with no_reading(monkeypatch):
        assert opening(ENTRY) == "model.file-damaged"
        assert opening(open_path(directory)) == "model.file-damaged"
    pull()
    assert opening(ENTRY) == "tokenizer.broken"


@pytest.mark.parametrize("can_link", [True, False])
def test_what_pull_has_hashed_is_not_hashed_again_on_opening(
    served: Hub, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    """A pickle is recognised by its MD5 too, where links are impossible and the file itself was moved."""
    if not can_link:
        monkeypatch.setattr(Path, "symlink_to", refuse_links)
    del served.files[WEIGHTS]
    suspect = replace(ENTRY, withdrawn_md5=("0" * 32,))
    directory = download.download(suspect, lambda progress: None)
    with no_reading(monkeypatch):
        assert not check_withdrawn([directory / BIN], suspect, accept=False)
        assert opening(suspect) == "tokenizer.broken"


def refuse_links(*args: object, **kwargs: object) -> None:
    raise NotImplementedError


def test_what_another_program_fetched_is_not_read_to_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    put_snapshot(*WANTED)
    with no_reading(monkeypatch):
        assert opening(ENTRY) == "tokenizer.broken"


def test_damage_in_unused_files_is_ignored(served: Hub) -> None:
    (pull() / "tokenizer_config.json").resolve().unlink()
    assert opening(ENTRY) == "tokenizer.broken"


def test_in_a_directory_of_ones_own_other_weights_are_other_work(served: Hub, tmp_path: Path) -> None:
    download.download(own(tmp_path / "own"), lambda progress: None)
    flip(tmp_path / "own" / WEIGHTS)
    assert opening(own(tmp_path / "own")) == "tokenizer.broken"


@pytest.mark.parametrize("beside", [True, False])
def test_what_was_withdrawn_of_another_is_known_in_any_directory(tmp_path: Path, beside: bool) -> None:
    """As on opening: also if other weights, made from it, are beside it."""
    entry = put_directory(tmp_path / "own", *([WEIGHTS] if beside else []), "config.json", "spiece.model", BIN)
    other = ModelEntry("sft", hub_id=REPO, withdrawn_md5=(MD5,), weights_md5={BIN: "0" * 32})
    assert verify(entry).withdrawn is None
    suspect = with_withdrawn_of(entry, [other])
    report = verify(suspect)
    assert report.withdrawn is not None
    assert report.withdrawn.name == BIN
    assert report.state is State.UNKNOWN  # its files are not compared with the other model's
    assert last_report(suspect) == report
    flip(tmp_path / "own" / BIN)
    assert verify(suspect).withdrawn is None


def test_a_pickle_beside_the_weights_that_was_not_withdrawn_is_none_of_them(tmp_path: Path) -> None:
    put_directory(tmp_path / "own", *WANTED, BIN)
    entry = ModelEntry("own", directory=str(tmp_path / "own"), withdrawn_md5=("0" * 32,))
    assert set(states(entry)) == set(WANTED)


# -- removed -------------------------------------------------------------------------------------------------


def everything(path: Path) -> set[Path]:
    return {each for each in path.rglob("*") if ".locks" not in each.parts}


def test_a_model_is_removed_with_all_that_is_half_done_and_nothing_else(served: Hub) -> None:
    neighbour = paths.hub_cache() / "models--someone--tiny-too" / "blobs"
    neighbour.mkdir(parents=True)
    (neighbour / "x").write_bytes(b"kept")
    before = everything(paths.hub_cache())
    pull()
    (folder() / "blobs" / "a.incomplete").write_bytes(b"half")
    assert remove(ENTRY) == SIZE + 4 + len(COMMIT)
    assert everything(paths.hub_cache()) == before
    assert locate(ENTRY) is None
    assert json.loads((paths.cache_dir() / "checked.json").read_text()) == {}
    assert remove(ENTRY) == 0


def test_what_links_in_it_point_to_stays(tmp_path: Path) -> None:
    """A blob elsewhere, and one with a second name elsewhere."""
    directory = put_snapshot(*WANTED)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_bytes(b"kept")
    (directory / "link").symlink_to(tmp_path / "shared" / "file")
    (directory / "links").symlink_to(tmp_path / "shared")
    os.link((directory / WEIGHTS).resolve(), tmp_path / "second")
    assert remove(ENTRY) == SIZE - 300_000
    assert (tmp_path / "shared" / "file").read_bytes() == b"kept"
    assert (tmp_path / "second").read_bytes() == FILES[WEIGHTS]
    assert not folder().exists()


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        (ModelEntry("demo", embedded=True), "hub.embedded"),
        (ModelEntry("own", directory="~/models/own"), "hub.not-ours"),
        (ModelEntry("both", directory="~/models/own", hub_id=REPO), "hub.not-ours"),
    ],
)
def test_what_is_not_from_the_hub_is_not_removed(entry: ModelEntry, key: str) -> None:
    put_snapshot(*WANTED)
    with pytest.raises(BchatError) as error:
        remove(entry)
    assert key_of(error) == key
    assert locate(ENTRY) is not None


def test_a_folder_behind_a_link_is_not_removed(tmp_path: Path) -> None:
    put_snapshot(*WANTED)
    shutil.move(folder(), tmp_path / "elsewhere")
    folder().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BchatError) as error:
        remove(ENTRY)
    assert key_of(error) == "hub.not-ours"
    assert (tmp_path / "elsewhere" / "snapshots").is_dir()


@pytest.mark.parametrize("hub_id", ["../../x", "..", "/etc", "a/../../b"])
def test_no_name_leads_out_of_the_cache(hub_id: str, tmp_path: Path) -> None:
    """Slashes become dashes, so the folder is always inside the cache."""
    put_snapshot(*WANTED)
    before = everything(paths.hub_cache().parent)
    assert remove(ModelEntry("bad", hub_id=hub_id)) == 0
    assert everything(paths.hub_cache().parent) == before


def test_a_model_that_is_being_downloaded_is_not_removed() -> None:
    put_snapshot(*WANTED)
    with file_download._try_lock(folder(), digest_of(WEIGHTS, FILES[WEIGHTS])), pytest.raises(BchatError) as error:
        remove(ENTRY)
    assert key_of(error) == "hub.in-use"
    assert locate(ENTRY) is not None


def test_a_removal_that_is_stopped_half_way_leaves_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are deleted before content; the next removal deletes the rest."""
    put_snapshot(*WANTED)
    real = shutil.rmtree

    def stop(path: Path) -> None:
        if path == folder():
            raise PermissionError(13, "Permission denied")
        real(path)

    monkeypatch.setattr(shutil, "rmtree", stop)
    with pytest.raises(BchatError) as error:
        remove(ENTRY)
    assert key_of(error) == "hub.not-removed"
    assert locate(ENTRY) is None
    monkeypatch.undo()


def test_downloaded_files_are_readable_for_all_who_may_read_the_cache(served: Hub) -> None:
    """According to the user's umask, like all other files there."""
    old = os.umask(0o027)
    try:
        directory = pull()
    finally:
        os.umask(old)
    assert {stat.S_IMODE((directory / name).stat().st_mode) for name in WANTED} == {0o640}
