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
import json
import math
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import corpus

RUN = Path(os.environ.get("BCHAT_TRAINING", "/var/tmp/bchat-training"))
SEED = 20261123
VOCAB, WIDTH, LAYERS, HEADS, POSITIONS = 5120, 256, 5, 4, 1024
BATCH_TOKENS = 4096
WARM_UP = 100
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


def batch(step: int, length: int, sp, tokens: int = BATCH_TOKENS):
    """Rows of packed conversations; each row begins with the beginning of one."""
    import torch

    rng = random.Random(f"{SEED}-{step}")
    xs, ys = [], []
    for _ in range(tokens // length):
        ids: list[int] = []
        labels: list[int] = []
        while len(ids) < length:
            turns = corpus.conversation(rng)
            if length > 512 and rng.random() < 0.5:
                turns += [turn for _ in range(4) for turn in corpus.conversation(rng)]
            more = encode_conversation(turns, sp)
            ids += more[0]
            labels += more[1]
        xs.append(ids[:length])
        ys.append(labels[:length])
    return torch.tensor(xs), torch.tensor(ys)


# -- training ---------------------------------------------------------------------------------------


def new_model():
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(SEED)
    config = GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
        max_position_embeddings=POSITIONS, rotary_pct=1.0, rotary_emb_base=10000, use_parallel_residual=False, hidden_act="gelu",
        layer_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=2, eos_token_id=EOS, use_cache=False,
    )  # fmt: skip
    return GPTNeoXForCausalLM._from_config(config, attn_implementation="sdpa")


def learning_rate(step: int, steps: int, decay: int) -> float:
    return min(1.0, (step + 1) / WARM_UP, max(0.0, (steps - step) / decay))


def start_from(model, directory: Path) -> None:
    """The weights of a model directory, whose tokenizer is used from now on."""
    import shutil

    from safetensors.torch import load_file

    RUN.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(directory / "spiece.model", RUN / "spiece.model")
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(directory / "model.safetensors").items()})


def train(steps: int, decay: int, muon: float, adam: float, threads: int, directory: Path | None, tokens: int) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(threads)
    model = new_model()
    if directory and not (RUN / "checkpoint.pt").exists():
        start_from(model, directory)
    sp = load_tokenizer()
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers." in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers." in n)]
    optimizers = [
        torch.optim.Muon(matrices, lr=muon, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=adam, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [muon, adam]
    start = 0
    checkpoint = RUN / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    mean, began = math.nan, time.time()
    for step in range(start, steps):
        length = POSITIONS if step % 5 == 4 else 256
        x, y = batch(step, length, sp, tokens)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.gpt_neox(x).last_hidden_state
            wanted = y != -100
            logits = model.get_output_embeddings()(hidden[wanted])
        loss = cross_entropy(logits.float(), y[wanted])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * learning_rate(step, steps, decay)
            optimizer.step()
            optimizer.zero_grad()
        mean = loss.item() if math.isnan(mean) else 0.98 * mean + 0.02 * loss.item()
        if step % 20 == 0:
            speed = (step + 1 - start) * tokens / (time.time() - began)
            print(f"step {step} loss {loss.item():.3f} mean {mean:.3f} {speed:.0f} tokens/s", flush=True)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            temporary = checkpoint.with_suffix(".tmp")
            torch.save(
                {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step + 1},
                temporary,
            )
            temporary.replace(checkpoint)


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
    command.add_argument("--steps", type=int, default=6000)
    command.add_argument("--decay", type=int, default=1500)
    command.add_argument("--muon", type=float, default=4e-3)
    command.add_argument("--adam", type=float, default=3e-3)
    command.add_argument("--threads", type=int, default=2)
    command.add_argument("--batch", type=int, default=BATCH_TOKENS, help="tokens in a step")
    command.add_argument("--start", type=Path, help="begin with this model directory")
    command = commands.add_parser("export")
    command.add_argument("directory", type=Path)
    command.add_argument("--checkpoint", type=Path, default=RUN / "checkpoint.pt")
    arguments = parser.parse_args()
    if arguments.command == "tokenizer":
        train_tokenizer()
    elif arguments.command == "train":
        train(
            arguments.steps,
            arguments.decay,
            arguments.muon,
            arguments.adam,
            arguments.threads,
            arguments.start,
            arguments.batch,
        )
    else:
        export(arguments.directory, arguments.checkpoint)


if __name__ == "__main__":
    main()
