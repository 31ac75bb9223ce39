"""The prober for real on localhost sockets: handlers, worker, protocol. Excluded: exec through a
supervisor."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager

import pytest

from minipod.errors import DeadlineExceeded, Unavailable
from minipod.kubelet.probe import exec as exec_probe
from minipod.kubelet.probe import http, tcp
from minipod.kubelet.probe.manager import ProbeManager
from minipod.kubelet.probe.prober import Prober
from minipod.kubelet.probe.targets import Command, Exec, Handler, HttpGet, Target, TcpSocket
from minipod.kubelet.rules.probe import Outcome, ProbeKind, ProbeResult, Thresholds


@asynccontextmanager
async def serving(answer: bytes, seen: list[bytes] | None = None, context=None):
    """A server that answers every request head with *answer*; yields its port."""

    handling: set[asyncio.Task] = set()

    async def handle(reader, writer):
        handling.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            if seen is not None:
                seen.append(head)
            writer.write(answer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):  # the probe resets
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*handling)


def get(port: int, **fields) -> HttpGet:
    return HttpGet(host="127.0.0.1", port=port, **fields)


@pytest.mark.parametrize(
    ("answer", "outcome", "output"),
    [
        pytest.param(b"200 OK\r\nContent-Length: 2\r\n\r\nok", "success", "ok", id="ok"),
        pytest.param(b"200 OK\r\n\r\nto the end", "success", "to the end", id="no-length"),
        pytest.param(
            b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "success",
            "ok",
            id="chunked",
        ),
        pytest.param(b"299 X\r\nContent-Length: 0\r\n\r\n", "success", "", id="299"),
        pytest.param(
            b"399 X\r\nContent-Length: 2\r\n\r\nhm",
            "warning",
            "Probe terminated redirects, Response body: hm",
            id="399",
        ),
        pytest.param(
            b"302 X\r\nContent-Length: 0\r\n\r\n", "warning", "Probe term", id="no-location"
        ),
        pytest.param(
            b"400 X\r\n\r\n", "failure", "HTTP probe failed with statuscode: 400", id="400"
        ),
        pytest.param(b"", "failure", "unexpected EOF", id="half-a-line"),
        pytest.param(
            b"500 X\r\nContent-Length: 0\r\n\r\n",
            "failure",
            "HTTP probe failed with statuscode: 500",
            id="500",
        ),
        pytest.param(
            b"302 X\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n",
            "warning",
            "Probe terminated redirects, Response body: ",
            id="redirect-elsewhere",
        ),
        pytest.param(
            b"200 OK\r\nContent-Length: 9\r\n\r\nshort", "failure", "unexpected EOF", id="cut"
        ),
        pytest.param(
            b"100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", "success", "", id="informational"
        ),
        pytest.param(
            b"200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20000, "success", "xxx", id="long"
        ),
    ],
)
async def test_http_get(answer, outcome, output):
    async with serving(b"HTTP/1.1 " + answer) as port:
        attempt = await http.probe(get(port), 30)
    assert attempt.outcome is Outcome(outcome)
    assert output in attempt.output
    assert len(attempt.output) <= 10 * 1024


async def test_http_request_has_the_kubelets_headers_and_the_given_ones():
    seen: list[bytes] = []
    headers = (("Host", "shop.example"), ("Accept", ""), ("X-Probe", "1"))
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", seen) as port:
        await http.probe(get(port, path="/healthz?full=1", headers=headers), 30)
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "GET /healthz?full=1 HTTP/1.1"
    assert set(lines[1:-2]) == {
        "Host: shop.example",
        "User-Agent: kube-probe/1.20",
        "X-Probe: 1",
        "Connection: close",
    }


async def test_a_redirect_on_the_same_host_is_followed():
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend"
    async with serving(final) as second:
        answer = f"HTTP/1.1 301 X\r\nLocation: http://127.0.0.1:{second}/\r\n\r\n".encode()
        async with serving(answer) as first:
            attempt = await http.probe(get(first), 30)
    assert (attempt.outcome, attempt.output) == (Outcome.SUCCESS, "end")


async def test_an_endless_redirect_stops_after_ten_requests():
    seen: list[bytes] = []
    async with serving(b"HTTP/1.1 302 X\r\nLocation: /\r\n\r\n", seen) as port:
        attempt = await http.probe(get(port), 30)
    assert attempt.output.endswith("stopped after 10 redirects")
    assert len(seen) == 10


async def test_silence_is_a_timeout_in_gos_words():
    async def silent(reader, writer):
        await reader.read()  # until the probe gives up
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        attempt = await http.probe(get(port), 0.05)
    assert attempt.outcome is Outcome.FAILURE
    assert attempt.output == (
        f'Get "http://127.0.0.1:{port}/": context deadline exceeded '
        "(Client.Timeout exceeded while awaiting headers)"
    )


async def test_a_closed_port_fails_in_gos_words():
    with socket.socket() as held:  # nobody else gets the port, and nobody listens
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        words = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        assert (
            await http.probe(get(port), 30)
        ).output == f'Get "http://127.0.0.1:{port}/": {words}'
        attempt = await tcp.probe(TcpSocket(host="127.0.0.1", port=port), 30)
    assert (attempt.outcome, attempt.output) == (Outcome.FAILURE, words)


async def test_tcp_socket_succeeds_on_an_open_port():
    async with serving(b"") as port:
        attempt = await tcp.probe(TcpSocket(host="127.0.0.1", port=port), 30)
    assert attempt.outcome is Outcome.SUCCESS


async def test_https_is_not_verified(tmp_path):
    key, cert = tmp_path / "key", tmp_path / "cert"
    subprocess.run(  # noqa: ASYNC221 - the loop is the test's own
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=x", "-days", "1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntls"
    async with serving(answer, context=context) as port:
        attempt = await http.probe(get(port, scheme="HTTPS"), 30)
    assert (attempt.outcome, attempt.output) == (Outcome.SUCCESS, "tls")


class Runner:
    """Answers exec probes from a list."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)

    async def exec_sync(self, container_id, command, timeout):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("answer", "outcome", "output"),
    [
        pytest.param((0, b"fine"), "success", "fine", id="zero"),
        pytest.param((3, b"bad"), "failure", "bad", id="nonzero"),
        pytest.param(DeadlineExceeded("x"), "failure", 'command "cat /x" timed out', id="timeout"),
    ],
)
async def test_exec(answer, outcome, output):
    attempt = await exec_probe.probe(Exec(command=("cat", "/x")), "c", Runner(answer), 1)
    assert (attempt.outcome, attempt.output) == (Outcome(outcome), output)


def target(**fields) -> Target:
    return Target(
        **{
            "pod_uid": "u",
            "container": "app",
            "kind": ProbeKind.READINESS,
            "handler": Handler(exec=Exec(command=("x",))),
            "container_id": "c1",
            "running": True,
            "started_at": asyncio.get_running_loop().time() + 1000,
            "period": 1000.0,
            **fields,
        }
    )


class Pair:
    """A prober and a manager, joined by a real socket."""

    def __init__(self, path: str, runner: Runner) -> None:
        # The containers are as old as the prober: no jitter, no initial delay.
        self.path = path
        self.prober = Prober(runner, clock=lambda: 1e12)
        self.changed: asyncio.Queue[str] = asyncio.Queue()
        self.attempts: list[str] = []

    def manager(self) -> ProbeManager:
        return ProbeManager(
            self.path,
            on_change=lambda report: self.changed.put_nowait(report.pod_uid),
            on_attempt=lambda report: self.attempts.append(report.output),
        )


@asynccontextmanager
async def tasks(*coros):
    running = [asyncio.ensure_future(c) for c in coros]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def result(pair: Pair, manager: ProbeManager, kind: str, wanted: ProbeResult) -> None:
    async with asyncio.timeout(30):
        while getattr(manager.results("u"), kind).get("c1") is not wanted:
            await pair.changed.get()


async def test_results_reach_the_daemon_and_survive_its_restart(tmp_path):
    pair = Pair(str(tmp_path / "p.sock"), Runner((0, b"")))
    async with tasks(pair.prober.serve(pair.path)):
        first = pair.manager()
        first.set_pod("u", [target(started_at=1e12)])
        async with tasks(first.run()):
            await result(pair, first, "readiness", ProbeResult.SUCCESS)
        second = pair.manager()
        second.set_pod("u", [target(started_at=1e12)])
        async with tasks(second.run()):
            await result(pair, second, "readiness", ProbeResult.SUCCESS)


async def test_liveness_fails_at_its_threshold_and_is_then_on_hold(tmp_path):
    pair = Pair(str(tmp_path / "p.sock"), Runner((1, b"sick")))
    manager = pair.manager()
    liveness = target(
        kind=ProbeKind.LIVENESS, started_at=1e12, period=0.0, thresholds=Thresholds(failure=3)
    )
    manager.set_pod("u", [liveness])
    async with tasks(pair.prober.serve(pair.path), manager.run()):
        await result(pair, manager, "liveness", ProbeResult.FAILURE)
        assert pair.attempts == ["sick"] * 3


async def test_readiness_waits_for_the_startup_probe_and_comes_right_after_it(tmp_path):
    pair = Pair(str(tmp_path / "p.sock"), Runner((1, b""), (1, b""), (0, b"")))
    manager = pair.manager()
    startup = target(
        kind=ProbeKind.STARTUP, started_at=1e12, period=0.0, thresholds=Thresholds(failure=9)
    )
    manager.set_pod("u", [startup, target(started_at=1e12, startup_gate=True)])
    async with tasks(pair.prober.serve(pair.path), manager.run()):
        await result(pair, manager, "startup", ProbeResult.SUCCESS)
        await result(pair, manager, "readiness", ProbeResult.SUCCESS)


async def test_a_prober_that_lost_its_state_starts_from_what_the_daemon_knows(tmp_path):
    path = str(tmp_path / "p.sock")
    pair = Pair(path, Runner((0, b"")))
    manager = pair.manager()
    manager.set_pod("u", [target(started_at=1e12)])
    async with tasks(manager.run()):
        async with tasks(pair.prober.serve(path)):
            await result(pair, manager, "readiness", ProbeResult.SUCCESS)
        fresh = Pair(path, Runner((1, b"")))
        async with tasks(fresh.prober.serve(path)):
            async with asyncio.timeout(30):
                while not fresh.prober._pods:  # noqa: ASYNC110 - a turn of the loop
                    await asyncio.sleep(0)
            assert manager.results("u").readiness["c1"] is ProbeResult.SUCCESS


async def test_what_failed_without_a_daemon_is_told_to_the_next_one(tmp_path):
    """The new daemon knows the pod's name only; the prober keeps its targets, counts on and tells what it missed."""
    pair = Pair(str(tmp_path / "p.sock"), Runner((1, b"sick")))
    async with tasks(pair.prober.serve(pair.path)):
        first = pair.manager()
        liveness = target(
            kind=ProbeKind.LIVENESS, started_at=1e12, period=0.05, thresholds=Thresholds(failure=6)
        )
        first.set_pod("u", [liveness])
        async with tasks(first.run()), asyncio.timeout(30):
            while not pair.attempts:  # noqa: ASYNC110 - a turn of the loop
                await asyncio.sleep(0)
        told = len(pair.attempts)
        (worker,) = pair.prober._pods["u"].values()
        async with asyncio.timeout(30):
            while not worker.state.on_hold:  # noqa: ASYNC110 - a turn of the loop
                await asyncio.sleep(0.01)
        assert len(pair.attempts) == told
        second = pair.manager()
        second.expect("u")
        async with tasks(second.run()):
            await result(pair, second, "liveness", ProbeResult.FAILURE)
            (look,) = await second.look("u")
            assert (look.what, look.waits_for) == (
                "exec [x]",
                "a new container, this one has failed",
            )
            assert 'result="failed"} 6' in await second.metrics()
        assert len(pair.attempts) == 6


async def test_a_pod_that_is_no_more_is_forgotten_at_the_next_sync(tmp_path):
    pair = Pair(str(tmp_path / "p.sock"), Runner((0, b"")))
    pair.prober.handle(Command(uids=("u", "v"), targets=(target(), target(pod_uid="v"))))
    pair.prober.handle(Command(sync=True, alive=("v",)))
    assert list(pair.prober._pods) == ["v"]
    pair.prober.handle(Command(uids=("v",)))
    assert not pair.prober._pods
    await pair.prober.close()


async def test_a_question_fails_when_the_prober_is_away(tmp_path):
    with pytest.raises(Unavailable, match="started again"):
        await Pair(str(tmp_path / "p.sock"), Runner((0, b""))).manager().metrics()


async def test_https_at_a_server_without_tls_says_so():
    async def plain(reader, writer):
        with contextlib.suppress(OSError):
            await reader.read(1024)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        attempt = await http.probe(get(server.sockets[0].getsockname()[1], scheme="HTTPS"), 30)
    assert attempt.output.endswith("http: server gave HTTP response to HTTPS client")


async def test_a_redirect_takes_a_given_host_along_only_when_it_is_relative():
    for place, host in (
        ("/there", "shop.example"),
        ("http://127.0.0.1:{port}/there", "127.0.0.1:"),
    ):
        seen: list[bytes] = []

        async def handle(reader, writer, place=place, seen=seen):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            port = writer.get_extra_info("sockname")[1]
            status = (
                b"200 OK"
                if b"GET /there" in seen[-1]
                else b"307 X\r\nLocation: " + place.format(port=port).encode()
            )
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            attempt = await http.probe(get(port, headers=(("Host", "shop.example"),)), 30)
        assert attempt.outcome is Outcome.SUCCESS
        assert f"Host: {host}".encode() in seen[1]
