"""The files of a repository that bchat needs: names, sizes and checksums, as the hub states them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from bilingual_chat.hub import http
from bilingual_chat.hub.http import Hub, Retryable
from bilingual_chat.settings.catalogue import CONFIG_FILE, OTHER_TOKENIZER_FILE, TOKENIZER_FILE, WEIGHT_FILES
from bilingual_chat.storage import safe_read
from bilingual_chat.storage.checksums import algorithm_of

_OPTIONAL = ("tokenizer_config.json",)
# Where other families keep their special ids and their chat template.
_OPTIONAL_OF_OTHERS = ("special_tokens_map.json", "generation_config.json", "chat_template.jinja")
_SHARD = {
    "model.safetensors.index.json": re.compile(r"model-\d+-of-\d+\.safetensors"),
    "pytorch_model.bin.index.json": re.compile(r"pytorch_model-\d+-of-\d+\.bin"),
}
_RESPONSE_LIMIT = 16 << 20  # bytes


@dataclass(frozen=True)
class RemoteFile:
    """A file of the hub. `etag` is its SHA-256 if it is kept in LFS, else git's SHA-1, and the name of its blob."""

    name: str
    size: int
    etag: str


@dataclass(frozen=True)
class Listing:
    """The commit of a revision, and those of its files that bchat needs, small ones first."""

    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def without_weights(self) -> Listing:
        """Return the listing of the other files."""
        shards = _SHARD.values()
        weights = {
            file for file in self.files if file.name in WEIGHT_FILES or any(s.fullmatch(file.name) for s in shards)
        }
        return replace(self, files=tuple(file for file in self.files if file not in weights))


def fetch_listing(hub: Hub, cancel: threading.Event) -> Listing:
    """Return the files to download. Raise BchatError (MODEL): no such repository, no model, no checksums."""
    url = f"{hub.endpoint}/api/models/{hub.repo}/revision/{quote(hub.revision, safe='')}?blobs=true"
    answer = http.retry(lambda: _fetch_json(hub, url, cancel), cancel, is_first=True)
    commit, siblings = answer.get("sha"), answer.get("siblings")
    if not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40}", commit) or not isinstance(siblings, list):
        raise hub.error("hub.no-hub")
    files = {str(each.get("rfilename")): each for each in siblings if isinstance(each, dict)}
    return Listing(commit, tuple(_describe(hub, commit, files[name], cancel) for name in _choose(hub, files)))


def file_url(hub: Hub, commit: str, name: str) -> str:
    """Return the URL of a file; the hub answers with the file, or redirects to its CDN. Never Xet."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(hub.repo, name, revision=commit, endpoint=hub.endpoint)


def _fetch_json(hub: Hub, url: str, cancel: threading.Event) -> dict[str, Any]:
    body = bytearray()
    with http.request(hub, url, cancel, connect_s=http.TIMEOUTS.first_connect) as response:
        for chunk in http.read_body(hub, response, cancel):
            body += chunk
            if len(body) > _RESPONSE_LIMIT:
                raise hub.error("hub.no-hub")
    try:
        return safe_read.parse_json(bytes(body))
    except ValueError:
        raise hub.error("hub.no-hub") from None


def _choose(hub: Hub, available: Iterable[str]) -> list[str]:
    """Return the names that bchat needs; of the weights, those in the best format."""
    available = set(available)
    is_other = TOKENIZER_FILE not in available and OTHER_TOKENIZER_FILE in available
    optional = (*_OPTIONAL, *(_OPTIONAL_OF_OTHERS if is_other else ()))
    weights = next((name for name in WEIGHT_FILES if name in available), WEIGHT_FILES[0])
    names = [CONFIG_FILE, OTHER_TOKENIZER_FILE if is_other else TOKENIZER_FILE]
    names += [*(name for name in optional if name in available), weights]
    if weights in _SHARD:
        names += sorted(name for name in available if _SHARD[weights].fullmatch(name))
    for name in names:
        if name not in available:
            raise hub.error("hub.not-a-model", file=name)
    return names


def _describe(hub: Hub, commit: str, sibling: Mapping[str, Any], cancel: threading.Event) -> RemoteFile:
    """Return size and checksum from the list; from the file's headers if the list, as of some mirrors, lacks them."""
    name, lfs, size = str(sibling["rfilename"]), sibling.get("lfs"), sibling.get("size")
    etag = (lfs.get("sha256") or lfs.get("oid")) if isinstance(lfs, dict) else sibling.get("blobId")
    if not isinstance(etag, str) or not isinstance(size, int):
        etag, size = http.retry(lambda: _fetch_headers(hub, file_url(hub, commit, name), cancel), cancel)
    if algorithm_of(etag) is None or size < 0:
        raise hub.error("hub.no-digest", file=name)
    return RemoteFile(name, size, etag)


def _fetch_headers(hub: Hub, url: str, cancel: threading.Event) -> tuple[str, int]:
    with http.request(hub, url, cancel, method="HEAD") as response:
        headers = response.headers
    etag = headers.get("x-linked-etag") or headers.get("etag", "")
    size = headers.get("x-linked-size") or headers.get("content-length", "")
    if not re.fullmatch(r"\d{1,18}", size):
        raise Retryable(hub.error("hub.no-digest", file=url.rpartition("/")[2]))
    return etag.removeprefix("W/").strip('"'), int(size)
