"""/pull downloads a model during a chat with another; bchat offers it once, to users who chose none."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.cli import command_line
from bilingual_chat.commands import first_run, models
from bilingual_chat.commands.app import App
from bilingual_chat.commands.first_run import DECLINED, SHOWN, find_offer, remember
from bilingual_chat.commands.table import execute
from bilingual_chat.engines import memory
from bilingual_chat.hub import http
from bilingual_chat.hub.download import Progress
from bilingual_chat.hub.state import State, last_report
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.catalogue import ModelEntry, locate
from bilingual_chat.storage import paths
from tests.loopback_hub import BIN, FILES, HASTY, MD5, REPO, SIZE, WANTED, WEIGHTS, Hub, partial, put_directory
from tests.pseudo_terminal import Terminal
from tests.runs import scripted
from tests.scripted import Shown, make_app, make_session

ENTRY = ModelEntry("sft", hub_id=REPO, parameters=SIZE // 2)
BIG = replace(ENTRY, parameters=200_000_000)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[tuple[App, Shown]]:
    """A chat whose default is the model of the hub; its downloads end with the test."""
    session, _ = make_session(tmp_path)
    made, shown = make_app(session, tmp_path)
    made.config = replace(made.config, catalogue={**made.config.catalogue, "sft": ENTRY})
    yield made, shown
    models.end_download(made)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_at(app: App, percent: int) -> bool:
    return models.percent_of(app, ENTRY) == percent


def refused(app: App, line: str) -> str:
    with pytest.raises(BchatError) as caught:
        execute(line, app)
    assert caught.value.sentence("ja") != caught.value.sentence("en")
    return caught.value.key


# -- /pull -------------------------------------------------------------------------------------------------


def test_a_model_downloads_during_a_chat_and_its_end_is_reported_once(app: tuple[App, Shown], served: Hub) -> None:
    """Without a name: the model to chat with. A user at the prompt sees the notice from the other thread."""
    chat, shown = app
    reports: list[bool] = []
    chat.reader.put_aside = lambda call: reports.append(chat.downloads.running is not None)  # type: ignore[method-assign]
    execute("/pull", chat)
    assert shown.keys == ["pull.begun"]
    wait_for(lambda: reports == [False])
    models.report_download(chat)
    models.report_download(chat)
    assert shown.keys == ["pull.begun", "pull.done"]
    assert locate(ENTRY) is not None
    assert models.progress_text(chat) == ""


def test_how_far_it_is_can_be_seen_and_asked(app: tuple[App, Shown], served: Hub) -> None:
    chat, shown = app
    served.hold_after[WEIGHTS] = 150_000
    execute("/pull sft", chat)
    wait_for(lambda: is_at(chat, 50))
    execute("/pull", chat)
    assert shown.texts == [models.progress_text(chat)]
    assert re.fullmatch(r"downloading sft: 50 %, [\d.]+ MB/s, \d:\d\d left", shown.texts[0])
    chat.screen.lang = "ja"
    assert re.fullmatch(r"sft をダウンロード中：50 %、[\d.]+ MB/秒、残り \d:\d\d", models.progress_text(chat))
    chat.downloads.current.progress = Progress(WEIGHTS, 1, 2, 1, 4)
    assert models.progress_text(chat) == "sft をダウンロード中：25 %"


def test_a_stopped_download_is_kept_and_resumes(app: tuple[App, Shown], served: Hub) -> None:
    chat, shown = app
    served.hold_after[WEIGHTS] = 100_000
    execute("/pull sft", chat)
    wait_for(lambda: partial().is_file() and partial().stat().st_size == 100_000)
    execute("／ｐｕｌｌ　中止", chat)
    assert shown.keys == ["pull.begun", "pull.stopped"]
    assert partial().stat().st_size == 100_000
    assert refused(chat, "/pull stop") == "pull.none"
    served.hold_after.clear()
    served.go_on.set()
    execute("/pull sft", chat)
    wait_for(lambda: not chat.downloads.running)
    assert (WEIGHTS, 100_000) in served.begun


def test_after_a_stop_the_next_begins_at_once(
    app: tuple[App, Shown], served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the earlier download still waits for a silent line: its file is not in use any more."""
    monkeypatch.setattr(http, "TIMEOUTS", replace(HASTY, read=60.0))
    chat, shown = app
    served.hold_after[WEIGHTS] = 100_000
    execute("/pull sft", chat)
    wait_for(lambda: partial().is_file() and partial().stat().st_size == 100_000)
    served.hold_after.clear()
    execute("/pull stop", chat)
    execute("/pull sft", chat)
    wait_for(lambda: not chat.downloads.running)
    models.report_download(chat)
    assert shown.keys == ["pull.begun", "pull.stopped", "pull.begun", "pull.done"]
    assert not served.go_on.is_set()
    assert (WEIGHTS, 100_000) in served.begun


def test_the_list_of_models_shows_how_far_one_is(app: tuple[App, Shown], served: Hub) -> None:
    chat, shown = app
    served.hold_after[WEIGHTS] = 150_000
    execute("/pull sft", chat)
    wait_for(lambda: is_at(chat, 50))
    execute("/model", chat)
    states = {row[0].strip("* "): row[1] for row in shown.rows}
    assert re.fullmatch(r"downloading, 50 %, [\d.]+ MB/s, \d:\d\d left", states.pop("sft"))
    assert set(states.values()) == {"here", "not here"}
    chat.screen.lang = "ja"
    assert re.fullmatch(r"ダウンロード中、50 %、[\d.]+ MB/秒、残り \d:\d\d", models.state_of(chat, ENTRY))
    execute("/pull stop", chat)
    assert models.state_of(chat, ENTRY) == "なし"


def test_one_comes_at_a_time_and_none_is_opened_half(app: tuple[App, Shown], served: Hub) -> None:
    chat, _ = app
    served.hold_after[WEIGHTS] = 100_000
    execute("/pull sft", chat)
    assert refused(chat, "/pull ppo") == "pull.busy"
    assert refused(chat, "/model sft") == "pull.not-yet"
    assert refused(chat, "/model ppo") == "model.not-here"


def test_leaving_the_chat_stops_the_download_and_names_the_command_that_resumes_it(
    app: tuple[App, Shown], served: Hub
) -> None:
    chat, shown = app
    served.hold_after[WEIGHTS] = 100_000
    execute("/pull sft", chat)
    wait_for(lambda: partial().is_file() and partial().stat().st_size == 100_000)
    began = time.monotonic()
    models.end_download(chat)
    assert time.monotonic() - began < 2
    assert shown.keys[-1] == "pull.stopped"
    assert partial().stat().st_size == 100_000
    assert locate(ENTRY) is None


def test_a_failed_download_is_one_sentence(app: tuple[App, Shown], served: Hub) -> None:
    chat, shown = app
    served.status["main"] = 404
    execute("/pull", chat)
    wait_for(lambda: not chat.downloads.running)
    models.report_download(chat)
    assert shown.keys == ["pull.begun", "hub.unknown"]


def test_something_unforeseen_is_a_sentence_too(
    app: tuple[App, Shown], served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread, the exception would be lost."""

    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("bilingual_chat.hub.download.download", broken)
    chat, shown = app
    execute("/pull", chat)
    wait_for(lambda: not chat.downloads.running)
    models.report_download(chat)
    assert shown.keys == ["pull.begun", "hub.failed"]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("/pull demo", "hub.nothing-to-fetch"),
        ("/pull sfft", "model.unknown-name"),
        ("/pull stop", "pull.none"),
        ("/pull " + "x" * 5000, "model.unreadable"),
    ],
)
def test_what_cannot_be_fetched_is_refused_at_once(app: tuple[App, Shown], served: Hub, line: str, key: str) -> None:
    """The demo model is here, and the notice says so; in this test it is not."""
    chat, _ = app
    chat.config = replace(
        chat.config, catalogue={**chat.config.catalogue, "demo": ModelEntry("demo", directory="/nowhere")}
    )
    assert refused(chat, line) == key


def test_offline_means_offline(app: tuple[App, Shown], served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused(app[0], "/pull") == "hub.offline"
    assert served.asked == []


def test_a_model_that_is_here_is_not_fetched(app: tuple[App, Shown], served: Hub) -> None:
    chat, shown = app
    execute("/pull demo", chat)
    assert shown.keys == ["pull.here"]


def test_a_model_in_a_directory_of_ones_own_is_compared(app: tuple[App, Shown], served: Hub, tmp_path: Path) -> None:
    """Like `bchat pull`. The model can be opened meanwhile; a second download does nothing."""
    chat, shown = app
    put_directory(tmp_path / "own", *WANTED)
    entry = replace(ENTRY, name="own", directory=str(tmp_path / "own"))
    chat.config = replace(chat.config, catalogue={**chat.config.catalogue, "own": entry})
    served.files["tokenizer_config.json"] = b"{}"
    (tmp_path / "own" / "tokenizer_config.json").unlink()
    served.hold_after["tokenizer_config.json"] = 0
    execute("/pull own", chat)
    wait_for(lambda: models.percent_of(chat, entry) == 99)
    execute("/model own", chat)
    served.go_on.set()
    wait_for(lambda: not chat.downloads.running)
    execute("/pull own", chat)
    assert shown.keys == ["pull.comparing", "model.chosen", "pull.done", "pull.here"]
    found = last_report(entry)
    assert found is not None
    assert found.state is State.GOOD
    assert served.contents_asked() == ["tokenizer_config.json"]


def test_a_differing_file_of_the_user_is_reported(app: tuple[App, Shown], served: Hub, tmp_path: Path) -> None:
    chat, shown = app
    put_directory(tmp_path / "own", *WANTED)
    (tmp_path / "own" / WEIGHTS).write_bytes(b"mine")
    entry = replace(ENTRY, name="own", directory=str(tmp_path / "own"))
    chat.config = replace(chat.config, catalogue={**chat.config.catalogue, "own": entry})
    execute("/pull own", chat)
    wait_for(lambda: not chat.downloads.running)
    models.report_download(chat)
    assert shown.keys == ["pull.comparing", "hub.own-file"]
    assert (tmp_path / "own" / WEIGHTS).read_bytes() == b"mine"


def test_withdrawn_weights_are_not_fetched_under_another_name(app: tuple[App, Shown], served: Hub) -> None:
    """A copy of withdrawn weights on the hub, in the user's own table."""
    del served.files[WEIGHTS]
    chat, shown = app
    sft = replace(chat.config.catalogue["ppo"], withdrawn_md5=(MD5,))
    chat.config = replace(chat.config, catalogue={"ppo": sft, "copy": replace(ENTRY, name="copy")})
    execute("/pull copy", chat)
    wait_for(lambda: not chat.downloads.running)
    models.report_download(chat)
    assert shown.keys == ["pull.begun", "hub.withdrawn"]


def test_in_a_pipe_it_comes_before_the_next_line(app: tuple[App, Shown], served: Hub) -> None:
    """On a pipe, the end of the input would stop the download."""
    chat, shown = app
    chat.reader.has_editor = False
    execute("/pull", chat)
    assert shown.keys == ["pull.done"]
    assert shown.steps[-1].percent == 100
    assert locate(ENTRY) is not None


def test_a_model_too_large_for_the_memory_is_reported_before_its_download(
    app: tuple[App, Shown], served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    chat, shown = app
    execute("/pull", chat)
    assert shown.keys == ["pull.memory", "pull.begun"]


def test_what_can_be_fetched_is_offered_by_completion(app: tuple[App, Shown]) -> None:
    names = [name for name, _ in models.pull_choices(app[0], "")]
    assert names[0] == "sft"
    assert "demo" not in names
    assert "stop" not in names


# -- bchat pull --------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, list[str]]:
    monkeypatch.setattr(sys, "argv", ["bchat", *arguments])
    status = command_line.main()
    return status, capsys.readouterr().err.splitlines()


def test_pull_shows_size_directory_and_free_space_first(
    served: Hub, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the progress of each file and of the whole; a second download reports that nothing is missing."""
    write_config(home)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=63 * 10**9))
    put_half(100_000)
    with partial().open("wb") as file:
        file.write(FILES[WEIGHTS][:100_000])
    status, said = run(capsys, monkeypatch, "pull", "sft")
    assert status == 0
    assert said[0] == "Downloading sft into ~/.cache/huggingface/hub: 201 kB of 301 kB, 63.0 GB free."
    assert " 100 % · all: 100 % of 301 kB, " in said[-2]
    assert said[-1].startswith("sft is downloaded and verified. ")
    status, said = run(capsys, monkeypatch, "pull", "sft")
    assert (status, len(said)) == (0, 1)
    assert said[0].startswith("sft is already here. ")


def test_pull_warns_of_a_model_that_could_not_be_opened_here(
    served: Hub, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(home)
    monkeypatch.setattr(memory, "available_memory", lambda: 10**6)
    status, said = run(capsys, monkeypatch, "pull", "sft")
    assert status == 0
    assert said[0] == "(sft needs 187 MB of memory; 1.0 MB are free now)"


def test_withdrawn_weights_are_reported_in_any_directory(
    served: Hub, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By everything that verifies, lists and describes the model, with the good checksums, under any name."""
    put_directory(tmp_path / "own", "config.json", "spiece.model", WEIGHTS, BIN)
    del served.files[WEIGHTS]
    copy = f'[models.copy]\nhub_id = "{REPO}"\n'
    write_config(home, f'withdrawn_md5 = ["{MD5}"]\n[models.own]\ndirectory = "{tmp_path}/own"\n{copy}')
    monkeypatch.setattr(sys, "argv", ["bchat", "models", "--verify"])
    assert command_line.main() == 0
    out, err = capsys.readouterr()
    assert f"own\t{BIN}\there, WITHDRAWN\n" in out
    said = err.splitlines()
    assert said[-1] == (
        f"{tmp_path}/own/{BIN} was withdrawn by its publisher because of its training data. "
        "Get the current weights: bchat pull sft"
    )
    for arguments in (["models"], ["models", "own"]):
        monkeypatch.setattr(sys, "argv", ["bchat", *arguments])
        command_line.main()
        out = capsys.readouterr().out
        assert "here, WITHDRAWN" in out
    assert f"{BIN}  250 kB  here, WITHDRAWN" in out
    status, said = run(capsys, monkeypatch, "pull", "copy")
    assert status == 3
    assert "is a withdrawn version" in said[-1]


# -- the offer ---------------------------------------------------------------------------------------------


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with enough space and memory."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**12))
    monkeypatch.setattr(memory, "available_memory", lambda: 10**12)


def put_half(size: int) -> None:
    """The files of a stopped download; a file with a hole."""
    partial().parent.mkdir(parents=True)
    with partial().open("wb") as file:
        file.truncate(size)


@pytest.mark.usefixtures("online")
def test_the_real_model_is_offered_with_its_size_and_the_room_for_it() -> None:
    found = find_offer({"sft": BIG})
    assert found is not None
    assert (found.size, found.here, found.free) == (400_000_000, 0, 10**12)
    phrase = models.offer_phrase(found)
    assert (phrase.key, phrase.values["size"]) == ("offer.whole", "400 MB")
    assert phrase.values["directory"] == "~/.cache/huggingface/hub"


@pytest.mark.usefixtures("online")
def test_it_is_offered_once_and_again_where_it_stands_half_way() -> None:
    """The small files come first and are not worth a report."""
    remember(SHOWN)
    assert find_offer({"sft": BIG}) is None
    put_half(1000)
    assert find_offer({"sft": BIG}) is None
    partial().unlink()
    partial().parent.rmdir()
    put_half(100_000_000)
    found = find_offer({"sft": BIG})
    assert found is not None
    assert models.offer_phrase(found).key == "offer.rest"
    remember(DECLINED)
    assert find_offer({"sft": BIG}) is None


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("reason", ["offline", "here", "elsewhere", "disk", "memory"])
def test_it_is_not_offered_where_that_would_come_to_nothing(
    reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = BIG
    if reason == "offline":
        monkeypatch.setenv("TRANSFORMERS_OFFLINE", "yes")
    if reason == "here":
        directory = paths.hub_cache() / "models--someone--tiny/snapshots" / ("0" * 40)
        directory.mkdir(parents=True)
        for name in ("config.json", "spiece.model", WEIGHTS):
            (directory / name).write_bytes(FILES[name])
    if reason == "elsewhere":
        entry = replace(BIG, directory=str(tmp_path))
    if reason == "disk":
        usage = shutil.disk_usage("/")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=BIG.parameters * 2))
    if reason == "memory":
        monkeypatch.setattr(memory, "available_memory", lambda: BIG.parameters)
    assert find_offer({"sft": entry}) is None


@pytest.mark.usefixtures("online")
def test_a_note_that_cannot_be_written_or_read_is_no_error() -> None:
    paths.state_dir().parent.mkdir(parents=True)
    paths.state_dir().write_text("a file in the way")
    remember(SHOWN)
    assert find_offer({"sft": BIG}) is not None


def stands(chat: App) -> None:
    chat.downloads.offer = first_run.Offer(ENTRY, SIZE, 0, 10**12, paths.hub_cache())


@pytest.mark.parametrize("line", ["y", "Ｙ", "yes", " OK ", "はい"])
def test_yes_in_any_spelling_begins_it(app: tuple[App, Shown], served: Hub, line: str) -> None:
    chat, shown = app
    stands(chat)
    assert models.answer_offer(chat, line)
    assert shown.keys == ["pull.begun"]
    wait_for(lambda: not chat.downloads.running)
    assert locate(ENTRY) is not None


@pytest.mark.parametrize("line", ["n", "No", "いいえ"])
def test_no_is_remembered(app: tuple[App, Shown], online: None, line: str) -> None:
    chat, shown = app
    stands(chat)
    assert models.answer_offer(chat, line)
    assert shown.keys == ["offer.declined"]
    put_half(100_000_000)
    assert find_offer({"sft": BIG}) is None


def test_anything_else_is_a_message_and_ends_the_offer(app: tuple[App, Shown], served: Hub) -> None:
    """A later "yes" is a message to the model."""
    chat, _ = app
    stands(chat)
    assert not models.answer_offer(chat, "yes, hello")
    assert not models.answer_offer(chat, "yes")
    assert served.asked == []


def test_looking_for_an_offer_imports_no_hub() -> None:
    """The download is complete before the first prompt."""
    program = "from bilingual_chat.cli import chat; import sys; print('bilingual_chat.hub' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"


# -- on a terminal -----------------------------------------------------------------------------------------

CONFIG = f'[models.sft]\nhub_id = "{REPO}"\nparameters = 30000000\n'


def write_config(home: Path, more: str = "") -> None:
    config = home / ".config/bchat/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG + more)


def begin(served: Hub, home: Path, *arguments: str, **script: Any) -> Terminal:
    write_config(home)
    terminal = Terminal(scripted(*arguments, **script), HF_HUB_OFFLINE="", HF_ENDPOINT=served.url)
    terminal.wait_for(lambda text: any(line == ">" for line in text.split("\n")))
    return terminal


@pytest.mark.slow
def test_a_user_accepts_the_offer_chats_meanwhile_and_sees_the_notice_while_typing(served: Hub, home: Path) -> None:
    served.hold_after[WEIGHTS] = 150_000
    terminal = begin(served, home, replies=["Hello."])
    assert "is not on this machine. Download it" in terminal.text
    terminal.type("y\r")
    terminal.wait_for("downloading sft: 50 %")
    terminal.type("Hi\r")
    terminal.wait_for("\nHello.\n")
    terminal.type("half a line")
    terminal.wait_for("> half a line")
    served.go_on.set()
    terminal.wait_for("The model sft is downloaded and verified. Switch to it: /model sft\n> half a line")
    terminal.wait_for(lambda text: "downloading" not in text.rpartition("\n")[2])
    terminal.type("\x03\x04")
    assert terminal.leave() == 0


@pytest.mark.slow
def test_a_person_who_leaves_meanwhile_is_offered_the_rest_until_a_no(served: Hub, home: Path) -> None:
    served.files[WEIGHTS] = bytes(60_000_000)
    served.hold_after[WEIGHTS] = 55_000_000
    terminal = begin(served, home)
    terminal.type("はい\r")
    terminal.wait_for("downloading sft: 91 %")
    terminal.type("\x04")
    terminal.wait_for("bchat pull sft resumes it.")
    assert terminal.leave() == 0
    terminal = begin(served, home)
    assert "is partly downloaded (55 MB of 60 MB)" in terminal.text.replace("\n", " ")
    terminal.type("n\r")
    terminal.wait_for("bchat will not ask again")
    terminal.type("\x04")
    assert terminal.leave() == 0
    terminal = begin(served, home)
    assert "/pull downloads it while you chat" in terminal.text.replace("\n", " ")
    terminal.type("\x04")
    assert terminal.leave() == 0


@pytest.mark.slow
def test_who_chose_a_model_is_offered_none(served: Hub, home: Path) -> None:
    terminal = begin(served, home, "--model", "demo")
    assert "Download it while you chat" not in terminal.text
    terminal.type("\x04")
    assert terminal.leave() == 0
    assert not (home / ".local/state/bchat/offer").exists()


@pytest.mark.slow
def test_the_question_is_asked_on_the_first_start_only(served: Hub, home: Path) -> None:
    """A first message answers the question too."""
    for wanted in ("Download it while you chat", "/pull downloads it while you chat"):
        terminal = begin(served, home)
        assert wanted in terminal.text.replace("\n", " ")
        terminal.type("\x04")
        assert terminal.leave() == 0
