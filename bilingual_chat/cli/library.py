"""`bchat models`, `bchat pull` and `bchat rm`: what there is, what it needs, and getting and removing it."""

from __future__ import annotations

from bilingual_chat import catalogue, hub, messages
from bilingual_chat.catalogue import ModelEntry
from bilingual_chat.config import Config
from bilingual_chat.display import Display
from bilingual_chat.engines import memory
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.hub import check
from bilingual_chat.hub.remove import remove as remove_files
from bilingual_chat.hub.state import State, recall
from bilingual_chat.messages import Phrase

BYTES = {"float32": 4, "bfloat16": 2}
_KEYS = {
    State.GOOD: "model.good",
    State.UNKNOWN: "model.unknown-state",
    State.CHANGED: "model.changed",
    State.DAMAGED: "model.damaged",
}


def show(config: Config, display: Display, name: str | None) -> None:
    """Every model, or one: whether it is here and verified, its size, the memory it needs of what is free."""
    entries = [catalogue.find(config.catalogue, name)] if name else list(config.catalogue.values())
    chosen = (
        catalogue.find(config.catalogue, config.model) if config.model else catalogue.default_entry(config.catalogue)
    )

    def text(key: str) -> str:
        return messages.render(key, display.lang)

    heading = tuple(text(f"heading.{key}") for key in ("model", "state", "size", "memory", "description"))
    rows = [
        (
            f"{'*' if entry.name == chosen.name else ' '} {entry.name}",
            text(_state(entry)),
            f"{entry.parameters * 2 / 1e9:.1f} GB"
            if entry.parameters > 1e8
            else f"{entry.parameters * 2 / 1e6:.0f} MB",
            " / ".join(f"{memory.estimate_memory(entry, size) / 1e9:.1f}" for size in BYTES.values()),
            f"{entry.describe(display.lang)} {entry.licence}",
        )
        for entry in entries
    ]
    display.put_rows([heading, *rows])
    free = memory.available_memory()
    if free is not None:
        display.say(Phrase("models.memory", kinds=" / ".join(BYTES), free=f"{free / 1e9:.1f}"))


def _state(entry: ModelEntry) -> str:
    """As it is known without reading a file of the model."""
    if entry.embedded:
        return "model.embedded"
    report = recall(entry)
    if report is None:
        return "model.absent"
    return "model.withdrawn" if report.is_withdrawn else _KEYS[report.state]


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
        state = {file.name: messages.render(_KEYS[file.state], display.lang) for file in report.files}
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
