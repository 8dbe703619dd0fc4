"""/pull: models fetched while one chats with another, one at a time; and the answer to the offer of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bilingual_chat.commands import first_run
from bilingual_chat.commands.app import Action, App, agrees, declines, unquoted, word
from bilingual_chat.commands.first_run import Offer
from bilingual_chat.engines import memory
from bilingual_chat.engines.precision import least_memory
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.catalogue import DEFAULT_MODEL, ModelEntry, with_withdrawn_of
from bilingual_chat.storage import paths
from bilingual_chat.storage.sizes import format_bytes

if TYPE_CHECKING:
    from bilingual_chat.hub.background import BackgroundDownload
    from bilingual_chat.hub.download import Progress

_STOP = ("stop", "cancel", "停止", "中止")


def pull(app: App, argument: str) -> Action:
    """/pull"""
    if word(argument) in _STOP:
        stop(app)
    elif not argument and app.downloads.is_running:
        app.show(progress_text(app))
    else:
        fetch(app, named(app, argument or DEFAULT_MODEL, advises_path=False))
    return None


def named(app: App, argument: str, *, advises_path: bool = True) -> ModelEntry:
    """The model of this name, or in the directory of this path."""
    return catalogue.find(app.config.catalogue, unquoted(argument), advises_path=advises_path)


def fetch(app: App, entry: ModelEntry) -> None:
    """Begin to fetch a model; on a pipe, where nobody chats meanwhile, until it is here."""
    downloads = app.downloads
    if downloads.delivery is not None and downloads.is_running:
        raise BchatError("pull.busy", status=ExitStatus.USAGE, name=downloads.delivery.entry.name)
    from bilingual_chat.hub import download  # here, not above: see `app`
    from bilingual_chat.hub.background import BackgroundDownload

    tell_news(app)
    is_here = catalogue.locate(entry) is not None
    if is_here and download.is_complete(entry):
        app.say(Phrase("pull.here", name=entry.name))
        return
    download.require_downloadable(entry)
    entry = with_withdrawn_of(entry, app.config.catalogue.values())
    if (warning := too_large(entry)) and not is_here:
        app.say(warning)
    if not app.reader.has_editor:
        download.download(entry, app.screen.progress)
        app.say(Phrase("pull.done", name=entry.name))
        return
    downloads.delivery = BackgroundDownload(entry, lambda: app.reader.put_aside(lambda: tell_news(app)))
    downloads.delivery.start()
    is_own = is_here and bool(entry.directory)
    app.say(Phrase("pull.comparing" if is_own else "pull.begun", name=entry.name, repo=entry.hub_id))


def stop(app: App) -> None:
    """/pull stop"""
    delivery = app.downloads.delivery
    if delivery is None or delivery.is_finished:
        raise BchatError("pull.none", status=ExitStatus.USAGE)
    delivery.cancel()
    app.downloads.delivery = None
    app.say(Phrase("pull.stopped", name=delivery.entry.name, percent=_percent(delivery)))


def tell_news(app: App) -> None:
    """Say how a download ended, once."""
    delivery = app.downloads.delivery
    if delivery is None or not delivery.is_finished:
        return
    app.downloads.delivery = None
    app.say(delivery.error or Phrase("pull.done", name=delivery.entry.name))


def progress_text(app: App, *, short: bool = False) -> str:
    """For the toolbar: the model on its way, how far it is, how quick, how long still. "" if there is none.

    `short`: how far it is, and no word more.
    """
    delivery = app.downloads.delivery
    if delivery is None or delivery.is_finished:
        return ""
    now = delivery.progress
    if short:
        return f"↓ {_percent(delivery)} %"
    if now is None:
        return app.text(Phrase("pull.beginning", name=delivery.entry.name))
    return app.text(_with_rate(Phrase("pull.progress", name=delivery.entry.name, percent=now.percent), now))


def leave(app: App) -> None:
    """The chat ends, and so does the download: say that it goes on where it stopped."""
    delivery = app.downloads.delivery
    if app.downloads.is_running and delivery is not None:
        delivery.cancel()
        app.downloads.delivery = None
        app.say(Phrase("pull.stopped", name=delivery.entry.name, percent=_percent(delivery)))
    else:
        tell_news(app)


def answers_offer(app: App, line: str) -> bool:
    """Whether a line was the answer to the offer; it stands until the first message."""
    standing, app.downloads.offer = app.downloads.offer, None
    if standing is None:
        return False
    if agrees(line):
        fetch(app, standing.entry)
        return True
    if declines(line):
        first_run.remember(first_run.DECLINED)
        app.say(Phrase("offer.declined", name=standing.entry.name))
        return True
    return False


def percent_of(app: App, entry: ModelEntry) -> int | None:
    """How far this model is, None if it is not on its way."""
    delivery = _delivery_of(app, entry)
    return None if delivery is None else _percent(delivery)


def coming(app: App, entry: ModelEntry) -> str:
    """For a list: how far this model is, how quick, how long still. "" if it is not on its way."""
    delivery = _delivery_of(app, entry)
    if delivery is None:
        return ""
    return app.text(_with_rate(Phrase("model.coming", percent=_percent(delivery)), delivery.progress))


def _with_rate(where: Phrase, now: Progress | None) -> Phrase:
    if now is None or not now.rate:  # what is here already is looked at, or nothing comes
        return where
    return Phrase("progress.rate", where=where, rate=f"{now.rate / 1e6:.1f}", left=now.time_left)


def _delivery_of(app: App, entry: ModelEntry) -> BackgroundDownload | None:
    delivery = app.downloads.delivery
    is_this = delivery is not None and not delivery.is_finished and delivery.entry.name == entry.name
    return delivery if is_this else None


def too_large(entry: ModelEntry) -> Phrase | None:
    """What is to be said before gigabytes are fetched that this machine cannot open now."""
    needed, available = least_memory(entry), memory.available_memory()
    if available is None or needed <= available:
        return None
    return Phrase("pull.memory", name=entry.name, needed=format_bytes(needed), free=format_bytes(available))


def offer_phrase(standing: Offer) -> Phrase:
    """The question, before the first prompt."""
    return Phrase(
        "offer.rest" if standing.here else "offer.whole",
        size=format_bytes(standing.size),
        here=format_bytes(standing.here),
        free=format_bytes(standing.free),
        directory=paths.shorten(standing.directory),
    )


def pull_choices(app: App, typed: str) -> Iterable[tuple[str, str]]:
    """What can be fetched; and "stop" while something is."""
    names = [
        (name, entry.describe(app.lang))
        for name, entry in app.config.catalogue.items()
        if entry.hub_id and catalogue.locate(entry) is None
    ]
    return [*names, *([("stop", app.text(Phrase("pull.stop")))] if app.downloads.is_running else [])]


def _percent(delivery: BackgroundDownload) -> int:
    return delivery.progress.percent if delivery.progress else 0
