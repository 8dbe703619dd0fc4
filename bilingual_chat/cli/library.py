"""`bchat models`, `bchat pull` and `bchat rm`: what there is, what it needs, and getting and removing it."""

from __future__ import annotations

from bilingual_chat import catalogue, hub, messages
from bilingual_chat.cli import listing
from bilingual_chat.cli.listing import STATES
from bilingual_chat.config import Config
from bilingual_chat.display import Display
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.hub import check
from bilingual_chat.hub.remove import remove as remove_files
from bilingual_chat.hub.state import State
from bilingual_chat.messages import Phrase


def show(config: Config, display: Display, name: str | None) -> None:
    if name:
        listing.show_one(config, display, name)
    else:
        listing.show_all(config, display)


def verify(config: Config, display: Display, name: str | None) -> None:
    """Every file of the models that are here against its digest. Raises BchatError (MODEL) if one is damaged."""
    entries = [catalogue.find(config.catalogue, name)] if name else list(config.catalogue.values())
    here = [entry for entry in entries if catalogue.locate(entry) is not None and not entry.embedded]
    if name and not here:
        raise BchatError("model.not-here", status=ExitStatus.MODEL, name=entries[0].name)
    if not here:
        display.say(Phrase("models.none-here"))
    damaged = []
    for entry in here:
        report = check.verify(entry, display.progress)
        state = {file.name: messages.render(STATES[file.state], display.lang) for file in report.files}
        display.put_rows([(entry.name, name, said) for name, said in state.items()])
        if report.is_withdrawn:
            display.say(Phrase("models.withdrawn", name=entry.name))
        if report.state is State.DAMAGED:
            damaged.append(entry.name)
    if damaged:
        raise BchatError("models.damaged", status=ExitStatus.MODEL, names=", ".join(damaged), first=damaged[0])


def pull(config: Config, display: Display, name: str) -> None:
    entry = catalogue.find(config.catalogue, name)
    path = hub.download(entry, display.progress)
    display.say(Phrase("cli.pulled", name=entry.name, path=path))


def remove(config: Config, display: Display, name: str) -> None:
    """The model's files in the hub's cache, and what was converted from them."""
    from bilingual_chat.engines import converted

    entry = catalogue.find(config.catalogue, name)
    freed = remove_files(entry) + converted.sweep()
    display.say(
        Phrase("models.removed" if freed else "models.nothing-removed", name=entry.name, size=f"{freed / 1e9:.2f}")
    )
