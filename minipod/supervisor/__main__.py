"""Start-up of the supervisor: `python -m minipod.supervisor CONFIG`, CONFIG one JSON object.

    {"instance": {...}, "pump": "module:function", "prober": "module:function" or "", "daemon": [argv] or [],
     "ready_fd": N or -1}

Steps: execute ourselves once more through a read-only mount of the interpreter (CVE-2019-5736), take the lock, mount the
run directory, make the vault, become subreaper, adopt, listen, start pump, prober and daemon, serve.
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
from minipod.init import child, isolation
from minipod.linux import mount, prctl, process
from minipod.linux.flags import AT, AT_FDCWD, MountAttr, MountFlag, OpenTree
from minipod.spec.instance import Instance
from minipod.supervisor import services
from minipod.supervisor.adopt import Adoption
from minipod.supervisor.records import ServiceRecord, remove_service, write_service
from minipod.supervisor.requests import Requests
from minipod.supervisor.server import Supervisor
from minipod.supervisor.setups import Setups, default_filter

logger = logging.getLogger("minipod.supervisor")

SEALED = "MINIPOD_SEALED_INTERPRETER"  # set in the environment once we run from the read-only mount


def seal_interpreter() -> None:
    """Run this program from a detached read-only mount of its interpreter.

    /proc/self/exe of every child then refers to that mount, so a container that re-executes it can never open the
    host's python for writing (EROFS).
    """
    if os.environ.get(SEALED) == "1":
        del os.environ[SEALED]
        return
    interpreter = os.path.realpath(sys.executable)
    fd = mount.open_tree(AT_FDCWD, interpreter, OpenTree.CLONE | OpenTree.CLOEXEC)
    mount.mount_setattr(fd, "", MountAttr.RDONLY | MountAttr.NOSUID, flags=AT.EMPTY_PATH)
    argv = [sys.executable, "-P", "-m", "minipod.supervisor", *sys.argv[1:]]
    os.execve(f"/proc/self/fd/{fd}", argv, {**os.environ, SEALED: "1"})


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
        isolation.make_vault(pin, f"{instance.run_dir}/stage")
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
        sys.exit(0)


def start_services(supervisor: Supervisor, adoption: Adoption, config: dict[str, Any]) -> None:
    """Start pump, prober and daemon, or take those over that still run."""
    instance = supervisor.instance
    run_dir = instance.run_dir
    ready_fd: int = config["ready_fd"]
    known = [
        services.Service(
            name="pump", run_dir=run_dir, spawn=lambda: supervisor.start_pump(config["pump"])
        )
    ]
    if config["prober"]:
        known.append(
            services.Service(
                name="prober",
                run_dir=run_dir,
                spawn=lambda: services.fork_service("minipod:[prober]", config["prober"], instance),
            )
        )
    if config["daemon"]:
        keep = (ready_fd,) if ready_fd >= 0 else ()
        known.append(
            services.Service(
                name="daemon",
                run_dir=run_dir,
                spawn=lambda: services.execute(config["daemon"], keep),
            )
        )
    for service in known:
        supervisor.services[service.name] = service
        if service.name == "pump" or not adoption.adopt_service(service):
            service.start()


def main() -> None:
    seal_interpreter()
    config = json.loads(sys.argv[1])
    instance = Instance.from_json(json.dumps(config["instance"]))
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO
    )
    os.chdir("/")
    os.umask(0o022)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        signal.signal(number, signal.SIG_DFL)  # whatever our starter ignored, no container shall
    signal.signal(
        signal.SIGPIPE, lambda *_: None
    )  # handled: what is ignored would be in containers
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
    setups = Setups(supervisor)
    Requests(supervisor, setups)
    supervisor.listen()
    adoption = Adoption(supervisor, setups)
    adoption.adopt_all()
    default_filter()
    child.warm_up()
    start_services(supervisor, adoption, config)
    supervisor.run()
    remove_service(
        instance.run_dir, "supervisor"
    )  # ended on purpose: nobody shall wait for another


if __name__ == "__main__":
    main()
