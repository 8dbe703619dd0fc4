"""Synthetic sweeps: a directory as `bchat sweep` writes it, with known effects of the settings."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bilingual_chat.explore.measures import measure_reply
from bilingual_chat.settings.decoding import DecodingParameters

GRID: Mapping[str, Sequence[Any]] = {"temperature": [0.3, 0.7, 1.0], "top_p": [0.85, 1.0]}
_SENTENCE = "今日 は いい 天気 です 。 散歩 に 行き ましょう 東京 大阪 😀 the model says hello"
WORDS = _SENTENCE.split()
QUESTIONS = (
    "Where is Tokyo?",
    "詩を書いてください。",
    "1 + 1 は？",
    "Tell me a story.\nIn two lines.",
    "自己紹介をして。",
)


def write_sweep(
    directory: Path,
    *,
    grid: Mapping[str, Sequence[Any]] = GRID,
    cells: Sequence[Mapping[str, Any]] | None = None,
    prompts: int = 6,
    seeds: int = 3,
    has_score: bool = True,
    length: int = 20,
    replies: Mapping[tuple[int, int, int], str] | None = None,
) -> Path:
    """Write a sweep and return `directory`. The score falls and the variety rises with the temperature.

    cells: instead of the grid, the settings of each. replies: texts by (prompt, cell, replicate).
    """
    directory.mkdir(parents=True, exist_ok=True)
    combinations = cells or [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    manifest = _manifest(combinations, prompts, seeds, has_score)
    (directory / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    rows = []
    for prompt, (cell, own), replicate in itertools.product(range(prompts), enumerate(combinations), range(seeds)):
        if replicate and own.get("temperature") == 0:
            continue
        rows.append(
            _row(prompt, cell, own, replicate, length, has_score, (replies or {}).get((prompt, cell, replicate)))
        )
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (directory / "replies.jsonl").write_text("".join(lines), encoding="utf-8")
    return directory


def _settings(own: Mapping[str, Any]) -> dict[str, Any]:
    return {**asdict(DecodingParameters(max_new_tokens=64)), **own}


def _manifest(cells: Sequence[Mapping[str, Any]], prompts: int, seeds: int, has_score: bool) -> dict[str, Any]:
    varied = list(dict.fromkeys(name for own in cells for name in own))
    return {
        "kind": "bchat-sweep",
        "version": 1,
        "created": "2026-11-28T12:00:00Z",
        "bchat": "0.1.0",
        "versions": {"python": "3.12.0", "torch": "2.10.0"},
        "command": ["bchat", "sweep", "questions.txt", "--grid", "temperature=0.3,0.7,1", "-o", "my sweep"],
        "model": {"name": "demo", "digest": "5f" * 32, "precision": "float32", "device": "cpu"},
        "tokenizer": "ab" * 32,
        "prompts": {"source": "questions.txt", "sha256": "cd" * 32, "count": prompts},
        "seeds": seeds,
        "base_seed": 1,
        "fixed": {"top_k": 50, "repetition_penalty": 1.0},
        "varied": varied,
        "order": ["repetition_penalty", "temperature", "top_k", "top_p"],
        "score": {"name": "contains", "higher_is_better": True} if has_score else None,
        "cells": [
            {
                "cell": at,
                "label": " ".join(f"{name}={value}" for name, value in own.items()),
                "settings": _settings(own),
            }
            for at, own in enumerate(cells)
        ],
    }


def _row(
    prompt: int,
    cell: int,
    own: Mapping[str, Any],
    replicate: int,
    length: int,
    has_score: bool,
    text: str | None,
) -> dict[str, Any]:
    heat = float(own.get("temperature", 1))
    draw = random.Random(f"{prompt} {replicate}" if heat == 0 else f"{prompt} {replicate} {cell}")
    count = draw.randint(length // 2, length)
    variety = max(2, round(len(WORDS) * min(1, 0.25 + heat / 2)))
    ids = [draw.randrange(variety) for _ in range(count)] if draw.random() > 0.1 * heat else [1, 2, 3, 4] * 6
    reply = " ".join(WORDS[each] for each in ids) if text is None else text
    question = f"{QUESTIONS[prompt % len(QUESTIONS)]} ({prompt})"
    return {
        "id": hashlib.sha256(f"{prompt} {cell} {replicate}".encode()).hexdigest(),
        "prompt_id": str(prompt),
        "prompt": question,
        "prompt_tokens": 9,
        "prompt_ids": [5, 6, 7],
        "cell": cell,
        **_settings(own),
        "order": "temperature > top_k > top_p",
        "replicate": replicate,
        "seed": 1000 * prompt + replicate,
        "reply": reply,
        "ids": ids,
        "finish": "length" if draw.random() < 0.05 * heat else "stop",
        **asdict(measure_reply(reply, ids, ("ユーザー", "システム"))),
        "logprob_sampled": -0.5 * len(ids) * heat,
        "logprob_model": -0.6 * len(ids) * (0.5 + heat),
        "entropy_mean": 1 + heat / 2,
        "rank_mean": 1 + heat,
        "score": float(draw.random() < 0.85 - 0.3 * heat + 0.1 * (prompt % 3)) if has_score else None,
        "reference": "東京",
        "seconds": 0.01,
        "width": 8,
        "model": "demo",
        "precision": "float32",
        "version": "0.1.0",
    }
