"""What every actor of the kubelet works with: one frozen value, wired once by `kubelet.Kubelet`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from minipod.aio.spares import Spares
    from minipod.aio.timers import Clock
    from minipod.aio.trash import Trash
    from minipod.api.store import Store
    from minipod.api.tokens import TokenIssuer
    from minipod.journal import Journal
    from minipod.kubelet.admission import Admission
    from minipod.kubelet.dns_host import HostDns
    from minipod.kubelet.events import EventRecorder
    from minipod.kubelet.node import Machine
    from minipod.kubelet.objects import ObjectReader
    from minipod.kubelet.probe.manager import ProbeManager
    from minipod.kubelet.rules.dns import Cluster
    from minipod.kubelet.rules.eviction import Eviction
    from minipod.kubelet.status_manager import StatusManager
    from minipod.runtime.service import ImageService, RuntimeService
    from minipod.spec.instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The services, and the facts of the node."""

    instance: Instance
    store: Store
    runtime: RuntimeService
    images: ImageService
    recorder: EventRecorder
    statuses: StatusManager
    probes: ProbeManager
    journal: Journal
    trash: Trash
    spares: Spares
    objects: ObjectReader
    tokens: TokenIssuer | None
    admission: Admission
    machine: Machine
    api_address: str  # where a pod reaches the API server
    cluster: Cluster
    host_dns: HostDns
    clock: Clock
    jitter: Callable[[], float]  # 1.0 .. 1.5, spreads retries
    evict: Callable[[str, Eviction], None]  # end the pod of this uid: another needs its room
