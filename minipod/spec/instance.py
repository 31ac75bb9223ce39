"""One Instance value: every host-global name of a node derives from it (run and state directory,
cgroup root, bridge, veth prefix, nftables table, subnet, sockets).

Two instances of different name and subnet live side by side on one machine: tests, a second node,
a node beside a real kubelet. No I/O here: `minipod.daemon` and the CLI read the TOML file and flags.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass

from minipod.errors import InvalidSpec
from minipod.spec.endpoint import RUN_ROOT, Endpoint, is_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance(Endpoint):
    """The names, places and limits of one node. The defaults are those of the node called `minipod`.

    A field's comment is what docs/settings.md says of it.
    """

    name: str = "minipod"  # by --instance, not in the file
    face: str = "kubernetes"  # what the daemon serves; "cri" for `minipod cri`
    run_root: str = RUN_ROOT  # run_root/NAME is a tmpfs of ours: sockets, records
    state_root: str = "/var/lib"  # state_root/NAME: the store, images, volumes
    log_root: str = "/var/log/pods"  # the node called minipod logs here, others below state_root
    subnet4: str = "10.88.0.0/16"  # the pods' addresses; the first one is the node's
    subnet6: str = "fd00:6d70:88::/64"  # the same for IPv6
    node_name: str = ""  # "" = the host's name
    cluster_domain: str = "cluster.local"  # of the pods' search domains and full host names
    setup_deadline: float = 60.0  # seconds a sandbox, container or exec may take until it runs
    # directory of static pods; "" = /etc/minipod/manifests, of a node of another name state_root/NAME/manifests
    static_pods: str = ""
    log_max_bytes: int = 10 << 20  # a container's log is rotated from this size on; 0 = never
    # log files that are kept of a container, the one that is written included
    log_max_files: int = 5
    # name servers for dnsPolicy ClusterFirst; none: such pods get the node's, as with Default, and an event says so
    cluster_dns: tuple[str, ...] = ()
    # that pods may set beside the safe ones; "net.core.*" allows all below
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    reserved_cpu: str = "0"  # a quantity that pods do not get: system, kubelet and runtime together
    reserved_memory: str = "0"  # as much memory
    max_pods: int = 110  # pods that the node takes, as the kubelet's maxPods
    prepared_sandboxes: int = 4  # sandboxes made while the node is idle, for the next pods
    eviction_memory: int = 100 << 20  # bytes of available memory below which pods are evicted
    eviction_disk: int = 10  # percent of the disk below which pods are evicted
    eviction_inodes: int = 5  # percent of its inodes below which they are
    eviction_interval: float = 10.0  # seconds between looks at the disk
    eviction_transition: float = 300.0  # seconds that the node's condition outlives the shortage
    # that a RuntimeClass may name; all mean this runtime
    runtime_handlers: tuple[str, ...] = ("minipod",)
    image_layer_max: int = 64 << 30  # bytes that one layer may unpack to
    image_layer_entries: int = 4_000_000  # files that one layer may have
    image_devices: bool = True  # whether layers may hold device nodes
    image_absolute_names: bool = True  # whether names in layers may begin with a slash
    image_gc_high: int = 85  # percent of the disk at which unused images go
    image_gc_low: int = 80  # percent of the disk at which enough of them have gone
    image_gc_min_age: float = 120.0  # seconds that an image stays, whatever the disk says
    image_gc_max_age: float = 0.0  # seconds after which an unused image goes; 0: never
    registries: str = "/etc/minipod/registries"  # REGISTRY/hosts.toml and config.json (credentials)
    secure_port: int = 0  # TCP, of the API; 0 = 6443, for another name derived from it
    api_addresses: tuple[str, ...] = ()  # where the API listens besides 127.0.0.1 and the gateway
    # the first of the host's ids for pods with hostUsers: false, 65536 each; above those of systemd and adduser (systemd's UIDS-GIDS)
    userns_first: int = 0x7000_0000
    userns_pods: int = 1024  # how many such pods there may be

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise InvalidSpec(
                f"{self.name!r} is not an instance name",
                path="name",
                hint="1 to 10 lower-case letters and digits, beginning with a letter",
            )
        if self.face not in ("kubernetes", "cri"):
            raise InvalidSpec(f"{self.face!r} is neither kubernetes nor cri", path="face")
        if self.prepared_sandboxes not in range(101):
            words = f"{self.prepared_sandboxes!r} is not a number from 0 to 100"
            raise InvalidSpec(words, path="prepared_sandboxes")
        if self.secure_port not in range(65536):
            raise InvalidSpec(f"{self.secure_port!r} is not a TCP port", path="secure_port")
        last = self.userns_first + (self.userns_pods << 16)
        if self.userns_first % (1 << 16) or not 1 << 16 <= self.userns_first < last <= 1 << 32:
            raise InvalidSpec(
                f"{self.userns_first} and {self.userns_pods} are no ranges of 65536 ids above the host's",
                path="userns_first",
                hint="a multiple of 65536, of subordinate ids that nobody else has",
            )
        for name in ("eviction_disk", "eviction_inodes"):
            if getattr(self, name) not in range(101):
                raise InvalidSpec(f"{getattr(self, name)!r} is not a percentage", path=name)
        if not 0 <= self.image_gc_low < self.image_gc_high <= 100:
            raise InvalidSpec(
                f"{self.image_gc_low} is not below image_gc_high ({self.image_gc_high}), both percents",
                path="image_gc_low",
            )

    @property
    def state_dir(self) -> str:
        """What must outlive a reboot: the store, images, leases of addresses are *not* here."""
        return f"{self.state_root}/{self.name}"

    @property
    def log_dir(self) -> str:
        """Pod logs, as `<log_dir>/<ns>_<pod>_<uid>/<container>/<restart>.log`."""
        return self.log_root if self.name == "minipod" else f"{self.state_dir}/log/pods"

    @property
    def seccomp_dir(self) -> str:
        """Where Localhost profiles are, like /var/lib/kubelet/seccomp."""
        return f"{self.state_dir}/seccomp"

    @property
    def static_pod_dir(self) -> str:
        """Where the manifests of static pods are."""
        own = "/etc/minipod" if self.name == "minipod" else self.state_dir
        return self.static_pods or f"{own}/manifests"

    @property
    def log_link_dir(self) -> str:
        """Where log collectors look: a symlink for each container's log."""
        return os.path.join(os.path.dirname(self.log_dir), "containers")

    @property
    def cri_socket(self) -> str:
        """Where `minipod cri` serves."""
        return f"{self.run_dir}/cri.sock"

    @property
    def api_port(self) -> int:
        """The TCP port of the API. Below the ephemeral ports (ip_local_port_range), or a client's socket could hold it."""
        if self.secure_port:
            return self.secure_port
        return 6443 if self.name == "minipod" else 16384 + zlib.crc32(self.name.encode()) % 16384

    @property
    def gateways(self) -> tuple[str, str]:
        """The node's addresses on the pods' bridge, IPv4 and IPv6: pods reach the API at the first."""
        from ipaddress import ip_network  # 5 ms, which the command line need not pay

        v4, v6 = (ip_network(subnet)[1] for subnet in (self.subnet4, self.subnet6))
        return str(v4), str(v6)

    @property
    def kubeconfig(self) -> str:
        """The administrator's kubeconfig."""
        return f"{self.state_dir}/kubeconfig"

    @property
    def supervisor_socket(self) -> str:
        return f"{self.run_dir}/supervisor.sock"

    @property
    def cgroup_root(self) -> str:
        """The node's cgroup below each hierarchy's root (or below the delegated one)."""
        return self.name

    @property
    def bridge(self) -> str:
        return f"{self.name}0"

    @property
    def link_prefix(self) -> str:
        """Host ends of veth pairs are `<prefix><8 hex>`: 14 of the 15 bytes of an interface name."""
        return f"mp{zlib.crc32(self.name.encode()) & 0xFFFF:04x}"

    @property
    def nft_table(self) -> str:
        return self.name

    @classmethod
    def from_json(cls, text: str) -> Instance:
        fields = json.loads(text)
        lists = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
        return cls(**(fields | lists))
