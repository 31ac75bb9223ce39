"""A CRI client of a few lines: gRPC by grpclib, protobuf by hand for the fields that the rows need.

`call` waits for the answer; `ask` is its coroutine, and `together` runs many of those at once over the one connection.

Field numbers: k8s.io/cri-api pkg/apis/runtime/v1/api.proto.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

# A message is {field number: value}; a value is an int, a str, bytes, another message, or a list of them.
Message = dict[int, Any]

Given = TypeVar("Given")
RUNTIME = "/runtime.v1.RuntimeService/"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(message: Message) -> bytes:
    """Return protobuf's wire format."""
    out = bytearray()
    for number, value in message.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                out += varint(number << 3) + varint(one)
                continue
            content = encode(one) if isinstance(one, dict) else one.encode()
            out += varint(number << 3 | 2) + varint(len(content)) + content
    return bytes(out)


def first_string(data: bytes) -> str:
    """Return field 1 of an answer that has an id there, "" for an empty answer."""
    return data[2 : 2 + data[1]].decode() if data[:1] == b"\x0a" else ""


class Raw:
    """grpclib's codec, for messages that are bytes already."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, _type: object) -> bytes:
        return message

    def decode(self, data: bytes, _type: object) -> bytes:
        return data


class Cri:
    """One connection, in a loop of its own."""

    def __init__(self, socket: str) -> None:
        from grpclib.client import Channel, UnaryUnaryMethod  # a tool of scripts/setup --dev

        self._loop = asyncio.new_event_loop()
        self._method = UnaryUnaryMethod
        self._channel = self._loop.run_until_complete(self._open(Channel, socket))

    async def _open(self, channel: Any, socket: str) -> Any:
        return channel(path=socket, codec=Raw())

    def call(self, verb: str, message: Message) -> str:
        """Call; return the id in the answer. Raises grpclib.GRPCError."""
        return self._loop.run_until_complete(self.ask(verb, message))

    async def ask(self, verb: str, message: Message) -> str:
        """`call`, for who asks for more than one thing at once."""
        method = self._method(self._channel, RUNTIME + verb, bytes, bytes)
        return first_string(await method(encode(message)))

    def together(self, asked: Iterable[Awaitable[Given]]) -> list[Given]:
        """Run coroutines of `ask` at once; return what they give."""

        async def gather() -> list[Given]:
            return await asyncio.gather(*asked)

        return self._loop.run_until_complete(gather())

    def close(self) -> None:
        self._channel.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


def sandbox_config(name: str, log_directory: str) -> Message:
    """Return a PodSandboxConfig."""
    return {1: {1: name, 2: f"uid-{name}", 3: "default"}, 2: name, 3: log_directory, 8: {}}


def container_config(image: str, command: list[str]) -> Message:
    """Return a ContainerConfig."""
    return {1: {1: "c"}, 2: {1: image}, 3: command, 11: "c.log", 15: {}}
