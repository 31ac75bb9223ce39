"""Pushes to a real registry: what another tool then sees, what is not sent twice, credentials, failures."""

import os
import random

import pytest

from minipod.errors import ImageError, NotFound
from minipod.image.registry import http
from minipod.image.registry.progress import LayerProgress
from minipod.image.registry.pull import Puller
from minipod.image.registry.push import Pusher
from minipod.image.store import ImageStore
from minipod.spec.registry import AuthConfig
from tests.registry.proxy import Fault, FaultProxy
from tests.registry.server import PASSWORD, USER, Layout, Registry, skopeo
from tests.registry.tokens import Authority, TokenServer

ALICE = AuthConfig(username=USER, password=PASSWORD)
NOISE = random.Random(4).randbytes(3_000_000)  # noqa: S311 bytes that gzip can't shrink


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    layout = Layout(tmp_path_factory.mktemp("layout") / "images")
    layout.image("app", {"etc/base": b"base"}, {"noise": NOISE})
    made = Registry(tmp_path_factory.mktemp("registry")).start()
    made.fill(layout, "team/app:1", "app")
    made.fill(layout, "team/docker:1", "app", "--format=v2s2")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    made = Registry(tmp_path_factory.mktemp("target")).start()
    yield made
    made.stop()


@pytest.fixture
async def store(registry, tmp_path):
    """A store with an image of OCI and one of Docker's kind."""
    os.mkdir(tmp_path / "images")
    made = ImageStore(str(tmp_path / "images"))
    for name in ("app", "docker"):
        await Puller(made).pull(f"{registry.host}/team/{name}:1")
    return made


def raw(registry: Registry, name: str) -> str:
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/{name}")


@pytest.mark.parametrize("name", ["app", "docker"])
async def test_what_is_pushed_is_what_another_tool_pulls(registry, target, store, tmp_path, name):
    store.tag(f"{registry.host}/team/{name}:1", f"{target.host}/copy/{name}:2")
    digest = await Pusher(store).push(f"{target.host}/copy/{name}:2")
    assert raw(target, f"copy/{name}:2") == raw(registry, f"team/{name}:1")
    assert store.resolve(f"{target.host}/copy/{name}:2").manifest == digest
    skopeo(
        "copy", "--src-tls-verify=false", f"docker://{target.host}/copy/{name}:2",
        f"oci:{tmp_path}/out:x",
    )  # fmt: skip


async def test_what_the_registry_has_is_not_sent_again_or_mounted(registry, store):
    with FaultProxy(registry.port) as proxy:
        heard: list[LayerProgress] = []
        await Puller(store).pull(f"{proxy.host}/team/app:1")
        await Pusher(store).push(f"{proxy.host}/team/app:1", tell=heard.append)
        assert {n.state for n in heard} == {"Layer already exists"}
        heard.clear()
        store.tag(f"{proxy.host}/team/app:1", f"{proxy.host}/team/mounted:1")
        await Pusher(store).push(f"{proxy.host}/team/mounted:1", tell=heard.append)
        assert {n.state for n in heard} == {"Mounted"}
        assert not [s for s in proxy.seen if s.method == "PUT" and "/blobs/" in s.target]
    assert raw(registry, "team/mounted:1") == raw(registry, "team/app:1")


async def test_an_upload_that_fails_is_tried_again(registry, target, store, monkeypatch):
    monkeypatch.setattr(http, "FIRST_DELAY", 0.01)
    with FaultProxy(target.port) as proxy:
        busy = b"HTTP/1.1 503 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        for method in ("HEAD", "POST", "PUT"):
            proxy.faults.append(Fault(path="/blobs/", method=method, answer=busy))
        proxy.faults.append(Fault(path="/manifests/", method="PUT", answer=busy))
        store.tag(f"{registry.host}/team/app:1", f"{proxy.host}/again:1")
        await Pusher(store).push(f"{proxy.host}/again:1")
    assert raw(target, "again:1") == raw(registry, "team/app:1")


async def test_a_token_is_asked_for_with_the_right_to_push(registry, store, tmp_path):
    with TokenServer(Authority(tmp_path)) as tokens:
        os.mkdir(tmp_path / "guarded")
        guarded = Registry(tmp_path / "guarded").start(tokens.settings)
        try:
            name = f"{guarded.host}/team/app:1"
            store.tag(f"{registry.host}/team/app:1", name)
            with pytest.raises(ImageError, match="authorization failed"):
                await Pusher(store).push(name)
            tokens.asked.clear()
            await Pusher(store).push(name, ALICE)
            assert ("GET", ["repository:team/app:pull,push"]) in tokens.asked
            assert (await Puller(store).pull(name, ALICE)).tags
        finally:
            guarded.stop()


async def test_what_is_not_here_and_who_does_not_answer_say_so(registry, store, monkeypatch):
    monkeypatch.setattr(http, "FIRST_DELAY", 0.01)
    with pytest.raises(NotFound, match="no image nosuch:1"):
        await Pusher(store).push("nosuch:1")
    store.tag(f"{registry.host}/team/app:1", "127.0.0.1:1/app:1")
    with pytest.raises(ImageError, match="connection refused"):
        await Pusher(store).push("127.0.0.1:1/app:1")
