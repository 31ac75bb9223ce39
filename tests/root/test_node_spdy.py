"""exec, attach and port-forward over SPDY/3.1 in each version of their protocol, one by one.

v4.channel.k8s.io   the error stream has a Status, always; resize
v3.channel.k8s.io   the error stream has a sentence, or nothing; resize
v2.channel.k8s.io   the same without resize
channel.k8s.io      as v2 here; a kubelet resets its error stream before anything could be told on it (httpstream.go, v1ProtocolHandler)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from urllib.parse import urlencode

import pytest

from minipod.streaming import spdy
from tests.node import PATIENCE, eventually, shell, sleeper
from tests.root.test_node_streams import spdy_client

VERSIONS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
RESIZES = VERSIONS[:2]
PODS = "/api/v1/namespaces/default/pods"
SENTENCE = b"command terminated with non-zero exit code: exit status 9"


@pytest.fixture(scope="module")
def pod(node):
    node.pod("spdy", sleeper("app"))
    yield node
    node.delete("spdy")


def target(verb: str, pod: str, *command: str, **flags: str) -> str:
    """Flags are "1", as a kubelet's own clients write them."""
    return f"{PODS}/{pod}/{verb}?{urlencode([*(('command', w) for w in command), *flags.items()])}"


class Talk:
    """A client with its streams open; `heard` and `closed` by stream type."""

    def __init__(self, client, kinds) -> None:
        self.client = client
        self._events = client.events()  # one for all: what is left of a chunk is in it
        self.ids = {kind: client.connection.open({"streamtype": kind}) for kind in kinds}
        self.kinds = {stream: kind for kind, stream in self.ids.items()}
        self.heard = defaultdict(bytes)
        self.finished: set[str] = set()
        self.reset: dict[str, int] = {}

    async def say(self, kind: str, payload: bytes, *, fin: bool = False) -> None:
        self.client.connection.send(self.ids[kind], payload, fin=fin)
        await self.client.send()

    async def until(self, holds) -> None:
        """Hear what comes until *holds*. Fails when the server closes before."""
        async with asyncio.timeout(60 * PATIENCE):
            while not holds():
                event = await anext(self._events)
                kind = self.kinds.get(getattr(event, "stream", 0), "")
                if isinstance(event, spdy.Data):
                    self.heard[kind] += event.payload
                elif isinstance(event, spdy.Finished):
                    self.finished.add(kind)
                elif isinstance(event, spdy.Reset):
                    self.reset[kind] = event.status

    async def end(self) -> None:
        """Hear all: every stream that the server writes to is at its end."""
        await self.until(lambda: set(self.ids) - {"stdin", "resize"} <= self.finished)


@contextlib.asynccontextmanager
async def talk(node, path: str, protocol: str, *kinds: str):
    async with spdy_client(node, path, protocol) as client:
        made = Talk(client, ("error", *kinds))
        await client.send()
        yield made


@pytest.mark.parametrize("protocol", VERSIONS)
async def test_a_failing_command_is_told_in_the_versions_way(pod, protocol) -> None:
    script = "read x; echo $x; cat; echo err >&2; exit 9"
    path = target("exec", "spdy", "sh", "-c", script, stdin="1", stdout="1", stderr="1")
    async with talk(pod, path, protocol, "stdin", "stdout", "stderr") as heard:
        await heard.say("stdin", b"in\nand ")
        await heard.say("stdin", b"out\n", fin=True)
        await heard.end()
    assert (heard.heard["stdout"], heard.heard["stderr"]) == (b"in\nand out\n", b"err\n")
    if protocol == "v4.channel.k8s.io":
        status = json.loads(heard.heard["error"])
        assert status["reason"] == "NonZeroExitCode"
        assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "9"}]
        assert status["message"] == SENTENCE.decode()
    else:
        assert heard.heard["error"] == SENTENCE


@pytest.mark.parametrize("protocol", VERSIONS)
async def test_a_good_command_is_told_by_v4_alone(pod, protocol) -> None:
    async with talk(pod, target("exec", "spdy", "true", stdout="1"), protocol, "stdout") as heard:
        await heard.end()
    said = heard.heard["error"]
    assert (
        said == b"" if protocol != "v4.channel.k8s.io" else json.loads(said)["status"] == "Success"
    )


@pytest.mark.parametrize("protocol", VERSIONS)
async def test_a_command_that_is_not_there_is_told(pod, protocol) -> None:
    async with talk(pod, target("exec", "spdy", "nosuch", stdout="1"), protocol, "stdout") as heard:
        await heard.end()
    said = heard.heard["error"].decode()
    if protocol == "v4.channel.k8s.io":
        said = json.loads(said)["message"]
    assert said.startswith("Internal error occurred: error executing command in container: ")
    assert "nosuch" in said


@pytest.mark.parametrize("protocol", RESIZES)
async def test_a_terminal_is_resized(pod, protocol) -> None:
    """Before the first command, and while it runs."""
    path = target(
        "exec", "spdy", "sh", "-c", "read x; stty size; read x; stty size", stdin="1", stdout="1", tty="1"
    )  # fmt: skip
    async with talk(pod, path, protocol, "stdin", "stdout", "resize") as heard:
        for rows in (31, 32):
            await heard.say("resize", b'{"Width":99,"Height":%d}' % rows)
            await heard.say("stdin", b"\n")
            await heard.until(lambda: b"%d 99" % rows in heard.heard["stdout"])  # noqa: B023 awaited here
        await heard.end()


@pytest.mark.parametrize("protocol", VERSIONS[2:])
async def test_older_versions_have_a_terminal_but_no_resize(pod, protocol) -> None:
    """One who opens that stream all the same is refused it, and the command goes on."""
    path = target("exec", "spdy", "sh", "-c", "tty; read x", stdin="1", stdout="1", tty="1")
    async with talk(pod, path, protocol, "resize", "stdin", "stdout") as heard:
        await heard.until(lambda: b"/dev/pts/" in heard.heard["stdout"])
        await heard.say("stdin", b"\n")
        await heard.until(lambda: {"stdout", "error"} <= heard.finished)
    assert heard.reset == {"resize": spdy.Status.REFUSED_STREAM}


@pytest.mark.parametrize("protocol", VERSIONS)
async def test_an_attach_reads_writes_and_ends_in_every_version(node, protocol) -> None:
    """With the container, whose exit code is not told: an attach that saw its end is a success."""
    name = f"spdy-{protocol.partition('.')[0]}"
    reads = shell("while read x; do echo got $x; done; exit 4", stdin=True, stdinOnce=True)
    node.pod(name, reads, restartPolicy="Never")
    try:
        path = target("attach", name, stdin="1", stdout="1", stderr="1")
        async with talk(node, path, protocol, "stdin", "stdout", "stderr") as heard:
            await heard.say("stdin", b"one\n")
            await heard.until(lambda: heard.heard["stdout"] == b"got one\n")
            await heard.say("stdin", b"two\n", fin=True)
            await heard.end()
        assert heard.heard["stdout"] == b"got one\ngot two\n"
        said = heard.heard["error"]
        assert said == b"" if "v4" not in protocol else json.loads(said)["status"] == "Success"
        eventually(lambda: node.state(name).get("terminated", {}).get("exitCode") == 4)
    finally:
        node.delete(name)


async def answer(node, path: str, *lines: str) -> str:
    """Ask for an upgrade; return the head of the answer."""
    reader, writer = await asyncio.open_unix_connection(node.instance.api_socket)
    head = (f"POST {path} HTTP/1.1", "Host: m", "Connection: Upgrade", "Upgrade: SPDY/3.1", *lines)
    writer.write("\r\n".join((*head, "Content-Length: 0", "", "")).encode())
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param(VERSIONS[::-1], VERSIONS[0], id="all"),
        pytest.param(VERSIONS[:0:-1], VERSIONS[1], id="up to v3"),
        pytest.param(VERSIONS[:1:-1], VERSIONS[2], id="up to v2"),
        pytest.param(("v9.channel.k8s.io", *VERSIONS[3:]), VERSIONS[3], id="tomorrow's, and the first"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("listed", [False, True], ids=["a header each", "one list"])
async def test_the_newest_of_what_is_offered_is_chosen(pod, offered, chosen, listed) -> None:
    path = target("exec", "spdy", "true", stdout="1")
    values = [", ".join(offered)] if listed else offered
    said = await answer(pod, path, *(f"X-Stream-Protocol-Version: {v}" for v in values))
    assert said.startswith("HTTP/1.1 101 ")
    assert f"X-Stream-Protocol-Version: {chosen}\r\n" in said


@pytest.mark.parametrize("protocol", VERSIONS)
async def test_port_forward_has_one_version_of_its_own(pod, protocol) -> None:
    """Those of exec are not among it; offered beside it they do no harm."""
    path = f"{PODS}/spdy/portforward"
    said = await answer(pod, path, f"X-Stream-Protocol-Version: {protocol}")
    assert said.startswith("HTTP/1.1 403 ")
    said = await answer(pod, path, f"X-Stream-Protocol-Version: {protocol}, portforward.k8s.io")
    assert "X-Stream-Protocol-Version: portforward.k8s.io\r\n" in said
