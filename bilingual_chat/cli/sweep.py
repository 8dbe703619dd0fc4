"""`bchat sweep`: many prompts under many settings, as files that a report reads."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilingual_chat.cli.errors import exit_with
from bilingual_chat.cli.options import Options
from bilingual_chat.cli.startup import Startup, prepare
from bilingual_chat.explore import grid, scoring
from bilingual_chat.explore.prompts import read_prompts
from bilingual_chat.explore.store import DAMAGED, SweepStore
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding
from bilingual_chat.storage import paths
from bilingual_chat.terminal.display import Display
from bilingual_chat.text.encodings import decode_argument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bilingual_chat.explore.sweep import Job, Plan
    from bilingual_chat.session.model import Model

PROGRESS_S = 0.2  # between two looks of a changing line


@dataclass(frozen=True)
class SweepOptions:
    """The options of `bchat sweep` beside the shared ones, as typed."""

    words: Sequence[str] = ()  # the file of the prompts, and more axes of --grid
    grid: Sequence[str] = ()
    presets: str | None = None
    settings: Path | None = None
    one_at_a_time: bool = False
    seeds: int = 1
    limit: int | None = None
    score: str | None = None
    output: Path | None = None
    width: int | None = None


def sweep(options: Options, display: Display, own: SweepOptions) -> None:
    """Generate every reply that the output directory lacks."""
    file, axes = _split(own, options.encoding)
    _check(own)
    if own.one_at_a_time and not axes:
        raise _refused("sweep.no-axes")
    prompts = read_prompts(paths.expand(file), options.encoding, own.limit)
    if own.score is not None:
        scoring.require_fields(own.score, prompts.prompts)
    startup = prepare(options, display)
    cells = _cells(startup, own, axes, display)
    directory = paths.expand(str(own.output)) if own.output else Path(f"{prompts.path.stem}.sweep")
    from bilingual_chat.explore.sweep import MAX_REPLIES, Plan

    seed = startup.settings.parameters.seed or 0
    plan = Plan(prompts, cells, own.seeds, seed, own.score, startup.opening, startup.begin, own.limit)
    if plan.count > MAX_REPLIES:
        raise _refused("sweep.replies", count=f"{plan.count:,}", limit=f"{MAX_REPLIES:,}")
    with closing(SweepStore(directory)) as store:
        _run(plan, startup, store, display, own.width)
    display.say(Phrase("sweep.done", count=plan.count, directory=directory))


def _split(own: SweepOptions, encoding: str | None) -> tuple[str, list[grid.Axis]]:
    """Return the file of the prompts and the axes: words after --grid may be either."""
    words = [decode_argument(each, encoding) for each in own.words]
    axes = [each for each in words if _is_axis(each)]
    files = [each for each in words if each not in axes]
    if len(files) != 1:
        raise _refused("sweep.files", files=", ".join(files) or "–")
    typed = [decode_argument(each, encoding) for text in own.grid for each in text.split()]
    if not typed and axes:
        raise _refused("sweep.files", files=", ".join(words))
    return files[0], [grid.parse_axis(each) for each in [*typed, *axes]]


def _is_axis(word: str) -> bool:
    name, sign, _ = word.replace("＝", "=").partition("=")
    with suppress(BchatError):
        return bool(sign and decoding.resolve_name(name))
    return bool(sign) and not Path(word).exists()


def _check(own: SweepOptions) -> None:
    """Refuse numbers out of range, and scores that do not exist, before anything else is read."""
    for name, value, most in (("seeds", own.seeds, 10_000), ("limit", own.limit, None), ("width", own.width, 1024)):
        if value is not None and not 1 <= value <= (most or value):
            raise _refused("sweep.number", name=name, value=value, most=most or "∞")
    if own.score is not None:
        scoring.require_score(own.score)


def _cells(startup: Startup, own: SweepOptions, axes: list[grid.Axis], display: Display) -> tuple[grid.Cell, ...]:
    if own.score == scoring.CHOICE:
        if axes or own.presets or own.settings or own.seeds > 1:
            display.say(Phrase("sweep.choice"))
        return grid.make_cells(startup.settings, ())
    presets = [each.strip() for each in (own.presets or "").replace("、", ",").replace("，", ",").split(",")]
    tables = grid.read_settings(paths.expand(str(own.settings))) if own.settings else {}
    return grid.make_cells(
        startup.settings, axes, [each for each in presets if each], tables, one_at_a_time=own.one_at_a_time
    )


def _run(plan: Plan, startup: Startup, store: SweepStore, display: Display, width: int | None) -> None:
    from bilingual_chat.explore import sweep
    from bilingual_chat.session.model import open_model

    display.doing(Phrase("sweep.opening"))
    try:
        model = open_model(startup.entry, startup.open_options)
        jobs = sweep.make_jobs(plan, model)
        store.begin(sweep.manifest_of(plan, model, ["bchat", *sys.argv[1:]]))
    finally:
        display.doing(None)
    for notice in model.notices:
        display.say(notice)
    if store.damaged:
        display.say(Phrase("sweep.damaged", count=len(store.damaged), first=store.damaged[0], file=DAMAGED))
    missing = [job for job in jobs if job.id not in store.done]
    _say_plan(plan, len(jobs), len(jobs) - len(missing), display)
    with _progress(display, len(jobs) - len(missing), len(jobs)) as progress:
        _generate(plan, missing, model, store, progress, width)


def _generate(
    plan: Plan, jobs: Sequence[Job], model: Model, store: SweepStore, progress: Progress, width: int | None
) -> None:
    from bilingual_chat.explore import sweep

    if plan.score == scoring.CHOICE:
        sweep.run_choices(jobs, model, store, progress.step)
        return
    with scoring.open_score(plan.score) if plan.score else nullcontext() as score:
        sweep.run(jobs, model, store, score, progress.step, width)


def _say_plan(plan: Plan, count: int, done: int, display: Display) -> None:
    """Say how many replies there are, which settings vary, and that the others are fixed."""
    prompts, cells = len(plan.prompts.prompts), len(plan.cells)
    display.say(Phrase("sweep.plan", prompts=prompts, cells=cells, seeds=plan.seeds, replies=count))
    varied = grid.varied_names(plan.cells)
    found = [vars(cell.settings.parameters) for cell in plan.cells]
    values = {name: list(dict.fromkeys(each[name] for each in found)) for name in plan.cells[0].values}
    if varied:
        display.say(Phrase("sweep.varied", settings="; ".join(f"{name} {_listed(values[name])}" for name in varied)))
    fixed = [name for name in values if name not in varied and decoding.is_shown(name, values[name][0])]
    display.say(Phrase("sweep.fixed", settings=", ".join(f"{name}={_listed(values[name])}" for name in fixed)))
    if done:
        display.say(Phrase("sweep.continued", done=done, count=count))


def _listed(values: Sequence[Any]) -> str:
    shown = [decoding.format_value(value) for value in values]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:5], "…", *shown[-2:]])


class Progress:
    """Shows how many replies are done, and the time left. State: the count, and what was shown last."""

    def __init__(self, display: Display, done: int, count: int) -> None:
        self._display, self._before, self.done, self.count = display, done, done, count
        self._began = time.monotonic()
        self._shown_at, self._tenths = 0.0, 10 * done // max(count, 1)

    def step(self) -> None:
        """Count one more reply."""
        self.done += 1
        now, tenths = time.monotonic(), 10 * self.done // self.count
        is_news = now - self._shown_at >= PROGRESS_S if self._display.is_terminal else tenths != self._tenths
        if is_news:
            self._shown_at, self._tenths = now, tenths
            self._display.doing(self._phrase(now))

    def _phrase(self, now: float) -> Phrase:
        left_s = (now - self._began) / (self.done - self._before) * (self.count - self.done)
        return Phrase("sweep.progress", done=self.done, count=self.count, left=_duration(left_s))


def _duration(seconds: float) -> Phrase:
    if seconds < 90:
        return Phrase("sweep.seconds", number=math.ceil(seconds))
    if seconds < 90 * 60:
        return Phrase("sweep.minutes", number=round(seconds / 60))
    return Phrase("sweep.hours", number=f"{seconds / 3600:.1f}")


@contextmanager
def _progress(display: Display, done: int, count: int) -> Iterator[Progress]:
    """Show the progress; after Ctrl-C say what is done, and how to go on."""
    progress = Progress(display, done, count)
    try:
        yield progress
    except (KeyboardInterrupt, BchatError) as error:
        display.doing(None)
        if isinstance(error, BchatError):
            display.say(error)
        display.say(Phrase("sweep.stopped", done=progress.done, count=count))
        exit_with(error.status if isinstance(error, BchatError) else ExitStatus.INTERRUPTED)
    finally:
        display.doing(None)


def _refused(key: str, **values: object) -> BchatError:
    return BchatError(key, status=ExitStatus.USAGE, **values)
