"""The node as a systemd service: its unit, how it says that it is ready, and what a stop means.

Supervisor and containers live in a scope of their own, delegated to us, and not in the service's cgroup: with containers below
it systemd could not start the service again (219/CGROUP: a cgroup that hands controllers down takes no process, cgroup-v2.rst).
KillMode=process leaves them alone. ExecStop tells a restart (pods live on, the next start adopts them) from a stop or shutdown
(pods end gracefully) by the job that systemd has queued for the unit.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket

from minipod.errors import FailedPrecondition, Internal
from minipod.spec.instance import Instance

CGROUP2 = "/sys/fs/cgroup"
DIRECTORY = "/etc/systemd/system"

UNIT = """\
[Unit]
Description=minipod node {name}
Documentation=https://kubernetes.io/docs/concepts/workloads/pods/
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} up --foreground
ExecStop={command} down --by-systemd
KillMode=process
OOMScoreAdjust=-999
LimitNOFILE=1048576
TasksMax=infinity
Restart=on-failure
TimeoutStartSec=4min
TimeoutStopSec=10min

[Install]
WantedBy=multi-user.target
"""


def scoped(instance: Instance, argv: list[str]) -> list[str]:
    """Return how to start *argv* in the node's scope: as it is where there is no systemd with cgroup v2, or the scope exists.

    A supervisor enters an existing scope by itself (`Hierarchy.settle`).
    """
    if not (
        os.path.isdir("/run/systemd/system") and os.path.exists(f"{CGROUP2}/cgroup.controllers")
    ):
        return argv
    from minipod.cgroups.hierarchy import of_node  # ctypes: not for every verb

    hierarchy = of_node(instance.run_dir)
    if hierarchy.unified is not None and hierarchy.unified.base:
        return argv
    program = shutil.which("systemd-run")
    if program is None:
        return argv
    return [
        program, "--scope", "--quiet", "--collect", f"--unit=minipod-pods-{instance.name}",
        "--property=Delegate=yes", f"--property=Before={unit_name(instance)}",  # it stops after the service
        f"--description=Pods of minipod node {instance.name}", "--", *argv,
    ]  # fmt: skip


def unit_name(instance: Instance) -> str:
    return "minipod.service" if instance.name == "minipod" else f"minipod-{instance.name}.service"


def unit(instance: Instance, program: str, config_file: str | None) -> str:
    """Return the unit file's text; *program* is the absolute path of minipod."""
    words = [program]
    if instance.name != "minipod":
        words += ["--instance", instance.name]
    if config_file:
        words += ["--config", os.path.abspath(config_file)]
    return UNIT.format(name=instance.name, command=shlex.join(words))


def install(instance: Instance, program: str, config_file: str | None) -> str:
    """Write the unit and tell systemd; return the unit's name. Raises FailedPrecondition where systemd is not process 1."""
    require_systemd()
    name = unit_name(instance)
    with open(f"{DIRECTORY}/{name}", "w", encoding="utf-8") as f:
        f.write(unit(instance, program, config_file))
    _systemctl("daemon-reload")
    return name


def enable(instance: Instance) -> None:
    """Start it, now and at every boot. Raises Internal with systemd's words."""
    _systemctl("enable", "--now", unit_name(instance))


def uninstall(instance: Instance) -> str:
    """Stop and disable the service and remove its unit. Idempotent."""
    require_systemd()
    name = unit_name(instance)
    if os.path.exists(f"{DIRECTORY}/{name}"):
        _systemctl("disable", "--now", name)
        os.unlink(f"{DIRECTORY}/{name}")
        _systemctl("daemon-reload")
    return name


def require_systemd() -> None:
    """Raises FailedPrecondition."""
    if not os.path.isdir("/run/systemd/system"):
        raise FailedPrecondition(
            "systemd is not process 1 of this machine", hint="start the node by hand: minipod up"
        )


def restarting(instance: Instance) -> bool:
    """Tell whether the stop under way is the first half of a restart."""
    for line in _systemctl("list-jobs", "--no-legend", "--plain").splitlines():
        words = line.split()  # id unit type state
        if words[1:2] == [unit_name(instance)]:
            return words[2] in ("restart", "try-restart")
    return False


def notify_ready() -> None:
    """Tell systemd, where it started us, that the node is ready (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(address.replace("@", "\0", 1))
            sock.send(b"READY=1")


def _systemctl(*words: str) -> str:
    import subprocess  # slow to load

    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Internal(f"systemctl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
