"""Chooses and installs the build of torch, before the other libraries.

On Linux the default build brings 3 GB of CUDA libraries, which are useless without an NVIDIA GPU and never downloaded
unasked. The CPU build comes from the user's package index, else from PyTorch's; if neither has it, the user decides.
BCHAT_TORCH decides in advance.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bilingual_chat.bootstrap import pip
from bilingual_chat.bootstrap.console import confirms, say
from bilingual_chat.bootstrap.environment import CONSTRAINTS, python_of
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.text.sanitize import outward_line

LINUX = sys.platform == "linux"  # elsewhere the default build is small
CPU, CUDA, ANY = "cpu", "cuda", "any"
# PyTorch's index, the version and its hashes. It is used for nothing else, so it cannot replace other packages.
FROM_PYTORCH = ("--no-deps", "--require-hashes", "--timeout", "10", "--requirement", ".ci/torch-cpu.txt")
START_TIMEOUT_S = 20.0  # until the download starts; behind a firewall pip would try for minutes


def requested_build(environ: Mapping[str, str]) -> str:
    """Return the build that BCHAT_TORCH names; "" if it is not set. Raise BchatError for anything else."""
    value = environ.get("BCHAT_TORCH", "").strip().lower()
    if value not in ("", CPU, CUDA, ANY):
        raise BchatError("bootstrap.torch-choice", value=outward_line(value))
    return value


def is_acceptable(environ: Mapping[str, str], build: str) -> bool:
    """Return True if BCHAT_TORCH permits an environment with `build`."""
    try:
        return requested_build(environ) in ("", ANY, build)
    except BchatError:
        return False


def install(root: Path, wanted: str) -> str:
    """Install torch as `wanted` says. Return the build that the environment has now, or gets with the libraries."""
    version = pinned(root, "torch")
    if version is None or wanted == ANY or not LINUX:
        return wanted or ANY
    public, _, label = installed_version(root).partition("+")
    if public == version and (not wanted or (label == CPU) == (wanted == CPU)):
        return CPU if label == CPU else wanted or ANY
    if wanted == CUDA or (not wanted and has_nvidia_gpu()):
        return _install_cuda(root, version, wanted)
    return _install_cpu(root, version, wanted)


def pin_build(root: Path, build: str) -> list[str]:
    """Return the requirements that keep pip from replacing the CPU build when it installs the libraries."""
    version = pinned(root, "torch")
    return [f"torch=={version}+cpu"] if version and build == CPU and LINUX else []


def _install_cpu(root: Path, version: str, wanted: str) -> str:
    say("bootstrap.torch-cpu", version=version)
    if _has_installed(root, [f"torch=={version}+cpu"]):
        return CPU
    say("bootstrap.torch-pytorch")
    output = pip.install(root, FROM_PYTORCH, START_TIMEOUT_S)
    if not output:
        return CPU
    if not pip.is_unreachable(output) and not pip.is_unknown(output):
        raise pip.failed(root, output)
    if wanted == CPU or not confirms("bootstrap.torch-question"):
        raise BchatError("bootstrap.torch-none", version=version)
    return CUDA


def _install_cuda(root: Path, version: str, wanted: str) -> str:
    say("bootstrap.torch-cuda", version=version)
    # pip prefers a build with a label: `torch==X` would be X+cpu where the index has both.
    if _has_installed(root, [f"torch=={version},!={version}+cpu"]):
        return CUDA
    if wanted == CUDA:
        raise BchatError("bootstrap.torch-no-cuda", version=version)
    say("bootstrap.torch-without-cuda")
    return ANY


def _has_installed(root: Path, wanted: list[str]) -> bool:
    """Install from the user's index; return False if it lacks this build. Raise BchatError for other failures."""
    output = pip.install(root, wanted)
    if output and (pip.is_unreachable(output) or not pip.is_unknown(output)):
        raise pip.failed(root, output)
    return not output


def has_nvidia_gpu() -> bool:
    """Return True if the driver knows a GPU; nvidia-smi may be installed on a machine without one."""
    if any(Path("/proc/driver/nvidia/gpus").glob("*")):
        return True
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU " in listed.stdout


def pinned(root: Path, name: str) -> str | None:
    """Return the version of `name` in the constraints."""
    text = (root / CONSTRAINTS).read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==([\w.]+)", text, re.MULTILINE)
    return found[1] if found else None


def installed_version(root: Path) -> str:
    """Return the version of torch in the environment, with its label; "" if it is not there."""
    ask = "from importlib.metadata import version; print(version('torch'))"
    found = subprocess.run([str(python_of(root)), "-I", "-c", ask], capture_output=True, check=False)
    return found.stdout.decode(errors="replace").strip()
