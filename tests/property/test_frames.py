"""Records survive the frames between processes whatever they hold, however the bytes are cut."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from appliance import errors
from appliance.records import (
    Delta,
    Embeddings,
    Ended,
    Event,
    Failed,
    Started,
    Step,
    Timings,
    TokenLogprob,
    Usage,
)
from appliance.workers.frames import encode, read_event

ids = st.integers(0, 2**63 - 1)
counts = st.integers(0, 2**31)
seconds = st.floats(0, 1e9)
logprobs = st.builds(
    TokenLogprob, token=counts, raw=st.binary(max_size=8), logprob=st.floats(allow_nan=False), top=st.just(())
)
deltas = st.builds(
    Delta,
    id=ids,
    choice=st.integers(0, 128),
    text=st.text(),
    tokens=counts,
    logprobs=st.lists(logprobs, max_size=2).map(tuple),
    finish_reason=st.sampled_from([None, "stop", "length"]),
)
failures = st.builds(
    lambda kind, message, param: kind(message, param=param, retry_after=1.5),
    st.sampled_from([errors.WorkerLost, errors.ContextLengthExceeded, errors.Overloaded]),
    st.text(),
    st.none() | st.text(),
)
events = st.one_of(
    st.builds(Step, deltas=st.lists(deltas, max_size=4).map(tuple)),
    st.builds(Started, id=ids, prompt_tokens=counts, warnings=st.lists(st.text(), max_size=2).map(tuple)),
    st.builds(
        Ended,
        id=ids,
        usage=st.builds(Usage, prompt_tokens=counts, completion_tokens=counts),
        timings=st.builds(Timings, queued=seconds, prefill=seconds, decode=seconds),
    ),
    st.builds(Embeddings, id=ids, vectors=st.binary(), dimensions=counts, tokens=counts),
    st.builds(lambda id, error: Failed(id=id, error=errors.pack(error)), ids, failures),
)


@given(st.lists(events, max_size=5), st.data())
def test_events_arrive_whole_and_in_order(sent: list[Event], data: st.DataObject) -> None:
    raw = b"".join(map(encode, sent))
    kept = data.draw(st.integers(0, len(raw)))
    ends = [sum(len(encode(event)) for event in sent[: count + 1]) for count in range(len(sent))]

    async def read() -> list[Event]:
        reader = asyncio.StreamReader()
        reader.feed_data(raw[:kept])
        reader.feed_eof()
        found = []
        while (event := await read_event(reader)) is not None:
            found.append(event)
        return found

    assert asyncio.run(read()) == [event for event, end in zip(sent, ends, strict=True) if end <= kept]


@given(failures)
def test_an_error_crosses_as_it_was(error: errors.HearthError) -> None:
    crossed = errors.unpack(errors.pack(error))
    assert type(crossed) is type(error)
    assert (crossed.message, crossed.param, crossed.detail_code, crossed.retry_after) == (
        error.message,
        error.param,
        error.detail_code,
        error.retry_after,
    )
