"""The engine of a server, against a server that replays recorded streams and everything that goes wrong."""

from __future__ import annotations

import json
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.engines.server import completions, http
from bilingual_chat.engines.server.engine import ServerEngine, Vocabulary, open_server
from bilingual_chat.engines.server.http import Deadlines, make_client
from bilingual_chat.engines.server.several import SeveralServers
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.settings.servers import Server, find_server
from bilingual_chat.text.conversation import FinishReason
from tests.loopback_server import (
    DONE,
    HOLD,
    RECORDED,
    RECORDED_ERROR,
    RECORDED_IDS,
    RESET,
    Answer,
    Served,
    as_json,
    event,
    serve,
    tokens,
)

EOS, SIZE, PROMPT = 3, 512, [5, 6, 7, 8, 9, 10]
GREEDY = DecodingParameters(temperature=0.0, max_new_tokens=3)
LONG = replace(GREEDY, max_new_tokens=100)
KEY = "sk-very-secret"

Start = Callable[..., Served]


@pytest.fixture
def start() -> Iterator[Start]:
    """Serves on loopback until the end of the test."""
    running = []

    def start(*answers: Answer, **more: Any) -> Served:
        context = serve(Served(answers, **more))
        running.append(context)
        return context.__enter__()

    yield start
    for context in running:
        context.__exit__(None, None, None)


@pytest.fixture
def free_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEADLINES", Deadlines(pause=0.01))


def engine_at(url: str, key: str = "", **more: Any) -> ServerEngine:
    client = make_client(find_server(url, {}), {"BCHAT_API_KEY": key})
    return ServerEngine(client, Vocabulary(EOS, SIZE), "m", "m", **{"context_length": 256, **more})


def complete(url: str, parameters: DecodingParameters = GREEDY, **more: Any) -> list[Chunk]:
    return list(engine_at(url, **more).complete(PROMPT, parameters))


def ids_of(chunks: list[Chunk]) -> list[int]:
    return [chunk.token_id for chunk in chunks]


def failure(url: str, parameters: DecodingParameters = LONG, **more: Any) -> tuple[list[int], BchatError]:
    """The ids that came before the error, and the error."""
    ids: list[int] = []
    chunks = engine_at(url, **more).complete(PROMPT, parameters)
    with pytest.raises(BchatError) as raised:
        ids.extend(chunk.token_id for chunk in chunks)
    raised.value.sentence("ja")
    return ids, raised.value


# -- what is sent and what comes back --------------------------------------------------------------------


def test_a_recorded_stream_gives_its_ids_and_its_end(start: Start) -> None:
    served = start()
    chunks = complete(served.url)
    assert ids_of(chunks) == RECORDED_IDS
    assert [chunk.finish for chunk in chunks] == [None, None, FinishReason.LENGTH]


def test_a_request_has_ids_and_every_setting_that_acts(start: Start) -> None:
    served = start()
    parameters = DecodingParameters(0.7, 40, 0.9, 1.1, 2, 3, seed=7)
    complete(served.url, parameters)
    assert served.paths == ["/v1/completions"]
    assert served.bodies == [
        {
            "model": "m",
            "prompt": PROMPT,
            "temperature": 0.7,
            "top_k": 40,
            "top_p": 0.9,
            "repetition_penalty": 1.1,
            "min_tokens": 2,
            "seed": 7,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "max_tokens": 3,
            "stop_token_ids": [EOS],
            "return_token_ids": True,
            "logprobs": 5,
            "return_tokens_as_token_ids": True,
            "stream": True,
        }
    ]


def test_a_reply_never_exceeds_the_context(start: Start) -> None:
    served = start()
    complete(served.url, LONG, context_length=len(PROMPT) + 3)
    assert served.bodies[0]["max_tokens"] == 3
    with pytest.raises(BchatError) as raised:
        complete(served.url, context_length=len(PROMPT))
    assert raised.value.key == "engine.prompt-too-long"
    assert len(served.bodies) == 1


@pytest.mark.parametrize("each", [field.name for field in fields(DecodingParameters)])
def test_a_setting_is_sent_applied_here_or_refused(each: str) -> None:
    """A setting that is ignored would sample another distribution without a word."""
    other: dict[str, Any] = {"seed": 5, "max_new_tokens": 9, "min_new_tokens": 1}
    default = getattr(DecodingParameters(), each)
    value = other.get(each, 0.5 if isinstance(default, int | float) else "reply" if default == "all" else ("id:9=1",))
    changed = replace(DecodingParameters(), **{each: value})

    def body(parameters: DecodingParameters) -> dict[str, Any] | str:
        try:
            return completions.request_body(PROMPT, parameters, "m", EOS, parameters.max_new_tokens)
        except BchatError as error:
            return error.key

    # The session stops at strings; the scope of a penalty does not matter without one.
    assert each in ("stop", "penalty_scope") or body(changed) != body(DecodingParameters())


@pytest.mark.parametrize(
    ("name", "scope"), [("repetition_penalty", "all"), ("presence_penalty", "reply"), ("frequency_penalty", "reply")]
)
def test_a_penalty_is_sent_only_in_the_scope_that_a_server_counts(name: str, scope: str) -> None:
    parameters = replace(DecodingParameters(), **{name: 1.5})

    def body(scope: str) -> dict[str, Any]:
        return completions.request_body(PROMPT, replace(parameters, penalty_scope=scope), "m", EOS, 9)

    assert body(scope)[name] == 1.5
    with pytest.raises(BchatError) as raised:
        body("reply" if scope == "all" else "all")
    assert raised.value.key == "server.scope"


def test_an_event_may_hold_several_ids_one_or_none(start: Start) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 6, "total_tokens": 10, "completion_tokens": 4}}
    parts = [tokens(1, 2), event(usage), tokens(), b": a comment\n\n", tokens(4, 5, 6), tokens(7, EOS, finish="stop")]
    chunks = complete(start(Answer([*parts, event(usage), DONE])).url, LONG)
    assert ids_of(chunks) == [1, 2, 4, 5, 6, 7, EOS]
    assert [chunk.finish for chunk in chunks] == [*[None] * 6, FinishReason.STOP]


@pytest.mark.parametrize("cut", [1, 7, 50])
def test_the_borders_of_network_packets_do_not_matter(start: Start, cut: int) -> None:
    data = b"".join(RECORDED).replace(b"\n", b"\r\n")
    assert ids_of(complete(start(Answer([data[at : at + cut] for at in range(0, len(data), cut)])).url)) == RECORDED_IDS


@pytest.mark.parametrize(
    "parts",
    [
        [tokens(1, 2), tokens(finish="stop"), DONE],
        [tokens(1, 2), DONE],
        [tokens(1, 2, EOS)],
        [tokens(1, 2, EOS, 9, 9, finish="stop")],
        [tokens(1, 2, 77, finish="stop", stop_reason=77)],
    ],
)
def test_every_way_to_say_stop_is_one_stop_without_a_token_of_the_reply(start: Start, parts: list[bytes]) -> None:
    chunks = complete(start(Answer(parts)).url, LONG)
    assert ids_of(chunks[:-1]) == [1, 2]
    assert chunks[-1].finish is FinishReason.STOP


def test_a_server_that_never_ends_gives_no_more_than_was_asked_for(start: Start) -> None:
    served = start(Answer([tokens(*range(10, 20)), HOLD]))
    chunks = complete(served.url, replace(GREEDY, max_new_tokens=4))
    assert ids_of(chunks) == [10, 11, 12, 13]
    assert chunks[-1].finish is FinishReason.LENGTH
    assert served.gone.wait(5)


# -- probabilities ----------------------------------------------------------------------------------------

# Recorded from vLLM 0.32.0 at temperature 0.5, top_k 2, repetition_penalty 1.3: the same as without.
LOGPROBS = {
    "text_offset": [0],
    "token_logprobs": [-0.4120599031448364],
    "tokens": ["token_id:297"],
    "top_logprobs": [
        {
            "token_id:297": -0.4120599031448364,
            "token_id:268": -2.553158760070801,
            "token_id:118": -3.936947822570801,
            "token_id:364": -4.264405250549316,
            "token_id:373": -4.620730876922607,
        }
    ],
}


def test_the_models_own_probabilities_come_with_each_token(start: Start) -> None:
    parts = [tokens(297, logprobs=LOGPROBS), tokens(EOS, finish="stop", logprobs=None), DONE]
    first, last = complete(start(Answer(parts)).url)
    assert (first.raw_logprob, first.rank) == (-0.4120599031448364, 1)
    assert [each for each, _ in first.top] == [297, 268, 118, 364, 373]
    assert (first.logprob, first.entropy, first.kept, first.removed) == (None, None, (), ())
    assert (last.raw_logprob, last.top) == (None, ())


def test_a_token_outside_the_five_most_likely_has_no_rank(start: Start) -> None:
    top = {**LOGPROBS["top_logprobs"][0], "token_id:9": -8.5}
    chunk, *_ = complete(start(Answer([tokens(9, logprobs={"top_logprobs": [top]}), DONE])).url)
    assert (chunk.raw_logprob, chunk.rank, len(chunk.top)) == (-8.5, None, 5)
    assert 9 not in dict(chunk.top)


@pytest.mark.parametrize(
    "odd",
    [
        *(5, [], {}, {"top_logprobs": None}, {"top_logprobs": [None]}, {"top_logprobs": [[]]}, {"top_logprobs": []}),
        *(
            {"top_logprobs": [{"x": -1.0}]},
            {"top_logprobs": [{"token_id:9": "x"}]},
            {"top_logprobs": [{"token_id:8": -1}]},
        ),
        *({"top_logprobs": [{"token_id:9": float(bad)}]} for bad in ("nan", "inf", "-inf", "7")),
        {"top_logprobs": [{f"token_id:{each}": -1.0 for each in range(100)}]},
    ],
)
def test_odd_probabilities_never_cost_the_token(start: Start, odd: object) -> None:
    chunk, *_ = complete(start(Answer([tokens(9, logprobs=odd), DONE])).url)
    assert (chunk.token_id, chunk.raw_logprob, chunk.top) == (9, None, ())


def scored(*pairs: tuple[int, float]) -> dict[str, Any]:
    """A response with the log probability of each token of a prompt after its first; recorded from vLLM 0.32.0."""
    reported = [{str(each): {"logprob": value, "rank": 5, "decoded_token": None}} for each, value in pairs]
    return {"choices": [{"index": 0, "text": "", "finish_reason": "length", "prompt_logprobs": [None, *reported]}]}


def test_continuations_are_scored_with_their_end(start: Start) -> None:
    served = start(
        as_json(scored((6, -9.0), (7, -1.0), (8, -2.0), (EOS, -0.5))),
        as_json(scored((6, -9.0), (9, -3.0), (EOS, -4.0))),
    )
    assert list(engine_at(served.url).score_continuations([5, 6], [[7, 8], [9]])) == [[-1.0, -2.0, -0.5], [-3.0, -4.0]]
    assert [body["prompt"] for body in served.bodies] == [[5, 6, 7, 8, EOS], [5, 6, 9, EOS]]


@pytest.mark.parametrize(
    "response",
    [
        *({}, {"choices": []}, {"choices": [{"prompt_logprobs": None}]}, {"choices": [{"prompt_logprobs": [None]}]}),
        *(scored((7, -1.0), (8, -1.0)), scored((7, -1.0), (EOS, float("nan"))), scored((7, 5.0), (EOS, -1.0))),
    ],
)
def test_an_odd_score_is_an_error(start: Start, response: dict[str, Any]) -> None:
    with pytest.raises(BchatError) as raised:
        list(engine_at(start(as_json(response)).url).score_continuations([5], [[7]]))
    assert raised.value.key == "server.not-understood"


def test_a_continuation_outside_vocabulary_or_context_is_never_sent(start: Start) -> None:
    served = start()
    with pytest.raises(ValueError):
        list(engine_at(served.url).score_continuations([5], [[7], [SIZE]]))
    with pytest.raises(BchatError):
        list(engine_at(served.url, context_length=4).score_continuations([5], [[7], [7, 8, 9]]))
    assert served.paths == []


# -- ids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[], [5, SIZE], [-1], [10**30]])
def test_an_id_outside_the_vocabulary_is_never_sent(start: Start, ids: list[int]) -> None:
    served = start()
    with pytest.raises(ValueError):
        list(engine_at(served.url).complete(ids, GREEDY))
    with pytest.raises(ValueError):
        list(engine_at(served.url).complete_many([PROMPT, ids], [GREEDY] * 2))
    assert served.paths == []


@pytest.mark.parametrize("wrong", [SIZE, -1, 10**30, True, 5.0, "5", None, [5], {"id": 5}])
def test_an_id_outside_the_vocabulary_is_never_accepted(start: Start, wrong: object) -> None:
    ids, error = failure(start(Answer([tokens(1), tokens(2, wrong, 4), DONE])).url)
    assert (ids, error.key) == ([1], "server.unknown-id")


@pytest.mark.parametrize("seen", [PROMPT[:-1], [*PROMPT, 2], [2, *PROMPT]])
def test_a_prompt_that_the_server_changed_is_refused(start: Start, seen: list[int]) -> None:
    ids, error = failure(start(Answer([tokens(1, prompt_token_ids=seen), DONE])).url)
    assert (ids, error.key) == ([], "server.other-prompt")


def test_text_without_ids_is_refused(start: Start) -> None:
    assert failure(start(Answer([tokens(text="Hello", token_ids=None), DONE])).url)[1].key == "server.no-ids"


# -- errors -----------------------------------------------------------------------------------------------


def test_an_error_inside_a_stream_of_status_200_is_an_error(start: Start) -> None:
    ids, error = failure(start(Answer([tokens(1), *RECORDED_ERROR])).url)
    assert (ids, error.key) == ([1], "server.error")
    assert "Unable to get tokenizer" in error.sentence()


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"error": "Unauthorized"}', "Unauthorized"),
        (b'{"error":{"message":"too long","type":"BadRequestError","code":400}}', "too long"),
        (b'{"object":"error","message":"old style"}', "old style"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"detail":[{"loc":["body"],"msg":"field required"}]}', "field required"),
        (b'{"error":{"message":"a\\nb\\tc"}}', "a b c"),
        (b'{"error":{"message":""}}', "Bad Request"),
        (b"<html>\x1b[31mno\nway</html>", "Bad Request"),
        (b"\xff\xfe", "Bad Request"),
        (b"", "Bad Request"),
        (b'{"error":' * 5000, "Bad Request"),
        (b'{"error":"' + b"x" * 100_000 + b'"}', "x" * 300 + " (status"),
    ],
)
def test_the_message_of_an_error_is_shown_in_one_bounded_line(start: Start, body: bytes, shown: str) -> None:
    sentence = failure(start(Answer([body], 400, "application/json")).url)[1].sentence()
    assert shown in sentence
    assert "\n" not in sentence
    assert len(sentence) < 500


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("key", ["", KEY])
def test_a_key_that_is_missing_or_wrong_is_named_by_its_variable(start: Start, status: int, key: str) -> None:
    error = failure(start(as_json({"error": "Unauthorized"}, status)).url, key=key)[1]
    assert error.key == ("server.key-refused" if key else "server.key-missing")
    assert "BCHAT_API_KEY" in error.sentence()


@pytest.mark.parametrize(
    "parts",
    [
        [b"data: {\n\n"],
        [b"data: [1]\n\n"],
        [b'data: {"choices": 5}\n\n'],
        [b'data: {"choices": [5]}\n\n'],
        [b"data: {}\n\n"],
        [b"data: " + b"[" * 100_000 + b"\n\n"],
        [b"data: \xff\n\n"],
    ],
)
def test_nonsense_in_a_stream_is_an_error_with_the_reply_kept(start: Start, parts: list[bytes]) -> None:
    ids, error = failure(start(Answer([tokens(1), *parts])).url)
    assert (ids, error.key) == ([1], "server.not-understood")


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_page_instead_of_a_stream_is_an_error(start: Start, kind: str) -> None:
    assert failure(start(Answer([b"<html>log in</html>"], kind=kind)).url)[1].key == "server.not-understood"


@pytest.mark.parametrize("reason", ["abort", "content_filter", "error", 5])
def test_any_other_finish_reason_is_an_error(start: Start, reason: str) -> None:
    ids, error = failure(start(Answer([tokens(1), tokens(finish=reason), DONE])).url)
    assert (ids, error.key) == ([1], "server.gave-up")


@pytest.mark.parametrize("parts", [[b"data: " + b"x" * (http.LONGEST_LINE + 9)], [b"data: x\n" * 200_000]])
def test_an_endless_event_is_cut(start: Start, parts: list[bytes]) -> None:
    assert failure(start(Answer(parts)).url)[1].key == "server.too-much"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_server_sends_ends_in_chunks_or_one_sentence(start: Start, data: st.DataObject) -> None:
    stream = bytearray(b"".join(RECORDED))
    for _ in range(data.draw(st.integers(1, 4))):
        at, length = data.draw(st.integers(0, len(stream))), data.draw(st.integers(0, 40))
        stream[at : at + length] = data.draw(st.binary(max_size=8) | st.sampled_from([b"null", b"[]", b"\n\n", b"{"]))
    url = start(Answer([bytes(stream)])).url
    try:
        ids = ids_of(complete(url))
    except BchatError as error:
        ids = [] if error.key.startswith("server.") else [-1]
    assert all(0 <= each < SIZE for each in ids)


# -- connections ------------------------------------------------------------------------------------------


BREAKS = [Answer([], is_cut=True), Answer([]), Answer([0.1, RESET])]  # the line, the response, the connection


def after(parts: Sequence[bytes | float | str], broken: Answer) -> Answer:
    return replace(broken, parts=[*parts, *broken.parts])


@pytest.mark.parametrize("broken", BREAKS)
def test_a_stream_that_breaks_off_is_an_error_and_is_not_repeated(start: Start, broken: Answer) -> None:
    served = start(after(RECORDED[:2], broken))
    ids, error = failure(served.url)
    assert (ids, error.key) == (RECORDED_IDS[:2], "server.broke-off")
    assert len(served.bodies) == 1


@pytest.mark.parametrize("broken", BREAKS)
def test_a_stream_that_breaks_off_before_the_first_token_is_repeated(start: Start, broken: Answer) -> None:
    served = start(broken)
    assert ids_of(complete(served.url)) == RECORDED_IDS
    assert len(served.bodies) == 2


@pytest.mark.parametrize(
    "bad",
    [
        Answer([b'{"error":"busy"}'], 503),
        Answer([], 502),
        Answer([], 504),
        Answer([], 429, headers={"Retry-After": "0"}),
    ],
)
def test_a_failure_before_the_first_token_is_repeated(start: Start, bad: Answer) -> None:
    served = start(bad, bad)
    assert ids_of(complete(served.url)) == RECORDED_IDS
    assert len(served.bodies) == 3


@pytest.mark.parametrize("bad", [Answer([], 400), Answer([], 500), Answer([], 429, headers={"Retry-After": "9999"})])
def test_a_failure_that_another_attempt_would_not_cure_is_reported_at_once(start: Start, bad: Answer) -> None:
    served = start(bad)
    assert failure(served.url)[1].key == ("server.unavailable" if bad.status == 500 else "server.status")
    assert len(served.bodies) == 1


def test_attempts_end(start: Start) -> None:
    served = start(*[Answer([b'{"error":"busy"}'], 503)] * 9)
    assert failure(served.url)[1].key == "server.unavailable"
    assert len(served.bodies) == http.DEADLINES.attempts


def test_a_server_that_is_not_there_is_reported(free_port: int) -> None:
    assert failure(f"http://127.0.0.1:{free_port}")[1].key == "server.unreachable"


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("first", [HOLD]),
        ("first", [b": still here\n\n", 0.1] * 50),
        ("first", [tokens(), event({"choices": []}), 0.1] * 50),
        ("between", [tokens(1), HOLD]),
        ("between", [tokens(1), *[b": still here\n\n", 0.1] * 50]),
        ("total", [tokens(1), 0.1] * 50),
    ],
)
def test_a_server_that_is_late_is_left(
    start: Start, monkeypatch: pytest.MonkeyPatch, stage: str, parts: list[bytes | float | str]
) -> None:
    monkeypatch.setattr(http, "DEADLINES", replace(Deadlines(), **{stage: 0.3}))
    assert failure(start(Answer(parts)).url)[1].key == f"server.late.{stage}"


def test_a_server_that_never_lists_its_models_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the connection and says nothing."""
    monkeypatch.setattr(http, "DEADLINES", Deadlines(models=0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(BchatError) as raised:
        open_at(Served(url=f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert raised.value.key == "server.late.models"


def test_a_connection_that_is_never_completed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TLS handshake that nobody answers."""
    monkeypatch.setattr(http, "DEADLINES", Deadlines(connect=0.3, attempts=1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        key = failure(f"https://127.0.0.1:{silent.getsockname()[1]}")[1].key
    assert key in ("server.late.connect", "server.unreachable")


def test_a_consumer_that_stops_closes_the_connection(start: Start) -> None:
    served = start(Answer([tokens(1), HOLD]))
    chunks = engine_at(served.url).complete(PROMPT, LONG)
    next(chunks)
    chunks.close()
    assert served.gone.wait(5)
    assert served.gone_after_s[0] < 1


def test_ctrl_c_while_nothing_comes_closes_the_connection(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    served = start(Answer([HOLD]))

    def interrupt(request: http.Request) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(http.Request, "find_lateness", interrupt)
    with pytest.raises(KeyboardInterrupt):
        complete(served.url)
    assert served.gone.wait(5)


# -- the key ----------------------------------------------------------------------------------------------


def test_the_key_is_sent_to_this_machine_and_shown_nowhere(start: Start) -> None:
    served = start(Answer([b'{"error":"no"}'], 400), key=KEY)
    engine = engine_at(served.url, key=KEY)
    with pytest.raises(BchatError) as raised:
        list(engine.complete(PROMPT, GREEDY))
    assert served.keys == [f"Bearer {KEY}"]
    shown = [repr(engine._client), str(raised.value), *traceback.format_exception(raised.value)]
    assert not any(KEY in each for each in shown)


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1:8000", "http://example.com", "http://localhost.example.com", "http://127.0.0.1.example.com"],
)
def test_a_key_is_never_sent_to_another_machine_without_encryption(url: str) -> None:
    with pytest.raises(BchatError) as raised:
        make_client(find_server(url, {}), {"BCHAT_API_KEY": KEY})
    assert raised.value.key == "server.key-unencrypted"
    assert KEY not in str(raised.value)
    assert make_client(find_server(url, {}), {}).key == ""


@pytest.mark.parametrize("url", ["http://localhost:8000", "http://127.0.0.1", "http://[::1]:80", "https://example.com"])
def test_a_key_may_go_to_this_machine_or_through_tls(url: str) -> None:
    assert make_client(find_server(url, {}), {"BCHAT_API_KEY": f" {KEY}\n"}).key == KEY


@pytest.mark.parametrize("key", ["a b", "a\nb", "ａ", "a\x00", "é"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(BchatError) as raised:
        make_client(Server("s", "http://127.0.0.1"), {"BCHAT_API_KEY": key})
    assert raised.value.key == "server.key-characters"
    assert key not in str(raised.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(start: Start, status: int) -> None:
    elsewhere = start()
    served = start(Answer([], status, headers={"Location": f"{elsewhere.url}/v1/completions"}))
    error = failure(served.url, key=KEY)[1]
    assert error.key == "server.redirect"
    assert elsewhere.url in error.sentence()
    assert elsewhere.paths == []


def test_no_proxy_is_asked(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = start()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    assert ids_of(complete(start().url)) == RECORDED_IDS
    assert proxy.paths == []


# -- many at once -----------------------------------------------------------------------------------------


def slowly(body: dict[str, Any]) -> Answer:
    """Ids that only this request gets, one at a time."""
    own = 10 + body["seed"]
    return Answer([part for step in range(4) for part in (tokens(own, 300 + step), 0.002)] + [DONE])


def test_200_replies_come_whole_and_in_order(start: Start) -> None:
    served = start(reply_to=slowly)
    requests = [replace(LONG, seed=seed) for seed in range(200)]
    replies: dict[int, list[int]] = {}
    for index, chunk in engine_at(served.url).complete_many([PROMPT] * 200, requests, width=200):
        if chunk.finish is None:
            replies.setdefault(index, []).append(chunk.token_id)
    assert replies == {at: [t for step in range(4) for t in (10 + at, 300 + step)] for at in range(200)}
    assert len(served.bodies) == 200


def test_no_more_requests_run_than_the_width(start: Start) -> None:
    served = start(reply_to=slowly)
    requests = [replace(LONG, seed=seed) for seed in range(12)]
    chunks = list(engine_at(served.url).complete_many([PROMPT] * 12, requests, width=3))
    assert sum(chunk.finish is not None for _, chunk in chunks) == 12
    assert served.most_open <= 4  # one may be closing


def test_a_reply_that_is_no_longer_wanted_ends_and_another_begins(start: Start) -> None:
    served = start(reply_to=lambda body: Answer([tokens(10 + body["seed"]), HOLD]))
    unwanted: set[int] = set()
    requests = [replace(LONG, seed=seed) for seed in range(3)]
    seen = []
    for index, chunk in engine_at(served.url).complete_many([PROMPT] * 3, requests, unwanted=unwanted, width=1):
        seen.append(chunk.token_id)
        unwanted.add(index)
    assert seen == [10, 11, 12]


def test_one_failure_ends_all_and_closes_their_connections(start: Start) -> None:
    def reply_to(body: dict[str, Any]) -> Answer:
        return Answer([0.2, tokens(SIZE)]) if body["seed"] == 2 else Answer([tokens(1), HOLD])

    served = start(reply_to=reply_to)
    with pytest.raises(BchatError) as raised:
        list(engine_at(served.url).complete_many([PROMPT] * 4, [replace(LONG, seed=seed) for seed in range(4)]))
    assert raised.value.key == "server.unknown-id"
    until = threading.Event()
    for _ in range(100):
        if len(served.gone_after_s) == 3:
            break
        until.wait(0.05)
    assert len(served.gone_after_s) == 3


def test_nothing_is_asked_for_no_requests(start: Start) -> None:
    served = start()
    assert list(engine_at(served.url).complete_many([], [])) == []
    assert served.paths == []


# -- several servers --------------------------------------------------------------------------------------


def several(*urls: str, weights: Sequence[float] = (1, 1, 1)) -> SeveralServers:
    engines = [engine_at(url) for url in urls]
    for engine, weight in zip(engines, weights, strict=False):
        engine._client = replace(engine._client, server=replace(engine._client.server, weight=weight))
    return SeveralServers(engines)


def replies_of(engine: SeveralServers, count: int, whole: set[int] | None = None, **more: Any) -> dict[int, list[int]]:
    """The tokens of each reply, -1 at its end. `whole`: gets the replies that have ended."""
    replies: dict[int, list[int]] = {}
    requests = [replace(LONG, seed=seed) for seed in range(count)]
    for index, chunk in engine.complete_many([PROMPT] * count, requests, **more):
        assert index not in replies or replies[index][-1] != -1, "a reply came again"
        replies.setdefault(index, []).append(chunk.token_id if chunk.finish is None else -1)
        if whole is not None and chunk.finish is not None:
            whole.add(index)
    return replies


def expected_replies(count: int) -> dict[int, list[int]]:
    return {at: [*(t for step in range(4) for t in (10 + at, 300 + step)), -1] for at in range(count)}


@pytest.mark.parametrize(("weights", "share"), [((1, 1), (20, 40)), ((3, 1), (32, 58))])
def test_replies_are_spread_over_all_servers_by_weight(
    start: Start, weights: tuple[float, float], share: tuple[int, int]
) -> None:
    one, other = start(reply_to=slowly), start(reply_to=slowly)
    engine = several(one.url, other.url, weights=weights)
    assert replies_of(engine, 60, width=8) == expected_replies(60)
    assert len(one.bodies) + len(other.bodies) == 60
    assert share[0] <= len(one.bodies) <= share[1]


def test_few_replies_are_spread_by_weight_too(start: Start) -> None:
    one, other = start(reply_to=slowly), start(reply_to=slowly)
    replies_of(several(one.url, other.url, weights=(1, 3)), 4)
    assert (len(one.bodies), len(other.bodies)) == (1, 3)


@pytest.mark.parametrize(
    "end",
    [[tokens(1), RESET], [RESET], [tokens(1)], [], [tokens(1), HOLD], [HOLD]],
)
def test_the_work_of_a_server_that_dies_is_done_by_the_others_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, end: list[bytes | float | str]
) -> None:
    """Whether it refuses, breaks off or falls silent: each reply comes whole, once, from one server."""
    monkeypatch.setattr(http, "DEADLINES", Deadlines(first=0.5, between=0.5, pause=0.01, attempts=2))
    answered: list[int] = []
    whole: set[int] = set()
    again: list[int] = []

    def dying(body: dict[str, Any]) -> Answer:
        answered.append(body["seed"])
        return slowly(body) if len(answered) <= 5 else Answer(end)

    def living(body: dict[str, Any]) -> Answer:
        again.extend({body["seed"]} & whole)
        return slowly(body)

    engine = several(start(reply_to=dying).url, start(reply_to=living).url)
    assert replies_of(engine, 30, whole, width=8) == expected_replies(30)
    assert again == []


def test_a_server_that_is_not_there_is_left_for_the_others(start: Start, free_port: int) -> None:
    lives = start(reply_to=slowly)
    engine = several(f"http://127.0.0.1:{free_port}", lives.url)
    assert replies_of(engine, 10, width=4) == expected_replies(10)
    assert ids_of(list(several(f"http://127.0.0.1:{free_port}", start().url).complete(PROMPT, GREEDY))) == RECORDED_IDS


def test_the_last_servers_error_is_reported(start: Start, free_port: int) -> None:
    engine = several(f"http://127.0.0.1:{free_port}", start(Answer([], is_cut=True), Answer([]), Answer([])).url)
    with pytest.raises(BchatError) as raised:
        replies_of(engine, 1)
    assert raised.value.key in ("server.unreachable", "server.broke-off")


def test_an_error_that_every_server_would_report_ends_the_work(start: Start) -> None:
    bad = lambda body: Answer([b'{"error":"too long"}'], 400)  # noqa: E731
    one, other = start(reply_to=bad), start(reply_to=bad)
    with pytest.raises(BchatError) as raised:
        replies_of(several(one.url, other.url), 1)
    assert raised.value.key == "server.status"
    assert len(one.bodies) + len(other.bodies) == 1


def test_the_rest_of_a_reply_that_is_not_wanted_is_not_given_out(start: Start) -> None:
    unwanted: set[int] = set()
    seen = []
    engine = several(start(reply_to=slowly).url, start(reply_to=slowly).url)
    requests = [replace(LONG, seed=seed) for seed in range(4)]
    for index, _ in engine.complete_many([PROMPT] * 4, requests, unwanted=unwanted):
        seen.append(index)
        unwanted.add(index)
    assert sorted(seen) == [0, 1, 2, 3]


# -- opening ----------------------------------------------------------------------------------------------


def open_at(served: Served, **more: Any) -> ServerEngine:
    name, *aliases = more.get("names", ["demo"])
    entry = ModelEntry(name, tuple(aliases), context_length=more.get("context_length", 0))
    server = Server("lab", served.url, served_model=more.get("served_model", ""))
    return open_server(server, entry, Vocabulary(EOS, SIZE), other_names=more.get("other_names", ()))


def test_opening_asks_for_the_models_and_one_token(start: Start) -> None:
    served = start(Answer([tokens(9, finish="length", prompt_token_ids=[EOS]), DONE]))
    engine = open_at(served)
    assert (engine.served_model, engine.context_length) == ("demo", 1024)
    assert served.paths == ["/v1/models", "/v1/completions"]
    assert served.bodies[0]["prompt"] == [EOS]
    assert SIZE - 1 in served.bodies[0]["stop_token_ids"]


def test_a_smaller_vocabulary_on_the_server_is_found_before_a_prompt_is_sent(start: Start) -> None:
    message = "token_id(s) [511] in stop_token_ids contain out-of-vocab token ids. Vocabulary size: 256"
    served = start(Answer([event({"error": {"message": message}}), DONE]))
    with pytest.raises(BchatError) as raised:
        open_at(served)
    assert raised.value.key == "server.error"


MODELS = [{"id": "a", "root": "/models/a"}, {"id": "b", "root": "rinna/b", "max_model_len": 99}]


@pytest.mark.parametrize(
    ("models", "more", "expected"),
    [
        (MODELS, {"names": ["x", "rinna/B"]}, ("b", 99)),
        (MODELS, {"names": ["x"]}, "server.no-such-model"),
        (MODELS, {"names": ["x"], "served_model": "a", "context_length": 50}, ("a", 50)),
        (MODELS[:1], {"names": ["x"]}, ("a", 2048)),
        (MODELS[:1], {"names": ["x"], "served_model": "b"}, "server.no-such-model"),
        (MODELS[:1], {"names": ["x"], "other_names": ["a"]}, "server.no-such-model"),
        ([], {}, "server.no-models"),
        ([{"id": 5}, "b"], {}, "server.no-models"),
    ],
)
def test_the_model_is_the_one_with_its_name_or_the_only_one(
    start: Start, models: Any, more: dict[str, Any], expected: Any
) -> None:
    served = start(*[Answer([tokens(9, finish="length"), DONE])], models=models)
    if isinstance(expected, str):
        with pytest.raises(BchatError) as raised:
            open_at(served, **more)
        assert raised.value.key == expected
    else:
        engine = open_at(served, **more)
        assert (engine.served_model, engine.context_length) == expected


@pytest.mark.parametrize("body", [[1], {"data": 5}, {}, "x"])
def test_a_list_of_models_that_is_none_is_an_error(start: Start, monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    served = start()
    monkeypatch.setattr(
        "tests.loopback_server._Answerer.do_GET", lambda self: self.send(Answer([json.dumps(body).encode()], 200, "x"))
    )
    with pytest.raises(BchatError) as raised:
        open_at(served)
    assert raised.value.key in ("server.no-models", "server.not-understood")


# -- addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        ("https://Example.com/prefix/v1", "https://example.com/prefix"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_a_url_is_the_part_before_v1(text: str, url: str) -> None:
    assert find_server(text, {}).url == url


@pytest.mark.parametrize(
    "text",
    [
        *(
            "ftp://x",
            "http://",
            "http://:80",
            "http://x:99999",
            "http://x:0",
            "http://x:a",
            "http://x?key=1",
            "http://x#a",
        ),
        *("http://a b", "http://x/\x1b", "http://[::1", "http://x..y", "file:///etc/passwd", "http://ｘ"),
    ],
)
def test_what_is_no_url_of_a_server_is_refused(text: str) -> None:
    with pytest.raises(BchatError) as raised:
        find_server(text, {})
    assert raised.value.key == "server.url"


@pytest.mark.parametrize("text", ["http://me:pw@x", "http://localhost@example.com", "https://key@x"])
def test_a_url_with_credentials_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(BchatError) as raised:
        find_server(text, {})
    assert raised.value.key == "server.credentials"
    assert "pw" not in str(raised.value).split()
