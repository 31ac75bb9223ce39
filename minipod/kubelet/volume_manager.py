"""When the volumes of one pod are made, used and brought up to date (K8S pkg/kubelet/volumemanager); how, is in `volumes`.

    begin   for the sandbox: what the pod lacks keeps it from being made
    take    for a container: those that were begun, or what is there by now; with all that is in them
    refresh while containers run: an object, the labels or a token that a volume shows has changed

Owns what the mounted volumes show. Beside them, in the pod's directory, is its hosts file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition
from minipod.kubelet import userns
from minipod.kubelet.addresses import node_facts
from minipod.kubelet.rules import dns
from minipod.kubelet.tokens import PodTokens
from minipod.kubelet.volumes.setup import PodVolumes, Volumes, follows
from minipod.linux import small_files

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Pod
    from minipod.kubelet.volumes import PodDirectory


class VolumeManager:
    """See the module; one for each pod. Failures are FailedPrecondition, in the kubelet's words."""

    def __init__(self, context: Context, directory: PodDirectory) -> None:
        self._context = context
        self._directory = directory
        tokens = PodTokens(context.tokens, context.clock)
        self._volumes = PodVolumes(directory, context.objects, tokens, context.machine.memory)
        self._shown: object = None  # what the mounted volumes show, beside objects
        self._begun: Volumes | None = None  # for the sandbox, not yet used by a container

    @property
    def refresh_at(self) -> float | None:
        """When a token must be replaced."""
        return self._volumes.refresh_at

    @property
    def begun(self) -> Volumes:
        """Those that `begin` made: their directories are there, not yet all that is in them."""
        return self._begun or {}

    def objects_changed(self) -> None:
        """An object that the pod refers to changed: its volumes must follow."""
        self._shown = self._begun = None

    def forget_begun(self) -> None:
        """Time has passed: who starts looks again."""
        self._begun = None

    async def begin(self, pod: Pod) -> None:
        """Begin them for a sandbox. Raises FailedPrecondition, Unavailable, Internal."""
        self._begun = await self._make(pod, None)

    async def take(self, pod: Pod, observed: Observed) -> Volumes:
        """Return the volumes for a container that starts, filled. Raises FailedPrecondition, Unavailable, Internal."""
        volumes, self._begun = self._begun, None
        if volumes is None:
            volumes = await self._make(pod, observed)
        await self._volumes.fill(pod)
        return volumes

    def is_outdated(self, pod: Pod) -> bool:
        """Whether what running containers have mounted may show what is no more."""
        token_at = self.refresh_at
        due = token_at is not None and self._context.clock() >= token_at
        return follows(pod) and (due or self._shown != _shows(pod))

    async def refresh(self, pod: Pod, observed: Observed) -> None:
        """Bring that up to date. Raises FailedPrecondition, Unavailable, Internal."""
        self._shown = _shows(pod)
        self._own_users(pod)
        try:
            await self._volumes.refresh(pod, node_facts(pod, observed.sandbox, self._context))
        except FailedPrecondition:
            self._shown = None
            raise

    def write_hosts(self, pod: Pod, observed: Observed) -> None:
        """Write the pod's /etc/hosts, with the addresses of its sandbox. Raises OSError."""
        node_hosts = small_files.read("/etc/hosts").decode() if pod.host_network else ""
        ips = observed.sandbox.ips if observed.sandbox is not None else ()
        text = dns.hosts_file(pod, ips, self._context.cluster.domain, node_hosts)
        self._directory.write_hosts(text)

    async def _make(self, pod: Pod, observed: Observed | None) -> Volumes:
        self._own_users(pod)
        sandbox = None if observed is None else observed.sandbox
        made = await self._volumes.begin(pod, node_facts(pod, sandbox, self._context))
        self._shown = _shows(pod)
        return made

    def _own_users(self, pod: Pod) -> None:
        """hostUsers: false: find out which ids are the pod's. Raises Unavailable, Internal."""
        if not pod.host_users and self._directory.userns is None:
            self._directory.userns = userns.assign(self._context.instance, pod.uid)


def _shows(pod: Pod) -> tuple[object, ...]:
    """What volumes can show of the pod itself."""
    return pod.labels, pod.annotations
