"""Start-up of the supervisor, from its configuration, one JSON object.

    {"instance": {...}, "pump": "module:function", "prober": "module:function" or "", "daemon": the same,
     "ready_fd": N or -1}

Steps: take the lock, mount the run directory, make the vault, become subreaper, listen, start the daemon. It takes longest to start,
so everything that it does not wait for comes after that, in `serving`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import sys
from typing import Any

from minipod.cgroups.hierarchy import of_node
from minipod.linux import mount, prctl, process
from minipod.linux.flags import MountFlag
from minipod.spec.instance import Instance
from minipod.supervisor import ANOTHER_RUNS, services
from minipod.supervisor.records import ServiceRecord, remove_service, write_service
from minipod.supervisor.server import Supervisor

logger = logging.getLogger("minipod.supervisor")


def prepare_run_directory(instance: Instance) -> None:
    """Mount a tmpfs of ours at the run directory: records must vanish with the boot, pins need a private mount."""
    os.makedirs(instance.run_dir, 0o700, exist_ok=True)
    if not os.path.exists(f"{instance.run_dir}/.mounted"):
        flags = MountFlag.MS_NOSUID | MountFlag.MS_NODEV
        mount.mount(instance.name, instance.run_dir, "tmpfs", flags, "mode=0700")
        mount.mount("", instance.run_dir, "", MountFlag.MS_PRIVATE)
        os.close(os.open(f"{instance.run_dir}/.mounted", os.O_CREAT | os.O_CLOEXEC, 0o600))
    for name in ("containers", "sandboxes", "stage"):
        os.makedirs(f"{instance.run_dir}/{name}", 0o700, exist_ok=True)


def open_vault(instance: Instance) -> int:
    """Open the mount namespace that holds the pins, made at the first start."""
    pin = f"{instance.run_dir}/vault"
    if not os.path.exists(pin):
        from minipod.init.vault import (
            make_vault,  # 10 ms, which no other start needs before the daemon's
        )

        make_vault(pin, f"{instance.run_dir}/stage")
    return os.open(pin, os.O_RDONLY | os.O_CLOEXEC)


def take_lock(instance: Instance) -> None:
    """Be the only supervisor of this instance; the lock lives as long as this process."""
    os.makedirs(instance.state_dir, 0o700, exist_ok=True)
    fd = os.open(
        f"{instance.state_dir}/supervisor.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("another supervisor of %s runs", instance.name)
        sys.exit(ANOTHER_RUNS)


def start_daemon(supervisor: Supervisor, config: dict[str, Any]) -> None:
    """Start the daemon, or take it over where it still runs."""
    if not config["daemon"]:
        return
    ready_fd = config["ready_fd"]
    keep = (ready_fd,) if ready_fd >= 0 else ()
    service = services.Service(
        name="daemon",
        run_dir=supervisor.instance.run_dir,
        spawn=lambda: services.fork_service(
            "minipod:[daemon]", config["daemon"], supervisor.instance, ready_fd, keep=keep
        ),
        ready_fd=ready_fd,
    )
    supervisor.services[service.name] = service
    if not supervisor.adopt_service(service):
        service.start()


def main() -> None:
    """Run the supervisor."""
    config = json.loads(sys.argv[1])
    instance = Instance.from_json(json.dumps(config["instance"]))
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO
    )
    os.chdir("/")
    os.umask(0o022)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        signal.signal(number, signal.SIG_DFL)  # whatever our starter ignored, no container shall
    # Handled: what is ignored here would be in containers.
    signal.signal(signal.SIGPIPE, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    process.reset_internal_signals()
    if config["ready_fd"] >= 0:
        os.set_inheritable(config["ready_fd"], False)
    take_lock(instance)
    prepare_run_directory(instance)
    hierarchy = of_node(instance.run_dir)
    hierarchy.settle(f"{instance.cgroup_root}/_node", instance.run_dir)
    prctl.set_child_subreaper(True)
    prctl.set_title("minipod:[supervisor]")
    own = ServiceRecord(pid=os.getpid(), start_time=process.start_time(os.getpid()))
    write_service(instance.run_dir, "supervisor", own)
    supervisor = Supervisor(instance, hierarchy, open_vault(instance))
    # three for each container; a shell gives 1024
    supervisor.nofile = process.raise_descriptor_limit()
    supervisor.listen()
    start_daemon(supervisor, config)  # its requests wait until we serve
    from minipod.supervisor.serving import serve  # only now: the daemon imports meanwhile

    serve(supervisor, config)
    # ended on purpose: nobody shall wait for another
    remove_service(instance.run_dir, "supervisor")
