"""What a repository on the hub holds of what bchat needs: names, sizes, and the digest that the hub states."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bilingual_chat.hub import http
from bilingual_chat.hub.http import Broken, Hub
from bilingual_chat.settings.catalogue import CONFIG_FILE, OTHER_TOKENIZER_FILE, TOKENIZER_FILE, WEIGHT_FILES
from bilingual_chat.storage import safe_read
from bilingual_chat.storage.checksums import algorithm_of

_WANTED_IF_THERE = ("tokenizer_config.json",)
# What other families keep their special ids and their chat template in.
_WANTED_OF_OTHERS = ("special_tokens_map.json", "generation_config.json", "chat_template.jinja")
_SHARD = {
    "model.safetensors.index.json": re.compile(r"model-\d+-of-\d+\.safetensors"),
    "pytorch_model.bin.index.json": re.compile(r"pytorch_model-\d+-of-\d+\.bin"),
}
_MOST = 16 << 20  # bytes of an answer


@dataclass(frozen=True)
class RemoteFile:
    """A file of the hub. `etag` is its SHA-256 if it is kept in LFS, else git's SHA-1, and names the blob."""

    name: str
    size: int
    etag: str


@dataclass(frozen=True)
class Listing:
    """The commit that a revision is now, and the files of it that bchat wants, small ones first."""

    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def look_up(hub: Hub, stop: threading.Event) -> Listing:
    """What is to be fetched. Raises BchatError (MODEL): not there, no model, no digests."""
    url = f"{hub.endpoint}/api/models/{hub.repo}/revision/{quote(hub.revision, safe='')}?blobs=true"
    answer = http.persist(lambda: _read_json(hub, url, stop), stop, is_first=True)
    commit, there = answer.get("sha"), answer.get("siblings")
    if not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40}", commit) or not isinstance(there, list):
        raise hub.error("hub.no-hub")
    files = {str(each.get("rfilename")): each for each in there if isinstance(each, dict)}
    return Listing(commit, tuple(_describe(hub, commit, files[name], stop) for name in _choose(hub, files)))


def file_url(hub: Hub, commit: str, name: str) -> str:
    """Where the content of a file is; the hub answers with it, or redirects to its CDN. Never Xet."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(hub.repo, name, revision=commit, endpoint=hub.endpoint)


def _read_json(hub: Hub, url: str, stop: threading.Event) -> dict[str, Any]:
    body = bytearray()
    with http.ask(hub, url, stop, connect_s=http.TIMEOUTS.first_connect) as response:
        for chunk in http.read(hub, response, stop):
            body += chunk
            if len(body) > _MOST:
                raise hub.error("hub.no-hub")
    try:
        return safe_read.parse_json(bytes(body))
    except ValueError:
        raise hub.error("hub.no-hub") from None


def _choose(hub: Hub, there: Iterable[str]) -> list[str]:
    """What bchat needs of a repository; weights in the best format that it offers."""
    there = set(there)
    is_other = TOKENIZER_FILE not in there and OTHER_TOKENIZER_FILE in there
    beside = (*_WANTED_IF_THERE, *(_WANTED_OF_OTHERS if is_other else ()))
    names = [CONFIG_FILE, OTHER_TOKENIZER_FILE if is_other else TOKENIZER_FILE]
    names += [name for name in beside if name in there]
    weights = next((name for name in WEIGHT_FILES if name in there), WEIGHT_FILES[0])
    names.append(weights)
    if weights in _SHARD:
        names += sorted(name for name in there if _SHARD[weights].fullmatch(name))
    for name in names:
        if name not in there:
            raise hub.error("hub.not-a-model", file=name)
    return names


def _describe(hub: Hub, commit: str, sibling: Mapping[str, Any], stop: threading.Event) -> RemoteFile:
    """Size and digest from the list; where that has none (a mirror may leave them out), from the file's headers."""
    name = str(sibling["rfilename"])
    lfs = sibling.get("lfs")
    etag = (lfs.get("sha256") or lfs.get("oid")) if isinstance(lfs, dict) else sibling.get("blobId")
    size = sibling.get("size")
    if not isinstance(etag, str) or not isinstance(size, int):
        etag, size = http.persist(lambda: _ask_headers(hub, file_url(hub, commit, name), stop), stop)
    if algorithm_of(etag) is None or size < 0:
        raise hub.error("hub.no-digest", file=name)
    return RemoteFile(name, size, etag)


def _ask_headers(hub: Hub, url: str, stop: threading.Event) -> tuple[str, int]:
    with http.ask(hub, url, stop, method="HEAD") as response:
        headers = response.headers
    etag = headers.get("x-linked-etag") or headers.get("etag", "")
    size = headers.get("x-linked-size") or headers.get("content-length", "")
    if not re.fullmatch(r"\d{1,18}", size):
        raise Broken(hub.error("hub.no-digest", file=url.rpartition("/")[2]))
    return etag.removeprefix("W/").strip('"'), int(size)
