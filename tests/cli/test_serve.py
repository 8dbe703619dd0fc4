"""`bchat serve`: the command for each model, its memory, and what is passed to vLLM."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.cli import command_line
from bilingual_chat.engines.server.launch import Layout, Shape, choose_layout, users
from bilingual_chat.settings.config import load_config
from bilingual_chat.storage import paths
from bilingual_chat.storage.sizes import format_bytes
from tests.runs import ROOT, Ran

RunHere = Callable[..., Ran]
SFT = Shape(3_796_120_064, 36, 22, 2816, 2048)
GPU_MEMORY = (12, 16, 24, 40, 80)  # gigabytes, the columns of docs/server.md


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunHere:
    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["bchat", "serve", *arguments])
        status = command_line.main()
        return Ran(status, *capsys.readouterr())

    return run


def options(ran: Ran) -> dict[str, str]:
    """The options of the printed command, each with its value."""
    words = shlex.split(ran.out.strip().splitlines()[-1])
    assert words[:2] == ["vllm", "serve"]
    names = [at for at, word in enumerate(words) if word.startswith("--")]
    return {words[at]: " ".join(words[at + 1 : end]) for at, end in zip(names, [*names[1:], len(words)], strict=True)}


@pytest.mark.parametrize("name", load_config(environment={}).catalogue)
def test_every_model_is_served_by_ids_in_a_lossless_dtype(run: RunHere, name: str) -> None:
    entry = load_config(environment={}).catalogue[name]
    ran = run(name, "--print", "--gpu-memory", "40")
    assert ran.status == 0, ran.err
    printed = options(ran)
    assert printed["--skip-tokenizer-init"] == ""
    assert printed["--served-model-name"] == name
    assert printed["--generation-config"] == "vllm"
    assert printed["--max-model-len"] == str(entry.context_length)
    assert printed["--dtype"] == (entry.dtype or "float32")
    assert printed["--host"] == "127.0.0.1"
    assert ("serve " + (str(paths.demo_model_dir()) if entry.embedded else entry.hub_id)) in ran.out


def test_the_shape_in_the_catalogue_is_that_of_the_model() -> None:
    """The size of every matrix follows from it; the embedded model's own file agrees."""
    from bilingual_chat.engines.neox.config import parse_config
    from bilingual_chat.engines.weights.files import read_json

    catalogue = load_config(environment={}).catalogue
    own, demo = parse_config(read_json(paths.demo_model_dir() / "config.json")), catalogue["demo"]
    assert (demo.layers, demo.heads, demo.hidden_size) == (own.layers, own.heads, own.hidden_size)
    for entry in catalogue.values():
        matrices = 12 * entry.layers * entry.hidden_size**2
        assert 0.5 < matrices / entry.parameters < 1
        assert entry.hidden_size % entry.heads == 0


@pytest.mark.parametrize(
    ("memory", "gpus", "machines", "layout"),
    [
        (24, 1, 1, Layout()),
        (24, 4, 1, Layout(copies=4)),
        (24, 4, 3, Layout(copies=4)),
        (8, 2, 1, Layout(tensor=2)),
        (8, 4, 3, Layout(tensor=2, pipeline=2)),
        (6, 2, 3, Layout(tensor=2, pipeline=3, machines=3)),
        (8, 3, 1, Layout(pipeline=3)),
        (4, 1, 9, Layout(pipeline=9, machines=9)),
    ],
)
def test_a_layout_is_the_smallest_that_holds_a_conversation(
    memory: float, gpus: int, machines: int, layout: Layout
) -> None:
    chosen = choose_layout(SFT, "float16", memory=memory * 1e9, gpus=gpus, machines=machines)
    assert chosen == layout
    assert SFT.heads % chosen.tensor == 0
    assert chosen.gpus <= gpus * chosen.machines


def test_what_does_not_fit_is_refused_with_the_options_that_help(run: RunHere) -> None:
    ran = run("sft", "--print", "--gpu-memory", "6")
    assert (ran.status, ran.out) == (2, "")
    assert "--gpus" in ran.err


def test_several_machines_are_several_servers_or_one_with_ray(run: RunHere) -> None:
    separate = run("sft", "--print", "--machines", "2")
    assert "ray" not in separate.out
    assert "on each machine (2 in all)" in separate.out
    joined = run("sft", "--print", "--machines", "2", "--gpu-memory", "7", "--gpus", "1")
    assert "ray start --head" in joined.out
    assert options(joined)["--distributed-executor-backend"] == "ray"
    assert options(joined)["--pipeline-parallel-size"] == "2"


def test_options_of_vllm_itself_come_last(run: RunHere) -> None:
    printed = run("demo", "--print", "--", "--enforce-eager", "--dtype", "float32").out
    assert printed.endswith("--port 8000 --enforce-eager --dtype float32\n")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_a_server_without_a_key_that_others_reach_is_warned_about(run: RunHere, host: str) -> None:
    assert "has no key" in run("demo", "--print", "--host", host).err
    assert "has no key" not in run("demo", "--print").err


def test_vllm_gets_the_key_by_its_environment_only(run: RunHere, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str], dict[str, str]]] = []

    def replace_process(program: str, command: list[str], environment: dict[str, str]) -> None:
        calls.append((program, command, environment))
        raise SystemExit(0)

    monkeypatch.setenv("BCHAT_API_KEY", "sk-secret")
    monkeypatch.setattr(os, "execvpe", replace_process)
    monkeypatch.setattr(shutil, "which", lambda name: f"/venv/bin/{name}")
    with pytest.raises(SystemExit):
        run("demo", "--port", "8123")
    program, command, environment = calls[0]
    assert program == "/venv/bin/vllm"
    assert command[:3] == ["vllm", "serve", str(paths.demo_model_dir())]
    assert command[command.index("--port") + 1] == "8123"
    assert not any("sk-secret" in word for word in command)
    assert environment["VLLM_API_KEY"] == "sk-secret"
    assert environment["VLLM_NO_USAGE_STATS"] == environment["HF_HUB_OFFLINE"] == "1"
    assert "sk-secret" not in run("demo", "--print").out


@pytest.mark.parametrize(
    ("name", "said"), [("demo", "There is no vllm command"), ("sft", "bchat pull sft"), ("clam", "clam")]
)
def test_what_cannot_be_run_is_one_sentence(
    run: RunHere, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    ran = run(name)
    assert ran.status == 3
    assert said in ran.err


def test_a_model_of_unknown_size_says_which_keys_are_missing(run: RunHere, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[models.x]\nhub_id = "a/b"\ndtype = "float16"\n')
    ran = run("x", "--print", "--config", str(tmp_path / "c.toml"))
    assert ran.status == 3
    assert "[models.x]" in ran.err


def rows(page: str) -> list[list[str]]:
    """The computed table of docs/server.md: its cells."""
    text = (ROOT / page).read_text(encoding="utf-8").partition("<!-- computed -->")[2].partition("\n\n")[0]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    return table[2:]


def expected_rows() -> list[list[str]]:
    catalogue = load_config(environment={}).catalogue
    found = []
    for name, dtype in (("sft", "float16"), ("base-8k", "float16"), ("j-ppo", "bfloat16")):
        entry: Any = catalogue[name]
        shape = Shape(entry.parameters, entry.layers, entry.heads, entry.hidden_size, entry.context_length)
        weights, cache = format_bytes(shape.weights_bytes(dtype)), format_bytes(shape.cache_bytes(dtype))
        counts = [str(users(shape, dtype, size * 1e9, 1) or "–") for size in GPU_MEMORY]
        found.append([f"`{name}`", weights, cache, f"{shape.context_length:,}", *counts])
    return found


@pytest.mark.parametrize("page", ["docs/server.md", "docs/ja/server.md"])
def test_the_sizes_in_the_documentation_are_those_computed(page: str) -> None:
    assert rows(page) == expected_rows()
