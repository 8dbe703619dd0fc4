"""The slash commands: the effect of each line; a line with an error changes nothing."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bilingual_chat import messages
from bilingual_chat.commands import table
from bilingual_chat.commands.app import App, Compare, Edit, Leave, Retry
from bilingual_chat.commands.arguments import parse_settings
from bilingual_chat.commands.settings import preset_rows
from bilingual_chat.commands.table import COMMANDS, execute, find, is_command, message_of
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import config
from bilingual_chat.settings.config import SettingsChange, load_config, settings_for
from bilingual_chat.settings.decoding import RANGES, TEXTS, DecodingParameters, format_value
from bilingual_chat.settings.presets import Preset
from bilingual_chat.storage import paths
from bilingual_chat.text.conversation import FinishReason, Speaker, Turn, Utterance
from bilingual_chat.text.sanitize import inward
from bilingual_chat.transcript.document import read_document
from bilingual_chat.transcript.journal import read_journal
from tests.scripted import PLAIN, Shown, drain, make_app, make_session, tokenizer


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that relative names refer to."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    return tmp_path / "conversations"


@pytest.fixture
def app(conversations: Path, here: Path) -> tuple[App, Shown, Any]:
    """A chat after two turns, its screen, and its engine."""
    session, engine = make_session(conversations, ["一です。", "二です。", "三です。"])
    drain(session.reply("いち"))
    drain(session.reply("に"))
    return *make_app(session, conversations), engine


def state_of(app: App) -> Any:
    session = app.session
    return copy.copy(
        (session.conversation, session.settings, session.pending, session.entry, session.journal_path, app.lang)
    )


def refused(line: str, app: App) -> BchatError:
    """Return the error of a line that changes nothing, in both languages."""
    before = state_of(app)
    with pytest.raises(BchatError) as caught:
        execute(line, app)
    assert state_of(app) == before
    assert all(caught.value.sentence(lang) for lang in messages.LANGUAGES)
    return caught.value


# -- the table ----------------------------------------------------------------------------------------


def test_saving_over_another_conversation_is_asked_first(tmp_path: Path) -> None:
    """The same conversation, or the one it was loaded from, is saved again without a question."""
    file = tmp_path / "a.json"
    first, _ = make_session(tmp_path / "one", ["一"])
    drain(first.reply("ひとつ"))
    app, _ = make_app(first, tmp_path / "one")
    execute(f"/save {file}", app)
    execute(f"/save {file}", app)
    second, _ = make_session(tmp_path / "two", ["二", "三"])
    drain(second.reply("ふたつ"))
    app, _ = make_app(second, tmp_path / "two", ["", "y"])
    with pytest.raises(BchatError) as error:
        execute(f"/save {file}", app)
    assert error.value.key == "save.another"
    assert "ひとつ" in file.read_text(encoding="utf-8")
    execute(f"/save {file}", app)
    assert "ふたつ" in file.read_text(encoding="utf-8")
    execute(f"/load {file}", app)
    drain(second.reply("みっつ"))
    execute(f"/save {file}", app)
    assert "みっつ" in file.read_text(encoding="utf-8")


def test_no_two_commands_share_a_name() -> None:
    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    assert len(names) == len(set(names))
    assert all(find(name).name == command.name for command in COMMANDS for name in (command.name, *command.aliases))


def test_every_command_of_the_plan_is_there() -> None:
    wanted = "help settings set temperature temp top_p top_k repetition_penalty max_new_tokens seed preset persona"
    wanted += " undo retry edit clear history prompt save load resume export model exit lang"
    assert [name for name in wanted.split() if name not in table._BY_NAME] == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_help_explains_every_command_in_both_languages(
    app: tuple[App, Shown, Any], command: table.Command, lang: str
) -> None:
    chat, shown, _ = app
    chat.screen.lang = lang
    description = messages.render(f"command.{command.name}", lang)
    names = ", ".join(f"/{each}" for each in command.aliases)
    also = (messages.render("help.aliases", lang, names=names),) if names else ()
    for name in (command.name, f"/{command.name}", *command.aliases):
        execute(f"/help {name}", chat)
        if command.name in RANGES:
            assert shown.rows[-1][0] == command.name
        else:
            assert shown.rows[0] == (command.usage, description, *also)
        shown.rows.clear()


@pytest.mark.parametrize("name", [each.name for each in COMMANDS if f"examples.{each.name}" in messages.TABLE])
@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_the_examples_of_help_are_commands(name: str, lang: str) -> None:
    for line in messages.render(f"examples.{name}", lang).split("\n"):
        typed, _, _ = line.partition(" — ")
        typed_name, argument = table.split(inward(typed))
        assert find(typed_name).name == name
        assert bool(argument) <= bool(find(name).arguments)


@pytest.mark.parametrize("name", [name for name in RANGES if name not in TEXTS])
def test_every_setting_is_a_command(app: tuple[App, Shown, Any], name: str) -> None:
    chat, _, _ = app
    execute(f"/{name} {RANGES[name].example}", chat)
    value = getattr(chat.session.settings.parameters, name)
    assert value == type(value)(RANGES[name].example)


@pytest.mark.parametrize("name", RANGES)
def test_help_explains_every_setting(app: tuple[App, Shown, Any], name: str) -> None:
    chat, shown, _ = app
    execute(f"/help {name}", chat)
    assert shown.rows[0][0] == name
    assert shown.keys == [f"parameter.{name}", "settings.example"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_only_commands_that_take_something_are_given_it(app: tuple[App, Shown, Any], command: table.Command) -> None:
    chat, _, _ = app
    if not command.arguments:
        assert refused(f"/{command.name} something", chat).key == "command.no-argument"
    elif not command.arguments.startswith("["):
        assert command.usage in str(refused(f"/{command.name}", chat))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_completion_offers_arguments_with_a_remark(app: tuple[App, Shown, Any], command: table.Command) -> None:
    chat, _, _ = app
    if callable(command.choices):
        assert all(text and isinstance(remark, str) for text, remark in command.choices(chat, ""))


# -- reading a line -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "is_one"), [("/help", True), ("／ｈｅｌｐ", True), ("/", True), ("//etc", False), ("／／x", False)]
)
def test_a_line_that_begins_with_one_slash_is_a_command(line: str, is_one: bool) -> None:
    assert is_command(line) is is_one
    assert not is_command(line[1:]) or line.startswith(("//", "／／"))


@pytest.mark.parametrize("line", ["  /temp 0.4", "　／ｔｅｍｐ　０．４", "\t/temp 0.4"])
def test_blanks_before_a_command_do_not_make_it_a_message(line: str, app: tuple[App, Shown, Any]) -> None:
    assert is_command(line)
    execute(line, app[0])
    assert app[0].session.settings.parameters.temperature == 0.4
    assert not is_command(" //temp")


@pytest.mark.parametrize(("line", "message"), [("//text", "/text"), ("／／text", "／text"), ("a//b", "a//b")])
def test_two_slashes_send_one(line: str, message: str) -> None:
    assert message_of(line) == message


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("/temperature 0.7", "temperature", 0.7),
        ("／ｔｅｍｐ　０．７", "temperature", 0.7),
        ("/TEMP 0.7 ", "temperature", 0.7),
        ("/temp=0.7", "temperature", 0.7),
        ("/temp = 0.7", "temperature", 0.7),
        ("/tempe 0.7", "temperature", 0.7),
        ("/set temp=0.7", "temperature", 0.7),
        ("／ｓｅｔ　ｔｏｐ＿ｐ＝０．９", "top_p", 0.9),
        ("/top-p 0.9", "top_p", 0.9),
        ("/set top_k  =  20", "top_k", 20),
        ("/set\ttop_k\n20", "top_k", 20),
        ("/penalty 1.1", "repetition_penalty", 1.1),
        ("/max_tokens ６４", "max_new_tokens", 64),
        ("/seed 42", "seed", 42),
    ],
)
def test_a_setting_is_changed_however_it_is_written(
    app: tuple[App, Shown, Any], line: str, name: str, value: float
) -> None:
    chat, shown, engine = app
    assert execute(line, chat) is None
    assert getattr(chat.session.settings.parameters, name) == value
    assert shown.rows == [(name, str(value), shown.rows[0][2], "/set")]
    drain(chat.session.reply("?"))
    assert getattr(engine.parameters[-1], name) == value


def test_several_settings_are_changed_together_or_not_at_all(app: tuple[App, Shown, Any]) -> None:
    chat, _, _ = app
    refused("/set temperature=0.5 top_k 20 top_p=7", chat)
    refused("/set temperature=0.5 tempreture=1", chat)
    refused("/set temperature=0.5 top_k", chat)
    execute("/set temperature=0.5, top_k 20", chat)
    parameters = chat.session.settings.parameters
    assert (parameters.temperature, parameters.top_k) == (0.5, 20)
    execute("/temp 0.6 top_k=10", chat)
    parameters = chat.session.settings.parameters
    assert (parameters.temperature, parameters.top_k) == (0.6, 10)


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        (r'/set stop "\n" "。"', {"stop": ("\n", "。")}),
        (r"/set stop \n 。 temp 0.5", {"stop": ("\n", "。"), "temperature": 0.5}),
        ('/set stop="a b", "c,d" top_k=3', {"stop": ("a b", "c,d"), "top_k": 3}),
        ("／ｓｅｔ　ｓｔｏｐ　＂！？＂", {"stop": ("！？",)}),
        ('/set stop "temperature" temperature', {"stop": ("temperature",), "temperature": None}),
        (r'/set stop "say \"no\"" \\', {"stop": ('say "no"', "\\")}),
        ('/set bad_words 猫 "犬" id:12', {"bad_words": ("猫", "犬", "id:12")}),
        ('/set logit_bias "猫" = 5 id:7=－２', {"logit_bias": ("猫=5", "id:7=-2")}),
        ("/set penalty_scope reply", {"penalty_scope": "reply"}),
        ("/set min_p ０．０５", {"min_p": 0.05}),
        ("/set no_repeat_ngram_size　４", {"no_repeat_ngram_size": 4}),
    ],
)
def test_texts_are_set_as_they_are_written(app: tuple[App, Shown, Any], line: str, changes: dict[str, Any]) -> None:
    chat, _, _ = app
    if None in changes.values():
        refused(line, chat)
        return
    execute(line, chat)
    found = vars(chat.session.settings.parameters)
    assert {name: found[name] for name in changes} == changes
    assert chat.session.settings.provenance[next(iter(changes))] == "session"


@pytest.mark.parametrize("word", ["none", "off", "ＮＯＮＥ", "なし", "default"])
def test_texts_are_taken_away_by_a_word(app: tuple[App, Shown, Any], word: str) -> None:
    chat, _, _ = app
    execute('/set stop "none" "x"', chat)
    assert chat.session.settings.parameters.stop == ("none", "x")
    execute(f"/set stop {word}", chat)
    assert chat.session.settings.parameters.stop == ()
    refused("/set stop", chat)
    refused("/set stop temp 0.5", chat)


def test_retry_takes_texts_beside_a_preset(app: tuple[App, Shown, Any]) -> None:
    chat, _, _ = app
    drain(chat.session.reply("?"))
    action = execute(r'/retry calm stop "\n" "終わり" top_k 3', chat)
    assert isinstance(action, Retry)
    assert action.change == SettingsChange("calm", {"stop": ("\n", "終わり"), "top_k": 3})


def test_a_rare_setting_is_listed_where_it_differs_from_off(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    execute("/settings", chat)
    listed = [row[0] for row in shown.rows]
    assert "min_p" not in listed
    assert "temperature" in listed
    assert "min_p" in shown.said[-1].values["names"]
    shown.rows.clear()
    execute("/set min_p 0.1 stop x", chat)
    shown.rows.clear()
    execute("/settings", chat)
    assert {"min_p": "0.1", "stop": '"x"'}.items() <= {row[0]: row[1] for row in shown.rows}.items()


@pytest.mark.parametrize("name", RANGES)
def test_the_example_of_a_setting_can_be_typed_and_shown_again(app: tuple[App, Shown, Any], name: str) -> None:
    chat, _, _ = app
    execute(f"/set {name} {RANGES[name].example}", chat)
    value = getattr(chat.session.settings.parameters, name)
    assert value != getattr(DecodingParameters(), name) or RANGES[name].low == value or name.startswith("dry_")
    execute(f"/set {name} {format_value(value)}", chat)
    assert getattr(chat.session.settings.parameters, name) == value


def test_a_seed_can_be_taken_away_again(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    execute("/seed 5", chat)
    execute("/seed ＮＯＮＥ", chat)
    assert chat.session.settings.parameters.seed is None
    assert shown.rows[-1][1] == "new each time"


@pytest.mark.parametrize(
    ("line", "key", "hint"),
    [
        ("/tempreture 0.5", "command.unknown", "Did you mean /temperature?"),
        ("/xyzzy", "command.unknown", "start it with //"),
        ("/re", "command.several", "/retry, /replies, /repetition_penalty, /resume"),
        ("/usr/bin/ls", "command.unknown", "//"),
        ("/set tempreture 1", "setting.unknown", "Did you mean temperature?"),
        ("/set temperature", "command.value-missing", "/set temperature 0.7"),
        ("/min_p 3", "setting.range", "between 0 and 1"),
        ("/compare temperature=abc", "setting.type", "abc"),
        ("/compare --dif", "command.no-choice", "--dif"),
        ("/set stop", "command.value-missing", '/set stop "\\n"'),
        ("/temp 11", "setting.range", "between 0 and 10"),
        ("/temp nan", "setting.range", "temperature"),
        ("/temp warm", "setting.type", "a number"),
        ("/top_k 0.5", "setting.type", "a whole number"),
        ("/top_p 0", "setting.range", "top_p"),
        ("/seed -1", "setting.range", "seed"),
        ("/temp 0.7 0.8", "command.one-value", "temperature takes one value; 0.8"),
        ("/set top_p=0.7 temp 1 \N{MINUS SIGN}1", "command.one-value", "temperature takes one value"),
        ("/preset ballanced", "preset.unknown", "Did you mean balanced?"),
        ("/retry temp=99", "setting.range", "temperature"),
        ("/retry bogus=1", "setting.unknown", "bogus"),
        ("/help nothing", "command.unknown", "nothing"),
        ("/undo 3", "undo.count", "2 turns"),
        ("/undo 0", "undo.count", "2 turns"),
        ("/undo all", "undo.count", "all"),
        ("/undo ½", "undo.count", "2 turns"),
        ("/lang fr", "lang.unknown", "fr"),
        ("/model sfft", "model.unknown", "Did you mean sft?"),
        ("/model sft", "model.not-here", "/pull sft"),
        ("/model " + "x" * 5000, "model.unreadable", ""),
        ("/model ./nothing", "model.no-directory", "nothing"),
        ("/load nothing.json", "transcript.unreadable", "nothing.json"),
        ("/load .", "transcript.not-a-file", "regular file"),
        ("/resume", "resume.none", ""),
        ("/export x.pdf", "transcript.suffix", ".md"),
        ("/export x.htm", "transcript.suffix", "Did you mean .html?"),
        ("/save x.md", "save.export", "/export x.md"),
        ("/save /nowhere/at/all.json", "transcript.not-written", "no such file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(
    app: tuple[App, Shown, Any], line: str, key: str, hint: str
) -> None:
    chat, _, engine = app
    error = refused(line, chat)
    assert error.key == key
    assert hint in error.sentence("en", "chat")
    assert len(engine.prompts) == 2


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([command.name for command in COMMANDS] + ["", "set temperature", "set top_k=", "help /"]),
    st.sampled_from(["", " ", "　", "=", " ="]),
    st.one_of(st.text(max_size=20), st.text("0123456789.-=/~'\" \\\0\ud800naif", max_size=12)),
)
def test_no_line_makes_anything_but_a_sentence(app: tuple[App, Shown, Any], name: str, gap: str, argument: str) -> None:
    """Every line is either executed or raises a BchatError that can be shown."""
    chat, shown, _ = app
    if name in ("save", "export"):  # only below this test's own directory
        argument = argument.replace("/", "_")
    try:
        execute(f"/{name}{gap}{argument}", chat)
    except BchatError as error:
        shown.said.append(error)
    for said in shown.said:
        for lang in messages.LANGUAGES:
            messages.render(said.key, lang, **said.values).encode()
    shown.said.clear()


# -- settings and presets -----------------------------------------------------------------------------


def test_settings_shows_every_value_its_range_and_where_it_came_from(
    conversations: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "bchat.toml").write_text('preset = "calm"\n[decoding]\ntop_k = 33\n')
    monkeypatch.setenv("BCHAT_TOP_P", "0.123456789")
    session, _ = make_session(conversations)
    app, shown = make_app(session, conversations)
    session.settings = settings_for(load_config(), session.entry, None, {"max_new_tokens": 99})
    execute("/temp 0", app)
    shown.rows.clear()
    execute("/settings", app)
    assert shown.rows == [
        ("SETTING", "VALUE", "RANGE", "FROM"),
        ("temperature", "0", "0 – 10", "/set"),
        ("top_k", "33", "0 – 100000", paths.shorten(here / "bchat.toml")),
        ("top_p", "0.123456789", "0.0001 – 1", "environment"),
        ("repetition_penalty", "1.05", "0.1 – 10", "preset calm"),
        ("min_new_tokens", "0", "0 – 8192", "preset calm"),
        ("max_new_tokens", "99", "1 – 8192", "command line"),
        ("seed", "new each time", "0 – 2^63-1", "default"),
    ]


def test_a_preset_is_listed_and_chosen(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    execute("/preset ＣＡＬＭ", chat)
    assert chat.session.settings.parameters.temperature == 0.3
    assert (shown.said[-1].key, shown.said[-1].values["name"]) == ("preset.chosen", "calm")
    execute("/presets", chat)
    names = [row[0] for row in shown.rows]
    assert "* calm" in names
    assert len(names) == len(chat.config.presets)


def test_the_file_that_changed_a_preset_is_named_for_what_it_changed(app: tuple[App, Shown, Any], here: Path) -> None:
    chat, shown, _ = app
    (here / "bchat.toml").write_text("[presets.calm]\ntemperature = 0.31\n")
    chat.session.settings = settings_for(load_config(environment={}), chat.session.entry)
    execute("/preset calm", chat)
    execute("/settings", chat)
    file = paths.shorten(here / "bchat.toml")
    rows = {row[0]: row[-1] for row in shown.rows}
    assert (rows["temperature"], rows["top_p"]) == (f"preset calm ({file})", "preset calm")


def test_a_preset_says_which_values_it_replaces_that_were_no_presets(app: tuple[App, Shown, Any], here: Path) -> None:
    chat, shown, _ = app
    (here / "bchat.toml").write_text('preset = "calm"\n[decoding]\ntop_p = 0.85\nmax_new_tokens = 99\n')
    chat.session.settings = settings_for(load_config(environment={}), chat.session.entry)
    execute("/set temperature 0.7 repetition_penalty 1.1", chat)
    execute("/preset creative", chat)
    values = f"temperature 0.7 (/set), top_p 0.85 ({paths.shorten(here / 'bchat.toml')})"
    assert chat.text(shown.said[-1]) == f"Preset creative; it replaces {values}."  # type: ignore[arg-type]
    execute("/preset calm", chat)
    assert shown.keys[-1] == "preset.chosen", "creative's own values were nobody's"


def test_a_preset_may_ask_for_a_fresh_seed() -> None:
    config = load_config(environment={})
    fresh = Preset("fresh", {"seed": None, "temperature": 0.123456789})
    assert preset_rows(config.__class__((), {"fresh": fresh}, {}), "en")[0][1] == "seed=random temp=0.123456789"


def test_the_language_is_changed_and_confirmed_in_it(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    execute("/lang 日本語", chat)
    assert chat.lang == "ja"
    assert shown.texts == ["bchat のメッセージを日本語にしました。"]
    execute("/lang ｅｎ", chat)
    assert chat.lang == "en"


# -- the conversation ---------------------------------------------------------------------------------


def test_undo_takes_back_as_many_turns_as_it_says(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    execute("/undo ２", chat)
    assert chat.session.conversation.turns == ()
    assert [said.values["text"] for said in shown.said] == ["に", "いち"]
    assert read_journal(chat.session.journal_path).conversation.turns == ()  # type: ignore[arg-type]
    for line in ("/undo", "/undo 1", "/retry", "/edit"):
        assert refused(line, chat).key == "session.nothing-to-undo"


@pytest.mark.parametrize(
    ("line", "changes"),
    [("/retry", {}), ("/retry temp=0.3", {"temperature": 0.3}), ("/again　ｔｏｐ＿ｋ　５", {"top_k": 5})],
)
def test_retry_is_for_the_loop_with_its_settings(
    app: tuple[App, Shown, Any], line: str, changes: dict[str, Any]
) -> None:
    assert execute(line, app[0]) == Retry(SettingsChange(values=changes))


def test_edit_gives_the_last_words_back(app: tuple[App, Shown, Any]) -> None:
    chat, _, _ = app
    assert execute("/edit", chat) == Edit("に", replaces_last=True)
    with pytest.raises(BchatError):
        drain(chat.session.reply("長い" * 3000))
    assert execute("/edit", chat) == Edit("長い" * 3000, replaces_last=False)


@pytest.mark.parametrize("name", ["exit", "quit", "q", "bye"])
def test_leaving_is_for_the_loop(app: tuple[App, Shown, Any], name: str) -> None:
    assert execute(f"/{name}", app[0]) == Leave()


def test_the_cards_first_sentence_gives_the_cards_opening(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    execute("/clear", chat)
    execute("/persona Hello, you are an assistant that helps me learn Japanese.", chat)
    execute("/prompt VRはなんですか。", chat)
    assert shown.texts == [
        "ユーザー: Hello, you are an assistant that helps me learn Japanese.\n"
        "システム: Sure, what can I do for you?\n"
        "ユーザー: VRはなんですか。\nシステム: "
    ]


def test_a_persona_is_kept_as_typed_and_can_be_taken_away(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    execute("／ｐｅｒｓｏｎａ　Ａ＝ｶﾅ　です。\n  二行目", chat)
    assert chat.session.conversation.opening[0].text == "Ａ＝ｶﾅ　です。\n  二行目"
    execute("/persona", chat)
    assert shown.texts[-1].startswith("Ａ＝ｶﾅ")
    execute("/persona ＮＯＮＥ", chat)
    assert chat.session.conversation.opening == ()
    execute("/persona", chat)
    assert shown.keys == ["persona.set", "persona.removed", "persona.none"]


def test_a_base_model_has_no_persona(conversations: Path, here: Path) -> None:
    session, _ = make_session(conversations, entry=PLAIN)
    app, _ = make_app(session, conversations)
    assert refused("/persona 先生", app).key == "persona.base"
    execute("/persona none", app)


def test_history_marks_the_replies_that_are_not_whole(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    session = chat.session
    session.conversation = session.conversation.with_turn(Turn("さん", "途中", FinishReason.INTERRUPTED))
    execute("/history", chat)
    assert shown.texts[0].split("\n") == [
        "[1] ユーザー: いち",
        "システム: 一です。",
        "[2] ユーザー: に",
        "システム: 二です。",
        "[3] ユーザー: さん",
        "システム: 途中  [stopped by you]",
    ]


@pytest.mark.parametrize("argument", ["次は？", "ids", "ids 次は？", "ｉｄｓ　次は？"])
def test_prompt_is_exactly_what_the_engine_gets(app: tuple[App, Shown, Any], argument: str) -> None:
    chat, shown, engine = app
    execute(f"/prompt {argument}", chat)
    message = "" if argument == "ids" else "次は？"
    drain(chat.session.reply(message))
    ids = engine.prompts[-1]
    assert shown.texts == [tokenizer().decode(ids) if argument == "次は？" else " ".join(map(str, ids))]
    counts = shown.said[0].values
    assert (counts["tokens"], counts["context"], counts["dropped"]) == (len(ids), 2048, 0)


# -- files --------------------------------------------------------------------------------------------


def test_saving_twice_without_a_name_makes_one_file(app: tuple[App, Shown, Any], here: Path) -> None:
    chat, shown, _ = app
    execute("/save", chat)
    drain(chat.session.reply("さん"))
    execute("/save", chat)
    assert shown.keys == ["save.done", "save.done"]
    (path,) = here.iterdir()
    assert [turn.user for turn in read_document(path).conversation.turns] == ["いち", "に", "さん"]
    assert "いち" in path.read_text(encoding="utf-8")
    execute("/clear", chat)
    drain(chat.session.reply("別"))
    execute("/save .", chat)
    assert len(list(here.iterdir())) == 2


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Ａ　ｂ.json", "Ａ　ｂ.json"),
        ("'with space.json'", "with space.json"),
        ('"q.json"', "q.json"),
        ("with space.json", "with space.json"),
        ("it's.json", "it's.json"),
    ],
)
def test_a_file_is_named_as_typed(app: tuple[App, Shown, Any], here: Path, typed: str, name: str) -> None:
    execute(f"/save {typed}", app[0])
    assert [path.name for path in here.iterdir()] == [name]


def test_a_tilde_is_the_home(app: tuple[App, Shown, Any], home: Path) -> None:
    home.mkdir(exist_ok=True)
    execute("/save ~/mine.json", app[0])
    assert (home / "mine.json").is_file()
    execute("/load ~/mine.json", app[0])


@pytest.mark.parametrize(
    ("line", "key", "question"),
    [
        ("/save notes.txt", "transcript.not-ours", "save.overwrite"),
        ("/export notes.md", "transcript.exists", "save.exists"),
    ],
)
def test_a_foreign_file_is_overwritten_only_with_a_yes(
    conversations: Path, here: Path, line: str, key: str, question: str
) -> None:
    session, _ = make_session(conversations)
    drain(session.reply("x"))
    path = here / line.split()[1]
    path.write_text("precious")
    for answer in ("", "n", "no"):
        app, _ = make_app(session, conversations, [answer])
        assert refused(line, app).key == key
        assert app.reader.questions == [app.text(Phrase(question, path=path.name))]
        assert path.read_text() == "precious"
    execute(line, make_app(session, conversations, ["ｙ"])[0])
    assert "precious" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.jsonl", "A.MD"])
def test_export_writes_each_format(app: tuple[App, Shown, Any], here: Path, name: str) -> None:
    execute(f"/export {name}", app[0])
    assert "一です。" in (here / name).read_text(encoding="utf-8")


def test_nothing_said_is_nothing_to_write(conversations: Path, here: Path) -> None:
    session, _ = make_session(conversations)
    app, shown = make_app(session, conversations)
    assert refused("/save x.json", app).key == "history.nothing-to-save"
    assert refused("/export x.md", app).key == "history.nothing-to-save"
    execute("/history", app)
    assert shown.keys == ["history.empty"]
    assert list(here.iterdir()) == []


def test_history_marks_a_turn_that_has_other_replies(conversations: Path) -> None:
    session, _ = make_session(conversations, ["一", "二"])
    app, shown = make_app(session, conversations)
    drain(session.reply("いち"))
    drain(session.retry())
    drain(session.reply("に"))
    execute("/history", app)
    assert shown.texts[-1].count("[reply ") == 1
    assert "二  [reply 2 of 2]" in shown.texts[-1]


def test_resuming_says_where_the_turns_of_a_full_journal_are(
    conversations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bilingual_chat.transcript.journal.FULL", 3_000)
    monkeypatch.setattr("bilingual_chat.transcript.journal.COPIED", 1_500)
    session, _ = make_session(conversations, ["はい。"] * 8)
    for number in range(8):
        drain(session.reply(f"問い{number}"))
    path = session.journal_path
    session.close()
    again, _ = make_session(conversations)
    app, shown = make_app(again, conversations)
    assert path is not None
    execute(f"/resume {path.stem}", app)
    (said,) = (each for each in shown.said if each.key == "load.continues")
    assert (conversations / f"{said.values['id']}.jsonl").exists()


def test_what_is_saved_is_loaded_and_gone_on_with(app: tuple[App, Shown, Any], here: Path) -> None:
    chat, shown, engine = app
    execute("/save a.json", chat)
    turns = chat.session.conversation.turns
    old = chat.session.journal_path
    execute("/clear", chat)
    assert execute("/load a.json", chat) is None
    assert [(turn.user, turn.reply) for turn in chat.session.conversation.turns] == [(t.user, t.reply) for t in turns]
    assert shown.keys[-1] == "load.done"
    drain(chat.session.reply("さん"))
    assert chat.session.journal_path != old
    assert "一です。" in tokenizer().decode(engine.prompts[-1])
    assert len(read_journal(chat.session.journal_path).conversation.turns) == 3  # type: ignore[arg-type]


def test_where_nothing_can_stand_in_the_line_edit_says_what_the_next_one_does(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    assert isinstance(execute("/edit", chat), Edit)
    assert shown.said == []
    chat.reader.has_editor = False
    assert isinstance(execute("/edit", chat), Edit)
    assert shown.keys == ["edit.next-line"]


def test_a_message_without_a_reply_comes_back_into_the_line(app: tuple[App, Shown, Any], here: Path) -> None:
    """It is still there when the file is saved again before the message is sent."""
    chat, shown, _ = app
    card = [{"speaker": "ユーザー", "text": "VRはなんですか。"}]
    (here / "card.json").write_text(json.dumps(card), encoding="utf-8")
    assert execute("/load card.json", chat) == Edit("VRはなんですか。", replaces_last=False)
    assert shown.keys[-1] == "load.pending"
    execute("/save again.json", chat)
    assert read_document(here / "again.json").pending_user == "VRはなんですか。"


@pytest.mark.parametrize("how", ["/resume 1", "/load a.json"])
def test_settings_and_a_model_other_than_the_last_replys_are_reported(
    conversations: Path, here: Path, how: str
) -> None:
    """They never apply automatically; the command in the notice restores them, and then there is no notice."""
    first, _ = make_session(conversations, ["はい"], options={"temperature": 0.4, "top_k": 7, "seed": 5})
    drain(first.reply("話"))
    execute("/save a.json", make_app(first, conversations)[0])
    first.close()
    session, _ = make_session(conversations)
    app, shown = make_app(session, conversations)
    execute(how, app)
    notice = shown.said[-1]
    assert notice.key == "load.other-settings"
    assert notice.values["changes"] == "temperature=0.4 top_k=7"
    execute(f"/set {notice.values['changes']}", app)
    execute("/load a.json", app)
    assert shown.keys[-1] == "load.done"
    session.entry = replace(session.entry, name="another")
    turn = session.conversation.turns[-1]
    by_demo = replace(turn, details={**turn.details, "model": "demo"})
    session.conversation = replace(session.conversation, turns=(by_demo,))
    execute("/save b.json", app)
    execute("/load b.json", app)
    assert (shown.said[-1].key, shown.said[-1].values) == ("load.other-model", {"name": "demo"})


@pytest.mark.parametrize(
    "details",
    [{"settings": 7}, {"settings": {"temperature": "hot", "top_p": 99, "top_k": None, "x": 1}}, {"model": ["demo"]}],
)
def test_recorded_values_that_are_no_settings_are_not_reported(conversations: Path, here: Path, details: Any) -> None:
    said = [
        {"speaker": "ユーザー", "text": "話"},
        {"speaker": "システム", "text": "はい", **details},
    ]
    (here / "a.json").write_text(json.dumps(said), encoding="utf-8")
    app, shown = make_app(make_session(conversations)[0], conversations)
    execute("/load a.json", app)
    assert shown.keys[-1] == "load.done"


@pytest.mark.parametrize("answer", ["１", "/resume 1", "／ｒｅｓｕｍｅ　１"])
def test_resume_lists_earlier_conversations_and_goes_on_in_one(conversations: Path, here: Path, answer: str) -> None:
    first, _ = make_session(conversations, ["はい"])
    drain(first.reply("最初の話"))
    first.close()
    (path,) = conversations.glob("*.jsonl")
    session, _ = make_session(conversations)
    drain(session.reply("別の話"))
    app, shown = make_app(session, conversations, ["", answer])
    assert execute("/resume", app) is None  # Enter: none
    assert [row[0] for row in shown.rows] == ["1"]
    assert "最初の話" in shown.rows[0][-1]
    assert refused("/resume 2", app).key == "resume.unknown"
    execute("/resume", app)
    assert session.journal_path == path
    drain(session.reply("続き"))
    assert [turn.user for turn in read_journal(path).conversation.turns] == ["最初の話", "続き"]


def test_a_damaged_conversation_is_listed_with_a_word_in_both_languages(conversations: Path, here: Path) -> None:
    first, _ = make_session(conversations, ["はい"])
    drain(first.reply("話"))
    first.close()
    (path,) = conversations.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], b"{broken\n", lines[-1]]))
    app, shown = make_app(make_session(conversations)[0], conversations)
    for lang, mark in (("en", "(damaged)"), ("ja", "（破損あり）")):
        app.screen.lang = lang
        execute("/resume", app)
        assert shown.rows[-1][-1] == f"話  {mark}"


def test_resume_takes_an_id(conversations: Path, here: Path) -> None:
    first, _ = make_session(conversations)
    drain(first.reply("話"))
    name = first.snapshot().header.id
    first.close()
    session, _ = make_session(conversations)
    app, _ = make_app(session, conversations)
    execute(f"/resume {name.upper()}", app)
    assert session.conversation.turns[0].user == "話"


def test_a_conversation_that_is_open_elsewhere_is_gone_on_with_in_a_copy(conversations: Path, here: Path) -> None:
    other, _ = make_session(conversations)
    drain(other.reply("話"))
    path = other.journal_path
    session, _ = make_session(conversations)
    app, shown = make_app(session, conversations)
    execute("/resume", app)
    assert shown.rows[-1][-1] == "話  (open in a bchat)"
    shown.said.clear()
    execute("/resume 1", app)
    assert shown.keys == ["transcript.locked", "load.done"]
    drain(session.reply("続き"))
    drain(other.reply("こちら"))
    assert session.journal_path != path
    assert [turn.user for turn in session.conversation.turns] == ["話", "続き"]
    assert [turn.user for turn in read_journal(path).conversation.turns] == ["話", "こちら"]  # type: ignore[arg-type]


def test_a_resumed_journal_is_given_back_when_the_old_one_cannot_be_left(
    conversations: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = make_session(conversations)
    drain(first.reply("話"))
    first.close()
    session, _ = make_session(conversations)
    app, _ = make_app(session, conversations)

    def hindered(*args: Any) -> None:
        raise BchatError("transcript.not-saved", path="x", reason="y")

    with monkeypatch.context() as patch:
        patch.setattr(session, "continue_from", hindered)
        assert refused("/resume 1", app).key == "transcript.not-saved"
    execute("/resume 1", app)
    assert [session.journal_path] == list(conversations.glob("*.jsonl"))


# -- models -------------------------------------------------------------------------------------------


def test_another_model_keeps_the_conversation(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    turns = chat.session.conversation.turns
    execute(f"/model '{paths.demo_model_dir()}'", chat)
    assert chat.loader.obtain().entry.name == "demo"
    assert chat.session.conversation.turns == turns
    execute("/model ｄｅｍｏ", chat)
    assert (chat.session.entry.name, chat.session.settings.preset) == ("demo", "demo")
    assert shown.said[-1].values == {"name": "demo", "preset": "demo"}
    execute("/models", chat)
    assert [row[0] for row in shown.rows if row[0].startswith("*")] == ["* demo"]


def test_the_model_in_force_is_not_opened_again(app: tuple[App, Shown, Any]) -> None:
    chat, _, _ = app
    execute("/model demo", chat)
    model = chat.loader.obtain()
    execute("/model demo", chat)
    assert chat.loader.obtain() is model


def test_text_of_settings_is_checked_and_named_in_full() -> None:
    assert parse_settings("") == {}
    assert parse_settings("temp=1，　ｔｏｐ＿ｋ５".replace("ｋ５", "ｋ＝５")) == {"temperature": 1.0, "top_k": 5}
    with pytest.raises(BchatError) as caught:
        parse_settings("temperature 0,7")
    assert caught.value.status is ExitStatus.USAGE


# -- the forms of settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "change"),
    [
        ("creative", SettingsChange("creative")),
        ("preset=Creative", SettingsChange("creative")),
        ("temp=1,seed=3", SettingsChange(values={"temperature": 1.0, "seed": 3})),
        ("temp=1, seed=3", SettingsChange(values={"temperature": 1.0, "seed": 3})),
        ("temp = 1、seed 3", SettingsChange(values={"temperature": 1.0, "seed": 3})),
        ("ｃａｌｍ，ｔｏｐ－ｋ　５", SettingsChange("calm", {"top_k": 5})),
        ("calm,temperature 0.9", SettingsChange("calm", {"temperature": 0.9})),
        ("temp=default,calm", SettingsChange("calm", {"temperature": "default"})),
    ],
)
def test_retry_and_compare_take_the_same_forms(app: tuple[App, Shown, Any], typed: str, change: SettingsChange) -> None:
    chat, _, _ = app
    action = execute(f"/retry {typed}", chat)
    assert isinstance(action, Retry)
    assert action.change == change
    compared = execute(f"/compare greedy {typed}", chat)
    assert isinstance(compared, Compare)
    _, variant = compared.variants
    wanted = chat.session.settings.with_change(change).parameters
    assert replace(variant.parameters, seed=None) == replace(wanted, seed=None)
    assert variant.preset == change.preset


def test_a_preset_with_a_long_name_can_be_compared(app: tuple[App, Shown, Any], here: Path) -> None:
    """Only an error shows the beginning of the name alone."""
    chat, _, _ = app
    (here / "bchat.toml").write_text(f"[presets.{'long' * 15}]\ntemperature = 0.31\n")
    chat.session.settings = settings_for(load_config(environment={}), chat.session.entry)
    action = execute(f"/retry {'long' * 15}", chat)
    assert isinstance(action, Retry)
    assert action.change.preset == "long" * 15


@pytest.mark.parametrize("line", ["/retry {}", "/compare greedy {}"])
@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("clam", "command.no-choice"),
        ("bogus=1", "setting.unknown"),
        ("temp=99", "setting.range"),
        ("calm,creative", "command.one-value"),
        ("temp", "command.value-missing"),
    ],
)
def test_what_is_no_form_is_refused_by_both(app: tuple[App, Shown, Any], line: str, typed: str, key: str) -> None:
    assert refused(line.format(typed), app[0]).key == key


@pytest.mark.parametrize("line", ["/set temp default", "/set temperature=DEFAULT,seed 3", "/temperature 既定"])
def test_default_takes_back_what_was_set_here(app: tuple[App, Shown, Any], line: str) -> None:
    """Nothing else changes: the values of the command line, a file or the preset are in force again."""
    chat, shown, _ = app
    chat.session.change(chat.session.settings.changed("temperature", 0.6, config.OPTION))
    execute("/set temperature 1.5 top_k 7", chat)
    shown.rows.clear()
    execute(line, chat)
    settings = chat.session.settings
    assert (settings.parameters.temperature, settings.provenance["temperature"]) == (0.6, config.OPTION)
    assert settings.parameters.top_k == 7
    assert shown.rows[0][:2] == ("temperature", "0.6")
    execute(line, chat)
    assert chat.session.settings.parameters.temperature == 0.6


@pytest.mark.parametrize("word", ["-h", "--help"])
@pytest.mark.parametrize("name", ["undo", "last", "take", "temperature"])
def test_a_command_explains_itself(app: tuple[App, Shown, Any], name: str, word: str) -> None:
    chat, shown, _ = app
    before = chat.session.conversation
    execute(f"/{name} {word}", chat)
    assert name in shown.rows[0][0]
    assert chat.session.conversation == before


# -- what a model cannot do ---------------------------------------------------------------------------


def test_a_persona_is_set_with_a_remark_where_the_model_is_too_small(app: tuple[App, Shown, Any]) -> None:
    chat, shown, _ = app
    chat.session.entry = replace(chat.session.entry, follows_persona=False)
    execute("/persona You are a cat.", chat)
    assert shown.keys == ["persona.set", "persona.not-followed"]
    execute("/persona none", chat)
    assert shown.keys[2:] == ["persona.removed"]


def test_a_base_model_reports_that_it_gets_no_persona(conversations: Path, here: Path) -> None:
    """After /model, and after a conversation was loaded."""
    first, _ = make_session(conversations, ["はい"])
    first.open_with((Utterance(Speaker.USER, "先生です"), Utterance(Speaker.SYSTEM, "はい")))
    drain(first.reply("問"))
    app, _ = make_app(first, conversations)
    execute("/save a.json", app)
    session, _ = make_session(conversations, entry=PLAIN)
    chat, shown = make_app(session, conversations)
    execute("/load a.json", chat)
    assert "persona.not-told" in shown.keys


def test_only_the_embedded_model_is_known_to_follow_no_persona() -> None:
    entries = load_config(environment={}).catalogue.values()
    assert [entry.name for entry in entries if not entry.follows_persona] == ["demo"]


@pytest.mark.parametrize("name", table.OF_SHELL)
def test_a_command_of_the_shell_is_named_where_it_works(app: tuple[App, Shown, Any], name: str) -> None:
    error = refused(f"/{name} x", app[0])
    assert error.key == "command.of-shell"
    assert f"bchat {table.OF_SHELL[name]}" in error.sentence("ja", "chat")
