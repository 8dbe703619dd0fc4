"""Every path follows HOME and the variables of its system; asking for a path creates nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage import paths


def test_without_variables_everything_is_below_home(home: Path) -> None:
    assert paths.config_file() == home / ".config/bchat/config.toml"
    assert paths.data_dir() == home / ".local/share/bchat"
    assert paths.state_dir() == home / ".local/state/bchat"
    assert paths.cache_dir() == home / ".cache/bchat"
    assert paths.hub_cache() == home / ".cache/huggingface/hub"


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("XDG_CONFIG_HOME", paths.config_file),
        ("XDG_DATA_HOME", paths.data_dir),
        ("XDG_STATE_HOME", paths.state_dir),
        ("XDG_CACHE_HOME", paths.cache_dir),
    ],
)
def test_an_xdg_variable_moves_its_own_place_only(
    variable: str, place: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = (paths.config_file, paths.data_dir, paths.state_dir, paths.cache_dir)
    before = [each() for each in everything]
    monkeypatch.setenv(variable, str(tmp_path))
    moved = [each for each, old in zip(everything, before, strict=True) if each() != old]
    assert moved == [place]
    assert moved[0]().is_relative_to(tmp_path / "bchat")


def test_a_relative_xdg_variable_is_ignored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The specification: "All paths set in these environment variables must be absolute"."""
    monkeypatch.setenv("XDG_DATA_HOME", "somewhere")
    assert paths.data_dir() == home / ".local/share/bchat"


HUB_VARIABLES = [
    {},
    {"XDG_CACHE_HOME": "/x/cache"},
    {"XDG_CACHE_HOME": "/x/cache", "HF_HOME": "/x/hf"},
    {"HF_HOME": "~/hf"},
    {"HF_HOME": "/x/hf", "HF_HUB_CACHE": "$HOME/cache"},
    {"HUGGINGFACE_HUB_CACHE": "/x/old"},
]


def test_the_hub_cache_is_where_huggingface_hub_keeps_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run its constants module anew in each environment, and compare."""
    script = """
import json, os, runpy, sys
for variables in json.loads(sys.argv[1]):
    before = dict(os.environ)
    os.environ.update(variables)
    print(runpy.run_path(sys.argv[2])["HF_HUB_CACHE"])
    os.environ.clear()
    os.environ.update(before)
"""
    import importlib.util
    import json

    spec = importlib.util.find_spec("huggingface_hub.constants")
    assert spec is not None
    assert spec.origin is not None
    arguments = [sys.executable, "-c", script, json.dumps(HUB_VARIABLES), spec.origin]
    theirs = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()
    ours = []
    for variables in HUB_VARIABLES:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            ours.append(str(paths.hub_cache()))
    assert ours == theirs


@pytest.mark.skipif(os.name == "nt", reason="feigns Windows")
def test_on_windows_the_application_data_directories_are_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths.os, "name", "nt")
    # pathlib would make WindowsPath objects now, which only Windows can.
    monkeypatch.setattr(paths, "Path", type(home))
    monkeypatch.setenv("APPDATA", "/roaming")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert str(paths.config_file()) == "/roaming/bchat/config.toml"
    assert paths.data_dir() == home / "AppData/Local/bchat/data"
    assert paths.state_dir() != paths.cache_dir()


def test_without_a_home_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(BchatError) as caught:
        paths.data_dir()
    assert caught.value.key == "paths.no-home"
    assert paths.shorten(Path("/x")) == "/x"


def test_shipped_configs_are_found_inside_the_package_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a wheel configs/ is inside the package, in a checkout beside it."""
    assert paths.shipped_config("presets.toml").is_file()
    package = tmp_path / "bilingual_chat"
    for directory in (package / "configs", tmp_path / "configs"):
        directory.mkdir(parents=True)
        (directory / "presets.toml").touch()
    monkeypatch.setattr(paths, "_PACKAGE", package)
    assert paths.shipped_config("presets.toml") == package / "configs/presets.toml"
    (package / "configs/presets.toml").unlink()
    assert paths.shipped_config("presets.toml") == tmp_path / "configs/presets.toml"
    with pytest.raises(BchatError) as caught:
        paths.shipped_config("models.toml")
    assert "configs/models.toml" in str(caught.value)


def test_asking_where_things_are_makes_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = paths.all_paths()
    assert places["project"] == tmp_path / "bchat.toml"
    assert all(path.is_absolute() for path in places.values())
    assert list(home.iterdir()) == list(tmp_path.iterdir()) == []


def test_a_path_is_read_and_shown_with_a_tilde(home: Path) -> None:
    assert paths.expand("~/models/x") == home / "models/x"
    assert paths.expand("$HOME/x") == home / "x"
    assert paths.expand("~nobody-has-this-name/x") == Path("~nobody-has-this-name/x")
    assert paths.shorten(home / "models/x") == str(Path("~/models/x"))
    assert paths.shorten(Path("/elsewhere")) == "/elsewhere"
