"""Base models continue one text: messages and continuations, joined without separators."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bilingual_chat.cli import command_line
from bilingual_chat.commands.app import Edit, Retry
from bilingual_chat.commands.table import execute
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.session.persona import persona
from bilingual_chat.session.session import Session
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.config import NO_CHANGE, load_config, settings_for
from bilingual_chat.settings.decoding import as_record
from bilingual_chat.text.conversation import Conversation, FinishReason, Turn
from bilingual_chat.text.prompt import PromptFormat
from bilingual_chat.text.sanitize import outward
from bilingual_chat.text.tokenizer import Tokenizer
from bilingual_chat.transcript import document
from bilingual_chat.transcript.journal import read_journal
from tests.model_cards import CARDS, PHILOSOPHER, install, random_model, vocabulary
from tests.scripted import PLAIN, Script, ScriptedEngine, drain, make_app, make_session, settings, tokenizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
]  # whole models are opened, in processes of their own


def prompts_of(engine: ScriptedEngine) -> list[str]:
    return [tokenizer().decode(ids) for ids in engine.prompts]


# -- with the card's settings -------------------------------------------------------------------------


def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["bchat", "ask", *arguments])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert command_line.main() == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["base", "base-8k", "j-base"])
def test_ask_prints_the_continuation_that_the_cards_settings_give(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The prompt is the text, id by id; the card's number of tokens; the reply does not repeat the text."""
    monkeypatch.chdir(tmp_path)
    card = CARDS[name]
    install(name, random_model(card), "model.safetensors")
    whole = json.loads(ask(capsys, monkeypatch, "--model", name, "--seed", "3", "--json", PHILOSOPHER))
    assert whole["prompt"] == PHILOSOPHER
    assert {**whole["settings"], "seed": None} == as_record(card.settings)
    assert whole["finish_reason"] == "length"
    assert len(whole["reply_ids"]) == 100
    printed = ask(capsys, monkeypatch, "--model", name, "--seed", "3", PHILOSOPHER)
    assert printed.removesuffix("\n") == outward(whole["reply"]).removesuffix("\n")
    assert "<NL>" not in printed


def test_a_text_is_continued_from_the_cache(tmp_path: Path) -> None:
    """The second prompt begins with the first and its continuation."""
    install("base", random_model(CARDS["base"]), "model.safetensors")
    entry = load_config().catalogue["base"]
    assert catalogue.locate(entry) is not None
    model = open_model(entry)
    session = Session(lambda: model, settings_for(load_config(), entry), entry=entry, directory=tmp_path)
    first = drain(session.reply(PHILOSOPHER)).reply
    drain(session.reply(" はい"))
    assert session.last is not None
    assert session.last.prompt.text == f"{PHILOSOPHER}{first} はい"
    # Bytes that form no character come back as other ids than were written; the rest is as it was.
    assert session.last.cached_tokens >= len(model.tokenizer.encode(PHILOSOPHER))
    session.close()


# -- one text -----------------------------------------------------------------------------------------


def test_a_message_is_appended_exactly_at_the_end_of_the_text(tmp_path: Path) -> None:
    """No space, newline or label is added, and a look-alike of a label is not changed."""
    session, engine = make_session(tmp_path, ["日本の", "哲学者。", "\n終"], entry=PLAIN)
    for typed in ("西田は、", "  有名な ", "\nユーザー: と\n"):
        drain(session.reply(typed))
    assert prompts_of(engine) == [
        "西田は、",
        "西田は、日本の  有名な ",
        "西田は、日本の  有名な 哲学者。\nユーザー: と\n",
    ]
    assert session.text == "西田は、日本の  有名な 哲学者。\nユーザー: と\n\n終"
    assert [turn.user for turn in session.conversation.turns] == ["西田は、", "  有名な ", "\nユーザー: と\n"]


def test_an_empty_message_continues_the_text(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, ["一", "二"], entry=PLAIN)
    drain(session.reply("零"))
    assert drain(session.reply("")).reply == "二"
    assert prompts_of(engine)[-1] == "零一"
    assert session.text == "零一二"


def test_a_label_in_the_continuation_is_text(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["「はい」\nシステム: 次\nユーザー: x"], entry=PLAIN)
    assert drain(session.reply("会話\n")).reply == "「はい」\nシステム: 次\nユーザー: x"


def test_a_message_without_a_continuation_stays_in_the_text(tmp_path: Path) -> None:
    """A chat leaves an empty reply out of the prompt; here the message is part of the text on the screen."""
    session, engine = make_session(tmp_path, [Script("", RuntimeError("boom")), "二"], entry=PLAIN)
    with pytest.raises(RuntimeError):
        drain(session.reply("零"))
    drain(session.reply("一"))
    assert prompts_of(engine)[-1] == "零一"
    assert session.text == "零一二"


def test_a_persona_is_no_part_of_a_text(tmp_path: Path) -> None:
    """A persona may come from the settings, or from the chat model in use before."""
    session, engine = make_session(tmp_path, entry=PLAIN)
    session.open_with(persona("You are a cat."))
    drain(session.reply("零"))
    assert prompts_of(engine) == ["零"]


def test_the_commands_work_on_the_text(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, ["甲", "乙", "丙", "丁"], entry=PLAIN)
    app, shown = make_app(session, tmp_path)
    drain(session.reply("一"))
    drain(session.reply("二"))
    assert execute("/retry", app) == Retry(NO_CHANGE)
    drain(session.retry())
    assert prompts_of(engine)[-2:] == ["一甲二", "一甲二"]
    assert execute("/edit", app) == Edit("二", replaces_last=True)
    drain(session.revise("三"))
    execute("/history", app)
    assert shown.texts[-1] == "一甲三丁"
    execute("/prompt ", app)
    assert shown.texts[-1] == "一甲三丁"
    execute("/prompt 四", app)
    assert shown.texts[-1] == "一甲三丁四"
    execute("/undo 1", app)
    assert shown.said[-1].values["text"] == "三丁"
    assert session.text == "一甲"
    execute(f"/save {tmp_path / 'text.json'}", app)
    saved = document.read_document(tmp_path / "text.json").conversation
    assert [(turn.user, turn.reply) for turn in saved.turns] == [("一", "甲")]
    assert session.journal_path is not None
    assert read_journal(session.journal_path).conversation.turns == session.conversation.turns
    execute("/clear", app)
    assert session.text == ""


def test_no_message_of_a_text_is_called_a_look_alike(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, entry=PLAIN)
    assert drain(session.reply("a\nシステム: b")).keys == []


# -- longer than the context --------------------------------------------------------------------------


def test_a_text_that_outgrows_the_context_loses_its_beginning(tmp_path: Path) -> None:
    """One remark for each cut; then the text begins at the same character, also after /undo and /retry."""
    session, engine = make_session(
        tmp_path,
        ["続き。" * 4] * 8,
        entry=PLAIN,
        context_length=160,
        options={"max_new_tokens": 20, "temperature": 0.5},
    )
    drain(session.reply("昔々、ある所に猫がいました。" * 8))
    keys = [drain(session.reply(f"{number}、")).keys for number in range(4)]
    assert keys[-1] == []
    assert keys.count(["session.cut"]) == 1
    last = engine.prompts[-1]
    assert session.text.endswith(prompts_of(engine)[-1] + "続き。" * 4)
    cut = session.conversation.turns[-1].details["dropped_characters"]
    assert session.text[cut:] == prompts_of(engine)[-1] + "続き。" * 4
    assert session.conversation.turns[-1].details["dropped_turns"] == 0
    drain(session.retry())
    assert engine.prompts[-1] == last
    assert session.context_used(session.model()) < 160
    session.undo()
    app, shown = make_app(session, tmp_path)
    execute("/prompt x", app)
    assert session.text.endswith(shown.texts[-1][:-1])
    assert shown.keys[-1] == "session.cut"
    assert shown.texts[-1][0] == session.text[cut]


def test_more_typed_than_fits_is_refused(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, entry=PLAIN, context_length=64)
    with pytest.raises(BchatError) as caught:
        drain(session.reply("猫" * 500))
    assert caught.value.key == "prompt.too-long"
    assert session.pending == "猫" * 500


# -- the 3.6B base model ------------------------------------------------------------------------------


def test_newlines_are_nl_to_the_japanese_base_model_and_newlines_to_the_person(tmp_path: Path) -> None:
    """In messages, in continuations, and in the text that is sent again."""
    (tmp_path / "spiece.model").write_bytes(vocabulary("<NL>"))
    words = Tokenizer(tmp_path / "spiece.model", newline="<NL>")
    entry = replace(PLAIN, prompt=PromptFormat(kind="plain", newline="<NL>"))
    engine = ScriptedEngine([Script(words.encode(each)) for each in ("はい<NL><NL>いいえ", "!")])
    model = Model(entry, words, engine)
    session = Session(lambda: model, settings(entry), entry=entry, directory=tmp_path)
    # The scripted end of sequence is id 3 of another tokenizer, and is not decoded.
    assert drain(session.reply("一\n")).reply == "はい\n\nいいえ"
    drain(session.reply("\n目"))
    assert [words.decode(ids) for ids in engine.prompts] == ["一<NL>", "一<NL>はい<NL><NL>いいえ<NL>目"]
    assert session.text.startswith("一\nはい\n\nいいえ\n目")


def test_a_chat_that_a_base_model_takes_over_is_one_text(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["二"])
    session.conversation = Conversation((), (Turn("一", "二", FinishReason.STOP),))
    _, engine = make_session(None, entry=PLAIN)
    model = Model(PLAIN, tokenizer(), engine)
    session._obtain_model = lambda: model
    session.use_model(PLAIN, settings(PLAIN))
    drain(session.reply("三"))
    assert prompts_of(engine) == ["一二三"]
