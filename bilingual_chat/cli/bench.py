"""`bchat bench`: measurements of a model, as a table or as one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar, get_args

from bilingual_chat import messages
from bilingual_chat.bench import speed, text
from bilingual_chat.bench.quality import Quality, judge
from bilingual_chat.cli.errors import exit_with
from bilingual_chat.cli.options import Options
from bilingual_chat.cli.startup import prepare, require_known
from bilingual_chat.engines.protocol import QuantizeName
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import open_model, versions
from bilingual_chat.storage import paths
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.tables import Row

ALL = "all"
Result = TypeVar("Result", speed.Speed, Quality)


def measure_speed(options: Options, display: Display, name: str | None, wanted: Sequence[str], as_json: bool) -> None:
    """Measure the speed of a model in each precision."""
    if name is not None and options.model is not None:
        raise BchatError("bench.two-models", status=ExitStatus.USAGE, first=name, second=options.model)
    kinds = _kinds(wanted or ["auto"])
    model, open_ = _choose_model(replace(options, model=name or options.model), display)
    sample = text.own_sentences()
    found, status = _measure_each(display, kinds, lambda kind: speed.measure(kind, open_, sample, display.doing))
    if as_json:
        display.put_json(_object(model, status, [_speed_json(each) for each in found]))
    elif found:
        display.put_rows(_speed_rows(found, display.lang))
        display.say(Phrase("bench.explained"))
        if found[0].first_token_s:
            display.say(Phrase("bench.turns", tokens=found[0].tokens_per_turn))
    _end(display, status)


def measure_quality(options: Options, display: Display, file: str | None, wanted: Sequence[str], as_json: bool) -> None:
    """Measure how each precision changes the model's predictions of a text, compared with the most exact one."""
    sample = text.own_conversation() if file is None else text.read(paths.expand(file), options.encoding)
    kinds = _kinds(["none", *(wanted or [ALL])])
    model, open_ = _choose_model(options, display)
    from bilingual_chat.bench.divergence import Reference  # imports torch, so after the arguments are checked

    with Reference(paths.cache_dir()) as reference:
        found, status = _measure_each(
            display, kinds, lambda kind: iter([judge(kind, open_, sample, reference, display.doing)])
        )
    if as_json:
        about = _object(model, status, [_rounded(asdict(each)) for each in found])
        display.put_json({**about, "text": file})
    elif found:
        display.put_rows(_quality_rows(found, display.lang))
        display.say(_read_text(file, found[0]))
    _end(display, status)


def _kinds(wanted: Sequence[str]) -> list[QuantizeName]:
    """Return the precisions to measure, the most exact first, auto last."""
    known = sorted(get_args(QuantizeName), key=lambda kind: kind == "auto")
    for name in wanted:
        require_known("bench.quantize", name, (*known, ALL))
    return [kind for kind in known if kind in wanted or (ALL in wanted and kind != "auto")]


def _choose_model(options: Options, display: Display) -> tuple[str, speed.Open]:
    """Return the model's name, and a function that opens it in a precision."""
    startup = prepare(options, display)
    options_in = partial(replace, startup.open_options)
    return startup.entry.name, lambda kind, progress: open_model(startup.entry, options_in(quantize=kind), progress)


def _measure_each(
    display: Display, kinds: Sequence[QuantizeName], measure: Callable[[QuantizeName], Iterator[Result]]
) -> tuple[list[Result], int]:
    """Return the last result of each precision, and the exit status. Ctrl-C and errors keep earlier results."""
    found: dict[str, Result] = {}
    status = ExitStatus.OK
    try:
        for kind in kinds:
            try:
                for result in measure(kind):
                    found[kind] = result
            except BchatError as error:
                display.doing(None)
                display.say(error)
                status = error.status
                if status != ExitStatus.MODEL:  # else only this precision does not fit or is unavailable
                    break
    except KeyboardInterrupt:
        status = ExitStatus.INTERRUPTED
    display.doing(None)
    return list(found.values()), status


def _end(display: Display, status: int) -> None:
    if status == ExitStatus.INTERRUPTED:
        display.say(Phrase("bench.stopped"))
    if status:
        exit_with(status)


# -- JSON ---------------------------------------------------------------------------------------------


def _object(model: str, status: int, precisions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"versions": versions(), "model": model, "complete": status == ExitStatus.OK, "precisions": precisions}


def _speed_json(each: speed.Speed) -> dict[str, Any]:
    values = {name: value for name, value in vars(each).items() if name not in ("bandwidth", "decodes")}
    tokens, rate = values.pop("prefill_tokens"), values.pop("prefill_per_s")
    return _rounded(
        {
            **values,
            "bandwidth_bytes_per_s": each.bandwidth,
            "limit_tokens_per_s": each.limit,
            "prefill": None if rate is None else _rounded({"tokens": tokens, "tokens_per_s": rate}),
            "decode": list(map(_decode_json, each.decodes)),
            "tokens_per_turn": each.tokens_per_turn or None,
            "first_token_s": _rounded({str(turn): seconds for turn, seconds in each.first_token_s}),
        }
    )


def _decode_json(each: speed.Decode) -> dict[str, Any]:
    rates = {"tokens_per_s": each.tokens_per_s, "bandwidth_bytes_per_s": each.bandwidth}
    limits = {"limit_tokens_per_s": each.limit, "share_of_limit": each.share}
    return _rounded({"positions": each.positions, **rates, **limits})


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Round floats to six significant digits."""
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in values.items()}


# -- tables -------------------------------------------------------------------------------------------


def _speed_rows(found: Sequence[speed.Speed], lang: str) -> list[Row]:
    """Return one row for each measurement, with one column for each precision."""

    def row(key: str, show: Callable[[speed.Speed], str], **values: object) -> Row:
        return (messages.render(f"bench.row.{key}", lang, **values), *map(show, found))

    first = found[0]
    return [
        row("precision", lambda each: each.precision),
        row("load", lambda each: _seconds(each.load_s)),
        row("bytes", lambda each: _bytes(each.bytes_per_token)),
        row("bandwidth", lambda each: _rate(each.bandwidth and each.bandwidth / 1e9, "GB/s")),
        row("limit", lambda each: _rate(each.limit, "tok/s")),
        row("prefill", lambda each: _rate(each.prefill_per_s, "tok/s"), tokens=f"{first.prefill_tokens:,}"),
        *(
            row("decode", partial(_decode, index), positions=f"{decode.positions:,}")
            for index, decode in enumerate(first.decodes)
        ),
        *(row("turn", partial(_first_token, turn), turn=turn) for turn, _ in first.first_token_s),
        row("private", lambda each: _bytes(each.private_bytes)),
        row("peak", lambda each: _bytes(each.peak_bytes)),
    ]


def _quality_rows(found: Sequence[Quality], lang: str) -> list[Row]:
    """Return one row for each precision."""
    keys = ("precision", "perplexity", "kl", "kl-p99", "agreement")
    rows: list[Row] = [tuple(messages.render(f"bench.heading.{key}", lang) for key in keys)]
    for each in found:
        divergence = (f"{each.kl_mean:.5f}", f"{each.kl_p99:.5f}", f"{each.agreement:.2%}")
        rows.append((each.precision, f"{each.perplexity:,.3f}", *(("–",) * 3 if each.is_reference else divergence)))
    return rows


def _read_text(file: str | None, first: Quality) -> Phrase:
    source: object = Phrase("bench.own-conversation") if file is None else file
    counts = {"tokens": first.tokens, "all": first.tokens_in_all, "window": first.window}
    shown = {name: f"{count:,}" for name, count in counts.items()}
    return Phrase("bench.text-read", source=source, precision=first.precision, **shown)


def _first_token(turn: int, measured: speed.Speed) -> str:
    return _seconds(dict(measured.first_token_s).get(turn))


def _decode(index: int, measured: speed.Speed) -> str:
    """Return a decoding rate, and its share of the limit set by memory bandwidth."""
    decode = next(iter(measured.decodes[index:]), None)
    return f"{_rate(decode.tokens_per_s, 'tok/s')} ({decode.share:.0%})" if decode else "–"


def _rate(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:,.{0 if value >= 100 else 1}f} {unit}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.1f} s"


def _bytes(value: int | None) -> str:
    return "–" if value is None else format_bytes(value)
