"""grpc probes against a real grpclib server, and HPACK against the hpack library. Excluded: a server in a pod (tests/root)."""

import asyncio
import socket
from contextlib import asynccontextmanager

import hpack
import pytest
from grpclib.const import Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.health.check import ServiceStatus
from grpclib.health.service import Health
from grpclib.server import Server
from hypothesis import given
from hypothesis import strategies as st

from minipod.kubelet.probe import grpc
from minipod.kubelet.probe.flight import drive
from minipod.kubelet.probe.hpack import BadHeaders, decode, huffman, literal
from minipod.kubelet.probe.targets import Attempt
from minipod.kubelet.rules.probe import Outcome

CHECK = "/grpc.health.v1.Health/Check"


class Checked:
    """Something that has a name of a service in grpclib's terms."""

    def __mapping__(self):
        return {"/shop.Cart/Get": None}


class Refusing:
    """Answers Check with one error."""

    def __init__(self, status: Status, message: str) -> None:
        self.error = GRPCError(status, message)

    def __mapping__(self):
        from grpclib.const import Cardinality
        from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

        async def check(stream):
            raise self.error

        return {
            CHECK: Handler(check, Cardinality.UNARY_UNARY, HealthCheckRequest, HealthCheckResponse)
        }


@asynccontextmanager
async def serving(*handlers, codec: CodecBase | None = None):
    server = Server(list(handlers), codec=codec)
    await server.start("127.0.0.1", 0)
    try:
        yield server._server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def ask(port: int, service: str = "", time_limit: float = 30) -> Attempt:
    payload = grpc.request_bytes("127.0.0.1", port, service, time_limit)
    return await drive(grpc.ask("127.0.0.1", port, payload, time_limit), time_limit)


@pytest.mark.parametrize(
    ("healthy", "outcome", "output"),
    [
        (True, "success", "service healthy"),
        (False, "failure", 'service unhealthy (responded with "NOT_SERVING")'),
        (None, "failure", 'service unhealthy (responded with "UNKNOWN")'),
    ],
    ids=["serving", "not-serving", "unknown"],
)
@pytest.mark.parametrize("service", ["", "shop.Cart"])
async def test_health(healthy, outcome, output, service):
    checked, status = Checked(), ServiceStatus()
    status.set(healthy)
    async with serving(Health({checked: [status]})) as port:
        attempt = await ask(port, service)
    assert (attempt.outcome, attempt.output) == (Outcome(outcome), output)


async def test_a_service_that_the_server_does_not_know():
    async with serving(Health()) as port:
        attempt = await ask(port, "nosuch." * 40)
    assert attempt.outcome is Outcome.FAILURE
    assert attempt.output.startswith(
        "error: health rpc probe failed: rpc error: code = NotFound desc = "
    )


@pytest.mark.parametrize(
    ("status", "message", "output"),
    [
        pytest.param(
            Status.UNIMPLEMENTED,
            "no such thing",
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no such thing",
            id="unimplemented",
        ),
        pytest.param(
            Status.UNAVAILABLE,
            "down: 100 % später",
            "error: health rpc probe failed: rpc error: code = Unavailable desc = down: 100 % später",
            id="percent-encoded",
        ),
    ],
)
async def test_the_servers_error(status, message, output):
    async with serving(Refusing(status, message)) as port:
        attempt = await ask(port)
    assert (attempt.outcome, attempt.output) == (Outcome.FAILURE, output)


@asynccontextmanager
async def answering(*frames: bytes, end: bool = False):
    """A server that sends *frames* and is silent, or closes."""

    async def handle(reader, writer):
        await reader.read(1024)  # all of the request: what is unread at the end makes a reset
        writer.write(b"".join(frames))
        await writer.drain()
        if not end:
            while await reader.read(1024):
                pass
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


SETTINGS = grpc.frame(4, 0, 0)


@pytest.mark.parametrize(
    ("frames", "output"),
    [
        pytest.param(
            (),
            'timeout: failed to connect service "{0}" within 0.5s: context deadline exceeded',
            id="connect",
        ),
        pytest.param((SETTINGS,), "timeout: health rpc did not complete within 0.5s", id="rpc"),
    ],
)
async def test_silence(frames, output):
    async with answering(*frames) as port:
        attempt = await ask(port, time_limit=0.5)
    assert attempt.output == output.format(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("frames", "output"),
    [
        pytest.param((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "error reading server preface", id="http1"),
        pytest.param((SETTINGS, grpc.frame(7, 0, 0, bytes(8))), "the connection is draining", id="goaway"),
        pytest.param(
            (SETTINGS, grpc.frame(3, 0, 1, bytes((0, 0, 0, 7)))), "RST_STREAM with error code: 7", id="reset"
        ),
        pytest.param((SETTINGS + bytes(3),), "EOF", id="closed"),
        pytest.param((SETTINGS, grpc.frame(1, 4 | 1, 1, b"\xff")), "header block ends too early", id="headers"),
        pytest.param((SETTINGS, grpc.frame(1, 4 | 1, 1, b"\x88")), "without sending trailers", id="no-status"),
        pytest.param((SETTINGS, grpc.frame(1, 4 | 1, 1, b"\x8e")), "HTTP status code received from server: 500", id="500"),
    ],
)  # fmt: skip
async def test_what_is_no_answer(frames, output):
    async with answering(*frames, end=True) as port:
        attempt = await ask(port)
    assert attempt.outcome is Outcome.FAILURE
    assert output in attempt.output


async def test_a_refused_port():
    with socket.socket() as held:  # nobody else gets the port, and nobody listens
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        attempt = await ask(port)
    where = f"127.0.0.1:{port}"
    why = f"dial tcp {where}: connect: connection refused"
    assert attempt.output == f'error: failed to connect service at "{where}": {why}'


async def test_a_block_in_pieces_with_padding_and_priority():
    block = literal("grpc-status", "5") + literal("grpc-message", "no%20way")
    pieces = (
        grpc.frame(1, 1 | 8 | 32, 1, b"\x02" + bytes(5) + block[:4] + b"\0\0"),
        grpc.frame(9, 4, 1, block[4:]),
    )
    async with answering(SETTINGS, *pieces) as port:
        attempt = await ask(port)
    assert attempt.output.endswith("code = NotFound desc = no way")


@given(st.binary(max_size=40))
def test_huffman_is_that_of_the_library(raw):
    from hpack.huffman import HuffmanEncoder
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

    assert huffman(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(raw)) == raw


names = st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True).map("x-".__add__)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)


@given(st.dictionaries(names, values, max_size=6), st.booleans())
def test_headers_of_the_library_are_read_and_ours_are_read_by_it(headers, coded):
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    block = encoder.encode([(":status", "200"), *headers.items()], huffman=coded)
    assert decode(block) == {":status": "200", **headers}
    ours = b"".join(literal(name, value) for name, value in headers.items())
    assert hpack.Decoder().decode(ours) == list(headers.items())


@given(st.binary(max_size=60))
def test_any_bytes_are_headers_or_an_error(block):
    try:
        decode(block)
    except BadHeaders:
        return
