"""The pure parts of the registry client by tables: hosts.toml, credentials, challenges, proxies, platforms. Excluded: requests."""

import asyncio
import base64
import json

import pytest

from minipod.errors import ImageError, InvalidSpec
from minipod.image import reference
from minipod.image.registry import hosts, index, keyring, platform
from minipod.image.registry.auth import challenges
from minipod.image.registry.flights import Flights
from minipod.image.registry.http import retry_after
from minipod.image.registry.progress import LayerProgress, quiet
from minipod.image.registry.proxy import proxy_for
from minipod.kubelet.images import go_duration
from minipod.kubelet.pull_secrets import add_secret
from minipod.spec.registry import AuthConfig

# -- credentials


@pytest.mark.parametrize(
    ("key", "image", "fits"),
    [
        ("reg.example", "reg.example/app", True),
        ("https://reg.example/v1/", "reg.example/app", True),
        ("reg.example/team", "reg.example/team/app", True),
        ("reg.example/team", "reg.example/other/app", False),
        ("reg.example:5000", "reg.example:5000/app", True),
        ("reg.example", "reg.example:5000/app", False),
        ("*.example", "reg.example/app", True),
        ("*.example", "a.b.example/app", False),
        ("*.*.example", "a.b.example/app", True),
        ("re?.example", "reg.example/app", True),
        ("[^x]eg.example", "reg.example/app", True),
        ("docker.io", "busybox", True),
        ("https://index.docker.io/v1/", "busybox", True),
        ("index.docker.io", "docker.io/team/app", True),
        ("index.docker.io", "reg.example/app", False),
        ("example", "reg.example/app", False),
    ],
)
def test_a_key_of_auths_fits_by_the_kubelets_rules(key, image, fits):
    ring = keyring.Keyring()
    ring.add(key, AuthConfig(username="u"))
    assert bool(ring.lookup(reference.parse(image))) is fits


def test_the_more_specific_key_comes_first_and_equal_ones_once():
    ring = keyring.Keyring()
    for key, user in (("*.example", "glob"), ("reg.example/team", "path"), ("reg.example", "host")):
        ring.add(key, AuthConfig(username=user))
        ring.add(key, AuthConfig(username=user))
    found = [a.username for a in ring.lookup(reference.parse("reg.example/team/app"))]
    assert found == ["path", "host", "glob"]


def test_secrets_do_not_show_in_a_repr():
    auth = AuthConfig(username="u", password="pass", identity_token="id", registry_token="reg")  # noqa: S106
    assert "pass" not in repr(auth)
    assert "id'" not in repr(auth)
    assert repr(auth) == "AuthConfig(username='u')"


@pytest.mark.parametrize(
    ("auths", "why"),
    [
        ([], ": auths: not an object"),
        ({"reg": 3}, r"auths\.reg: not an object"),
        ({"reg": {"auth": "???"}}, r"auths\.reg: auth is not"),
        ({"reg": {"auth": base64.b64encode(b"nocolon").decode()}}, "base64 of username:password"),
    ],
)
def test_a_wrong_docker_config_names_its_place(auths, why):
    if auths == []:
        auths = [1]
    with pytest.raises(InvalidSpec, match=why):
        keyring.add_docker_config(keyring.Keyring(), json.dumps({"auths": auths}).encode(), "file")


def test_broken_json_is_refused_without_showing_the_password():
    with pytest.raises(InvalidSpec, match="line 1 column") as caught:
        keyring.add_docker_config(keyring.Keyring(), b'{"auths": "hunter2', "file")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "key", "content"),
    [
        (
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson",
            {"auths": {"r.x": {"auth": "dTpw"}}},
        ),
        ("kubernetes.io/dockercfg", ".dockercfg", {"r.x": {"username": "u", "password": "p"}}),
    ],
)
def test_secrets_of_both_types_are_read(kind, key, content):
    ring = keyring.Keyring()
    data = {key: base64.b64encode(json.dumps(content).encode()).decode()}
    add_secret(ring, {"metadata": {"name": "s"}, "type": kind, "data": data})
    assert ring.lookup(reference.parse("r.x/app")) == [AuthConfig(username="u", password="p")]  # noqa: S106
    other = keyring.Keyring()
    add_secret(other, {"metadata": {"name": "s"}, "type": "Opaque", "data": data})
    assert other.lookup(reference.parse("r.x/app")) == []


# -- challenges


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"',
            [
                (
                    "bearer",
                    {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push"},
                )
            ],
        ),
        (
            'Negotiate, Basic realm="a, b", Bearer realm=plain , x="q\\"q"',
            [
                ("negotiate", {}),
                ("basic", {"realm": "a, b"}),
                ("bearer", {"realm": "plain", "x": 'q"q'}),
            ],
        ),
        ("", []),
        ("===", []),
    ],
)
def test_challenges_are_told_apart(header, found):
    assert [(c.scheme, c.parameters) for c in challenges([header])] == found


# -- proxies


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://a.b/x", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("https://a.b/x", {"http_proxy": "http://p:1"}, None),
        ("https://a.b/x", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ("http://127.0.0.1:5000/x", {"http_proxy": "http://p:1"}, None),
        ("http://localhost/x", {"http_proxy": "http://p:1"}, None),
        ("http://a.b/x", {"http_proxy": "http://p:1", "NO_PROXY": "a.b"}, None),
        ("http://c.a.b/x", {"http_proxy": "http://p:1", "no_proxy": "x, a.b"}, None),
        ("http://ca.b/x", {"http_proxy": "http://p:1", "no_proxy": "a.b"}, "http://p:1"),
        ("http://a.b/x", {"http_proxy": "http://p:1", "no_proxy": ".a.b"}, "http://p:1"),
        ("http://c.a.b/x", {"http_proxy": "http://p:1", "no_proxy": "*.a.b"}, None),
        ("http://a.b:81/x", {"http_proxy": "http://p:1", "no_proxy": "a.b:80"}, "http://p:1"),
        ("http://a.b/x", {"http_proxy": "http://p:1", "no_proxy": "a.b:80"}, None),
        ("http://10.1.2.3/x", {"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("http://11.1.2.3/x", {"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "http://p:1"),
        ("http://[fd00::1]/x", {"http_proxy": "http://p:1", "no_proxy": "fd00::1"}, None),
        ("http://a.b/x", {"http_proxy": "http://p:1", "no_proxy": "*"}, None),
    ],
)
def test_the_environment_names_the_proxy(monkeypatch, url, environment, proxy):
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


# -- hosts.toml


def bases(directory, registry: str, capability: str = "pull") -> list[str]:
    return [e.base for e in hosts.endpoints(str(directory), registry, capability)]


def test_without_a_file_a_registry_is_its_name(tmp_path):
    assert bases(tmp_path, "docker.io") == ["https://registry-1.docker.io/v2"]
    assert bases(tmp_path, "reg.example:5000") == ["https://reg.example:5000/v2"]
    loopback = ["http://localhost:5000/v2", "https://localhost:5000/v2"]
    assert bases(tmp_path, "localhost:5000") == loopback


@pytest.mark.parametrize("name", ["reg.example:5000", "reg.example_5000_", "_default"])
def test_mirrors_come_first_in_the_order_of_the_file(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "hosts.toml").write_text(
        'server = "https://up.example/api"\n'
        '[host."http://one:1"]\ncapabilities = ["pull"]\n'
        '[host."https://two/v2"]\n'
        '[host."https://three/path"]\noverride_path = true\n'
        '[host."three.bare"]\n'
        '[host."oci:/srv/x/"]\n'
    )
    assert bases(tmp_path, "reg.example:5000") == [
        "http://one:1/v2", "https://two/v2", "https://three/path", "https://three.bare/v2",
        "oci:/srv/x", "https://up.example/api/v2",
    ]  # fmt: skip
    assert "http://one:1/v2" not in bases(tmp_path, "reg.example:5000", "push")
    assert "oci:/srv/x" not in bases(tmp_path, "reg.example:5000", "push")
    found = hosts.endpoints(str(tmp_path), "reg.example:5000", "pull")
    assert [e.is_server for e in found] == [False] * 5 + [True]


# -- platforms


def _index(*platforms: str) -> bytes:
    listed = []
    for number, text in enumerate(platforms):
        words = dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))
        entry = {"digest": f"sha256:{number:064}", "size": 1, "mediaType": "x"}
        listed.append({**entry, **({"platform": words} if text else {})})
    return json.dumps({"manifests": listed}).encode()


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ("linux/arm64", "linux/amd64"), 1),
        ("linux/amd64", ("linux/amd64", "linux/amd64"), 0),
        ("linux/x86_64", ("linux/amd64/v3", "linux/amd64"), 1),
        ("linux/amd64/v3", ("linux/amd64", "linux/amd64/v2", "linux/amd64/v4"), 1),
        ("linux/arm64", ("linux/arm64/v8",), 0),
        ("linux/arm/v7", ("linux/arm/v5", "linux/arm/v6", "linux/arm64"), 1),
        ("linux/arm/v6", ("linux/arm/v7",), None),
        ("linux/arm", ("linux/arm/v7",), 0),
        ("linux/amd64", ("windows/amd64", "unknown/unknown"), None),
        ("linux/amd64", ("linux/arm64", ""), 1),
        ("linux/amd64", (), None),
    ],
)
def test_the_best_platform_is_chosen(wanted, offered, chosen):
    if chosen is None:
        with pytest.raises(ImageError, match=f"no match for platform {wanted}"):
            index.choose(_index(*offered), platform.parse(wanted))
        return
    found = index.choose(_index(*offered), platform.parse(wanted))
    assert int(found.digest[7:]) == chosen


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.0849, "85ms"), (1.2, "1.2s"), (10, "10s"), (60, "1m0s"), (123.05, "2m3.05s")],
)
def test_durations_look_like_gos(seconds, text):
    assert go_duration(seconds) == text


# -- waiting together


async def test_who_joins_late_hears_what_was_told_and_all_get_the_same():
    flights: Flights[int] = Flights()
    go, heard = asyncio.Event(), []
    news = LayerProgress(digest="sha256:1", state="Waiting")

    async def start(tell) -> int:
        tell(news)
        await go.wait()
        return 7

    first = asyncio.create_task(flights.join("k", start, quiet))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(flights.join("k", start, heard.append))
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(first, second) == [7, 7]
    assert heard == [news]


async def test_the_task_ends_with_the_last_who_waits_and_not_before():
    flights: Flights[int] = Flights()
    ended = asyncio.Event()

    async def start(_) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    one, two = (asyncio.create_task(flights.join("k", start, quiet)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait((one,))
    assert not ended.is_set()
    two.cancel()
    await asyncio.wait((two,))
    assert ended.is_set()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7), ("", 0), ("soon", 0), ("-1", 0), ("Thu, 01 Jan 1970 00:16:50 GMT", 10), ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert retry_after(header, 1000.0) == seconds
