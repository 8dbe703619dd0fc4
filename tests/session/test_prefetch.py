"""The prompt is prefilled while the user types: unsent text leaves no trace, and no reply waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bilingual_chat.session.model import Model
from bilingual_chat.session.model_loader import ModelLoader
from bilingual_chat.session.prefetch import UNSETTLED, PromptPrefetch, settled_ids
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import ModelEntry
from tests.scripted import ENTRY, PLAIN, ScriptedEngine, drain, make_session, tokenizer

TYPED = (
    "Could you translate this sentence into Japanese for me, please?",
    "猫という漢字の書き順を教えてください。それから例文も三つ。",
    "これはpenですか、それともpencilですか？ 2026年11月27日",
    "def f(x):\n    return x + 1\n",
)
PATIENCE_S = 10


class Prefilling(ScriptedEngine):
    """An engine that records its prefills, and takes a step when the test allows it."""

    can_prefill = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.prefilled: list[tuple[int, ...]] = []
        self.steps = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        self.prefilled.append(tuple(ids))
        for step in (1, 2, 3):
            self.may_go_on.wait(PATIENCE_S)
            self.steps += 1
            yield len(ids) * step // 3


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


@dataclass
class Parts:
    session: Session
    loader: ModelLoader
    prefetch: PromptPrefetch
    reported: list[int | None]


def make_parts(engine: ScriptedEngine, directory: Path | None = None, *, is_open: bool = True) -> Parts:
    """Return a session with one turn and its prefetch; the model is open unless `is_open` is False."""
    session, _ = make_session(directory, engine=engine)
    drain(session.reply("Hello!"))
    loader = ModelLoader(ENTRY, lambda entry, progress: Model(entry, tokenizer(), engine))
    reported: list[int | None] = []
    prefetch = PromptPrefetch(session, loader, lambda: reported.append(prefetch.percent))
    if is_open:
        loader.obtain()
    return Parts(session, loader, prefetch, reported)


def wake(loader: ModelLoader) -> None:
    with loader.changed:
        loader.changed.notify_all()


# -- what is settled


@pytest.mark.parametrize("entry", [ENTRY, PLAIN])
@pytest.mark.parametrize("message", TYPED)
def test_settled_ids_are_the_beginning_of_the_prompt(entry: ModelEntry, message: str) -> None:
    """Rarely not: then a few tokens are computed again. Only a few ids are left for the reply."""
    session, engine = make_session(None, ["はい、何でしょうか。"], entry=entry)
    drain(session.reply("こんにちは"))
    model = Model(entry, tokenizer(), engine)
    prompt = session.prompt_for(message).ids
    wrong = []
    for length in range(len(message) + 1):
        settled = settled_ids(session, model, message[:length])
        if prompt[: len(settled)] != settled:
            wrong.append(message[:length])
    assert len(wrong) <= len(message) // 20
    label = len(prompt) - len(session.prompt_for(message[:-UNSETTLED]).ids)
    assert len(prompt) - len(settled_ids(session, model, message)) <= UNSETTLED + label + 8


def test_before_a_letter_is_typed_the_conversation_is_settled() -> None:
    session, engine = make_session(None, ["はい、何でしょうか。"])
    drain(session.reply("こんにちは"))
    settled = settled_ids(session, Model(ENTRY, tokenizer(), engine), "")
    assert (
        tokenizer().decode(list(settled)).startswith("ユーザー: こんにちは\nシステム: はい、何でしょうか。\nユーザー:")
    )


def test_settled_ids_of_an_edit_leave_out_the_last_turn() -> None:
    session, engine = make_session(None, ["はい。", "ええ。"])
    drain(session.reply("一"))
    drain(session.reply("二"))
    model = Model(ENTRY, tokenizer(), engine)
    text = "三つ目の話をしましょうか、それともやめておきますか"
    prefix = tokenizer().decode(list(settled_ids(session, model, text, replaces_last=True)))
    assert prefix.startswith("ユーザー: 一\nシステム: はい。\nユーザー: 三つ目の話をしま")


@pytest.mark.parametrize("message", ["long " * 2000, "x" * 10_000_000])
def test_a_message_that_cannot_be_sent_has_no_settled_ids(message: str) -> None:
    session, engine = make_session(None)
    began = time.process_time()
    assert settled_ids(session, Model(ENTRY, tokenizer(), engine), message) == ()
    assert time.process_time() - began < 5


# -- the thread


def test_the_line_is_prefilled_while_it_is_being_read() -> None:
    engine = Prefilling()
    parts = make_parts(engine)
    with parts.prefetch.reading("", replaces_last=False):
        until(lambda: engine.steps == 3)
        parts.prefetch.typed("What is the Japanese word for cat?")
        until(lambda: engine.steps == 6)
    assert "What is the Japanese" in tokenizer().decode(list(engine.prefilled[-1]))
    parts.loader.obtain()


def test_progress_is_reported_until_all_is_prefilled() -> None:
    engine = Prefilling()
    parts = make_parts(engine)
    with parts.prefetch.reading("What is the Japanese word for cat?", replaces_last=False):
        until(lambda: parts.reported[-1:] == [None])
    first, second, _ = parts.reported
    assert first in (32, 33)
    assert second in (65, 66)


def test_progress_is_not_reported_after_a_prefill_ends() -> None:
    engine = Prefilling()
    parts = make_parts(engine)
    engine.may_go_on.clear()
    with parts.prefetch.reading("What is the Japanese word for cat?", replaces_last=False):
        until(lambda: len(engine.prefilled) == 1)
        parts.prefetch.percent = 50
    engine.may_go_on.set()
    until(lambda: parts.prefetch.percent is None)


def test_a_key_ends_the_prefill_of_the_line_before() -> None:
    engine = Prefilling()
    parts = make_parts(engine)
    engine.may_go_on.clear()
    with parts.prefetch.reading("What is the word", replaces_last=False):
        until(lambda: len(engine.prefilled) == 1)
        parts.prefetch.typed("What is the word for")
        engine.may_go_on.set()
        until(lambda: len(engine.prefilled) == 2 and engine.steps == 4)  # one step of the first, three of the second


def test_nothing_is_computed_any_more_when_the_line_has_been_sent() -> None:
    """`obtain` returns after the current step of the thread, and no other follows."""
    engine = Prefilling()
    parts = make_parts(engine)
    engine.may_go_on.clear()
    with parts.prefetch.reading("What is the word", replaces_last=False):
        until(lambda: len(engine.prefilled) == 1)
    threading.Timer(0.05, engine.may_go_on.set).start()
    parts.loader.obtain()
    assert engine.steps == 1
    wake(parts.loader)
    time.sleep(0.05)
    assert engine.steps == 1


def test_a_command_is_not_prefilled() -> None:
    engine = Prefilling()
    parts = make_parts(engine)
    with parts.prefetch.reading("", replaces_last=False):
        until(lambda: len(engine.prefilled) == 1)
        parts.prefetch.typed(None)
        wake(parts.loader)
        time.sleep(0.05)
        assert len(engine.prefilled) == 1


def test_a_model_that_opens_later_prefills_the_present_line() -> None:
    engine = Prefilling()
    parts = make_parts(engine, is_open=False)
    with parts.prefetch.reading("A message that waits for a model", replaces_last=False):
        time.sleep(0.02)
        assert not engine.prefilled
        parts.loader.start()
        until(lambda: engine.steps == 3)


def test_an_engine_whose_replies_would_change_is_left_alone() -> None:
    engine = Prefilling()
    engine.can_prefill = False
    parts = make_parts(engine)
    with parts.prefetch.reading("A message that is long enough for it", replaces_last=False):
        time.sleep(0.05)
    assert not engine.prefilled


@pytest.mark.filterwarnings("error")  # a thread that ends in an error warns
def test_a_failed_prefill_is_left_to_the_reply_and_the_thread_lives() -> None:
    engine = Prefilling()
    parts = make_parts(engine)
    well = engine.prefill
    engine.prefill = lambda ids: 1 / 0  # type: ignore[assignment,return-value]
    with parts.prefetch.reading("A message that is long enough for it", replaces_last=False):
        time.sleep(0.05)
        engine.prefill = well  # type: ignore[method-assign]
        parts.prefetch.typed("A message that is long enough for it now")
        until(lambda: engine.steps == 3)
    parts.loader.obtain()


def test_the_journal_knows_nothing_of_it(tmp_path: Path) -> None:
    engine = Prefilling()
    parts = make_parts(engine, tmp_path)
    with parts.prefetch.reading("A secret that is never sent", replaces_last=False):
        until(lambda: engine.steps == 3)
    parts.loader.obtain()
    parts.session.close()
    assert not any(b"secret" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
