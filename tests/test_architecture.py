"""The architecture: imports point downward, and each library belongs to one room."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bilingual_chat
from tests.fresh_python import HEAVY, loaded_after

PACKAGE = Path(bilingual_chat.__file__).parent

# From the bottom to the top: a room may import the rooms before it, and its own modules.
ROOMS = (
    *("messages", "storage", "text", "settings", "hub", "engines"),
    *("transcript", "session", "bench", "explore", "commands", "terminal", "cli"),
)
# Beside the house: whole lists, since they run where the libraries are not there yet.
ASIDE = {"bootstrap": {"messages", "storage", "text"}, "__main__": {"bootstrap", "cli"}, "": {"session"}}
# Modules that only the named rooms may import.
INSIDE_OF = {"cli": {"__main__"}, "bootstrap": {"__main__"}}
TOP_LEVEL_ENTRIES = 17

LIBRARIES = {
    "torch": {"engines", "bench"},
    "transformers": {"engines"},
    "numpy": {"engines", "explore"},
    "safetensors": {"engines"},
    "sentencepiece": {"text"},
    "huggingface_hub": {"hub"},
    "rich": {"terminal"},
    "prompt_toolkit": {"terminal"},
    "typer": {"cli"},
    "wcwidth": {"terminal"},
    # Of the standard library, what reads configuration or speaks to the network.
    "tomllib": {"settings"},
    "http": {"engines"},  # models on servers: its socket can be shut down from another thread
    "socket": {"hub", "engines"},
    "ssl": {"engines"},
    "asyncio": set(),
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "base", "misc"}
LONGEST = 450


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> tuple[str, ...]:
    """The module's name below bilingual_chat: ("engines", "local"), ("engines",), () for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def room_of(path: Path) -> str:
    return (*dotted(path), "")[0]


def imports_of(path: Path) -> Iterator[tuple[str, ...]]:
    """Every module in an import statement of `path`, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split("."))
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = tuple((node.module or "").split("."))
            yield from ((*module, alias.name) for alias in node.names) if len(module) == 1 else [module]


def rooms_imported(path: Path) -> set[str]:
    imported = {name[1] for name in imports_of(path) if name[0] == "bilingual_chat" and len(name) > 1}
    return imported - {room_of(path), "__version__"}


def allowed(room: str) -> set[str]:
    return ASIDE[room] if room in ASIDE else set(ROOMS[: ROOMS.index(room)])


def test_every_module_has_its_place() -> None:
    """A new room must be added to ORDER first."""
    assert {room_of(path) for path in sources()} <= {*ROOMS, *ASIDE}


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_downward(path: Path) -> None:
    room = room_of(path)
    upward = rooms_imported(path) - allowed(room)
    assert not upward, f"{room} may not import {sorted(upward)}"


def test_the_inside_of_a_room_is_imported_by_its_owner_only() -> None:
    entered = {(room_of(path), inner) for path in sources() for inner in rooms_imported(path) if inner in INSIDE_OF}
    assert not {(room, inner) for room, inner in entered if room not in INSIDE_OF[inner]}


def test_each_library_has_one_room() -> None:
    """Every third-party library is in the table, and imported in its room only."""
    astray = set()
    for path in sources():
        for top in {name[0] for name in imports_of(path)} - {"bilingual_chat", "__future__"}:
            if top in LIBRARIES:
                if room_of(path) not in LIBRARIES[top]:
                    astray.add((path.name, top))
            elif top not in sys.stdlib_module_names:
                astray.add((path.name, top))
    assert not astray


def test_opening_an_engine_is_what_loads_torch() -> None:
    """engines/protocol is imported at start-up, so it may import torch inside functions only."""
    path = PACKAGE / "engines" / "protocol.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_start = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in at_start for alias in node.names} | {
        node.module or "" for node in at_start if isinstance(node, ast.ImportFrom)
    }
    assert not {name for name in names if name.split(".")[0] in HEAVY or name.startswith("bilingual_chat.engines.")}


def test_the_top_level_is_read_at_a_glance() -> None:
    entries = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= TOP_LEVEL_ENTRIES, sorted(entries)


def test_each_permission_is_used() -> None:
    """Every permission in LIBRARIES is used."""
    used = {(name[0], room_of(path)) for path in sources() for name in imports_of(path)}
    assert not {(library, room) for library, rooms in LIBRARIES.items() for room in rooms} - used


def test_no_test_module_imports_another() -> None:
    """Shared builders are modules of tests/ that hold no test, shared fixtures in conftest.py."""
    imported = {(path.name, name) for path in Path(__file__).parent.rglob("*.py") for name in imports_of(path)}
    assert not {(path, name) for path, name in imported if name[0] == "tests" and name[-1].startswith("test_")}


def test_no_room_has_a_name_that_means_nothing() -> None:
    assert not {part for path in sources() for part in dotted(path)} & VAGUE


def test_only_the_display_and_the_command_line_use_the_standard_streams() -> None:
    """Within a command sys.stdout and sys.stderr are discarded: library output is not for the user."""
    users = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr"):
                users.add("/".join(dotted(path)))
    assert users == {"bootstrap/console", "cli/command_line", "cli/errors", "cli/quiet", "terminal/display"}


def docstrings(tree: ast.Module) -> set[int]:
    """The ids of nodes that are bare strings."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def test_only_paths_knows_where_a_home_is() -> None:
    """Otherwise a test with another HOME could still write into the user's."""
    readers = set()
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skip = docstrings(tree)
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in skip else None
            if isinstance(text, str) and (text in ("HOME", "USERPROFILE", "APPDATA") or text.startswith("XDG_")):
                readers.add(room_of(path))
            if isinstance(node, ast.Attribute) and node.attr == "home" and getattr(node.value, "id", "") == "Path":
                readers.add(room_of(path))
    assert readers <= {"storage"}


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    """messages are look-up tables, not text to read."""
    if room_of(path) == "messages":
        return
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize(
    "statement",
    [
        "import bilingual_chat.cli.command_line, bilingual_chat.terminal.chat",
        "from bilingual_chat.cli.command_line import main; sys.argv = ['bchat', '--help']; sys.exit(main())",
        "import bilingual_chat.bootstrap",
    ],
)
def test_the_start_loads_no_heavy_library(statement: str) -> None:
    """The prompt accepts keys sooner than `import torch` ends."""
    assert not loaded_after(statement) & HEAVY


def test_this_would_be_seen() -> None:
    """The check above sees a heavy library when there is one."""
    assert "sentencepiece" in loaded_after("import sentencepiece")


def test_set_up_needs_the_standard_library_only() -> None:
    """bootstrap runs before anything is installed."""
    assert not loaded_after("import bilingual_chat.bootstrap") & set(LIBRARIES) - {"socket", "ssl", "http", "asyncio"}
