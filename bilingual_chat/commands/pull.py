"""/pull: models fetched while one chats with another, one at a time; and the answer to the offer of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bilingual_chat import catalogue, paths
from bilingual_chat.catalogue import DEFAULT_MODEL, ModelEntry, with_withdrawn_of
from bilingual_chat.commands import offer
from bilingual_chat.commands.desk import Action, Desk, agrees, declines, unquoted, word
from bilingual_chat.commands.offer import Offer
from bilingual_chat.engines import memory
from bilingual_chat.engines.precisions import least_memory
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase

if TYPE_CHECKING:
    from bilingual_chat.hub import Progress
    from bilingual_chat.hub.delivery import Delivery

_STOP = ("stop", "cancel", "停止", "中止")


def pull(desk: Desk, argument: str) -> Action:
    """/pull"""
    if word(argument) in _STOP:
        stop(desk)
    elif not argument and desk.pulls.is_running:
        desk.show(progress_text(desk))
    else:
        fetch(desk, named(desk, argument or DEFAULT_MODEL, advises_path=False))
    return None


def named(desk: Desk, argument: str, *, advises_path: bool = True) -> ModelEntry:
    """The model of this name, or in the directory of this path."""
    return catalogue.find(desk.config.catalogue, unquoted(argument), advises_path=advises_path)


def fetch(desk: Desk, entry: ModelEntry) -> None:
    """Begin to fetch a model; on a pipe, where nobody chats meanwhile, until it is here."""
    pulls = desk.pulls
    if pulls.delivery is not None and pulls.is_running:
        raise BchatError("pull.busy", status=ExitStatus.USAGE, name=pulls.delivery.entry.name)
    from bilingual_chat import hub  # here, not above: see `desk`
    from bilingual_chat.hub.delivery import Delivery

    tell_news(desk)
    is_here = catalogue.locate(entry) is not None
    if is_here and hub.is_settled(entry):
        desk.say(Phrase("pull.here", name=entry.name))
        return
    hub.require_source(entry)
    entry = with_withdrawn_of(entry, desk.config.catalogue.values())
    if (warning := too_large(entry)) and not is_here:
        desk.say(warning)
    if pulls.foreground is not None:
        hub.download(entry, pulls.foreground)
        desk.say(Phrase("pull.done", name=entry.name))
        return
    pulls.delivery = Delivery(entry, pulls.when_over)
    pulls.delivery.start()
    is_own = is_here and bool(entry.directory)
    desk.say(Phrase("pull.comparing" if is_own else "pull.begun", name=entry.name, repo=entry.hub_id))


def stop(desk: Desk) -> None:
    """/pull stop"""
    delivery = desk.pulls.delivery
    if delivery is None or delivery.is_over:
        raise BchatError("pull.none", status=ExitStatus.USAGE)
    delivery.stop()
    desk.pulls.delivery = None
    desk.say(Phrase("pull.stopped", name=delivery.entry.name, percent=_percent(delivery)))


def tell_news(desk: Desk) -> None:
    """Say how a download ended, once."""
    delivery = desk.pulls.delivery
    if delivery is None or not delivery.is_over:
        return
    desk.pulls.delivery = None
    desk.say(delivery.error or Phrase("pull.done", name=delivery.entry.name))


def progress_text(desk: Desk, *, short: bool = False) -> str:
    """For the toolbar: the model on its way, how far it is, how quick, how long still. "" if there is none.

    `short`: how far it is, and no word more.
    """
    delivery = desk.pulls.delivery
    if delivery is None or delivery.is_over:
        return ""
    now = delivery.progress
    if short:
        return f"↓ {_percent(delivery)} %"
    if now is None:
        return desk.text(Phrase("pull.beginning", name=delivery.entry.name))
    return desk.text(_with_rate(Phrase("pull.progress", name=delivery.entry.name, percent=now.percent), now))


def leave(desk: Desk) -> None:
    """The chat ends, and so does the download: say that it goes on where it stopped."""
    delivery = desk.pulls.delivery
    if desk.pulls.is_running and delivery is not None:
        delivery.stop()
        desk.pulls.delivery = None
        desk.say(Phrase("pull.stopped", name=delivery.entry.name, percent=_percent(delivery)))
    else:
        tell_news(desk)


def answers_offer(desk: Desk, line: str) -> bool:
    """Whether a line was the answer to the offer; it stands until the first message."""
    standing, desk.pulls.offer = desk.pulls.offer, None
    if standing is None:
        return False
    if agrees(line):
        fetch(desk, standing.entry)
        return True
    if declines(line):
        offer.remember(offer.DECLINED)
        desk.say(Phrase("offer.declined", name=standing.entry.name))
        return True
    return False


def percent_of(desk: Desk, entry: ModelEntry) -> int | None:
    """How far this model is, None if it is not on its way."""
    delivery = _delivery_of(desk, entry)
    return None if delivery is None else _percent(delivery)


def coming(desk: Desk, entry: ModelEntry) -> str:
    """For a list: how far this model is, how quick, how long still. "" if it is not on its way."""
    delivery = _delivery_of(desk, entry)
    if delivery is None:
        return ""
    return desk.text(_with_rate(Phrase("model.coming", percent=_percent(delivery)), delivery.progress))


def _with_rate(where: Phrase, now: Progress | None) -> Phrase:
    if now is None or not now.rate:  # what is here already is looked at, or nothing comes
        return where
    return Phrase("progress.rate", where=where, rate=f"{now.rate / 1e6:.1f}", left=now.time_left)


def _delivery_of(desk: Desk, entry: ModelEntry) -> Delivery | None:
    delivery = desk.pulls.delivery
    is_this = delivery is not None and not delivery.is_over and delivery.entry.name == entry.name
    return delivery if is_this else None


def too_large(entry: ModelEntry) -> Phrase | None:
    """What is to be said before gigabytes are fetched that this machine cannot open now."""
    needed, available = least_memory(entry), memory.available_memory()
    if available is None or needed <= available:
        return None
    return Phrase("pull.memory", name=entry.name, needed=f"{needed / 1e9:.1f}", free=f"{available / 1e9:.1f}")


def offer_phrase(standing: Offer) -> Phrase:
    """The question, before the first prompt."""
    return Phrase(
        "offer.rest" if standing.here else "offer.whole",
        size=f"{standing.size / 1e9:.1f}",
        here=f"{standing.here / 1e9:.1f}",
        free=f"{standing.free / 1e9:.0f}",
        directory=paths.shorten(standing.directory),
    )


def pull_choices(desk: Desk, typed: str) -> Iterable[tuple[str, str]]:
    """What can be fetched; and "stop" while something is."""
    names = [
        (name, entry.describe(desk.lang))
        for name, entry in desk.config.catalogue.items()
        if entry.hub_id and catalogue.locate(entry) is None
    ]
    return [*names, *([("stop", desk.text(Phrase("pull.stop")))] if desk.pulls.is_running else [])]


def _percent(delivery: Delivery) -> int:
    return delivery.progress.percent if delivery.progress else 0
