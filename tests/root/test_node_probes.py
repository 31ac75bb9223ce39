"""Probes on the real kernel: each type against a server in a pod that turns bad and good again; counters, pace, clean ends."""

from __future__ import annotations

import os
import re
import socket

import pytest

from minipod.errors import FailedPrecondition
from tests.node import eventually, python, shell
from tests.root.test_node_adoption import await_other, kill_and_wait

PERIOD = {"minipod.dev/probe-period-ms": "100"}
HTTPD = "mkdir -p /www; touch /tmp/ok /www/ok; httpd -p 80 -h /www; sleep 1000"
READY = "jsonpath={.status.containerStatuses[0].ready}"
RESTARTS = "jsonpath={.status.containerStatuses[0].restartCount}"
GRPC = """
import asyncio, os
from grpclib.const import Cardinality, Handler
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.server import Server
class Health:
    async def check(self, stream):
        await stream.recv_message()
        await stream.send_message(HealthCheckResponse(status=1 if os.path.exists("/tmp/ok") else 2))
    def __mapping__(self):
        made = Handler(self.check, Cardinality.UNARY_UNARY, HealthCheckRequest, HealthCheckResponse)
        return {"/grpc.health.v1.Health/Check": made}
async def main():
    os.makedirs("/tmp", exist_ok=True)
    open("/tmp/ok", "w").close()
    server = Server([Health()])
    await server.start("0.0.0.0", 90)
    await server.wait_closed()
asyncio.run(main())
"""


def metric(node, name: str, **labels: str) -> float:
    """The sum of the series of *name* that have these labels."""
    text = node.client.open("GET", "/metrics/probes").read().decode()
    total = 0.0
    for line in text.splitlines():
        match = re.fullmatch(rf"{name}{{(.*)}} (\S+)", line)
        if match and all(f'{key}="{value}"' in match[1] for key, value in labels.items()):
            total += float(match[2])
    return total


@pytest.mark.parametrize(
    ("probe", "bad", "good", "words"),
    [
        pytest.param(
            {"exec": {"command": ["sh", "-c", "test -e /tmp/ok || { echo gone; exit 3; }"]}},
            "rm /tmp/ok", "touch /tmp/ok", "Readiness probe failed: gone", id="exec",
        ),
        pytest.param(
            {"httpGet": {"port": "web", "path": "/ok"}}, "mv /www/ok /www/ko", "mv /www/ko /www/ok",
            "Readiness probe failed: HTTP probe failed with statuscode: 404", id="http",
        ),
        pytest.param(
            {"tcpSocket": {"port": 80}}, "killall httpd", "httpd -p 80 -h /www",
            "Readiness probe failed: dial tcp {ip}:80: connect: connection refused", id="tcp",
        ),
        pytest.param(
            {"grpc": {"port": 90}}, "rm /tmp/ok", "touch /tmp/ok",
            'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")', id="grpc",
        ),
    ],
)  # fmt: skip
def test_a_server_that_turns_bad_and_good_again(node, pods, probe, bad, good, words) -> None:
    pods.append("turns")
    container, volumes = python(GRPC) if "grpc" in probe else (shell(HTTPD), [])
    container["readinessProbe"] = {**probe, "failureThreshold": 1}
    container["ports"] = [{"name": "web", "containerPort": 80}]
    pod = node.pod("turns", container, annotations=PERIOD, volumes=volumes)
    ip = pod["status"]["podIP"]
    node.exec("turns", "sh", "-c", bad)
    node.wait("turns", f"{READY}=false")
    node.await_event("turns", words=words.format(ip=ip))
    node.exec("turns", "sh", "-c", good)
    node.wait("turns", f"{READY}=true")
    assert node.get("turns")["status"]["containerStatuses"][0]["restartCount"] == 0
    assert not waiting_ends(ip)


def waiting_ends(ip: str) -> list[str]:
    """The sockets of this machine in TIME_WAIT towards *ip*."""
    shown = socket.inet_aton(ip)[::-1].hex().upper()
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f]
    return [r[2] for r in rows if r[2].startswith(shown) and r[3] == "06"]


def test_counters_survive_the_daemons_kill_and_so_does_the_run(node, pods) -> None:
    pods.append("counted")
    probe = {"exec": {"command": ["false"]}, "failureThreshold": 40}
    node.pod("counted", shell("sleep 1000", livenessProbe=probe), annotations=PERIOD)
    series = {"pod": "counted", "result": "failed", "probe_type": "Liveness"}
    eventually(lambda: metric(node, "prober_probe_total", **series) >= 5)
    before, status = metric(node, "prober_probe_total", **series), node.status()
    kill_and_wait(status["pid"])
    await_other(node, "pid", status["pid"])
    assert node.status()["prober_pid"] == status["prober_pid"]
    assert metric(node, "prober_probe_total", **series) > before
    # The run went on, so the 40th failure of all ends it.
    eventually(lambda: restarts(node, "counted") >= 1)


def restarts(node, name: str) -> int:
    return node.get(name)["status"]["containerStatuses"][0]["restartCount"]


def test_an_annotation_sets_a_pace_below_a_second(node, pods) -> None:
    pods.append("fast")
    annotations = {
        "minipod.dev/readiness-probe-period-ms": "50", "minipod.dev/readiness-probe-start-period-ms.app": "20",
    }  # fmt: skip
    script = "usleep 300000; touch /tmp/ok; sleep 1000"
    probe = {"exec": {"command": ["test", "-e", "/tmp/ok"]}}
    node.pod("fast", shell(script, readinessProbe=probe), annotations=annotations)
    series = {"pod": "fast", "result": "successful"}
    eventually(lambda: metric(node, "prober_probe_total", **series) >= 20)
    with pytest.raises(
        FailedPrecondition, match=r"metadata.annotations\[minipod.dev/probe-period-ms\]"
    ):
        node.pod("slow", shell("sleep 1"), annotations={"minipod.dev/probe-period-ms": "1"})


def test_the_process_of_an_exec_probe_is_killed_at_its_time_limit(node, pods) -> None:
    pods.append("hangs")
    probe = {"exec": {"command": ["sh", "-c", "sleep 777 & sleep 777"]}, "failureThreshold": 1}
    probe["periodSeconds"] = 1000  # once, so that nobody meets the next one
    node.pod(
        "hangs", shell("sleep 1000", readinessProbe=probe), wait="jsonpath={.status.phase}=Running"
    )
    words = 'Readiness probe failed: command "sh -c sleep 777 & sleep 777" timed out'
    node.await_event("hangs", words=words)
    eventually(lambda: "sleep 777" not in node.exec("hangs", "ps", "-o", "args"))


def test_a_failed_startup_probe_uses_the_probes_own_grace_period(node, pods) -> None:
    pods.append("grace")
    probe = {
        "tcpSocket": {"port": 1}, "failureThreshold": 2, "terminationGracePeriodSeconds": 1,
    }  # fmt: skip
    ready = {"exec": {"command": ["true"]}}
    # The shell is pid 1 without a handler: SIGTERM does nothing, so the grace period is waited for.
    node.pod(
        "grace", shell("sleep 1000; true", startupProbe=probe, readinessProbe=ready), annotations=PERIOD,
        wait=f"{RESTARTS}=1", terminationGracePeriodSeconds=600,
    )  # fmt: skip
    node.await_event("grace", words="Container app failed startup probe, will be restarted")
    assert metric(node, "prober_probe_total", pod="grace", probe_type="Readiness") == 0


@pytest.mark.smoke
def test_why_tells_the_chain_of_causes_also_after_a_kill_of_the_daemon(node, pods) -> None:
    pods.append("asked")
    live = {"exec": {"command": ["sh", "-c", "echo heart stopped; false"]}, "failureThreshold": 2}
    ready = {"tcpSocket": {"port": 81}}
    container = shell("sleep 1000", livenessProbe=live, readinessProbe=ready)
    loop = {"minipod.dev/crash-loop-initial": "100s"}
    node.pod("asked", container, annotations=PERIOD | loop, wait=f"{RESTARTS}=1")
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff"
    node.wait("asked", reason)
    before = node.run("why", "asked").stdout
    daemon = node.status()["pid"]
    kill_and_wait(daemon)
    await_other(node, "pid", daemon)
    for told in (before, node.run("why", "pod/asked").stdout):
        assert re.search(r"pod default/asked is running, not ready, for \d+s", told)
        chain = (
            r"container app waits: CrashLoopBackOff, 100 s; it starts again at \S+ \(in 1?m?\d+s\)\n"
            r" +because it ended with exit code 137 .*; 1 restart\n"
            r" +because it was killed at .*: Container app failed liveness probe, will be restarted\n"
            r" +because its liveness probe failed at .*: heart stopped"
        )
        assert re.search(chain, told), told
        assert "rules.restart.backing_off_until" in told
    assert "not found" in node.run("why", "nosuch", check=False).stderr


def test_the_prober_has_a_cgroup_of_its_own_that_outweighs_pods(node) -> None:
    with open(f"/proc/{node.status()['prober_pid']}/cgroup", encoding="ascii") as f:
        paths = {line.strip().split(":", 2)[2] for line in f}
    assert paths == {f"/{node.instance.cgroup_root}/_prober"}
    directory = "/sys/fs/cgroup/cpu" if os.path.isdir("/sys/fs/cgroup/cpu") else "/sys/fs/cgroup"
    name = "cpu.shares" if directory.endswith("/cpu") else "cpu.weight"
    weights = {}
    for part in ("_prober", "_node"):
        with open(f"{directory}/{node.instance.cgroup_root}/{part}/{name}", encoding="ascii") as f:
            weights[part] = int(f.read())
    assert weights["_prober"] > 10 * weights["_node"]
