"""Servers that compute a model: the tables below [servers] in a TOML file, and URLs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, urlsplit

from bilingual_chat.messages import Phrase, did_you_mean
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import toml_tables
from bilingual_chat.settings.toml_tables import KeyPath, WrongValue, fold_name

_SHOWN = 200  # characters of a wrong URL
MOST_WEIGHT = 1000
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Server:
    """A server with an OpenAI-compatible API. Its key is in the environment only (BCHAT_API_KEY)."""

    name: str  # in [servers]; for a bare URL, its host and port
    url: str  # without "/v1" and a final "/"
    model: str = ""  # a model of the catalogue or a directory: tokenizer and prompt format
    served_model: str = ""  # the model's name on the server; "" if the server is to say
    weight: float = 1.0  # share of the work beside other servers

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    @property
    def path(self) -> str:
        """The part of the URL before "/v1"; "" or "/prefix"."""
        return urlsplit(self.url).path

    @property
    def is_encrypted(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def is_this_machine(self) -> bool:
        """True for a loopback address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.rstrip(".") == "localhost"


def parse_url(text: str) -> str:
    """Return the URL of a server without "/v1" and a final "/". Raises BchatError (USAGE).

    Refuses user names and passwords: the process list and transcripts would show them.
    """
    parts = _split(text)
    if parts is None:
        raise BchatError("server.url", status=ExitStatus.USAGE, url=text[:_SHOWN])
    if parts.username is not None or parts.password is not None:
        raise BchatError("server.credentials", status=ExitStatus.USAGE)
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def _split(text: str) -> SplitResult | None:
    """Return the parts of an http or https URL without query and fragment; None for anything else."""
    text = text.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except (ValueError, UnicodeError):
        return None
    is_printable = all("!" <= character <= "~" for character in text)
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or port == 0:
        return None
    return parts if is_printable else None


def find_server(name: str, servers: Mapping[str, Server]) -> Server:
    """Return the server called `name`, or the one at the URL `name`. Raises BchatError (USAGE)."""
    if "://" in name:
        url = parse_url(name)
        return Server(urlsplit(url).netloc, url)
    for server in servers.values():
        if fold_name(server.name) == fold_name(name):
            return server
    known = Phrase("server.known", known=", ".join(servers)) if servers else Phrase("nothing")
    suggestion = did_you_mean(name, servers)
    raise BchatError(
        "server.unknown", status=ExitStatus.USAGE, name=name[:_SHOWN], suggestion=suggestion, servers=known
    )


def find_servers(names: str, servers: Mapping[str, Server]) -> tuple[Server, ...]:
    """Return the servers of a list with commas; "all" means every one of [servers]. Raises as `find_server` does."""
    if fold_name(names) == "all" and servers:
        return tuple(servers.values())
    return tuple(
        dict.fromkeys(find_server(name.strip(), servers) for name in re.split("[,，、]", names) if name.strip())
    )


def load_servers(tables: Mapping[str, Any], known: Mapping[str, Server] = MappingProxyType({})) -> dict[str, Server]:
    """Return `known` servers by name, updated with the tables below [servers]. Raises WrongValue."""
    toml_tables.check_size((), tables)
    servers = dict(known)
    for name, table in tables.items():
        toml_tables.name((name,), name)
        table = toml_tables.table((name,), table)
        for key in table:
            toml_tables.check_key((name,), key, _READERS)
        values = {key: _READERS[key]((name, key), value) for key, value in table.items()}
        if "url" not in values and name not in servers:
            raise WrongValue((name,), Phrase("config.lacks", name=name, field="url"))
        servers[name] = replace(servers.get(name, Server(name, "")), **values)
    return servers


def _read_url(path: KeyPath, value: Any) -> str:
    try:
        return parse_url(toml_tables.name(path, value))
    except BchatError as error:
        raise WrongValue(path, Phrase(error.key, **error.values)) from None


def _read_weight(path: KeyPath, value: Any) -> float:
    if not 0 < (weight := toml_tables.number(path, value)) <= MOST_WEIGHT:
        raise WrongValue(path, Phrase("server.weight", most=MOST_WEIGHT))
    return weight


_READERS: dict[str, toml_tables.Read] = {
    "url": _read_url,
    "model": toml_tables.path,
    "served_model": toml_tables.name,
    "weight": _read_weight,
}
