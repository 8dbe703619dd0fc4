"""Every sentence is in both languages, is used, and gets its values."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter

import pytest

import bilingual_chat
from bilingual_chat import messages
from bilingual_chat.messages import FORMS, LANGUAGES, TABLE, Phrase, did_you_mean, render
from bilingual_chat.messages.errors import BchatError

PACKAGE = Path(bilingual_chat.__file__).parent
SPEAKING = {"BchatError", "Phrase", "render"}


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def spoken_keys(call: ast.Call) -> list[str]:
    """The keys written in the call itself: a literal, or the branches of "a" if x else "b"."""
    return [
        node.value for node in _branches(call.args[0]) if isinstance(node, ast.Constant) and type(node.value) is str
    ]


def _branches(expression: ast.expr) -> list[ast.expr]:
    if isinstance(expression, ast.IfExp):
        return _branches(expression.body) + _branches(expression.orelse)
    return [expression]


def speaking_calls() -> Iterator[tuple[str, ast.Call, str]]:
    """(where, call, key) for every BchatError("key", …), Phrase("key", …) and messages.render("key", …)."""
    for name, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            owner = getattr(getattr(function, "value", None), "id", "messages")
            if called in SPEAKING and owner in ("messages", "errors"):
                if called == "render" and owner == "messages" and not _renders_messages(function, tree):
                    continue
                for key in spoken_keys(node):
                    yield f"{name}:{node.lineno}", node, key


def _renders_messages(function: ast.expr, tree: ast.Module) -> bool:
    """Return True if this `render` is that of messages and not that of prompt."""
    if isinstance(function, ast.Attribute):
        return True
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(i.module == "bilingual_chat.messages" and any(n.name == "render" for n in i.names) for i in imports)


def entries(path: Path) -> list[tuple[str, object]]:
    """The entries of one file in order; duplicate keys are kept."""
    return list(json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=lambda pairs: pairs))


def test_every_file_is_read_and_every_key_is_there_once() -> None:
    files = [path for path in (PACKAGE / "messages").glob("*.json") if path.stem != "forms"]
    keys = [key for path in files for key, _ in entries(path)]
    assert sorted(keys) == sorted(TABLE)


@pytest.mark.parametrize("path", sorted((PACKAGE / "messages").glob("*.json")), ids=lambda path: path.stem)
def test_the_files_are_written_alike(path: Path) -> None:
    """Two spaces, one language a line, Japanese unescaped: each change is one line of a diff."""
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=2) + "\n"


@pytest.mark.parametrize("key", TABLE)
def test_both_languages_speak_of_the_same_things(key: str) -> None:
    english, japanese = TABLE[key]
    assert placeholders(english) == placeholders(japanese)
    assert bool(english) == bool(japanese)


def test_every_key_that_is_spoken_is_in_the_table() -> None:
    missing = [f"{where} {key}" for where, _, key in speaking_calls() if key not in TABLE]
    assert not missing


def test_every_sentence_gets_the_values_it_wants() -> None:
    """A placeholder without a value would raise instead of explaining an error."""
    wrong = []
    for where, call, key in speaking_calls():
        given = {keyword.arg for keyword in call.keywords}
        if None not in given and key in TABLE and not placeholders(TABLE[key].en) <= given:
            wrong.append(f"{where} {key}: {sorted(placeholders(TABLE[key].en) - given)}")
    assert wrong == []


def test_every_sentence_is_used() -> None:
    """A key counts as used where it is written, or where an f-string begins as it does."""
    written: set[str] = set()
    beginnings: set[str] = set()
    for _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                written.add(node.value)
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                beginnings.add(str(node.values[0].value))
    prefixes = tuple(startup for startup in beginnings if startup.endswith("."))
    bare = [key.partition("@")[0] for key in TABLE]
    assert [key for key in bare if key not in written and not key.startswith(prefixes)] == []


def test_a_phrase_speaks_the_language_of_the_whole() -> None:
    error = BchatError("setting.type", name="top_k", kind=Phrase("kind.int"), value="x")
    assert error.sentence("en") == str(error) == "top_k takes a whole number, not 'x'."
    assert error.sentence("ja").startswith("top_k には整数を")


def test_a_suggestion_is_a_clause_or_nothing() -> None:
    phrase = did_you_mean("tempreture", ["temperature", "top_p"])
    assert render(phrase.key, "en", **phrase.values) == " Did you mean temperature?"
    assert render(did_you_mean("zzz", ["temperature"]).key, "ja") == ""


def test_braces_in_a_value_are_not_placeholders() -> None:
    assert "{name}" in BchatError("setting.unknown", name="{name}", suggestion=Phrase("nothing")).sentence("ja")


# -- advice fits the place ----------------------------------------------------------------------------

IN_CHAT = re.compile(r"(?<![\w/.}>])/(?:[a-z_]+|\{name\})")  # a slash command
IN_SHELL = re.compile(r"bchat (?:pull|rm|ask|models|presets|transcripts|bench|where|chat|--)|(?<!-)--(?!diff)[a-z]")
# Said in a chat only, and in a shell only; what is said elsewhere (engines, hub, settings …) may be said in both.
CHAT_ROOMS = (
    "commands/",
    "terminal/chat.py",
    "terminal/editor.py",
    "terminal/reader.py",
    "session/model_loader.py",
    "session/compare.py",
    "cli/chat.py",
)
SHELL_ROOMS = ("cli/", "bench/", "explore/", "bootstrap/", "__main__.py")
# Said by a key that is put together: what is described, and where.
CHAT_KEYS = ("command.", "parameter.", "brief.", "examples.", "layer.", "help.", "finish.", "session.same-")
CHAT_KEYS += ("session.stopped-at-once",)
SHELL_KEYS = ("cli.", "option.", "bench.", "path.", "sweep.", "report.", "duel.", "models.legend")


@cache
def rooms_that_say() -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {key: set() for key in TABLE if "@" not in key}
    for where, _, key in speaking_calls():
        rooms[key].add(where.partition(":")[0])
    return rooms


def keys_said_outside(rooms: tuple[str, ...], keys: tuple[str, ...]) -> Iterator[str]:
    """The keys that are shown elsewhere too."""
    for key, said in rooms_that_say().items():
        if not (said and all(room.startswith(rooms) for room in said)) and not key.startswith(keys):
            yield key


def shown_in(key: str, interface: str) -> messages.Message:
    return TABLE.get(f"{key}@{interface}", TABLE[key])


def test_no_advice_in_the_shell_is_a_slash_command() -> None:
    """`/retry` typed there is a path that does not exist."""
    wrong = [
        key for key in keys_said_outside(CHAT_ROOMS, CHAT_KEYS) if any(map(IN_CHAT.search, shown_in(key, "shell")))
    ]
    assert wrong == []


def test_advice_in_a_chat_says_where_a_command_of_the_shell_belongs() -> None:
    """`--quantize none` typed there is a message for the model."""
    wrong = [
        key
        for key in keys_said_outside(SHELL_ROOMS, SHELL_KEYS)
        for sentence, shell in zip(shown_in(key, "chat"), ("shell", "シェル"), strict=True)
        if IN_SHELL.search(sentence) and shell not in sentence
    ]
    assert wrong == []


def test_a_sentence_for_one_place_wants_no_other_values() -> None:
    """The result does not depend on the reader."""
    for key in TABLE:
        bare, at, place = key.partition("@")
        if at:
            assert place in ("chat", "shell")
            assert placeholders(TABLE[key].en) <= placeholders(TABLE[bare].en) | {"known"}


def test_a_part_of_a_sentence_is_said_in_the_place_of_the_whole() -> None:
    error = BchatError("config.wrong", where="here", problem=Phrase("session.length"))
    assert "--set max_new_tokens" in error.sentence("en", "shell")
    assert "/max_new_tokens" in error.sentence("en", "chat")


# -- counts -------------------------------------------------------------------------------------------

# What is counted somewhere; other values are names, sizes and limits.
COUNTED = ("count", "turns", "dropped", "tokens", "characters", "positions", "prompt", "context", "last")


def formats(sentence: str) -> Iterator[tuple[str, str]]:
    return ((name, spec or "") for _, name, spec, _ in Formatter().parse(sentence) if name is not None)


def test_one_of_anything_is_singular() -> None:
    """Neither "1 turns" nor "turn(s)" nor "from 1 to 1", with each count in a sentence being 1."""
    wrong = []
    for key in TABLE:
        for message, lang in zip(TABLE[key], LANGUAGES, strict=True):
            values = {name: 1 if spec or name in COUNTED else "X" for name, spec in formats(message)}
            said = render(key, lang, **values)
            if "(s)" in message or re.search(r"\b1 (?!is\b)[a-z]+s\b|\b1 ?(?:to|から|〜|~|–|-) ?1\b(?!\.)", said):
                wrong.append(said)
    assert wrong == []


@pytest.mark.parametrize(("count", "english"), [(0, "0 turns"), (1, "1 turn"), ("1", "1 turn"), (21, "21 turns")])
def test_a_count_takes_its_own_form(count: int | str, english: str) -> None:
    assert render("load.done", "en", turns=count) == f"Continuing after {english}."
    assert render("load.done", "ja", turns=count) == f"{count} 往復の会話を続けます。"


def test_every_form_is_used_and_every_format_is_a_form() -> None:
    used = {spec for message in TABLE.values() for sentence in message for _, spec in formats(sentence) if spec}
    assert used == {*FORMS, "parameters"}


def test_the_size_of_a_model_is_in_the_units_of_the_language() -> None:
    assert "(6.6 million parameters)" in render("banner.demo", "en", name="demo", size=6_570_752)
    assert "（660 万パラメーター）" in render("banner.demo", "ja", name="demo", size=6_570_752)
