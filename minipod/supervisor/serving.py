"""The second half of the supervisor's start, beside the daemon's: what has the imports that take long.

Steps: adopt, start pump and prober, serve.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from typing import Any, Final

from minipod.init import child
from minipod.init.identity import compile_default_filter
from minipod.init.launch import Launcher
from minipod.linux import process
from minipod.supervisor import services
from minipod.supervisor.adopt import Adoption
from minipod.supervisor.exec_page import ExecPage
from minipod.supervisor.requests import Requests
from minipod.supervisor.server import Supervisor
from minipod.supervisor.setups import Setups

logger = logging.getLogger("minipod.supervisor")


def start_services(supervisor: Supervisor, config: dict[str, Any]) -> None:
    """Start the pump, and the prober, or take that over where it still runs."""
    instance = supervisor.instance
    pump = services.Service(
        name="pump", run_dir=instance.run_dir, spawn=lambda: supervisor.start_pump(config["pump"])
    )
    supervisor.services[pump.name] = pump
    pump.start()
    if not config["prober"]:
        return
    prober = services.Service(
        name="prober",
        run_dir=instance.run_dir,
        spawn=lambda: services.fork_service("minipod:[prober]", config["prober"], instance),
    )
    supervisor.services[prober.name] = prober
    if not supervisor.adopt_service(prober):
        prober.start()


TURN: Final = 1e-4  # seconds: most of what it is asked for takes less, and somebody waits for it


def launcher(vault_fd: int, stage: str) -> Launcher | None:
    """Return what makes containers and execs by the short way, where this machine has it."""
    try:
        return Launcher(vault_fd, stage)
    except OSError as e:
        logger.info("containers and execs take the long way: %s", e)
        return None


def serve(supervisor: Supervisor, config: dict[str, Any]) -> None:
    """Take over what there is, start what is missing, and serve until the end."""
    execs = ExecPage(f"{supervisor.instance.run_dir}/execs")
    orphans = execs.take_all()
    setups = Setups(supervisor, execs)
    Requests(supervisor, setups)
    adoption = Adoption(supervisor, setups)
    adoption.adopt_all()
    adoption.end_execs(orphans)
    compile_default_filter()
    supervisor.hierarchy.keep_usual_devices()
    stage = f"{supervisor.instance.run_dir}/stage"
    setups.launcher = launcher(supervisor.vault_fd, stage)
    # here: an import after the fork copies the pages of every name it knows
    importlib.import_module(config["pump"].partition(":")[0])
    child.warm_up()
    start_services(supervisor, config)
    with contextlib.suppress(OSError):  # a sandbox that forbids it
        process.shorten_turns(TURN)
    supervisor.run()
