"""Bytes over a probe's socket: plain, or through TLS in memory BIOs (no transport, no protocol)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from minipod.kubelet.probe.response import BadResponse

if TYPE_CHECKING:
    import socket
    import ssl

_CHUNK = 16 * 1024


class Stream(Protocol):
    """What a request needs."""

    async def send(self, payload: bytes) -> None: ...

    async def recv(self) -> bytes:
        """Return the next bytes; b"" at the end."""


class PlainStream:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, payload: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, payload)

    async def recv(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._sock, _CHUNK)


class TlsStream:
    """TLS over a plain stream; the records pass through two memory BIOs."""

    def __init__(
        self,
        plain: PlainStream,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        self._plain = plain
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing

    async def handshake(self) -> None:
        import ssl  # loaded by the first HTTPS probe only: 10 ms, 4 MB

        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            except ssl.SSLError as error:
                raise BadResponse(f"remote error: tls: {error.reason or error}") from error
            else:
                break
        await self._flush()

    async def send(self, payload: bytes) -> None:
        self._tls.write(payload)
        await self._flush()

    async def recv(self) -> bytes:
        import ssl

        while True:
            try:
                return self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._exchange()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise BadResponse(f"tls: {error.reason or error}") from error

    async def _exchange(self) -> None:
        await self._flush()
        received = await self._plain.recv()
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if pending := self._outgoing.read():
            await self._plain.send(pending)


async def open_tls(sock: socket.socket, server_name: str) -> TlsStream:
    """Shake hands without verifying anything."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    stream = TlsStream(PlainStream(sock), tls, incoming, outgoing)
    await stream.handshake()
    return stream
