"""All controllers of the node. A new one is a file, and a line in `controllers`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from minipod.aio.tasks import run_root
from minipod.api.certificates import CertificateSigner
from minipod.api.store import Store
from minipod.api.tokens import TokenIssuer
from minipod.controllers.certificates import CertificateController
from minipod.controllers.clusterroles import ClusterRoleController
from minipod.controllers.controller import Controller, Informers
from minipod.controllers.events import EventExpiry
from minipod.controllers.garbage import GarbageCollector
from minipod.controllers.kinds import Kinds
from minipod.controllers.namespaces import NamespaceController
from minipod.controllers.serviceaccounts import ServiceAccountController
from minipod.controllers.taints import TaintController
from minipod.controllers.token_secrets import TokenSecretController
from minipod.controllers.volumes import VolumeController


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What some controllers need beside the store."""

    tokens: TokenIssuer
    signer: CertificateSigner
    ca: str  # the API's CA certificate (PEM)
    claims: str  # where directories of claims are made


def controllers(
    store: Store, kinds: Kinds, informers: Informers, means: Means
) -> list[Controller[Any]]:
    """Make them."""
    return [
        NamespaceController(store, informers, kinds),
        ServiceAccountController(store, informers, means.ca),
        TokenSecretController(store, informers, means.tokens, means.ca),
        CertificateController(store, informers, means.signer, time.time),
        ClusterRoleController(store, informers),
        GarbageCollector(store, kinds),
        VolumeController(store, informers, means.claims),
        TaintController(store, informers),
    ]


async def run(store: Store, kinds: Kinds, means: Means) -> None:
    """Run all of them until cancelled."""
    informers = Informers(store)
    made = controllers(store, kinds, informers, means)
    events = EventExpiry(store, time.time)
    await run_root(
        ("informers", informers.run()), ("events", events.run()), *((c.name, c.run()) for c in made)
    )
