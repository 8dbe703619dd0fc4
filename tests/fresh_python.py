"""The modules that a fresh Python loads."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"torch", "numpy", "transformers", "sentencepiece", "huggingface_hub"}


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after `statement`."""
    program = f"""
import json, sys
try:
    {statement}
except SystemExit as leaving:
    assert not leaving.code, leaving.code
sys.__stdout__.write("\\n" + json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8", check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))
