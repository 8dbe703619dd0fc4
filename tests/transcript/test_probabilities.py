"""The probabilities of a reply survive a transcript; damaged ones are none, and cost neither text nor memory."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilingual_chat.engines.protocol import Chunk, OpenOptions
from bilingual_chat.session.model import open_model
from bilingual_chat.session.session import Session
from bilingual_chat.settings.config import SettingsChange, load_config, settings_for
from bilingual_chat.text.conversation import FinishReason
from bilingual_chat.transcript.document import read_document, write_document
from bilingual_chat.transcript.journal import read_journal
from bilingual_chat.transcript.probabilities import MOST_CHARACTERS, NAME, continued, pack, unpack

NATS = st.integers(-10_000_000, 0).map(lambda value: value / 1000)
IDS = st.integers(0, 300_000)
PAIRS = st.lists(st.tuples(IDS, NATS), max_size=5).map(tuple)
CHUNKS = st.builds(
    Chunk,
    IDS,
    NATS,
    st.just(0),
    st.sampled_from((None, FinishReason.STOP)),
    raw_logprob=NATS | st.none(),
    entropy=NATS.map(abs) | st.none(),
    rank=st.integers(1, 65536) | st.none(),
    top=PAIRS,
    kept=PAIRS,
    removed=st.lists(st.tuples(IDS, st.sampled_from(("top_k", "top_p", "min_p"))), max_size=5).map(tuple),
)
TOP = ((5, -0.1), (7, -2.0), (9, -4.0))


def chunk(token: int, finish: FinishReason | None = None) -> Chunk:
    return Chunk(token, -0.1, 0, finish, -0.2, 1.5, 1, TOP, kept=((5, 0.0),), removed=((7, "top_k"), (9, "top_k")))


@settings(max_examples=100, deadline=None)
@given(st.lists(CHUNKS, min_size=1, max_size=30).map(tuple))
def test_what_is_packed_is_unpacked(chunks: tuple[Chunk, ...]) -> None:
    chunks = (chunk(5), *chunks)
    assert unpack(pack(chunks)) == chunks


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "",
        "no base64!",
        "AAAA",
        b64encode(zlib.compress(b"{}")).decode(),
        b64encode(zlib.compress(b"[[1]]")).decode(),
        b64encode(zlib.compress(b"[" * 100_000)).decode(),
        b64encode(zlib.compress(json.dumps([[1, 0, 0, 0, 1, [1, 2, 3], [], []]]).encode())).decode(),
        b64encode(zlib.compress(json.dumps([[1, 0, 0, 0, 1, [], [], [1, "no filter"]]]).encode())).decode(),
        b64encode(zlib.compress(json.dumps([[1, 1.5, 0, 0, 1, [], [], []]]).encode())).decode(),
        b64encode(zlib.compress(json.dumps([[-1, 0, 0, 0, 1, [], [], []]]).encode())).decode(),
        b64encode(zlib.compress(json.dumps([[1, 0, 0, 0, 1, [], [], []]] * 9000).encode())).decode(),
        b64encode(zlib.compress(b"[[1,0,0,0,1,[],[],[]]]" + b" " * (200 << 20))).decode(),  # a bomb
        "A" * (MOST_CHARACTERS + 4),
    ],
)
def test_damaged_probabilities_are_none(value: Any) -> None:
    assert unpack({NAME: value}) == ()


def test_nothing_is_packed_that_would_not_be_read() -> None:
    assert pack([]) == {}
    assert pack([chunk(5)] * 9000) == {}
    assert pack([Chunk(5, -1.0, 0)]) == {}, "an engine that knows no distribution"
    assert len(unpack(pack([chunk(5)] * 8193))) == 8193


def test_a_continued_reply_has_the_probabilities_of_all_its_tokens() -> None:
    """Kept, extended, or with another candidate in place of its last token; with unknown ids, of the new ones."""
    earlier, new = (chunk(5), chunk(5), chunk(3, FinishReason.STOP)), (chunk(8),)
    assert continued(earlier, [5, 5], new) == (chunk(5), chunk(5), chunk(8))
    assert continued(earlier, [5], new) == (chunk(5), chunk(8))
    assert continued((), [], new) == new
    assert continued((), [5], new) == new
    assert continued(earlier, [5, 6], new) == new
    assert continued(earlier, [6, 5], new) == new
    taken = continued(earlier, [5, 7], new)[1]
    assert (taken.token_id, taken.raw_logprob, taken.rank, taken.top) == (7, -2.0, 2, TOP)
    at_end = continued(earlier, [5, 5, 9], new)
    assert [each.token_id for each in at_end] == [5, 5, 9, 8]
    assert at_end[2].finish is None
    assert unpack(pack(at_end))


def test_each_reply_is_recorded_and_read_back(tmp_path: Path) -> None:
    """From the journal and from a document: the ids of the reply, then the end token; under a kilobyte for ten."""
    config = load_config(environment={})
    entry = config.catalogue["demo"]
    model = open_model(entry, OpenOptions(device="cpu"))
    session = Session(lambda: model, settings_for(config, entry), entry=entry, directory=tmp_path)
    text = "".join(each for each in session.reply("こんにちは") if isinstance(each, str))
    for _ in session.retry(SettingsChange(values={"temperature": 1.5, "seed": 3, "max_new_tokens": 5})):
        pass
    write_document(tmp_path / "a.json", session.snapshot())
    path = session.journal_path
    assert path is not None
    for loaded in (read_journal(path), read_document(tmp_path / "a.json")):
        assert loaded.problems == ()
        whole, cut = (unpack(each.details) for each in loaded.conversation.turns[-1].replies)
        ids = list(loaded.conversation.turns[-1].replies[0].details["reply_ids"])
        assert [each.token_id for each in whole[:-1]] == ids
        assert model.tokenizer.decode(ids) == text
        assert whole[-1].finish is FinishReason.STOP
        assert all(each.rank == 1 and each.top[0][0] == each.token_id for each in whole), "greedy"
        assert len(cut) == 5
        assert all(each.logprob <= 0 and each.entropy is not None and len(each.top) == 5 for each in cut)
    size = len(loaded.conversation.turns[-1].replies[0].details[NAME])
    assert size / len(whole) < 120
    assert replace(whole[0], finish=None) == whole[0]
