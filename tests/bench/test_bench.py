"""`bchat bench`: its figures are compared with transformers; no test measures time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bilingual_chat import messages
from bilingual_chat.bench import bandwidth, divergence, quality, speed, text
from bilingual_chat.bench.divergence import Reference
from bilingual_chat.cli import bench
from bilingual_chat.engines.generation import limit_threads
from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.memory import reset_peak, used_memory
from bilingual_chat.engines.neox.torch_model import GptNeox
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.storage import paths
from tests.models import FAMILY, SHAPES, VOCAB, make_model, open_local, prompt
from tests.runs import Run
from tests.scripted import ScriptedEngine, tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")


CHAT = "ユーザー: What is 'cat' in Japanese?\nシステム: \"cat\" in Japanese is 猫 (neko).\n" * 8


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The same model with slightly changed weights."""
    path = tmp_path_factory.mktemp("other")
    perturbed = make_model(**FAMILY)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in perturbed.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.02)
    perturbed.save_pretrained(path)
    return perturbed, path


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements that take a moment."""
    quick = {"PROMPT": 12, "SHORT": 8, "LONG": 24, "MOST_STEPS": 4, "ENOUGH_STEPS": 2, "ENOUGH_S": 0.0, "SHORT_S": 0.0}
    for name, value in quick.items():
        monkeypatch.setattr(speed, name, value)
    monkeypatch.setattr(bandwidth, "LEAST_S", 0.0)


def silent(said: Phrase) -> None:
    pass


def demo() -> Model:
    return open_model(ModelEntry("demo", directory=str(paths.demo_model_dir())))


def never(*_: object) -> Any:
    raise AssertionError("not to be opened")


# -- scores -------------------------------------------------------------------------------------------


def test_scores_are_the_logits_of_transformers(model: Any, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every position of a text and for every block size; the KV cache keeps nothing."""
    monkeypatch.setattr(LocalEngine, "prefill_rows", 7)
    engine, ids = open_local(saved), prompt(50)
    speed._run(engine, ids[:9])
    blocks = list(engine.score(ids))
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
    assert [len(block) for block in blocks] == [7, 7, 7, 7, 7, 7, 7, 1]
    torch.testing.assert_close(torch.cat(blocks), expected, rtol=1e-4, atol=1e-3)
    assert engine.cached_ids == ()


def test_padding_ids_have_no_score(saved: Path) -> None:
    (block,) = open_local(saved, vocab_size=VOCAB - 5).score([1, 2])
    assert block.shape == (2, VOCAB - 5)


@pytest.mark.parametrize("ids", [[], [-1], [VOCAB]])
def test_ids_that_no_tokenizer_gives_are_not_scored(saved: Path, ids: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one id"):
        next(iter(open_local(saved).score(ids)))


def test_a_text_longer_than_the_context_is_not_scored(saved: Path) -> None:
    with pytest.raises(BchatError) as caught:
        next(iter(open_local(saved).score(prompt(65))))
    assert caught.value.key == "engine.prompt-too-long"


@pytest.mark.parametrize("options", [FAMILY, SHAPES["tied head"]], ids=["family", "tied"])
def test_a_token_reads_every_weight_but_the_other_embeddings(options: dict[str, Any], tmp_path: Path) -> None:
    model = make_model(**options)
    model.save_pretrained(tmp_path)
    engine = open_local(tmp_path)
    embedding = model.get_input_embeddings().weight.numel()
    tied = bool(options.get("tie_word_embeddings"))
    expected = sum(each.numel() for each in model.parameters()) - (0 if tied else embedding)
    assert engine.bytes_per_token == 4 * expected
    assert (engine.precision, engine.device_name) == ("float32", "cpu")


# -- quality ------------------------------------------------------------------------------------------


def judged(directory: Path, windows: Sequence[Sequence[int]], reference: Reference) -> divergence.Judged:
    wanted = [divergence.Window(window) for window in windows]
    return divergence.judge(open_local(directory), wanted, reference, lambda done: None)


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[Reference]:
    with Reference(tmp_path / "cache") as made:
        yield made


WINDOWS = [prompt(64, 1), prompt(64, 2), prompt(37, 3)]


def test_perplexity_is_that_of_transformers(model: Any, saved: Path, reference: Reference) -> None:
    """exp of its cross entropy; each token of a window counts once, except the first."""
    with torch.no_grad():
        sums = [float(model(w := torch.tensor([ids]), labels=w).loss) * (len(ids) - 1) for ids in WINDOWS]
    expected = torch.tensor(sum(sums) / sum(len(ids) - 1 for ids in WINDOWS)).exp()
    assert judged(saved, WINDOWS, reference).perplexity == pytest.approx(float(expected), rel=1e-4)


def test_a_model_is_no_distance_from_itself(saved: Path, reference: Reference) -> None:
    first, second = judged(saved, WINDOWS, reference), judged(saved, WINDOWS, reference)
    for each in (first, second):
        assert (each.kl_mean, each.kl_p99, each.agreement) == (0.0, 0.0, 1.0)
    assert first.perplexity == second.perplexity


def test_divergence_is_that_of_the_two_distributions(
    model: Any, saved: Path, other: tuple[Any, Path], reference: Reference
) -> None:
    """From the reference to the other model, compared with torch's kl_div on transformers' logits."""
    perturbed, directory = other
    with torch.no_grad():
        exact, off = (
            torch.cat([each(torch.tensor([ids])).logits[0, :-1] for ids in WINDOWS]).double().log_softmax(-1)
            for each in (model, perturbed)
        )
    expected = torch.nn.functional.kl_div(off, exact, log_target=True, reduction="none").sum(-1)
    judged(saved, WINDOWS, reference)
    found = judged(directory, WINDOWS, reference)
    assert found.kl_mean > 0.001
    assert found.kl_mean == pytest.approx(float(expected.mean()), rel=1e-3)
    assert found.kl_p99 == pytest.approx(float(expected.quantile(0.99)), rel=1e-3)
    assert found.agreement == float((exact.argmax(-1) == off.argmax(-1)).double().mean())
    assert 0 < found.agreement < 1


def test_the_reference_leaves_no_file(saved: Path, tmp_path: Path) -> None:
    """The log probabilities lie in a temporary file, not in memory."""
    with Reference(tmp_path) as reference:
        judged(saved, WINDOWS, reference)
        assert reference._file is not None
        assert os.fstat(reference._file.fileno()).st_size == 4 * VOCAB * sum(len(ids) - 1 for ids in WINDOWS)
        assert list(tmp_path.iterdir()) == []
    assert reference._file.closed


def test_a_disk_without_room_for_the_reference_is_one_sentence(
    saved: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divergence.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(BchatError) as caught:
        judged(saved, WINDOWS, reference)
    assert caught.value.key == "bench.no-room"


def test_a_disk_that_fills_up_meanwhile_is_one_sentence(saved: Path, reference: Reference, tmp_path: Path) -> None:
    class Full:
        def seek(self, at: int) -> None:
            pass

        def write(self, data: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    (tmp_path / "cache").mkdir()
    reference._file = Full()  # type: ignore[assignment]
    with pytest.raises(BchatError) as caught:
        judged(saved, WINDOWS, reference)
    assert "the disk is full" in caught.value.sentence()
    assert not reference.is_complete


@pytest.mark.slow
def test_the_embedded_model_is_judged_on_a_text_of_its_own_kind(reference: Reference) -> None:
    """The text fits one window. The model was trained on replies, not on questions: its perplexity is high."""
    opened = partial(lambda quantize, progress: demo())
    found = quality.judge("none", opened, CHAT, reference, silent)
    assert found.is_reference
    assert found.tokens == len(tokenizer().encode(CHAT)) - 1 == found.tokens_in_all - 1
    assert 1 < found.perplexity < 500
    again = quality.judge("none", opened, CHAT, reference, silent)
    assert not again.is_reference
    assert again.kl_mean == 0
    assert again.perplexity == found.perplexity


def test_a_long_text_is_judged_in_windows_from_its_beginning() -> None:
    ids = list(range(9000))
    windows = quality._windows(ids, 1000)
    assert [len(window) for window in windows] == [1000] * 4 + [96]
    assert [each for window in windows for each in window] == ids[: quality.MOST_TOKENS]
    assert quality._windows(ids[:129], 64) == [ids[:64], ids[64:128]], "a single token left over judges nothing"


def test_the_text_that_ships_is_long_enough_in_both_languages() -> None:
    said = text.own_sentences()
    assert messages.TABLE["chat.stopped"].en in said
    assert messages.TABLE["chat.stopped"].ja in said
    assert len(tokenizer().encode(said)) > quality.MOST_TOKENS


@pytest.mark.slow
def test_of_a_conversation_the_replies_are_judged_after_what_asks_for_them(reference: Reference) -> None:
    """The demo model was trained on such replies; the whole text, with its questions, surprises it."""
    said = text.own_conversation()
    opened = partial(lambda quantize, progress: demo())
    found = quality.judge("none", opened, said, reference, silent)
    model = demo()
    replies = [len(model.tokenizer.encode(each.text)) for each in said[1::2]]
    assert found.tokens == found.tokens_in_all == sum(replies)
    assert 1 < found.perplexity < 20
    assert quality.judge("none", opened, said, reference, silent).kl_mean == 0


def test_only_what_is_judged_counts(saved: Path) -> None:
    """With a later begin: the rows of the whole window, without the first ones."""
    ids, engine = list(range(10, 60)), open_local(saved)
    (logits, _), (later, targets) = (
        [torch.cat(part) for part in zip(*divergence._score(engine, [divergence.Window(ids, begin)]), strict=True)]
        for begin in (1, 37)
    )
    assert torch.equal(later, logits[36:])
    assert targets.tolist() == ids[37:]


# -- texts that cannot be judged ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (None, "bench.text-missing"),
        (b"", "bench.text-empty"),
        (b" \n\t\n", "bench.text-empty"),
        (b"\xef\xbb\xbf", "bench.text-empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "bench.text-not-text"),
        (b"a\0b", "bench.text-binary"),
        ("日本語".encode("utf-16-le"), "bench.text-not-text"),
        ("日本語".encode("cp932"), "bench.text-not-text"),
        (b"x" * 2000, "bench.text-large"),
    ],
)
def test_a_file_that_is_no_text_is_refused(
    content: bytes | None, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "MOST_BYTES", 1000)
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BchatError) as caught:
        text.read(path)
    assert (caught.value.key, caught.value.status) == (key, ExitStatus.DATA)
    assert caught.value.sentence("ja")


@pytest.mark.parametrize(("codec", "encoding"), [("cp932", "shift_jis"), ("utf-16-le", "utf-16le"), ("utf-16", None)])
def test_a_text_in_another_encoding_is_measured_as_what_it_says(
    codec: str, encoding: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "text"
    path.write_bytes("日本語です。".encode(codec))
    assert text.read(path, encoding) == "日本語です。"
    if encoding:
        with pytest.raises(BchatError, match=f"--encoding {encoding}"):
            text.read(path)


def test_what_is_no_ordinary_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """A FIFO would block forever."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(BchatError) as caught:
            text.read(path)
        assert caught.value.key == "bench.text-not-a-file"


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("\ufeffabc".encode())
    assert text.read(tmp_path / "text") == "abc"


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_bad_texts_are_one_sentence_on_the_command_line(run: Run, lang: str, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("three words only")
    (tmp_path / "empty").touch()
    for name, key in (("nosuch", "text-missing"), ("empty", "text-empty"), ("short", "text-short")):
        ran = run("--lang", lang, "bench", "--quality", name)
        values = {"path": name, "tokens": len(tokenizer().encode("three words only")), "least": quality.LEAST_TOKENS}
        assert (ran.status, ran.out) == (4, "")
        assert ran.err.splitlines()[-1] == messages.render(f"bench.{key}", lang, **values)


# -- speed --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_figures_come_one_after_another(short: None) -> None:
    """Each result has one figure more than the one before; the last has all, and everything fits the context."""
    said: list[str] = []
    found = list(speed.measure("none", lambda quantize, progress: demo(), CHAT, lambda p: said.append(p.key)))
    counts = [
        (s.bandwidth is not None) + (s.prefill_per_s is not None) + len(s.decodes) + len(s.first_token_s) for s in found
    ]
    assert counts == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    last = found[-1]
    assert said == ["bench.step"] * speed.STEPS
    assert [each.positions for each in last.decodes] == [speed.SHORT, speed.LONG]
    assert [turn for turn, _ in last.first_token_s] == list(speed.TURNS)
    assert last.tokens_per_turn * speed.TURNS[-1] < 1024
    assert last.limit == pytest.approx(last.bandwidth / last.bytes_per_token)
    assert min(seconds for _, seconds in last.first_token_s) > 0
    assert all(each.share == pytest.approx(each.tokens_per_s / each.limit) for each in last.decodes)


@pytest.mark.slow
def test_a_small_context_is_not_exceeded(saved: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The context has 64 positions: longer measurements are shortened or left out."""
    for name, value in {"PROMPT": 512, "SHORT": 128, "LONG": 1500, "MOST_STEPS": 64, "ENOUGH_STEPS": 64}.items():
        monkeypatch.setattr(speed, name, value)
    engine = open_local(saved)
    opened = Model(ModelEntry("tiny"), SimpleNamespace(encode=lambda said: [5, 6, 7]), engine)  # type: ignore[arg-type]
    *_, last = speed.measure("none", lambda quantize, progress: opened, "x", silent)
    assert last.prefill_tokens == 63
    assert [each.positions for each in last.decodes] == [47]
    assert [turn for turn, _ in last.first_token_s] == [1, 5, 10, 20]


def test_the_threads_are_those_that_compute(saved: Path, short: None) -> None:
    """A small model takes one thread, however many torch has."""
    engine = open_local(saved)
    opened = Model(ModelEntry("tiny"), SimpleNamespace(encode=lambda said: [5, 6, 7]), engine)  # type: ignore[arg-type]
    torch.set_num_threads(2)
    assert next(speed.measure("none", lambda quantize, progress: opened, "x", silent)).threads == 1
    engine._threads = None  # as for a large model
    assert next(speed.measure("none", lambda quantize, progress: opened, "x", silent)).threads == 2
    torch.set_num_threads(1)


def test_the_first_token_of_a_turn_waits_for_what_is_new_in_it_only(
    saved: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in rows of the forward pass: two new tokens in every turn."""
    engine, seen, timed = open_local(saved), [0], []
    run, forward = speed._run, GptNeox.run

    def counted(self: GptNeox, ids: Tensor, *arguments: Any) -> Tensor:
        seen[0] += len(ids)
        return forward(self, ids, *arguments)

    def noted(of: LocalEngine, ids: Sequence[int]) -> None:
        before = seen[0]
        run(of, ids)
        timed.append((len(ids), seen[0] - before))

    monkeypatch.setattr(GptNeox, "run", counted)
    monkeypatch.setattr(speed, "_run", noted)
    turns = [turn for turn, _ in speed._first_tokens(engine, prompt(64), new=2, whole=3)]
    assert turns == [1, 5, 10, 20]
    assert [(length, rows) for length, rows in timed if length % 3] == [(2, 2), (14, 2), (29, 2), (59, 2)]


def test_decoding_is_one_row_a_token(saved: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For repetitive and other texts: the prompt is in the KV cache before the first token is timed."""
    engine, done, lengths = open_local(saved), [], []
    run, forward = speed._run, GptNeox.run

    def counted(self: GptNeox, ids: Tensor, *arguments: Any) -> Tensor:
        done[-1].append(len(ids))
        return forward(self, ids, *arguments)

    def noted(of: LocalEngine, ids: Sequence[int]) -> None:
        lengths.append(len(ids))
        done.append([])
        run(of, ids)

    monkeypatch.setattr(GptNeox, "run", counted)
    monkeypatch.setattr(speed, "_run", noted)
    monkeypatch.setattr(speed, "ENOUGH_STEPS", 4)
    speed._decode(engine, [7] * 64, 20, most=4)
    prompt_rows, *steps = done
    assert sum(prompt_rows) == 20
    assert steps == [[1]] * 4
    assert lengths == [20, 21, 22, 23, 24]


@pytest.mark.parametrize("context", [8, 64, 1024, 2048, 8192])
def test_twenty_turns_fit_where_there_is_room(context: int) -> None:
    new, whole = speed._turn_sizes(context)
    assert 1 <= new < whole <= speed.QUESTION + speed.REPLY
    assert whole * speed.TURNS[-1] < context or whole == 2


def test_the_bandwidth_of_a_small_model_is_read_by_one_thread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine several threads wait for each other; all threads read the weights of a large model."""
    counts: list[int] = []
    monkeypatch.setattr(bandwidth, "_read", lambda views: counts.append(torch.get_num_threads()))
    with limit_threads(2):
        bandwidth.read_bandwidth([torch.zeros(8)])
        assert set(counts[1:]) == {1, 2}
        assert torch.get_num_threads() == 2
        counts.clear()
        monkeypatch.setattr(bandwidth, "SMALL_BYTES", 8)
        bandwidth.read_bandwidth([torch.zeros(8)])
    assert set(counts[1:]) == {2}


def test_bandwidth_is_read_from_tensors_of_any_kind() -> None:
    """Odd sizes, views and 16 bits; NaN is only bytes."""
    tensors = [
        torch.full((7, 5), float("nan"), dtype=torch.bfloat16),
        torch.ones(3),
        torch.ones(64, 3)[:, 1:],
        torch.ones(1),
    ]
    assert bandwidth.read_bandwidth(tensors) > 0
    words = bandwidth._words(torch.arange(1, 6, dtype=torch.int32))
    assert words.tolist() == [1 + (2 << 32), 3 + (4 << 32)]


def test_memory_equals_the_systems_figures(tmp_path: Path) -> None:
    assert used_memory(tmp_path) == (None, None)
    assert not reset_peak(tmp_path)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tx y z\nVmHWM:\t  300 kB\nRssAnon:\t 100 kB\nThreads:\t3\n")
    assert used_memory(tmp_path) == (100 << 10, 300 << 10)
    assert reset_peak(tmp_path)
    assert (tmp_path / "proc/self/clear_refs").read_text() == "5"


def test_only_weights_in_this_process_can_be_measured() -> None:
    foreign = Model(ModelEntry("foreign"), tokenizer(), ScriptedEngine())
    with pytest.raises(BchatError) as caught:
        next(speed.measure("none", lambda quantize, progress: foreign, "x", silent))
    assert (caught.value.key, caught.value.status) == ("bench.foreign", ExitStatus.MODEL)


def test_preparation_is_reported_at_each_tenth() -> None:
    said: list[str] = []
    steps = speed.Steps("none", lambda phrase: said.append(messages.render(phrase.key, "en", **phrase.values)), 2)
    steps.start("load")
    for done in range(0, 101, 5):
        steps.prepare(done, 100)
    assert said[:3] == [
        "none 1/2: loading the model …",
        "none 1/2: converting the weights (first time only) …",
        "none 1/2: converting the weights (first time only), 10 % …",
    ]
    assert len(said) == 2 + 9


# -- the command --------------------------------------------------------------------------------------

FIGURES = {
    "quantize",
    "precision",
    "device",
    "threads",
    "load_s",
    "bytes_per_token",
    "bandwidth_bytes_per_s",
    "limit_tokens_per_s",
    "prefill",
    "decode",
    "tokens_per_turn",
    "first_token_s",
    "private_bytes",
    "peak_bytes",
}


@pytest.mark.slow
def test_json_is_one_object_with_every_figure(run: Run, short: None) -> None:
    ran = run("bench", "--json")
    assert ran.status == 0
    (only,) = ran.json["precisions"]
    assert set(ran.json) == {"versions", "model", "complete", "precisions"}
    assert (ran.json["model"], ran.json["complete"]) == ("demo", True)
    assert set(only) == FIGURES
    assert set(only["prefill"]) == {"tokens", "tokens_per_s"}
    assert [set(each) for each in only["decode"]] == [
        {"positions", "tokens_per_s", "bandwidth_bytes_per_s", "limit_tokens_per_s", "share_of_limit"}
    ] * 2
    assert list(only["first_token_s"]) == ["1", "5", "10", "20"]
    assert "auto 1/6: loading the model …" in ran.err


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_the_table_names_its_figures_in_both_languages(run: Run, short: None, lang: str) -> None:
    """On a pipe its cells are separated by tabs; progress and explanation are on stderr."""
    ran = run("bench", "--lang", lang, "demo")
    assert ran.status == 0
    rows = dict(line.split("\t") for line in ran.out.splitlines())
    assert next(iter(rows)) == messages.render("bench.row.precision", lang)
    assert rows[messages.render("bench.row.precision", lang)] == "float32"
    assert rows[messages.render("bench.row.bytes", lang)] == "21 MB"
    for key, values in (("prefill", {"tokens": 12}), ("decode", {"positions": 24}), ("turn", {"turn": 20})):
        assert messages.render(f"bench.row.{key}", lang, **values) in rows
    assert messages.render("bench.explained", lang) in ran.err
    assert messages.render("bench.turns", lang, tokens=51) in ran.err


@pytest.mark.slow
def test_quality_as_json_names_the_judged_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "chat.txt").write_text(CHAT)
    ran = run("bench", "--quality", "chat.txt", "--json", "--quantize", "none")
    assert ran.status == 0
    (only,) = ran.json["precisions"]
    assert ran.json["text"] == "chat.txt"
    assert (only["precision"], only["is_reference"], only["kl_mean"], only["agreement"]) == ("float32", True, 0.0, 1.0)
    assert 1 < only["perplexity"] < 500


@pytest.mark.slow
def test_eight_bits_change_little_and_four_bits_more(run: Run, tmp_path: Path) -> None:
    """On the demo model and texts like its training data: mean divergence from float32 in nats."""
    (tmp_path / "chat.txt").write_text(CHAT)
    ran = run("bench", "--quality", "chat.txt", "--json")
    exact, eight, both, four = ran.json["precisions"]
    assert [each["precision"] for each in ran.json["precisions"]] == ["float32", "int8", "w8a8", "int4"]
    assert exact["kl_mean"] == 0
    assert 0 < eight["kl_mean"] < both["kl_mean"] < 0.01
    assert both["kl_mean"] < four["kl_mean"] < 0.5
    assert eight["agreement"] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_quality_is_a_table_that_names_the_judged_text(run: Run, lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "MOST_TOKENS", 200)
    ran = run("bench", "--quality", "--quantize", "none", "--lang", lang)
    heading, row = (line.split("\t") for line in ran.out.splitlines())
    assert ran.status == 0
    assert heading[1] == messages.render("bench.heading.perplexity", lang)
    assert (row[0], row[2:]) == ("float32", ["–", "–", "–"])
    assert messages.render("bench.own-conversation", lang) in ran.err


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--quantize", "al"], 2, "not 'al'. Did you mean all?"),
        (["demo", "--model", "sft"], 2, "You named two models, 'demo' and 'sft'. Name one."),
        (["sft"], 3, "bchat pull sft"),
        (["dmeo"], 3, "Did you mean demo?"),
        (["--device", "gpu"], 2, "--device is one of"),
        (["--quality", "--quantise", "x"], 2, "Did you mean --quantize?"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(run: Run, arguments: list[str], status: int, sentence: str) -> None:
    ran = run("bench", *arguments)
    assert (ran.status, ran.out) == (status, "")
    assert sentence in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, BaseException], None]:
    """A second precision; opening one of the two raises."""

    def fails(kind: str, with_: BaseException) -> None:
        def opens(entry: ModelEntry, how: Any, progress: object) -> Model:
            if how.quantize == kind:
                raise with_
            return open_model(entry, replace(how, quantize="none"))

        monkeypatch.setattr(bench, "get_args", lambda _: ("auto", "none", "other"))
        monkeypatch.setattr(bench, "open_model", opens)

    return fails


def test_all_means_each_precision_and_the_most_exact_one_comes_first(two: Callable[[str, BaseException], None]) -> None:
    """auto is one of the others, and is measured on request only."""
    two("", KeyboardInterrupt())
    assert bench._kinds(["all"]) == ["none", "other"]
    assert bench._kinds(["other", "auto", "none", "other"]) == ["none", "other", "auto"]


@pytest.mark.slow  # two measurements for each kind
@pytest.mark.parametrize("kind", [[], ["--quality"]], ids=["speed", "quality"])
def test_ctrl_c_keeps_what_is_measured_so_far(
    run: Run, short: None, two: Callable[[str, BaseException], None], kind: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "MOST_TOKENS", 200)
    two("other", KeyboardInterrupt())
    ran = run("bench", "--quantize", "all", *kind)
    assert ran.status == 130
    assert "float32" in ran.out
    assert ran.err.endswith("Stopped. These are the results so far.\n")
    ran = run("bench", "--quantize", "all", "--json", *kind)
    assert (ran.status, ran.json["complete"], len(ran.json["precisions"])) == (130, False, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [[], ["--quality"]], ids=["speed", "quality"])
def test_a_precision_that_cannot_be_had_leaves_the_others(
    run: Run, short: None, two: Callable[[str, BaseException], None], kind: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "MOST_TOKENS", 200)
    two("none", BchatError("engine.weights-not-numbers", status=ExitStatus.MODEL))
    ran = run("bench", "--quantize", "other", "--quantize", "none", *kind)
    assert ran.status == 3
    assert "float32" in ran.out
    assert "other 1/" in ran.err
    assert "The weights of this model are damaged" in ran.err


def test_ctrl_c_between_two_figures_keeps_the_first(run: Run, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object, **__: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, "_first_token_s", pressed)
    ran = run("bench", "--json")
    (only,) = ran.json["precisions"]
    assert (ran.status, ran.json["complete"]) == (130, False)
    assert only["bandwidth_bytes_per_s"] > 0
    assert (only["prefill"], only["decode"], only["first_token_s"]) == (None, [], {})
