"""The API from inside the machine and from a pod: what is used, by the cgroups of this machine, and who reaches the port."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from minipod.errors import MinipodError
from tests.node import eventually, shell

METRICS = "/apis/metrics.k8s.io/v1beta1"


@pytest.mark.smoke
def test_metrics_tell_what_a_pod_uses(node, pods) -> None:
    """A container that computes all the time with a limit of half a processor uses about that; its memory is its own."""
    pods.append("busy")
    limits = {"cpu": "500m", "memory": "64Mi"}
    node.pod("busy", shell("while :; do :; done", resources={"limits": limits}))
    ask = lambda path: node.client.request("GET", f"{METRICS}/{path}")  # noqa: E731
    least = 10e6  # of a processor that others want, too; a sleeping one uses a hundredth of that

    def of_the_pod() -> bool:
        (used,) = ask("namespaces/default/pods/busy")["containers"]
        assert used["name"] == "app"
        assert 0 < int(used["usage"]["memory"].removesuffix("Ki")) < 64 << 10
        return least < int(used["usage"]["cpu"].removesuffix("n")) < 700e6

    def of_the_node() -> bool:
        (whole,) = ask("nodes")["items"]
        assert int(whole["usage"]["memory"].removesuffix("Ki")) > 1 << 10
        return int(whole["usage"]["cpu"].removesuffix("n")) > least

    eventually(of_the_pod)
    eventually(of_the_node)


@pytest.mark.smoke
def test_a_pod_reaches_the_port_at_the_gateway_only(node, pods) -> None:
    pods.append("caller")
    node.pod("caller", {"name": "app", "command": ["sleep", "1000"]})
    port = str(node.instance.api_port)

    def connects(address: str) -> bool:
        command = ("nc", "-w", "5", address, port, "-e", "true")
        return node.run("exec", "caller", "--", *command, check=False).returncode == 0

    assert connects(node.instance.gateways[0])
    (machine,) = node.client.request("GET", "/api/v1/nodes")["items"]
    addresses = {a["address"] for a in machine["status"]["addresses"] if a["type"] == "InternalIP"}
    for address in addresses - {node.instance.gateways[0]}:
        assert not connects(address)


def test_certificates_and_tokens_outlive_the_daemon(node) -> None:
    """Nothing is made anew when the daemon comes back."""
    directory = f"{node.instance.state_dir}/pki"

    def contents():
        found = {}
        for name in os.listdir(directory):
            with open(f"{directory}/{name}", "rb") as f:
                found[name] = f.read()
        return found

    before, pid = contents(), node.status()["pid"]
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        with contextlib.suppress(MinipodError, OSError, ValueError):
            return node.client.request("GET", "/minipod/status")["pid"] != pid
        return False

    eventually(replaced)
    assert contents() == before
