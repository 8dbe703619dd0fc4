"""The README matches the program: every command, preset, model and module, in both languages."""

from __future__ import annotations

import re

import pytest

from bilingual_chat import messages
from bilingual_chat.cli import models_table
from bilingual_chat.commands.table import COMMANDS
from bilingual_chat.settings.config import load_config
from bilingual_chat.terminal.display import Display
from docs import pictures
from tests.pseudo_terminal import pty
from tests.runs import ROOT

LANGUAGES = {"README.md": "en", "README.ja.md": "ja"}
MODELS_PAGE = {"README.md": "docs/models.md", "README.ja.md": "docs/ja/models.md"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str, heading_of_first_column: str) -> list[list[str]]:
    """The cells of the table whose first column has this name."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == heading_of_first_column:
            inside = True
        elif inside and not set(line) <= set("|- "):
            found.append(cells)
    return found


FIRST_COLUMNS = {
    "README.md": ("command", "preset", "name"),
    "README.ja.md": ("コマンド", "プリセット", "名前"),
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_command_is_listed_with_its_sentence(name: str) -> None:
    """The table equals the command table: usage and description, in order."""
    lang = LANGUAGES[name]
    expected = [
        [f"`{command.usage}`", messages.render(command.description.key, lang, **command.description.values)]
        for command in COMMANDS
    ]
    assert rows(read(name), FIRST_COLUMNS[name][0]) == expected


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_preset_is_listed_with_its_values(name: str) -> None:
    """Name, values, purpose."""
    listed = {row[0].strip("`"): row[1:] for row in rows(read(name), FIRST_COLUMNS[name][1])}
    presets = load_config().presets
    assert list(listed) == list(presets)
    for preset in presets.values():
        values = ", ".join(f"{key} {value:g}" for key, value in preset.values.items())
        assert listed[preset.name] == [values, preset.describe(LANGUAGES[name])]


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_model_is_listed(name: str) -> None:
    """By the name that --model takes, with its context."""
    listed = {row[0].strip("`"): row for row in rows(read(name), FIRST_COLUMNS[name][2])}
    catalogue = load_config().catalogue
    assert list(listed) == list(catalogue)
    for entry in catalogue.values():
        assert listed[entry.name][1] == (entry.hub_id or entry.describe(LANGUAGES[name]))
        assert listed[entry.name][2] == f"{entry.context_length:,}"


def test_the_file_map_names_every_module() -> None:
    """One line a file: the map lists exactly the files of the package."""
    block = re.search(r"^## File map\n+```\n(.*?)```", read("docs/architecture.md"), re.MULTILINE | re.DOTALL)
    assert block
    listed = {line.split()[0] for line in block[1].splitlines() if line.startswith("  ")}
    package = ROOT / "bilingual_chat"
    modules = {path.relative_to(package).with_suffix("").as_posix() for path in package.rglob("*.py")}
    assert listed == {module.removesuffix("/__init__") for module in modules}


def test_both_languages_have_the_same_parts_and_commands() -> None:
    """The Japanese README matches the English one: as many headings, and the same fenced commands."""
    english, japanese = read("README.md"), read("README.ja.md")

    def headings(text: str) -> list[int]:
        return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]

    def commands(text: str) -> list[str]:
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        blocks = [block for language, block in fenced if not language]
        return [line.split("#")[0].strip() for block in blocks[:3] for line in block.splitlines()]

    assert headings(english) == headings(japanese)
    assert commands(english) == commands(japanese)


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_picture_of_bchat_models_matches_its_output(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the character, on a screen of 80 columns, with the free memory of the picture."""
    block = re.search(r"^```text\n\$ bchat models\n(.*?)^```", read(MODELS_PAGE[name]), re.MULTILINE | re.DOTALL)
    assert block
    free = re.search(r"([\d.]+) GB are free here|空きは ([\d.]+) GB", block[1])
    assert free
    monkeypatch.setattr(models_table, "available_memory", lambda: int(float(free[1] or free[2]) * 1e9))
    with pty(80) as screen:
        models_table.show_all(load_config(), Display(LANGUAGES[name], out=screen.file, err=screen.file))
        assert screen.see().splitlines() == block[1].splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("language", "name"), [("en", "chat.svg"), ("ja", "chat.ja.svg")])
def test_the_picture_of_a_chat_matches_its_output(language: str, name: str) -> None:
    """A session in a real terminal; after a change of sentences, `python docs/pictures.py` draws it again."""
    assert pictures.text_of(read(f"docs/{name}")) == pictures.text_of(pictures.draw(language))


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_picture_of_bchat_pull_matches_its_output(name: str) -> None:
    """Its sentences are those of the table; the figures are of one run."""
    block = re.search(r"^```text\n(\$ bchat pull tiny\n.*?)^```", read(MODELS_PAGE[name]), re.MULTILINE | re.DOTALL)
    assert block
    said = block[1].replace("\n", "")
    for key in ("cli.pull-stopped", "cli.pulled"):
        assert messages.render(key, LANGUAGES[name], name="tiny") in said
    assert said.count("$ bchat pull tiny") == 2


def test_the_first_blocks_are_the_two_commands() -> None:
    """Quick start and Tests each begin with one command, and CI calls exactly the second."""
    text = read("README.md")

    def first_block(heading: str) -> str:
        found = re.search(rf"^## {heading}\n+```\n(.*?)```", text, re.MULTILINE | re.DOTALL)
        assert found, heading
        return found[1].strip()

    assert first_block("Quick start") == "python3 -m bilingual_chat"
    assert first_block("Tests") == "python3 -m tests"
    assert re.search(r"^(exec )?python3 -m tests$", read(".ci/run"), re.MULTILINE)
