"""Models that a server computes: their entries, and how they are opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.engines.server import engine
from bilingual_chat.engines.server.engine import ServerEngine, Vocabulary
from bilingual_chat.engines.server.http import make_client
from bilingual_chat.engines.server.schedule import is_down
from bilingual_chat.engines.server.several import SeveralServers
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import ChatTokenizer, Model
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.catalogue import ModelEntry, is_other_family
from bilingual_chat.settings.config import Config
from bilingual_chat.settings.servers import Server, find_servers
from bilingual_chat.text.tokenizer import Tokenizer


def find_served(server_names: str, model_name: str | None, config: Config) -> ModelEntry:
    """Return the entry of a model on a server: the one named, that of [servers], or the one that the server reports.

    server_names: see `find_servers`. Raises BchatError: an unknown server (USAGE), an unknown model, an unreachable
    server (MODEL).
    """
    servers = find_servers(server_names, config.servers)
    if not servers:
        raise BchatError("server.url", status=ExitStatus.USAGE, url=server_names)
    named = model_name or next((server.model for server in servers if server.model), "")
    entry = catalogue.find(config.catalogue, named) if named else _reported(servers[0], config)
    names = (server.name if server.name in config.servers else server.url for server in servers)
    return replace(entry, server=",".join(names))


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
    """Return a model on one server or several, with the tokenizer in `directory`. Raises as `open_server` does.

    A model that is known under another name to the server is refused: records would name the wrong one. Of several
    servers, those that are down are left out with a notice, unless all are.
    """
    tokenizer, eos_id, vocab_size = _tokenizer(entry, directory)
    others = [name for other in options.others if other.name != entry.name for name in other.names]
    vocabulary = Vocabulary(eos_id, vocab_size)
    opened: list[ServerEngine] = []
    left_out: list[BchatError] = []
    servers = find_servers(entry.server, options.servers)
    for server in servers:
        try:
            opened.append(engine.open_server(server, entry, vocabulary, other_names=others))
        except BchatError as error:
            if not is_down(error) or len(servers) == 1:
                raise
            left_out.append(error)
    if not opened:
        raise left_out[0]
    served = opened[0] if len(servers) == 1 else SeveralServers(opened)
    model = ", ".join(dict.fromkeys(each.served_model for each in opened))
    record = {"url": served.device_name, "model": model, "can_replay": False, "has_distributions": False}
    notices = [Phrase("server.left-out", problem=Phrase(error.key, **error.values)) for error in left_out]
    limits = Phrase("server.limits", server=", ".join(server.name for server in servers))
    return Model(entry, tokenizer, served, (*notices, limits), server=record)


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
