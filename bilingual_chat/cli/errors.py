"""How a command ends: the one place where errors become a sentence on stderr and an exit status."""

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
from bilingual_chat.cli.startup import spoken
from bilingual_chat.messages.errors import BchatError, ExitStatus

if TYPE_CHECKING:
    from bilingual_chat.cli.options import Options
    from bilingual_chat.terminal.display import Display


@contextmanager
def ending(options: Options) -> Iterator[Display]:
    """What a command prints on; raises typer.Exit where it cannot go on."""
    from bilingual_chat.terminal.display import Display, OutputLost

    with quiet_libraries(but_show=options.debug) as (out, err):
        display = Display(spoken(options.lang), out=out, err=err)
        try:
            if options.lang and options.lang not in messages.LANGUAGES:
                raise BchatError("lang.unknown", status=ExitStatus.USAGE, name=options.lang)
            yield display
        except (typer.Exit, typer.Abort):
            raise
        except BchatError as error:
            with suppress(OSError):
                display.say(error)
            leave(error.status)
        except KeyboardInterrupt:
            leave(ExitStatus.INTERRUPTED)
        except BrokenPipeError:
            discard_output(out)
            leave(ExitStatus.CLOSED_PIPE)
        except OutputLost as error:
            tell_output_lost(error, display)
            leave(ExitStatus.FAILED)
        except Exception as error:
            if options.debug:
                raise
            report(error, display)
            leave(ExitStatus.FAILED)


def leave(status: int) -> NoReturn:
    raise typer.Exit(int(status))


def tell_output_lost(error: OSError, display: Display) -> None:
    """One sentence for a full disk under stdout, however often the rest of the output would meet it again."""
    from bilingual_chat.storage.os_errors import reason

    discard_output(display.out)
    with suppress(OSError):
        display.say(BchatError("cli.output-lost", reason=reason(error)))


def report(error: Exception, display: Display) -> None:
    """Something unforeseen: the details into a file, one line for the person."""
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


def complete_streams() -> None:
    """A standard stream that the parent closed becomes nothing: else the next file opened takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # until the end


def discard_output(stream: TextIO | None = None) -> None:
    """Nobody reads `stream` (else stdout) any more: keep Python from complaining when it flushes at the end."""
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, (stream or sys.stdout).fileno())
        os.close(devnull)
