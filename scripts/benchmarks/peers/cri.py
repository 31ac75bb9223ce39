"""A CRI client of a few lines: gRPC by grpclib, protobuf by hand for the fields that the rows need.

`call` waits for the answer; `ask` is its coroutine, and `together` runs many of those at once over the one connection.

Field numbers: k8s.io/cri-api pkg/apis/runtime/v1/api.proto.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from benchmarks.bench import EXITS_ON_TERM, IMAGE, ms

# A message is {field number: value}; a value is an int, a str, bytes, another message, or a list of them.
Message = dict[int, Any]

Given = TypeVar("Given")
RUN = "a pod: RunPodSandbox, CreateContainer, StartContainer"
EXEC = "ExecSync of /bin/true"
CYCLE = "a container of /bin/true: create, start, stop, remove"
STOP = "a pod's end: StopContainer, StopPodSandbox, RemovePodSandbox"
TRIES = 1000
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


# NamespaceOption: network, pid, ipc. A kubelet says that each container has a pid namespace of its own; the default is the pod's.
NAMESPACES: Message = {1: 0, 2: 1, 3: 0}


def sandbox_config(name: str, log_directory: str) -> Message:
    """Return a PodSandboxConfig."""
    metadata = {1: name, 2: f"uid-{name}", 3: "default"}
    return {1: metadata, 2: name, 3: log_directory, 8: {2: {1: NAMESPACES}}}


def container_config(image: str, command: list[str], name: str = "c") -> Message:
    """Return a ContainerConfig."""
    return {1: {1: name}, 2: {1: image}, 3: command, 11: f"{name}.log", 15: {2: {3: NAMESPACES}}}


class Engine:
    """Whoever answers at a CRI socket: pods of one busybox, over one connection."""

    def __init__(self, socket: str, logs: str) -> None:
        self.socket = socket
        self.logs = logs
        self._names = (f"p{n}" for n in itertools.count())
        self._sandboxes: set[str] = set()

    def connect(self) -> None:
        """Connect; return when it answers. Raises OSError, grpclib.GRPCError."""
        self.cri = Cri(self.socket)
        try:
            self.cri.call("Version", {})
        except BaseException:
            self.cri.close()
            raise

    def sandbox(self) -> tuple[str, Message]:
        name = next(self._names)
        config = sandbox_config(name, f"{self.logs}/{name}")
        made = self.cri.call("RunPodSandbox", {1: config})
        self._sandboxes.add(made)
        return made, config

    def container(self, sandbox: tuple[str, Message], command: list[str], name: str = "c") -> str:
        config = container_config(IMAGE, command, name)
        return self.cri.call("CreateContainer", {1: sandbox[0], 2: config, 3: sandbox[1]})

    def pod(self, command: list[str] = EXITS_ON_TERM) -> tuple[str, str]:
        """Make a pod whose container has executed its command; return both ids."""
        made = self.sandbox()
        container = self.container(made, command)
        self.cri.call("StartContainer", {1: container})
        return made[0], container

    async def burst_pod(self, command: list[str] = EXITS_ON_TERM) -> tuple[float, str]:
        """`pod`, one of many at once: return when its container had executed its command, and the sandbox."""
        name = next(self._names)
        config = sandbox_config(name, f"{self.logs}/{name}")
        sandbox = await self.cri.ask("RunPodSandbox", {1: config})
        self._sandboxes.add(sandbox)
        request = {1: sandbox, 2: container_config(IMAGE, command), 3: config}
        container = await self.cri.ask("CreateContainer", request)
        await self.cri.ask("StartContainer", {1: container})
        return time.perf_counter(), sandbox

    async def burst_remove(self, sandbox: str) -> None:
        """`remove`, one of many at once."""
        await self.cri.ask("StopPodSandbox", {1: sandbox})
        await self.cri.ask("RemovePodSandbox", {1: sandbox})
        self._sandboxes.discard(sandbox)

    def exec(self, container: str) -> None:
        self.cri.call("ExecSync", {1: container, 2: ["/bin/true"], 3: 10})

    def cycle(self, sandbox: tuple[str, Message]) -> None:
        """One container from its creation to its removal, in a sandbox that is there."""
        from grpclib import GRPCError  # a tool of scripts/setup --dev

        container = self.container(sandbox, ["/bin/true"], "true")
        self.cri.call("StartContainer", {1: container})
        with contextlib.suppress(GRPCError):  # containerd's "ttrpc: closed": it has ended
            self.cri.call("StopContainer", {1: container, 2: 10})  # returns when it has ended
        for left in reversed(range(TRIES)):
            try:
                self.cri.call("RemoveContainer", {1: container})
            except GRPCError:  # containerd, after that: it does not know of the end yet
                if not left:
                    raise
                time.sleep(0.001)
            else:
                break

    def verbs(self) -> dict[str, float]:
        """Return the milliseconds of what a kubelet asks for in a pod's life (the figures of `rows/cri.py`)."""
        begin = time.perf_counter()
        made = self.sandbox()
        container = self.container(made, EXITS_ON_TERM)
        self.cri.call("StartContainer", {1: container})
        figures = {
            RUN: (time.perf_counter() - begin) * 1e3,
            EXEC: ms(lambda: self.exec(container)),
            CYCLE: ms(lambda: self.cycle(made)),
        }
        time.sleep(0.05)  # until its process handles SIGTERM
        return {**figures, STOP: ms(lambda: self.delete(made[0], container))}

    def delete(self, sandbox: str, container: str) -> None:
        self.cri.call("StopContainer", {1: container, 2: 30})
        self.remove(sandbox)

    def remove(self, sandbox: str) -> None:
        self.cri.call("StopPodSandbox", {1: sandbox})
        self.cri.call("RemovePodSandbox", {1: sandbox})
        self._sandboxes.discard(sandbox)

    def remove_all(self) -> None:
        """Remove what a row that failed has left."""
        for sandbox in list(self._sandboxes):
            with contextlib.suppress(Exception):  # a client that was interrupted may be of no use
                self.remove(sandbox)
