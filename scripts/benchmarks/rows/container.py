"""One container in a sandbox that is there: create, start /bin/true, exit, delete."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.bench import IMAGE, Bench
from benchmarks.peers import containerd, oci
from benchmarks.row import Figure, Once, Row
from minipod import config
from minipod.cgroups.hierarchy import Mode, detect, of_node
from minipod.daemon import node
from minipod.network.network import Network
from minipod.runtime.runtime import Runtime
from minipod.runtime.service import EventType
from minipod.spec.container import ContainerSpec
from minipod.spec.ids import ContainerId, SandboxId
from minipod.spec.instance import Instance
from minipod.spec.sandbox import SandboxMetadata, SandboxSpec

FIGURE = "create, start, exit, delete"
BARE = f"{FIGURE}, nothing prepared"
REST = 0.1  # seconds between two containers: as the node's daemon does, the next one's root is mounted then, and the trash is emptied
SPEC = ContainerSpec(name="c", image=IMAGE, command=("/bin/true",), log_path="c.log")


@contextmanager
def supervisor(instance: Instance) -> Iterator[None]:
    """A supervisor with a pump and without a daemon: this process stands for the daemon."""
    wanted = {
        "instance": dataclasses.asdict(instance), "pump": node.PUMP, "prober": "", "daemon": "", "ready_fd": -1,
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "minipod.supervisor", json.dumps(wanted)]
    started = None
    try:
        os.makedirs(instance.state_dir, 0o700, exist_ok=True)
        with open(f"{instance.state_dir}/minipod.log", "w", encoding="utf-8") as f:
            # No Ctrl-C while it is started and not known yet: nobody would end it.
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True
            )
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
        yield
    finally:
        if started is not None:
            started.terminate()
            started.wait()
        node.reset_node(instance)


async def connect(instance: Instance, bench: Bench, *, prepared: bool) -> tuple[Runtime, Network]:
    """Return a runtime of this process, connected, and its network. *prepared*: it makes what the next container needs in idle."""
    deadline = time.monotonic() + node.START_DEADLINE
    while not os.path.exists(instance.supervisor_socket):
        if time.monotonic() > deadline:
            raise RuntimeError("the supervisor does not start")
        await asyncio.sleep(0.02)
    network = Network(instance)
    await network.start()
    runtime = Runtime(instance, of_node(instance.run_dir), network, bench.store(), lambda: None)
    await runtime.connect()
    if prepared:
        runtime.prepare(instance.prepared_sandboxes)
    return runtime, network


async def close(runtime: Runtime, network: Network) -> None:
    await runtime.give_back()
    runtime.close()
    await network.stop()


async def one(runtime: Runtime, sandbox: SandboxId, *, early: bool) -> float:
    """Return the milliseconds of one container. *early*: ask for its start while it is being created, as `kubelet.starting` does."""
    ended = asyncio.Event()

    def event(happened: object) -> None:
        if getattr(happened, "type", None) is EventType.CONTAINER_EXITED:
            ended.set()

    starts: list[asyncio.Future[None]] = []

    def begun(container: ContainerId) -> None:
        starts.append(asyncio.ensure_future(runtime.start_container(container)))

    unsubscribe = runtime.subscribe(event)
    begin = time.perf_counter()
    container = await runtime.create_container(sandbox, SPEC, begun=begun if early else None)
    await (asyncio.gather(*starts) if early else runtime.start_container(container))
    await ended.wait()
    await runtime.remove_container(container)
    took = (time.perf_counter() - begin) * 1e3
    unsubscribe()
    await asyncio.sleep(REST)
    return took


@contextmanager
def cycles(bench: Bench, name: str, *, as_kubelet: bool) -> Iterator[Callable[[], float]]:
    """A supervisor, a runtime and a sandbox of their own; yield what makes one container there."""
    instance = config.load(name=name).instance
    loop = asyncio.new_event_loop()
    with supervisor(instance):
        runtime, network = loop.run_until_complete(connect(instance, bench, prepared=as_kubelet))
        spec = SandboxSpec(
            metadata=SandboxMetadata(name="s", namespace="default", uid="u"),
            hostname="s",
            log_directory=f"{instance.state_dir}/log",
            cgroup_parent="pod",
        )
        os.makedirs(spec.log_directory)
        sandbox = loop.run_until_complete(runtime.run_pod_sandbox(spec))
        yield lambda: loop.run_until_complete(one(runtime, sandbox, early=as_kubelet))
        loop.run_until_complete(runtime.stop_pod_sandbox(sandbox))
        loop.run_until_complete(runtime.remove_pod_sandbox(sandbox))
        loop.run_until_complete(close(runtime, network))
    loop.close()


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    bench.node()  # for its images
    own = f"{os.getpid():x}"
    with (
        cycles(bench, f"c{own}", as_kubelet=True) as usual,
        cycles(bench, f"d{own}", as_kubelet=False) as bare,
    ):
        yield lambda: {FIGURE: usual(), BARE: bare()}


ROW = Row(
    title="A container: create, start /bin/true, exit, delete",
    figures=(
        Figure(FIGURE, aim=6 if detect().mode is Mode.V2 else 9),  # a tree each on v1
        Figure(BARE),
    ),
    sides={
        "minipod": minipod,
        "runc": oci.cycles("runc"),
        "crun": oci.cycles("crun"),
        "containerd": containerd.containers,
        "ctr run": containerd.ctr_run,
    },
    runs=50,
    note="minipod: the runtime's verbs in a running process, in a sandbox that is there (as containerd's: CreateContainer, "
    "StartContainer, exit, RemoveContainer), called as the kubelet calls them: the start is asked for during the creation, and in "
    "the tenth of a second between two containers the next one's root is mounted and the trash emptied, as the node's daemon does."
    " Nothing prepared: one verb after the other, and the root is made and mounted in between. `runc run`, `crun run` and `ctr "
    "run` are programs that start anew for each container and make all namespaces.",
)
