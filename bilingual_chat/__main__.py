"""`python -m bilingual_chat`: bchat, and its set-up first where its libraries are missing.

Also what the command `bchat` calls: Ctrl-C while Python still imports is an end like any other.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130  # ExitStatus.INTERRUPTED, before anything can be imported


def main() -> int | None:
    """The exit status of bchat, run by this Python or by that of the checkout's .venv."""
    try:
        from bilingual_chat import bootstrap

        if not bootstrap.is_ready():
            return bootstrap.run(["-m", "bilingual_chat", *sys.argv[1:]])
    except KeyboardInterrupt:
        return INTERRUPTED
    return bchat()


def bchat() -> int:
    """The exit status of bchat where its libraries are installed."""
    try:
        from bilingual_chat import cli

        return cli.main()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
