"""Manifests in the style of what people run, down to the operations that build them.

Excluded: what is looked up on a node; volumes, images and objects are values here.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
import yaml

from minipod.api import defaults
from minipod.image.config import ImageConfig
from minipod.init import plan
from minipod.init.filesystem import MountCgroups
from minipod.init.sandbox import sandbox_plan
from minipod.kubelet import translate
from minipod.kubelet.rules import env
from minipod.kubelet.rules.pods import Container, Pod, compile_pod
from minipod.kubelet.volumes.mounted import MountedVolume
from minipod.runtime import bundle as bundles
from minipod.runtime.bundle import ImageFacts, Places
from minipod.runtime.state import ContainerRecord, SandboxRecord
from minipod.spec.bundle import SandboxBundle
from minipod.spec.ids import ContainerId, SandboxId
from minipod.spec.sandbox import NamespaceMode
from tests.plans import golden

HERE = os.path.dirname(os.path.abspath(__file__))
OBJECTS = {
    ("secrets", "db"): {"data": {"password": "c2VjcmV0"}},
    ("configmaps", "report"): {"data": {"DAY": "monday"}},
}
CONFIG = ImageConfig(entrypoint=("/entrypoint",), env=("PATH=/usr/bin:/bin",))
NAMES = ("web", "database", "job")


def load(name: str) -> Pod:
    with open(f"{HERE}/manifests/{name}.yaml", encoding="utf-8") as f:
        raw: dict[str, Any] = yaml.safe_load(f)
    defaults.apply(raw)
    return compile_pod(raw)


def mounted(volume: dict[str, Any]) -> MountedVolume:
    """A volume as its set-up would give it."""
    if "image" in volume:
        return MountedVolume(image=volume["image"]["reference"], readonly=True)
    readonly = any(kind in volume for kind in ("configMap", "secret", "projected", "downwardAPI"))
    return MountedVolume(path=f"/volumes/{volume['name']}", readonly=readonly)


def lines_of(pod: Pod) -> list[str]:
    sandbox = SandboxRecord(
        id=SandboxId("sandbox"), created_at=0.0,
        spec=translate.sandbox_spec(pod, attempt=0, hostname=pod.hostname or pod.name, log_directory="/logs", dns=None),
    )  # fmt: skip
    spec = sandbox.spec
    made = SandboxBundle(
        id="sandbox", title=f"{pod.namespace}/{pod.name}", hostname=spec.hostname, cgroup=f"node/{spec.cgroup_parent}",
        resources=spec.pod_resources, network=spec.network, ipc=spec.ipc, sysctls=spec.sysctls,
    )  # fmt: skip
    lines = [f"== sandbox {pod.name}", f"resources {spec.pod_resources}"]
    lines += [f"host port {p}" for p in spec.port_mappings]
    lines += sandbox_plan(made).describe()
    for container in (*pod.init_containers, *pod.containers):
        lines += [f"== {container.name}", *container_lines(pod, container, sandbox)]
    return lines


def container_lines(pod: Pod, container: Container, sandbox: SandboxRecord) -> list[str]:
    sources = env.Sources(facts=env.NodeFacts(node_name="node"), objects=OBJECTS)
    start = translate.Start(
        attempt=0, backoff=None, variables=env.environment(pod, container, sources).variables,
        volumes={v["name"]: mounted(v) for v in pod.volumes}, memory_capacity=8 << 30,
    )  # fmt: skip
    spec = translate.container_spec(pod, container, start)
    mounts = tuple(
        replace(m, layers=("/layers/t2", "/layers/t1")) if m.image else m for m in spec.mounts
    )
    record = ContainerRecord(
        id=ContainerId(container.name), sandbox_id=sandbox.id, spec=replace(spec, mounts=mounts), image_ref=container.image,
        image_id="sha256:0", stop_signal=15, cgroup=f"node/{sandbox.spec.cgroup_parent}/{container.name}", log_path="/logs/0.log",
        asked_at=0.0,
    )  # fmt: skip
    facts = ImageFacts(id="sha256:0", ref=container.image, config=CONFIG, layers=("/layers/l1",))
    shared = sandbox.spec.pid is NamespaceMode.POD
    bundle = bundles.build(
        record, sandbox, facts, Places(directory=f"/run/{container.name}", storage=f"/state/{container.name}"), (),
        target_pid=7 if shared else 0,
    )  # fmt: skip
    found = [f"resources {bundle.resources}", f"env {' '.join(bundle.process.env)}"]
    return found + plan.container_plan(bundle, MountCgroups(unified=".")).describe()


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_becomes_the_operations_of_its_golden_file(name: str) -> None:
    golden.compare(f"pod-{name}", lines_of(load(name)))


def test_a_token_and_an_image_are_mounted_read_only() -> None:
    text = "\n".join(lines_of(load("job")))
    assert "bind /volumes/token at /var/run/secrets/tokens (read-only)" in text
    assert "open image templates:1: 2 layers" in text
    assert "open_tree /volumes/work in_root day-monday" in text


def test_who_shares_a_pid_namespace_joins_it() -> None:
    text = "\n".join(lines_of(load("web")))
    assert text.count("pid (of the target)") == 2
