"""minipod port-forward: ports of ours that lead into a pod, over one SPDY/3.1 connection."""

from __future__ import annotations

import contextlib
import os
import re
import socket as sockets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from minipod.cli import options
from minipod.errors import FailedPrecondition, Unavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from minipod.streaming import spdy

CHUNK = 64 << 10
LOOPBACKS = ("127.0.0.1", "::1")  # what "localhost" means; one of them will do


@click.command("port-forward")
@click.argument("pod", shell_complete=options.complete_names)
@click.argument("ports", nargs=-1, required=True, metavar="[LOCAL:]REMOTE...")
@options.namespace_option
@click.option(
    "--address",
    default="localhost",
    show_default=True,
    help="Where we listen; several with commas.",
)
@click.pass_context
def command(
    ctx: click.Context, pod: str, ports: tuple[str, ...], namespace: str, address: str
) -> None:
    """Forward local ports to a pod; ":80" takes any free local port. Ends with Ctrl-C or with the node."""
    import asyncio  # this verb stays; the others must start fast

    client = options.client(ctx)
    pairs = [parse(port) for port in ports]
    path = client.path("pods", namespace, options.pod_name(pod))
    client.request("GET", path)  # a pod that is not there is told before we listen
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            _serve(client.instance.api_socket, f"{path}/portforward", address.split(","), pairs)
        )


def parse(text: str) -> tuple[int, int]:
    """Return the local (0: any free one) and the remote port. Raises FailedPrecondition."""
    found = re.fullmatch(r"(?:(\d*):)?(\d+)", text)
    remote = int(found[2]) if found else 0
    local = remote if found is None or found[1] is None else int(found[1] or 0)
    if not 0 < remote < 1 << 16 or not 0 <= local < 1 << 16:
        raise FailedPrecondition(f"not a port: {text!r}", hint="8080, 8080:80 or :80")
    return local, remote


def listen(addresses: Sequence[str], port: int) -> list[sockets.socket]:
    """Return sockets that listen on *port* of all addresses; 0: a free one, the same for all. Raises FailedPrecondition."""
    made: list[sockets.socket] = []
    for address in addresses:
        wanted = LOOPBACKS if address == "localhost" else (address,)
        failed: list[OSError] = []
        for one in wanted:
            family = sockets.AF_INET6 if ":" in one else sockets.AF_INET
            try:
                made.append(sockets.create_server((one, port), family=family))
                port = made[-1].getsockname()[1]
            except OSError as e:
                failed.append(e)
        if len(failed) == len(wanted):
            number = failed[0].errno or 0
            of_a_name = number < 0  # getaddrinfo(3)'s; create_server adds words of its own to it
            said = (failed[0].strerror or "").partition(" (")[0]
            why = said if of_a_name else os.strerror(number)
            raise FailedPrecondition(
                f"can't listen on {address}:{port}: {why.lower()}",
                hint="" if of_a_name else "another local port: 8081:80, or :80 for any free one",
            ) from failed[0]
    return made


async def _serve(
    socket: str, path: str, addresses: Sequence[str], pairs: list[tuple[int, int]]
) -> None:
    import asyncio

    listening = [(sock, remote) for local, remote in pairs for sock in listen(addresses, local)]
    link = Link(*await _connect(socket, path))
    for sock, remote in listening:
        await asyncio.start_server(link.handler(remote), sock=sock)
        host, port = sock.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"Forwarding from {shown}:{port} -> {remote}")
    await link.run()
    raise Unavailable("lost connection to pod")


async def _connect(socket: str, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    import asyncio
    import json

    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError as e:
        raise Unavailable("the node is not running", hint="start it: minipod up") from e
    head = (
        f"POST {path} HTTP/1.1\r\nHost: minipod\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        "X-Stream-Protocol-Version: portforward.k8s.io\r\nContent-Length: 0\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in answer.split(b"\r\n", 1)[0]:
        length = re.search(rb"(?i)content-length: *(\d+)", answer)
        body = await reader.readexactly(int(length[1])) if length else b"{}"
        raise FailedPrecondition(json.loads(body).get("message", answer.decode()))
    return reader, writer


class Link:
    """The connection to the node: every accepted connection is a pair of streams in it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from minipod.streaming.spdy import Connection

        self._reader, self._writer = reader, writer
        self._connection = Connection(client=True)
        self._locals: dict[int, asyncio.StreamWriter] = {}  # by data stream
        self._errors: set[int] = set()  # error streams
        self._requests = 0

    def handler(
        self, remote: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        """Return what serves a connection to a local port."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            click.echo(f"Handling connection for {writer.get_extra_info('sockname')[1]}")
            data = self._open(remote, writer)
            with contextlib.suppress(OSError):
                while chunk := await reader.read(CHUNK):
                    self._connection.send(data, chunk)
                    await self._flush()
            with contextlib.suppress(OSError):  # the node has gone: `run` ends, too
                self._connection.send(data, b"", fin=True)
                await self._flush()

        return serve

    def _open(self, remote: int, writer: asyncio.StreamWriter) -> int:
        """Open the pair of streams of one connection; return the data stream."""
        headers = {"port": str(remote), "requestid": str(self._requests)}
        self._requests += 1
        error = self._connection.open({"streamtype": "error", **headers})
        self._connection.send(error, b"", fin=True)
        self._errors.add(error)
        data = self._connection.open({"streamtype": "data", **headers})
        self._locals[data] = writer
        return data

    async def _flush(self) -> None:
        self._writer.write(self._connection.take())
        await self._writer.drain()

    async def run(self) -> None:
        """Read until the node ends the connection."""
        while data := await self._reader.read(CHUNK):
            for event in self._connection.receive(data):
                await self._handle(event)
            await self._flush()

    async def _handle(self, event: spdy.Event) -> None:
        from minipod.streaming import spdy

        match event:
            case spdy.Data(stream, payload) if stream in self._errors:
                click.echo(f"error: {payload.decode(errors='replace')}", err=True)
            case spdy.Data(stream, payload) if stream in self._locals:
                await self._give(stream, payload)
            case spdy.Finished(stream) | spdy.Reset(stream):
                self._errors.discard(stream)
                writer = self._locals.pop(stream, None)
                if writer is not None:
                    self._ended(writer, stream, reset=isinstance(event, spdy.Reset))
            case _:
                pass

    async def _give(self, stream: int, payload: bytes) -> None:
        """Pass data on; a client that has gone gives the stream up, or the pod would talk to nobody for ever."""
        writer = self._locals[stream]
        writer.write(payload)
        try:
            await writer.drain()
        except OSError:
            self._connection.reset(stream)
            del self._locals[stream]
            writer.close()

    def _ended(self, writer: asyncio.StreamWriter, stream: int, *, reset: bool) -> None:
        """The pod sends no more: pass a half-close on, as long as our client still sends."""
        if reset or not self._connection.is_open(stream) or not writer.can_write_eof():
            writer.close()
        else:
            writer.write_eof()
