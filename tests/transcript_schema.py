"""The published schema of a transcript, and a checker for the JSON Schema words that it uses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "transcript-2.schema.json").read_bytes())
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}
TYPES["null"] = type(None)
KNOWN = {
    *("$schema", "title", "description", "format", "type", "required", "properties", "additionalProperties", "items"),
    *("const", "enum", "minimum"),
}


def faults(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """Return the violations of `schema` by `value`."""
    assert set(schema) <= KNOWN, f"the check does not know {set(schema) - KNOWN}"
    found = []
    kinds = [schema.get("type", [])] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if kinds and (not any(isinstance(value, TYPES[kind]) for kind in kinds) or isinstance(value, bool)):
        return [f"{where} is no {' or '.join(kinds)}"]
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        found.append(f"{where} = {value!r}")
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{where} is too small")
    if schema.get("format") == "date-time" and not re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", value):
        found.append(f"{where} is no time")
    if isinstance(value, dict):
        found += [f"{where}.{name} is missing" for name in schema.get("required", []) if name not in value]
        for name, part in value.items():
            rule = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            found += faults(part, rule, f"{where}.{name}")
    if isinstance(value, list):
        found += [
            fault
            for number, part in enumerate(value)
            for fault in faults(part, schema.get("items", {}), f"{where}[{number}]")
        ]
    return found
