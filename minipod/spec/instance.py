"""One Instance value: every host-global name of a node derives from it (run and state directory,
cgroup root, bridge, veth prefix, nftables table, subnet, sockets).

Two instances of different name and subnet live side by side on one machine: tests, a second node,
a node beside a real kubelet. No I/O here: `minipod.daemon` and the CLI read the TOML file and flags.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import asdict, dataclass

from minipod.errors import InvalidSpec

_NAME = re.compile(r"[a-z]([a-z0-9]{0,8}[a-z0-9])?")  # leaves room for suffixes in IFNAMSIZ (15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The names and places of one node. The defaults are those of the node called `minipod`."""

    name: str = "minipod"
    run_root: str = "/run"  # a tmpfs of ours is mounted at run_dir, whatever /run is
    state_root: str = "/var/lib"
    log_root: str = "/var/log/pods"  # the kubelet's place; the default instance uses it as it is
    subnet4: str = "10.88.0.0/16"
    subnet6: str = "fd00:6d70:88::/64"
    node_name: str = ""  # "" = the host's name
    cluster_domain: str = "cluster.local"
    setup_deadline: float = 60.0  # seconds a sandbox, container or exec may take until it runs
    cluster_dns: tuple[str, ...] = ()  # none: ClusterFirst falls back to Default

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidSpec(
                f"{self.name!r} is not an instance name",
                path="name",
                hint="1 to 10 lower-case letters and digits, beginning with a letter",
            )

    @property
    def run_dir(self) -> str:
        """A tmpfs (0700) for what must outlive our processes, not the machine."""
        return f"{self.run_root}/{self.name}"

    @property
    def state_dir(self) -> str:
        """What must outlive a reboot: the store, images, leases of addresses are *not* here."""
        return f"{self.state_root}/{self.name}"

    @property
    def log_dir(self) -> str:
        """Pod logs, as `<log_dir>/<ns>_<pod>_<uid>/<container>/<restart>.log`."""
        return self.log_root if self.name == "minipod" else f"{self.state_dir}/log/pods"

    @property
    def api_socket(self) -> str:
        return f"{self.run_dir}/api.sock"

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

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Instance:
        fields = json.loads(text)
        fields["cluster_dns"] = tuple(fields["cluster_dns"])
        return cls(**fields)
