"""Turns errors into a sentence on stderr and an exit status, for every command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import typer

from bilingual_chat import messages
from bilingual_chat.cli.quiet import quiet_libraries
from bilingual_chat.cli.startup import initial_language
from bilingual_chat.messages.errors import BchatError, ExitStatus

if TYPE_CHECKING:
    from bilingual_chat.cli.options import Options
    from bilingual_chat.terminal.display import Display


@contextmanager
def errors_reported(options: Options) -> Iterator[Display]:
    """Give a command its display, and report the error that ends it. Raises typer.Exit with the status."""
    from bilingual_chat.terminal.display import Display, OutputLost

    with quiet_libraries(but_show=options.debug) as (out, err):
        display = Display(initial_language(options.lang), out=out, err=err)
        try:
            if options.lang and options.lang not in messages.LANGUAGES:
                raise BchatError("lang.unknown", status=ExitStatus.USAGE, name=options.lang)
            yield display
        except (typer.Exit, typer.Abort):
            raise
        except BchatError as error:
            with suppress(OSError):
                display.say(error)
            exit_with(error.status)
        except KeyboardInterrupt:
            exit_with(ExitStatus.INTERRUPTED)
        except BrokenPipeError:
            discard_output(out)
            exit_with(ExitStatus.CLOSED_PIPE)
        except OutputLost as error:
            report_lost_output(error, display)
            exit_with(ExitStatus.FAILED)
        except Exception as error:
            if options.debug:
                raise
            report_unexpected(error, display)
            exit_with(ExitStatus.FAILED)


def exit_with(status: int) -> NoReturn:
    raise typer.Exit(int(status))


def report_lost_output(error: OSError, display: Display) -> None:
    """Report once that stdout cannot be written (a full disk), and discard the rest of the output."""
    from bilingual_chat.storage.os_errors import reason

    discard_output(display.out)
    with suppress(OSError):
        display.say(BchatError("cli.output-lost", reason=reason(error)))


def report_unexpected(error: Exception, display: Display) -> None:
    """Report an unexpected error in one line; its traceback goes into a file."""
    kind = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
    path = _log(error)
    with suppress(OSError):
        if path is None:
            display.say(BchatError("cli.unforeseen-unlogged", kind=kind))
        else:
            display.say(BchatError("cli.unforeseen", kind=kind, path=path))


def _log(error: Exception) -> Path | None:
    import traceback
    from datetime import datetime

    from bilingual_chat.storage import atomic, paths

    try:
        path = paths.state_dir() / f"error-{datetime.now():%Y%m%d-%H%M%S-%f}.log"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write(path, "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
    except (OSError, BchatError):
        return None
    return path


def replace_closed_streams() -> None:
    """Replace standard streams that the parent closed; else the next file opened takes their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def discard_output(stream: TextIO | None = None) -> None:
    """Send `stream` (stdout) to the null device, so that the flush at exit does not fail."""
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, (stream or sys.stdout).fileno())
        os.close(devnull)
