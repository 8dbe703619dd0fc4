"""The paths of all files: the only reader of HOME, XDG_* and their Windows and Hugging Face counterparts.

The XDG directories are used everywhere but on Windows; on macOS too, since users look for the files of a terminal
program in ~/.config, not in ~/Library. Nothing here creates a directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from bilingual_chat.messages.errors import BchatError

_APPLICATION = "bchat"
_PACKAGE = Path(__file__).resolve().parents[1]


def config_file() -> Path:
    """Return the file of the user's settings."""
    return _base("XDG_CONFIG_HOME", ".config", windows="APPDATA") / "config.toml"


def project_config_file() -> Path:
    """Return the file of the project's settings, in the working directory."""
    try:
        return Path.cwd() / "bchat.toml"
    except OSError:  # the working directory was deleted
        return Path("bchat.toml")


def data_dir() -> Path:
    """Return the directory of the conversations."""
    return _base("XDG_DATA_HOME", ".local/share", windows="LOCALAPPDATA", part="data")


def state_dir() -> Path:
    """Return the directory of the line history and logs."""
    return _base("XDG_STATE_HOME", ".local/state", windows="LOCALAPPDATA", part="state")


def cache_dir() -> Path:
    """Return the directory of files that can be made again."""
    return _base("XDG_CACHE_HOME", ".cache", windows="LOCALAPPDATA", part="cache")


def hub_cache() -> Path:
    """Return the cache that Hugging Face's programs share, as in constants.py of huggingface_hub."""
    for variable, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        value = os.environ.get(variable)
        if value:
            return expand(value) / below
    value = os.environ.get("XDG_CACHE_HOME")
    return (expand(value) if value else _home() / ".cache") / "huggingface" / "hub"


def is_offline() -> bool:
    """Return True if the environment forbids downloads, as in constants.py of huggingface_hub."""
    values = (os.environ.get(variable, "") for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def shipped_config(name: str) -> Path:
    """Return the path of a file of configs/, which is inside the package (wheel) or beside it (checkout)."""
    for directory in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):
        if (directory / name).is_file():
            return directory / name
    raise BchatError("paths.not-shipped", name=f"configs/{name}")


def demo_model_dir() -> Path:
    """Return the directory of the demo model."""
    return _PACKAGE / "hub" / "demo"


def expand(text: str) -> Path:
    """Return the path that a user typed, with "~" and environment variables expanded as in a shell."""
    try:
        return Path(os.path.expandvars(text)).expanduser()
    except RuntimeError:  # "~" without a home, or "~nobody"
        return Path(text)


def shorten(path: Path) -> str:
    """Return `path` for display, with "~" for the home directory."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


def without_home(text: str) -> str:
    """Return `text` with "~" for the home directory, for a bug report."""
    return text.replace(str(Path.home()), "~")


def all_paths() -> dict[str, Path]:
    """Return every path by its name in `bchat paths`, the most wanted first."""
    return {
        "config": config_file(),
        "project": project_config_file(),
        "conversations": data_dir(),
        "state": state_dir(),
        "cache": cache_dir(),
        "models": hub_cache(),
        "demo": demo_model_dir(),
        "presets": shipped_config("presets.toml"),
        "catalogue": shipped_config("models.toml"),
    }


def _base(variable: str, below_home: str, *, windows: str, part: str = "") -> Path:
    if os.name == "nt":
        value = os.environ.get(windows)
        default = "AppData/Roaming" if windows == "APPDATA" else "AppData/Local"
        return (Path(value) if value else _home() / default) / _APPLICATION / part
    value = os.environ.get(variable)
    # The XDG specification: ignore relative paths.
    base = Path(value) if value and Path(value).is_absolute() else _home() / below_home
    return base / _APPLICATION


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise BchatError("paths.no-home") from error
