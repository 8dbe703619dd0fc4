"""The bottom line: model, settings, context, speed, and what is not saved."""

from __future__ import annotations

from bilingual_chat.commands import models
from bilingual_chat.commands.app import App
from bilingual_chat.messages import Phrase
from bilingual_chat.session.model import Model
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import DEFAULT, Settings
from bilingual_chat.settings.decoding import RANGES, format_value
from bilingual_chat.terminal.linebreak import count_cells
from bilingual_chat.text.sanitize import outward_line

QUANTIZED = ("int8", "w8a8", "int4")


class Toolbar:
    """The toolbar of `app`. State: the tokens counted last, because it is drawn at every key."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._counted: tuple[object, int] = (None, 0)

    def text(self, width: int | None = None) -> str:
        """Return the line for a terminal of `width` cells; the least important parts go first, warnings stay."""
        parts = self._parts()
        shorter = self._shorter_parts()
        while True:
            line = outward_line(" · ".join(part for part in parts.values() if part))
            if width is None or not shorter or count_cells(line) <= width:
                return line
            name, instead = shorter.pop(0)
            parts[name] = instead

    def _parts(self) -> dict[str, str]:
        app, session, model = self._app, self._app.session, self._app.loader.model
        last, parameters = session.last, session.settings.parameters
        used = last.parameters if last else parameters
        speed = last.tokens_per_second if last else None
        is_other_seed = used.temperature and used.seed != parameters.seed
        is_unsaved = session.conversation.turns and not session.is_saved
        return {
            "model": " ".join(filter(None, [_name(session.entry), _precision_if_quantized(model)])),
            "state": self._state_of_model(),
            "settings": " ".join(filter(None, [session.settings.preset, *_differing(session.settings)])),
            "context": f"{self._context_used(model)}/{model.context_length}" if model else "",
            "speed": f"{speed:.0f} tok/s" if speed else "",
            "unsaved": app.text(Phrase("toolbar.unsaved")) if is_unsaved else "",
            "pull": models.progress_text(app),
            "seed": app.text(Phrase("toolbar.seed", seed=used.seed)) if is_other_seed else "",
            "prefill": self._prefill(),
        }

    def _shorter_parts(self) -> list[tuple[str, str]]:
        """Return what shortens the line, the least important first."""
        settings = self._app.session.settings
        differing = _differing(settings)
        return [
            ("seed", ""),
            ("prefill", ""),
            ("settings", " ".join(filter(None, [settings.preset, f"+{len(differing)}" if differing else ""]))),
            ("pull", models.progress_text(self._app, short=True)),
            ("settings", ""),
            ("model", ""),
            ("speed", ""),
            ("pull", ""),
        ]

    def _state_of_model(self) -> str:
        loader = self._app.loader
        if loader.is_loading:
            percent = "" if loader.percent is None else f" {loader.percent} %"
            return self._app.text(Phrase("toolbar.loading")) + percent
        return "" if loader.model else self._app.text(Phrase("toolbar.failed"))

    def _prefill(self) -> str:
        percent = self._app.prefetch.percent
        return "" if percent is None else self._app.text(Phrase("toolbar.ahead", percent=percent))

    def _context_used(self, model: Model) -> int:
        """Return the tokens in use, at most all: the next message drops the oldest turns of a longer conversation."""
        state = (self._app.session.conversation, model)
        if self._counted[0] != state:
            self._counted = (state, min(self._app.session.context_used(model), model.context_length))
        return self._counted[1]


def _name(entry: ModelEntry) -> str:
    """Return the model's name, and the server that computes it."""
    return f"{entry.name}@{entry.server.partition('://')[2] or entry.server}" if entry.server else entry.name


def _precision_if_quantized(model: Model | None) -> str:
    return model.precision if model and model.precision in QUANTIZED else ""


def _differing(settings: Settings) -> list[str]:
    """Return the settings that something stronger than the preset gave."""
    usual = (DEFAULT, f"preset {settings.preset}")
    changed = {name: getattr(settings.parameters, name) for name in RANGES if settings.provenance[name] not in usual}
    return [f"{name}={format_value(value)}" for name, value in changed.items() if value is not None]
