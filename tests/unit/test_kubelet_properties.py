"""What must hold whatever happens: random pods, random exits, probe results, deletes, image changes and restarts of the
daemon, in virtual time. Excluded: the kernel; the prober, whose results are put in."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from minipod.errors import NotFound
from minipod.kubelet.probe.targets import Report
from minipod.kubelet.rules.probe import ProbeKind, ProbeResult
from minipod.kubelet.stopping import GONE_GRACE, MINIMUM_GRACE
from minipod.runtime.service import ContainerState
from tests.fakes.kubelet import Node, clock, running
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import FakeStore

UID = "uid-web"
PROBE = {"tcpSocket": {"port": 80}}
IMAGES = ("busybox:1.36", "busybox:2")
TERMINAL = ("Succeeded", "Failed")

names = {"initContainers": ("i0", "side", "i1"), "containers": ("a0", "a1")}


@st.composite
def containers(draw, name: str):
    made = {"name": name, "image": IMAGES[0]}
    init = name.startswith("i")
    if name == "side":
        made["restartPolicy"] = "Always"
    elif draw(st.booleans()) and not init:
        made["restartPolicy"] = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
        action = draw(st.sampled_from(["Restart", "RestartAllContainers"]))
        if draw(st.booleans()):
            codes = {"operator": "In", "values": [3]}
            made["restartPolicyRules"] = [{"action": action, "exitCodes": codes}]
    if not init:
        for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
            if draw(st.integers(0, 3)) == 0:
                made[kind] = PROBE
        if draw(st.integers(0, 3)) == 0:
            hook = {"sleep": {"seconds": draw(st.integers(0, 40))}}
            made["lifecycle"] = {draw(st.sampled_from(["preStop", "postStart"])): hook}
    return made


@st.composite
def specs(draw):
    spec = {
        "restartPolicy": draw(st.sampled_from(["Always", "OnFailure", "Never"])),
        "terminationGracePeriodSeconds": draw(st.sampled_from([0, 5, 30])),
    }
    if draw(st.integers(0, 5)) == 0:
        spec["activeDeadlineSeconds"] = draw(st.integers(1, 200))
    for group, known in names.items():
        chosen = [n for n in known if draw(st.booleans())]
        if group == "containers" and not chosen:
            chosen = ["a0"]
        spec[group] = [draw(containers(n)) for n in chosen]
    return spec


every = [*names["initContainers"], *names["containers"]]
OPERATIONS = st.one_of(
    st.tuples(st.just("exit"), st.sampled_from(every), st.sampled_from([0, 1, 3])),
    st.tuples(st.just("exit"), st.sampled_from(names["initContainers"]), st.just(0)),
    st.tuples(
        st.just("probe"), st.sampled_from(["side", "a0", "a1"]),
        st.tuples(st.sampled_from(list(ProbeKind)), st.sampled_from(list(ProbeResult))),
    ),
    st.tuples(st.just("exit"), st.sampled_from(names["containers"]), st.sampled_from([0, 1, 3])),
    st.tuples(st.just("delete"), st.none(), st.sampled_from([0, 1, 3, 20, None])),
    st.tuples(st.just("image"), st.sampled_from(every), st.sampled_from(IMAGES)),
    st.tuples(st.just("restart"), st.none(), st.none()),
    st.tuples(st.just("deafen"), st.sampled_from(every), st.none()),
)  # fmt: skip
STEPS = st.lists(
    st.tuples(OPERATIONS, st.sampled_from([0.0, 0.5, 3.0, 3.0, 15.0, 400.0])), max_size=12
)


# What the first instances of a container exit with, each after a second; then they run on.
ENDS = st.fixed_dictionaries(
    {
        "i0": st.sampled_from([[0], [0, 0], [1, 0], []]),
        "i1": st.sampled_from([[0], [0], [1, 1, 0], []]),
        "side": st.sampled_from([[], [], [1], [0, 0]]),
        "a0": st.sampled_from([[], [], [0], [1, 3]]),
        "a1": st.sampled_from([[], [], [3], [0]]),
    }
)


@dataclass
class World:
    """One pod on one node, and its deletes (time, grace)."""

    node: Node
    spec: dict
    deletes: list[tuple[float, float]] = field(default_factory=list)

    def statuses(self) -> list[dict]:
        events = [e for e in self.node.store._log if e.resource == "pods" and e.name == "web"]
        return [e.object.get("status") or {} for e in events]

    def running(self) -> list[str]:
        found = self.node.runtime.containers.items()
        return [key for key, c in found if c.state is ContainerState.RUNNING]

    async def do(self, what: str, name: str | None, value) -> None:
        runtime, store, grace = self.node.runtime, self.node.store, self.spec_grace
        if what == "exit":
            for key in [k for k in self.running() if runtime.containers[k].spec.name == name]:
                runtime._exit(key, value)
        elif what == "probe":
            for key in [k for k in self.running() if runtime.containers[k].spec.name == name]:
                report = Report(
                    pod_uid=UID, container=name, kind=value[0], container_id=key, result=value[1]
                )
                self.node.kubelet.context.probes._receive(report)
        elif what == "delete":
            given = grace if value is None else float(value)
            self.deletes.append((clock(), given if value != 0 else GONE_GRACE))
            await forgive(store.delete("pods", "default", "web", grace_period=value))
        elif what == "image":
            await forgive(
                store.mutate("pods", "default", "web", lambda o: with_image(o, name, value))
            )
        elif what == "deafen":
            runtime.ignores.add(name)

    @property
    def spec_grace(self) -> float:
        return float(self.spec["terminationGracePeriodSeconds"])


def with_image(obj: dict, name: str | None, image: str) -> dict:
    for group in names:
        for container in obj["spec"].get(group) or []:
            if container["name"] == name:
                container["image"] = image
    return obj


async def forgive(what) -> None:
    try:
        await what
    except NotFound:
        return


def check_statuses(world: World) -> None:
    """A terminal phase stays, counts never fall, Ready only after the init containers."""
    phase, counts = "", {}
    sidecars = {c["name"] for c in world.spec["initContainers"] if c.get("restartPolicy")}
    for status in world.statuses():
        if phase in TERMINAL:
            assert status["phase"] == phase
        phase = status.get("phase", phase)
        groups = ("initContainerStatuses", "containerStatuses")
        for one in (c for g in groups for c in status.get(g) or []):
            assert one["restartCount"] >= counts.get(one["name"], 0), one["name"]
            counts[one["name"]] = one["restartCount"]
        ready = [c for c in status.get("conditions") or [] if c["type"] == "Ready"]
        if ready and ready[0]["status"] == "True":
            for one in status.get("initContainerStatuses") or []:
                if one["name"] not in sidecars:
                    assert one["state"]["terminated"]["exitCode"] == 0


def check_starts(runtime: FakeRuntime, spec: dict) -> None:
    """An app container starts in a sandbox only after every init container succeeded there."""
    inits = [c["name"] for c in spec["initContainers"] if not c.get("restartPolicy")]
    for name, sandbox, succeeded in runtime.starts:
        if name in names["containers"]:
            assert {n for s, n in succeeded if s == sandbox} >= set(inits), name


def check_kills(world: World) -> None:
    """SIGKILL comes when the grace period then in force has ended, never before: that of a stop which is under way goes on."""
    hooked = {
        c["name"] for g in names for c in world.spec[g] if "preStop" in (c.get("lifecycle") or {})
    }
    for name, asked, killed in world.node.runtime.kills:
        ends = [at + grace for at, grace in world.deletes if at <= killed]
        waited = name in hooked or name == "side"
        began = asked - (world.spec_grace if waited else 0.0)  # at the earliest
        if not world.deletes or began < world.deletes[0][0]:
            # Told to stop for another reason: with the pod's grace, less what a hook or a sidecar's wait took of it. A delete that
            # comes meanwhile may shorten that stop, and never makes it longer.
            ends.append(asked + (MINIMUM_GRACE if waited else world.spec_grace))
        assert killed >= min(ends) - 0.05, (name, asked, killed, ends)


# The stop of a failed liveness probe, in its preStop hook when the pod is deleted: it keeps the grace that it has left.
EARLIER = {
    "restartPolicy": "Always", "terminationGracePeriodSeconds": 5, "initContainers": [],
    "containers": [
        {"name": "a0", "image": IMAGES[0], "livenessProbe": PROBE, "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}}
    ],
}  # fmt: skip
FAILS = (("probe", "a0", (ProbeKind.LIVENESS, ProbeResult.FAILURE)), 0.5)


@pytest.mark.looptime
@example(
    spec=EARLIER,
    ends={name: [] for name in every},
    deaf={"a0"},
    begin=2.5,
    steps=[FAILS],
)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would take minutes
)
@given(
    spec=specs(),
    ends=ENDS,
    deaf=st.sets(st.sampled_from(every)),
    begin=st.sampled_from([0.0, 2.5, 8.0, 8.0]),
    steps=STEPS,
)
async def test_what_must_hold(tmp_path_factory, caplog, spec, ends, deaf, begin, steps):
    caplog.clear()
    runtime = FakeRuntime(clock=clock, images=set(IMAGES), exits=ends, ignores=set(deaf))
    store = FakeStore()
    path = tmp_path_factory.mktemp("node")
    world = World(Node(path, runtime, store), spec)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(world.node))
        await world.node.apply("web", **spec)
        await asyncio.sleep(begin)
        for (what, name, value), pause in steps:
            if what == "restart":
                await stack.aclose()
                world.node = Node(path, runtime, store)
                await stack.enter_async_context(running(world.node))
            else:
                await world.do(what, name, value)
            await asyncio.sleep(pause)
        await world.do("delete", None, None)
        await asyncio.sleep(100)
        assert ("pods", "default", "web") not in store.objects
        assert (runtime.sandboxes, runtime.containers) == ({}, {})
    check_statuses(world)
    check_starts(runtime, spec)
    check_kills(world)
    errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert errors == []
