"""`python3 -m tests --sanitize [arguments of pytest]`: the kernel tests under AddressSanitizer and UBSan (gcc, Linux).

A compiler called `cc` comes first in PATH and adds the sanitizers to each build. Python is built without them, so the
loader gets the runtime of AddressSanitizer by LD_PRELOAD. The first fault ends the run with a report. Leaks are not
reported: Python itself leaves memory behind at exit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ("tests/engines/test_cpu_model.py", "tests/engines/test_passes.py")
SANITIZERS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"


def runtime() -> Path | None:
    """AddressSanitizer's shared library; None if gcc or the library is missing."""
    gcc = shutil.which("gcc")
    if gcc is None or sys.platform != "linux":
        return None
    found = Path(subprocess.check_output([gcc, "-print-file-name=libasan.so"], text=True).strip())
    return found if found.is_absolute() else None


def main(arguments: list[str]) -> int:
    """Returns pytest's exit status, or that of a sanitizer; 1 without gcc and its sanitizers."""
    library = runtime()
    if library is None:
        print("This needs Linux and gcc with its sanitizers (libasan, libubsan).", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        compiler = Path(folder) / "cc"
        compiler.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec gcc "$@" {SANITIZERS}\n')
        compiler.chmod(0o700)
        environment = {
            **{name: value for name, value in os.environ.items() if name != "CC"},
            "PATH": os.pathsep.join((folder, os.environ["PATH"])),
            "LD_PRELOAD": str(library),
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        # Without -s pytest would keep the report, which is printed just before the process ends.
        command = [sys.executable, "-m", "pytest", "-s", *(arguments or TESTS)]
        return subprocess.call(command, cwd=ROOT, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
