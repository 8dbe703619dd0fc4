"""`python -m bilingual_chat`: bchat, and its set-up first where its libraries are missing."""

from __future__ import annotations

import sys

from bilingual_chat import bootstrap


def main() -> int | None:
    """The exit status of bchat, run by this Python or by that of the checkout's .venv."""
    if not bootstrap.is_ready():
        return bootstrap.run(["-m", "bilingual_chat", *sys.argv[1:]])
    from bilingual_chat import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
