"""Every sentence is in both languages, is used, and gets the values it wants."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import bilingual_chat
from bilingual_chat.errors import BchatError
from bilingual_chat.messages import TABLE, Phrase, did_you_mean, render

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
    """Whether this `render` is that of messages and not that of prompt."""
    if isinstance(function, ast.Attribute):
        return True
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(i.module == "bilingual_chat.messages" and any(n.name == "render" for n in i.names) for i in imports)


@pytest.mark.parametrize("key", TABLE)
def test_both_languages_speak_of_the_same_things(key: str) -> None:
    english, japanese = TABLE[key]
    assert placeholders(english) == placeholders(japanese)
    assert bool(english) == bool(japanese)


def test_every_key_that_is_spoken_is_in_the_table() -> None:
    missing = [f"{where} {key}" for where, _, key in speaking_calls() if key not in TABLE]
    assert not missing


def test_every_sentence_gets_the_values_it_wants() -> None:
    """A placeholder without a value would raise where an error should have been explained."""
    wrong = []
    for where, call, key in speaking_calls():
        given = {keyword.arg for keyword in call.keywords}
        if None not in given and key in TABLE and not placeholders(TABLE[key].en) <= given:
            wrong.append(f"{where} {key}: {sorted(placeholders(TABLE[key].en) - given)}")
    assert not wrong


def test_every_sentence_is_used() -> None:
    """A key counts as used where it is written, or where an f-string begins as it does."""
    written: set[str] = set()
    beginnings: set[str] = set()
    for name, tree in modules():
        table = next((n for n in tree.body if isinstance(n, ast.AnnAssign) and name == "messages.py"), None)
        own = {id(k) for k in ast.walk(table)} if table else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in own:
                written.add(node.value)
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                beginnings.add(str(node.values[0].value))
    prefixes = tuple(beginning for beginning in beginnings if beginning.endswith("."))
    assert [key for key in TABLE if key not in written and not key.startswith(prefixes)] == []


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
