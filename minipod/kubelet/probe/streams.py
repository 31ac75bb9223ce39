"""Bytes over a probe's socket through TLS, in memory BIOs. Awaited within a flight."""

from __future__ import annotations

import socket
from functools import cache
from typing import TYPE_CHECKING

from minipod.kubelet.probe import sockets
from minipod.kubelet.probe.response import BadResponse

if TYPE_CHECKING:
    import ssl

    from minipod.kubelet.probe.flight import Socket

_CHUNK = 16 * 1024


class TlsStream:
    """TLS over a socket; the records pass through two memory BIOs."""

    def __init__(self, sock: Socket, server_name: str) -> None:
        import ssl  # loaded by the first HTTPS probe only: 10 ms, 4 MB

        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context().wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_name or None
        )
        self._first = b""

    async def handshake(self) -> None:
        """Shake hands. Raises BadResponse when the peer does not speak TLS."""
        import ssl

        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            except ssl.SSLError as error:
                if self._first[:5] == b"HTTP/":
                    raise BadResponse("http: server gave HTTP response to HTTPS client") from error
                why = "EOF" if isinstance(error, ssl.SSLEOFError) else f"tls: {error.reason}"
                raise BadResponse(why) from error
            else:
                break
        await self._flush()

    async def send(self, payload: bytes) -> None:
        self._tls.write(payload)
        await self._flush()

    async def receive(self) -> bytes:
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
        received = await sockets.receive(self._sock, _CHUNK)
        self._first = self._first or received
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if pending := self._outgoing.read():
            await sockets.send(self._sock, pending)


@cache
def _context() -> ssl.SSLContext:
    """Nothing is verified, and old certificates will do: a probe asks whether somebody answers, not who."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


async def open_tls(sock: Socket, server_name: str) -> TlsStream:
    """Shake hands over *sock*. Raises BadResponse, ReadError, Deadline."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = TlsStream(sock, server_name)
    await stream.handshake()
    return stream
