"""Models that a server computes: their entries, and how they are opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.engines.server import engine
from bilingual_chat.engines.server.http import make_client
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import ChatTokenizer, Model
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.catalogue import ModelEntry, is_other_family
from bilingual_chat.settings.config import Config
from bilingual_chat.settings.servers import Server, find_server
from bilingual_chat.text.tokenizer import Tokenizer


def find_served(server_name: str, model_name: str | None, config: Config) -> ModelEntry:
    """Return the entry of a model on a server: the one named, that of [servers], or the one that the server reports.

    Raises BchatError: an unknown server (USAGE), an unknown model, an unreachable server (MODEL).
    """
    server = find_server(server_name, config.servers)
    named = model_name or server.model
    entry = catalogue.find(config.catalogue, named) if named else _reported(server, config)
    return replace(entry, server=server.name if server.name in config.servers else server.url)


def _reported(server: Server, config: Config) -> ModelEntry:
    client = make_client(server)
    models = engine.served_models(client)
    for model in models:
        for entry in config.catalogue.values():
            if engine.is_called(model, entry.names):
                return entry
    known = ", ".join(str(model["id"]) for model in models[:10])[:300]
    raise client.error("server.which-model", known=known)


def open_served(entry: ModelEntry, directory: Path, options: OpenOptions) -> Model:
    """Return a model on a server, with the tokenizer in `directory`. Raises BchatError as `open_server` does.

    A model that is known under another name to the server is refused: records would name the wrong one.
    """
    server = find_server(entry.server, options.servers)
    tokenizer, eos_id, vocab_size = _tokenizer(entry, directory)
    served = engine.open_server(
        server,
        names=entry.names,
        other_names=[name for other in options.others if other.name != entry.name for name in other.names],
        name=entry.name,
        eos_id=eos_id,
        vocab_size=vocab_size,
        context_length=entry.context_length,
    )
    record = {"url": server.url, "model": served.served_model, "can_replay": False, "has_distributions": False}
    return Model(entry, tokenizer, served, (Phrase("server.limits", server=server.name),), server=record)


def _tokenizer(entry: ModelEntry, directory: Path) -> tuple[ChatTokenizer, int, int]:
    """Return the tokenizer, its end-of-sequence id and the size of its vocabulary."""
    if not is_other_family(directory):
        tokenizer = Tokenizer(directory / catalogue.TOKENIZER_FILE, newline=entry.prompt.newline)
        return tokenizer, tokenizer.eos_id, tokenizer.vocab_size
    from bilingual_chat.engines.other_families.chat_template import TemplateTokenizer  # seconds

    other = TemplateTokenizer(directory, entry.prompt)
    if not other.eos_ids:
        raise BchatError("server.no-tokenizer", status=ExitStatus.MODEL, name=entry.name)
    return other, other.eos_ids[0], other.vocab_size
