"""The catalogue of models: prompt format, published data and local directory of each. Uses no network.

A model is a table of configs/models.toml or of the user's TOML; its keys are the fields of `ModelEntry`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from bilingual_chat.messages import LANGUAGES, Phrase, did_you_mean
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import toml_tables
from bilingual_chat.settings.toml_tables import WrongValue, fold_name
from bilingual_chat.storage import paths, safe_read, safe_stat
from bilingual_chat.text.prompt import TEMPLATE, PromptFormat

DEFAULT_MODEL = "sft"
DEMO_MODEL = "demo"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "spiece.model"
OTHER_TOKENIZER_FILE = "tokenizer.json"  # of other families, with a chat template
TOKENIZER_FILES = (TOKENIZER_FILE, OTHER_TOKENIZER_FILE, "tokenizer_config.json", "chat_template.jinja")
# In order of preference; an index names its shards.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# All withdrawn weights were published as a pickle of transformers.
PICKLES = "pytorch_model*.bin"
DTYPES = ("float16", "bfloat16", "float32")
# The cards of newer chat models give temperatures from 0.6 to 0.8; rinna's give 1.0.
OTHER_PRESET = "balanced"
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_MOST_REF = 1000  # bytes of the file that names a commit
_MOST_POSITIONS, _MOST_PARAMETERS = 1 << 30, 1 << 50
# As huggingface_hub has them (its validate_repo_id).
_HUB_ID = re.compile(r"(?=.{1,96}\Z)(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?(?:/\w(?:[\w.-]*\w)?)?", re.ASCII)
_REVISION = re.compile(r"(?=.{1,200}\Z)(?!.*\.\.)[\w.-]+(?:/[\w.-]+)*", re.ASCII)
_MD5 = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True)
class ModelEntry:
    """One model. Empty and 0 mean unknown: bchat then reads the model's own files."""

    name: str
    aliases: tuple[str, ...] = ()
    hub_id: str = ""  # "owner/name" on the hub
    revision: str = "main"
    directory: str = ""  # if not in the hub's cache; "~" is expanded
    embedded: bool = False  # ships inside bchat
    server: str = ""  # computes it: a name in [servers] or a URL; only the tokenizer is on this machine
    kind: Literal["chat", "base"] = "chat"
    prompt: PromptFormat = field(default_factory=PromptFormat)
    follows_persona: bool = True  # False if the model is known to ignore its opening
    context_length: int = 0  # positions
    preset: str = "card"
    parameters: int = 0
    layers: int = 0
    heads: int = 0
    hidden_size: int = 0
    dtype: str = ""  # the smallest lossless dtype
    licence: str = ""
    description: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # by language
    weights_md5: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # known good, by file
    withdrawn_md5: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))  # published, by name

    @property
    def names(self) -> tuple[str, ...]:
        """All names: name, aliases, hub id with and without its owner."""
        hub = (self.hub_id, self.hub_id.rpartition("/")[2]) if self.hub_id else ()
        return tuple(dict.fromkeys((self.name, *self.aliases, *hub)))

    @property
    def stored_bytes(self) -> int:
        """The approximate size of the weights on disk: 16 bits unless `dtype` says float32. 0 if unknown."""
        return self.parameters * (4 if self.dtype == "float32" else 2)

    def describe(self, lang: str) -> str:
        """Return the description in `lang`, else in English, else ""."""
        return self.description.get(lang) or self.description.get("en", "")


def load_catalogue(
    models: Mapping[str, Any], known: Mapping[str, ModelEntry] = MappingProxyType({})
) -> dict[str, ModelEntry]:
    """Return `known` models by name, updated key by key with the tables of `models`.

    Raises WrongValue: unknown key, wrong type, name taken, new model without hub id and directory.
    """
    toml_tables.check_size((), models)
    catalogue = dict(known)
    taken = {fold_name(each): entry.name for entry in known.values() for each in entry.names}
    for name, table in models.items():
        toml_tables.name((name,), name)
        entry = _parse_entry(name, toml_tables.table((name,), table), catalogue.get(name, ModelEntry(name)))
        _check_names(entry, taken)
        catalogue[name] = entry
        taken |= dict.fromkeys(map(fold_name, entry.names), name)
    return catalogue


def find(catalogue: Mapping[str, ModelEntry], name: str, *, advises_path: bool = True) -> ModelEntry:
    """Return the model called `name`, case and width folded, or the one in the directory `name`.

    Raises BchatError (MODEL) with the nearest name; `advises_path` False: without the advice to give a path.
    """
    wanted = fold_name(name)
    for entry in catalogue.values():
        if wanted in map(fold_name, entry.names):
            return entry
    directory = paths.expand(name.strip())
    is_path = name.lstrip().startswith((".", "~")) or directory.is_absolute()
    if is_path or safe_stat.is_dir(directory) or safe_stat.find_trouble([directory]) is not None:
        return open_path(directory, catalogue)
    every = [each for entry in catalogue.values() for each in entry.names]
    raise BchatError(
        "model.unknown" if advises_path else "model.unknown-name",
        status=ExitStatus.MODEL,
        name=name,
        suggestion=did_you_mean(wanted, every),
        known=", ".join(catalogue),
    )


def open_path(directory: Path, catalogue: Mapping[str, ModelEntry] = MappingProxyType({})) -> ModelEntry:
    """Return an entry for a model directory, named after it.

    Format and settings come from the catalogue if it has that name, or the model that transformers saved these files
    from. Otherwise it is a chat model in the speaker/text format or, of another family, with its own chat template.
    Raises BchatError (MODEL) for a directory that is incomplete or unreadable.
    """
    _refuse(safe_stat.find_trouble([directory, directory / CONFIG_FILE]))
    if not safe_stat.is_dir(directory):
        raise BchatError("model.no-directory", status=ExitStatus.MODEL, path=_absolute(directory))
    missing = missing_file(directory)
    if missing is not None:
        raise BchatError("model.incomplete", status=ExitStatus.MODEL, path=directory, file=missing)
    directory = _absolute(directory)
    name = _name_of(directory)
    like = _known_as(name, catalogue.values()) or _saved_from(directory, catalogue.values())
    if like is None and is_other_family(directory):
        return ModelEntry(name, directory=str(directory), prompt=TEMPLATE, preset=OTHER_PRESET)
    if like is None:
        return ModelEntry(name, directory=str(directory))
    return replace(like, name=name, aliases=(), embedded=False, directory=str(directory))


def spoken_to_like(entry: ModelEntry, other: ModelEntry) -> ModelEntry:
    """Return `entry` with kind, prompt format and preset of `other`; a directory does not record them."""
    return replace(entry, kind=other.kind, prompt=other.prompt, preset=other.preset)


def with_withdrawn_of(entry: ModelEntry, others: Iterable[ModelEntry]) -> ModelEntry:
    """Return `entry` with the withdrawn checksums of `others` too: a directory may hold any model's weights.

    For callers that hash the files anyway; opening a model compares sizes first (`check_withdrawn`).
    """
    digests = (*entry.withdrawn_md5, *(md5 for other in others for md5 in other.withdrawn_md5))
    return replace(entry, withdrawn_md5=tuple(dict.fromkeys(digests)))


def locate(entry: ModelEntry) -> Path | None:
    """Return the directory of the complete model, None if there is none. Skips unreadable ones: see `trouble`."""
    return next((directory for directory in _candidates(entry) if missing_file(directory) is None), None)


def trouble(entry: ModelEntry) -> tuple[Path, Phrase] | None:
    """Return the unreadable path that may hide this model, and the reason; None if it is here or nothing hides it."""
    if locate(entry) is not None:
        return None
    is_cached = not (entry.directory or entry.embedded)
    folder = hub_folder(entry.hub_id)
    above = (paths.hub_cache(), folder, folder / "snapshots") if is_cached else ()
    candidates = [part for each in _candidates(entry) for part in (each, each / CONFIG_FILE)]
    return safe_stat.find_trouble([*above, *candidates])


def require_here(entry: ModelEntry) -> Path:
    """Return the directory of the complete model; of the tokenizer, if a server computes the model.

    Raises BchatError (MODEL): not here, or unreadable.
    """
    directory = _locate_tokenizer(entry) if entry.server else locate(entry)
    if directory is not None:
        return directory
    _refuse(trouble(entry))
    key = "server.no-tokenizer" if entry.server else "model.not-here"
    raise BchatError(key, status=ExitStatus.MODEL, name=entry.name)


def _refuse(trouble: tuple[Path, Phrase] | None) -> None:
    if trouble is not None:
        raise BchatError("model.unreadable", status=ExitStatus.MODEL, path=trouble[0], reason=trouble[1])


def pickles_in(directory: Path) -> list[Path]:
    """Return the files in a model directory that have the name of a transformers pickle."""
    return [path for path in safe_stat.entries(directory) if path.match(PICKLES) and safe_stat.is_file(path)]


def _candidates(entry: ModelEntry) -> list[Path]:
    """Return the directories that may hold the model, the best first."""
    if entry.embedded:
        return [paths.demo_model_dir()]
    return [paths.expand(entry.directory)] if entry.directory else _snapshots(entry)


def default_entry(catalogue: Mapping[str, ModelEntry]) -> ModelEntry:
    """Return the default model: the 4B SFT model if it is here, otherwise the embedded one."""
    best = catalogue[DEFAULT_MODEL]
    return best if locate(best) is not None else catalogue[DEMO_MODEL]


def missing_file(directory: Path) -> str | None:
    """Return the first missing file of a model directory, None if it is complete. Does not check contents."""
    if not safe_stat.is_file(directory / CONFIG_FILE):
        return CONFIG_FILE
    if not safe_stat.is_file(directory / TOKENIZER_FILE) and not is_other_family(directory):
        return TOKENIZER_FILE
    lacking = WEIGHT_FILES[0]
    for name in WEIGHT_FILES:
        if safe_stat.is_file(directory / name):
            shard = _missing_shard(directory / name) if name.endswith(".json") else None
            if shard is None:
                return None
            lacking = shard
    return lacking


def is_other_family(directory: Path) -> bool:
    """Return True if the directory has a tokenizer of transformers and none of sentencepiece."""
    return safe_stat.is_file(directory / OTHER_TOKENIZER_FILE) and not safe_stat.is_file(directory / TOKENIZER_FILE)


def _locate_tokenizer(entry: ModelEntry) -> Path | None:
    """Return the first directory with a tokenizer."""
    candidates = _candidates(entry)
    return next(
        (each for each in candidates if safe_stat.is_file(each / TOKENIZER_FILE) or is_other_family(each)), None
    )


def shards_in(index: Path) -> list[str]:
    """Return the sorted file names in an index of shards; none if it is invalid, which the engine reports."""
    weight_map = _read_json(index).get("weight_map")
    return sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []


def _missing_shard(index: Path) -> str | None:
    shards = shards_in(index)
    return next((name for name in shards if not safe_stat.is_file(index.parent / name)), None if shards else index.name)


def hub_folder(hub_id: str) -> Path:
    """Return the folder of a repository in the hub's cache; it holds blobs/, refs/ and snapshots/."""
    return paths.hub_cache() / f"models--{hub_id.replace('/', '--')}"


def _snapshots(entry: ModelEntry) -> list[Path]:
    """Return the snapshot of the entry's revision, then, for the main branch, the others, newest first."""
    if not entry.hub_id:
        return []
    folder = hub_folder(entry.hub_id)
    try:
        commit = safe_read.read_bytes(folder / "refs" / entry.revision, _MOST_REF).decode().strip()
    except (OSError, ValueError):
        commit = entry.revision
    named = [folder / "snapshots" / commit] if _COMMIT.fullmatch(commit) else []
    if entry.revision != "main":
        return named
    others = [path for path in safe_stat.entries(folder / "snapshots") if path not in named]
    return named + sorted(others, key=lambda path: getattr(safe_stat.status(path), "st_mtime", 0.0), reverse=True)


def _absolute(directory: Path) -> Path:
    """Return the absolute path; unchanged if the working directory was deleted."""
    try:
        return directory.absolute()
    except OSError:
        return directory


def _name_of(directory: Path) -> str:
    """Return the last part of the path; for a snapshot in the hub's cache, the repository's name."""
    if directory.parent.name == "snapshots" and directory.parent.parent.name.startswith("models--"):
        return directory.parent.parent.name.rpartition("--")[2]
    return Path(os.path.realpath(directory)).name or str(directory)


def _known_as(name: str, entries: Iterable[ModelEntry]) -> ModelEntry | None:
    wanted = fold_name(name)
    return next(
        (e for e in entries if e.hub_id and wanted in map(fold_name, (e.hub_id, e.hub_id.rpartition("/")[2]))), None
    )


def _saved_from(directory: Path, entries: Iterable[ModelEntry]) -> ModelEntry | None:
    """Return the chat model that config.json names as the source of these files.

    Not a base model: models trained from one are usually chat models.
    """
    source = _read_json(directory / CONFIG_FILE).get("_name_or_path")
    known = _known_as(source, entries) if isinstance(source, str) else None
    return known if known is not None and known.kind == "chat" else None


def _read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, {} if it is invalid; the engine reports that."""
    try:
        return safe_read.read_json(path)
    except (OSError, ValueError):
        return {}


def _check_names(entry: ModelEntry, taken: Mapping[str, str]) -> None:
    """taken: the owner of each folded name."""
    for name in (entry.name, *entry.aliases):
        owner = taken.get(fold_name(name), entry.name)
        if owner != entry.name:
            path = (entry.name,) if name == entry.name else (entry.name, "aliases")
            raise WrongValue(path, Phrase("config.taken", field=name, name=owner))


def _parse_entry(name: str, table: Mapping[str, Any], base: ModelEntry) -> ModelEntry:
    known = [each.name for each in fields(ModelEntry) if each.name != "name"]
    values: dict[str, Any] = {}
    for key, value in table.items():
        toml_tables.check_key((name,), key, known)
        values[key] = _parse_prompt(name, value, base.prompt) if key == "prompt" else _READERS[key]((name, key), value)
    if values.get("kind") == "base" and "prompt" not in values and base.kind != "base":
        values["prompt"] = PromptFormat(kind="plain")
    entry = replace(base, **values)
    if not (entry.hub_id or entry.directory or entry.embedded):
        raise WrongValue((name,), Phrase("config.lacks", name=name, field="hub_id"))
    return entry


def _parse_prompt(name: str, value: Any, base: PromptFormat) -> PromptFormat:
    values = toml_tables.mapping(toml_tables.text, *(each.name for each in fields(PromptFormat)))(
        (name, "prompt"), value
    )
    if "kind" in values:
        toml_tables.choice("speaker-text", "plain", "template")((name, "prompt", "kind"), values["kind"])
        if values["kind"] == "template" != base.kind:
            base = TEMPLATE
    return replace(base, **values)


_READERS: dict[str, toml_tables.Read] = {
    "aliases": toml_tables.list_of(toml_tables.name),
    "hub_id": toml_tables.shaped(_HUB_ID, "hub-id"),
    "revision": toml_tables.shaped(_REVISION, "revision"),
    "directory": toml_tables.path,
    "embedded": toml_tables.flag,
    "server": toml_tables.name,
    "kind": toml_tables.choice("chat", "base"),
    "follows_persona": toml_tables.flag,
    "context_length": toml_tables.count(_MOST_POSITIONS),
    "preset": toml_tables.name,
    "parameters": toml_tables.count(_MOST_PARAMETERS),
    "layers": toml_tables.count(_MOST_POSITIONS),
    "heads": toml_tables.count(_MOST_POSITIONS),
    "hidden_size": toml_tables.count(_MOST_POSITIONS),
    "dtype": toml_tables.choice(*DTYPES),
    "licence": toml_tables.text,
    "description": toml_tables.mapping(toml_tables.text, *LANGUAGES),
    "weights_md5": toml_tables.mapping(toml_tables.shaped(_MD5, "md5")),
    "withdrawn_md5": toml_tables.list_of(toml_tables.shaped(_MD5, "md5")),
    "scores": toml_tables.mapping(toml_tables.number),
}
