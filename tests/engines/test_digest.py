"""Digests tell models and tokenizers apart without reading gigabytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bilingual_chat.engines.weights.files import digest_model, digest_tokenizer
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.model import open_model
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.storage import paths


def make_directory(folder: Path, weights: bytes = b"w" * 100, config: bytes = b"{}") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_bytes(config)
    (folder / "spiece.model").write_bytes(b"tokens")
    return folder


def test_a_digest_is_that_of_the_content(tmp_path: Path) -> None:
    first = digest_model(make_directory(tmp_path / "a"))
    assert first == digest_model(make_directory(tmp_path / "b"))
    assert len({first, *(digest_model(each) for each in others(tmp_path))}) == 5


def others(tmp_path: Path) -> list[Path]:
    return [
        make_directory(tmp_path / "c", b"w" * 99 + b"v"),
        make_directory(tmp_path / "d", b"w" * 101),
        make_directory(tmp_path / "e", b"", b"w" * 100),
        make_directory(tmp_path / "f", config=b"[]"),
    ]


def test_of_a_large_file_samples_over_its_whole_length_are_read(tmp_path: Path) -> None:
    """A sparse file of 8 GB: its digest takes no time, and a change anywhere in 2 MB is seen."""
    folder = make_directory(tmp_path / "a")
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(8 << 30)
    digests = {digest_model(folder)}
    for place in (0, 3 << 30, (8 << 30) - (2 << 20)):
        with (folder / "model.safetensors").open("r+b") as file:
            file.seek(place)
            file.write(os.urandom(2 << 20))
        digests.add(digest_model(folder))
    assert len(digests) == 4


def test_the_tokenizer_has_a_digest_of_its_own(tmp_path: Path) -> None:
    folder = make_directory(tmp_path / "a")
    before = digest_tokenizer(folder), digest_model(folder)
    (folder / "spiece.model").write_bytes(b"other")
    assert digest_tokenizer(folder) != before[0]
    assert digest_model(folder) == before[1]
    (folder / "chat_template.jinja").write_bytes(b"{{ 1 }}")
    assert len({before[0], digest_tokenizer(folder)}) == 2


def test_files_that_are_missing_are_one_sentence(tmp_path: Path) -> None:
    folder = make_directory(tmp_path / "a")
    (folder / "config.json").unlink()
    with pytest.raises(BchatError, match=r"config\.json"):
        digest_model(folder)


def test_an_open_model_records_what_its_replies_depend_on() -> None:
    directory = paths.demo_model_dir()
    model = open_model(ModelEntry("demo", directory=str(directory)))
    run = model.record["run"]
    assert (run["digest"], run["tokenizer"]) == (digest_model(directory), digest_tokenizer(directory))
    assert run["kernel"] == "torch"
    assert run["processor"]
    assert run["threads"] == 1
    assert set(run["versions"]) >= {"bchat", "torch", "sentencepiece"}
