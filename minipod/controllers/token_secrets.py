"""Secrets of type kubernetes.io/service-account-token: a token that lives as long as its secret
(pkg/controller/serviceaccount/tokens_controller.go).

Who makes such a secret names an account in an annotation; this fills in a token that is bound to the secret, the namespace and the CA.
A secret goes with its account, and one that names none that is there goes at once. Pods don't need them: theirs are projected.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from minipod.api.informer import Change, Key
from minipod.api.store import Object, Store
from minipod.api.tokens import BoundObject, TokenIssuer
from minipod.controllers.controller import Controller, Informers
from minipod.errors import NotFound

TYPE = "kubernetes.io/service-account-token"
ACCOUNT, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
LIFETIME = 1 << 32  # seconds: for ever, as a token goes


@dataclass(frozen=True, slots=True)
class Held:
    """What of such a secret matters here."""

    account: str
    uid: str
    data: tuple[str, ...]  # the keys it has


def held(secret: Object) -> Held | None:
    """Remember secrets of the type alone."""
    if secret.get("type") != TYPE or secret["metadata"].get("deletionTimestamp"):
        return None
    annotations = secret["metadata"].get("annotations") or {}
    keys = tuple(sorted(secret.get("data") or {}))
    return Held(annotations.get(ACCOUNT, ""), annotations.get(UID, ""), keys)


def _uid(account: Object) -> str:
    return str(account["metadata"]["uid"])


class TokenSecretController(Controller[Key]):
    """Keys are namespace and name of secrets; *ca* is the API's CA certificate (PEM)."""

    name = "token secrets"

    def __init__(self, store: Store, informers: Informers, tokens: TokenIssuer, ca: str) -> None:
        super().__init__()
        self._store = store
        self._tokens = tokens
        self._ca = ca
        self._secrets = informers.of("secrets", held)
        self._accounts = informers.of("serviceaccounts", _uid)
        self._secrets.subscribe(lambda change: self.enqueue(change.key))
        self._accounts.subscribe(self._account_changed)

    def _account_changed(self, change: Change[str]) -> None:
        namespace, name = change.key
        for key, secret in self._secrets.items(namespace):
            if secret.account == name and change.old != change.new:
                self.enqueue(key)

    async def reconcile(self, key: Key) -> None:
        namespace, name = key
        secret = await self._store.get("secrets", namespace, name)
        found = held(secret)
        if found is None:
            return
        uid = secret["metadata"]["uid"]
        try:
            account = _uid(await self._store.get("serviceaccounts", namespace, found.account))
        except NotFound:
            account = ""
        if not account or found.uid not in ("", account):
            await self._store.delete("secrets", namespace, name, uid=uid)
        elif found.uid != account or not {"token", "namespace", "ca.crt"} <= set(found.data):
            bound = BoundObject(kind="Secret", name=name, uid=uid)
            token = await self._tokens.mint(
                namespace, found.account, lifetime=LIFETIME, bound=bound
            )
            given = {"token": token.text, "namespace": namespace, "ca.crt": self._ca}
            await self._store.mutate(
                "secrets", namespace, name, lambda s: _filled(s, uid, account, given)
            )


def _filled(secret: Object, uid: str, account: str, given: dict[str, str]) -> Object | None:
    """Return the secret with what it lacks of *given*; None when another has taken its name."""
    metadata = secret["metadata"]
    if metadata["uid"] != uid:
        return None
    data = {key: base64.b64encode(text.encode()).decode() for key, text in given.items()}
    annotations = {**(metadata.get("annotations") or {}), UID: account}
    return {
        **secret,
        "metadata": {**metadata, "annotations": annotations},
        "data": data | (secret.get("data") or {}),
    }
