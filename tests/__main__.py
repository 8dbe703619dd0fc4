"""`python3 -m tests [--quick | --newest | --sanitize] [arguments of pytest]`: sets up, then runs the tests.

--quick leaves out the tests that take minutes, and tries fewer random files and texts; --newest: see tests/newest.py;
--sanitize: see tests/sanitize.py. The exit status is pytest's.
"""

from __future__ import annotations

import os
import sys

from bilingual_chat import bootstrap

# The number of random cases; a larger number may be set beside --quick.
QUICK = {"FUZZ_CASES": "50", "FORGERIES": "300"}


def main(arguments: list[str]) -> int:
    """Run pytest in the checkout's .venv."""
    if arguments[:1] in (["--newest"], ["--sanitize"]):
        return bootstrap.run(["-m", f"tests.{arguments[0].removeprefix('--')}", *arguments[1:]], extra="dev")
    if "--quick" in arguments:
        for name, number in QUICK.items():
            os.environ.setdefault(name, number)
    chosen = [part for given in arguments for part in (["-m", "not slow"] if given == "--quick" else [given])]
    return bootstrap.run(["-m", "pytest", *chosen], extra="dev")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
