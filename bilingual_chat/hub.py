"""Models from the hub: the only room that imports huggingface_hub, and only inside its functions.

(Its import takes some 300 ms, and nothing but `bchat pull` wants it.) The hub's standard cache is
used; HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN mean what they mean to huggingface_hub.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilingual_chat import paths
from bilingual_chat.catalogue import CONFIG_FILE, TOKENIZER_FILE, WEIGHT_FILES, ModelEntry, hub_folder, locate
from bilingual_chat.errors import BchatError, ExitStatus

_USUAL_ENDPOINT = "https://huggingface.co"
_MARGIN = 64 << 20  # bytes left free on the disk
# By name: the HTTP client is another in another version of huggingface_hub.
_NOT_REACHED = ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol")
_WANTED_IF_THERE = ("tokenizer_config.json",)
_SHARD = {
    "model.safetensors.index.json": re.compile(r"model-\d+-of-\d+\.safetensors"),
    "pytorch_model.bin.index.json": re.compile(r"pytorch_model-\d+-of-\d+\.bin"),
}


@dataclass(frozen=True)
class Progress:
    """Where a download stands; sizes are in bytes and count what was already here."""

    file: str
    file_done: int
    file_size: int
    done: int
    size: int


def download(entry: ModelEntry, progress: Callable[[Progress], None]) -> Path:
    """Fetch what bchat needs of a model and return its directory; nothing is fetched that is here.

    The commit is fixed first, so that all files belong together; it gets its name in the cache only
    when they are all there. `progress` is called often, from this thread or another. Files that are
    complete stay after a failure or Ctrl-C (KeyboardInterrupt); half of one does not.
    Raises BchatError (MODEL).
    """
    here = locate(entry)
    if here is not None:
        return here
    if not entry.hub_id:
        raise BchatError("hub.nothing-to-fetch", status=ExitStatus.MODEL, name=entry.name)
    if _is_on("HF_HUB_OFFLINE") or _is_on("TRANSFORMERS_OFFLINE"):
        raise BchatError("hub.offline", status=ExitStatus.MODEL)
    with _explained(entry):
        commit, sizes = _list_files(entry)
        wanted = _choose_files(entry, sizes)
        snapshot = hub_folder(entry.hub_id) / "snapshots" / commit
        _check_space({name: size for name, size in wanted.items() if not (snapshot / name).is_file()})
        done = 0
        for name, size in wanted.items():
            _fetch(entry, commit, name, _reporter(progress, name, size, done, sum(wanted.values())))
            done += size
        _name_commit(entry, commit)
    return snapshot


def _list_files(entry: ModelEntry) -> tuple[str, dict[str, int]]:
    """The commit that the entry's revision is now, and the size of each file in it."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=_endpoint()).model_info(
        entry.hub_id, revision=entry.revision, files_metadata=True, timeout=30
    )
    if not info.sha or not re.fullmatch("[0-9a-f]{40}", info.sha):
        raise ValueError("the answer names no commit")
    return info.sha, {file.rfilename: file.size or 0 for file in info.siblings or []}


def _choose_files(entry: ModelEntry, sizes: Mapping[str, int]) -> dict[str, int]:
    """What bchat needs of a repository, small files first; weights in the best format that it offers."""
    names = [CONFIG_FILE, TOKENIZER_FILE, *(name for name in _WANTED_IF_THERE if name in sizes)]
    weights = next((name for name in WEIGHT_FILES if name in sizes), None)
    names.append(weights or WEIGHT_FILES[0])
    if weights in _SHARD:
        names += sorted(name for name in sizes if _SHARD[weights].fullmatch(name))
    for name in names:
        if name not in sizes:
            raise BchatError("hub.not-a-model", status=ExitStatus.MODEL, repo=entry.hub_id, file=name)
    return {name: sizes[name] for name in names}


def _check_space(missing: Mapping[str, int]) -> None:
    directory = paths.hub_cache()
    existing = next(each for each in (directory, *directory.parents) if each.exists())
    needed, free = sum(missing.values()), shutil.disk_usage(existing).free
    if needed + _MARGIN > free:
        raise _no_space(needed, free)


def _fetch(entry: ModelEntry, commit: str, name: str, report: Callable[[int], None]) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        """What huggingface_hub shows its progress on: here it shows nothing and passes on what came."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            report(int(n or 0))

        # With these two it makes one bar a file, not one for the network and one for the disk.
        def update_transfer(self, n: float | None = 1) -> None:
            pass

        def set_transfer_postfix_str(self, postfix: str, refresh: bool = False) -> None:
            pass

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it warns of retries in the server's words
    hf_hub_download(
        entry.hub_id, name, revision=commit, cache_dir=paths.hub_cache(), endpoint=_endpoint(), tqdm_class=Bar
    )
    report(0)


def _reporter(
    progress: Callable[[Progress], None], name: str, size: int, before: int, total: int
) -> Callable[[int], None]:
    """A function that is told how many more bytes of the file came, and tells `progress` where it all stands."""
    come = 0

    def report(more: int) -> None:
        nonlocal come
        # The last call, with nothing more, is also the only one for a file that was already here.
        come = min(max(come + more, 0), size) if more else size
        progress(Progress(name, come, size, before + come, total))

    return report


def _name_commit(entry: ModelEntry, commit: str) -> None:
    """Note, as huggingface_hub does, which commit the revision's name stands for."""
    if entry.revision == commit:
        return
    ref = hub_folder(entry.hub_id) / "refs" / entry.revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    new = ref.with_name(f"{ref.name}.{os.getpid()}.new")
    try:
        new.write_text(commit, encoding="utf-8")
        new.replace(ref)
    finally:
        new.unlink(missing_ok=True)


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or _USUAL_ENDPOINT).rstrip("/")


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")


@contextmanager
def _explained(entry: ModelEntry) -> Iterator[None]:
    """Whatever goes wrong within, in one sentence (BchatError, MODEL)."""
    try:
        yield
    except BchatError:
        raise
    except Exception as error:
        raise _explain(error, entry) from error


def _explain(error: Exception, entry: ModelEntry) -> BchatError:
    from huggingface_hub import errors

    # A failed look-up is wrapped in "not found in the cache"; what happened is its cause.
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status, repo, endpoint = ExitStatus.MODEL, entry.hub_id, _endpoint()
    if isinstance(error, errors.OfflineModeIsEnabled):
        return BchatError("hub.offline", status=status)
    if isinstance(error, errors.GatedRepoError):
        return BchatError("hub.gated", status=status, repo=repo)
    if isinstance(error, errors.RevisionNotFoundError):
        return BchatError("hub.revision", status=status, repo=repo, revision=entry.revision)
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return BchatError("hub.unknown", status=status, repo=repo, endpoint=endpoint)
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403, 404):
        return BchatError("hub.unknown", status=status, repo=repo, endpoint=endpoint)
    if isinstance(error, errors.HfHubHTTPError):
        return BchatError("hub.status", status=status, endpoint=endpoint, code=error.response.status_code)
    # The base of HfHubHTTPError is the HTTP client's own error; which client that is differs by version.
    if isinstance(error, errors.HfHubHTTPError.__mro__[1]):
        if type(error).__name__ in _NOT_REACHED:
            return BchatError("hub.no-network", status=status, endpoint=endpoint)
        return BchatError("hub.cut", status=status, repo=repo)
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_disk(error)
    if isinstance(error, OSError):  # huggingface_hub's own check of the size
        return BchatError("hub.cut", status=status, repo=repo)
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return BchatError("hub.failed", status=status, repo=repo, reason=reason)


def _explain_disk(error: OSError) -> BchatError:
    directory = paths.hub_cache()
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return BchatError("hub.disk-full", status=ExitStatus.MODEL, directory=directory)
    reason = error.strerror or str(error)
    return BchatError("hub.not-written", status=ExitStatus.MODEL, directory=directory, reason=reason)


def _no_space(needed: int, free: int) -> BchatError:
    return BchatError(
        "hub.no-space",
        status=ExitStatus.MODEL,
        needed=_gigabytes(needed),
        free=_gigabytes(free),
        directory=paths.hub_cache(),
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
