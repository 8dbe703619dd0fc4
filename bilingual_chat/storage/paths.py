"""Where things are: the only reader of HOME, XDG_* and their Windows and Hugging Face counterparts.

The XDG directories are used on every system but Windows (on macOS too: a terminal program's files
are looked for in ~/.config, not in ~/Library). Nothing here creates a directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from bilingual_chat.messages.errors import BchatError

_APPLICATION = "bchat"
_PACKAGE = Path(__file__).resolve().parents[1]


def config_file() -> Path:
    """The user's settings."""
    return _base("XDG_CONFIG_HOME", ".config", windows="APPDATA") / "config.toml"


def project_config_file() -> Path:
    """The project's settings: those of the directory bchat is started in."""
    try:
        return Path.cwd() / "bchat.toml"
    except OSError:  # the directory was deleted under us
        return Path("bchat.toml")


def data_dir() -> Path:
    """What the user said: conversations."""
    return _base("XDG_DATA_HOME", ".local/share", windows="LOCALAPPDATA", part="data")


def state_dir() -> Path:
    """What may be lost without grief: the line history, logs."""
    return _base("XDG_STATE_HOME", ".local/state", windows="LOCALAPPDATA", part="state")


def cache_dir() -> Path:
    """What can be made again."""
    return _base("XDG_CACHE_HOME", ".cache", windows="LOCALAPPDATA", part="cache")


def hub_cache() -> Path:
    """The cache that Hugging Face's programs share, found as huggingface_hub finds it (its constants.py)."""
    for variable, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        value = os.environ.get(variable)
        if value:
            return expand(value) / below
    value = os.environ.get("XDG_CACHE_HOME")
    return (expand(value) if value else _home() / ".cache") / "huggingface" / "hub"


def is_offline() -> bool:
    """Whether the environment forbids downloads, as huggingface_hub reads it (its constants.py)."""
    wishes = (os.environ.get(variable, "") for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(wish.upper() in ("1", "ON", "YES", "TRUE") for wish in wishes)


def shipped_config(name: str) -> Path:
    """A file of configs/: inside the package (a wheel), else beside it (a checkout)."""
    for directory in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):
        if (directory / name).is_file():
            return directory / name
    raise BchatError("paths.not-shipped", name=f"configs/{name}")


def demo_model_dir() -> Path:
    """The model that ships inside bchat."""
    return _PACKAGE / "demo"


def expand(text: str) -> Path:
    """A path as a person writes it: "~" and environment variables mean what they mean in a shell."""
    try:
        return Path(os.path.expandvars(text)).expanduser()
    except RuntimeError:  # "~" without a home, or "~nobody"
        return Path(text)


def shorten(path: Path) -> str:
    """`path` as it is shown: below the home directory with "~"."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


def all_places() -> dict[str, Path]:
    """Every place by name, in the order in which a person asks for them."""
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
    # The specification says that a relative path in XDG_* is to be ignored.
    base = Path(value) if value and Path(value).is_absolute() else _home() / below_home
    return base / _APPLICATION


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise BchatError("paths.no-home") from error
