"""`bchat serve`: the vLLM command for a model, printed or run."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bilingual_chat.engines.server import launch
from bilingual_chat.engines.server.http import KEY_VARIABLE
from bilingual_chat.engines.server.launch import Layout, Shape
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.catalogue import CONFIG_FILE, ModelEntry
from bilingual_chat.settings.config import Config
from bilingual_chat.settings.servers import Server
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal.display import Display

# vLLM reports its use to its makers otherwise, and asks the hub about a model that is here.
_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Plan:
    """The GPUs that the user has, and the address to serve at. memory: bytes of one GPU."""

    gpus: int
    machines: int
    memory: float
    host: str
    port: int
    more: tuple[str, ...] = ()  # options for vLLM itself, which override bchat's


def print_command(config: Config, display: Display, name: str, plan: Plan, *, accept_withdrawn: bool) -> None:
    """Print what to run, as lines for a shell; a model that is not here is taken from the hub."""
    entry = catalogue.find(config.catalogue, name)
    directory = catalogue.locate(entry)
    if directory is None and not entry.hub_id:
        catalogue.require_here(entry)
    command, layout = _command(display, config, entry, directory, plan, accept_withdrawn=accept_withdrawn)
    display.put("\n".join(_lines(display, shlex.join(command), layout, plan)))


def run(config: Config, display: Display, name: str, plan: Plan, *, accept_withdrawn: bool) -> NoReturn:
    """Replace this process by vLLM. Raises BchatError: no vLLM, no such model (MODEL), too few machines (USAGE)."""
    entry = catalogue.find(config.catalogue, name)
    command, layout = _command(
        display, config, entry, catalogue.require_here(entry), plan, accept_withdrawn=accept_withdrawn
    )
    if layout.machines > 1:
        raise BchatError("serve.machines", status=ExitStatus.USAGE, name=entry.name)
    program = shutil.which("vllm")
    if program is None:
        raise BchatError("serve.no-vllm", status=ExitStatus.MODEL, name=entry.name)
    key = os.environ.get(KEY_VARIABLE)
    os.execvpe(program, command, {**os.environ, **_ENVIRONMENT, **({"VLLM_API_KEY": key} if key else {})})


def _command(
    display: Display, config: Config, entry: ModelEntry, directory: Path | None, plan: Plan, *, accept_withdrawn: bool
) -> tuple[list[str], Layout]:
    dtype, shape = _dtype(config, entry, directory, accept_withdrawn=accept_withdrawn), _shape(entry, directory)
    layout = launch.choose_layout(shape, dtype, memory=plan.memory, gpus=plan.gpus, machines=plan.machines)
    _say_sizes(display, entry, shape, dtype, layout, plan)
    if not Server("", f"http://{plan.host}").is_this_machine and not os.environ.get(KEY_VARIABLE):
        display.say(Phrase("serve.open", host=plan.host))
    context = shape.context_length
    command = launch.command(entry, directory, dtype, layout, host=plan.host, port=plan.port, context_length=context)
    return [*command, *plan.more], layout


def _say_sizes(display: Display, entry: ModelEntry, shape: Shape, dtype: str, layout: Layout, plan: Plan) -> None:
    count = launch.users(shape, dtype, plan.memory, layout.tensor * layout.pipeline) * layout.copies
    if not count:
        raise BchatError("serve.too-large", status=ExitStatus.USAGE, name=entry.name, memory=format_bytes(plan.memory))
    display.say(
        Phrase(
            "serve.sizes",
            name=entry.name,
            weights=format_bytes(shape.weights_bytes(dtype)),
            cache=format_bytes(shape.cache_bytes(dtype)),
            gpus=layout.gpus,
            memory=format_bytes(plan.memory),
            users=count,
            context=f"{shape.context_length:,}",
        )
    )


def _lines(display: Display, command: str, layout: Layout, plan: Plan) -> Iterable[str]:
    def comment(key: str) -> str:
        return "# " + display.text(Phrase(key, count=plan.machines))

    if plan.machines == 1:
        return [command]
    if layout.machines == 1:
        return [comment("serve.on-each"), command]
    first, others = "ray start --head --port=6379", "ray start --address=FIRST:6379"
    return [
        *(comment("serve.on-first"), first, comment("serve.on-others"), others),
        *(comment("serve.when-joined"), command),
    ]


def _dtype(config: Config, entry: ModelEntry, directory: Path | None, *, accept_withdrawn: bool) -> str:
    """Return the smallest lossless dtype; float32 for weights that are unknown and not here. Refuses withdrawn ones.

    Not vLLM's `auto`: it follows config.json, which is wrong for two of the models, and rounds float32.
    """
    if directory is None:
        return entry.dtype or "float32"
    from bilingual_chat.engines.device import exact_dtype
    from bilingual_chat.engines.weights.files import find_weights
    from bilingual_chat.engines.weights.reader import stored_dtype
    from bilingual_chat.engines.weights.withdrawn import check_withdrawn

    weights = find_weights(directory)
    check_withdrawn(weights, entry, config.catalogue.values(), accept=accept_withdrawn)
    return entry.dtype or str(exact_dtype(stored_dtype(weights))).removeprefix("torch.")


def _shape(entry: ModelEntry, directory: Path | None) -> Shape:
    """Return the shape from config.json, else from the catalogue. Raises BchatError (MODEL) if both lack it."""
    if directory is not None and not catalogue.is_other_family(directory):
        from bilingual_chat.engines.neox.config import parse_config
        from bilingual_chat.engines.weights.files import read_json

        config = parse_config(read_json(directory / CONFIG_FILE))
        context = min(config.context_length, entry.context_length or config.context_length)
        return Shape(config.parameter_count, config.layers, config.heads, config.hidden_size, context)
    shape = Shape(entry.parameters, entry.layers, entry.heads, entry.hidden_size, entry.context_length)
    if not all(vars(shape).values()):
        raise BchatError("serve.no-shape", status=ExitStatus.MODEL, name=entry.name)
    return shape
