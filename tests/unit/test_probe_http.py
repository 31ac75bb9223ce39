"""httpGet and tcpSocket probes for real on localhost sockets. Excluded: the worker and the protocol around them."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager

import pytest

from minipod.kubelet.probe import http, tcp
from minipod.kubelet.probe.targets import HttpGet, TcpSocket
from minipod.kubelet.rules.probe import Outcome


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
