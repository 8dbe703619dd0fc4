"""/pull: a model comes while one chats with another; and the offer of it, once, to a person who chose none."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat import paths
from bilingual_chat.catalogue import ModelEntry, locate
from bilingual_chat.commands import Desk, execute, offer, pull
from bilingual_chat.commands.offer import DECLINED, SHOWN, find_offer, remember
from bilingual_chat.engines import memory
from bilingual_chat.errors import BchatError
from bilingual_chat.hub import Progress
from tests.loopback_hub import FILES, REPO, WEIGHTS, Hub
from tests.scripted import Shown, make_desk, make_session
from tests.terminal import Terminal, scripted
from tests.test_hub import SIZE, partial, served

__all__ = ["served"]
ENTRY = ModelEntry("sft", hub_id=REPO, parameters=SIZE // 2)
BIG = replace(ENTRY, parameters=200_000_000)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Desk, Shown]]:
    """A chat that knows of the hub's model as the default; what it fetches ends with the test."""
    session, _ = make_session(tmp_path)
    made, shown = make_desk(session, tmp_path)
    made.config = replace(made.config, catalogue={**made.config.catalogue, "sft": ENTRY})
    yield made, shown
    pull.leave(made)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_at(desk: Desk, percent: int) -> bool:
    return pull.percent_of(desk, ENTRY) == percent


def refused(desk: Desk, line: str) -> str:
    with pytest.raises(BchatError) as caught:
        execute(line, desk)
    assert caught.value.sentence("ja") != caught.value.sentence("en")
    return caught.value.key


# -- /pull -------------------------------------------------------------------------------------------------


def test_a_model_comes_while_one_chats_and_its_arrival_is_said_once(desk: tuple[Desk, Shown], served: Hub) -> None:
    """Without a name, the one to chat with. Whoever waits for a line is told from the other thread."""
    chat, shown = desk
    told: list[bool] = []
    chat.pulls.when_over = lambda: told.append(chat.pulls.is_running)
    execute("/pull", chat)
    assert shown.keys == ["pull.begun"]
    wait_for(lambda: told == [False])
    pull.tell_news(chat)
    pull.tell_news(chat)
    assert shown.keys == ["pull.begun", "pull.done"]
    assert locate(ENTRY) is not None
    assert pull.progress_text(chat) == ""


def test_how_far_it_is_can_be_seen_and_asked(desk: tuple[Desk, Shown], served: Hub) -> None:
    chat, shown = desk
    served.hold_after[WEIGHTS] = 150_000
    execute("/pull sft", chat)
    wait_for(lambda: is_at(chat, 50))
    execute("/pull", chat)
    assert shown.texts == [pull.progress_text(chat)]
    assert shown.texts[0].startswith("fetching sft: 50 %, ")
    chat.lang = "ja"
    assert pull.progress_text(chat).startswith("sft を取得中：50 %、")


def test_what_is_stopped_is_kept_and_goes_on(desk: tuple[Desk, Shown], served: Hub) -> None:
    chat, shown = desk
    served.hold_after[WEIGHTS] = 100_000
    execute("/pull sft", chat)
    wait_for(lambda: partial().is_file() and partial().stat().st_size == 100_000)
    execute("／ｐｕｌｌ　中止", chat)
    assert shown.keys == ["pull.begun", "pull.stopped"]
    assert partial().stat().st_size == 100_000
    assert refused(chat, "/pull stop") == "pull.none"
    served.hold_after.clear()
    execute("/pull sft", chat)
    wait_for(lambda: not chat.pulls.is_running)
    assert (WEIGHTS, 100_000) in served.begun


def test_one_comes_at_a_time_and_none_is_opened_half(desk: tuple[Desk, Shown], served: Hub) -> None:
    chat, _ = desk
    served.hold_after[WEIGHTS] = 100_000
    execute("/pull sft", chat)
    assert refused(chat, "/pull ppo") == "pull.busy"
    assert refused(chat, "/model sft") == "pull.not-yet"
    assert refused(chat, "/model ppo") == "model.not-here-yet"


def test_leaving_the_chat_stops_it_and_says_how_it_goes_on(desk: tuple[Desk, Shown], served: Hub) -> None:
    chat, shown = desk
    served.hold_after[WEIGHTS] = 100_000
    execute("/pull sft", chat)
    wait_for(lambda: partial().is_file() and partial().stat().st_size == 100_000)
    began = time.monotonic()
    pull.leave(chat)
    assert time.monotonic() - began < 2
    assert shown.keys[-1] == "pull.left"
    assert partial().stat().st_size == 100_000
    assert locate(ENTRY) is None


def test_what_goes_wrong_is_said_as_one_sentence(desk: tuple[Desk, Shown], served: Hub) -> None:
    chat, shown = desk
    served.status["main"] = 404
    execute("/pull", chat)
    wait_for(lambda: not chat.pulls.is_running)
    pull.tell_news(chat)
    assert shown.keys == ["pull.begun", "hub.unknown"]


def test_something_unforeseen_is_a_sentence_too(
    desk: tuple[Desk, Shown], served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread nobody would see it."""

    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("bilingual_chat.hub.download", broken)
    chat, shown = desk
    execute("/pull", chat)
    wait_for(lambda: not chat.pulls.is_running)
    pull.tell_news(chat)
    assert shown.keys == ["pull.begun", "hub.failed"]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("/pull demo", "hub.nothing-to-fetch"),
        ("/pull sfft", "model.unknown"),
        ("/pull stop", "pull.none"),
        ("/pull " + "x" * 5000, "model.no-directory"),
    ],
)
def test_what_cannot_be_fetched_is_refused_at_once(desk: tuple[Desk, Shown], served: Hub, line: str, key: str) -> None:
    """The embedded model is here, which is said; here it is not."""
    chat, _ = desk
    chat.config = replace(
        chat.config, catalogue={**chat.config.catalogue, "demo": ModelEntry("demo", directory="/nowhere")}
    )
    assert refused(chat, line) == key


def test_offline_means_offline(desk: tuple[Desk, Shown], served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused(desk[0], "/pull") == "hub.offline"
    assert served.asked == []


def test_a_model_that_is_here_is_not_fetched(desk: tuple[Desk, Shown], served: Hub) -> None:
    chat, shown = desk
    execute("/pull demo", chat)
    assert shown.keys == ["pull.here"]


def test_in_a_pipe_it_comes_before_the_next_line(desk: tuple[Desk, Shown], served: Hub) -> None:
    """Nobody chats meanwhile, and the end of the input would stop it."""
    chat, shown = desk
    steps: list[Progress] = []
    chat.pulls.foreground = steps.append
    execute("/pull", chat)
    assert shown.keys == ["pull.done"]
    assert steps[-1].percent == 100
    assert locate(ENTRY) is not None


def test_a_model_that_will_not_fit_is_said_before_it_comes(
    desk: tuple[Desk, Shown], served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    chat, shown = desk
    execute("/pull", chat)
    assert shown.keys == ["pull.memory", "pull.begun"]


def test_what_can_be_fetched_is_offered_by_completion(desk: tuple[Desk, Shown]) -> None:
    names = [name for name, _ in pull.pull_choices(desk[0], "")]
    assert names[0] == "sft"
    assert "demo" not in names
    assert "stop" not in names


# -- the offer ---------------------------------------------------------------------------------------------


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with room for everything."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**12))
    monkeypatch.setattr(memory, "available_memory", lambda: 10**12)


def put_half(size: int) -> None:
    """What a download that was stopped leaves; a file with a hole."""
    partial().parent.mkdir(parents=True)
    with partial().open("wb") as file:
        file.truncate(size)


@pytest.mark.usefixtures("online")
def test_the_real_model_is_offered_with_its_size_and_the_room_for_it() -> None:
    found = find_offer({"sft": BIG})
    assert found is not None
    assert (found.size, found.here, found.free) == (400_000_000, 0, 10**12)
    phrase = pull.offer_phrase(found)
    assert (phrase.key, phrase.values["size"]) == ("offer.whole", "0.4")
    assert phrase.values["directory"] == "~/.cache/huggingface/hub"


@pytest.mark.usefixtures("online")
def test_it_is_offered_once_and_again_where_it_stands_half_way() -> None:
    """The small files, which come first, are nothing to speak of."""
    remember(SHOWN)
    assert find_offer({"sft": BIG}) is None
    put_half(1000)
    assert find_offer({"sft": BIG}) is None
    partial().unlink()
    partial().parent.rmdir()
    put_half(100_000_000)
    found = find_offer({"sft": BIG})
    assert found is not None
    assert pull.offer_phrase(found).key == "offer.rest"
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


def stands(chat: Desk) -> None:
    chat.pulls.offer = offer.Offer(ENTRY, SIZE, 0, 10**12, paths.hub_cache())


@pytest.mark.parametrize("line", ["y", "Ｙ", "yes", " OK ", "はい"])
def test_yes_in_any_spelling_begins_it(desk: tuple[Desk, Shown], served: Hub, line: str) -> None:
    chat, shown = desk
    stands(chat)
    assert pull.answers_offer(chat, line)
    assert shown.keys == ["pull.begun"]
    wait_for(lambda: not chat.pulls.is_running)
    assert locate(ENTRY) is not None


@pytest.mark.parametrize("line", ["n", "No", "いいえ"])
def test_no_is_remembered(desk: tuple[Desk, Shown], online: None, line: str) -> None:
    chat, shown = desk
    stands(chat)
    assert pull.answers_offer(chat, line)
    assert shown.keys == ["offer.declined"]
    put_half(100_000_000)
    assert find_offer({"sft": BIG}) is None


def test_anything_else_is_a_message_and_ends_the_offer(desk: tuple[Desk, Shown], served: Hub) -> None:
    """A later "yes" is for the model."""
    chat, _ = desk
    stands(chat)
    assert not pull.answers_offer(chat, "yes, hello")
    assert not pull.answers_offer(chat, "yes")
    assert served.asked == []


def test_looking_for_an_offer_imports_no_hub() -> None:
    """It is done before the first prompt."""
    program = "from bilingual_chat.cli import talk; import sys; print('bilingual_chat.hub' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"


# -- on a terminal -----------------------------------------------------------------------------------------

CONFIG = f'[models.sft]\nhub_id = "{REPO}"\nparameters = 30000000\n'


def begin(served: Hub, home: Path, *arguments: str, **script: Any) -> Terminal:
    config = home / ".config/bchat/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG)
    terminal = Terminal(scripted(*arguments, **script), HF_HUB_OFFLINE="", HF_ENDPOINT=served.url)
    terminal.wait_for(lambda text: any(line == ">" for line in text.split("\n")))
    return terminal


@pytest.mark.slow
def test_a_person_says_yes_chats_meanwhile_and_is_told_while_typing(served: Hub, home: Path) -> None:
    served.hold_after[WEIGHTS] = 150_000
    terminal = begin(served, home, replies=["Hello."])
    assert "is not on this machine. Fetch it now" in terminal.text
    terminal.type("y\r")
    terminal.wait_for("fetching sft: 50 %")
    terminal.type("Hi\r")
    terminal.wait_for("\nHello.\n")
    terminal.type("half a line")
    terminal.wait_for("> half a line")
    served.go_on.set()
    terminal.wait_for("The model sft is here and verified; switch to it with: /model sft\n> half a line")
    terminal.wait_for(lambda text: "fetching" not in text.rpartition("\n")[2])
    terminal.type("\x03\x04")
    assert terminal.leave() == 0


@pytest.mark.slow
def test_a_person_who_leaves_meanwhile_is_offered_the_rest_until_a_no(served: Hub, home: Path) -> None:
    served.files[WEIGHTS] = bytes(60_000_000)
    served.hold_after[WEIGHTS] = 55_000_000
    terminal = begin(served, home)
    terminal.type("はい\r")
    terminal.wait_for("fetching sft: 91 %")
    terminal.type("\x04")
    terminal.wait_for("what has come is kept: bchat pull sft goes on.")
    assert terminal.leave() == 0
    terminal = begin(served, home)
    assert "0.1 of 0.1 GB are here already." in terminal.text.replace("\n", " ")
    terminal.type("n\r")
    terminal.wait_for("You will not be asked again")
    terminal.type("\x04")
    assert terminal.leave() == 0
    terminal = begin(served, home)
    assert "/pull fetches it while you chat" in terminal.text.replace("\n", " ")
    terminal.type("\x04")
    assert terminal.leave() == 0


@pytest.mark.slow
def test_who_chose_a_model_is_offered_none(served: Hub, home: Path) -> None:
    terminal = begin(served, home, "--model", "demo")
    assert "Fetch it now" not in terminal.text
    terminal.type("\x04")
    assert terminal.leave() == 0
    assert not (home / ".local/state/bchat/offer").exists()


@pytest.mark.slow
def test_the_question_is_asked_on_the_first_start_only(served: Hub, home: Path) -> None:
    """Whoever just chats has answered it, too."""
    for wanted in ("Fetch it now", "/pull fetches it while you chat"):
        terminal = begin(served, home)
        assert wanted in terminal.text.replace("\n", " ")
        terminal.type("\x04")
        assert terminal.leave() == 0
