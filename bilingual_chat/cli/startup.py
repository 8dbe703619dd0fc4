"""From the options, the files and the environment to the chat that they ask for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from bilingual_chat import messages
from bilingual_chat.engines.protocol import DeviceName, OpenOptions, QuantizeName
from bilingual_chat.messages.errors import BchatError, ExitStatus, unknown_name
from bilingual_chat.text.encodings import decode_argument

if TYPE_CHECKING:
    from bilingual_chat.cli.options import Options
    from bilingual_chat.settings.catalogue import ModelEntry
    from bilingual_chat.settings.config import Config, Settings
    from bilingual_chat.terminal.display import Display
    from bilingual_chat.text.conversation import Utterance


@dataclass(frozen=True)
class Startup:
    """A chat that can start: what options, files and environment say, resolved."""

    config: Config
    entry: ModelEntry
    settings: Settings
    opening: tuple[Utterance, ...]
    open_options: OpenOptions
    begin: str = ""  # the first words of each reply
    is_chosen: bool = False  # the model, by the user


def prepare(options: Options, display: Display) -> Startup:
    """Resolve the options. Raises BchatError: invalid settings (USAGE), a model that is not on this machine (MODEL)."""
    from bilingual_chat.session.persona import persona, remark_on_persona
    from bilingual_chat.settings import catalogue
    from bilingual_chat.settings.config import parse_assignments, settings_for

    config = load_configuration(options, display)
    entry = _find_model(options, config)
    if options.like is not None:
        entry = catalogue.spoken_to_like(entry, catalogue.find(config.catalogue, options.like))
    catalogue.require_here(entry)
    chosen: dict[str, Any] = parse_assignments([decode_argument(each, options.encoding) for each in options.set or ()])
    if options.seed is not None:
        chosen |= parse_assignments([f"seed={options.seed}"])
    settings = settings_for(config, entry, options.preset, chosen)
    is_plain = entry.prompt.kind == "plain"
    if is_plain and options.persona is not None:
        raise BchatError("persona.base", status=ExitStatus.USAGE, name=entry.name)
    typed = config.persona if options.persona is None else decode_argument(options.persona, options.encoding)
    opening = persona(typed)
    if remark := remark_on_persona(entry, opening):
        display.say(remark)
    open_options = OpenOptions(
        require_known("option.wrong-device", options.device or "auto", get_args(DeviceName)),
        options.accept_withdrawn,
        tuple(config.catalogue.values()),
        require_known("bench.quantize", options.quantize or config.quantize or "auto", get_args(QuantizeName)),
        servers=config.servers,
    )
    return Startup(
        config,
        entry,
        settings,
        () if is_plain else opening,
        open_options,
        decode_argument(options.begin or "", options.encoding),
        is_chosen=bool(options.model or options.server or config.model),
    )


def _find_model(options: Options, config: Config) -> ModelEntry:
    from bilingual_chat.settings import catalogue

    if options.server is not None:
        from bilingual_chat.session.served import find_served

        return find_served(options.server, options.model, config)
    named = options.model or config.model
    return catalogue.find(config.catalogue, named) if named else catalogue.default_entry(config.catalogue)


def require_known(key: str, name: str, known: Sequence[str]) -> Any:
    """Return `name`. Raises BchatError (USAGE) with the message `key` if it is not among `known`."""
    if name not in known:
        raise unknown_name(key, name, known)
    return name


def load_configuration(options: Options, display: Display) -> Config:
    """Load the configuration, set the language of `display`, and show the notices."""
    from bilingual_chat.settings.config import load_config

    config = load_config(options.config)
    display.lang = options.lang or config.lang or display.lang
    for notice in config.notices:
        display.say(notice)
    return config


def initial_language(lang: str | None) -> str:
    """Return the language of messages as far as it is known before a file is read."""
    for wanted in (lang, os.environ.get("BCHAT_LANG")):
        if wanted in messages.LANGUAGES:
            return wanted
    return messages.language_of(os.environ)
