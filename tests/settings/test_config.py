"""Layers of settings: their order, the origin of each value, and errors in files."""

from __future__ import annotations

import errno
import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bilingual_chat.messages import LANGUAGES, render
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import Config, Settings, load_config, parse_assignments, settings_for, typed_value
from bilingual_chat.settings.decoding import RANGES, DecodingParameters, checked
from bilingual_chat.settings.presets import find_preset
from bilingual_chat.settings.toml_tables import line_of
from bilingual_chat.storage import paths
from tests.runs import posix

SFT = ModelEntry("sft", hub_id="a/b", preset="card")
DEMO = ModelEntry("demo", embedded=True, preset="demo")
USER, PROJECT = "~/.config/bchat/config.toml", "bchat.toml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "bchat.toml"


def write_user(text: str) -> Path:
    path = paths.config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(user: str = "", project: Path | None = None, project_text: str = "", **environment: str) -> Config:
    if user:
        write_user(user)
    if project is not None:
        project.write_text(project_text, encoding="utf-8")
    return load_config(environment={f"BCHAT_{name}": value for name, value in environment.items()})


# -- what ships -------------------------------------------------------------------------------------

# max_new_tokens, min_new_tokens, temperature, top_p, repetition_penalty — the model cards; top_k 50 was in force.
CARDS = {
    "card": (512, 0, 1.0, 0.85, 1.0),
    "card-base": (100, 100, 1.0, 0.95, 1.0),
    "card-base-code": (200, 200, 1.0, 0.5, 1.0),
    "card-3.6b-ppo": (128, 0, 0.7, 1.0, 1.1),
    "card-3.6b-sft": (128, 0, 0.7, 1.0, 1.0),
    "card-3.6b-base": (100, 100, 0.8, 1.0, 1.0),
    "demo": (200, 0, 0.0, 1.0, 1.0),
}


def test_the_shipped_presets_are_the_cards_settings_with_top_k_written_out() -> None:
    presets = load().presets
    names = ("max_new_tokens", "min_new_tokens", "temperature", "top_p", "repetition_penalty")
    assert {card: tuple(presets[card].values[name] for name in names) for card in CARDS} == CARDS
    assert all(presets[card].values["top_k"] == 50 for card in CARDS)
    assert {"calm", "balanced", "creative", "greedy"} <= set(presets)
    assert presets["greedy"].values["temperature"] == 0.0


def test_every_shipped_preset_is_described_in_both_languages() -> None:
    for preset in load().presets.values():
        assert preset.describe("en")
        assert preset.describe("ja") != preset.describe("en")


def test_every_model_names_a_preset_that_there_is() -> None:
    config = load()
    assert {entry.preset for entry in config.catalogue.values()} <= set(config.presets)


# -- which wins -------------------------------------------------------------------------------------


def test_without_files_the_models_own_preset_is_in_force() -> None:
    it = settings_for(load(), DEMO)
    assert it.parameters == DecodingParameters(temperature=0.0, max_new_tokens=200)
    assert it.preset == "demo"
    assert it.provenance["temperature"] == "preset demo"
    assert it.provenance["seed"] == "default"


def test_each_layer_overrides_the_weaker_ones(project: Path) -> None:
    """One parameter in each layer: every stronger layer overrides the weaker ones, and is named as the origin."""
    names = ["temperature", "top_p", "repetition_penalty", "top_k", "max_new_tokens", "seed"]
    values = {name: [0.11, 0.22, 0.33, 0.44, 0.55] for name in names[:3]} | {
        name: [11, 22, 33, 44, 55] for name in names[3:]
    }
    # the first name is set in every layer, the second in all but the strongest, and so on
    layers = [names[: len(names) - depth] for depth in range(5)]
    config = load(
        "[decoding]\n" + "".join(f"{n} = {values[n][0]}\n" for n in layers[0]),
        project,
        "[decoding]\n" + "".join(f"{n} = {values[n][1]}\n" for n in layers[1]),
        **{n.upper(): str(values[n][2]) for n in layers[2]},
    )
    it = settings_for(config, SFT, options={n: values[n][3] for n in layers[3]})
    for name in layers[4]:
        it = it.changed(name, values[name][4])
    assert [getattr(it.parameters, n) for n in names] == [0.55, 0.55, 0.44, 33, 22, 11]
    assert [it.provenance[n] for n in names] == ["session", "session", "option", "environment", str(project), USER]
    assert it.provenance["min_new_tokens"] == "preset card"


def test_a_preset_in_a_file_is_overridden_by_that_files_decoding() -> None:
    it = settings_for(load('preset = "calm"\n[decoding]\ntemperature = 0.9'), SFT)
    assert (it.parameters.temperature, it.parameters.repetition_penalty) == (0.9, 1.05)
    assert (it.preset, it.provenance["temperature"], it.provenance["top_p"]) == ("calm", USER, "preset calm")


@pytest.mark.parametrize("how", ["option", "environment", "session", "project"])
def test_a_preset_chosen_later_overrides_a_weaker_files_decoding(how: str, project: Path) -> None:
    """`--preset creative` means creative, without last year's temperature from a file."""
    user = 'preset = "calm"\n[decoding]\ntemperature = 0.9\nmax_new_tokens = 77'
    config = (
        load(user, project, 'preset = "creative"' if how == "project" else "")
        if how != "environment"
        else load(user, PRESET="creative")
    )
    it = settings_for(config, SFT, "creative" if how == "option" else None)
    if how == "session":
        it = it.with_preset("creative")
    assert (it.preset, it.parameters.temperature, it.parameters.top_k) == ("creative", 1.1, 100)
    assert it.parameters.max_new_tokens == 77, "creative says nothing of it"


def test_only_one_preset_is_chosen_at_a_time() -> None:
    """A value that only the weaker preset sets is not in force."""
    config = load('preset = "mine"\n[presets.mine]\nmin_new_tokens = 9\nseed = 4\n[presets.other]\ntop_k = 3')
    assert settings_for(config, SFT).parameters.seed == 4
    it = settings_for(config, SFT, "other")
    assert (it.parameters.seed, it.parameters.top_k) == (None, 3)
    assert it.with_preset("mine").parameters.seed == 4
    assert it.with_preset("mine").parameters.top_k == 50


def test_the_models_own_preset_stays_below_the_chosen_one() -> None:
    """calm does not set max_new_tokens: the small model keeps its short replies."""
    it = settings_for(load(), DEMO, "calm")
    assert (it.preset, it.parameters.max_new_tokens, it.provenance["max_new_tokens"]) == ("calm", 200, "preset demo")


def test_options_override_the_preset_beside_them() -> None:
    it = settings_for(load(), SFT, "calm", {"temp": "1.5"})
    assert (it.parameters.temperature, it.provenance["temperature"]) == (1.5, "option")


def test_a_preset_in_the_session_clears_what_it_names_only() -> None:
    it = settings_for(load(), SFT).changed("temperature", 1.9).changed("seed", 7).with_preset("calm")
    assert (it.parameters.temperature, it.parameters.seed) == (0.3, 7)
    assert it.changed("temperature", 1.9).parameters.temperature == 1.9


def test_settings_work_without_any_configuration() -> None:
    it = Settings().changed("seed", 5).changed("top_k", 3)
    assert it.parameters == DecodingParameters(seed=5, top_k=3)
    assert it.provenance["top_k"] == "session"


@pytest.mark.parametrize(
    ("key", "values"),
    [("model", ["sft", "demo", "ppo"]), ("lang", ["en", "ja", "en"]), ("persona", ["a", "b", "c"])],
)
def test_model_language_and_persona_have_layers_too(project: Path, key: str, values: list[str]) -> None:
    assert getattr(load(f'{key} = "{values[0]}"'), key) == values[0]
    assert getattr(load("", project, f'{key} = "{values[1]}"'), key) == values[1]
    assert getattr(load(**{key.upper(): values[2]}), key) == values[2]
    assert getattr(load(**{key.upper(): " "}), key) == values[1], "an empty variable is an unset one"


def test_a_file_named_on_the_command_line_stands_in_for_both(project: Path, tmp_path: Path) -> None:
    load("[decoding]\nseed = 1", project, "[decoding]\nseed = 2")
    named = tmp_path / "named.toml"
    named.write_text("[decoding]\ntop_k = 9")
    it = settings_for(load_config(named, {}), SFT)
    assert (it.parameters.seed, it.parameters.top_k) == (None, 9)


def test_presets_and_models_of_a_file_are_laid_over_the_shipped_ones_key_by_key() -> None:
    config = load(
        '[presets.calm]\ntop_k = 7\n[models.mine]\ndirectory = "~/x"\npreset = "calm"\n[models.ppo]\npreset = "greedy"'
    )
    calm = find_preset(config.presets, "calm")
    assert (calm.values["top_k"], calm.values["temperature"]) == (7, 0.3)
    assert calm.describe("ja")
    assert config.catalogue["mine"].directory == "~/x"
    assert config.catalogue["ppo"].preset == "greedy"
    assert settings_for(config, config.catalogue["ppo"]).parameters.temperature == 0.0


def test_every_field_can_be_set_everywhere() -> None:
    """Files, environment and options know a new decoding parameter without a line here."""
    names = [each.name for each in fields(DecodingParameters)]
    examples = {name: RANGES[name].example for name in names}
    values = {name: checked(name, typed_value(name, text)) for name, text in examples.items()}
    file = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    assert vars(settings_for(load(f"[decoding]\n{file}"), SFT).parameters) == values
    write_user("")
    found = settings_for(load(**{name.upper(): text for name, text in examples.items()}), SFT)
    assert vars(found.parameters) == values
    assert set(found.provenance.values()) == {"environment"}
    options = parse_assignments([f"{name}={text}" for name, text in examples.items()])
    assert vars(settings_for(load(), SFT, None, options).parameters) == values


# -- what is refused --------------------------------------------------------------------------------

WRONG_FILES: dict[str, tuple[str, int, str]] = {
    "top-level slip": ('modle = "sft"', 1, "Did you mean model?"),
    "table slip": ("# a comment\n\n[decodin]\ntemperature = 1.0", 3, "Did you mean decoding?"),
    "parameter slip": ("[decoding]\ntop_k = 5\ntemprature = 0.2", 3, "Did you mean temperature?"),
    "short form": ("[decoding]\ntemp = 0.2", 2, "Did you mean temperature?"),
    "range": ("[decoding]\n\ntop_p = 7", 3, "top_p must be between"),
    "type": ('[decoding]\ntemperature = "0.7"', 2, "temperature must be a number"),
    "flag": ("[decoding]\ntop_k = true", 2, "top_k takes a whole number"),
    "not a number": ("[decoding]\ntemperature = nan", 2, "must be between"),
    "fraction": ("[decoding]\ntop_k = 1.5", 2, "top_k takes a whole number"),
    "preset's slip": ("[decoding]\ntop_k = 1\n[presets.mine]\ntop_k = 2\ntopk = 3", 5, "Did you mean top_k?"),
    "preset's range": ("[presets.a]\ntop_k = 2\n[presets.b]\ntop_k = -2", 4, "top_k must be between"),
    "preset named": ('lang = "ja"\npreset = "clam"', 2, "Did you mean calm?"),
    "model's preset": ('[models.ppo]\npreset = "clam"', 2, "Did you mean calm?"),
    "model's slip": ('[models.x]\nhub_id = "a/b"\n\n[models.x.prompt]\nseparater = "|"', 5, "Did you mean separator?"),
    "inline slip": ('[models.x]\nprompt = { seperator = "|" }', 2, "Did you mean separator?"),
    "server's slip": ('[servers.lab]\nurl = "http://x"\nmodle = "sft"', 3, "Did you mean model?"),
    "server's weight": ('[servers.lab]\nurl = "http://x"\nweight = 0', 3, "weight must be above 0"),
    "server without a URL": ('[servers.lab]\nmodel = "sft"', 1, "'lab' needs url"),
    "no URL of a server": ('[servers.lab]\nurl = "x:8000"', 2, "is not the URL of a server"),
    "a password in a URL": ('[servers.lab]\nurl = "http://me:pw@x"', 2, "must not contain a user name"),
    "no server table": ("servers.lab = 3", 1, "lab must be a table"),
    "dotted": ("decoding.top_p = 0.5\ndecoding.top_q = 0.5", 2, "Did you mean top_p?"),
    "key in a text": ('persona = """\ntop_q = 1\n"""\n[decoding]\ntop_q = 0.5', 5, "Did you mean top_p?"),
    "language": ('lang = "jp"', 1, "one of en, ja"),
    "empty": ('model = ""', 1, "must not be empty"),
    "no table": ("decoding = 3", 1, "decoding must be a table"),
    "no table of presets": ("presets = 3", 1, "presets must be a table"),
    "no preset table": ("presets.a = 3", 1, "a must be a table"),
    "syntax": ("[decoding]\ntop_k = = 3", 2, "invalid TOML"),
    "syntax at the end": ('[decoding]\npersona = """a', 2, "invalid TOML"),
    "twice": ("[decoding]\ntop_k = 1\ntop_k = 2", 3, "invalid TOML"),
}


@pytest.mark.parametrize(("text", "line", "said"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_file_is_refused_with_file_line_and_key(text: str, line: int, said: str) -> None:
    with pytest.raises(BchatError) as caught:
        load(text)
    assert caught.value.status is ExitStatus.DATA
    assert str(caught.value).startswith(f"{USER}:{line}: ")
    assert said in str(caught.value)
    assert "\n" not in caught.value.sentence("ja")


@settings(max_examples=60, deadline=None)
@given(
    before=st.lists(
        st.sampled_from(["", "# wrong = 1", "a = 1", 'b = """\nwrong = 1\n"""', "c = [\n1,\n2]", "d = 'wrong'"])
    ),
    after=st.lists(st.sampled_from(["", "# wrong = 2", "e = 1", "[other]", "[t.wrong2]"])),
)
def test_the_line_of_a_key_is_found_in_any_text(before: list[str], after: list[str]) -> None:
    lines = [*dict.fromkeys(before), "[t]", "x = 1", "wrong = 1", *dict.fromkeys(after)]
    text = "\n".join(lines)
    number = text.split("\n").index("[t]") + 3
    assert line_of(text, ("t", "wrong")) == number


FRAGMENTS = (
    "",
    "# wrong = 1",
    "wrong = 1",
    "'wrong' = 1",
    't.wrong = "wrong"',
    '"a.b".wrong = 1',
    "[t]",
    "[ t . wrong ]",
    "[[rows]]",
    "t = { wrong = 1, b = { wrong = [1, { c = 2 }] } }",
    'b = """\nwrong = 1\n\\"""\n[t]\n"""',
    "b = '''\n[t]\nwrong\\'''",
    "c = [\n1, # ]\n[2, ']'],\n{ wrong = 1 },\n]",
    'd = """a"""""',
    "wrong.wrong = 1979-05-27T07:32:00Z",
)


def every_path(tables: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(tables, dict):
        for key, value in tables.items():
            yield (*above, key)
            yield from every_path(value, (*above, key))


def first_line(lines: list[str], path: tuple[str, ...]) -> int | None:
    """The line of the statement that ends the first prefix with this key; the slow way."""
    begins = 1
    for end in range(1, len(lines) + 1):
        try:
            tables = tomllib.loads("\n".join(lines[:end]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        if path in every_path(tables):
            return begins
        begins = end + 1
    return None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=6))
def test_the_line_of_every_key_is_the_one_that_parsing_every_beginning_finds(fragments: list[str]) -> None:
    text = "\n".join(fragments)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)
    assert [line_of(text, path) for path in every_path(tables)] == [
        first_line(text.split("\n"), path) for path in every_path(tables)
    ]


HOSTILE: dict[str, tuple[str, str]] = {
    "a key on thousands of lines": ('persona = """\n' + "top_q\n" * 3_000 + '"""\n[decoding]\ntop_q = 1', "top_q"),
    "a key in a list": ("[presets.a]\n[decoding]\ntop_k = [\n" + '"top_q",\n' * 10_050 + "]\ntop_q = 1", "top_k"),
    "a key of thousands of parts": ("models." + ".".join("a" * 100_000) + " = 1", "more than 50 parts"),
    "tables in tables": ("a = " + "{ a = " * 40_000, "more than 50 parts"),
    "a header of thousands of parts": ("[" + ".".join("a" * 100_000) + "]\n" + "x = 1\n" * 9_000, "more than 50 parts"),
    "thousands of models": ("".join(f'[models.a{n}]\nhub_id = "a/b"\n' for n in range(8_000)), "more than 500 entries"),
    "thousands of presets": ("".join(f"[presets.a{n}]\ntop_k = 1\n" for n in range(9_000)), "more than 500 entries"),
    "thousands of names": ('[models.a]\nhub_id = "a/b"\naliases = [' + '"x",' * 60_000 + "]", "more than 500 entries"),
    "a long key": ("w" * 200_000 + " = 1", "unknown key"),
    "a long choice": ('lang = "' + "w" * 200_000 + '"', "longer than 20,000 characters"),
    "an int of more digits than Python writes": ("[decoding]\nseed = 0x" + "f" * 200_000, "1e240823"),
    "a list with such an int": ("[decoding]\nseed = [0x" + "f" * 200_000 + "]", "list"),
    "a list for a number": ("[decoding]\nseed = [" + "1," * 100_000 + "]", "list"),
}


@pytest.mark.parametrize(("text", "said"), HOSTILE.values(), ids=HOSTILE)
def test_no_file_of_settings_takes_long_or_fills_the_screen(text: str, said: str) -> None:
    """Each took from 20 s to an hour, or ended in a traceback; all fit the limit of a file of settings."""
    with pytest.raises(BchatError) as caught:
        load(text)
    for lang in LANGUAGES:
        assert len(caught.value.sentence(lang)) < 400
    assert said in str(caught.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("call", ["stat", "open"])
def test_an_unreadable_file_of_settings_is_reported_and_the_rest_is_in_force(
    project: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """A project on a share that hangs, a config.toml owned by root: bchat still starts."""
    write_user("[decoding]\ntop_k = 7")
    project.write_text("[decoding]\ntop_k = 9")
    real = getattr(os, call)

    def failing(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path) == str(project):
            raise OSError(number, os.strerror(number), path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, call, failing)
    config = load_config(environment={})
    assert settings_for(config, SFT).parameters.top_k == 7
    (notice,) = config.notices
    assert notice.key == "config.skipped"
    assert os.strerror(number).lower() in render(notice.key, "en", **notice.values).lower()
    if call == "open":
        with pytest.raises(BchatError) as caught:
            load_config(project, {})
        assert caught.value.key == "config.unreadable"


def test_a_line_that_cannot_be_found_is_that_of_its_table() -> None:
    assert line_of('\n[t]\n"wr\\u006fng" = 1\n# wrong', ("t", "wrong")) == 2
    assert line_of("a = 1", ("zzz",)) is None


def test_files_that_are_no_settings_are_refused(tmp_path: Path) -> None:
    cases: list[tuple[bytes, str]] = [
        (b"\xff\xfe", "config.not-utf8"),
        (b"\xff", "config.not-utf8"),
        ('persona = "猫です"'.encode("cp932"), "config.not-utf8"),
        (b"# " + b"x" * 300_000, "config.not-a-file"),
        (b"a = " + b"[" * 50_000, "config.syntax"),
        (b"a = " + b"1" * 50_000, "config.syntax"),
    ]
    path = tmp_path / "x.toml"
    for data, key in cases:
        path.write_bytes(data)
        with pytest.raises(BchatError) as caught:
            load_config(path, {})
        assert (caught.value.key, caught.value.status) == (key, ExitStatus.DATA)


def test_a_missing_file_is_an_error_only_if_it_was_named(tmp_path: Path) -> None:
    assert load().layers[-1].label == "environment"
    with pytest.raises(BchatError) as caught:
        load_config(tmp_path / "no.toml", {})
    assert caught.value.key == "config.unreadable"


@posix
def test_a_fifo_does_not_hang_the_start(project: Path) -> None:
    os.mkfifo(project)
    with pytest.raises(BchatError) as caught:
        load()
    assert caught.value.key == "config.not-a-file"


def test_a_byte_order_mark_is_no_error() -> None:
    write_user("\ufeff[decoding]\r\ntop_k = 3\r\n")
    assert settings_for(load(), SFT).parameters.top_k == 3


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TEMPERATURE": "hot"}, "BCHAT_TEMPERATURE is invalid: temperature takes a number"),
        ({"TOP_P": "7"}, "BCHAT_TOP_P is invalid: top_p must be"),
        ({"LANG": "fr"}, "BCHAT_LANG is invalid"),
        ({"PRESET": "clam"}, "Did you mean calm?"),
        ({"TEMPRATURE": "1"}, "Did you mean BCHAT_TEMPERATURE?"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(variables: dict[str, str], said: str) -> None:
    with pytest.raises(BchatError) as caught:
        load(**variables)
    assert caught.value.status is ExitStatus.USAGE
    assert said in str(caught.value)


def test_a_variable_that_is_not_ours_is_left_alone() -> None:
    assert load(XYZZY="1").layers[-1].values == {}


@pytest.mark.parametrize("options", [{"temprature": 1}, {"top_p": 7}, {"temperature": "abc"}])
def test_wrong_options_are_usage_errors(options: dict[str, Any]) -> None:
    with pytest.raises(BchatError) as caught:
        settings_for(load(), SFT, options=options)
    assert caught.value.status is ExitStatus.USAGE


def test_an_unknown_preset_is_a_usage_error_and_changes_nothing() -> None:
    it = settings_for(load(), SFT)
    for choose in (lambda: settings_for(load(), SFT, "clam"), lambda: it.with_preset("clam")):
        with pytest.raises(BchatError) as caught:
            choose()
        assert caught.value.status is ExitStatus.USAGE
        assert "Did you mean calm?" in str(caught.value)
    assert it.with_preset("ＣＡＬＭ").preset == "calm"


def test_assignments_are_read_as_they_are_typed() -> None:
    def assigned(*texts: str) -> DecodingParameters:
        return settings_for(load(), ModelEntry("x", preset=""), None, parse_assignments(texts)).parameters

    assert assigned("temp=0.5", " Top-K = 3 ", "seed=none") == DecodingParameters(0.5, 3)
    assert assigned("temp=1,seed=3", "top_k=5、top_p=0.5") == DecodingParameters(1.0, 5, 0.5, seed=3)
    assert assigned("temp=1", "temperature=2", "temp=3") == DecodingParameters(3.0)
    texts = assigned('stop="\\n","a, b" 。,top_k=3', "bad_words=猫,犬", "logit_bias=猫=5,id:7=-2")
    assert texts == DecodingParameters(
        top_k=3, stop=("\n", "a, b", "。"), bad_words=("猫", "犬"), logit_bias=("猫=5", "id:7=-2")
    )
    assert assigned("stop=a", "stop=none") == DecodingParameters()
    for wrong in ("temperature", "x=1", "top_k=abc", "temperature=0,7", "logit_bias=猫", "penalty_scope=both"):
        with pytest.raises(BchatError) as caught:
            assigned(wrong)
        assert caught.value.status is ExitStatus.USAGE


def test_a_fresh_seed_can_be_asked_for_in_a_file(project: Path) -> None:
    """TOML has no null: "random" removes a weaker layer's seed."""
    config = load("[decoding]\nseed = 3", project, '[decoding]\nseed = "random"')
    assert settings_for(config, SFT).parameters.seed is None
    assert checked("seed", "random") is None
