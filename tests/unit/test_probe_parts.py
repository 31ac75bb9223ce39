"""Parts of the prober that are pure: responses, annotations, metrics."""

import asyncio
import socket
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.api import tuning_probes
from minipod.kubelet.probe import http, sockets, tcp
from minipod.kubelet.probe.flight import Engine, drive
from minipod.kubelet.probe.metrics import LATENESS, Histogram, ProbeCounters, text
from minipod.kubelet.probe.response import MAX_BODY, BadResponse, parse
from minipod.kubelet.probe.targets import Attempt, Handler, HttpGet, Target
from minipod.kubelet.probe.timers import Timers
from minipod.kubelet.rules.probe import Outcome, ProbeKind


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(p), p) for p in (*pieces, b""))


RESPONSES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (b"HTTP/1.0 200 OK\r\n\r\nto the end", b"to the end"),
    (b"HTTP/1.1 200 OK\r\nTRANSFER-Encoding: chunked\r\n\r\n" + chunked(b"ab", b"cde"), b"abcde"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 11000\r\n\r\n" + b"x" * 11000, b"x" * MAX_BODY),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 11000, b"x" * MAX_BODY),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunked(b"y" * 9000, b"z" * 9000),
        b"y" * 9000 + b"z" * (MAX_BODY - 9000),
    ),
]


@given(st.sampled_from(RESPONSES), st.data())
def test_a_response_in_pieces_is_the_same_response(response, data):
    raw, body = response
    cut = data.draw(st.integers(0, len(raw)))
    early = parse(raw[:cut], ended=False)
    if early is not None:
        assert early.body == body
    whole = parse(raw, ended=True)
    assert whole is not None
    assert whole.body == body


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_a_response_or_an_error_or_too_few(tail, ended):
    for head in (b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            parse(head + tail, ended=ended)
        except BadResponse:
            continue


P = tuning_probes.PREFIX


@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        pytest.param({}, (None, None), id="none"),
        pytest.param({f"{P}probe-period-ms": "200"}, (0.2, None), id="all"),
        pytest.param(
            {f"{P}probe-period-ms": "200", f"{P}readiness-probe-period-ms": "50"},
            (0.05, None),
            id="kind",
        ),
        pytest.param(
            {f"{P}readiness-probe-period-ms": "50", f"{P}probe-period-ms.app": "20"},
            (0.02, None),
            id="container",
        ),
        pytest.param({f"{P}readiness-probe-start-period-ms.app": "10"}, (None, 0.01), id="start"),
        pytest.param({f"{P}probe-period-ms.other": "20"}, (None, None), id="another-container"),
    ],
)
def test_the_most_exact_annotation_counts(annotations, found):
    assert tuning_probes.probe_periods(annotations, "app", "readiness") == found


def test_a_liveness_probe_has_no_start_period():
    annotations = {f"{P}probe-start-period-ms": "20"}
    assert tuning_probes.probe_periods(annotations, "app", "liveness") == (None, None)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        pytest.param("probe-period-ms", "9", "milliseconds between 10 and 3600000", id="too-short"),
        pytest.param("probe-period-ms", "1s", "milliseconds between 10", id="no-number"),
        pytest.param("probe-period-ms.nosuch", "20", 'no container "nosuch"', id="container"),
        pytest.param("liveness-probe-start-period-ms", "20", "no start period", id="liveness"),
        pytest.param("ready-probe-period-ms", "20", "unknown annotation", id="unknown"),
    ],
)
def test_a_bad_annotation_is_named(key, value, words):
    (error,) = tuning_probes.check({"annotations": {P + key: value}}, {"app"})
    assert error.path == f"metadata.annotations[{P}{key}]"
    assert words in error.message


def test_foreign_annotations_are_not_ours():
    assert not list(tuning_probes.check({"annotations": {"x/probe-a": "b", f"{P}x": "y"}}, set()))


def test_metrics_are_the_kubelets():
    counters, lateness = ProbeCounters(), Histogram(LATENESS)
    for outcome, seconds in (
        (Outcome.SUCCESS, 0.004),
        (Outcome.WARNING, 0.3),
        (Outcome.FAILURE, 9),
    ):
        counters.count(outcome, seconds)
    lateness.observe(0.003)
    target = Target(
        pod_uid="u1",
        pod="web",
        namespace="default",
        container="app",
        kind=ProbeKind.LIVENESS,
        handler=Handler(),
    )
    lines = text([(target, counters)], lateness).splitlines()
    labels = 'container="app",namespace="default",pod="web",probe_type="Liveness"'
    assert f'prober_probe_total{{{labels},pod_uid="u1",result="successful"}} 2' in lines
    assert f'prober_probe_total{{{labels},pod_uid="u1",result="failed"}} 1' in lines
    assert f'prober_probe_duration_seconds_bucket{{{labels},le="0.005"}} 1' in lines
    assert f'prober_probe_duration_seconds_bucket{{{labels},le="+Inf"}} 2' in lines
    assert f"prober_probe_duration_seconds_count{{{labels}}} 2" in lines
    assert 'minipod_prober_lateness_seconds_bucket{le="0.002"} 0' in lines
    assert 'minipod_prober_lateness_seconds_bucket{le="0.005"} 1' in lines


async def test_an_answer_that_waits_for_a_late_prober_is_no_timeout():
    """The loop is held up beyond the time limit while the answer is in the socket's buffer."""
    loop = asyncio.get_running_loop()
    engine, landed = Engine(Timers(loop)), loop.create_future()
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    asked = http.request(HttpGet(host="127.0.0.1", port=port), "127.0.0.1")
    engine.start(http.ask(asked), loop.time() + 0.01, landed.set_result)
    peer, _ = server.accept()
    peer.recv(4096)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    (flight,) = engine._waiting.values()
    engine._expired(flight)  # the timer comes before the socket's turn
    attempt = await landed
    assert (attempt.outcome, attempt.output) == (Outcome.SUCCESS, "ok")
    peer.close()
    server.close()
    engine.close()


async def test_an_answer_that_waits_for_a_late_loop_is_no_timeout_of_a_hook():
    """The same for a caller inside asyncio: the answer and the end of the time limit come in one turn of the loop."""
    server = socket.create_server(("127.0.0.1", 0))
    asked = http.request(HttpGet(host="127.0.0.1", port=server.getsockname()[1]), "127.0.0.1")
    attempt = asyncio.create_task(drive(http.ask(asked), 0.05))
    await asyncio.sleep(0)
    peer, _ = server.accept()
    peer.recv(4096)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    time.sleep(0.1)  # noqa: ASYNC251 what holds the loop up
    assert (await attempt).output == "ok"
    peer.close()
    server.close()


async def test_a_socket_serves_one_connection_after_another_and_each_is_reset() -> None:
    """Also for flights that wait: what one has watched is not watched for the next."""
    loop = asyncio.get_running_loop()
    engine = Engine(Timers(loop))
    server = socket.create_server(("127.0.0.1", 0))
    asked = http.request(HttpGet(host="127.0.0.1", port=server.getsockname()[1]), "127.0.0.1")
    descriptors, ports = set(), set()
    for body in (b"one", b"two", b"three"):
        landed = loop.create_future()
        engine.start(http.ask(asked), loop.time() + 60, landed.set_result)
        (flight,) = engine._waiting.values()
        descriptors.add(flight.fd)
        peer, (_, port) = await asyncio.to_thread(server.accept)
        ports.add(port)
        peer.recv(4096)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert (await landed).output == body.decode()
        assert not engine._epoll.poll(0)
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
        peer.close()
    assert len(descriptors) == 1
    assert len(ports) == 3
    server.close()
    engine.close()


async def test_sockets_that_were_needed_at_once_are_not_all_kept() -> None:
    loop = asyncio.get_running_loop()
    engine = Engine(Timers(loop))
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    asked = http.request(HttpGet(host="127.0.0.1", port=server.getsockname()[1]), "127.0.0.1")
    landed: list[object] = []
    flights = [engine.start(http.ask(asked), loop.time() + 60, landed.append) for _ in range(100)]
    assert len({f.fd for f in flights}) == 100
    for flight in flights:
        engine.cancel(flight)
    assert len(sockets._spare[socket.AF_INET, True]) == sockets._SPARE_MAX
    assert not landed
    server.close()
    engine.close()


def segments(peer: socket.socket) -> int:
    """How many came, tcpi_segs_in (linux/tcp.h)."""
    return int.from_bytes(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)[140:], "little")


async def test_a_request_comes_with_the_last_packet_of_the_handshake() -> None:
    loop = asyncio.get_running_loop()
    engine = Engine(Timers(loop))
    server = socket.create_server(("127.0.0.1", 0))
    asked = http.request(HttpGet(host="127.0.0.1", port=server.getsockname()[1]), "127.0.0.1")
    flight = engine.start(http.ask(asked), loop.time() + 60, lambda _: None)
    peer, _ = await asyncio.to_thread(server.accept)
    assert peer.recv(4096) == asked.payload
    assert segments(peer) == 2  # the SYN was the other one
    engine.cancel(flight)
    peer.close()
    server.close()
    engine.close()


async def test_a_server_sees_the_connection_of_a_tcp_probe() -> None:
    """Or nobody would notice one that does not accept any more: its queue would not fill."""
    loop = asyncio.get_running_loop()
    engine, landed = Engine(Timers(loop)), loop.create_future()
    server = socket.create_server(("127.0.0.1", 0))
    asked = tcp.ask("127.0.0.1", server.getsockname()[1])
    engine.start(asked, loop.time() + 60, landed.set_result)
    assert (await landed).outcome is Outcome.SUCCESS
    peer, _ = await asyncio.to_thread(server.accept)
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    peer.close()
    server.close()
    engine.close()


async def test_a_request_waits_for_the_end_of_a_slow_handshake() -> None:
    """Linux drops what wants to connect while the queue is full, and we ask again after a second."""
    loop = asyncio.get_running_loop()
    engine, landed = Engine(Timers(loop)), loop.create_future()
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    where = server.getsockname()
    first = socket.create_connection(where)
    asked = http.request(HttpGet(host="127.0.0.1", port=where[1]), "127.0.0.1")
    engine.start(http.ask(asked), loop.time() + 60, landed.set_result)
    await asyncio.sleep(0)
    server.accept()[0].close()
    peer, _ = await asyncio.to_thread(server.accept)
    assert peer.recv(4096) == asked.payload
    peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (await landed).outcome is Outcome.SUCCESS
    for sock in (first, peer, server):
        sock.close()
    engine.close()


@pytest.mark.looptime
async def test_one_timer_ends_each_flight_at_its_own_time() -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    engine = Engine(timers)
    server = socket.create_server(("127.0.0.1", 0))
    asked = http.request(HttpGet(host="127.0.0.1", port=server.getsockname()[1]), "127.0.0.1")
    begin, over = loop.time(), {}

    def land(limit: float, attempt: Attempt) -> None:
        assert "context deadline exceeded" in attempt.output
        over[limit] = round(loop.time() - begin, 6)

    for limit in (2, 0.5, 1, 3):
        engine.start(http.ask(asked), begin + limit, partial(land, limit))
    assert sum(timer.callback is not None for _, _, timer in timers._heap) == 1
    await asyncio.sleep(4)
    assert list(over.items()) == [(0.5, 0.5), (1, 1), (2, 2), (3, 3)]
    server.close()
    engine.close()
