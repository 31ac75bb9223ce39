"""SPDY/3.1 without a socket: what one side says the other side hears, however it is cut; what is no SPDY ends the connection."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.streaming import spdy, spdy_headers
from minipod.streaming.spdy import (
    Connection,
    Data,
    Finished,
    GoneAway,
    Replied,
    Reset,
    Status,
    StreamOpened,
)


def pair() -> tuple[Connection, Connection]:
    return Connection(client=True), Connection()


def told(receiver: Connection, sender: Connection) -> list[spdy.Event]:
    return list(receiver.receive(sender.take()))


def test_the_dictionary_is_the_drafts() -> None:
    """Its Adler-32 stands in the first bytes of every SPDY/3 header block: 78 bb e3 c6 a7 c2."""
    assert zlib.adler32(spdy_headers.DICTIONARY) == 0xE3C6A7C2
    assert spdy_headers.Deflater().block({"a": "b"})[:6].hex() == "78bbe3c6a7c2"


def test_a_stream_from_opening_to_its_end() -> None:
    client, server = pair()
    stream = client.open({"StreamType": "data", "port": "80"})
    assert told(server, client) == [StreamOpened(1, {"streamtype": "data", "port": "80"})]
    server.reply(stream)
    server.send(stream, b"hello")
    assert told(client, server) == [Replied(1, {}), Data(1, b"hello")]
    client.send(stream, b"bye", fin=True)
    assert told(server, client) == [Data(1, b"bye"), Finished(1)]
    assert server.is_open(stream)
    server.send(stream, b"", fin=True)
    assert told(client, server) == [Finished(1)]
    assert not server.is_open(stream)
    server.send(stream, b"into the void")
    assert server.take() == b""


def test_a_reset_ends_both_ways_and_what_is_under_way_is_dropped() -> None:
    client, server = pair()
    stream = client.open({"streamtype": "data"})
    told(server, client)
    server.reset(stream)
    client.send(stream, b"under way")
    assert told(client, server) == [Reset(1, Status.CANCEL)]
    assert told(server, client) == []
    assert server.take() == b""  # no second reset for it


def test_data_for_a_stream_that_never_was_is_refused() -> None:
    server = Connection()
    assert list(server.receive(struct.pack("!II", 7, 2) + b"xx")) == []
    assert list(Connection(client=True).receive(server.take())) == []  # an RST of nothing it knows


def test_pings_are_echoed_and_our_own_are_not() -> None:
    server = Connection()
    ping = struct.pack("!III", 0x80030006, 4, 3)
    assert list(server.receive(ping)) == []
    assert server.take() == ping
    list(server.receive(struct.pack("!III", 0x80030006, 4, 2)))
    assert server.take() == b""


@pytest.mark.parametrize("asks", [0, 1], ids=["client", "server"])
def test_a_ping_of_either_side_is_answered_by_the_other_and_is_no_event(asks: int) -> None:
    ours, theirs = pair()[asks], pair()[1 - asks]
    ours.ping()
    assert told(theirs, ours) == []
    answer = theirs.take()
    assert len(answer) == 12
    assert list(ours.receive(answer)) == []
    assert ours.take() == b""


def test_unknown_frames_settings_and_window_updates_are_passed_over() -> None:
    server = Connection()
    for kind in (4, 9, 77):
        assert list(server.receive(struct.pack("!II", 0x80030000 | kind, 8) + bytes(8))) == []


def test_too_many_streams_are_refused_one_by_one(monkeypatch) -> None:
    monkeypatch.setattr(spdy, "STREAMS_MAX", 2)
    client, server = pair()
    for _ in range(3):
        client.open({"streamtype": "data"})
    assert [e.stream for e in told(server, client)] == [1, 3]
    assert told(client, server) == [Reset(5, Status.REFUSED_STREAM)]


def bomb() -> bytes:
    compress = zlib.compressobj(zdict=spdy_headers.DICTIONARY)
    block = struct.pack("!II", 1, 1) + b"a" + struct.pack("!I", 4 << 20) + bytes(4 << 20)
    packed = compress.compress(block) + compress.flush(zlib.Z_SYNC_FLUSH)
    return struct.pack("!IIIIBB", 0x80030001, 10 + len(packed), 1, 0, 0, 0) + packed


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(struct.pack("!II", 0x80020001, 0), id="another version"),
        pytest.param(struct.pack("!II", 0x80030001, 0xFFFFFF), id="a control frame of 16 MB"),
        pytest.param(struct.pack("!II", 0x80030001, 2) + b"xx", id="a short SYN_STREAM"),
        pytest.param(struct.pack("!IIIIBB", 0x80030001, 14, 1, 0, 0, 0) + b"junk", id="no zlib"),
        pytest.param(bomb()[: 64 << 10], id="a zlib bomb"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n"[:8].replace(b"G", b"\x80\x03"), id="HTTP"),
    ],
)
def test_what_is_no_spdy_ends_the_connection(wire: bytes) -> None:
    server = Connection()
    with pytest.raises(spdy.ProtocolError):
        list(server.receive(wire))
    assert list(Connection(client=True).receive(server.take())) == [GoneAway()]


def test_a_stream_may_not_be_opened_twice() -> None:
    client, server = pair()
    client.open({"streamtype": "error"})
    told(server, client)
    again = Connection(client=True)
    again._deflater = client._deflater
    again.open({"streamtype": "data"})
    with pytest.raises(spdy.ProtocolError):
        told(server, again)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.dictionaries(st.text("abc", min_size=1), st.text("xyz"))),
        st.tuples(st.just("send"), st.integers(0, 5), st.binary(max_size=300), st.booleans()),
        st.tuples(st.just("reset"), st.integers(0, 5)),
    ),
    max_size=20,
)


@given(actions, st.lists(st.integers(1, 50), min_size=1))
def test_the_peer_hears_what_was_said_however_it_is_cut(todo, cuts) -> None:
    client, server = pair()
    said: dict[int, bytes] = {}
    streams: list[int] = []
    for action in todo:
        if action[0] == "open":
            streams.append(client.open(action[1]))
            said[streams[-1]] = b""
        elif action[1] < len(streams):
            stream = streams[action[1]]
            if action[0] == "send":
                if client.is_open(stream):
                    said[stream] += action[2]
                client.send(stream, action[2], fin=action[3])
            else:
                client.reset(stream)
    wire, heard, n = client.take(), dict.fromkeys(streams, b""), 0
    while wire:
        size = cuts[n % len(cuts)]
        for event in server.receive(wire[:size]):
            if isinstance(event, Data):
                heard[event.stream] += event.payload
        wire, n = wire[size:], n + 1
    assert heard == said


@given(st.binary(max_size=400))
def test_any_bytes_are_events_or_a_protocol_error(wire: bytes) -> None:
    server = Connection()
    try:
        list(server.receive(wire))
    except spdy.ProtocolError:
        assert server.take()
