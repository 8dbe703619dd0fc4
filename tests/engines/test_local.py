"""The local engine and its errors, compared with transformers' GPTNeoXForCausalLM.

Oracles are in float32. The models are random, with weights large enough that context matters.
"""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bilingual_chat.engines import device, generation
from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.memory import available_memory
from bilingual_chat.engines.neox import kv_cache
from bilingual_chat.engines.neox.config import parse_config
from bilingual_chat.engines.neox.kv_cache import KVCache
from bilingual_chat.engines.neox.torch_model import GptNeox
from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.engines.weights.reader import load_weights, survey
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason
from tests.models import GREEDY, SHAPES, VOCAB, generate, make_model, open_local, prompt, refusal, reply, save_pickle

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the rows of each forward pass from now on."""
    seen: list[int] = []
    run = GptNeox.run

    def counted(self: GptNeox, ids: Tensor, *arguments: Any) -> Tensor:
        seen.append(len(ids))
        return run(self, ids, *arguments)

    monkeypatch.setattr(GptNeox, "run", counted)
    return seen


# -- the forward pass


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES.keys())
def test_logits_and_greedy_ids_are_those_of_transformers(options: dict[str, Any], tmp_path: Path) -> None:
    """Every option of the architecture: in one pass, in two chunks, and token by token."""
    model = make_model(1, **options)
    model.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    config = parse_config(raw)
    stored = survey([tmp_path / "model.safetensors"], config.shapes())
    weights = load_weights(stored, torch.float32, torch.device("cpu"))
    ours, ids = GptNeox(config, weights), torch.tensor(prompt(20))
    with torch.no_grad():
        expected = model(ids[None]).logits[0]
    for cuts in ([20], [13, 7], [1] * 20):
        cache, start, got = KVCache(config, torch.float32, torch.device("cpu")), 0, []
        for part in torch.split(ids, cuts):
            got.append(ours.logits(ours.run(part, start, cache)))
            start += len(part)
        torch.testing.assert_close(torch.cat(got), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    for wanted in (0, 1, 3):
        cache = KVCache(config, torch.float32, torch.device("cpu"))
        hidden = [ours.run(ids[:13], 0, cache, wanted), ours.run(ids[13:], 13, cache)]
        found, last = ours.logits(torch.cat(hidden)), expected[13 - wanted :]
        torch.testing.assert_close(found, last, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert config.parameter_count == sum(tensor.numel() for tensor in model.parameters())
    engine = open_local(tmp_path)
    for seed in range(4):
        assert reply(engine, prompt(9, seed)) == generate(model, prompt(9, seed))


def test_the_older_keys_of_config_json_mean_the_same(directory: Path) -> None:
    """rinna's files say rotary_pct and rotary_emb_base where transformers 5 writes rope_parameters."""
    path = directory / "config.json"
    raw = json.loads(path.read_text())
    newer = parse_config(raw)
    del raw["rope_parameters"]
    assert parse_config({**raw, "rotary_pct": 1.0, "rotary_emb_base": 10000}) == newer
    assert parse_config(raw) == replace(newer, rotary_dims=4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_stay_close_to_float32(saved: Path, dtype: str) -> None:
    """The single-row path of 16 bits (its own attention, oneDNN off) agrees with its prefill and with float32."""
    ids = prompt(30)
    exact, engine = open_local(saved), open_local(saved, dtype=dtype)
    assert (exact.precision, engine.precision) == ("float32", dtype)
    expected, once = exact._logits_after(ids), engine._logits_after(ids)
    for length in range(1, 31):
        stepwise = engine._logits_after(ids[:length]) if length > 1 else once
    for got in (once, stepwise):
        assert float((got - expected).norm() / expected.norm()) < 0.15
    backend: Any = torch.backends.mkldnn
    assert backend.enabled == backend.is_available()


def test_the_cache_grows_in_blocks_and_keeps_what_it_holds(
    monkeypatch: pytest.MonkeyPatch, model: Any, saved: Path
) -> None:
    """Blocks of 5 positions: greedy decoding over many of them is still exact, up to the last position."""
    monkeypatch.setattr(kv_cache, "FIRST_CAPACITY", 5)
    monkeypatch.setattr(LocalEngine, "prefill_rows", 4)
    engine = open_local(saved)
    long = replace(GREEDY, max_new_tokens=100, min_new_tokens=100)
    assert reply(engine, prompt(23), long) == generate(
        model, prompt(23), replace(long, max_new_tokens=41, min_new_tokens=41)
    )
    assert {keys.shape[1] for keys, _ in engine._cache.layers} == {64}


# -- completions


def test_greedy_with_a_penalty_and_a_least_length_is_that_of_generate(model: Any, saved: Path) -> None:
    """repetition_penalty counts the prompt; min_new_tokens holds eos back."""
    engine = open_local(saved)
    for seed in range(6):
        for changed in (
            {"repetition_penalty": 1.3},
            {"min_new_tokens": 12},
            {"repetition_penalty": 0.7, "min_new_tokens": 5},
        ):
            parameters = replace(GREEDY, **changed)
            assert reply(engine, prompt(8, seed), parameters) == generate(model, prompt(8, seed), parameters)


def test_a_reply_ends_with_eos_as_stop_and_otherwise_as_length(saved: Path) -> None:
    """A token of the reply declared eos ends it there, with STOP. Otherwise LENGTH on the last chunk only."""
    chunks = list(open_local(saved).complete(prompt(8), GREEDY))
    assert [chunk.finish for chunk in chunks] == [None] * 11 + [FinishReason.LENGTH]
    ids = [chunk.token_id for chunk in chunks]
    at = next(place for place in range(1, 12) if ids[place] not in ids[:place])
    ended = list(open_local(saved, eos_id=ids[at]).complete(prompt(8), GREEDY))
    assert [chunk.token_id for chunk in ended] == ids[: at + 1]
    assert [chunk.finish for chunk in ended] == [None] * at + [FinishReason.STOP]


@pytest.mark.parametrize("length", [62, 63])
def test_nothing_goes_past_the_last_position(saved: Path, length: int) -> None:
    """62 of 64 positions are used: two more tokens, then LENGTH, for any max_new_tokens."""
    engine = open_local(saved)
    chunks = list(engine.complete(prompt(length), replace(GREEDY, min_new_tokens=12)))
    assert len(chunks) == 64 - length
    assert chunks[-1].finish is FinishReason.LENGTH
    assert len(engine.cached_ids) == 63


@pytest.mark.parametrize("length", [64, 65, 1000])
def test_a_prompt_as_long_as_the_context_is_refused(saved: Path, length: int) -> None:
    with pytest.raises(BchatError, match=f"{length} tokens"):
        reply(open_local(saved), prompt(length))


@pytest.mark.parametrize("ids", [[], [-1], [VOCAB]])
def test_ids_that_no_tokenizer_gives_are_a_programming_error(saved: Path, ids: list[int]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        reply(open_local(saved), ids)


def test_padding_ids_are_never_sampled(saved: Path) -> None:
    """A tokenizer of 60 pieces over 97 rows: ids stay below 60 in flat sampling and in greedy."""
    engine = open_local(saved, vocab_size=60)
    flat = DecodingParameters(temperature=10.0, top_k=0, max_new_tokens=50, min_new_tokens=50)
    ids = [token % 60 for token in prompt(8)]
    assert max(reply(engine, ids, replace(flat, seed=1)) + reply(engine, ids, replace(GREEDY, max_new_tokens=50))) < 60


def test_a_seed_gives_the_same_reply_for_any_state_of_the_cache(saved: Path) -> None:
    """On a fresh cache, repeated, after another conversation; another seed gives another reply."""
    engine, parameters = open_local(saved), DecodingParameters(temperature=2.0, max_new_tokens=30, min_new_tokens=30)
    first = reply(engine, prompt(20), replace(parameters, seed=5))
    assert reply(engine, prompt(20), replace(parameters, seed=5)) == first
    reply(engine, prompt(30, 9), replace(parameters, seed=1))
    torch.manual_seed(99)
    assert reply(engine, prompt(20), replace(parameters, seed=5)) == first
    assert reply(open_local(saved), prompt(20), replace(parameters, seed=5)) == first
    assert reply(engine, prompt(20), replace(parameters, seed=6)) != first


def test_a_retry_in_sixteen_bits_has_the_same_probabilities_to_the_last_bit(saved: Path) -> None:
    """The last prompt token always takes the single-row path, so rounding cannot change a seeded reply."""
    engine, parameters = open_local(saved, dtype="bfloat16"), DecodingParameters(max_new_tokens=20, seed=3)
    first = [(chunk.token_id, chunk.logprob) for chunk in engine.complete(prompt(30), parameters)]
    assert [(chunk.token_id, chunk.logprob) for chunk in engine.complete(prompt(30), parameters)] == first


# -- the KV cache


def test_a_retry_runs_exactly_one_token_before_the_first_chunk(saved: Path, rows: list[int]) -> None:
    """The same prompt again: all but the last id are cached, and say so."""
    engine, ids = open_local(saved), prompt(20)
    assert [chunk.cached_tokens for chunk in engine.complete(ids, GREEDY)] == [0] * 12
    rows.clear()
    with contextlib.closing(engine.complete(ids, GREEDY)) as chunks:
        assert next(chunks).cached_tokens == 19
    assert rows == [1]


def test_a_long_prompt_is_prefilled_in_chunks(saved: Path, rows: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that Ctrl-C takes effect between passes; logits are computed for the last position only."""
    monkeypatch.setattr(LocalEngine, "prefill_rows", 8)
    monkeypatch.setattr(generation, "NOTICEABLE_S", 0.0)
    asked: list[int] = []
    logits = GptNeox.logits

    def counted(self: GptNeox, hidden: Tensor) -> Tensor:
        asked.append(len(hidden))
        return logits(self, hidden)

    monkeypatch.setattr(GptNeox, "logits", counted)
    engine = open_local(saved)
    rows.clear()
    asked.clear()
    reports: list[tuple[int, int]] = []
    once = replace(GREEDY, max_new_tokens=1)
    list(engine.complete(prompt(20), once, lambda done, size: reports.append((done, size))))
    assert rows == [7, 7, 5, 1]
    assert asked == [1]
    assert reports == [(7, 20), (14, 20), (19, 20)]
    list(engine.complete([*prompt(15), 3], once, lambda done, size: reports.append((done, size))))
    assert reports[3:] == []  # one pass; nobody waits between


def interrupt_at(monkeypatch: pytest.MonkeyPatch, norm: int, error: BaseException) -> None:
    """Raise `error` at the n-th layer norm from now on: in the middle of a forward pass."""
    left = [norm]
    layer_norm = torch.nn.functional.layer_norm

    def failing(*args: Any, **kwargs: Any) -> Tensor:
        left[0] -= 1
        if not left[0]:
            raise error
        return layer_norm(*args, **kwargs)

    monkeypatch.setattr("torch.nn.functional.layer_norm", failing)


def test_cached_greedy_ids_are_those_of_a_cacheless_run(model: Any, saved: Path) -> None:
    """A conversation: turns, a cancel, Ctrl-C within a pass, an undo, a retry, an edit, old turns dropped.

    After each step the reply equals that of transformers to the same prompt without a cache.
    """
    engine = open_local(saved)

    def say(ids: list[int], cached: int) -> list[int]:
        chunks = list(engine.complete(ids, GREEDY))
        assert [chunk.token_id for chunk in chunks] == generate(model, ids)
        assert chunks[0].cached_tokens == cached
        return ids + [chunk.token_id for chunk in chunks]

    one = say(prompt(8), 0)
    two = one + prompt(5, 1)
    with contextlib.closing(engine.complete(two, GREEDY)) as cancelled:
        part = [next(cancelled).token_id for _ in range(4)]
    three = two + part + prompt(3, 2)
    say(three, len(two) + 3)  # the last token of the cancelled reply was chosen, but never run
    held = engine.cached_ids
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 4, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            reply(engine, three + prompt(9, 3))
    assert engine.cached_ids == held[: len(three)]  # the positions of half a pass are written, and not counted
    after = say(three, len(three) - 1)
    say(one + prompt(7, 4), len(one))  # undo, then something else
    say(one + prompt(7, 4), len(one) + 6)  # retry
    edited = [*one[:5], 90 if one[5] != 90 else 91, *one[6:]]
    say(edited, 5)
    say(prompt(3) + after[15:40], 3)  # the opening stays, a middle is dropped
    assert reply(engine, prompt(3)) == generate(model, prompt(3))


def test_an_older_generator_that_is_resumed_is_still_exact(model: Any, saved: Path) -> None:
    """Two completions alternate on one cache; neither reads the other's positions."""
    engine = open_local(saved)
    pair = [engine.complete(prompt(9, seed), GREEDY) for seed in (1, 2)]
    replies: list[list[int]] = [[], []]
    for chunks in zip(*pair, strict=True):
        for got, chunk in zip(replies, chunks, strict=True):
            got.append(chunk.token_id)
    assert replies == [generate(model, prompt(9, seed)) for seed in (1, 2)]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA"),
    ],
)
def test_memory_that_runs_out_while_replying_is_one_sentence(
    saved: Path, model: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The cache gives its memory back, and the next reply is exact."""
    engine = open_local(saved)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 12, error)
        with pytest.raises(BchatError) as caught:
            reply(engine, prompt(9))
    assert caught.value.key == "engine.out-of-memory"
    assert engine.cached_ids == ()
    assert reply(engine, prompt(9)) == generate(model, prompt(9))


def test_other_errors_of_torch_are_not_called_memory(saved: Path) -> None:
    engine = open_local(saved)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 3, RuntimeError("shapes"))
        with pytest.raises(RuntimeError, match="shapes"):
            reply(engine, prompt(9))


def test_logits_that_are_no_numbers_end_the_reply(saved: Path) -> None:
    """An embedding row that was damaged after loading is noticed in the step that reads it."""
    engine = open_local(saved)
    engine._model.embedding[50] = math.nan
    with pytest.raises(BchatError) as caught:
        reply(engine, [5, 50, 6])
    assert caught.value.key == "engine.not-numbers"
    assert engine.cached_ids == ()


# -- files that are read


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_stored_in_any_width_open_as_float32(model: Any, directory: Path, dtype: torch.dtype) -> None:
    """16 bits fit into float32 exactly, so greedy ids equal those of the same rounded model."""
    rounded = {name: tensor.to(dtype) for name, tensor in load_file(directory / "model.safetensors").items()}
    save_file(rounded, directory / "model.safetensors")
    oracle = type(model).from_pretrained(directory, dtype=torch.float32)
    engine = open_local(directory)
    assert engine.precision == "float32"
    assert reply(engine, prompt(9)) == generate(oracle, prompt(9))


def test_sharded_safetensors_are_read(model: Any, directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    model.save_pretrained(directory, max_shard_size="20KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 1
    assert reply(open_local(directory), prompt(9)) == generate(model, prompt(9))


@pytest.mark.parametrize("prefix", ["", "sharded"])
def test_a_pickle_of_tensors_is_read_without_its_old_buffers(model: Any, directory: Path, prefix: str) -> None:
    """Like rinna's files: masks and inv_freq beside the weights, lm_head under either name."""
    state = dict(load_file(directory / "model.safetensors"))
    for layer in range(3):
        at = f"gpt_neox.layers.{layer}.attention."
        state |= {f"{at}bias": torch.ones(1, 1, 64, 64, dtype=torch.bool), f"{at}masked_bias": torch.tensor(-1e9)}
        state[f"{at}rotary_emb.inv_freq"] = torch.ones(8)
    if prefix:
        state["lm_head.weight"] = state.pop("embed_out.weight")
        places = {name: f"pytorch_model-0000{index % 2 + 1}-of-00002.bin" for index, name in enumerate(state)}
        for file in set(places.values()):
            save_pickle(directory, {name: state[name] for name in state if places[name] == file}, file)
        (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    else:
        save_pickle(directory, state)
    assert reply(open_local(directory), prompt(9)) == generate(model, prompt(9))


def test_safetensors_are_preferred_to_a_pickle(model: Any, directory: Path) -> None:
    (directory / "pytorch_model.bin").write_bytes(b"never opened")
    assert reply(open_local(directory), prompt(9)) == generate(model, prompt(9))


def test_an_engine_names_its_model_and_its_context(saved: Path) -> None:
    engine = open_local(saved)
    assert (engine.name, engine.context_length) == ("tiny", 64)
    assert isinstance(next(iter(engine.complete([5], GREEDY))), Chunk)


# -- refusals


def change_config(**values: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"model_type": "llama"}, "engine.model-type"),
        ({"model_type": None}, "engine.model-type"),
        ({"hidden_act": "swish"}, "engine.option"),
        ({"hidden_act": ["gelu"]}, "engine.option"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "engine.option"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "engine.option"),
        ({"rope_parameters": {"partial_rotary_factor": 0.2}}, "engine.option"),
        ({"rope_parameters": {"rope_theta": "x"}}, "engine.option"),
        ({"quantization_config": {"bits": 4}}, "engine.option"),
        ({"num_attention_heads": 3}, "engine.option"),
        ({"num_attention_heads": 0}, "engine.option"),
        ({"num_hidden_layers": 10**12}, "engine.option"),
        ({"hidden_size": True}, "engine.option"),
        ({"vocab_size": None}, "engine.option"),
        ({"layer_norm_eps": math.nan}, "engine.json"),
        ({"use_parallel_residual": "false"}, "engine.option"),
        ({"intermediate_size": 81}, "engine.weights-shape"),
        ({"num_hidden_layers": 4}, "engine.weights-incomplete"),
        ({"num_hidden_layers": 2}, "engine.weights-foreign"),
        ({"attention_bias": False}, "engine.weights-foreign"),
        ({"vocab_size": VOCAB - 1}, "engine.vocabulary"),
        ({"vocab_size": 2_000_000, "hidden_size": 100_000}, "engine.memory"),
    ],
)
def test_a_configuration_that_is_not_computed_here_is_refused(
    directory: Path, values: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "available_memory", lambda: 8_000_000_000)
    change_config(**values)(directory)
    assert refusal(directory).key == key


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (None, "engine.file-missing"),
        (b"", "engine.file-empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "engine.file-pointer"),
        (b"{", "engine.json"),
        (b"[1]", "engine.json"),
        (b"\xff\xfe", "engine.json"),
        (b"[" * 100_000, "engine.json"),
    ],
)
def test_a_config_json_that_cannot_be_read_is_one_sentence(directory: Path, content: bytes | None, key: str) -> None:
    (directory / "config.json").unlink()
    if content is not None:
        (directory / "config.json").write_bytes(content)
    assert refusal(directory).key == key


def cut(keep: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:keep]


@pytest.mark.parametrize(
    ("damage", "key"),
    [
        (lambda data: b"", "engine.file-empty"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "engine.file-pointer"),
        (cut(5), "engine.weights-cut"),
        (cut(200), "engine.weights-cut"),
        (cut(-1), "engine.weights-cut"),
        (lambda data: data + b"\0", "engine.weights-damaged"),
        (lambda data: b"<html>404 not found</html>", "engine.weights-damaged"),
        (lambda data: data.replace(b'"F32"', b'"F99"'), "engine.weights-damaged"),
        (lambda data: (2).to_bytes(8, "little") + b"[]" + data, "engine.weights-damaged"),
        (lambda data: data.replace(b"gpt_neox.embed_in", b"gpt_neox.embed_ni"), "engine.weights-foreign"),
    ],
)
def test_malformed_safetensors_are_refused(directory: Path, damage: Callable[[bytes], bytes], key: str) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert refusal(directory).key == key


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_not_run(directory: Path, tmp_path: Path) -> None:
    save_pickle(directory, {"gpt_neox.embed_in.weight": Bomb(tmp_path / "ran")})
    assert refusal(directory).key == "engine.weights-code"
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    assert refusal(directory).key == "engine.weights-damaged"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [3, 4, 2000, -30])
def test_a_pickle_that_was_cut_off_is_refused(directory: Path, keep: int) -> None:
    state = load_file(directory / "model.safetensors")
    save_pickle(directory, state)
    path = directory / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(directory).key == ("engine.weights-damaged" if keep == 3 else "engine.weights-cut")


@pytest.mark.parametrize("state", [[1, 2], {1: torch.zeros(1)}, {"gpt_neox.embed_in.weight": "text"}])
def test_a_pickle_of_anything_but_named_tensors_is_refused(directory: Path, state: Any) -> None:
    save_pickle(directory, state)
    assert refusal(directory).key == "engine.weights-damaged"


def test_a_compressed_archive_is_refused(directory: Path) -> None:
    """It could unpack to any size; torch.save never compresses."""
    import zipfile

    (directory / "model.safetensors").unlink()
    with zipfile.ZipFile(directory / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 100_000)
    assert refusal(directory).key == "engine.weights-damaged"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["gpt_neox.embed_in.weight", "embed_out.weight", "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]
)
def test_weights_that_are_no_numbers_are_refused_at_load(directory: Path, name: str, bad: float) -> None:
    """One element, in a row that the trial pass does not read."""
    state = load_file(directory / "model.safetensors")
    state[name][50, 7] = bad
    save_file(state, directory / "model.safetensors")
    assert refusal(directory).key == "engine.weights-not-numbers"


def test_weights_in_whole_numbers_are_refused(directory: Path) -> None:
    state = load_file(directory / "model.safetensors")
    state["embed_out.weight"] = state["embed_out.weight"].to(torch.int8)
    save_file(state, directory / "model.safetensors")
    assert refusal(directory).key == "engine.weights-kind"


def test_a_head_is_not_invented(directory: Path) -> None:
    """transformers would fill a missing head with random numbers."""
    state = load_file(directory / "model.safetensors")
    del state["embed_out.weight"]
    save_file(state, directory / "model.safetensors")
    error = refusal(directory)
    assert error.key == "engine.weights-incomplete"
    assert "embed_out" in str(error)


@pytest.mark.parametrize("places", [{}, {"a": 1}, {"a": "../x.safetensors"}, {"a": "x.bin"}, ["x"]])
def test_an_index_that_names_no_plain_files_is_refused(directory: Path, places: Any) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert refusal(directory).key == "engine.json"


def test_a_missing_shard_is_named(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    error = refusal(directory)
    assert error.key == "engine.file-missing"
    assert "model-1.safetensors" in str(error)


def test_a_directory_without_weights_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    assert refusal(directory).key == "engine.weights-missing"


def test_a_model_that_does_not_fit_is_refused_with_the_numbers_before_it_is_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 4B model on 2 GB: 7.6 GB of weights, 0.8 GB of cache; its weight file is not opened."""
    monkeypatch.setattr(device, "available_memory", lambda: 2_000_000_000)
    (directory / "model.safetensors").write_bytes(b"not opened")
    change_config(
        hidden_size=2816,
        num_hidden_layers=36,
        num_attention_heads=22,
        intermediate_size=11264,
        vocab_size=65536,
        max_position_embeddings=2048,
    )(directory)
    error = refusal(directory)
    assert error.key == "engine.memory"
    assert "8.6 GB" in str(error)
    assert "2.0 GB" in str(error)
    raw = json.loads((directory / "config.json").read_text())
    assert parse_config(raw).parameter_count == 3_796_120_064


def test_where_the_system_does_not_say_nothing_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_memory", lambda: None)
    assert reply(open_local(saved), [5])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused(saved: Path) -> None:
    assert refusal(saved, device="cuda").key == "engine.device"


# -- memory


@pytest.fixture
def system(tmp_path: Path) -> Callable[[str, str], None]:
    """Write a file of a simulated /proc or /sys below tmp_path."""

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    return write


def test_available_memory_follows_the_machine_and_its_cgroups(
    system: Callable[[str, str], None], tmp_path: Path
) -> None:
    assert available_memory(tmp_path) == 8000 * 1024
    assert available_memory(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("group", ["a/b", "a", ""])
def test_the_limit_of_any_enclosing_group_counts(
    system: Callable[[str, str], None], tmp_path: Path, group: str
) -> None:
    """cgroup v2: limit minus use, plus the file pages that the kernel can reclaim."""
    system("proc/self/cgroup", "0::/a/b\n")
    system("sys/fs/cgroup/a/b/memory.max", "max\n")
    at = f"sys/fs/cgroup/{group}/"
    system(at + "memory.max", "5000\n")
    system(at + "memory.current", "3000\n")
    system(at + "memory.stat", "anon 2000\ninactive_file 600\nactive_file 100\n")
    assert available_memory(tmp_path) == 2700


def test_the_older_groups_count_too(system: Callable[[str, str], None], tmp_path: Path) -> None:
    """cgroup v1 as containers see it: the path of the host, the files of the container."""
    system("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n")
    system("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n")
    system("sys/fs/cgroup/memory/memory.usage_in_bytes", "4500\n")
    system("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 10\ntotal_active_file 0\n")
    assert available_memory(tmp_path) == 510
    system("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert available_memory(tmp_path) == 8000 * 1024
