"""Pulls from a real docker-registry, by the code that the daemon runs: images, platforms, TLS, mirrors. Excluded: credentials
(test_registry_auth), faults (test_registry_faults), pods (test_registry_pods)."""

import asyncio
import json
import os
import random

import pytest

from minipod.errors import ImageError
from minipod.image.registry.pull import Puller
from minipod.image.store import ImageStore
from minipod.linux.libc import GOARCH, MACHINE
from minipod.spec.registry import AuthConfig
from tests.registry.proxy import Fault, FaultProxy
from tests.registry.server import OCI, PASSWORD, USER, Layout, Registry, digest, skopeo
from tests.registry.store import content, nothing_left
from tests.registry.tokens import Authority

ALICE = AuthConfig(username=USER, password=PASSWORD)
PLATFORMS = {"amd64": "linux/amd64", "arm64": "linux/arm64/v8"}  # as images name them
HERE = GOARCH[MACHINE]
(OTHER,) = PLATFORMS.keys() - {HERE}
NOISE = random.Random(1).randbytes(300_000)  # noqa: S311 bytes that gzip can't shrink


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """Two images that share their base, one for another machine, and an index of both."""
    made = Layout(tmp_path_factory.mktemp("layout") / "images")
    base = {"etc/base": b"base", "noise": NOISE}
    app = made.image("app", base, {"etc/app": b"one"}, Cmd=["/app"])
    made.image("other", base, {"etc/app": b"two"})
    foreign = made.image("foreign", {"etc/app": b"foreign"}, architecture=OTHER)
    attestation = made.image("", {"note": b"no image"}, architecture="unknown")
    made.index(
        "multi",
        (attestation, "unknown/unknown"),
        (foreign, PLATFORMS[OTHER]),
        (app, PLATFORMS[HERE]),
    )
    return made


@pytest.fixture(scope="module")
def registry(layout, tmp_path_factory):
    """An open registry with all of it, a Docker schema 2 copy too."""
    made = Registry(tmp_path_factory.mktemp("registry")).start()
    for tag in ("app", "other", "foreign"):
        made.fill(layout, f"team/{tag}:1", tag)
    made.fill(layout, "team/docker:1", "app", "--format=v2s2")
    made.fill(layout, "team/multi:1", "multi", "--all")
    yield made
    made.stop()


@pytest.fixture
def store(tmp_path):
    os.mkdir(tmp_path / "images")
    return ImageStore(str(tmp_path / "images"))


@pytest.fixture
def hosts(tmp_path):
    """Write a hosts.toml; return the directory of them."""

    def write(registry: str, text: str) -> str:
        os.makedirs(tmp_path / "hosts" / registry, exist_ok=True)
        (tmp_path / "hosts" / registry / "hosts.toml").write_text(text)
        return str(tmp_path / "hosts")

    return write


@pytest.mark.parametrize("name", ["app", "docker"])
async def test_an_image_is_pulled_and_unpacked(registry, store, name):
    image = await Puller(store).pull(f"{registry.host}/team/{name}:1")
    assert content(store, image, "etc/base") == b"base"
    assert content(store, image, "etc/app") == b"one"
    assert content(store, image, "noise") == NOISE
    assert store.config(image).cmd == ("/app",)
    assert image.tags == (f"{registry.host}/team/{name}:1",)
    told = skopeo("inspect", "--tls-verify=false", f"docker://{registry.host}/team/{name}:1")
    assert f'"Digest": "{image.manifest}"' in told
    assert image.digests == (f"{registry.host}/team/{name}@{image.manifest}",)


async def test_of_several_platforms_ours_is_taken_and_the_index_pins_it(registry, store, layout):
    name = f"{registry.host}/team/multi"
    image = await Puller(store).pull(f"{name}:1")
    assert content(store, image, "etc/app") == b"one"
    told = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}:1")
    index = digest(told.encode())
    assert image.digests == (f"{name}@{index}",)
    assert store.resolve(f"{name}@{index}") == image
    by_index = await Puller(store).pull(f"{name}@{index}")
    assert by_index.id == image.id
    by_manifest = await Puller(store).pull(f"{name}:ignored@{image.manifest}")
    assert by_manifest.id == image.id


async def test_an_index_may_lead_to_an_index_but_not_for_ever(store, layout, hosts):
    """From a layout: skopeo does not push such a thing."""
    directory = hosts("reg.example", f'[host."oci:{layout.directory}"]\n')
    found = layout.image("", {"etc/app": b"deep"})
    for depth in range(6):
        found = layout.index(f"deep{depth}", (found, ""))
    image = await Puller(store, directory).pull("reg.example/x:deep1")
    assert content(store, image, "etc/app") == b"deep"
    with pytest.raises(ImageError, match="levels deep"):
        await Puller(store, directory).pull("reg.example/x:deep5")


async def test_a_layer_may_come_twice_and_another_hold_nothing(registry, store, layout):
    one, empty = {"etc/one": b"1"}, {}
    layout.image("odd", one, empty, {"etc/two": b"2"}, one, empty)
    registry.fill(layout, "team/odd:1", "odd")
    image = await Puller(store).pull(f"{registry.host}/team/odd:1")
    assert len(image.layer_digests) == 5
    assert (content(store, image, "etc/one"), content(store, image, "etc/two")) == (b"1", b"2")
    store.remove(image.id)
    assert nothing_left(store)


async def test_another_platform_can_be_asked_for_and_one_that_is_not_there_is_named(
    registry, store
):
    puller, name = Puller(store), f"{registry.host}/team/multi:1"
    image = await puller.pull(name, wanted=f"linux/{OTHER}")
    assert content(store, image, "etc/app") == b"foreign"
    with pytest.raises(ImageError, match="no match for platform linux/s390x") as caught:
        await puller.pull(name, wanted="linux/s390x")
    assert caught.value.hint == "there is: linux/amd64, linux/arm64/v8"
    with pytest.raises(ImageError, match=f"no match for platform linux/{HERE}"):
        await puller.pull(f"{registry.host}/team/foreign:1", wanted=f"linux/{HERE}")
    with pytest.raises(ImageError, match="not a platform"):
        await puller.pull(name, wanted="arm64")


async def test_what_is_not_there_and_what_is_no_name_say_so(registry, store):
    puller = Puller(store)
    for name in ("team/app:nope", "nobody/app:1", f"team/app@sha256:{'0' * 64}"):
        with pytest.raises(ImageError, match="not found") as caught:
            await puller.pull(f"{registry.host}/{name}")
        assert caught.value.reason == "ErrImagePull"
    with pytest.raises(ImageError) as caught:
        await puller.pull("Not A Name")
    assert caught.value.reason == "InvalidImageName"
    assert nothing_left(store)


async def test_an_image_that_is_here_costs_one_head_and_a_moved_tag_is_noticed(
    registry, store, layout
):
    with FaultProxy(registry.port) as proxy:
        registry.fill(layout, "team/moving:1", "app")
        puller, name = Puller(store), f"{proxy.host}/team/moving:1"
        old = await puller.pull(name)
        proxy.seen.clear()
        assert await puller.pull(name) == old
        assert [s.method for s in proxy.seen] == ["HEAD"]
        registry.fill(layout, "team/moving:1", "other")
        proxy.seen.clear()
        new = await puller.pull(name)
        assert content(store, new, "etc/app") == b"two"
        assert proxy.count("/blobs/") == 2  # config and top layer: the base is here
        assert store.resolve(name) == new


async def test_ten_pulls_at_once_and_a_shared_layer_are_fetched_once(registry, store):
    with FaultProxy(registry.port) as proxy:
        puller = Puller(store)
        names = [f"{proxy.host}/team/app:1"] * 10 + [f"{proxy.host}/team/other:1"] * 2
        images = await asyncio.gather(*(puller.pull(name) for name in names))
        assert len({i.id for i in images}) == 2
        blobs = [s.target for s in proxy.seen if "/blobs/" in s.target]
        layers = [t.rpartition("/")[2] for t in blobs]
        assert len(layers) == len(set(layers)) == 5  # 2 configs, 3 layers


async def test_a_pull_that_nobody_waits_for_any_more_ends(registry, store):
    with FaultProxy(registry.port) as proxy:
        puller, name = Puller(store), f"{proxy.host}/team/app:1"
        proxy.faults.append(Fault(path="/blobs/", silent=10))
        first, second = (asyncio.create_task(puller.pull(name)) for _ in range(2))
        await asyncio.to_thread(proxy.broke.wait)
        first.cancel()
        await asyncio.wait((first,))
        assert not second.done()
        second.cancel()
        await asyncio.wait((second,))
        assert not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        assert not store.list()
        assert content(store, await puller.pull(name), "noise") == NOISE


# -- TLS and hosts.toml


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(layout, authority, tmp_path_factory):
    files = {"certificate": str(authority.certificate), "key": str(authority.key_file)}
    made = Registry(tmp_path_factory.mktemp("tls"), tls=files).start()
    made.fill(layout, "team/app:1", "app")
    yield made
    made.stop()


async def test_a_private_authority_must_be_named(tls, authority, store, hosts):
    name = f"{tls.host}/team/app:1"
    strict = hosts(tls.host, f'server = "https://{tls.host}"\n')
    with pytest.raises(ImageError, match="certificate") as caught:
        await Puller(store, strict).pull(name)
    assert "hosts.toml" in caught.value.hint
    named = hosts(tls.host, f'server = "https://{tls.host}"\nca = "{authority.ca}"\n')
    image = await Puller(store, named).pull(name)
    store.remove(image.id)
    skipped = hosts(tls.host, f'server = "https://{tls.host}"\nskip_verify = true\n')
    await Puller(store, skipped).pull(name)


async def test_loopback_needs_no_settings_with_tls_or_without(tls, registry, store):
    await Puller(store).pull(f"{tls.host}/team/app:1")
    await Puller(store).pull(f"{registry.host}/team/app:1")


async def test_mirrors_are_asked_in_order_and_the_server_at_last(registry, tls, store, hosts):
    with FaultProxy(registry.port) as mirror:
        directory = hosts(
            "reg.example",
            f'server = "https://{tls.host}"\nskip_verify = true\n'
            '[host."http://127.0.0.1:1"]\n'
            f'[host."http://{mirror.host}"]\ncapabilities = ["pull", "resolve"]\n',
        )
        image = await Puller(store, directory).pull("reg.example/team/other:1", ALICE)
        assert image.tags == ("reg.example/team/other:1",)
        assert content(store, image, "etc/app") == b"two"
        assert all(s.target.endswith("?ns=reg.example") for s in mirror.seen)
        assert not [s for s in mirror.seen if "authorization" in s.headers]
        mirror.faults[:] = [_missing(), _missing("GET")]
        image = await Puller(store, directory).pull("reg.example/team/app:1")
        assert content(store, image, "etc/app") == b"one"


async def test_a_mirror_that_only_pulls_serves_what_the_server_resolved(registry, store, hosts):
    with FaultProxy(registry.port) as mirror:
        directory = hosts(
            "reg.example",
            f'server = "http://{registry.host}"\n'
            f'[host."http://{mirror.host}"]\ncapabilities = ["pull"]\n',
        )
        image = await Puller(store, directory).pull("reg.example/team/app:1")
        assert content(store, image, "etc/app") == b"one"
        asked = {s.target.partition("?")[0].rpartition("/")[2] for s in mirror.seen}
        assert "1" not in asked  # the tag
        assert image.manifest in asked


def _missing(method: str = "HEAD"):
    return Fault(
        path="/manifests/",
        method=method,
        times=9,
        answer=b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n",
    )


async def test_layouts_on_disk_serve_a_machine_without_network(layout, store, hosts, tmp_path):
    directory = hosts(
        "_default", f'server = "http://127.0.0.1:1"\n[host."oci:{tmp_path}/mirror"]\n'
    )
    os.makedirs(tmp_path / "mirror/library")
    os.makedirs(tmp_path / "mirror/docker.io/t")
    skopeo("copy", f"oci:{layout.directory}:app", f"oci:{tmp_path}/mirror/library/app:1.0")
    skopeo(
        "copy", "--all", f"oci:{layout.directory}:multi", f"oci:{tmp_path}/mirror/docker.io/t/m:1"
    )
    puller = Puller(store, directory)
    image = await puller.pull("app:1.0")
    assert image.tags == ("docker.io/library/app:1.0",)
    assert content(store, image, "noise") == NOISE
    multi = await puller.pull("t/m:1")
    assert multi.id == image.id
    with pytest.raises(ImageError, match=r"connection refused|not found"):
        await puller.pull("app:2.0")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("server = 3", "server must be a string"),
        ("x = [", "Invalid|Unclosed|value"),
        ("servr = 'http://x'", "unknown key 'servr'"),
        ('[host."ftp://x"]', "not an http, https or oci URL"),
        ('[host."oci:relative"]', "must be absolute"),
        ('[host."http://x"]\ncapabilities = ["fly"]', "unknown capability 'fly'"),
        ('[host."http://x"]\nskip_verify = "yes"', "skip_verify must be true or false"),
        ('server = "https://127.0.0.1:1"\nca = "missing.pem"', "can't use .*missing.pem"),
    ],
)
async def test_a_wrong_hosts_file_names_itself_and_the_place(store, hosts, text, why):
    directory = hosts("reg.example", text)
    with pytest.raises(ImageError, match=why) as caught:
        await Puller(store, directory).pull("reg.example/app:1")
    assert "hosts.toml" in caught.value.message or "missing.pem" in caught.value.message
    assert caught.value.reason == "ErrImagePull"


async def test_the_proxy_of_the_environment_is_used_and_no_proxy_honoured(
    registry, store, hosts, monkeypatch
):
    directory = hosts("reg.invalid", 'server = "http://reg.invalid"\n')
    with FaultProxy(registry.port) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        monkeypatch.setenv("no_proxy", "")
        await Puller(store, directory).pull("reg.invalid/team/app:1")
        assert all(s.target.startswith("http://reg.invalid/v2/") for s in proxy.seen)
        monkeypatch.setenv("no_proxy", ".other,reg.invalid")
        with pytest.raises(ImageError, match=r"reg\.invalid: name or service not known"):
            await Puller(store, directory).pull("reg.invalid/team/other:1")


def test_media_types_that_are_no_images_are_refused(registry, store, layout):
    config = layout.blob(b"{}", "application/vnd.cncf.helm.config.v1+json")
    body = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": config,
        "layers": [],
    }
    described = layout.blob(json.dumps(body).encode(), f"{OCI}.manifest.v1+json")
    layout.name("chart", described)
    registry.fill(layout, "team/chart:1", "chart")
    with pytest.raises(ImageError, match="no container image"):
        asyncio.run(Puller(store).pull(f"{registry.host}/team/chart:1"))
    assert nothing_left(store)
