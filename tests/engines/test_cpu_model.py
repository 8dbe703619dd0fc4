"""Our own kernels compared with torch, and 8 and 4 bits with 16.

Models are random, with weights large enough that context matters. The kernels are compiled as for users, and once more
without the newest vector instructions.
"""

from __future__ import annotations

import ctypes
import math
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bilingual_chat.engines import device, local
from bilingual_chat.engines.generation import limit_threads
from bilingual_chat.engines.memory import PRECISIONS as PRECISION_TABLE
from bilingual_chat.engines.memory import Precision, memory_in
from bilingual_chat.engines.neox import cpu_model, kernel_library
from bilingual_chat.engines.neox.config import HEAD, NeoxConfig, parse_config
from bilingual_chat.engines.neox.cpu_model import CpuNeox
from bilingual_chat.engines.neox.kv_cache import KVCache
from bilingual_chat.engines.neox.torch_model import GptNeox
from bilingual_chat.engines.weights import convert
from bilingual_chat.engines.weights import quantize as quantizing
from bilingual_chat.engines.weights.quantized_matrix import (
    QuantizedMatrix,
    hadamard_transformed,
    level_values,
    quantize,
)
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.config import load_config
from bilingual_chat.storage import paths
from bilingual_chat.terminal.display import sentence
from tests.cpu_kernels import GREEDY, QUANTIZED, SIZES, VOCAB, network, open_engine, some_ids
from tests.models import generate, make_model

VARIANTS: dict[str, dict[str, Any]] = {
    "the family's own": {},
    "parallel, a quarter rotated": {"use_parallel_residual": True, "rotary_pct": 0.25},
    "no attention bias, tanh gelu": {"attention_bias": False, "hidden_act": "gelu_new"},
    "tied head, relu": {"tie_word_embeddings": True, "hidden_act": "relu"},
    "heads as large as the family's": {"hidden_size": 256, "num_attention_heads": 2},
    "heads larger than what is mixed at a time": {"hidden_size": 320, "num_attention_heads": 2},
    "more columns than lie together": {"intermediate_size": 6208},
}
CPU = torch.device("cpu")
LIBRARIES = {"this processor": "compiled", "AVX2": "older", "any processor": "portable"}
PRECISIONS = ("float32", "bfloat16", "int8", "w8a8", "int4")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("two_threads")]  # something is compiled
MODEL = SIZES
needs_compiler = pytest.mark.usefixtures("compiled")


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels without AVX-512."""
    return compile_kernels(tmp_path_factory, ["-march=x86-64-v2"] if platform.machine() == "x86_64" else [])


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels with AVX2 only."""
    if "avx2" not in (Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""):
        pytest.skip("no AVX2 here")
    return compile_kernels(tmp_path_factory, ["-mavx2", "-mfma"])


def compile_kernels(folders: pytest.TempPathFactory, tuning: list[str]) -> ctypes.CDLL:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here")
    path = folders.mktemp("native") / "native.so"
    command = [compiler, "-std=gnu11", "-O1", *tuning, "-fPIC", "-shared", "-pthread", "-o", str(path)]
    subprocess.run([*command, str(kernel_library.SOURCE), "-lm"], check=True)
    return cpu_model.declare(ctypes.CDLL(str(path)))


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    found: ctypes.CDLL = request.getfixturevalue(LIBRARIES[request.param])
    return found


def native_network(config: NeoxConfig, weights: Any, library: ctypes.CDLL, precision: str) -> CpuNeox:
    return CpuNeox(config, weights, library, 1 if precision == "w8a8" else 2)


def in_bytes(weight: QuantizedMatrix, x: Tensor, bias: Tensor | None) -> Tensor:
    """`QuantizedMatrix.linear` with activations rounded to 8 bits."""
    x = hadamard_transformed(x.float())
    unit = x.abs().amax(-1, keepdim=True) / 127
    return torch.nn.functional.linear(
        (x / unit).round() * unit, hadamard_transformed(weight.dequantized(torch.float32)), bias
    )


def exactly(weights: dict[str, Tensor | QuantizedMatrix]) -> dict[str, Tensor]:
    """The same numbers in float32."""
    return {
        name: each.dequantized(torch.float32) if isinstance(each, QuantizedMatrix) else each.float()
        for name, each in weights.items()
    }


def cache_for(model: GptNeox | CpuNeox) -> KVCache:
    return KVCache(model.config, model.dtype, CPU)


# -- the forward pass


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_logits_are_those_of_torch_with_the_same_weights(
    library: ctypes.CDLL, precision: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is torch in float32 on the dequantized weights.

    With bfloat16 activations, our error is at most 1.5 times that of torch's own bfloat16; with 8 bits, of torch with
    activations rounded to 8 bits.
    """
    config, weights = network(precision, **options)
    ids = some_ids(70)
    oracle = GptNeox(config, exactly(weights))
    expected = oracle.logits(oracle.run(ids, 0, cache_for(oracle)))
    ours = native_network(config, weights, library, precision)
    found = ours.logits(ours.run(ids, 0, cache_for(ours)))
    error = (found - expected).square().mean().sqrt()
    if precision == "float32":
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
        return
    kept: dict[str, Tensor | QuantizedMatrix] = {name: each.bfloat16() for name, each in exactly(weights).items()}
    if precision == "w8a8":
        monkeypatch.setattr(QuantizedMatrix, "linear", in_bytes)
        layers = {name: each for name, each in weights.items() if isinstance(each, QuantizedMatrix) and name != HEAD}
        kept = {**exactly(weights), **layers}
    rounded = GptNeox(config, kept)
    theirs = rounded.logits(rounded.run(ids, 0, cache_for(rounded)))
    assert error < 1.5 * (theirs - expected).square().mean().sqrt()


def test_bytes_are_multiplied_with_activations_of_sixteen_bits(library: ctypes.CDLL) -> None:
    """Rows of very different magnitudes, zeros, and row counts for each path through the kernel."""
    config, weights = network("int8", hidden_size=320, num_attention_heads=2)
    model = native_network(config, weights, library, "int8")
    hidden = torch.randn((9, 320), generator=torch.Generator().manual_seed(0))
    hidden[1, 7], hidden[2], hidden[3] = 500, 0, hidden[3] * 1000
    norm = [exactly(weights)[f"gpt_neox.final_layer_norm.{part}"] for part in ("weight", "bias")]
    normed = torch.nn.functional.layer_norm(hidden, (320,), *norm, config.norm_epsilon)
    expected = normed @ exactly(weights)[HEAD].T
    for rows in (1, 2, 3, 9):
        found = model.logits(hidden[:rows].clone())
        assert (found - expected[:rows]).abs().amax() < 2e-4 * expected.abs().amax()


def test_the_largest_products_of_bytes_are_added_up_whole(library: ctypes.CDLL) -> None:
    """The Hadamard transform of one large value in 256 has equal values: all bytes are maximal, in the weights too."""
    config, weights = network("int8", hidden_size=1024)
    spikes = torch.zeros(1024)
    spikes[::256] = 1
    weights[HEAD] = quantize(spikes.repeat(VOCAB, 1), "int8")
    deviation = (spikes.var(correction=0) + config.norm_epsilon).sqrt()
    weights["gpt_neox.final_layer_norm.weight"] = torch.ones(1024)
    weights["gpt_neox.final_layer_norm.bias"] = (spikes.mean() / deviation).repeat(1024)  # what is no spike is zero
    found = native_network(config, weights, library, "int8").logits(spikes[None].clone())
    torch.testing.assert_close(found, (4 / deviation).repeat(1, VOCAB), rtol=1e-3, atol=0)


def test_activations_that_are_no_numbers_stay_none_in_bytes(library: ctypes.CDLL) -> None:
    """Rounded to integers, NaN would become ordinary numbers, unnoticed."""
    config, weights = network("int8")
    model = native_network(config, weights, library, "int8")
    hidden = torch.ones((2, 128))
    hidden[0, 3] = math.nan
    found = model.logits(hidden)
    assert not found[0].isfinite().any()
    assert found[1].isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "options",
    [{}, {"hidden_size": 320, "num_attention_heads": 2}, {"intermediate_size": 6208}],
    ids=["small heads", "large", "more columns than the first cache holds"],
)
def test_a_row_does_not_depend_on_its_neighbours_to_the_last_bit(
    library: ctypes.CDLL, precision: str, options: dict[str, Any]
) -> None:
    """For every split of a text into passes: lookahead, parallel replies and /retry depend on it."""
    config, weights = network(precision, **options)
    model, ids = native_network(config, weights, library, precision), some_ids(90)
    whole = model.logits(model.run(ids, 0, cache_for(model)))
    for cuts in ((1,) * 90, (2,) * 45, (3, 4, 5, 6, 7, 8, 9, 48), (89, 1)):
        cache, at, parts = cache_for(model), 0, []
        for count in cuts:
            parts.append(model.logits(model.run(ids[at : at + count], at, cache)))
            at += count
        assert torch.equal(torch.cat(parts), whole), cuts


@pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_unwanted_rows_still_write_their_keys_and_values(library: ctypes.CDLL, precision: str, parallel: bool) -> None:
    """The wanted rows, and all later results, are identical to the last bit."""
    config, weights = network(precision, use_parallel_residual=parallel)
    model, ids = native_network(config, weights, library, precision), some_ids(60)
    whole = model.logits(model.run(ids, 0, cache_for(model)))
    for wanted in (0, 1, 7, 40):
        cache = cache_for(model)
        parts = [model.run(ids[:40], 0, cache, wanted), model.run(ids[40:], 40, cache)]
        assert [len(part) for part in parts] == [wanted, 20]
        assert torch.equal(model.logits(torch.cat(parts)), whole[40 - wanted :]), wanted


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_lay_in_the_memory_of_the_cache_is_never_seen(library: ctypes.CDLL, precision: str) -> None:
    """For example NaN: with odd and even numbers of positions, and after a later position was dropped."""
    config, weights = network(precision)
    model, ids = native_network(config, weights, library, precision), some_ids(40)
    whole = model.logits(model.run(ids, 0, cache_for(model)))
    for cuts in ((13, 1, 1, 25), (14, 2, 24), (40,)):
        cache, at, parts = cache_for(model), 0, []
        cache.reserve(len(ids))
        for layer in cache.layers:
            for tensor in layer:
                tensor.fill_(float("nan"))
        for count in cuts:
            model.run(ids[at : at + count].flip(0), at, cache)  # and once more, with other ids
            parts.append(model.logits(model.run(ids[at : at + count], at, cache)))
            at += count
        assert torch.equal(torch.cat(parts), whole), cuts


@pytest.mark.parametrize("precision", PRECISIONS)
def test_how_many_threads_compute_changes_no_bit(library: ctypes.CDLL, precision: str) -> None:
    """Each thread has a share and then helps the others; also with more threads than work.

    One model has enough heads for attention over three times as many rows at once.
    """
    config, weights = network(precision)
    ids = some_ids(90)
    found = []
    for threads in (1, 2, 7):
        with limit_threads(threads):
            model = native_network(config, weights, library, precision)
        cache = cache_for(model)
        found.append(
            torch.cat([model.logits(model.run(ids[:89], 0, cache)), model.logits(model.run(ids[89:], 89, cache))])
        )
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_compiler
def test_rows_of_several_sequences_are_computed_as_if_alone() -> None:
    config, weights = network("bfloat16")
    library = kernel_library.load_library()
    assert library is not None
    model = CpuNeox(config, weights, library)
    texts = [some_ids(length, length) for length in (5, 40, 17)]
    caches, alone = [], []
    for text in texts:
        cache = cache_for(model)
        model.run(text[:-1], 0, cache)
        caches.append(cache.copy(len(text) - 1))
        alone.append(model.logits(model.run(text[-1:], len(text) - 1, cache)))
    last = torch.stack([text[-1] for text in texts])
    together = model.logits(model.run_rows(last, [len(text) - 1 for text in texts], caches))
    assert torch.equal(together, torch.cat(alone))


@needs_compiler
def test_float32_weights_give_the_greedy_ids_of_transformers(saved: Path) -> None:
    model = make_model(**SIZES)
    library = kernel_library.load_library()
    assert library is not None
    engine = open_engine(saved, quantize="none", dtype="float32")
    engine._model = CpuNeox(engine._model.config, network("float32")[1], library)
    engine.forget()
    ids = some_ids(30).tolist()
    assert [chunk.token_id for chunk in engine.complete(ids, GREEDY)] == generate(model, ids, GREEDY)


# -- 8 and 4 bits


def test_rows_that_lie_together_with_too_few_others_are_multiplied_too(library: ctypes.CDLL) -> None:
    """An odd vocabulary, in a model with rows longer than a block."""
    model = native_network(network("int8")[0], network("int8")[1], library, "int8")
    matrix = quantize(torch.randn((45, 3200), generator=torch.Generator().manual_seed(0)), "int8")
    hidden = torch.randn((9, 3200), generator=torch.Generator().manual_seed(1))
    shape = cpu_model._Shape.from_buffer_copy(model._shape)
    shape.hidden = 3200
    weight, bias = torch.ones(3200), torch.zeros(3200)
    norm = (ctypes.c_void_p * 2)(weight.data_ptr(), bias.data_ptr())
    expected = torch.nn.functional.layer_norm(hidden, (3200,)) @ matrix.dequantized(torch.float32).T
    for rows in (1, 4, 9):
        found = torch.empty((rows, 45))
        described = model._describe_matrix(matrix, None, 2)
        assert library.bchat_head(model._pool, shape, described, norm, rows, hidden.data_ptr(), found.data_ptr())
        assert (found - expected[:rows]).abs().amax() < 2e-4 * expected.abs().amax()


def test_a_vocabulary_of_any_size_has_eight_bits() -> None:
    assert quantizing.precision_of(HEAD, (45, 64), "int4") == quantizing.precision_of(HEAD, (45, 64), "w8a8") == "int8"
    assert quantizing.precision_of("a matrix", (45, 64), "int4") is None
    assert quantizing.quantized_bytes(HEAD, (45, 64), "int8") == 64 * 64 + 45 * 4


def test_columns_are_found_again_however_they_lie() -> None:
    matrix = torch.zeros((44, 3200))
    matrix[37, 3150] = matrix[0, 0] = matrix[5, 3071] = 1
    assert torch.equal(quantize(matrix, "int8").dequantized(torch.float32).round(), matrix)


@pytest.mark.parametrize(("precision", "most"), [("int8", 0.01), ("int4", 0.09)])
def test_a_quantized_matrix_is_near_the_one_it_was_made_from(precision: Any, most: float) -> None:
    """Root mean square, for normal numbers; also one row of outliers and one of zeros."""
    matrix = torch.randn((64, 256), generator=torch.Generator().manual_seed(0))
    matrix[3], matrix[4] = matrix[3] * 1000, 0
    kept = quantize(matrix, precision)
    assert kept.shape == (64, 256)
    off = (kept.dequantized(torch.float32) - matrix).square().sum(1).sqrt() / matrix.square().sum(1).sqrt()
    assert off[torch.arange(64) != 4].max() < most * 1.3
    assert off[torch.arange(64) != 4].mean() < most
    assert not kept.dequantized(torch.float32)[4].any()


def test_what_four_bits_can_say_is_kept_exactly() -> None:
    """A row that the format can express comes back exactly, for both signs of its levels."""
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randint(-8, 8, (8, 4, 32), generator=generator).float()
    numbers[:, :, 0] = -8
    levels = torch.tensor([127, 255, 100, 200])
    matrix = (numbers * level_values()[levels][None, :, None]).bfloat16().float().reshape(8, 128) * 0.5
    kept = quantize(matrix, "int4")
    assert torch.allclose(kept.dequantized(torch.float32), matrix, rtol=0.01, atol=0)


@pytest.fixture
def every_size_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MARGIN", 0)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_quantized_weights_are_made_once_and_then_only_mapped(
    saved: Path, precision: Any, every_size_is_worth_it: None
) -> None:
    """The second opening reports no progress and gives the same logits, to the last bit."""
    reports: list[tuple[int, int]] = []
    first = open_engine(saved, quantize=precision, progress=lambda done, total: reports.append((done, total)))
    assert first.precision == precision
    assert reports
    assert reports[-1][0] == reports[-1][1]
    reports.clear()
    again = open_engine(saved, quantize=precision, progress=lambda done, total: reports.append((done, total)))
    assert not reports
    ids = some_ids(20).tolist()
    assert torch.equal(torch.cat(list(first.score(ids))), torch.cat(list(again.score(ids))))


def test_files_of_an_older_format_go_when_the_new_one_is_made(
    saved: Path, every_size_is_worth_it: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(quantizing, "FORMAT", quantizing.FORMAT - 1)
        open_engine(saved, quantize="int8")
        open_engine(saved, quantize="int4")
    kept = set(paths.cache_dir().joinpath("converted").rglob("model.safetensors"))
    assert len(kept) == 2
    open_engine(saved, quantize="int8")
    left = set(paths.cache_dir().joinpath("converted").rglob("model.safetensors"))
    assert len(left) == 2
    assert len(left & kept) == 1  # that of 4 bits, until they are asked for


def test_both_kinds_of_eight_bits_are_one_file(saved: Path, every_size_is_worth_it: None) -> None:
    ids = some_ids(20).tolist()
    exact, rounded = (torch.cat(list(open_engine(saved, quantize=kind).score(ids))) for kind in ("int8", "w8a8"))
    assert len(list(paths.cache_dir().joinpath("converted").rglob("model.safetensors"))) == 1
    assert not torch.equal(exact, rounded)


def test_a_growing_cache_is_seldom_copied() -> None:
    """A user who waits for a token also waits for the copy."""
    config, _ = network("bfloat16", max_position_embeddings=2048)
    cache = KVCache(config, torch.bfloat16, CPU)
    sizes = []
    for positions in range(1, 2049):
        cache.reserve(positions)
        sizes.append(cache.layers[0][0].shape[1])
    assert all(size >= positions for positions, size in enumerate(sizes, 1))
    assert sorted(set(sizes)) == [256, 512, 1024, 2048]


def test_a_damaged_quantized_file_is_made_again(saved: Path, every_size_is_worth_it: None) -> None:
    whole = torch.cat(list(open_engine(saved, quantize="int8").score([5, 6, 7])))
    (kept,) = paths.cache_dir().joinpath("converted").rglob("model.safetensors")
    kept.write_bytes(kept.read_bytes()[:-1000])
    assert torch.equal(torch.cat(list(open_engine(saved, quantize="int8").score([5, 6, 7]))), whole)


def test_without_disk_space_they_are_made_in_memory_with_a_notice(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MARGIN", 1 << 60)
    engine = open_engine(saved, quantize="int4")
    assert [notice.key for notice in engine.notices] == ["engine.no-room-to-convert"]
    assert list(engine.complete([5, 6], GREEDY))


def test_without_a_compiler_torch_computes_the_same_weights(
    saved: Path, monkeypatch: pytest.MonkeyPatch, every_size_is_worth_it: None
) -> None:
    """It is slow, and bchat says so."""
    quick = torch.cat(list(open_engine(saved, quantize="int4").score(some_ids(12).tolist())))
    monkeypatch.setattr(kernel_library, "_loaded", lambda: (None, Phrase("native.no-compiler")))
    engine = open_engine(saved, quantize="int4")
    assert "engine.no-kernels-quantized" in [notice.key for notice in engine.notices]
    slow = torch.cat(list(engine.score(some_ids(12).tolist())))
    assert (quick - slow).square().mean().sqrt() < 0.03 * slow.square().mean().sqrt()


@pytest.mark.parametrize(("free", "expected"), [(20.0, None), (9.0, "int8"), (5.8, "int8"), (5.0, "int4"), (2.0, None)])
@needs_compiler
def test_auto_takes_the_most_exact_that_leaves_room(
    monkeypatch: pytest.MonkeyPatch, free: float, expected: str | None
) -> None:
    """The 4B model takes 8.6 GB in 16 bits, 5.0 in 8, 3.3 in 4, with its cache. None: 16 bits, refused if too large."""
    sizes = {"hidden_size": 2816, "num_hidden_layers": 36, "num_attention_heads": 22, "intermediate_size": 11264}
    raw = {"model_type": "gpt_neox", "vocab_size": 65536, "max_position_embeddings": 2048, **sizes}
    monkeypatch.setattr(device, "available_memory", lambda: int(free * 1e9))
    assert device.pick_precision("auto", CPU, local.neox_size(parse_config(raw)), torch.bfloat16) == expected


@pytest.mark.parametrize("name", ["sft", "base-8k", "j-ppo"])
@pytest.mark.parametrize("precision", PRECISION_TABLE, ids=lambda each: each.name)
def test_the_list_of_models_shows_the_memory_of_each_precision(name: str, precision: Precision) -> None:
    """From the catalogue alone, within a few percent of the check before opening."""
    entry = load_config().catalogue[name]
    sizes = {"hidden_size": 2816, "num_hidden_layers": 36, "num_attention_heads": 22, "intermediate_size": 11264}
    words = {"vocab_size": 32000 if name == "j-ppo" else 65536, "max_position_embeddings": entry.context_length}
    config = parse_config({"model_type": "gpt_neox", **sizes, **words})
    narrow = precision.name if precision.name in ("int8", "int4") else None
    dtype = torch.bfloat16 if narrow else getattr(torch, precision.name)
    assert memory_in(precision, entry) == pytest.approx(local.neox_size(config).memory(dtype, narrow), rel=0.05)  # type: ignore[arg-type]


def test_a_narrow_kind_for_which_there_is_no_code_is_one_sentence(tmp_path: Path) -> None:
    make_model(**{**SIZES, "hidden_size": 96}).save_pretrained(tmp_path)
    with pytest.raises(BchatError) as caught:
        open_engine(tmp_path, quantize="int4")
    assert caught.value.key == "engine.quantize"


# -- what comes of a machine where it cannot be compiled


@pytest.fixture
def fresh() -> Iterator[None]:
    kernel_library._loaded.cache_clear()
    yield
    kernel_library._loaded.cache_clear()


def compiler(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o700)
    return str(path)


def problem() -> tuple[str, str]:
    """The key of the problem, and its English sentence; Japanese renders too."""
    found = kernel_library.kernel_problem()
    assert found is not None
    assert kernel_library.load_library() is None
    assert "\n" not in sentence(found, "ja")
    return found.key, sentence(found, "en")


def test_a_missing_compiler_is_reported(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert problem()[0] == "native.no-compiler"


def test_a_compiler_that_fails_is_named_and_its_output_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setenv(
        "CC", compiler(tmp_path / "cc", "echo In file; echo 'x.h:3: error: \x1b[2Jno such header' >&2; exit 4")
    )
    key, said = problem()
    assert key == "native.compile"
    assert "status 4 (x.h:3: error: ␛[2Jno such header)" in said
    log = paths.state_dir() / "compiler.log"
    assert str(log) in said
    assert "no such header" in log.read_text()


def test_a_failing_compiler_is_reported_even_without_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", "kill -9 $$"))
    key, said = problem()
    assert key == "native.compile"
    assert "status -9" in said
    assert "could not be saved" in said


def test_a_compiler_that_cannot_be_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    broken = tmp_path / "cc"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o700)
    monkeypatch.setenv("CC", str(broken))
    assert problem()[0] == "native.cannot-run"


def test_a_hanging_compiler_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setattr(kernel_library, "COMPILE_TIMEOUT_S", 0.5)
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", f"sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/child; wait"))
    assert problem()[0] == "native.timeout"
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    if child.exists():
        assert child.read_text().split()[2] == "Z"


@needs_compiler
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    key, said = problem()
    assert key == "native.cache"
    assert str(tmp_path / "file") in said


def test_a_library_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    """The compiler's output is not a library."""
    monkeypatch.setenv("CC", compiler(tmp_path / "cc", 'while [ "$1" != -o ]; do shift; done; echo hello > "$2"'))
    key, said = problem()
    assert key == "native.load"
    assert "noexec" in said


@needs_compiler
def test_a_damaged_library_in_the_cache_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    assert kernel_library.load_library() is not None
    (whole,) = (paths.cache_dir() / "native").glob("*.so")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    damaged = paths.cache_dir() / "native" / whole.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"\x7fELF")
    kernel_library._loaded.cache_clear()
    assert kernel_library.load_library() is not None
    assert damaged.stat().st_size > 1000


def test_an_unquantised_model_reports_why_it_is_slow(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SMALL", 0)
    monkeypatch.setattr(kernel_library, "_loaded", lambda: (None, Phrase("native.no-compiler")))
    (notice,) = open_engine(saved, quantize="none").notices
    assert notice.key == "engine.no-kernels"
    assert "no C compiler" in sentence(notice, "en")
