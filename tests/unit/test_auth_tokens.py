"""Service account tokens: what they say, when they are void; and what is no token of ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod import errors
from minipod.api.tokens import BoundObject
from minipod.apiserver.auth import jwt
from minipod.apiserver.auth.tokens import Tokens
from tests.fakes.store import FakeStore

KEY = b"k" * 32
ISSUER = "https://kubernetes.default.svc.cluster.local"


class Clock:
    """A clock that a test sets."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store():
    made = FakeStore()
    await made.create("serviceaccounts", "a", {"metadata": {"name": "bot", "uid": "u1"}})
    await made.create("nodes", "", {"metadata": {"name": "n", "uid": "u2"}})
    pod = {
        "metadata": {"name": "p", "uid": "u3"},
        "spec": {"serviceAccountName": "bot", "nodeName": "n"},
    }
    await made.create("pods", "a", pod)
    return made


@pytest.fixture
def tokens(store, clock):
    return Tokens(store, KEY, ISSUER, clock)


POD = BoundObject(kind="Pod", name="p", uid="u3")


async def test_a_token_says_who_holds_it(tokens):
    token = await tokens.mint("a", "bot", bound=POD)
    user, audiences = await tokens.authenticate(token.text)
    assert (user.name, user.uid) == ("system:serviceaccount:a:bot", "u1")
    assert user.groups == (
        "system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated",
    )  # fmt: skip
    extra = dict(user.extra)
    assert extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert extra["authentication.kubernetes.io/node-name"] == ("n",)
    assert audiences == (ISSUER,)


async def test_the_claims_are_those_of_kubernetes(tokens, clock):
    token = await tokens.mint("a", "bot", bound=POD, lifetime=600)
    claims = jwt.verify(token.text, KEY)
    assert claims["kubernetes.io"] == {
        "namespace": "a", "serviceaccount": {"name": "bot", "uid": "u1"},
        "pod": {"name": "p", "uid": "u3"}, "node": {"name": "n", "uid": "u2"},
    }  # fmt: skip
    assert claims["exp"] - claims["iat"] == 600
    assert token.expires_at == claims["exp"]
    assert claims["sub"] == "system:serviceaccount:a:bot"


async def test_a_token_for_others_is_not_for_the_api(tokens):
    token = await tokens.mint("a", "bot", audiences=("vault",))
    with pytest.raises(errors.Unauthorized, match="audiences"):
        await tokens.authenticate(token.text)
    _, common = await tokens.authenticate(token.text, ("vault", "x"))
    assert common == ("vault",)


async def test_a_token_expires(tokens, clock):
    token = await tokens.mint("a", "bot", lifetime=600)
    clock.now += 605
    await tokens.authenticate(token.text)  # clocks may differ a little
    clock.now += 10
    with pytest.raises(errors.Unauthorized, match="expired"):
        await tokens.authenticate(token.text)


@pytest.mark.parametrize("gone", [("pods", "p"), ("serviceaccounts", "bot")])
async def test_a_token_is_void_without_what_it_is_bound_to(tokens, store, gone):
    token = await tokens.mint("a", "bot", bound=POD)
    await store.delete(gone[0], "a", gone[1], grace_period=0)
    with pytest.raises(errors.Unauthorized, match="is gone"):
        await tokens.authenticate(token.text)
    await store.create(gone[0], "a", {"metadata": {"name": gone[1], "uid": "another"}})
    with pytest.raises(errors.Unauthorized, match="not the one"):
        await tokens.authenticate(token.text)


async def test_a_token_outlives_the_deletion_of_its_pod_by_a_minute(tokens, store, clock):
    token = await tokens.mint("a", "bot", bound=POD)
    store.objects["pods", "a", "p"]["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    clock.now = 1_800_000_050.0
    await tokens.authenticate(token.text)
    clock.now = 1_800_000_061.0
    with pytest.raises(errors.Unauthorized, match="deleted"):
        await tokens.authenticate(token.text)


REFUSED = {
    "short": ({"lifetime": 599}, errors.InvalidSpec, "less than 10 minutes"),
    "long": ({"lifetime": (1 << 32) + 1}, errors.InvalidSpec, "larger than"),
    "another uid": ({"bound": BoundObject(kind="Pod", name="p", uid="x")}, errors.Conflict, "UID"),
    "no such pod": ({"bound": BoundObject(kind="Pod", name="q", uid="")}, errors.NotFound, "q"),
    "no such kind": ({"bound": BoundObject(kind="Job", name="q", uid="")}, errors.InvalidSpec, "Job"),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "error", "words"), REFUSED.values(), ids=REFUSED)
async def test_what_can_not_be_minted(tokens, request_, error, words):
    with pytest.raises(error, match=words):
        await tokens.mint("a", "bot", **request_)


async def test_a_pod_of_another_account_is_not_bound(tokens, store):
    await store.create("serviceaccounts", "a", {"metadata": {"name": "other", "uid": "u9"}})
    with pytest.raises(errors.InvalidSpec, match="different serviceaccount"):
        await tokens.mint("a", "other", bound=POD)


def forged(header: dict, key: bytes = KEY) -> str:
    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    body = b".".join((part(json.dumps(header).encode()), part(b'{"iss":"x"}')))
    return (body + b"." + part(hmac.digest(key, body, hashlib.sha256))).decode()


FORGED = {
    "another key": forged({"alg": "HS256"}, b"other"),
    "no algorithm": forged({"alg": "none"}),
    "another algorithm": forged({"alg": "RS256"}),
    "no signature": forged({"alg": "HS256"}).rpartition(".")[0] + ".",
    "too long": "a." + "b" * 20_000 + ".c",
    "padding": forged({"alg": "HS256"}) + "=",
    "nothing": "",
    "not ASCII": "é.é.é",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_what_we_did_not_sign_is_refused(token):
    with pytest.raises(jwt.BadToken):
        jwt.verify(token, KEY)


@given(st.text())
def test_no_text_is_more_than_refused(text):
    with pytest.raises(jwt.BadToken):
        jwt.verify(text, KEY)


@given(st.integers(0, 500), st.integers(1, 255))
def test_a_changed_byte_voids_a_token(at, change):
    token = bytearray(jwt.sign({"iss": "x", "n": list(range(40))}, KEY).encode())
    at %= len(token) - 1  # the last character holds unused bits
    token[at] ^= change
    with pytest.raises(jwt.BadToken):
        jwt.verify(token.decode("latin-1"), KEY)
