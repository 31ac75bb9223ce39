"""Streams on the wire: every sub-protocol, what is malformed, and clients that vanish at any point."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os

import aiohttp
import pytest

from minipod.cli import websocket
from minipod.streaming import spdy
from minipod.streaming.channels import by_name
from tests.node import eventually, sleeper

EXEC = "/api/v1/namespaces/default/pods/wire/exec"
ATTACH = "/api/v1/namespaces/default/pods/wire/attach"
FORWARD = "/api/v1/namespaces/default/pods/wire/portforward"
LOG = "/api/v1/namespaces/default/pods/wire/log"


@pytest.fixture(scope="module")
def wire(node):
    """A pod that echoes what it is told to, and listens."""
    script = "echo to stdout; echo to stderr >&2; exec nc -ll -p 7000 -e cat"
    node.pod("wire", {"name": "app", "command": ["sh", "-c", script]}, sleeper("other"))
    node.await_log("wire", "to stdout", "to stderr", container="app")
    eventually(lambda: ":7000" in node.exec("wire", "netstat", "-ltn", container="app"))
    yield node
    node.delete("wire")


@contextlib.asynccontextmanager
async def session(node):
    connector = aiohttp.UnixConnector(node.instance.api_socket)
    async with aiohttp.ClientSession("http://minipod", connector=connector) as made:
        yield made


def query(*command: str, **flags: str) -> list[tuple[str, str]]:
    asked = {"container": "app", "stdout": "true", "stderr": "true", **flags}
    return [("command", word) for word in command] + list(asked.items())


async def talk(node, protocols, messages, command, **flags):
    """Run a command over a WebSocket; return everything it was told."""
    async with session(node) as http, http.ws_connect(
        EXEC, protocols=protocols, params=query(*command, **flags)
    ) as socket:  # fmt: skip
        for message in messages:
            await (socket.send_str if isinstance(message, str) else socket.send_bytes)(message)
        return socket.protocol, [m.data async for m in socket]


def joined(messages, channel: int) -> bytes:
    return b"".join(m[1:] for m in messages if m[0] == channel)


@pytest.mark.parametrize("protocols", [["v5.channel.k8s.io"], ["v4.channel.k8s.io"]])
async def test_new_protocols_end_with_a_status(wire, protocols) -> None:
    chosen, told = await talk(wire, protocols, [], ["sh", "-c", "echo a; echo b >&2; exit 9"])
    assert [chosen] == protocols
    assert (joined(told, 1), joined(told, 2)) == (b"a\n", b"b\n")
    status = json.loads(joined(told, 3))
    assert (status["reason"], status["details"]["causes"][0]["message"]) == ("NonZeroExitCode", "9")


@pytest.mark.parametrize("protocols", [["channel.k8s.io"], []])
async def test_old_protocols_end_with_a_sentence_or_nothing(wire, protocols) -> None:
    _, told = await talk(wire, protocols, [], ["sh", "-c", "exit 9"])
    assert joined(told, 3) == b"command terminated with non-zero exit code: exit status 9"
    _, told = await talk(wire, protocols, [], ["true"])
    assert joined(told, 3) == b""


@pytest.mark.parametrize("protocol", ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"])
async def test_base64_channels_are_text(wire, protocol) -> None:
    line = base64.b64encode(b"hello\n").decode()
    script = "head -n1; exit 9"
    chosen, told = await talk(wire, [protocol], [f"0{line}"], ["sh", "-c", script], stdin="true")
    assert (chosen, f"1{line}" in told) == (protocol, True)
    ending = base64.b64decode("".join(m[1:] for m in told if m[0] == "3"))
    sentence = "command terminated with non-zero exit code: exit status 9"
    assert (json.loads(ending)["message"] if "v4" in protocol else ending.decode()) == sentence


async def test_stdin_ends_by_channel_255_and_odd_messages_are_passed_over(wire) -> None:
    odd = [b"", b"\x63nobody", b"\xff\x09", b"\x04not json", b'\x04{"Width":-1,"Height":1}']
    _, told = await talk(
        wire, ["v5.channel.k8s.io"], [*odd, b"\x00in", b"\xff\x00"], ["cat"], stdin="true"
    )
    assert joined(told, 1) == b"in"
    assert json.loads(joined(told, 3))["status"] == "Success"


async def test_what_is_not_base64_ends_the_command(wire) -> None:
    _, told = await talk(wire, ["base64.channel.k8s.io"], ["0%%%"], ["cat"], stdin="true")
    assert told == ["1"] or "exit status 137" in base64.b64decode(told[-1][1:]).decode()


async def test_a_command_that_is_not_there_is_told_on_the_error_channel(wire) -> None:
    _, told = await talk(wire, ["v5.channel.k8s.io"], [], ["nosuch"])
    assert "nosuch" in json.loads(joined(told, 3))["message"]


@pytest.mark.parametrize(
    ("path", "params", "headers", "code", "words"),
    [
        pytest.param(EXEC, query("true"), {}, 400, "Upgrade request required", id="no upgrade"),
        pytest.param(EXEC, query(), {}, 400, "at least one command", id="no command"),
        pytest.param(
            EXEC, [("command", "true")], {}, 400, "at least 1 of stdin, stdout", id="no stream"
        ),
        pytest.param(
            EXEC, query("true", container="x"), {}, 400, "container x is not valid", id="container"
        ),
        pytest.param(
            EXEC, query("true", container=""), {}, 400, "choose one of: [app other]", id="ambiguous"
        ),
        pytest.param(
            EXEC, query("true"), {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}, 400,
            "X-Stream-Protocol-Version is required", id="spdy without a protocol",
        ),
        pytest.param(
            EXEC, query("true"),
            {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v9"},
            403, "unable to negotiate protocol", id="spdy of tomorrow",
        ),
        pytest.param(
            EXEC, query("true"),
            {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Protocol": "v9",
             "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="},
            403, "requested protocol(s) are not supported", id="websocket of tomorrow",
        ),
        pytest.param(
            FORWARD, [("ports", "80,x")],
            {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Protocol": "v4.channel.k8s.io"},
            400, 'unable to parse "x" as a port', id="no port",
        ),
        pytest.param(
            FORWARD, [],
            {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Protocol": "v4.channel.k8s.io"},
            400, "is required", id="no ports",
        ),
        pytest.param(LOG, [("container", "app"), ("tailLines", "-1")], {}, 422, "tailLines", id="tail"),
    ],
)  # fmt: skip
async def test_bad_requests_are_told_before_the_upgrade(
    wire, path, params, headers, code, words
) -> None:
    async with session(wire) as http, http.get(path, params=params, headers=headers) as answer:
        assert (answer.status, words in (await answer.json())["message"]) == (code, True)


@pytest.mark.parametrize("protocols", [[], ["binary.k8s.io"], ["base64.binary.k8s.io"]])
async def test_a_log_comes_over_a_websocket(wire, protocols) -> None:
    async with session(wire) as http, http.ws_connect(
        LOG, protocols=protocols, params={"container": "app", "stream": "Stdout"}
    ) as socket:  # fmt: skip
        told = [m.data async for m in socket]
    raw = [base64.b64decode(m) for m in told] if "base64" in "".join(protocols) else told
    assert b"".join(raw) == b"to stdout\n"


# -- SPDY, by hand


class Spdy:
    """A client on the unix socket."""

    def __init__(self, reader, writer) -> None:
        self.reader, self.writer = reader, writer
        self.connection = spdy.Connection(client=True)

    async def send(self) -> None:
        self.writer.write(self.connection.take())
        await self.writer.drain()

    async def events(self):
        while data := await self.reader.read(1 << 16):
            for event in self.connection.receive(data):
                yield event


@contextlib.asynccontextmanager
async def spdy_client(node, target: str, protocol: str):
    reader, writer = await asyncio.open_unix_connection(node.instance.api_socket)
    head = (
        f"POST {target} HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        f"X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
    )
    writer.write(head.encode())
    try:
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield Spdy(reader, writer)
    finally:
        writer.close()


async def test_a_half_close_travels_through_a_forwarded_connection(wire) -> None:
    async with spdy_client(wire, FORWARD, "portforward.k8s.io") as client:
        for kind in ("error", "data"):
            headers = {"streamtype": kind, "port": "7000", "requestid": "0"}
            stream = client.connection.open(headers)
        client.connection.send(stream, b"echo this", fin=True)
        await client.send()
        heard = b""
        async for event in client.events():
            if isinstance(event, spdy.Data):
                assert event.stream == stream, event.payload
                heard += event.payload
            if isinstance(event, spdy.Finished) and event.stream == stream:
                break
        assert heard == b"echo this"


@pytest.mark.parametrize(
    "port", ["0", "65536", "http", "-1"], ids=["zero", "too high", "a word", "negative"]
)
async def test_what_is_no_port_is_told_on_the_error_stream(wire, port: str) -> None:
    async with spdy_client(wire, FORWARD, "portforward.k8s.io") as client:
        for kind in ("error", "data"):
            client.connection.open({"streamtype": kind, "port": port, "requestid": "0"})
        await client.send()
        async for event in client.events():
            if isinstance(event, spdy.Data):
                assert event.payload == f'unable to parse "{port}" as a port'.encode()
                return
    pytest.fail("nothing was told")


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
async def test_ports_are_forwarded_over_numbered_channels(wire, protocol: str) -> None:
    """Two ports in one query: one that echoes, one where nobody listens."""
    own = by_name(protocol)
    async with session(wire) as http, http.ws_connect(
        FORWARD, protocols=[protocol], params={"ports": "7000,9"}
    ) as socket:  # fmt: skip
        sent = own.encode(0, b"echo this")
        await (socket.send_str if isinstance(sent, str) else socket.send_bytes)(sent)
        heard = dict.fromkeys(range(4), b"")
        while not (heard[0].endswith(b"this") and b"refused" in heard[3]):
            channel, payload = own.decode((await socket.receive()).data)
            heard[channel] += payload
    assert heard[0] == (7000).to_bytes(2, "little") + b"echo this"
    assert heard[1] == (7000).to_bytes(2, "little")
    assert heard[2] == (9).to_bytes(2, "little")


def traces(node) -> tuple[int, int, int]:
    """Return how many descriptors the daemon and the log pump have, and how many processes the container."""
    status = node.status()
    daemon, pump = (len(os.listdir(f"/proc/{status[k]}/fd")) for k in ("pid", "pump_pid"))
    return daemon, pump, len(node.exec("wire", "ps", container="app").splitlines())


def settled(node) -> tuple[int, int, int]:
    """Return the traces when they are the same three times: what was there before is on its way out."""
    seen = [traces(node)]

    def still() -> bool:
        seen.append(traces(node))
        return len(set(seen[-3:])) == 1 and len(seen) > 2

    eventually(still)
    return seen[-1]


def spoken_in_spdy(*kinds: str) -> bytes:
    """Return what a client says that opens a stream of each of *kinds* and sends something on the second."""
    say = spdy.Connection(client=True)
    opened = [say.open({"streamtype": k, "port": "7000", "requestid": "1"}) for k in kinds]
    say.send(opened[1], b"input for nobody")
    return say.take()


def in_frames(*messages: bytes) -> bytes:
    return b"".join(websocket.frame(websocket.BINARY, m) for m in messages)


WEBSOCKET = (
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: "
)
SPDY = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: "
FLAGS = "container=app&stdin=true&stdout=true&stderr=true&command=cat"
SESSION = ("error", "stdin", "stdout", "stderr")


@pytest.mark.parametrize(
    ("target", "upgrade", "said"),
    [
        pytest.param(f"{EXEC}?{FLAGS}", f"{SPDY}v4.channel.k8s.io", spoken_in_spdy(*SESSION), id="exec over SPDY"),
        pytest.param(f"{ATTACH}?{FLAGS}", f"{SPDY}v4.channel.k8s.io", spoken_in_spdy(*SESSION), id="attach over SPDY"),
        pytest.param(
            f"{EXEC}?{FLAGS}", f"{WEBSOCKET}v5.channel.k8s.io", in_frames(b"\x00input", b"\x04{}", b"\xff\x00"),
            id="exec over a WebSocket",
        ),
        pytest.param(
            f"{ATTACH}?{FLAGS}", f"{WEBSOCKET}v5.channel.k8s.io", in_frames(b"\x00input", b"\xff\x00"),
            id="attach over a WebSocket",
        ),
        pytest.param(FORWARD, f"{SPDY}portforward.k8s.io", spoken_in_spdy("error", "data"), id="port-forward"),
        pytest.param(
            FORWARD, f"{WEBSOCKET}SPDY/3.1+portforward.k8s.io", in_frames(spoken_in_spdy("error", "data")),
            id="port-forward in messages",
        ),
        pytest.param(
            f"{FORWARD}?ports=7000,9", f"{WEBSOCKET}v4.channel.k8s.io", in_frames(b"\x00input", b"\x02input"),
            id="port-forward by number",
        ),
        pytest.param(f"{LOG}?container=app&follow=true", f"{WEBSOCKET}binary.k8s.io", in_frames(b""), id="log"),
    ],
)  # fmt: skip
async def test_clients_that_vanish_at_any_byte_leave_nothing(wire, target, upgrade, said) -> None:
    """Cut after ever more bytes, of the request, too; some wait for the answer, some do not."""
    before = settled(wire)
    head = f"GET {target} HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\n{upgrade}\r\n\r\n"

    async def vanish(sent: bytes, *, wait: bool) -> None:
        reader, writer = await asyncio.open_unix_connection(wire.instance.api_socket)
        writer.write(head.encode() if wait else sent)
        if wait:
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(sent)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.transport.abort()

    step = max(1, len(said) // 15)
    waiting = [vanish(said[:size], wait=True) for size in range(0, len(said) + 1, step)]
    sizes = (20, len(head) - 1, len(head), len(head) + len(said) // 2, len(head) + len(said))
    hasty = [vanish((head.encode() + said)[:size], wait=False) for size in sizes]
    await asyncio.gather(*waiting, *hasty)
    # Clients that vanished: nobody is told.
    eventually(lambda: all(a <= b for a, b in zip(traces(wire), before, strict=True)))
