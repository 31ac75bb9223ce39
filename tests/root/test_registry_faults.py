"""Pulls through a proxy that cuts, slows, silences and corrupts what a real registry answers: the right bytes or a clear error, and
nothing wrong left in the store."""

import asyncio
import json
import os
import random

import pytest

from minipod.errors import ImageError
from minipod.image.registry import http
from minipod.image.registry.pull import Puller
from minipod.image.store import ImageStore
from tests.registry.proxy import Fault, FaultProxy
from tests.registry.server import OCI, Layout, Registry

SIZE = 3_000_000
NOISE = random.Random(2).randbytes(SIZE)  # noqa: S311 bytes that gzip can't shrink


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    made = Layout(tmp_path_factory.mktemp("layout") / "images")
    made.image("app", {"etc/base": b"base"}, {"noise": NOISE})
    return made


@pytest.fixture(scope="module")
def registry(layout, tmp_path_factory):
    made = Registry(tmp_path_factory.mktemp("registry")).start()
    made.fill(layout, "app:1", "app")
    yield made
    made.stop()


@pytest.fixture
def proxy(registry, monkeypatch):
    monkeypatch.setattr(http, "FIRST_DELAY", 0.01)
    with FaultProxy(registry.port) as made:
        yield made


@pytest.fixture
def store(tmp_path):
    os.mkdir(tmp_path / "images")
    return ImageStore(str(tmp_path / "images"))


def big(layout) -> str:
    """Return the digest of the large layer."""
    return _manifest(layout, "app")["layers"][1]["digest"]


def _manifest(layout, tag: str) -> dict:
    index = json.loads((layout.directory / "index.json").read_text())
    entry = next(
        m
        for m in index["manifests"]
        if m["annotations"]["org.opencontainers.image.ref.name"] == tag
    )
    return layout.read(entry["digest"])


def complete(store: ImageStore, image) -> bool:
    with open(f"{store.layers(image)[0]}/noise", "rb") as file:
        return file.read() == NOISE


def left(store: ImageStore) -> list[str]:
    """Return what is in a store that should be empty."""
    return [
        n for d in ("blobs/sha256", "ingest", "layers") for n in os.listdir(f"{store.root}/{d}")
    ]


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    if "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_a_download_that_is_cut_goes_on_where_it_was(proxy, store, layout):
    proxy.faults += [Fault(path=big(layout), cut=n) for n in (1_100_000, 1_000_000, 100)]
    image = await Puller(store).pull(f"{proxy.host}/app:1")
    assert complete(store, image)
    starts = [int(r.removeprefix("bytes=").rstrip("-")) for r in proxy.ranges()]
    assert len(starts) == 3
    assert 0 < starts[0] < starts[1] <= starts[2]
    assert os.listdir(f"{store.root}/ingest") == []


async def test_a_server_without_ranges_sends_it_again_and_it_counts_once(proxy, store, layout):
    path = big(layout)
    proxy.faults += [Fault(path=path, cut=2_000_000), Fault(path=path, ranges=False)]
    assert complete(store, await Puller(store).pull(f"{proxy.host}/app:1"))
    assert proxy.count(path) == 2


async def test_silence_is_given_up_and_tried_again(proxy, store, layout, monkeypatch):
    monkeypatch.setattr(http, "SILENCE", 0.3)
    proxy.faults += [Fault(path=big(layout), silent=1_500_000), Fault(path="/manifests/", silent=0)]
    assert complete(store, await Puller(store).pull(f"{proxy.host}/app:1"))


async def test_a_slow_answer_is_waited_for(proxy, store, layout, monkeypatch):
    """Longer than a silence would be; none of its 733 pauses is one."""
    monkeypatch.setattr(http, "SILENCE", 2.0)
    proxy.faults.append(Fault(path=big(layout), slow=0.003))
    assert complete(store, await Puller(store).pull(f"{proxy.host}/app:1"))
    assert proxy.count(big(layout)) == 1


@pytest.mark.parametrize("offset", [5, 1_000_000, SIZE])
async def test_a_wrong_byte_is_noticed_and_the_layer_fetched_anew(proxy, store, layout, offset):
    proxy.faults.append(Fault(path=big(layout), corrupt=offset))
    assert complete(store, await Puller(store).pull(f"{proxy.host}/app:1"))
    assert proxy.count(big(layout)) == 2


@pytest.mark.parametrize("offset", [5, 1_000_000, SIZE])
async def test_bytes_that_stay_wrong_fail_the_pull_and_leave_nothing(proxy, store, layout, offset):
    proxy.faults.append(Fault(path=big(layout), corrupt=offset, times=9))
    with pytest.raises(ImageError) as caught:
        await Puller(store).pull(f"{proxy.host}/app:1")
    assert caught.value.reason == "ErrImagePull"
    assert "digest" in caught.value.message or "decompressed" in caught.value.message
    assert left(store) == []
    assert store.list() == []


@pytest.mark.parametrize(
    "refusal",
    [
        answer("503 Service Unavailable"),
        answer("429 Too Many Requests", Retry_After="0"),
        answer("503 Busy", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        answer("500 x", b'{"errors":[{"code":"UNKNOWN","message":"oops"}]}'),
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"no http at all\r\n\r\n",
    ],
    ids=["503", "429", "date", "500", "cut", "garbage"],
)
async def test_a_passing_refusal_of_a_blob_is_tried_again(proxy, store, layout, refusal):
    if refusal.startswith(b"no http"):
        refusal = b""
        proxy.faults.append(Fault(path=big(layout), cut=0))
    proxy.faults.append(Fault(path=big(layout), answer=refusal, times=2))
    assert complete(store, await Puller(store).pull(f"{proxy.host}/app:1"))


async def test_a_registry_that_stays_down_is_given_up(proxy, store, layout):
    proxy.faults.append(Fault(path=big(layout), answer=answer("503 Service Unavailable"), times=99))
    with pytest.raises(ImageError, match="503 service unavailable") as caught:
        await Puller(store).pull(f"{proxy.host}/app:1")
    assert caught.value.reason == "ErrImagePull"
    assert proxy.count(big(layout)) == http.ATTEMPTS
    assert store.list() == []


async def test_the_next_pull_goes_on_with_what_an_earlier_one_got(proxy, store, layout):
    path = big(layout)
    proxy.faults.append(Fault(path=path, cut=2_000_000))
    proxy.faults.append(Fault(path=path, answer=answer("404 Not Found")))
    with pytest.raises(ImageError, match="not found"):
        await Puller(store).pull(f"{proxy.host}/app:1")
    proxy.seen.clear()
    assert complete(store, await Puller(store).pull(f"{proxy.host}/app:1"))
    assert proxy.count(path) == 1
    assert int(proxy.ranges()[0].removeprefix("bytes=").rstrip("-")) > 1_000_000


async def test_a_manifest_of_100_mb_is_not_read(proxy, store):
    head = answer("200 OK", Content_Length="100000000", Content_Type=f"{OCI}.manifest.v1+json")
    proxy.faults += [
        Fault(path="/manifests/", method="HEAD", answer=answer("405 no"), times=9),
        Fault(path="/manifests/", answer=head, endless=True, times=9),
    ]
    with pytest.raises(ImageError, match="larger than 4194304 bytes"):
        await Puller(store).pull(f"{proxy.host}/app:1")
    assert left(store) == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "manifest is not valid"),
        (b"[" * 100_000, "manifest is not valid"),
        (b"[]", "not an object"),
        (b'{"schemaVersion":1,"name":"x"}', "schema 1, which is not supported"),
        (b'{"schemaVersion":2,"layers":[],"manifests":[]}', "both layers and manifests"),
        (b'{"schemaVersion":2,"manifests":[{"digest":1}]}', "image index is not valid"),
        (b'{"schemaVersion":2,"manifests":[]}', "no match for platform"),
        (b'{"schemaVersion":2,"config":{"digest":"sha256:00","size":-1},"layers":[]}', "size -1"),
    ],
)
async def test_a_manifest_that_is_none_is_refused(proxy, store, body, why):
    proxy.faults += [
        Fault(path="/manifests/", method="HEAD", answer=answer("405 no"), times=9),
        Fault(path="/manifests/", answer=answer("200 OK", body), times=9),
    ]
    with pytest.raises(ImageError, match=why) as caught:
        await Puller(store).pull(f"{proxy.host}/app:1")
    assert caught.value.reason == "ErrImagePull"
    assert left(store) == []


async def test_a_manifest_of_another_digest_is_refused(proxy, store, layout):
    other = answer("200 OK", b"{}")
    proxy.faults.append(Fault(path="/manifests/", answer=other, times=9))
    with pytest.raises(ImageError, match=r"manifest has digest .* expected"):
        await Puller(store).pull(f"{proxy.host}/app:1")


async def test_redirects_in_a_circle_end(proxy, store, layout):
    away = answer("302 x", Location=f"http://{proxy.host}/v2/app/manifests/1")
    for method in ("HEAD", "GET"):
        proxy.faults.append(Fault(path="/manifests/", method=method, answer=away, times=99))
    with pytest.raises(ImageError, match="stopped after 10 redirects"):
        await Puller(store).pull(f"{proxy.host}/app:1")


@pytest.mark.parametrize("by", [-1, 1])
async def test_a_layer_of_another_size_than_said_is_refused(registry, store, layout, by):
    manifest = _manifest(layout, "app")
    manifest["layers"][1]["size"] += by
    body = json.dumps(manifest).encode()
    described = layout.blob(body, f"{OCI}.manifest.v1+json")
    with FaultProxy(registry.port) as proxy:
        proxy.faults += [
            Fault(path="/manifests/", method="HEAD", answer=answer("405 no"), times=9),
            Fault(
                path="/manifests/",
                times=9,
                answer=answer("200 OK", body, Content_Type=described["mediaType"]),
            ),
        ]
        with pytest.raises(ImageError, match=r"unexpected end|longer than|416"):
            await Puller(store).pull(f"{proxy.host}/app:1")
    assert store.list() == []


async def test_layers_that_the_disk_can_not_hold_are_refused_before_they_are_fetched(
    registry, store, layout
):
    manifest = _manifest(layout, "app")
    manifest["layers"][1]["size"] = 1 << 60
    with FaultProxy(registry.port) as proxy:
        proxy.faults += [
            Fault(path="/manifests/", method="HEAD", answer=answer("405 no"), times=9),
            Fault(path="/manifests/", answer=answer("200 OK", json.dumps(manifest).encode())),
        ]
        with pytest.raises(ImageError, match="do not fit") as caught:
            await Puller(store).pull(f"{proxy.host}/app:1")
        assert proxy.count(big(layout)) == 0
    assert caught.value.hint == "minipod image prune"
    assert left(store) == []


async def test_a_cancelled_pull_closes_what_it_opened(proxy, store, layout):
    proxy.faults.append(Fault(path=big(layout), silent=1_000_000))
    pull = asyncio.create_task(Puller(store).pull(f"{proxy.host}/app:1"))
    await asyncio.to_thread(proxy.broke.wait)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert store.list() == []
    assert store.sweep()
