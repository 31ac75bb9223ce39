"""The life of a sandbox: record, address, cgroup and namespaces, network, and all of it backwards.

Most pods find one that was prepared (`runtime.prepared_sandboxes`), whose record, address, namespaces and network are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from dataclasses import replace

from minipod.cgroups.hierarchy import Hierarchy
from minipod.errors import AlreadyExists, InvalidSpec, Unavailable
from minipod.linux import small_files
from minipod.network.network import Network
from minipod.runtime.furnishing import Furnishing
from minipod.runtime.making import Making
from minipod.runtime.prepared_sandboxes import Prepared, PreparedSandboxes
from minipod.runtime.sandbox_setup import Made, build
from minipod.runtime.service import Begun
from minipod.runtime.state import SandboxRecord, State, sandbox_status
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.runtime.threads import alone
from minipod.runtime.vault import Vault
from minipod.spec.bundle import SandboxBundle
from minipod.spec.container import Mount, Resources
from minipod.spec.ids import SandboxId
from minipod.spec.instance import Instance
from minipod.spec.sandbox import DnsConfig, NamespaceMode, SandboxSpec

RESOLV, HOSTNAME = "resolv.conf", "hostname"  # beside the record


class Sandboxes:
    """The verbs that make and unmake sandboxes. Containers in them are the caller's to stop first."""

    def __init__(
        self,
        instance: Instance,
        state: State,
        supervisor: SupervisorClient,
        network: Network,
        hierarchy: Hierarchy,
    ) -> None:
        self._instance = instance
        self._state = state
        self._supervisor = supervisor
        self._network = network
        self._hierarchy = hierarchy
        self._vault = Vault(f"{instance.run_dir}/vault")
        self._furnishing = Furnishing(hierarchy)
        self._stopped: set[SandboxId] = set()  # by this process: nothing is left to drop
        self.prepared = PreparedSandboxes(
            state, network, hierarchy, self._vault.path, discard=self.remove
        )

    def close(self) -> None:
        self._vault.close()
        self._furnishing.close()

    def cgroup(self, spec: SandboxSpec) -> str:
        return spec.cgroup(self._instance.cgroup_root)

    def _path(self, sandbox: SandboxId, name: str) -> str:
        return f"{self._state.run_dir}/sandboxes/{sandbox}.{name}"

    def own_mounts(self, record: SandboxRecord) -> tuple[Mount, ...]:
        """Return what each of its containers sees beside volumes: /etc/resolv.conf (the node's where none was asked for), /etc/hostname."""
        own = self._path(record.id, RESOLV)
        resolv = own if record.spec.dns is not None else "/etc/resolv.conf"
        mounts = (Mount(host_path=resolv, container_path="/etc/resolv.conf"),)
        hostname = self._path(record.id, HOSTNAME)
        if not os.path.exists(hostname):
            return mounts  # made by a minipod that did not write it yet
        return (*mounts, Mount(host_path=hostname, container_path="/etc/hostname"))

    async def run(
        self, spec: SandboxSpec, begun: Begun | None = None, *, fail_at: str = ""
    ) -> SandboxId:
        """Make it; what was made is undone when a step fails. Raises AlreadyExists for a second one of the same metadata, InvalidSpec.

        *begun* may have containers created in it while it is being made, see `making`.

        Without a supervisor nothing is undone: what it forked last may still be making a pin. The recovery undoes it.
        """
        self._refuse(spec)
        record, prepared = self._claimed(spec)
        sandbox = record.id
        self._state.building.add(sandbox)
        making = self._state.making[sandbox] = Making(sandbox, self._furnishing.is_done)
        set_up = None
        try:
            self._write_files(record)
            if spec.network is NamespaceMode.POD and not record.ips:
                record = replace(record, ips=await self._lease(sandbox))
            first = making.first if begun is not None else ""
            set_up = asyncio.ensure_future(
                self._made(self._bundle(record, fail_at), prepared, first)
            )
            if begun is not None:  # behind it: its thread waits for the kernel while the loop works
                begun(sandbox_status(record))
            record = await self._finish(record, await self._waited(set_up), making)
            self._state.put_sandbox(replace(record, ready=True))
            await making.end(failed=False)
            if first and not making.begun:  # nobody has taken it over
                self._hierarchy.remove_empty(f"{self.cgroup(spec)}/{first}")
        except BaseException:
            if prepared is not None and set_up is None:  # which closes it
                os.close(prepared.uts)
            await asyncio.shield(making.end(failed=True))
            if self._supervisor.connected:
                await asyncio.shield(self.remove(sandbox))
            raise
        finally:
            del self._state.making[sandbox]
            self._state.building.discard(sandbox)
        return sandbox

    def _refuse(self, spec: SandboxSpec) -> None:
        """Raise AlreadyExists or InvalidSpec for one that can't be made."""
        metadata = spec.metadata
        known = self._state.sandboxes_of(metadata.uid)
        if any(r.spec.metadata == metadata for r in known):
            raise AlreadyExists(
                f"sandbox {metadata.namespace}/{metadata.name} exists, attempt {metadata.attempt}",
                hint="remove it, or count attempt up",
            )
        if spec.userns is not None and NamespaceMode.NODE in (spec.network, spec.ipc, spec.pid):
            words = "a user namespace can't be had with the node's network, ipc or pid namespace"
            raise InvalidSpec(words, path="user")

    def _claimed(self, spec: SandboxSpec) -> tuple[SandboxRecord, Prepared | None]:
        """Write the record of one that is to be made, or that was prepared. Raises OSError: the run directory is full."""
        prepared = self.prepared.take(spec)
        sandbox = SandboxId(uuid.uuid4().hex) if prepared is None else prepared.id
        ips = () if prepared is None else prepared.ips
        record = SandboxRecord(id=sandbox, spec=spec, created_at=time.time(), ips=ips)
        try:
            self._state.put_sandbox(record)
        except OSError:
            if prepared is not None:
                self.prepared.put_back(prepared)
            raise
        return record, prepared

    async def _lease(self, sandbox: SandboxId) -> tuple[str, ...]:
        """Lease an address, if need be that of one that nobody has asked for. Raises Unavailable."""
        try:
            return self._network.lease(sandbox)
        except Unavailable:
            if not await self.prepared.free_address():
                raise
            return self._network.lease(sandbox)

    def _bundle(self, record: SandboxRecord, fail_at: str) -> SandboxBundle:
        spec = record.spec
        return SandboxBundle(
            id=record.id,
            title=f"{spec.metadata.namespace}/{spec.metadata.name}",
            hostname=spec.hostname,
            cgroup=self.cgroup(spec),
            resources=spec.pod_resources if spec.owns_cgroup else Resources(),
            network=spec.network,
            ipc=spec.ipc,
            userns=spec.userns,
            sysctls=spec.sysctls,
            shm_size=spec.shm_size,
            fail_at=fail_at,
        )

    async def _finish(self, record: SandboxRecord, made: Made, making: Making) -> SandboxRecord:
        making.pin()
        # Who waits for that asks the supervisor first, which works beside what follows.
        await asyncio.sleep(0)
        if made.network >= 0:
            try:
                await self._network.attach(record.id, made.network, record.spec.bandwidth)
            finally:
                os.close(made.network)
        if record.ips:
            await self._network.map_ports(record.id, record.ips, record.spec.port_mappings)
        return replace(record, namespaces=made.namespaces)

    async def _waited(self, building: asyncio.Task[Made]) -> Made:
        """Wait for it. Whoever is cancelled meanwhile waits for the end: no pin may be made behind the drop that follows."""
        try:
            return await asyncio.shield(building)
        except asyncio.CancelledError:
            await asyncio.wait({building})
            if building.exception() is None and building.result().network >= 0:
                os.close(building.result().network)
            raise

    async def _made(self, bundle: SandboxBundle, prepared: Prepared | None, first: str) -> Made:
        """In a thread, or by the supervisor: a process with threads can't unshare a user namespace."""
        if prepared is not None:
            try:
                await self._furnishing.furnish(bundle, prepared.uts, first)
            finally:
                os.close(prepared.uts)
            return Made(namespaces=prepared.namespaces)
        if bundle.userns is None:
            path = self._vault.path
            return await alone(lambda: build(bundle, self._hierarchy, path))
        answer, fds = await self._supervisor.request("sandbox", bundle=bundle)
        return Made(namespaces=answer["namespaces"], network=fds[0] if fds else -1)

    def _write_files(self, record: SandboxRecord) -> None:
        spec = record.spec
        files = {HOSTNAME: f"{spec.hostname}\n"}
        if spec.dns is not None:
            files[RESOLV] = resolv_conf(spec.dns)
        owner = -1 if spec.userns is None else spec.userns.first
        for name, text in files.items():
            small_files.create(self._path(record.id, name), text.encode(), uid=owner, gid=owner)

    async def update_resources(self, record: SandboxRecord, to: Resources) -> None:
        """Write new limits of the pod's cgroup, and remember them."""
        await asyncio.to_thread(self._hierarchy.update, self.cgroup(record.spec), to)
        self._state.put_sandbox(replace(record, spec=replace(record.spec, pod_resources=to)))

    def lost(self, sandbox: SandboxId) -> None:
        """Note that it can't be used any more: its pid namespace has ended. Idempotent."""
        record = self._state.sandboxes.get(sandbox)
        if record is not None and record.ready:
            self._state.put_sandbox(replace(record, ready=False, stopped=True))

    async def stop(self, sandbox: SandboxId) -> None:
        """Give the address back and drop the namespaces; the record stays. Idempotent."""
        record = self._state.sandboxes.get(sandbox)
        if record is None or sandbox in self._stopped:
            return
        if record.ready:
            self._state.put_sandbox(replace(record, ready=False, stopped=True))
        await asyncio.to_thread(self._vault.drop, sandbox)
        if record.spec.network is NamespaceMode.POD:
            await self._network.detach(sandbox)
        self._stopped.add(sandbox)

    def own_cgroup(self, sandbox: SandboxId) -> tuple[str, ...]:
        """Return the pod's cgroup where it goes with this sandbox: it is ours, and no other sandbox of the pod is left."""
        record = self._state.sandboxes.get(sandbox)
        if record is None or not record.spec.owns_cgroup:
            return ()
        cgroup = self.cgroup(record.spec)
        # The cgroup is named by the uid: a sandbox of another pod has another.
        of_pod = self._state.sandboxes_of(record.spec.metadata.uid)
        shared = any(r.id != sandbox and self.cgroup(r.spec) == cgroup for r in of_pod)
        return () if shared else (cgroup,)

    async def remove(self, sandbox: SandboxId, *, bare: bool = False) -> None:
        """Remove what is left of it; *bare*: its cgroup is gone. Idempotent."""
        if sandbox not in self._state.sandboxes:
            return
        await self.stop(sandbox)
        if not bare:
            for cgroup in self.own_cgroup(sandbox):
                await asyncio.to_thread(self._hierarchy.remove, cgroup)
        for name in (RESOLV, HOSTNAME):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(sandbox, name))
        self._state.drop_sandbox(sandbox)
        self._stopped.discard(sandbox)


def resolv_conf(dns: DnsConfig) -> str:
    """Return the text of /etc/resolv.conf (resolv.conf(5))."""
    lines = [f"nameserver {server}" for server in dns.servers]
    if dns.searches:
        lines.insert(0, f"search {' '.join(dns.searches)}")
    if dns.options:
        lines.append(f"options {' '.join(dns.options)}")
    return "".join(f"{line}\n" for line in lines)
