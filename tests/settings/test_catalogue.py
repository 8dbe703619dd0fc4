"""The models: the shipped table, the search by name or path, and the state on this machine."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.catalogue import ModelEntry, default_entry, find, load_catalogue, locate, open_path
from bilingual_chat.settings.config import load_config
from bilingual_chat.settings.toml_tables import WrongValue
from bilingual_chat.storage import paths
from bilingual_chat.text.prompt import PromptFormat

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def shipped() -> dict[str, ModelEntry]:
    return dict(load_config(environment={}).catalogue)


def make_model(directory: Path, config: dict[str, Any] | None = None, weights: str = "model.safetensors") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config or {}))
    for name in ("spiece.model", weights):
        (directory / name).write_bytes(b"x")
    return directory


def make_cached(hub_id: str, commit: str = COMMIT, *, ref: bool = True) -> Path:
    """A whole model in the hub's cache, as huggingface_hub stores it: links to blobs."""
    folder = paths.hub_cache() / f"models--{hub_id.replace('/', '--')}"
    snapshot = make_model(folder / "snapshots" / commit)
    blob = folder / "blobs" / commit
    blob.parent.mkdir(parents=True, exist_ok=True)
    (snapshot / "model.safetensors").replace(blob)
    (snapshot / "model.safetensors").symlink_to(os.path.relpath(blob, snapshot))
    if ref:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs/main").write_text(commit)
    return snapshot


SPEAKER_TEXT, NL = PromptFormat(), PromptFormat(separator="<NL>", newline="<NL>")
# name: hub id, kind, format, context, preset — the model cards.
CARDS = {
    "sft": ("rinna/bilingual-gpt-neox-4b-instruction-sft", "chat", SPEAKER_TEXT, 2048, "card"),
    "ppo": ("rinna/bilingual-gpt-neox-4b-instruction-ppo", "chat", SPEAKER_TEXT, 2048, "card"),
    "base": ("rinna/bilingual-gpt-neox-4b", "base", PromptFormat("plain"), 2048, "card-base"),
    "base-8k": ("rinna/bilingual-gpt-neox-4b-8k", "base", PromptFormat("plain"), 8192, "card-base"),
    "j-ppo": ("rinna/japanese-gpt-neox-3.6b-instruction-ppo", "chat", NL, 2048, "card-3.6b-ppo"),
    "j-sft": ("rinna/japanese-gpt-neox-3.6b-instruction-sft", "chat", NL, 2048, "card-3.6b-sft"),
    "j-sft-v2": ("rinna/japanese-gpt-neox-3.6b-instruction-sft-v2", "chat", NL, 2048, "card-3.6b-ppo"),
    "j-base": ("rinna/japanese-gpt-neox-3.6b", "base", PromptFormat("plain", newline="<NL>"), 2048, "card-3.6b-base"),
}


def test_the_shipped_table_matches_the_cards(shipped: dict[str, ModelEntry]) -> None:
    said = {e.name: (e.hub_id, e.kind, e.prompt, e.context_length, e.preset) for e in shipped.values() if e.hub_id}
    assert said == CARDS
    assert list(shipped) == [*CARDS, "demo"]


def test_the_shipped_table_holds_the_published_facts(shipped: dict[str, ModelEntry]) -> None:
    """Checksums, parameter counts, scores, and the two models that are bfloat16 despite their config."""
    sft = shipped["sft"]
    assert sft.weights_md5["pytorch_model.bin"] == "de72aa5b66beee7b65783c96f687d186"
    assert sft.withdrawn_md5 == ("edf190a323c0ae63f71476700fb0b462",)
    assert dict(sft.scores) == {"4-task": 61.02, "6-task": 61.69}
    assert {e.parameters for e in shipped.values() if e.hub_id} == {3_796_120_064, 3_607_245_312}
    assert [name for name, e in shipped.items() if e.hub_id and e.dtype == "bfloat16"] == ["ppo", "j-ppo"]
    assert all(e.licence and e.describe("en") and e.describe("ja") != e.describe("en") for e in shipped.values())


@pytest.mark.parametrize(
    "name",
    [
        "sft",
        " SFT ",
        "ｓｆｔ",
        "4b-sft",
        "bilingual-gpt-neox-4b-instruction-sft",
        "rinna/bilingual-gpt-neox-4b-instruction-sft",
    ],
)
def test_a_model_is_found_by_any_of_its_names(shipped: dict[str, ModelEntry], name: str) -> None:
    assert find(shipped, name).name == "sft"


def test_no_two_models_share_a_name(shipped: dict[str, ModelEntry]) -> None:
    names = [name for entry in shipped.values() for name in entry.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "meant"), [("sfft", "sft"), ("j-pop", "j-ppo"), ("bilingual-gpt-neox-4b-sft", "bilingual-gpt-neox-4b")]
)
def test_a_slip_in_a_name_gets_a_suggestion(shipped: dict[str, ModelEntry], name: str, meant: str) -> None:
    with pytest.raises(BchatError) as caught:
        find(shipped, name)
    assert caught.value.status is ExitStatus.MODEL
    assert f"Did you mean {meant}" in str(caught.value)
    assert "j-sft-v2" in str(caught.value)


def test_a_directory_opens_by_path_and_is_named_after_it(
    shipped: dict[str, ModelEntry], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_model(tmp_path / "mine")
    entry = find(shipped, str(directory))
    assert (entry.name, entry.kind, entry.prompt) == ("mine", "chat", PromptFormat())
    assert locate(entry) == directory
    make_model(home / "models/other")
    assert find(shipped, "~/models/other").name == "other"
    monkeypatch.chdir(tmp_path)
    relative = find(shipped, "mine")
    monkeypatch.chdir(home)
    assert locate(relative) == directory


def test_a_name_wins_over_a_directory_of_that_name(
    shipped: dict[str, ModelEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(tmp_path / "sft")
    monkeypatch.chdir(tmp_path)
    assert find(shipped, "sft").hub_id
    assert find(shipped, "./sft").directory == str(tmp_path / "sft")


def test_a_copy_of_a_known_model_keeps_its_format(shipped: dict[str, ModelEntry], tmp_path: Path) -> None:
    """By the name of the directory, by the entry of transformers in config.json, or in the hub's cache."""
    by_name = open_path(make_model(tmp_path / "japanese-gpt-neox-3.6b-instruction-ppo"), shipped)
    assert (by_name.prompt, by_name.preset) == (NL, "card-3.6b-ppo")
    source = {"_name_or_path": "rinna/japanese-gpt-neox-3.6b-instruction-sft"}
    saved = open_path(make_model(tmp_path / "x", source), shipped)
    assert (saved.name, saved.prompt) == ("x", NL)
    cached = open_path(make_cached("rinna/bilingual-gpt-neox-4b"), shipped)
    assert (cached.name, cached.kind) == ("bilingual-gpt-neox-4b", "base")


def test_what_was_trained_from_a_base_model_is_taken_for_a_chat_model(
    shipped: dict[str, ModelEntry], tmp_path: Path
) -> None:
    entry = open_path(make_model(tmp_path / "x", {"_name_or_path": "rinna/bilingual-gpt-neox-4b"}), shipped)
    assert (entry.kind, entry.prompt.kind) == ("chat", "speaker-text")


@pytest.mark.parametrize("missing", ["config.json", "spiece.model", "model.safetensors"])
def test_a_directory_without_a_whole_model_is_refused(
    shipped: dict[str, ModelEntry], tmp_path: Path, missing: str
) -> None:
    (make_model(tmp_path / "x") / missing).unlink()
    with pytest.raises(BchatError) as caught:
        find(shipped, str(tmp_path / "x"))
    assert (caught.value.key, caught.value.values["file"]) == ("model.incomplete", missing)


def test_a_path_that_leads_nowhere_is_refused(shipped: dict[str, ModelEntry], tmp_path: Path) -> None:
    for path in (str(tmp_path / "no"), "./no", "~/no"):
        with pytest.raises(BchatError) as caught:
            find(shipped, path)
        assert caught.value.key == "model.no-directory"


def test_garbage_in_config_json_is_left_to_the_engine(shipped: dict[str, ModelEntry], tmp_path: Path) -> None:
    directory = make_model(tmp_path / "x")
    for garbage in (b"\xff", b"[" * 100_000, b"[]", b'{"_name_or_path": 3}'):
        (directory / "config.json").write_bytes(garbage)
        assert open_path(directory, shipped).name == "x"


def test_a_sharded_model_is_whole_only_with_every_shard(tmp_path: Path) -> None:
    directory = make_model(tmp_path / "x", weights="pytorch_model.bin.index.json")
    index = {"weight_map": {"a": "one.bin", "b": "two.bin"}}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (directory / "one.bin").touch()
    assert catalogue.missing_file(directory) == "two.bin"
    (directory / "two.bin").touch()
    assert catalogue.missing_file(directory) is None


def test_a_model_in_the_hubs_cache_is_found(shipped: dict[str, ModelEntry]) -> None:
    assert locate(shipped["sft"]) is None
    snapshot = make_cached(shipped["sft"].hub_id)
    assert locate(shipped["sft"]) == snapshot
    assert locate(shipped["ppo"]) is None


def test_the_snapshot_of_the_ref_comes_first_and_a_whole_one_before_half_a_one(shipped: dict[str, ModelEntry]) -> None:
    """While a newer commit is downloaded, the older model still opens."""
    old = make_cached(shipped["sft"].hub_id, "1" * 40, ref=False)
    new = make_cached(shipped["sft"].hub_id, "2" * 40)
    os.utime(new, (0, 0))
    assert locate(shipped["sft"]) == new
    (new / "spiece.model").unlink()
    assert locate(shipped["sft"]) == old


def test_a_pinned_revision_is_that_one_or_none(shipped: dict[str, ModelEntry]) -> None:
    pinned = load_catalogue({"sft": {"revision": "1" * 40}}, shipped)["sft"]
    make_cached(pinned.hub_id, "2" * 40)
    assert locate(pinned) is None
    old = make_cached(pinned.hub_id, "1" * 40, ref=False)
    assert locate(pinned) == old


def test_a_link_to_a_blob_that_is_gone_is_no_model(shipped: dict[str, ModelEntry]) -> None:
    snapshot = make_cached(shipped["sft"].hub_id)
    (snapshot / "model.safetensors").resolve().unlink()
    assert locate(shipped["sft"]) is None


FAULTS = (errno.EACCES, errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.ELOOP, errno.ENAMETOOLONG)


@pytest.fixture(params=FAULTS, ids=[errno.errorcode[number] for number in FAULTS])
def fault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Nothing below `tmp_path / "bad"` is readable; return the reason as shown."""
    bad, reason = str(tmp_path / "bad"), os.strerror(request.param)
    for name in ("stat", "lstat", "listdir", "scandir", "open"):
        real = getattr(os, name)

        def call(path: Any, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            if str(path).startswith(bad):
                raise OSError(request.param, reason, path)
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, name, call)
    return reason


def test_an_unreadable_directory_is_skipped_and_reported(
    shipped: dict[str, ModelEntry], tmp_path: Path, fault: str
) -> None:
    models = load_catalogue({"x": {"directory": str(tmp_path / "bad")}}, shipped)
    assert locate(models["x"]) is None
    found = catalogue.trouble(models["x"])
    assert found is not None
    assert found[0] == tmp_path / "bad"
    assert [name for name, entry in models.items() if catalogue.trouble(entry)] == ["x"]
    assert default_entry(models).name == "demo"
    for act in (lambda: catalogue.require_here(models["x"]), lambda: find(models, str(tmp_path / "bad" / "model"))):
        with pytest.raises(BchatError) as caught:
            act()
        assert (caught.value.key, caught.value.status) == ("model.unreadable", ExitStatus.MODEL)
        assert fault.lower() in str(caught.value).lower()


def test_an_unreadable_cache_is_reported_once(
    shipped: dict[str, ModelEntry], tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "bad"))
    assert [locate(entry) for entry in shipped.values() if entry.hub_id] == [None] * 8
    found = [catalogue.trouble(entry) for entry in shipped.values() if entry.hub_id]
    assert {trouble and trouble[0] for trouble in found} == {tmp_path / "bad"}


def test_the_real_model_opens_if_it_is_here_else_the_embedded_one(
    shipped: dict[str, ModelEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "demo_model_dir", lambda: make_model(tmp_path / "demo"))
    assert default_entry(shipped).name == "demo"
    assert locate(shipped["demo"]) == tmp_path / "demo"
    make_cached(shipped["sft"].hub_id)
    assert default_entry(shipped).name == "sft"


def test_a_table_changes_the_keys_it_names_only(shipped: dict[str, ModelEntry]) -> None:
    changed = load_catalogue({"j-ppo": {"preset": "calm", "prompt": {"user_label": "U"}}}, shipped)["j-ppo"]
    assert changed.preset == "calm"
    assert changed.prompt == PromptFormat(user_label="U", separator="<NL>", newline="<NL>")
    assert changed.hub_id == shipped["j-ppo"].hub_id


def test_a_new_base_model_gets_plain_prompts() -> None:
    entry = load_catalogue({"x": {"hub_id": "a/b", "kind": "base"}})["x"]
    assert entry.prompt.kind == "plain"


WRONG = {
    "a slip": ({"x": {"hub_id": "a/b", "contxt_length": 1}}, ("x", "contxt_length"), "context_length"),
    "a name as key": ({"x": {"name": "y"}}, ("x", "name"), "unknown key 'name'"),
    "no place": ({"x": {"kind": "chat"}}, ("x",), "needs hub_id"),
    "no table": ({"x": 3}, ("x",), "x must be a table"),
    "a kind": ({"x": {"hub_id": "a/b", "kind": "chta"}}, ("x", "kind"), "Did you mean chat"),
    "a format": ({"x": {"hub_id": "a/b", "prompt": {"kind": "plan"}}}, ("x", "prompt", "kind"), "Did you mean plain"),
    "a format's key": ({"x": {"prompt": {"seperator": "|"}}}, ("x", "prompt", "seperator"), "Did you mean separator"),
    "an empty newline": ({"x": {"prompt": {"newline": ""}}}, ("x", "prompt", "newline"), "must not be empty"),
    "a count": ({"x": {"parameters": "4B"}}, ("x", "parameters"), "a whole number"),
    "a negative count": ({"x": {"parameters": -1}}, ("x", "parameters"), "a whole number"),
    "a flag for a count": ({"x": {"parameters": True}}, ("x", "parameters"), "a whole number"),
    "a score": ({"x": {"scores": {"a": "b"}}}, ("x", "scores", "a"), "a number"),
    "a text for a list": ({"x": {"aliases": "y"}}, ("x", "aliases"), "a list of strings"),
    "a language": ({"x": {"description": {"fr": "y"}}}, ("x", "description", "fr"), "unknown key 'fr'"),
    "a dtype": ({"x": {"dtype": "float8"}}, ("x", "dtype"), "float16"),
    "a flag": ({"x": {"embedded": 1}}, ("x", "embedded"), "true or false"),
    "NUL in a hub id": ({"x": {"hub_id": "a/b\0"}}, ("x", "hub_id"), "owner/name"),
    "a hub id that leads elsewhere": ({"x": {"hub_id": "../b"}}, ("x", "hub_id"), "owner/name"),
    "a hub id of two names in one": ({"x": {"hub_id": "a--b/c"}}, ("x", "hub_id"), "owner/name"),
    "a long hub id": ({"x": {"hub_id": "a/" + "b" * 95}}, ("x", "hub_id"), "owner/name"),
    "a revision that leads elsewhere": ({"x": {"hub_id": "a/b", "revision": "../b"}}, ("x", "revision"), "branch"),
    "NUL in a directory": ({"x": {"directory": "a\0b"}}, ("x", "directory"), "NUL"),
    "a context of no machine": ({"x": {"hub_id": "a/b", "context_length": 1 << 31}}, ("x", "context_length"), "from 0"),
    "a number of no machine": ({"x": {"hub_id": "a/b", "parameters": 1 << 70}}, ("x", "parameters"), "from 0 to"),
    "a score that is no number": (
        {"x": {"hub_id": "a/b", "scores": {"a": float("nan")}}},
        ("x", "scores", "a"),
        "number",
    ),
    "a score of no float": ({"x": {"hub_id": "a/b", "scores": {"a": 1 << 5000}}}, ("x", "scores", "a"), "number"),
    "no MD5": ({"x": {"hub_id": "a/b", "withdrawn_md5": ["0"]}}, ("x", "withdrawn_md5"), "32 hexadecimal digits"),
    "a long name": ({"x" * 30_000: {"hub_id": "a/b"}}, ("x" * 30_000,), "longer than 20,000 characters"),
    "a taken alias": ({"x": {"hub_id": "a/b", "aliases": ["SFT"]}}, ("x", "aliases"), "model 'sft'"),
    "a taken name": ({"4b-sft": {"hub_id": "a/b"}}, ("4b-sft",), "model 'sft'"),
}


@pytest.mark.parametrize(("models", "path", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_table_is_refused_at_the_very_key(
    shipped: dict[str, ModelEntry], models: dict[str, Any], path: tuple[str, ...], said: str
) -> None:
    with pytest.raises(WrongValue) as caught:
        load_catalogue(models, shipped)
    assert caught.value.path == path
    problem = caught.value.problem
    assert said in BchatError(problem.key, **problem.values).sentence("en")
    assert BchatError(problem.key, **problem.values).sentence("ja")


def test_like_gives_a_directory_the_format_of_another_model(shipped: dict[str, ModelEntry], tmp_path: Path) -> None:
    """It does not say that it belongs to the 3.6B family; the facts about its own weights stay."""
    entry = ModelEntry("mine", directory=str(tmp_path), context_length=99, withdrawn_md5=("a" * 32,))
    spoken = catalogue.spoken_to_like(entry, shipped["j-base"])
    like = shipped["j-base"]
    assert (
        (spoken.kind, spoken.prompt, spoken.preset) == (like.kind, like.prompt, like.preset) != ("chat", None, "card")
    )
    assert replace(spoken, kind=entry.kind, prompt=entry.prompt, preset=entry.preset) == entry
