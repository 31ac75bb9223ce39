"""All controllers of the node. A new one is a file, and a line in `controllers`."""

from __future__ import annotations

import time
from typing import Any

from minipod.aio.tasks import run_root
from minipod.api.store import Store
from minipod.api.tokens import TokenIssuer
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


def controllers(
    store: Store, kinds: Kinds, informers: Informers, tokens: TokenIssuer, ca: str, claims: str
) -> list[Controller[Any]]:
    """Make them; *ca* is the API's CA certificate (PEM), *claims* where directories of claims are made."""
    return [
        NamespaceController(store, informers, kinds),
        ServiceAccountController(store, informers, ca),
        TokenSecretController(store, informers, tokens, ca),
        ClusterRoleController(store, informers),
        GarbageCollector(store, kinds),
        VolumeController(store, informers, claims),
        TaintController(store, informers),
    ]


async def run(store: Store, kinds: Kinds, tokens: TokenIssuer, ca: str, claims: str) -> None:
    """Run all of them until cancelled."""
    informers = Informers(store)
    made = controllers(store, kinds, informers, tokens, ca, claims)
    events = EventExpiry(store, time.time)
    await run_root(
        ("informers", informers.run()), ("events", events.run()), *((c.name, c.run()) for c in made)
    )
