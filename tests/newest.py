"""`python3 -m tests --newest [arguments of pytest]`: with the newest transformers that pyproject.toml allows.

It lies beside the pinned one, in .venv/newest. Without arguments, the tests that name transformers run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
NEWEST = Path(sys.prefix) / "newest"


def allowed(name: str = "transformers") -> str:
    """The requirement of a library in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return next(each for each in project["dependencies"] if each.startswith(name))


def concerned() -> list[str]:
    """The tests that name transformers."""
    return [
        str(path) for path in sorted(Path(__file__).parent.rglob("test_*.py")) if "transformers" in path.read_text()
    ]


def main(arguments: list[str]) -> int:
    """Return pip's exit status if it fails, else pytest's."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--no-deps", "--target", str(NEWEST)]
    # transformers itself refuses, at its import, what it needs and does not find beside it.
    if status := subprocess.call([*pip, allowed()], env={**os.environ, "PIP_CONSTRAINT": ""}):
        return status
    before = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(NEWEST), str(ROOT), before)))}
    version = "import transformers; print('transformers', transformers.__version__)"
    subprocess.call([sys.executable, "-c", version], env=environment)
    command = [sys.executable, "-W", "error", "-m", "pytest", *(arguments or concerned())]
    return subprocess.call(command, cwd=ROOT, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
