"""Weights on their way into the engine: withdrawn ones, cached conversions, memory."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bilingual_chat.engines import device
from bilingual_chat.engines.device import DTYPES, check_memory, pick_dtype
from bilingual_chat.engines.local import neox_size
from bilingual_chat.engines.memory import estimate_memory, needed_memory
from bilingual_chat.engines.neox.config import NeoxConfig, parse_config
from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.engines.weights import cache, convert, reader
from bilingual_chat.engines.weights.quantize import Part
from bilingual_chat.engines.weights.reader import stored_dtype
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import load_config
from bilingual_chat.storage import checksums, lock, paths
from tests.models import FAMILY, make_model, open_local, prompt, refusal, reply, save_pickle
from tests.runs import ROOT, posix

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # models are written and converted

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory in float16 safetensors; tests that change it take `directory`."""
    path = tmp_path_factory.mktemp("half")
    make_model(**FAMILY).half().save_pretrained(path)
    return path


@pytest.fixture
def directory(half: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(half, tmp_path / "model"))


@pytest.fixture
def tiny_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert and cache files that are usually too small for it."""
    monkeypatch.setattr(convert, "WORTH", 0)
    monkeypatch.setattr(convert, "MARGIN", 0)


def state_of(directory: Path) -> dict[str, Tensor]:
    return dict(load_file(directory / "model.safetensors"))


def kept_files() -> list[Path]:
    return sorted(path for path in paths.cache_dir().joinpath("converted").rglob("*") if path.is_file())


# -- withdrawn weights


@pytest.fixture
def recalled(directory: Path) -> ModelEntry:
    """An entry whose withdrawn weights are those of `directory`, now a pickle."""
    save_pickle(directory, state_of(directory))
    data = (directory / "pytorch_model.bin").read_bytes()
    return ModelEntry(
        "sft", weights_md5={"pytorch_model.bin": "de72aa"}, withdrawn_md5=(hashlib.md5(data).hexdigest().upper(),)
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed from now on."""
    seen: list[str] = []
    record = checksums.record

    def counted(path: Path, *args: Any, **kwargs: Any) -> None:
        seen.append(path.name)
        record(path, *args, **kwargs)

    monkeypatch.setattr(checksums, "record", counted)
    return seen


def test_withdrawn_weights_are_refused_with_the_reason_and_the_good_ones(directory: Path, recalled: ModelEntry) -> None:
    error = refusal(directory, entry=recalled)
    assert error.key == "engine.withdrawn"
    for said in ("non-commercial", "pytorch_model.bin, MD5 de72aa", "bchat pull sft", "--accept-withdrawn"):
        assert said in str(error)
    assert "非商用" in error.sentence("ja")


def test_withdrawn_weights_open_when_that_is_asked_for_and_say_so(directory: Path, recalled: ModelEntry) -> None:
    assert open_local(directory, entry=recalled, accept_withdrawn=True).withdrawn
    assert not open_local(
        directory, entry=replace(recalled, withdrawn_md5=("0" * 32,)), accept_withdrawn=True
    ).withdrawn


def test_the_catalogue_names_the_withdrawn_sft_weights() -> None:
    """The MD5 that the model card states for the file of 2023-07-31."""
    assert "edf190a323c0ae63f71476700fb0b462" in load_config().catalogue["sft"].withdrawn_md5


def test_what_lies_beside_withdrawn_weights_is_refused_too(directory: Path, half: Path, recalled: ModelEntry) -> None:
    shutil.copy(half / "model.safetensors", directory)
    assert refusal(directory, entry=recalled).key == "engine.withdrawn"
    (directory / "pytorch_model.bin").unlink()
    assert not open_local(directory, entry=recalled).withdrawn


def test_a_model_of_which_nothing_was_withdrawn_is_not_read_for_it(directory: Path, read: list[str]) -> None:
    open_local(directory, entry=ModelEntry("x"))
    assert read == []
    assert not (paths.cache_dir() / "checked.json").exists()


def test_a_file_is_read_once_until_it_changes(directory: Path, recalled: ModelEntry, read: list[str]) -> None:
    """Size, time and inode are remembered; a copy, a new time or new content is hashed again."""
    path = directory / "pytorch_model.bin"
    reports: list[tuple[int, int]] = []
    for _ in range(3):
        refusal(directory, entry=recalled, progress=lambda done, total: reports.append((done, total)))
    assert read == ["pytorch_model.bin"]
    size = path.stat().st_size
    assert reports[-1] == (size, size)
    memory = paths.cache_dir() / "checked.json"
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    assert sorted(each.name for each in memory.parent.iterdir()) == ["checked.json"]
    os.utime(path, ns=(1, 1))
    refusal(directory, entry=recalled)
    assert len(read) == 2
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert not open_local(directory, entry=recalled).withdrawn
    assert len(read) == 3


def open_named(directory: Path, *others: ModelEntry, accept: bool = False) -> Model:
    """Open a directory by its path, as a user does; `others` is the catalogue."""
    entry = ModelEntry("my-own", directory=str(directory))
    return open_model(entry, OpenOptions(accept_withdrawn=accept, others=others))


@pytest.fixture
def spoken(directory: Path) -> Path:
    """`directory` with the demo model's tokenizer, whose size equals the vocabulary of the tiny model."""
    shutil.copy(paths.demo_model_dir() / "spiece.model", directory)
    config = json.loads((directory / "config.json").read_text())
    tensors = state_of(directory)
    for name in ("gpt_neox.embed_in.weight", "embed_out.weight"):
        tensors[name] = tensors[name][:1].repeat(5120, 1)
    (directory / "config.json").write_text(json.dumps({**config, "vocab_size": 5120}))
    save_file(tensors, directory / "model.safetensors")
    return directory


def test_withdrawn_weights_are_known_in_a_directory_of_any_name(
    spoken: Path, request: pytest.FixtureRequest, read: list[str]
) -> None:
    """Renamed, copied, opened by path: the weights are recognised, and the good ones belong to another model."""
    recalled = request.getfixturevalue("recalled")
    size = (spoken / "pytorch_model.bin").stat().st_size
    known = replace(recalled, parameters=int(size / 2 / 1.02))  # what torch.save adds is 2 % of so small a model
    for _ in range(2):
        with pytest.raises(BchatError) as caught:
            open_named(spoken, ModelEntry("first"), known)
        assert caught.value.key == "engine.withdrawn"
        assert "bchat pull sft" in str(caught.value)
        assert str(spoken) in str(caught.value)
    assert read == ["pytorch_model.bin"]
    model = open_named(spoken, known, accept=True)
    assert model.is_withdrawn
    assert model.entry.name == model.engine.name == "my-own"


def test_a_file_too_small_or_too_large_to_be_the_withdrawn_one_is_not_read(
    spoken: Path, request: pytest.FixtureRequest, read: list[str]
) -> None:
    """Otherwise every small model would pay for the one large withdrawn file."""
    recalled = request.getfixturevalue("recalled")
    for parameters in (3_796_120_064, 1000):
        assert not open_named(spoken, replace(recalled, parameters=parameters)).is_withdrawn
    assert read == []


def test_safetensors_alone_cannot_be_a_withdrawn_pickle(spoken: Path, read: list[str]) -> None:
    parameters = (spoken / "model.safetensors").stat().st_size // 2
    other = ModelEntry("sft", parameters=parameters, withdrawn_md5=("0" * 32,))
    assert not open_named(spoken, other).is_withdrawn
    assert read == []


@pytest.mark.parametrize("layout", ["safetensors", "sharded safetensors"])
def test_safetensors_are_never_read_for_what_was_withdrawn(directory: Path, layout: str, read: list[str]) -> None:
    """Also for the model whose pickle was withdrawn: their MD5 can never equal the pickle's."""
    layouts(directory, layout)
    reports: list[tuple[int, int]] = []
    entry = ModelEntry("sft", withdrawn_md5=("0" * 32,))
    assert not open_local(directory, entry=entry, progress=lambda *now: reports.append(now)).withdrawn
    assert (read, reports) == ([], [])


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b'{"a": [1, 2]}', b"\xff", b"[" * 100_000])
def test_a_damaged_memory_of_digests_costs_time_only(directory: Path, recalled: ModelEntry, content: bytes) -> None:
    paths.cache_dir().mkdir(parents=True)
    (paths.cache_dir() / "checked.json").write_bytes(content)
    assert refusal(directory, entry=recalled).key == "engine.withdrawn"
    assert len(json.loads((paths.cache_dir() / "checked.json").read_bytes())) == 1


def test_without_a_writable_cache_the_check_is_made_each_time(
    directory: Path, recalled: ModelEntry, read: list[str]
) -> None:
    paths.cache_dir().parent.mkdir(parents=True, exist_ok=True)
    paths.cache_dir().write_text("a file in the way")
    refusal(directory, entry=recalled)
    refusal(directory, entry=recalled)
    assert len(read) == 2


# -- what the files may hold


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8])
@pytest.mark.parametrize("shards", ["", "sharded"])
def test_masks_of_any_kind_in_a_pickle_are_passed_over(directory: Path, kind: torch.dtype, shards: str) -> None:
    """attention.bias of older checkpoints is a mask of bools or bytes; across shards too."""
    expected = reply(open_local(directory), prompt(9))
    state = state_of(directory)
    for layer in range(3):
        at = f"gpt_neox.layers.{layer}.attention."
        state |= {f"{at}bias": torch.ones((1, 1, 64, 64), dtype=kind), f"{at}masked_bias": torch.tensor(-1e9)}
    if shards:
        places = {name: f"pytorch_model-0000{index % 3 + 1}-of-00003.bin" for index, name in enumerate(state)}
        for file in set(places.values()):
            save_pickle(directory, {name: state[name] for name in state if places[name] == file}, file)
        (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    else:
        save_pickle(directory, state)
    assert reply(open_local(directory), prompt(9)) == expected


def test_bfloat16_under_a_float16_config_is_what_it_is(directory: Path) -> None:
    """The PPO models: their config.json says float16, and only bfloat16 is lossless."""
    config = directory / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "torch_dtype": "float16", "dtype": "float16"}))
    state = {name: tensor.bfloat16() for name, tensor in state_of(directory).items()}
    state["gpt_neox.final_layer_norm.weight"] = state["gpt_neox.final_layer_norm.weight"].float()
    save_file(state, directory / "model.safetensors")
    assert reader.stored_dtype([directory / "model.safetensors"]) == torch.bfloat16
    engine = open_local(directory)
    assert all(torch.equal(engine._model._layers[0][name].bfloat16(), tensor) for name, tensor in first_layer(state))


def first_layer(state: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    prefix = "gpt_neox.layers.0."
    return [(name.removeprefix(prefix), state[name]) for name in state if name.startswith(prefix)]


def test_a_file_of_several_widths_opens(directory: Path) -> None:
    state = state_of(directory)
    kinds = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    mixed = {name: tensor.to(kinds[index % 4]) for index, (name, tensor) in enumerate(state.items())}
    save_file(mixed, directory / "model.safetensors")
    engine = open_local(directory, dtype="bfloat16")
    assert {tensor.dtype for layer in engine._model._layers for tensor in layer.values()} == {torch.bfloat16}


# -- kept conversions


def layouts(directory: Path, layout: str) -> None:
    """The weights of `directory` in another layout."""
    state = state_of(directory)
    suffix = ".bin" if "bin" in layout else ".safetensors"
    if "sharded" not in layout:
        if suffix == ".bin":
            save_pickle(directory, state)
        return
    stem = "pytorch_model" if suffix == ".bin" else "model"
    (directory / "model.safetensors").unlink()
    places = {name: f"{stem}-0000{index % 2 + 1}-of-00002{suffix}" for index, name in enumerate(state)}
    for file in set(places.values()):
        part = {name: state[name] for name in state if places[name] == file}
        torch.save(part, directory / file) if suffix == ".bin" else save_file(part, directory / file)
    index = f"{stem}{suffix}.index.json"
    (directory / index).write_text(json.dumps({"weight_map": places}))


@pytest.mark.usefixtures("tiny_is_worth_it")
@pytest.mark.parametrize("layout", ["safetensors", "bin", "sharded safetensors", "sharded bin"])
def test_weights_are_converted_once_and_then_only_mapped(
    directory: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cached file has exactly the rounded numbers, and the source is not read again."""
    state = state_of(directory)
    layouts(directory, layout)
    reports: list[tuple[int, int]] = []
    first = open_local(directory, dtype="bfloat16", progress=lambda done, total: reports.append((done, total)))
    (kept,) = kept_files()
    size = sum(tensor.numel() for tensor in state.values()) * 2
    assert reports[-1] == (size, size)
    assert reports == sorted(reports)
    assert (stat.S_IMODE(kept.stat().st_mode), stat.S_IMODE(kept.parent.stat().st_mode)) == (0o600, 0o700)
    loaded = load_file(kept)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name].bfloat16()) for name in state)
    reports.clear()
    read_tensors = reader.read_tensors

    def kept_only(path: Path, *names: Any) -> Any:
        assert path == kept
        return read_tensors(path, *names)

    monkeypatch.setattr(reader, "read_tensors", kept_only)
    second = open_local(directory, dtype="bfloat16", progress=lambda done, total: reports.append((done, total)))
    assert reports == []
    assert first.notices == second.notices == ()
    assert reply(first, prompt(9)) == reply(second, prompt(9))


@pytest.mark.usefixtures("tiny_is_worth_it")
def test_what_is_stored_as_it_is_computed_is_not_copied(directory: Path) -> None:
    open_local(directory, dtype="float16")
    save_file(
        {name: tensor.bfloat16() for name, tensor in state_of(directory).items()}, directory / "model.safetensors"
    )
    open_local(directory, dtype="bfloat16")
    assert kept_files() == []


def test_a_small_model_is_not_kept_twice(directory: Path) -> None:
    save_pickle(directory, state_of(directory))
    open_local(directory)
    assert kept_files() == []


@pytest.mark.usefixtures("tiny_is_worth_it")
def test_a_source_that_changed_is_converted_again_and_the_old_conversion_removed(directory: Path) -> None:
    open_local(directory, dtype="bfloat16")
    open_local(directory, dtype="float32")
    before = kept_files()
    assert len(before) == 2
    state = state_of(directory)
    state["embed_out.weight"] *= 2
    save_file(state, directory / "model.safetensors")
    os.utime(directory / "model.safetensors", ns=(5, 5))
    open_local(directory, dtype="bfloat16")
    (after,) = kept_files()
    assert after not in before
    assert torch.equal(load_file(after)["embed_out.weight"], state["embed_out.weight"].bfloat16())


@pytest.mark.usefixtures("tiny_is_worth_it")
def test_sweeping_after_a_model_was_removed_frees_its_conversions(directory: Path) -> None:
    open_local(directory, dtype="bfloat16")
    (kept,) = kept_files()
    size = kept.stat().st_size
    assert cache.sweep() == 0
    shutil.rmtree(directory)
    assert cache.sweep() == size
    assert list((paths.cache_dir() / "converted").iterdir()) == []


@pytest.mark.usefixtures("tiny_is_worth_it")
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"x" * len(data)])
def test_a_damaged_conversion_is_made_again(directory: Path, damage: Any) -> None:
    expected = reply(open_local(directory, dtype="bfloat16"), prompt(9))
    (kept,) = kept_files()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert reply(open_local(directory, dtype="bfloat16"), prompt(9)) == expected
    assert kept.read_bytes() == whole


@pytest.mark.usefixtures("tiny_is_worth_it")
def test_weights_that_are_no_numbers_are_not_kept(directory: Path) -> None:
    """Also those that become infinite only in the requested dtype."""
    state = state_of(directory)
    state["embed_out.weight"][5, 5] = math.nan
    save_file(state, directory / "model.safetensors")
    assert refusal(directory, dtype="bfloat16").key == "engine.weights-not-numbers"
    assert kept_files() == []


@pytest.mark.usefixtures("tiny_is_worth_it")
def test_ctrl_c_while_converting_leaves_nothing(directory: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_local(directory, dtype="bfloat16", progress=interrupt)
    assert list((paths.cache_dir() / "converted").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from bilingual_chat.engines.weights import convert
from tests.models import open_local
convert.WORTH = convert.MARGIN = 0
def kill(done, total):
    if done > total // 3:
        os.kill(os.getpid(), signal.SIGKILL)
open_local(Path(sys.argv[1]), dtype="bfloat16", progress=kill)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.usefixtures("tiny_is_worth_it")
def test_a_killed_conversion_leaves_a_part_that_the_next_one_removes(directory: Path, tmp_path: Path) -> None:
    """Also if the next conversion is of another model."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(directory)], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    (part,) = kept_files()
    assert part.name == "model.safetensors.part"
    other = shutil.copytree(directory, tmp_path / "other")
    open_local(other, dtype="bfloat16")
    assert [path.name for path in kept_files()] == ["model.safetensors"]
    open_local(directory, dtype="bfloat16")
    assert [path.name for path in kept_files()] == ["model.safetensors"] * 2


@posix
@pytest.mark.usefixtures("tiny_is_worth_it")
@pytest.mark.parametrize("kind", ["symlink_to", "hardlink_to"])
def test_a_conversion_is_not_written_through_a_link(directory: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "precious"
    other.write_text("precious")
    (path,) = [cache.path_for([directory / "model.safetensors"], "torch.float32")]
    path.parent.mkdir(parents=True)
    getattr(path.with_name(path.name + ".part"), kind)(other)
    open_local(directory, dtype="float32")
    assert other.read_text() == "precious"
    assert kept_files() == [path]


@posix
@pytest.mark.usefixtures("tiny_is_worth_it")
def test_a_conversion_where_others_may_write_is_neither_used_nor_made(directory: Path) -> None:
    """Another user could make bchat answer with other weights."""
    open_local(directory, dtype="float32")
    (kept,) = kept_files()
    written = kept.stat().st_mtime_ns
    kept.parent.chmod(0o777)
    engine = open_local(directory, dtype="float32")
    assert [notice.key for notice in engine.notices] == ["engine.not-converted"]
    assert kept.stat().st_mtime_ns == written
    kept.parent.chmod(0o700)
    assert open_local(directory, dtype="float32").notices == ()


@pytest.mark.usefixtures("tiny_is_worth_it")
def test_a_second_process_waits_for_the_first_ones_conversion(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the other process's progress, and then maps its file; a sweep leaves that file alone."""
    source, whole = directory / "model.safetensors", state_of(directory)
    kept = cache.path_for([source], "torch.bfloat16")
    theirs = cache.claim(kept, lambda done: None)
    assert theirs is not None
    theirs.write(b"x" * 64)
    theirs.flush()
    assert cache.sweep() == 0
    pauses: list[float] = []

    def finish(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            theirs.truncate(0)
            theirs.seek(0)
            tensors = reader.survey([source], parse(directory).shapes())
            convert.write_header(theirs, [Part(each.name, each.shape, torch.bfloat16) for each in tensors], {})
            for each in tensors:
                theirs.write(whole[each.name].bfloat16().view(torch.uint8).numpy().data)
            cache.commit(theirs, kept)

    monkeypatch.setattr("time.sleep", finish)
    reports: list[int] = []
    engine = open_local(directory, dtype="bfloat16", progress=lambda done, total: reports.append(done))
    assert (len(pauses), reports) == (3, [64] * 3)
    assert kept_files() == [kept]
    assert len(reply(engine, prompt(9))) > 0


@pytest.mark.parametrize("finished", [True, False])
def test_a_part_that_goes_between_opening_and_locking_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    """Its owner has renamed it, and truncating it would destroy the result; or it was swept away."""
    source = tmp_path / "source"
    source.write_bytes(b"x")
    kept = cache.path_for([source], "torch.bfloat16")
    theirs = cache.claim(kept, lambda done: None)
    assert theirs is not None
    theirs.write(b"whole")
    is_locked = lock.try_lock
    calls: list[int] = []

    def late(fd: int) -> bool:
        calls.append(fd)
        if len(calls) == 1:
            cache.commit(theirs, kept) if finished else cache.abandon(theirs, kept)
        return is_locked(fd)

    monkeypatch.setattr(lock, "try_lock", late)
    ours = cache.claim(kept, lambda done: None)
    if finished:
        assert ours is None
        assert kept.read_bytes() == b"whole"
    else:
        assert ours is not None
        ours.write(b"again")
        cache.commit(ours, kept)
        assert kept.read_bytes() == b"again"


def parse(directory: Path) -> NeoxConfig:
    return parse_config(json.loads((directory / "config.json").read_text()))


@pytest.mark.usefixtures("tiny_is_worth_it")
def test_without_disk_space_weights_are_opened_directly_with_a_notice(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reply(open_local(directory, dtype="bfloat16"), prompt(9))
    os.utime(directory / "model.safetensors", ns=(9, 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
        engine = open_local(directory, dtype="bfloat16")
    assert [notice.key for notice in engine.notices] == ["engine.no-room-to-convert"]
    assert reply(engine, prompt(9)) == expected
    assert kept_files() == []


@pytest.mark.usefixtures("tiny_is_worth_it")
@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_disk_that_fails_while_converting_costs_nothing_but_time(
    directory: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = os.open

    def fail(*args: Any, **kwargs: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail_in_the_cache(path: Any, *args: Any, **kwargs: Any) -> int:
        return (fail if str(path).startswith(str(paths.cache_dir())) else real)(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        if call == "replace":
            patch.setattr(Path, "replace", fail)
        else:
            patch.setattr(f"os.{call}", fail_in_the_cache if call == "open" else fail)
        engine = open_local(directory, dtype="bfloat16")
    assert [notice.key for notice in engine.notices] == ["engine.not-converted"]
    assert engine.notices[0].values["reason"].key == "reason.full"
    assert kept_files() == []
    assert len(reply(engine, prompt(9))) > 0


MEASURED = """
import json, sys
from pathlib import Path
import torch
from bilingual_chat.engines.weights import convert, files
from bilingual_chat.engines.neox.config import parse_config
from tests.runs import ROOT, posix
directory = Path(sys.argv[1])
shapes = parse_config(files.read_json(directory / "config.json")).shapes()
weights, problem = convert.open_weights(files.find_weights(directory), shapes, torch.bfloat16, torch.device("cpu"))
assert problem is None
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak, sum(tensor.numel() * 2 for tensor in weights.values()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_a_conversion_takes_little_more_memory_than_its_result(tmp_path: Path, layout: str) -> None:
    """1 GB: at most 1.15 times that, libraries included, in a separate process."""
    command = [
        sys.executable,
        "benchmarks/full_size.py",
        "4b",
        str(tmp_path / "m"),
        "--layers",
        "1",
        "--dtype",
        "float16",
    ]
    subprocess.run([*command, "--format", layout], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path / "m")],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    peak, size = map(int, done.stdout.split())
    assert size > 900_000_000
    assert len(kept_files()) == 1
    assert peak <= 1.15 * size


# -- what fits, and in what


FULL = {
    "model_type": "gpt_neox",
    "hidden_size": 2816,
    "num_hidden_layers": 36,
    "num_attention_heads": 22,
    "intermediate_size": 11264,
    "vocab_size": 65536,
    "max_position_embeddings": 2048,
}


@pytest.mark.parametrize(
    ("free", "dtype", "choice"),
    [
        (9, torch.float32, "in bfloat16 it needs 8.6 GB and fits"),
        (8.4, torch.bfloat16, "`bchat --quantize int8` in the shell needs 5.0 GB and fits"),
        (4, torch.bfloat16, "`bchat --quantize int4` in the shell needs 3.3 GB and fits"),
        (2, torch.bfloat16, "the model demo needs 154 MB and fits"),
        (0.1, torch.bfloat16, "choose a smaller model"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_choice_that_does(
    monkeypatch: pytest.MonkeyPatch, free: float, dtype: torch.dtype, choice: str
) -> None:
    monkeypatch.setattr(device, "available_memory", lambda: int(free * 1e9))
    with pytest.raises(BchatError) as caught:
        check_memory(neox_size(parse_config(FULL)), dtype, CPU, load_config().catalogue.values())
    assert caught.value.status == ExitStatus.MODEL
    assert choice in str(caught.value)
    assert caught.value.sentence("ja").endswith("。")
    monkeypatch.setattr(device, "available_memory", lambda: 18_000_000_000)
    check_memory(neox_size(parse_config(FULL)), dtype, CPU)


def test_what_a_gpu_cannot_hold_may_fit_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6_000_000_000, 8_000_000_000))
    monkeypatch.setattr(device, "available_memory", lambda: 16_000_000_000)
    with pytest.raises(BchatError, match=r"8\.6 GB of memory, but only 6\.0 GB are free; on the CPU"):
        check_memory(neox_size(parse_config(FULL)), torch.bfloat16, torch.device("cuda"))


@pytest.mark.parametrize("name", ["sft", "base-8k", "j-ppo", "demo"])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_the_catalogue_alone_gives_the_memory_within_a_few_percent(name: str, itemsize: int) -> None:
    entry = load_config().catalogue[name]
    raw = {**FULL, "max_position_embeddings": entry.context_length, "vocab_size": 32000 if name == "j-ppo" else 65536}
    if name == "demo":
        raw = json.loads((paths.demo_model_dir() / "config.json").read_text())
    config = parse_config(raw)
    exact = needed_memory(config.parameter_count, config.cache_elements(), itemsize)
    assert estimate_memory(entry, itemsize) == pytest.approx(exact, rel=0.03)
    assert estimate_memory(ModelEntry("unknown"), itemsize) == 0


@pytest.mark.parametrize(
    ("device", "lossless", "expected"),
    [
        ("cpu", "float16", torch.bfloat16),
        ("cuda", "float16", torch.float16),
        ("cuda", "bfloat16", torch.bfloat16),
        ("cuda", "float32", torch.bfloat16),
        ("cuda", "", torch.float16),
        ("mps", "", torch.float16),
    ],
)
def test_the_dtype_follows_the_hardware_and_what_loses_nothing(
    half: Path, device: str, lossless: str, expected: torch.dtype
) -> None:
    """If the catalogue does not say, the file does: here float16."""

    def stored() -> torch.dtype | None:
        return DTYPES[lossless] if lossless else stored_dtype([half / "model.safetensors"])

    place, large, small = torch.device(device), neox_size(parse_config(FULL)), neox_size(parse(half))
    assert pick_dtype("auto", place, large, stored, "fast") == expected
    assert pick_dtype("float32", place, large, stored, "fast") == torch.float32
    assert pick_dtype("auto", place, small, stored, "fast") == torch.float32


@pytest.mark.parametrize(
    ("stored", "known", "free", "quantize", "computed", "said"),
    [
        ("float32", "", 8.0, "auto", "bfloat16", ["engine.rounded"]),
        ("float32", "", 0.14, "auto", "bfloat16", ["engine.narrowed"]),
        ("float32", "", 8.0, "none", "float32", []),
        ("float32", "bfloat16", 8.0, "auto", "bfloat16", []),
        ("float16", "", 8.0, "auto", "bfloat16", []),
    ],
)
def test_a_large_model_stored_in_float32_reports_the_rounding(
    directory: Path,
    stored: str,
    known: str,
    free: float,
    quantize: str,
    computed: str,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A user's own model; `--quantize none` keeps float32, as the notice says. known: the catalogue's dtype."""
    path = directory / "model.safetensors"
    save_file({name: each.to(DTYPES[stored]) for name, each in load_file(path).items()}, path)
    monkeypatch.setattr(device, "SMALL", 0)
    monkeypatch.setattr(device, "available_memory", lambda: int(free * 1e9))
    engine = open_local(directory, entry=ModelEntry("own", dtype=known), quantize=quantize)
    assert (engine.precision, [notice.key for notice in engine.notices]) == (computed, said)


@pytest.mark.usefixtures("tiny_is_worth_it")
def test_an_engine_opens_as_its_options_say(directory: Path, recalled: ModelEntry) -> None:
    reports: list[tuple[int, int]] = []
    engine = open_local(
        directory,
        entry=recalled,
        device="cpu",
        dtype="bfloat16",
        accept_withdrawn=True,
        progress=lambda done, total: reports.append((done, total)),
    )
    assert (engine.precision, engine.withdrawn) == ("bfloat16", True)
    finished = [(done, total) for done, total in reports if done == total]
    assert len(finished) == 2  # verified, then converted


# -- files that are as large as somebody wants


def zipped(path: Path, members: int, description: int) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr("archive/data.pkl", b"]" * description)
        for number in range(members):
            archive.writestr(f"{number:x}", b"")


@pytest.mark.parametrize(("members", "description"), [(0, 3 << 20), (30, 10)], ids=["description", "members"])
def test_a_pickle_that_describes_without_end_is_not_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch, members: int, description: int
) -> None:
    """An interpreter runs the description: each byte takes a microsecond and 60 bytes of memory."""
    (directory / "model.safetensors").unlink()
    zipped(directory / "pytorch_model.bin", members, description)
    monkeypatch.setattr(reader, "_MOST_DIRECTORY", 1000)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("read"))
    assert refusal(directory).key == "engine.weights-damaged"


def test_a_header_that_describes_without_end_is_not_read(directory: Path) -> None:
    for length in (17 << 20, 4 << 20):
        data = (b'{"a":[' + b"[]," * (length // 3))[:length]
        (directory / "model.safetensors").write_bytes(length.to_bytes(8, "little") + data)
        assert refusal(directory).key == "engine.weights-damaged"
