"""Credentials for registries, and where they must not go: basic, tokens, identity tokens, redirects. docker-registry behind a password
file, and behind a token server that is the test's."""

import base64
import os
import random

import pytest

from minipod.errors import ImageError
from minipod.image.registry.pull import Puller
from minipod.image.store import ImageStore
from minipod.spec.registry import AuthConfig
from tests.registry.proxy import Fault, FaultProxy
from tests.registry.server import PASSWORD, USER, Layout, Registry
from tests.registry.store import content, nothing_left
from tests.registry.tokens import Authority, TokenServer

ALICE = AuthConfig(username=USER, password=PASSWORD)
NOISE = random.Random(1).randbytes(300_000)  # noqa: S311 bytes that gzip can't shrink


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    made = Layout(tmp_path_factory.mktemp("layout") / "images")
    made.image("app", {"etc/base": b"base", "noise": NOISE}, {"etc/app": b"one"}, Cmd=["/app"])
    return made


@pytest.fixture
def store(tmp_path):
    os.mkdir(tmp_path / "images")
    return ImageStore(str(tmp_path / "images"))


@pytest.fixture(scope="module")
def private(layout, tmp_path_factory):
    made = Registry(tmp_path_factory.mktemp("private")).basic()
    made.fill(layout, "team/app:1", "app", f"--dest-creds={USER}:{PASSWORD}")
    yield made
    made.stop()


async def test_basic_auth_takes_the_right_password_only(private, store):
    puller, name = Puller(store), f"{private.host}/team/app:1"
    wrong = AuthConfig(username=USER, password="no")  # noqa: S106 not a secret
    for auth in (AuthConfig(), wrong):
        with pytest.raises(ImageError, match="authorization failed") as caught:
            await puller.pull(name, auth)
        assert "password" not in caught.value.message
        assert caught.value.hint
    assert nothing_left(store)
    assert (await puller.pull(name, ALICE)).tags == (name,)


async def test_another_host_gets_the_bytes_asked_for_but_no_credentials(private, store):
    known = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
    with (
        FaultProxy(private.port) as front,
        FaultProxy(private.port, address="127.0.0.2", add={"authorization": known}) as storage,
    ):
        to = f"http://{storage.host}/v2/team/app/blobs"
        image = await Puller(store).pull(f"{front.host}/team/app:1", ALICE)
        store.remove(image.id)
        front.faults += [
            Fault(
                path=f"/blobs/{blob}",
                answer=f"HTTP/1.1 307 x\r\nLocation: {to}/{blob}?sig=a%2Fb+c\r\n"
                "Content-Length: 0\r\n\r\n".encode(),
            )
            for blob in (*image.layer_digests, image.id)
        ]
        again = await Puller(store).pull(f"{front.host}/team/app:1", ALICE)
        assert content(store, again, "noise") == NOISE
        assert len(storage.seen) == 3
        assert all(s.target.endswith("?sig=a%2Fb+c") for s in storage.seen)
        assert not [s for s in storage.seen if "authorization" in s.headers]


@pytest.mark.parametrize(
    "scheme", ['Bearer realm="http://{}/token",service="x"', 'Basic realm="x"']
)
async def test_a_host_that_was_redirected_to_can_not_ask_for_the_password(private, store, scheme):
    """Its challenge is not the registry's: answered, the password would go to a token server of its choice (as in CVE-2020-15157)."""
    with (
        FaultProxy(private.port) as front,
        FaultProxy(private.port, address="127.0.0.2") as other,
    ):
        challenge = scheme.format(other.host)
        refusal = f"HTTP/1.1 401 x\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n"
        redirect = f"HTTP/1.1 307 x\r\nLocation: http://{other.host}/x\r\nContent-Length: 0\r\n\r\n"
        other.faults.append(Fault(path="/", times=99, answer=refusal.encode()))
        front.faults.append(Fault(path="/blobs/", times=99, answer=redirect.encode()))
        with pytest.raises(ImageError, match=f"{other.host}: authorization failed"):
            await Puller(store).pull(f"{front.host}/team/app:1", ALICE)
        assert {s.target for s in other.seen} == {"/x"}
        assert not [s for s in other.seen if "authorization" in s.headers]
        assert not store.list()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tokens(authority):
    with TokenServer(authority, anonymous=True) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(layout, tokens, tmp_path_factory):
    """A registry behind the token server."""
    made = Registry(tmp_path_factory.mktemp("guarded")).start(tokens.settings)
    made.fill(layout, "team/app:1", "app", f"--dest-creds={USER}:{PASSWORD}")
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("auth", "method"),
    [
        pytest.param(AuthConfig(), "GET", id="anybody"),
        pytest.param(ALICE, "GET", id="password"),
        pytest.param(AuthConfig(identity_token=TokenServer.IDENTITY), "POST", id="identity"),
    ],
)
async def test_one_token_serves_all_layers(guarded, tokens, store, auth, method):
    tokens.asked.clear()
    await Puller(store).pull(f"{guarded.host}/team/app:1", auth)
    assert tokens.asked == [(method, ["repository:team/app:pull"])]


async def test_a_token_that_never_was_valid_is_not_asked_for_again_and_again(
    guarded, tokens, store
):
    tokens.asked.clear()
    tokens.lifetimes[:] = [-3000] * 9
    with pytest.raises(ImageError, match="authorization failed"):
        await Puller(store).pull(f"{guarded.host}/team/app:1", ALICE)
    tokens.lifetimes.clear()
    assert len(tokens.asked) <= 2


async def test_a_token_that_is_refused_in_the_middle_is_renewed(guarded, tokens, store):
    with FaultProxy(guarded.port) as proxy:
        challenge = tokens.settings["token"]["realm"]
        refusal = (
            f'HTTP/1.1 401 x\r\nWWW-Authenticate: Bearer realm="{challenge}",service="test",'
            'scope="repository:team/app:pull"\r\nContent-Length: 0\r\n\r\n'
        )
        proxy.faults.append(Fault(path="/blobs/", answer=refusal.encode()))
        tokens.asked.clear()
        await Puller(store).pull(f"{proxy.host}/team/app:1", ALICE)
        assert len(tokens.asked) == 2


async def test_a_refused_password_and_a_token_server_that_is_gone_say_so(guarded, tokens, store):
    wrong = AuthConfig(username=USER, password="no")  # noqa: S106 not a secret
    with pytest.raises(ImageError, match="authorization failed: 401"):
        await Puller(store).pull(f"{guarded.host}/team/app:1", wrong)
    assert nothing_left(store)
