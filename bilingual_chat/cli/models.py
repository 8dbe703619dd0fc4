"""`bchat models`, `bchat pull` and `bchat rm`."""

from __future__ import annotations

from pathlib import Path

from bilingual_chat import messages
from bilingual_chat.cli import models_table
from bilingual_chat.cli.models_table import state_of
from bilingual_chat.commands.models import memory_warning
from bilingual_chat.hub import download, verify
from bilingual_chat.hub.download import Size
from bilingual_chat.hub.remove import remove as remove_files
from bilingual_chat.hub.state import FileState, State
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.catalogue import ModelEntry, with_withdrawn_of
from bilingual_chat.settings.config import Config
from bilingual_chat.storage import paths, safe_stat
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal.display import Display


def verify_models(config: Config, display: Display, name: str | None) -> None:
    """Verify each file of one model, or of all on this machine. Raises BchatError (MODEL) for a damaged one."""
    entries = [catalogue.find(config.catalogue, name)] if name else list(config.catalogue.values())
    here = [entry for entry in entries if catalogue.locate(entry) is not None and not entry.embedded]
    if name and not here:
        catalogue.require_here(entries[0])
        raise BchatError("model.not-here", status=ExitStatus.MODEL, name=entries[0].name)
    models_table.report_unreadable(display, entries)
    if not here:
        display.say(Phrase("models.none-here"))
    damaged = []
    for entry in here:
        report = verify.verify(with_withdrawn_of(entry, config.catalogue.values()), display.progress)
        state = {file.name: messages.render(state_of(file), display.lang) for file in report.files}
        display.put_rows([(entry.name, name, text) for name, text in state.items()])
        if report.withdrawn:
            display.say(_withdrawn(config, entry, report.directory, report.withdrawn))
        if report.state is State.DAMAGED:
            damaged.append(entry.name)
    if damaged:
        raise BchatError("models.damaged", status=ExitStatus.MODEL, names=", ".join(damaged), first=damaged[0])


def _withdrawn(config: Config, entry: ModelEntry, directory: Path, file: FileState) -> Phrase:
    """Advise on withdrawn weights: `bchat rm` for a download, the path for a directory of the user's own."""
    owners = [each for each in config.catalogue.values() if file.withdrawn_md5 in map(str.lower, each.withdrawn_md5)]
    if entry in owners and not entry.directory:
        return Phrase("models.withdrawn", name=entry.name)
    name = owners[0].name if owners else entry.name
    return Phrase("models.withdrawn-elsewhere", path=paths.shorten(directory / file.name), name=name)


def pull(
    config: Config, display: Display, name: str, *, accept_withdrawn: bool = False, only_tokenizer: bool = False
) -> None:
    """Download a model: say its size and directory first, and the next command at the end or after Ctrl-C."""
    found = catalogue.find(config.catalogue, name, advises_path=False)
    entry = with_withdrawn_of(found, config.catalogue.values())
    has_started = False

    def on_start(size: Size) -> None:
        nonlocal has_started
        has_started = True
        if not only_tokenizer and (warning := memory_warning(entry)):
            display.say(warning)
        target = download.target_directory(entry)
        sizes = {"size": size.size, "missing": size.missing, "free": safe_stat.free_space(target)}
        shown = {name: format_bytes(size) for name, size in sizes.items()}
        display.say(Phrase("pull.size", name=entry.name, directory=paths.shorten(target), **shown))

    try:
        download.download(
            entry,
            display.progress,
            on_start=on_start,
            accept_withdrawn=accept_withdrawn,
            without_weights=only_tokenizer,
        )
    except KeyboardInterrupt:
        display.say(Phrase("cli.pull-stopped", name=entry.name))
        raise
    done = Phrase("cli.pulled" if has_started else "cli.was-here", name=entry.name)
    display.say(Phrase("server.pulled", name=entry.name) if only_tokenizer else done)


def remove(config: Config, display: Display, name: str) -> None:
    """Delete a model's files from the hub's cache, and the weights converted from them."""
    from bilingual_chat.engines.weights import cache

    entry = catalogue.find(config.catalogue, name, advises_path=False)
    freed = remove_files(entry) + cache.sweep()
    key = "models.removed" if freed else "models.nothing-removed"
    display.say(Phrase(key, name=entry.name, size=format_bytes(freed)))
