"""The public Python API: what it exports, what its documentation promises, and that importing it costs nothing."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest

import bilingual_chat as bchat
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.transcript.document import read_document
from tests.fresh_python import HEAVY, loaded_after
from tests.pseudo_terminal import ROOT

PAGES = ("docs/api.md", "docs/ja/api.md")
PROMPT = "ユーザー: こんにちは\nシステム: "


def code(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def model() -> bchat.Model:
    return bchat.open("demo", device="cpu")


# -- what is public -----------------------------------------------------------------------------------


def test_nothing_else_is_public() -> None:
    """Beside the package's rooms, which Python makes attributes when something imports them."""
    public = (
        "[n for n, value in vars(b).items() if n[0] != '_' and 'bilingual_chat' not in getattr(value, '__name__', '')]"
    )
    loaded_after(f"import bilingual_chat as b; b.open; assert {public} == [], {public}")
    assert len(bchat.__all__) <= 20
    assert dir(bchat) == sorted(bchat.__all__)
    assert all(hasattr(bchat, name) for name in bchat.__all__)
    with pytest.raises(AttributeError):
        bchat.Session  # type: ignore[attr-defined]  # noqa: B018


def test_importing_it_loads_no_heavy_library() -> None:
    assert not loaded_after("import bilingual_chat as bchat; bchat.open, bchat.Model") & HEAVY


def test_importing_the_package_alone_loads_none_of_its_rooms() -> None:
    """The set-up and `bchat --help` import it."""
    loaded_after("import bilingual_chat; assert not [name for name in sys.modules if 'bilingual_chat.' in name]")


def test_each_public_method_has_an_example() -> None:
    for owner in (bchat.Model, bchat.Chat):
        for name, member in vars(owner).items():
            if not name.startswith("_") and not isinstance(member, property):
                assert "Example: `" in (member.__doc__ or ""), f"{owner.__name__}.{name}"
            if not name.startswith("_") and isinstance(member, property):
                assert member.__doc__, f"{owner.__name__}.{name}"
    assert "Example: `" in (bchat.open.__doc__ or "")


def test_the_settings_are_those_of_decoding() -> None:
    fields = [field.name for field in dataclasses.fields(DecodingParameters)]
    assert list(bchat.DecodingSettings.__annotations__) == fields


@pytest.mark.parametrize("page", PAGES)
def test_the_page_names_everything_that_is_public(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    names = [name for name in bchat.__all__ if not name.startswith("_")]
    names += [name for owner in (bchat.Model, bchat.Chat) for name in vars(owner) if not name.startswith("_")]
    assert [name for name in names if not re.search(rf"`{name}\b", text)] == []


# -- the documentation runs ---------------------------------------------------------------------------


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in code(PAGES[0]):
        exec(compile(block, PAGES[0], "exec"), names)
    out = capsys.readouterr().out
    assert "temperature" in out
    assert "perplexity" in out
    assert read_document(tmp_path / "x.json").conversation.turns[0].user == "こんにちは"


def test_both_languages_show_the_same_code() -> None:
    assert code(PAGES[0]) == code(PAGES[1]) != []


# -- the promises of the docstrings -------------------------------------------------------------------


def test_a_seed_gives_the_same_reply_and_the_pieces_are_the_reply(model: bchat.Model) -> None:
    chat = model.chat(temperature=1.5, top_k=0, seed=3)
    pieces = list(chat.reply("こんにちは"))
    assert "".join(pieces) == chat.turns[-1].reply
    assert "".join(model.chat().reply("こんにちは", temperature=1.5, top_k=0, seed=3)) == chat.turns[-1].reply
    assert chat.turns[-1].details["seed"] == 3
    assert chat.last is not None
    assert chat.last.parameters.temperature == 1.5


def test_settings_of_a_reply_apply_to_it_alone(model: bchat.Model) -> None:
    chat = model.chat(temperature=0)
    list(chat.reply("Hello!", max_new_tokens=1))
    assert chat.turns[-1].finish is bchat.FinishReason.LENGTH
    assert chat.remarks != ()
    list(chat.reply("Hello!"))
    assert chat.turns[-1].finish is bchat.FinishReason.STOP
    assert chat.remarks == ()


def test_wrong_settings_are_refused_at_once_and_leave_no_trace(model: bchat.Model) -> None:
    chat = model.chat()
    for wrong in ({"temperature": 99}, {"temprature": 1}, {"preset": "zzz"}):
        with pytest.raises(bchat.BchatError):
            chat.reply("Hello!", **wrong)  # type: ignore[arg-type]
    assert chat.turns == ()
    assert chat._session.pending is None


def test_text_before_an_interrupt_is_kept_and_saved(model: bchat.Model, tmp_path: Path) -> None:
    chat = model.chat(temperature=0)
    for first in chat.reply("Hello!"):  # noqa: B007
        break
    assert chat.turns[-1].reply == first
    list(chat.retry())
    assert [turn.finish for turn in chat.turns[-1].replies] == ["interrupted", "stop"]
    loaded = model.load(chat.save(tmp_path / "a.json"))
    assert loaded.turns[-1].replies == chat.turns[-1].replies


def test_two_chats_may_take_turns_within_a_reply(model: bchat.Model) -> None:
    alone = ["".join(model.chat(temperature=0).reply(text)) for text in ("Hello!", "こんにちは")]
    both = [model.chat(temperature=0).reply(text) for text in ("Hello!", "こんにちは")]
    pieces = ["", ""]
    for index in [0, 1] * 200:
        pieces[index] += next(both[index], "")
    assert pieces == alone


def test_a_persona_opens_the_chat(model: bchat.Model) -> None:
    assert model.chat(persona="あなたは猫です。").prompt("やあ").text.startswith("ユーザー: あなたは猫です。\n")
    assert model.chat(persona="").prompt("やあ").text == "ユーザー: やあ\nシステム: "


def test_generating_the_ids_of_a_prompt_gives_the_reply(model: bchat.Model) -> None:
    chat = model.chat(temperature=0)
    reply = "".join(chat.reply("こんにちは"))
    ids = list(model.generate(model.encode(PROMPT), temperature=0))
    assert model.decode(ids) == reply
    assert chat.last is not None
    assert tuple(ids) == chat.last.reply_ids
    assert len(list(model.generate(model.encode(PROMPT), temperature=0, max_new_tokens=2))) == 2


def test_scores_are_log_probabilities(model: bchat.Model) -> None:
    """Of each id after the ids before it, independent of later ones; the greedy continuation scores best."""
    ids = model.encode(PROMPT * 20)  # several passes
    scores = model.score(ids)
    assert len(scores) == len(ids) - 1
    assert all(-100 < score < 0 for score in scores)
    assert model.score(ids[:50]) == pytest.approx(scores[:49], abs=1e-3)
    start = model.encode(PROMPT)
    [best] = model.generate(start, temperature=0, max_new_tokens=1)
    every = [math.exp(model.score([*start, other])[-1]) for other in range(0, 200, 10)]
    assert max(every) <= math.exp(model.score([*start, best])[-1])
    assert sum(every) <= 1
    assert model.score(start[:1]) == []


def test_ids_that_are_none_are_refused(model: bchat.Model) -> None:
    for wrong in ([], [-1], [10**6]):
        with pytest.raises(ValueError, match="id"):
            model.score(wrong)
        with pytest.raises(ValueError, match="id"):
            list(model.generate(wrong))
    with pytest.raises(bchat.BchatError):
        model.score([5] * (model.context_length + 1))


def test_a_model_that_is_not_here_is_refused_with_a_remedy() -> None:
    with pytest.raises(bchat.BchatError, match="bchat pull"):
        bchat.open("sft")
    with pytest.raises(bchat.BchatError):
        bchat.open("no-such-model")


def test_the_users_own_conversations_are_left_alone(model: bchat.Model, tmp_path: Path) -> None:
    """A library writes only to the given paths."""
    before = sorted(Path.home().rglob("*"))
    list(model.chat().reply("Hello!"))
    assert sorted(Path.home().rglob("*")) == before
