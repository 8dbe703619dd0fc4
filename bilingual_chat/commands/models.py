"""Commands for models: /model, and /pull, which downloads one while the user chats with another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bilingual_chat.commands import first_run
from bilingual_chat.commands.app import Action, App, Rows
from bilingual_chat.commands.arguments import agrees, declines, unquoted, word
from bilingual_chat.commands.first_run import Offer
from bilingual_chat.engines import memory
from bilingual_chat.engines.memory import least_memory
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.persona import remark_on_persona
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.catalogue import DEFAULT_MODEL, ModelEntry, with_withdrawn_of
from bilingual_chat.storage import paths
from bilingual_chat.storage.sizes import format_bytes

if TYPE_CHECKING:
    from bilingual_chat.hub.background import BackgroundDownload
    from bilingual_chat.hub.download import Progress

_STOP = ("stop", "cancel", "停止", "中止")


def choose_model(app: App, argument: str) -> Action:
    """/model: switch to a model; without an argument, list them."""
    session = app.session
    if not argument:
        app.show_rows(_model_rows(app))
        return None
    entry = catalogue.find(app.config.catalogue, unquoted(argument))
    # A download into the user's own directory only compares the files that are there.
    is_usable = bool(entry.directory) and catalogue.locate(entry) is not None
    if (percent := percent_of(app, entry)) is not None and not is_usable:
        raise BchatError("pull.not-yet", status=ExitStatus.MODEL, name=entry.name, percent=percent)
    catalogue.require_here(entry)
    if entry != session.entry or app.loader.model is None:
        app.loader.load(entry)
        session.use_model(entry, session.settings.for_model(entry))
    app.say(Phrase("model.chosen", name=entry.name, preset=session.settings.preset))
    if remark := remark_on_persona(entry, session.conversation.opening):
        app.say(remark)
    return None


def _model_rows(app: App) -> Rows:
    entries = app.config.catalogue.items()
    mark = {app.session.entry.name: "*"}
    return [
        (f"{mark.get(name, ' ')} {name}", state_of(app, entry), entry.describe(app.lang)) for name, entry in entries
    ]


def state_of(app: App, entry: ModelEntry) -> str:
    """Return for a list whether a model is on this machine, or the progress of its download."""
    if running := _download_of(app, entry):
        return app.text(_with_rate(Phrase("model.coming", percent=_percent(running)), running.progress))
    if entry.server:
        return app.text(Phrase("server.state", server=entry.server))
    if catalogue.locate(entry) is not None:
        return app.text(Phrase("model.here"))
    return app.text(Phrase("model.absent" if catalogue.trouble(entry) is None else "model.unreadable-state"))


def pull(app: App, argument: str) -> Action:
    """/pull: download a model, or cancel. Without an argument, show the progress, or download the default model."""
    if word(argument) in _STOP:
        if not _cancel(app):
            raise BchatError("pull.none", status=ExitStatus.USAGE)
    elif not argument and app.downloads.running:
        app.show(progress_text(app))
    else:
        name = unquoted(argument or DEFAULT_MODEL)
        _start_download(app, catalogue.find(app.config.catalogue, name, advises_path=False))
    return None


def _start_download(app: App, entry: ModelEntry) -> None:
    """Download a model in the background, or without an editor (a pipe) in the foreground."""
    if running := app.downloads.running:
        raise BchatError("pull.busy", status=ExitStatus.USAGE, name=running.entry.name)
    from bilingual_chat.hub import download  # here, not above: see `app`
    from bilingual_chat.hub.background import BackgroundDownload

    report_download(app)
    is_here = catalogue.locate(entry) is not None
    if is_here and download.is_complete(entry):
        app.say(Phrase("pull.here", name=entry.name))
        return
    download.require_downloadable(entry)
    entry = with_withdrawn_of(entry, app.config.catalogue.values())
    if (warning := memory_warning(entry)) and not is_here:
        app.say(warning)
    if not app.reader.has_editor:
        download.download(entry, app.screen.progress)
        app.say(Phrase("pull.done", name=entry.name))
        return
    app.downloads.current = BackgroundDownload(entry, lambda: app.reader.put_aside(lambda: report_download(app)))
    app.downloads.current.start()
    is_own = is_here and bool(entry.directory)
    app.say(Phrase("pull.comparing" if is_own else "pull.begun", name=entry.name, repo=entry.hub_id))


def _cancel(app: App) -> bool:
    """Cancel the running download and say so. Return False if there is none."""
    running = app.downloads.running
    if running is None:
        return False
    running.cancel()
    app.downloads.current = None
    app.say(Phrase("pull.stopped", name=running.entry.name, percent=_percent(running)))
    return True


def report_download(app: App) -> None:
    """Report the result of a finished download, once."""
    finished = app.downloads.current
    if finished is not None and finished.is_finished:
        app.downloads.current = None
        app.say(finished.error or Phrase("pull.done", name=finished.entry.name))


def end_download(app: App) -> None:
    """At the end of the chat, cancel the download, or report its result."""
    if not _cancel(app):
        report_download(app)


def answer_offer(app: App, line: str) -> bool:
    """Return True if `line` answers the offer of a model, and act on it. The first message ends the offer."""
    offer, app.downloads.offer = app.downloads.offer, None
    if offer is None:
        return False
    if agrees(line):
        _start_download(app, offer.entry)
        return True
    if declines(line):
        first_run.remember(first_run.DECLINED)
        app.say(Phrase("offer.declined", name=offer.entry.name))
        return True
    return False


def progress_text(app: App, *, short: bool = False) -> str:
    """Return the progress of the download for the toolbar, "" if there is none."""
    running = app.downloads.running
    if running is None:
        return ""
    name, percent, now = running.entry.name, _percent(running), running.progress
    if short:
        return f"↓ {percent} %"
    if now is None:
        return app.text(Phrase("pull.beginning", name=name))
    return app.text(_with_rate(Phrase("pull.progress", name=name, percent=percent), now))


def percent_of(app: App, entry: ModelEntry) -> int | None:
    """Return the progress of this model's download, None if there is none."""
    running = _download_of(app, entry)
    return _percent(running) if running else None


def _download_of(app: App, entry: ModelEntry) -> BackgroundDownload | None:
    running = app.downloads.running
    return running if running and running.entry.name == entry.name else None


def _percent(download: BackgroundDownload) -> int:
    return download.progress.percent if download.progress else 0


def _with_rate(where: Phrase, now: Progress | None) -> Phrase:
    if now is None or not now.rate:  # nothing arrives, or files are being verified
        return where
    return Phrase("progress.rate", where=where, rate=f"{now.rate / 1e6:.1f}", left=now.time_left)


def memory_warning(entry: ModelEntry) -> Phrase | None:
    """Return a warning before the download of a model that does not fit in memory now."""
    needed, available = least_memory(entry), memory.available_memory()
    if available is None or needed <= available:
        return None
    return Phrase("pull.memory", name=entry.name, needed=format_bytes(needed), free=format_bytes(available))


def offer_phrase(offer: Offer) -> Phrase:
    """Return the question before the first prompt."""
    return Phrase(
        "offer.rest" if offer.here else "offer.whole",
        size=format_bytes(offer.size),
        here=format_bytes(offer.here),
        free=format_bytes(offer.free),
        directory=paths.shorten(offer.directory),
    )


def model_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    return [(name, entry.describe(app.lang)) for name, entry in app.config.catalogue.items()]


def pull_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    catalogued = app.config.catalogue.items()
    absent = [(name, entry) for name, entry in catalogued if entry.hub_id and catalogue.locate(entry) is None]
    choices = [(name, entry.describe(app.lang)) for name, entry in absent]
    return [*choices, *([("stop", app.text(Phrase("pull.stop")))] if app.downloads.running else [])]
