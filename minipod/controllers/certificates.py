"""Certificate signing requests: those for the API's clients are signed when they are approved, and all go after a while
(pkg/controller/certificates/{signer,cleaner}).

Who approves is a person, or whoever may (`kubectl certificate approve`); requests for other signers are others' to sign.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from minipod.api.certificates import (
    APPROVED,
    CLIENT,
    DENIED,
    FAILED,
    FINAL,
    RESOURCE,
    CertificateSigner,
    conditions,
)
from minipod.api.informer import Key
from minipod.api.meta import now
from minipod.api.store import Object, Store
from minipod.controllers.controller import Controller, Informers
from minipod.errors import InvalidSpec

DECIDED, PENDING = 3600.0, 86400.0  # seconds that a request stays, decided or not (cleaner.go)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Standing:
    """What of a request matters here."""

    unsigned: bool  # approved, for our signer, and nothing became of it yet
    ends: float  # when it is removed, in seconds since the epoch


def standing(request: Object) -> Standing:
    """Return how it stands."""
    spec, status = request["spec"], request.get("status") or {}
    approved, rest = (
        conditions(request, APPROVED),
        conditions(request, DENIED) + conditions(request, FAILED),
    )
    done = bool(status.get("certificate"))
    decided = [c for kind in FINAL for c in conditions(request, kind)]
    if not decided:
        ends = _seconds(request["metadata"]["creationTimestamp"]) + PENDING
    elif rest or done:
        ends = max(_seconds(c["lastUpdateTime"]) for c in decided) + DECIDED
    else:
        ends = float("inf")  # it waits for its signer
    wanted = bool(approved) and not rest and not done and spec.get("signerName") == CLIENT
    return Standing(unsigned=wanted, ends=ends)


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


class CertificateController(Controller[Key]):
    """Keys are names of requests, which have no namespace."""

    name = "certificates"

    def __init__(
        self, store: Store, informers: Informers, signer: CertificateSigner, clock: Clock
    ) -> None:
        super().__init__()
        self._store = store
        self._signer = signer
        self._clock = clock
        informers.of(RESOURCE, standing).subscribe(lambda change: self.enqueue(change.key))

    async def reconcile(self, key: Key) -> None:
        request = await self._store.get(RESOURCE, *key)
        found, left = standing(request), 0.0
        if found.unsigned:
            await self._sign(key, request)
        elif (left := found.ends - self._clock()) <= 0.0:
            await self._store.delete(RESOURCE, *key, uid=request["metadata"]["uid"])
        elif found.ends != float("inf"):
            self.enqueue(key, left)

    async def _sign(self, key: Key, request: Object) -> None:
        spec, uid = request["spec"], request["metadata"]["uid"]
        became: Object = {}
        try:
            certificate = await self._signer.sign(
                base64.b64decode(spec["request"]),
                spec.get("usages") or [],
                spec.get("expirationSeconds"),
            )
            became["certificate"] = base64.b64encode(certificate).decode()
        except InvalidSpec as e:
            failed = {
                "type": FAILED, "status": "True", "reason": "SignerValidationFailure", "message": e.message,
                "lastUpdateTime": now(), "lastTransitionTime": now(),
            }  # fmt: skip
            became["conditions"] = [*request["status"]["conditions"], failed]

        def signed(current: Object) -> Object | None:
            if current["metadata"]["uid"] != uid or not standing(current).unsigned:
                return None
            return {**current, "status": current["status"] | became}

        await self._store.mutate(RESOURCE, *key, signed, "status")
