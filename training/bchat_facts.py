"""Exchanges about bchat, made from the tables behind /help, /preset and `bchat --help`.

`data/bchat.toml` has the questions; a test fails if it names something that bchat lacks, or omits something.
"""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Any

from material import Exchange, W, ask, maybe, toml, typed
from scenes import made_up_word

from bilingual_chat.cli import command_line
from bilingual_chat.commands.table import COMMANDS
from bilingual_chat.messages import render
from bilingual_chat.settings.config import load_config
from bilingual_chat.settings.decoding import DecodingParameters, is_shown

REPLY_OF: dict[str, str] = toml("bchat")["reply_of"]  # intents of about.toml that ask for these things


def names() -> dict[str, set[str]]:
    """Return the current names of bchat, by table of `data/bchat.toml`."""
    import typer

    shell = typer.main.get_command(command_line.app)
    options = {name for each in shell.params for name in each.opts if name.startswith("--")}  # type: ignore[attr-defined]
    return {
        "command": {command.name for command in COMMANDS},
        "setting": {name for name, value in vars(DecodingParameters()).items() if is_shown(name, value)},
        "preset": set(load_config().presets),
        "option": {name.removeprefix("--") for name in options} - {"help", "install-completion", "show-completion"},
        "shell": set(shell.commands),  # type: ignore[attr-defined]
    }


def explained(key: str, lang: str) -> str:
    """Return a description as a clause, without its full stop."""
    return render(key, lang).rstrip(".。")


@cache
def replies() -> dict[str, dict[str, str]]:
    """Return the reply about each thing, by language."""
    data = toml("bchat")
    found: dict[str, dict[str, str]] = {}
    for name, entry in data["command"].items():
        found[name] = {
            lang: _line(example(entry, lang), explained(f"command.{name}", lang), lang) for lang in ("en", "ja")
        }
    presets = load_config().presets
    for name in data["preset"]["names"]:
        found[f"preset {name}"] = {
            lang: _line(f"/preset {name}", presets[name].describe(lang).rstrip(".。"), lang) for lang in ("en", "ja")
        }
    for table, prefix in (("option", "option"), ("shell", "cli")):
        for name, entry in data[table].items():
            key = f"{prefix}.{name}" if name != "transcripts" else "cli.transcripts"
            found[f"{table} {name}"] = {
                lang: _line(entry["example"], explained(key, lang), lang) for lang in ("en", "ja")
            }
    for name, entry in data["key"].items():
        found[name] = entry["say"]
    return found


def example(entry: dict[str, Any], lang: str) -> str:
    shown = entry["example"]
    return shown[lang] if isinstance(shown, dict) else shown


def _line(shown: str, said: str, lang: str) -> str:
    said = re.sub(r"\s+", " ", said)
    return f"`{shown}`: {said}." if lang == "en" else f"`{shown}`：{said}。"


@cache
def goals() -> list[tuple[str, dict[str, list[str]]]]:
    """Return (thing, its goals by language) for everything that users want to do."""
    data = toml("bchat")
    found = [(name, entry) for name, entry in data["command"].items()]
    found += [(f"preset {name}", entry) for name, entry in data["preset"]["goals"].items()]
    found += [(f"{table} {name}", entry) for table in ("option", "shell") for name, entry in data[table].items()]
    found += [(name, entry) for name, entry in data["key"].items()]
    return [(name, {lang: entry[lang] for lang in ("en", "ja")}) for name, entry in found if "en" in entry]


def wants(lang: str, rng: random.Random, again: bool = False) -> tuple[str, tuple[str, str]]:
    """Yield (thing, (question, reply)): a user wants to do it."""
    name, entry = rng.choice(goals())
    frames = toml("frames")["and_goal" if again else "goal"][lang]
    goal = rng.choice(entry[lang])
    return name, (ask(frames, lang, rng, g=goal, s=tai(goal) if lang == "ja" else goal), replies()[name][lang])


ICHIDAN = re.compile(r"([えけげせぜてでねべめれ]|見|[みきぎびりにじち]き|起き|用い|借り|閉じ|試み|でき)る$")
STEM = dict(zip("うくぐすつぬぶむる", "いきぎしちにびみり", strict=True))


def tai(goal: str) -> str:
    """Return the goal as a wish: 見る, 見たい."""
    if goal.endswith("する"):
        return goal[:-2] + "したい"
    if ICHIDAN.search(goal):
        return goal[:-1] + "たい"
    return goal[:-1] + STEM.get(goal[-1], goal[-1]) + "たい"


def explanations(lang: str, rng: random.Random, again: bool = False) -> tuple[str, tuple[str, str]]:
    """Yield (thing, (question, reply)): a user asks about a command, setting, preset or option."""
    table = rng.choice(["command", "command", "setting", "setting", "preset", "preset", "option", "shell"])
    data = toml("bchat")[table]
    name = rng.choice(data["names"] if "names" in data else list(data))
    known = {"command": name, "setting": name, "preset": f"preset {name}"}.get(table, f"{table} {name}")
    shown = {"command": f"/{name}", "option": f"--{name}", "shell": f"bchat {name}"}.get(table, name)
    frames = W["and_word"] if again else toml("frames")["explain" if table != "preset" else "preset"]
    return known, (ask(frames[lang], lang, rng, q=shown), replies()[known][lang])


def bchat(lang: str, rng: random.Random) -> Exchange:
    roll = rng.random()
    if roll < 0.12:
        return [_asked(lang, rng)]
    maker = wants if roll < 0.7 else explanations
    name, first = maker(lang, rng)
    exchange = [first]
    after = [each for each in toml("bchat")["then"] if name in each["after"]]
    if after and maybe(rng, 0.6):
        chosen = rng.choice(after)
        exchange.append((typed(rng.choice(chosen[lang]), lang, rng), replies()[chosen["reply"]][lang]))
    elif name.startswith("preset ") and maybe(rng, 0.3):
        question = rng.choice(toml("frames")["choose_it"][lang])
        exchange.append((typed(question, lang, rng), replies()[name][lang]))
    elif maybe(rng, 0.35):
        exchange.append(maker(lang, rng, again=True)[1])
    return exchange


def _asked(lang: str, rng: random.Random) -> tuple[str, str]:
    """Yield questions that are written out, not made from a goal."""
    entries = [(name, entry["ask"][lang]) for name, entry in toml("bchat")["key"].items() if "ask" in entry]
    name, questions = rng.choice(entries)
    return ask(questions, lang, rng, x=made_up_word("en", rng).lower()), replies()[name][lang]
