"""Train the embedded model: tokenizer, weights, model directory.

    python training/train.py tokenizer            # /var/tmp/bchat-training/spiece.model
    python training/train.py train --steps 6000   # goes on from checkpoint.pt there if there is one
    python training/train.py export bilingual_chat/hub/demo

`train --start bilingual_chat/hub/demo` begins with the weights and the tokenizer of a model directory.

The schedule is warm-up, constant, then a linear decay over the last `--decay` steps: a run can be prolonged
by asking for more steps before its decay begins. Every batch is a function of (seed, step) alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import corpus

RUN = Path(os.environ.get("BCHAT_TRAINING", "/var/tmp/bchat-training"))
SEED = 20261123
VOCAB, WIDTH, LAYERS, HEADS, POSITIONS = 5120, 256, 5, 4, 1024
LENGTHS = [256] * 7 + [512] * 2 + [POSITIONS]  # of the rows of a part, drawn
PART, PARTS = 1024, 4  # tokens in a part; parts in a step
BLOCK = 128  # queries that attend at once
WARM_UP = 30  # steps from nothing to the full learning rate, at each start
PROMPT, BETWEEN = "ユーザー: {user}\nシステム: ", "\n"
EOS = 3


# -- tokenizer --------------------------------------------------------------------------------------


def train_tokenizer() -> None:
    """A unigram model of the family's shape: byte fallback, nothing prepended, normalised or collapsed."""
    import sentencepiece

    RUN.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    lines = []
    for _ in range(40_000):
        for user, reply in corpus.conversation(rng):
            lines += [f"ユーザー: {user}", *f"システム: {reply}".split("\n")]
    text = RUN / "tokenizer.txt"
    text.write_text("\n".join([*sorted(extra_characters()), *lines]) + "\n", encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(RUN / "spiece"), vocab_size=VOCAB, model_type="unigram",
        byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False, normalization_rule_name="identity",
        split_digits=True, user_defined_symbols=["▁", "\n", "\t"], character_coverage=1.0, max_sentence_length=20_000,
        pad_id=0, unk_id=1, bos_id=2, eos_id=EOS, pad_piece="[PAD]", num_threads=2, input_sentence_size=300_000,
        shuffle_input_sentence=False, max_sentencepiece_length=12,
    )  # fmt: skip


def extra_characters() -> set[str]:
    """Kana in both forms and ASCII, so that ordinary typing never falls back to bytes."""
    return {chr(c) for c in [*range(0x21, 0x7F), *range(0x3041, 0x3097), *range(0x30A1, 0x30FB)]}


# -- batches ----------------------------------------------------------------------------------------


def load_tokenizer():
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(RUN / "spiece.model"))


def encode_conversation(turns: corpus.Exchange, sp) -> tuple[list[int], list[int]]:
    """(ids, labels): the label after a reply is eos, although the next input is the separator; -100 elsewhere."""
    ids: list[int] = []
    labels: list[int] = []
    for index, (user, reply) in enumerate(turns):
        prompt = sp.encode((BETWEEN if index else "") + PROMPT.format(user=user))
        answer = sp.encode(reply)
        ids += prompt + answer
        labels += [-100] * (len(prompt) - 1) + answer + [EOS]
    return [*ids, EOS], [*labels, -100]


def row(length: int, rng: random.Random, sp) -> tuple[list[int], list[int]]:
    """Packed conversations, `length` tokens; the first begins at the beginning."""
    ids: list[int] = []
    labels: list[int] = []
    while len(ids) < length:
        turns = corpus.conversation(rng)
        if length > 512 and rng.random() < 0.5:
            turns += [turn for _ in range(4) for turn in corpus.conversation(rng)]
        more = encode_conversation(turns, sp)
        ids += more[0]
        labels += more[1]
    return ids[:length], labels[:length]


def batch(step: int, part: int, sp):
    """A part of a step's batch: PART tokens in rows of one length."""
    import torch

    rng = random.Random(f"{SEED}-{step}-{part}")
    length = rng.choice(LENGTHS)
    xs, ys = zip(*(row(length, rng, sp) for _ in range(PART // length)), strict=True)
    return torch.tensor(xs), torch.tensor(ys)


# -- model ------------------------------------------------------------------------------------------


def new_model():
    import torch
    from transformers import AttentionInterface, GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(SEED)
    config = GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
        max_position_embeddings=POSITIONS, rotary_pct=1.0, rotary_emb_base=10000, use_parallel_residual=False, hidden_act="gelu",
        layer_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=2, eos_token_id=EOS, use_cache=False,
    )  # fmt: skip
    AttentionInterface.register("blocks", attend)
    return GPTNeoXForCausalLM._from_config(config, attn_implementation="blocks")


def attend(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    """Causal attention in blocks of queries, each with the keys up to its end: on a CPU half the time of SDPA's kernel."""
    import torch

    rows, heads, length, width = query.shape
    q, k, v = (each.reshape(rows * heads, length, width) for each in (query, key, value))
    blocks = []
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        hidden = torch.full((end - start, end), -30000.0, dtype=q.dtype).triu(start + 1)
        scores = torch.baddbmm(hidden, q[:, start:end], k[:, :end].transpose(1, 2), alpha=scaling)
        blocks.append(torch.bmm(scores.softmax(-1), v[:, :end]))
    return torch.cat(blocks, 1).view(rows, heads, length, width).transpose(1, 2), None


def start_from(model, directory: Path) -> None:
    """The weights of a model directory, whose tokenizer is used from now on."""
    import shutil

    from safetensors.torch import load_file

    RUN.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(directory / "spiece.model", RUN / "spiece.model")
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(directory / "model.safetensors").items()})


# -- gradients: a process per core, each with one thread ------------------------------------------------
# Two threads wait for each other in every operation, and on a busy machine for whatever else runs: four times slower there.


class Shared(NamedTuple):
    """What the processes share: bfloat16 weights, a gradient sum and a loss sum for each, the next part, two barriers."""

    model: Any
    sums: Any
    losses: Any
    step: Any
    part: Any
    begin: Any
    end: Any


def shared(model, workers: int) -> Shared:
    import torch
    import torch.multiprocessing as processes

    spawn = processes.get_context("spawn")
    size = sum(each.numel() for each in model.parameters())
    half = copy.deepcopy(model).bfloat16().share_memory()
    sums, losses = torch.zeros(workers, size).share_memory_(), torch.zeros(workers).share_memory_()
    counters = spawn.Value("i", 0), spawn.Value("i", 0)
    return Shared(half, sums, losses, *counters, spawn.Barrier(workers), spawn.Barrier(workers))


def work(worker: int, common: Shared) -> None:
    """Steps for ever: the gradients of parts, until the step has no more."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    sp = load_tokenizer()
    new_model()  # registers the attention in this process
    while True:
        add_gradients(worker, common, sp)


def add_gradients(worker: int, common: Shared, sp) -> None:
    common.begin.wait()
    while (part := next_part(common)) < PARTS:
        common.losses[worker] += gradient(common.model, *batch(common.step.value, part, sp))
        at = 0
        for each in common.model.parameters():
            common.sums[worker, at : at + each.numel()] += each.grad.flatten()
            at += each.numel()
            each.grad = None
    common.end.wait()


def next_part(common: Shared) -> int:
    with common.part.get_lock():
        common.part.value += 1
        return common.part.value - 1


def gradient(model, x, y) -> float:
    """Leaves the gradient of the mean loss on the replies in the parameters."""
    from torch.nn.functional import cross_entropy

    hidden = model.gpt_neox(x).last_hidden_state
    wanted = y != -100
    loss = cross_entropy(model.get_output_embeddings()(hidden[wanted]).float(), y[wanted])
    loss.backward()
    return loss.item()


# -- training ---------------------------------------------------------------------------------------


def optimizers(model, muon: float, adam: float) -> list:
    import torch

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers." in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers." in n)]
    found = [
        torch.optim.Muon(matrices, lr=muon, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=adam, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    for optimizer, rate in zip(found, (muon, adam), strict=True):
        optimizer.param_groups[0]["full_rate"] = rate
    return found


def update(model, found: list, common: Shared, rate: float) -> float:
    """One step of the optimizers; the mean loss."""
    import torch

    total = common.sums.sum(0) / PARTS
    for each, grad in zip(model.parameters(), total.split([p.numel() for p in model.parameters()]), strict=True):
        each.grad = grad.view_as(each)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in found:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["full_rate"]
        optimizer.step()
    with torch.no_grad():
        for half, each in zip(common.model.parameters(), model.parameters(), strict=True):
            half.copy_(each)
    loss = common.losses.sum().item() / PARTS
    common.sums.zero_()
    common.losses.zero_()
    return loss


def load(path: Path, model, found: list) -> int:
    """The step to go on with."""
    import torch

    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(found, state["optimizers"], strict=True):
        rate = optimizer.param_groups[0]["full_rate"]
        optimizer.load_state_dict(saved)
        optimizer.param_groups[0]["full_rate"] = rate
    return state["step"]


def save(path: Path, model, found: list, step: int) -> None:
    import torch

    state = {"model": model.state_dict(), "optimizers": [each.state_dict() for each in found], "step": step}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def train(options: argparse.Namespace) -> None:
    import torch
    import torch.multiprocessing as processes

    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # an exit ends the other processes too
    model = new_model()
    checkpoint = RUN / "checkpoint.pt"
    if options.start and not checkpoint.exists():
        start_from(model, options.start)
    found = optimizers(model, options.muon, options.adam)
    first = load(checkpoint, model, found) if checkpoint.exists() else 0
    common = shared(model, options.workers)
    for worker in range(1, options.workers):
        processes.get_context("spawn").Process(target=work, args=(worker, common), daemon=True).start()
    run_steps(options, model, found, common, first)


def learning_rate(since: int, ends: float | None, cool: float) -> float:
    """Share of the full rate: up in the first steps since the process started, down in the last `cool` minutes."""
    down = 1.0 if ends is None else (ends - time.time()) / (60 * cool)
    return max(0.0, min(1.0, (since + 1) / WARM_UP, down))


def run_steps(options: argparse.Namespace, model, found: list, common: Shared, step: int) -> None:
    sp, mean, began, first = load_tokenizer(), math.nan, time.time(), step
    ends = began + 60 * options.minutes if options.minutes else None
    while rate := learning_rate(step - first, ends, options.cool):
        common.step.value, common.part.value = step, 0
        add_gradients(0, common, sp)
        loss = update(model, found, common, rate)
        mean = loss if math.isnan(mean) else 0.98 * mean + 0.02 * loss
        step += 1
        if step % 20 == 0:
            speed = (step - first) * PARTS * PART / (time.time() - began)
            print(f"step {step} loss {loss:.3f} mean {mean:.3f} rate {rate:.2f} {speed:.0f} tokens/s", flush=True)
        if step % 100 == 0:
            save(RUN / "checkpoint.pt", model, found, step)
    save(RUN / "checkpoint.pt", model, found, step)


# -- export -----------------------------------------------------------------------------------------


def export(directory: Path, source: Path) -> None:
    """The model directory: config.json, model.safetensors (bfloat16), spiece.model, tokenizer_config.json."""
    import shutil

    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    state = torch.load(source, weights_only=True)["model"]
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in state.items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "vocab_size": VOCAB, "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 4 * WIDTH, "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS, "rotary_pct": 1.0, "rotary_emb_base": 10000, "use_parallel_residual": False,
        "layer_norm_eps": 1e-05, "initializer_range": 0.02, "tie_word_embeddings": False, "use_cache": True,
        "bos_token_id": 2, "eos_token_id": EOS, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer = {
        "tokenizer_class": "T5Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "[PAD]",
        "extra_ids": 0, "additional_special_tokens": [], "sp_model_kwargs": {}, "model_max_length": POSITIONS,
    }  # fmt: skip
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(RUN / "spiece.model", directory / "spiece.model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tokenizer")
    command = commands.add_parser("train")
    command.add_argument("--minutes", type=float, help="when to end; else it runs until it is stopped")
    command.add_argument(
        "--cool", type=float, default=60, help="the last minutes, in which the learning rate falls to zero"
    )
    command.add_argument("--muon", type=float, default=2.5e-3)
    command.add_argument("--adam", type=float, default=2e-3)
    command.add_argument("--workers", type=int, default=2, help="processes that compute gradients")
    command.add_argument("--start", type=Path, help="begin with this model directory")
    command = commands.add_parser("export")
    command.add_argument("directory", type=Path)
    command.add_argument("--checkpoint", type=Path, default=RUN / "checkpoint.pt")
    arguments = parser.parse_args()
    if arguments.command == "tokenizer":
        train_tokenizer()
    elif arguments.command == "train":
        train(arguments)
    else:
        export(arguments.directory, arguments.checkpoint)


if __name__ == "__main__":
    main()
