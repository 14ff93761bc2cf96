from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from searchers.streams import Streams

keys = st.integers(0, 2**128 - 1)
numbers = st.integers(0, 2**32)


@given(key=keys, stream=numbers, other=numbers)
def test_a_stream_does_not_depend_on_what_was_drawn(key, stream, other):
    streams = Streams(key)
    first = streams.new(stream).random(5).tolist()
    streams.shared(other).integers(3, size=7)
    assert streams.shared(stream).random(5).tolist() == first
    streams.shared(stream).integers(3)
    assert streams.shared(stream).random(5).tolist() == first


@given(key=keys, other=keys, stream=numbers, further=numbers)
def test_streams_differ(key, other, stream, further):
    draws = {k: Streams(k).new(stream).random() for k in (key, other)}
    assert len(set(draws.values())) == len(draws)
    if stream != further:
        assert Streams(key).new(stream).random() != Streams(key).new(further).random()
