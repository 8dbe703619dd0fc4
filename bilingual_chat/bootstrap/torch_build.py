"""Chooses the build of torch and installs it, before everything else.

On Linux the usual build brings 3 GB of CUDA libraries, which a machine without an NVIDIA GPU cannot use and which are
never downloaded unasked. The CPU build comes from the user's package index or else from PyTorch's; if neither has it,
the user decides. BCHAT_TORCH decides in advance.
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

# Elsewhere the usual build is the small one.
LINUX = sys.platform == "linux"
CPU, CUDA, ANY = "cpu", "cuda", "any"
# PyTorch's index, the version and its hashes. The index is asked for nothing else, so it cannot replace other packages.
FROM_PYTORCH = ("--no-deps", "--require-hashes", "--timeout", "10", "--requirement", ".ci/torch-cpu.txt")
# Seconds until the download starts: an index that a firewall swallows would otherwise be tried for minutes.
TIMEOUTS = 20.0


def wish(environ: Mapping[str, str]) -> str:
    """The build that BCHAT_TORCH names; "" if it is not set."""
    value = environ.get("BCHAT_TORCH", "").strip().lower()
    if value not in ("", CPU, CUDA, ANY):
        raise BchatError("bootstrap.torch-choice", value=outward_line(value))
    return value


def grants(environ: Mapping[str, str], build: str) -> bool:
    """Whether an environment that was set up with `build` is the one that BCHAT_TORCH asks for."""
    try:
        return wish(environ) in ("", ANY, build)
    except BchatError:
        return False


def install(root: Path, wanted: str) -> str:
    """Installs torch as `wanted` (a wish) says; the build that the environment has now or gets with the libraries."""
    version = pinned(root, "torch")
    if version is None or wanted == ANY or not LINUX:
        return wanted or ANY
    public, _, label = installed_version(root).partition("+")
    if public == version and (not wanted or (label == CPU) == (wanted == CPU)):
        return CPU if label == CPU else wanted or ANY
    if wanted == CUDA or (not wanted and has_nvidia_gpu()):
        return _install_cuda(root, version, wanted)
    return _install_cpu(root, version, wanted)


def keep(root: Path, build: str) -> list[str]:
    """Requirements for the pip that installs the libraries, so that no setting of pip's replaces the CPU build."""
    version = pinned(root, "torch")
    return [f"torch=={version}+cpu"] if version and build == CPU and LINUX else []


def _install_cpu(root: Path, version: str, wanted: str) -> str:
    say("bootstrap.torch-cpu", version=version)
    last = pip.install(root, [f"torch=={version}+cpu"])
    if not last:
        return CPU
    if pip.is_unreachable(last) or not pip.is_unknown(last):
        raise pip.failed(root, last)
    say("bootstrap.torch-pytorch")
    last = pip.install(root, FROM_PYTORCH, TIMEOUTS)
    if not last:
        return CPU
    if not pip.is_unreachable(last) and not pip.is_unknown(last):
        raise pip.failed(root, last)
    if wanted == CPU or not confirms("bootstrap.torch-question"):
        raise BchatError("bootstrap.torch-none", version=version)
    return CUDA


def _install_cuda(root: Path, version: str, wanted: str) -> str:
    say("bootstrap.torch-cuda", version=version)
    # Of one version pip prefers a build with a label, so that `torch==X` would be X+cpu where the index has both.
    last = pip.install(root, [f"torch=={version},!={version}+cpu"])
    if not last:
        return CUDA
    if pip.is_unreachable(last) or not pip.is_unknown(last):
        raise pip.failed(root, last)
    if wanted == CUDA:
        raise BchatError("bootstrap.torch-no-cuda", version=version)
    say("bootstrap.torch-without-cuda")
    return ANY


def has_nvidia_gpu() -> bool:
    """Whether the driver knows a GPU; nvidia-smi alone may lie on a machine without one."""
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
    """The version of `name` in the constraints."""
    text = (root / CONSTRAINTS).read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==([\w.]+)", text, re.MULTILINE)
    return found[1] if found else None


def installed_version(root: Path) -> str:
    """The version of torch in the environment, label included; "" if it is not there."""
    ask = "from importlib.metadata import version; print(version('torch'))"
    found = subprocess.run([str(python_of(root)), "-I", "-c", ask], capture_output=True, check=False)
    return found.stdout.decode(errors="replace").strip()
