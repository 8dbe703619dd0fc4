"""The winner of a sweep as a preset in TOML, which `--config FILE` loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bilingual_chat import messages
from bilingual_chat.explore.report.analysis import Analysis
from bilingual_chat.explore.report.marks import interval, number
from bilingual_chat.explore.report.sections import fact
from bilingual_chat.messages import LANGUAGES, Phrase
from bilingual_chat.settings.presets import PARAMETERS
from bilingual_chat.text.sanitize import outward_line

MARK = "# bchat preset"  # the first words of the file


def write_preset(analysis: Analysis, name: str) -> bytes:
    """Return a TOML file with the preset `name`: every setting of the winner, without the seed."""
    settings = analysis.results.cells[analysis.winner].settings
    measure = Phrase(f"report.measure.{analysis.main.measure.name}")
    model = outward_line(fact(analysis.results.manifest.get("model"), "name") or "?")
    values = {"measure": measure, "model": model, "cells": len(analysis.results.cells)}
    lines = [f"{MARK}. {outward_line(_evidence(analysis))}", "", f"[presets.{_toml(name)}]"]
    for lang in LANGUAGES:
        lines.append(f"description.{lang} = {_toml(messages.render('report.preset-description', lang, **values))}")
    kept = (key for key in PARAMETERS if key != "seed" and settings.get(key) is not None)
    return "\n".join([*lines, *(f"{key} = {_toml(settings[key])}" for key in kept), ""]).encode("utf-8", "replace")


def _evidence(analysis: Analysis) -> str:
    """Return the winner's measure on prompts that did not choose it."""
    name, held_out = analysis.main.measure.name, analysis.held_out
    if held_out is None:
        return f"{name} {number(analysis.main.estimates[analysis.winner].mean)} on the prompts that chose it."
    found = held_out.reported_on
    range_ = interval(found.low, found.high)
    return f"{name} {number(found.mean)} [{range_}] on {found.prompts} prompts that did not choose it."


def _toml(value: Any) -> str:
    """Return a value of JSON as TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
