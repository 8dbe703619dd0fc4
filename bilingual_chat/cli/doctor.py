"""`bchat doctor`: check the machine, the terminal and the installation, one line each, with the remedy."""

from __future__ import annotations

import locale
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bilingual_chat import __version__
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.config import Config
from bilingual_chat.storage import paths
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal import probe
from bilingual_chat.terminal.display import Display

LEAST_DISK = 1 << 30  # bytes


@dataclass(frozen=True)
class Finding:
    """The result of a check. Without a remedy, all is well."""

    check: str
    text: str | Phrase | BchatError
    remedy: Phrase | BchatError | None = None
    is_problem: bool = False  # False with a remedy: bchat works, but not as well as it could


def examine(config: Config, display: Display, as_json: bool) -> None:
    """Print all findings. Raises BchatError (FAILED) if there is a problem."""
    if not as_json:
        display.doing(Phrase("doctor.checking"))
    found = [each for check in CHECKS for each in check(config, display)]
    display.doing(None)
    if as_json:
        display.put_json([_as_json(each, display) for each in found], indent=2)
    else:
        display.put_noted_rows(_row(each, display) for each in found)
    if problems := sum(each.is_problem for each in found):
        raise BchatError("doctor.problems", status=ExitStatus.FAILED, count=problems)


def _row(found: Finding, display: Display) -> tuple[tuple[str, ...], str]:
    state = "problem" if found.is_problem else "advice" if found.remedy else "well"
    names = (display.text(Phrase(key)) for key in (f"doctor.{state}", f"doctor.check.{found.check}"))
    return (*names, _text(found, display)), display.text(found.remedy) if found.remedy else ""


def _as_json(found: Finding, display: Display) -> dict[str, object]:
    """Return a finding for a bug report, with "~" for the home directory."""
    remedy = display.text(found.remedy) if found.remedy else None
    return {"check": found.check, "found": _text(found, display), "remedy": remedy, "is_problem": found.is_problem}


def _text(found: Finding, display: Display) -> str:
    return paths.without_home(found.text if isinstance(found.text, str) else display.text(found.text))


def _program(config: Config, display: Display) -> Iterator[Finding]:
    python = f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {platform.machine()}"
    yield Finding("program", f"bchat {__version__}, {python}")


def _terminal(config: Config, display: Display) -> Iterator[Finding]:
    name = os.environ.get("TERM", "")
    if not (os.isatty(0) and (display.is_terminal or display.is_dumb)):
        yield Finding("terminal", Phrase("doctor.no-terminal"))
        return
    size = shutil.get_terminal_size()
    remedy = Phrase("doctor.dumb") if display.is_dumb else None
    yield Finding("terminal", f"TERM={name or '-'}, {size.columns}×{size.lines}", remedy)
    yield Finding("colours", _colours(name))
    if display.is_terminal:
        yield _ambiguous_width()


def _colours(term: str) -> str:
    if os.environ.get("NO_COLOR"):
        return "NO_COLOR"
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "16777216"
    return "256" if "256" in term else "16"


def _ambiguous_width() -> Finding:
    """Ask the terminal how wide it draws characters that are narrow here and wide in old Japanese terminals."""
    cells = probe.measured_cells("○")
    if cells is None:
        return Finding("ambiguous", Phrase("doctor.no-answer"))
    return Finding("ambiguous", Phrase("doctor.cells", count=cells), Phrase("doctor.wide") if cells > 1 else None)


def _locale(config: Config, display: Display) -> Iterator[Finding]:
    encoding = getattr(display.out, "encoding", None) or "ascii"
    language = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or "-"
    is_unicode = encoding.lower().replace("-", "") == "utf8"
    text = f"{encoding}, LANG={language}, {locale.getpreferredencoding(False)}"
    yield Finding("encoding", text, None if is_unicode else Phrase("doctor.encoding"), is_problem=not is_unicode)


def _kernels(config: Config, display: Display) -> Iterator[Finding]:
    from bilingual_chat.engines.neox import kernel_library
    from bilingual_chat.engines.neox.kernel_library import find_compiler

    yield Finding(
        "processor", Phrase("doctor.processor", count=os.cpu_count(), features=" ".join(kernel_library.features()))
    )
    if problem := kernel_library.kernel_problem():
        yield Finding("kernels", problem, Phrase("doctor.kernels"))
    else:
        yield Finding("kernels", Phrase("doctor.compiled", compiler=find_compiler() or "-"))


def _memory(config: Config, display: Display) -> Iterator[Finding]:
    from bilingual_chat.engines.memory import PRECISIONS, available_memory, least_memory, memory_in
    from bilingual_chat.settings.catalogue import DEFAULT_MODEL

    free, model = available_memory(), config.catalogue.get(DEFAULT_MODEL)
    if free is None or model is None:
        yield Finding("memory", Phrase("doctor.unknown"))
        return
    fitting = next((each.name for each in PRECISIONS if memory_in(each, model) <= free), None)
    if fitting:
        yield Finding("memory", Phrase("doctor.fits", free=format_bytes(free), name=model.name, precision=fitting))
    else:
        remedy = Phrase("doctor.too-little", name=model.name, needed=format_bytes(least_memory(model)))
        yield Finding("memory", Phrase("doctor.free", free=format_bytes(free)), remedy)


def _torch(config: Config, display: Display) -> Iterator[Finding]:
    from bilingual_chat.engines.device import gpu_name, torch_version

    yield Finding("torch", torch_version())
    yield Finding("gpu", gpu_name() or Phrase("doctor.none"))


def _files(config: Config, display: Display) -> Iterator[Finding]:
    for name, path in (("data", paths.data_dir()), ("cache", paths.cache_dir()), ("models", paths.hub_cache())):
        existing = next(each for each in (path, *path.parents) if each.exists())
        free = shutil.disk_usage(existing).free
        text = Phrase("doctor.path", path=paths.shorten(path), free=format_bytes(free))
        if not os.access(existing, os.W_OK):
            yield Finding(name, text, Phrase("doctor.read-only", path=paths.shorten(existing)), is_problem=True)
        else:
            yield Finding(name, text, Phrase("doctor.full") if free < LEAST_DISK else None)


def _model(config: Config, display: Display) -> Iterator[Finding]:
    from bilingual_chat.settings import catalogue

    entry = catalogue.find(config.catalogue, config.model) if config.model else None
    entry = entry or catalogue.default_entry(config.catalogue)
    remedy = Phrase("doctor.pull", name=catalogue.DEFAULT_MODEL) if entry.embedded else None
    yield Finding("model", entry.name, remedy)


def _network(config: Config, display: Display) -> Iterator[Finding]:
    if paths.is_offline():
        yield Finding("network", Phrase("doctor.offline"))
        return
    from bilingual_chat.hub.http import reach_hub
    from bilingual_chat.settings.catalogue import DEFAULT_MODEL

    try:
        yield Finding("network", Phrase("doctor.reached", endpoint=reach_hub(config.catalogue[DEFAULT_MODEL])))
    except BchatError as error:
        yield Finding("network", Phrase("doctor.unreached"), error)


CHECKS: tuple[Callable[[Config, Display], Iterator[Finding]], ...] = (
    *(_program, _terminal, _locale, _kernels, _memory),
    *(_torch, _files, _model, _network),
)
