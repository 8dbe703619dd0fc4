"""`bchat models`: shows at once which models fit this machine; describes one model completely."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from bilingual_chat.cli import models_table
from bilingual_chat.engines.memory import PRECISIONS, estimate_memory, memory_in
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import Config, load_config
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.linebreak import count_cells
from tests.loopback_hub import ENTRY, pull
from tests.pseudo_terminal import pty
from tests.runs import posix


def listed(config: Config, lang: str = "en") -> dict[str, list[str]]:
    """The cells of each model, without a terminal."""
    out = io.StringIO()
    models_table.show_all(config, Display(lang, out=out, err=io.StringIO()))
    rows = [line.split("\t") for line in out.getvalue().splitlines()]
    assert {len(row) for row in rows} == {4 + len(PRECISIONS)}
    return {row[0].strip("* "): row for row in rows}


def described(name: str, config: Config | None = None, lang: str = "en") -> list[tuple[str, str]]:
    out = io.StringIO()
    models_table.show_one(config or load_config(), Display(lang, out=out, err=io.StringIO()), name)
    rows = [line.split("\t") for line in out.getvalue().splitlines()]
    return [(label, said) for label, said in rows]


@posix
def test_an_unreadable_directory_is_reported_once_and_the_rest_is_listed(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    config = load_config(environment={})
    own = {name: ModelEntry(name, directory=str(tmp_path / "loop")) for name in ("a", "b")}
    err = io.StringIO()
    models_table.show_all(
        replace(config, catalogue={**config.catalogue, **own}), Display("en", out=io.StringIO(), err=err)
    )
    assert err.getvalue().count("Cannot read") == 1
    rows = listed(replace(config, catalogue={**config.catalogue, **own}))
    assert {name: rows[name][1] for name in ("a", "b", "demo")} == {
        "a": "UNREADABLE",
        "b": "UNREADABLE",
        "demo": "ships with bchat",
    }


def test_what_does_not_fit_is_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 12 GB free: the 4B models in 16 bits, but not in 32."""
    monkeypatch.setattr(models_table, "available_memory", lambda: 12_000_000_000)
    rows = listed(load_config())
    assert rows["sft"][3:5] == ["(17.1)", "8.6"]
    assert rows["base-8k"][3:5] == ["(22.4)", "11.3"]
    monkeypatch.setattr(models_table, "available_memory", lambda: None)
    assert listed(load_config())["sft"][3:5] == ["17.1", "8.6"]


def test_each_precision_of_the_table_has_its_column() -> None:
    """It is a row of the table and nothing else, and the line still fits a usual screen."""
    with pty(80) as screen:
        models_table.show_all(load_config(), Display("en", out=screen.file, err=io.StringIO()))
        heading, _, sft, *_ = screen.see().splitlines()
    assert [word for word in heading.split() if word.startswith(("int", "float", "bfloat"))] == [
        "float32",
        "bfloat16",
        "int8",
        "int4",
    ]
    assert sft.split()[-2:] == ["5.0", "3.3"]


@pytest.mark.parametrize("entry", load_config().catalogue.values(), ids=lambda entry: entry.name)
def test_the_memory_is_the_estimate_that_opening_makes(entry: ModelEntry) -> None:
    for precision in PRECISIONS:
        if precision.weight == precision.cache:
            assert memory_in(precision, entry) == pytest.approx(estimate_memory(entry, precision.cache), rel=1e-6)
    assert memory_in(PRECISIONS[0], replace(entry, parameters=0)) == 0


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_the_list_keeps_to_the_screen(lang: str, width: int) -> None:
    """At 80 columns each model has one line of figures, and one of description below."""
    with pty(width) as screen:
        models_table.show_all(load_config(), Display(lang, out=screen.file, err=io.StringIO()))
        lines = screen.see().splitlines()
    assert all(count_cells(line) <= width for line in lines)
    if width >= 80:
        figures = [line for line in lines if not line.startswith("    ")]
        assert [line[2:].split()[0] for line in figures[1:]] == list(load_config().catalogue)


def test_the_default_model_is_marked(tmp_path: Path) -> None:
    config = load_config()
    assert listed(config)["demo"][0] == "* demo"
    mine = tmp_path / "mine.toml"
    mine.write_text('model = "j-ppo"')
    assert listed(load_config(mine))["j-ppo"][0] == "* j-ppo"


def test_a_model_that_was_fetched_is_here_and_verified_file_by_file(served: object) -> None:
    config = replace(load_config(), catalogue={"demo": load_config().catalogue["demo"], "sft": ENTRY, "tiny": ENTRY})
    assert listed(config)["tiny"][1] == "not here"
    pull()
    assert listed(config)["tiny"][1] == "here, verified"
    facts = described("tiny", config)
    assert ("files", "config.json  2 B  here, verified") in facts
    assert ("", "model.safetensors  300 kB  here, verified") in facts


def test_one_model_is_described_in_full() -> None:
    facts = dict(described("sft"))
    assert facts["name"].startswith("sft, 4b-sft, rinna/bilingual-gpt-neox-4b-instruction-sft")
    assert facts["repository"] == "rinna/bilingual-gpt-neox-4b-instruction-sft (main)"
    assert facts["state"] == "not here"
    assert facts["files"] == "config.json, spiece.model, model.safetensors (else pytorch_model.bin)"
    assert facts["size"] == "7.6 GB · 3,796,120,064 × float16"
    assert facts["prompt"] == r'"ユーザー: Hello\nシステム: "'
    assert facts["stops at"] == r'"\nユーザー:"  "\nシステム:"'
    assert facts["context"] == "2,048"
    assert facts["settings"].startswith("card: temperature 1, top_k 50, top_p 0.85")
    assert (facts["licence"], facts["scores"]) == ("MIT", "4-task 61.02, 6-task 61.69")
    assert facts["known MD5"].endswith("de72aa5b66beee7b65783c96f687d186")
    assert facts["withdrawn MD5"] == "edf190a323c0ae63f71476700fb0b462"


@pytest.mark.parametrize("name", load_config().catalogue)
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_every_model_can_be_described(name: str, lang: str) -> None:
    labels = [label for label, _ in described(name, lang=lang)]
    assert labels[0] == ("name" if lang == "en" else "名前")
    assert len([label for label in labels if label]) >= 9


def test_the_prompt_of_a_japanese_model_is_shown_with_its_newline_symbol() -> None:
    assert dict(described("j-ppo"))["prompt"] == '"ユーザー: Hello<NL>システム: "'
    assert dict(described("base"))["prompt"] == '"Hello"'
