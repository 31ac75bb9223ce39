"""`minipod port-forward`'s connection to another streaming server: `python -m benchmarks.peers.forward URL` prints the local port.

SPDY/3.1 with portforward.k8s.io, to port 80 of the sandbox that the URL's token stands for.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

from minipod.cli.port_forward import Link


async def main(url: str) -> None:
    """Serve until the other side ends."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        "X-Stream-Protocol-Version: portforward.k8s.io\r\nContent-Length: 0\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in answer.split(b"\r\n", 1)[0]:
        sys.exit(answer.decode(errors="replace"))
    link = Link(reader, writer)
    listening = await asyncio.start_server(link.handler(80), "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await link.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
